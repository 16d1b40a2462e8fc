"""What a worker does with a chunk of items: the steps of a chain, one definition for tasks, threads and processes.

Theory of operation. ``Work`` is the chain as data: a list of steps, and perhaps what to make of their results (a fold). It is written once,
as a coroutine. In a task that coroutine is awaited. Anywhere else it is run to its end by a single ``send``: whatever a step gives
that has to be awaited is then settled by blocking, so the coroutine never suspends. An item that fails takes its place among the results
as a ``Trouble`` and the others go on, as in a pipeline that runs its steps itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from time import perf_counter
from typing import Any, Final, Literal, NamedTuple, TypeVar

from ...kernel.current import current_task_or_none
from ...kernel.errors import Cancelled
from ..flow import is_cut
from ..stage import is_awaitable

T = TypeVar("T")

MAP: Final = 0
FILTER: Final = 1
FILTER_MAP: Final = 2
FLAT_MAP: Final = 3
INSPECT: Final = 4


class Step(NamedTuple):
    """One function of the chain, and the method that put it there."""

    kind: int
    method: str
    fn: Callable[[Any], Any]


class Fold(NamedTuple):
    """Results are not kept but put together: ``fn(accumulator, item)``, from ``init()`` or, without one, from the first item."""

    init: Callable[[], Any] | None
    fn: Callable[[Any, Any], Any]


class Trouble(NamedTuple):
    """An item that failed: behind how many results it stands, which item of the chunk it is, in which method, and its error."""

    at: int
    number: int
    method: str
    error: BaseException


class Outcome:
    """What became of a chunk: ``results`` and ``troubles``, ``seconds`` of work, and whether any step ``waited``."""

    __slots__ = ("results", "seconds", "troubles", "waited")

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.troubles: list[Trouble] = []
        self.seconds = 0.0
        self.waited = False

    def __getstate__(self) -> tuple[list[Any], list[Trouble], float, bool]:
        return self.results, self.troubles, self.seconds, self.waited

    def __setstate__(self, state: tuple[list[Any], list[Trouble], float, bool]) -> None:
        self.results, self.troubles, self.seconds, self.waited = state


class Work:
    """The steps of a chain, to be done for a list of items. Can be pickled if its functions can.

    ``keep``: "all" results, the "first" one of each chunk (then the chunk ends), or "none". ``runtime`` names what async steps run on where
    there is no program around them.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        *,
        fold: Fold | None = None,
        keep: Literal["all", "first", "none"] = "all",
        runtime: str | None = None,
    ) -> None:
        self.steps = tuple(steps)
        self.fold = fold
        self.keep = keep
        self.runtime = runtime

    def __call__(self, items: Iterable[Any]) -> Outcome:
        """Do it here, blocking. In a thread of ``bateau.thread.run`` it ends early (after an item) once its caller is cancelled."""
        settler = Settler(self.runtime)
        coro = self._do(items, settler.settle, settler.check)
        try:
            coro.send(None)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        finally:
            coro.close()
            settler.close()
        raise RuntimeError("a step waited where it should have blocked")  # pragma: no cover  # ``settle`` blocks

    async def run(self, items: Iterable[Any]) -> Outcome:
        """Do it in the current task. A cancellation point where a step waits."""
        return await self._do(items, None, None)

    async def _do(
        self, items: Iterable[Any], settle: Callable[[Any], Any] | None, check: Callable[[], None] | None
    ) -> Outcome:
        outcome = Outcome()
        began = perf_counter()
        sink = Sink(self, outcome, settle)
        for index, item in enumerate(items):
            if check is not None:
                check()
            try:
                await sink.push(0, item)
            except Exception as error:
                if _given_up(check, error):
                    # Nobody will take this outcome: what the cleanup of the function raises goes the way of the cancellation.
                    raise
                method = self.steps[sink.at].method if sink.at < len(self.steps) else "fold"
                outcome.troubles.append(Trouble(len(outcome.results), index, method, error))
                if self.fold is not None:
                    break
            if sink.full:
                break
        sink.finish()
        outcome.seconds = perf_counter() - began
        return outcome

    def __repr__(self) -> str:
        return "".join(f".{step.method}({name_of(step.fn)})" for step in self.steps) or "par work"


_NOTHING: Any = object()


