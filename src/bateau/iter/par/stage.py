"""The parallel part of a pipeline as one of its stages: chunks go out to an executor, results come back into the chain.

Theory of operation. Items are gathered into chunks; the buffer of ``buffered`` keeps a bounded number of chunks claimed, each in a task that
submits it to the pool; results are spread into items again. The pool is started by a task of the pipeline's own scope, its *keeper*, when the
first chunk is there, and belongs to that scope: left by ``break``, an error or a cancellation, it ends the workers; at the end of the
items the pool is closed in order.

The bounds: ``n`` chunks are worked on at once, however many workers the executor has. With workers outside of the runtime's thread, ``n``
more are kept (``ahead``), ready for the next free worker or done. A chunk is claimed from its first item's leaving the source until its
last result is taken. A consumer that does not ask stops everything there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any, NamedTuple

from ...kernel.cancellation import CancelScope
from ...kernel.current import current_host, current_task
from ...kernel.scope import Scope
from ...sync import Event, Semaphore
from ..buffering import Buffer
from ..flow import Failure, Flow, Need, is_cut
from ..interior import Interior
from ..stage import Stage
from .chunking import Chunk, Done, Sizes, gather, spread
from .executor import Executor, Pool, WorkerDied
from .work import Outcome, Work


class ParProgress(NamedTuple):
    """How far a parallel chain has come: ``items`` done (failed ones included) in ``chunks``, ``seconds`` since the first was submitted,
    ``size`` of the next chunk, and the measured ``cost`` of an item in seconds.
    """

    items: int
    failed: int
    chunks: int
    seconds: float
    size: int
    cost: float


class Plan(NamedTuple):
    """What ``par`` was told."""

    n: int
    executor: Executor
    ordered: bool
    chunk: int | None
    progress: Callable[[ParProgress], object] | None

    def describe(self) -> str:
        """How it reads in a chain."""
        return f"par({self.n}, on={self.executor!r})"


class Par(Stage):
    """``work`` for each item, on an executor."""

    __slots__ = ("plan", "work")

    def __init__(self, plan: Plan, work: Work) -> None:
        self.plan = plan
        self.work = work

    def background(self, resumable: bool) -> bool:
        return True

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        session = Session(self.plan, self.work, interior)
        claims = Claims(self.plan, gather(source, session.sizes), interior, session.run)
        try:
            yield from spread(claims.items(), self.describe(), claims.release)
        finally:
            claims.close()
        need = Need()
        yield need.of(session.close)
        if need.error is not None:
            yield Failure(need.error)

    def describe(self) -> str:
        return f"{self.plan.describe()}{self.work if self.work.steps else ''}"


class Claims(Buffer):
    """The chunks under way. Invariant: while ``spreading``, the chunk given last is still ``claimed``, and the consumer is not parked."""

    __slots__ = ("spreading",)

    def __init__(
        self, plan: Plan, chunks: Iterator[Any], interior: Interior, run: Callable[[Chunk], Awaitable[Done]]
    ) -> None:
        bound = plan.n * (1 + ahead_of(plan.executor))
        super().__init__(
            Flow(chunks),
            interior.spawn,
            bound,
            f"par({plan.n})",
            interior.where(),
            ordered=plan.ordered,
            make_work=lambda: run,
            plain_work=True,
        )
        self.spreading = False

    def items(self) -> Iterator[Any]:
        """The chunks that came back, and failures in their places; ``release`` is called before the next one is asked for."""
        need = Need()
        while True:
            if not self.there():
                yield need.of(self.ready)
                if need.error is not None:
                    yield Failure(need.error)
            elif self.line:
                self.spreading = True
                yield self.line.popleft()[0]
            else:
                return

    def release(self) -> None:
        """The last result of the chunk given last is being taken: another chunk may be claimed."""
        if self.spreading:
            self.spreading = False
            self.claimed -= 1
            if not self.awake:
                self.invite()


def ahead_of(executor: Executor) -> int:
    """How many chunks per worker are kept besides those that are worked on."""
    return getattr(executor, "ahead", 1)


class Session:
    """The pool of one run of a pipeline. Invariant: ``keeping`` once the keeper was spawned; ``started`` when it has a pool or an error."""

    def __init__(self, plan: Plan, work: Work, interior: Interior) -> None:
        self.plan = plan
        self.interior = interior
        self.sizes = Sizes(plan.chunk, getattr(plan.executor, "chunk_seconds", 0.005))
        self.pool: Pool | None = None
        self.error: Exception | None = None
        self.keeping = False
        self.started = Event()
        # How many chunks the pool has: it is kept until it has none.
        self.submitted = 0
        self.returned = Event()
        self.work = work
        # Workers beyond ``n`` are not used: they are another pipeline's, or would do what was to be kept ready.
        surplus = ahead_of(plan.executor) and plan.executor.workers > plan.n
        self.permits = Semaphore(plan.n, name=f"par({plan.n})") if surplus else None
        self.began = 0.0
        self.items = self.failed = self.chunks = 0

    async def run(self, chunk: Chunk) -> Done:
        """One chunk, there and back."""
        pool = self.pool if self.pool is not None else await self._open()
        if self.permits is None:
            outcome = await self._submit(pool, chunk.items)
        else:
            async with self.permits:
                outcome = await self._submit(pool, chunk.items)
        self.sizes.learn(len(chunk.items), outcome.seconds)
        self.items += len(chunk.items)
        self.failed += len(outcome.troubles)
        self.chunks += 1
        if self.plan.progress is not None and not is_cut(current_task()):
            seconds = perf_counter() - self.began
            self.plan.progress(
                ParProgress(self.items, self.failed, self.chunks, seconds, self.sizes.size, self.sizes.cost or 0.0)
            )
        return Done(chunk, outcome)

    async def _submit(self, pool: Pool, items: list[Any]) -> Outcome:
        self.submitted += 1
        try:
            return await pool.submit(self.work, items)
        except WorkerDied:
            if is_cut(current_task()):  # failed items among those that nobody takes
                return Outcome()
            raise
        finally:
            self.submitted -= 1
            self.returned.set()

    async def _open(self) -> Pool:
        if not self.keeping:
            self.keeping = True
            self.began = perf_counter()
            if self.work.runtime is None:
                self.work.runtime = current_host().name
            self.interior.spawn(self._keep, name=repr(self.plan.executor))
        await self.started.wait()
        if self.pool is None:
            assert self.error is not None
            raise self.error
        return self.pool

    async def _keep(self) -> None:
        try:
            async with Scope(name=repr(self.plan.executor)) as scope:
                self.pool = await self.plan.executor.start(scope)
                self.started.set()
                try:
                    await Event().wait()  # until the pipeline is left
                finally:
                    with CancelScope(
                        shield=True
                    ):  # what was submitted is cancelled too, and must not find its pool gone
                        while self.submitted:
                            self.returned.clear()
                            await self.returned.wait()
        except Exception as error:
            if self.pool is not None:
                raise
            self.error = error
        finally:
            if self.error is None and self.pool is None:
                self.error = RuntimeError("the pipeline was left while its executor was starting")
            self.started.set()

    async def close(self) -> None:
        """The items have ended: let the workers end in order."""
        pool, self.pool = self.pool, None
        if pool is not None:
            await pool.close()
