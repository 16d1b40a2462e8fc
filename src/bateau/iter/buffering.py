"""Working on several items of a chain at once, within exact bounds: what ``buffered`` and its kin run.

Theory of operation. ``n`` workers at most, each a task of the pipeline. A worker claims the next item (one at a time: the chain
before is asked by one task only), runs the item's functions, and puts the result into the item's *slot*. Slots stand in the order
of their items (``buffered``), or join the line when they are done (``buffered_unordered``). The consumer takes from the head.

The bound is on what is claimed and not yet taken by the consumer: never more than ``n`` items have left the source, whether they
are being worked on or done. Workers go on while the consumer's body runs, which is the point (S23), until the bound is reached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from ..kernel.errors import Cancelled
from ..kernel.operation import Operation
from ..kernel.resource import Resource, WaitQueue
from ..kernel.task import Task
from .flow import END, Failure, Flow, Need, Signal
from .handoff import stopped
from .interior import Interior
from .stage import Stage

_PENDING: Any = object()
# What a worker's stages give for an item they have dropped (``filter``).
_DROPPED: Any = object()


class Slot:
    """The place of one claimed item in the line; ``result`` is what became of it."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: Any = _PENDING


class Buffer(Resource):
    """What the workers and the consumer of one ``buffered`` share.

    Invariants: ``claimed`` counts the items taken from the chain before and not yet taken by the consumer, the one just being
    asked for included; it never exceeds ``bound``. ``claiming`` is true while a worker is asking. A worker is parked in
    ``idle`` only if it may not claim now. ``line`` holds the slots in the order in which the consumer gets them.
    """

    __slots__ = (
        "_idle",
        "_taker",
        "bound",
        "claimed",
        "claiming",
        "ended",
        "flow",
        "interior",
        "label",
        "line",
        "ordered",
        "work",
        "workers",
    )
    kind = "buffer"

    def __init__(
        self,
        flow: Flow[Any],
        interior: Interior,
        bound: int,
        label: str,
        *,
        ordered: bool,
        work: Callable[[], Callable[[Any], Awaitable[Any]]] | None,
    ) -> None:
        self.flow = flow
        self.interior = interior
        self.bound = bound
        self.label = label
        self.ordered = ordered
        # Makes what a worker does with an item; None: nothing is left to do, items are only fetched ahead.
        self.work = work
        self.claimed = 0
        self.claiming = False
        self.ended = False
        self.line: deque[Slot] = deque()
        self.workers: dict[Task[Any], None] = {}
        self._idle = WaitQueue()
        self._taker: Ready | None = None

    # -- claiming ------------------------------------------------------------------------------------------------------

    def may_claim(self) -> bool:
        """Whether an item may be taken from the chain before, now."""
        return not self.claiming and not self.ended and self.claimed < self.bound

    def claim(self) -> None:
        """Begin to ask for an item."""
        self.claiming = True
        self.claimed += 1

    def invite(self) -> None:
        """Something has changed: let the next worker claim, if one may; make one where there are too few."""
        if not self.may_claim():
            return
        if self._idle:
            worker = self._idle.pop()
            if worker is not None:
                self.claim()
                worker.fire(True)
        elif len(self.workers) < (self.bound if self.work is not None else 1):
            self.claim()
            name = f"{self.label} worker {len(self.workers) + 1}"
            self.workers[self.interior.spawn(self._worker, name=name)] = None

    def end(self) -> None:
        """The chain before is over; idle workers go home."""
        self.ended = True
        while (worker := self._idle.pop()) is not None:
            worker.fire(False)
        self._tell()

    # -- the workers ---------------------------------------------------------------------------------------------------

    async def _worker(self) -> None:
        """Born with a claim. Whatever ends it, its slot is filled and the line goes on."""
        slot: Slot | None = None
        work = self.work() if self.work is not None else None
        flow = self.flow
        try:
            claimed = True
            while claimed:
                item = flow.poll()
                if item.__class__ is Need:
                    item = await flow.next()
                self.claiming = False
                if item is END:
                    self.claimed -= 1
                    self.end()
                    return
                slot = Slot()
                if self.ordered:
                    self.line.append(slot)
                self.invite()
                if work is not None and not isinstance(item, Signal):
                    item = await self._try(work, item)
                self._fill(slot, item)
                slot = None
                if self.may_claim():
                    self.claim()
                else:
                    claimed = not self.ended and await Claim(self)
        except BaseException as error:
            if not isinstance(error, Cancelled):
                self._abandon(slot, error)
                return
            self._abandon(slot, stopped(self.label))
            raise

    @staticmethod
    async def _try(work: Callable[[Any], Awaitable[Any]], item: Any) -> Any:
        try:
            return await work(item)
        except Exception as error:
            return Failure(error, item)

    def _fill(self, slot: Slot, result: Any) -> None:
        slot.result = result
        if not self.ordered:
            if result is _DROPPED:
                self.claimed -= 1
                return
            self.line.append(slot)
        self._tell()

    def _abandon(self, slot: Slot | None, error: BaseException) -> None:
        """A worker ends by an error of its own, or was cancelled: its item is not lost in silence."""
        self.claiming = False
        self.ended = True
        if slot is None:
            slot = Slot()
            self.line.append(slot)
        elif not self.ordered:
            self.line.append(slot)
        slot.result = Failure(error)
        self._tell()

    def _tell(self) -> None:
        taker = self._taker
        if taker is not None and taker.poll():
            self._taker = None
            taker.fire(taker.value)

    # -- the consumer --------------------------------------------------------------------------------------------------

    def take(self) -> Any:
        """What is next in line, if it is there: a result, a ``Failure``, ``END``; or ``_PENDING``."""
        line = self.line
        while line and line[0].result is not _PENDING:
            result = line.popleft().result
            self.claimed -= 1
            if result is not _DROPPED:
                return result
        if not line and self.ended and not self.claimed:
            return END
        return _PENDING

    def items(self) -> Iterator[Any]:
        """The stage's generator."""
        need = Need()
        while True:
            self.invite()
            result = self.take()
            if result is _PENDING:
                yield need.of(self._ready)
                if need.error is not None:
                    yield Failure(need.error)
                    continue
                result = need.value
            if result is END:
                return
            yield result

    def _ready(self) -> Ready:
        return Ready(self)

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        found: list[Operation[Any]] = list(self._idle)
        return [*found, self._taker] if self._taker is not None else found

    def satisfiers(self) -> Iterable[Task[Any]]:
        return [task for task in self.workers if not task.ended] if self._taker is not None else ()

    def describe(self) -> str:
        return f"{self.label} of {self.interior.describe()}: {self.claimed} of {self.bound} claimed"