class Sink:
    """The way of one chunk's items through the steps. ``at`` is the step that an item is in."""

    __slots__ = ("acc", "at", "fold", "full", "keep", "outcome", "settle", "steps")

    def __init__(self, work: Work, outcome: Outcome, settle: Callable[[Any], Any] | None) -> None:
        self.steps = work.steps
        self.fold = work.fold
        self.keep = work.keep
        self.outcome = outcome
        self.settle = settle
        self.at = 0
        self.full = False
        self.acc: Any = _NOTHING
        if work.fold is not None and work.fold.init is not None:
            self.acc = work.fold.init()

    async def push(self, first: int, value: Any) -> None:
        """Put ``value`` through the steps from number ``first`` on."""
        settle = self.settle
        steps = self.steps
        for number in range(first, len(steps)):
            self.at = number
            kind, _, fn = steps[number]
            given = fn(value)
            if is_awaitable(given):
                self.outcome.waited = True
                given = settle(given) if settle is not None else await given
            if kind == MAP:
                value = given
            elif kind == FILTER:
                if not given:
                    return
            elif kind == FILTER_MAP:
                if given is None:
                    return
                value = given
            elif kind == FLAT_MAP:
                await self._spread(number + 1, given)
                return
        self.at = len(steps)
        if self.fold is not None:
            await self._add(self.fold, value)
        elif self.keep != "none":
            self.outcome.results.append(value)
            self.full = self.keep == "first"

    async def _spread(self, first: int, inner: Any) -> None:
        if not hasattr(inner, "__iter__") and hasattr(inner, "__aiter__"):
            coro = _collect(inner)
            self.outcome.waited = True
            inner = self.settle(coro) if self.settle is not None else await coro
        for value in inner:
            await self.push(first, value)
            if self.full:
                return

    async def _add(self, fold: Fold, value: Any) -> None:
        if self.acc is _NOTHING:
            self.acc = value
            return
        given = fold.fn(self.acc, value)
        if is_awaitable(given):
            self.outcome.waited = True
            given = self.settle(given) if self.settle is not None else await given
        self.acc = given

    def finish(self) -> None:
        """A fold's accumulator is its chunk's one result."""
        if self.acc is not _NOTHING and not self.outcome.troubles:
            self.outcome.results.append(self.acc)


def _given_up(check: Callable[[], None] | None, error: BaseException) -> bool:
    """Whether ``error`` comes of the cancellation of who asked for the work, where that can be known.

    In a task that is whatever fails from then on. A thread is not interrupted: a function that fails there by itself, or that never asks,
    makes one more failed item of those that nobody takes.
    """
    if check is None:
        task = current_task_or_none()
        return task is not None and is_cut(task)
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, Cancelled):
        seen = seen.__cause__ or seen.__context__
    if seen is None:
        return False
    try:
        check()
    except Cancelled:
        return True
    return False  # it was a scope of the function's own


async def _collect(items: AsyncIterable[T]) -> list[T]:
    return [item async for item in items]


async def _wait(awaitable: Awaitable[T]) -> T:
    return await awaitable


# In interpreters that allow no daemon threads a loop can't be kept between two runs on every runtime: each wait gets its own.
one_run_each = False


class Settler:
    """Waits, by blocking, for what a step gave; whether there is a program around this thread or not."""

    def __init__(self, runtime: str | None) -> None:
        from ...thread.jobs import in_worker

        self.called = in_worker()
        self.runtime = runtime
        self.runner: Any = None

    @property
    def check(self) -> Callable[[], None] | None:
        """What ends the work early once its caller was cancelled, where that can be known."""
        if not self.called:
            return None
        from ...thread.from_thread import check_cancelled

        return check_cancelled

    def settle(self, awaitable: Awaitable[T]) -> T:
        """Its value. In a thread of a program, the program waits for it; else a loop of its own does."""
        if self.called:
            from ...thread import from_thread

            return from_thread.run(_wait, awaitable)
        if one_run_each:
            from ...runtimes import registry

            return registry.get(self._available()).run(_wait, awaitable)
        if self.runner is None:
            from ...runtimes.runner import Runner

            self.runner = Runner(runtime=self._available())
        value: T = self.runner.run(_wait, awaitable)
        return value

    def _available(self) -> str | None:
        """The runtime of the program, if there is one of that name here; else the default."""
        from ...runtimes import registry

        known = self.runtime is not None and self.runtime in registry.names()
        return self.runtime if known and registry.why_unavailable(str(self.runtime)) is None else None

    def close(self) -> None:
        """Close the loop, if one was needed."""
        if self.runner is not None:
            self.runner.close()


def name_of(fn: object) -> str:
    """How a function is called in messages."""
    inner = getattr(fn, "func", None)  # functools.partial
    if inner is not None:
        return f"partial({name_of(inner)})"
    return getattr(fn, "__qualname__", None) or repr(fn)