class Claim(Operation[bool]):
    """A worker's wait until it may claim. True: it has claimed. False: there is nothing left to claim."""

    __slots__ = ()
    resource: Buffer

    def poll(self) -> bool:
        buffer = self.resource
        if buffer.ended:
            self.value = False
            return True
        if not buffer.may_claim():
            return False
        buffer.claim()
        self.value = True
        return True

    def register(self) -> None:
        self.resource._idle.add(self)

    def unregister(self) -> None:
        self.resource._idle.discard(self)

    def undo(self, value: Any) -> None:
        if value:
            self.resource.claiming = False
            self.resource.claimed -= 1

    def describe(self) -> str:
        return f"claim of an item by {self.resource.describe()}"


class Ready(Operation[Any]):
    """The consumer's wait for the head of the line."""

    __slots__ = ()
    resource: Buffer

    def poll(self) -> bool:
        self.value = self.resource.take()
        return self.value is not _PENDING

    def register(self) -> None:
        self.resource._taker = self

    def unregister(self) -> None:
        self.resource._taker = None

    def undo(self, value: Any) -> None:
        if value is not END:
            slot = Slot()
            slot.result = value
            self.resource.line.appendleft(slot)
            self.resource.claimed += 1

    def describe(self) -> str:
        return f"next item of {self.resource.describe()}"


class Buffered(Stage):
    """Several items at once, through the per-item stages that stood right before it."""

    __slots__ = ("inner", "method", "n", "ordered")

    def __init__(self, n: int, inner: tuple[Stage, ...], *, ordered: bool, method: str) -> None:
        self.n = n
        self.inner = inner
        self.ordered = ordered
        self.method = method

    def background(self, resumable: bool) -> bool:
        return True

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        def work() -> Callable[[Any], Awaitable[Any]]:
            return worker_of(self.inner, interior)

        label = f"{self.method}({self.n})"
        buffer = Buffer(Flow(source), interior, self.n, label, ordered=self.ordered, work=work if self.inner else None)
        try:
            yield from buffer.items()
        finally:
            buffer.flow.close()

    def describe(self) -> str:
        inner = "".join(f"{stage.describe()}." for stage in self.inner)
        return f"{inner}{self.method}({self.n})"


def worker_of(stages: tuple[Stage, ...], interior: Interior) -> Callable[[Any], Awaitable[Any]]:
    """What one worker does with an item: ``stages``, run for one item at a time."""
    waiting: list[Any] = []

    def feed() -> Iterator[Any]:
        while True:
            yield waiting.pop() if waiting else _Dropped

    gen: Iterator[Any] = feed()
    for stage in stages:
        gen = stage.flow(gen, interior)
    flow: Flow[Any] = Flow(gen)

    async def work(item: Any) -> Any:
        waiting.append(item)
        result = await flow.next()
        if result is _Dropped:
            return _DROPPED
        return result if not waiting else await flow.next()

    return work


class _DroppedSignal(Signal):
    __slots__ = ()


_Dropped = _DroppedSignal()
