"""Handing items from a task of the pipeline to its consumer, one at a time and only on demand.

Theory of operation. A *pump* is a background task that drives something which must not be cancelled half-way, or must not see the
consumer's scopes: the body of an async generator, a part of a chain that goes on while another one is served. It runs only while
an item is asked for: ``give`` hands an item over and comes back when the next one is wanted. So a generator's code runs between
one ``next`` and the other, as it does in a plain loop, but in a task of its own.

A consumer that gives up its wait (a timeout) changes nothing: the demand stands, and the item waits for the next ``take``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from ..kernel.cleanup import DEFAULT_BUDGET, Cleanup
from ..kernel.current import current_task
from ..kernel.errors import CancelRecord, TaskCancelled
from ..kernel.operation import Operation
from ..kernel.resource import Resource
from ..kernel.task import Task
from .brief import Brief
from .flow import END, EndedUnderIt, Failure, Flow, Need, of_the_cut
from .interior import Interior

T = TypeVar("T")

_EMPTY: Any = object()


class Handoff(Resource, Generic[T]):
    """The place where one task leaves an item and another takes it.

    Invariants: ``item`` is set only while nobody is parked in a ``take``. ``wanted`` is true from a ``take`` until the item it
    asked for has been given. Once ``end`` is set no further item comes: it is what the next ``take`` gets, and ``END`` those after it.
    """

    __slots__ = ("_giver", "_label", "_taker", "end", "item", "producer", "wanted")
    kind = "handoff"

    def __init__(self, label: str) -> None:
        self._label = label
        self.item: Any = _EMPTY
        self.wanted = False
        self.end: Any = None
        self.producer: Task[Any] | None = None
        self._giver: Wanted | None = None
        self._taker: Take[T] | None = None

    # -- the consumer's side -------------------------------------------------------------------------------------------

    def take(self) -> Take[T]:
        """Await it: the next item (or a ``Failure``, or ``END``). Cancelled, it took nothing, and the demand stands."""
        return Take(self)

    def want(self) -> None:
        """Ask for the next item without waiting for it."""
        if not self.wanted and self.item is _EMPTY:
            self.wanted = True
            giver, self._giver = self._giver, None
            if giver is not None:
                giver.fire(None)

    # -- the producer's side -------------------------------------------------------------------------------------------

    def put(self, item: Any) -> None:
        """Leave an item that was wanted."""
        self.wanted = False
        taker, self._taker = self._taker, None
        if taker is not None:
            taker.fire(item)
        else:
            self.item = item

    def demand(self) -> Wanted:
        """Await it: until an item is wanted."""
        return Wanted(self)

    def finish(self, end: Any) -> None:
        """Nothing more will come: ``end`` is ``END``, or the ``Failure`` after which it does."""
        if self.end is None:
            self.wanted = False
            self.end = end
            taker, self._taker = self._taker, None
            if taker is not None:
                taker.fire(self.last())

    def last(self) -> Any:
        """What a ``take`` gets when there is no item and never will be."""
        end, self.end = self.end, END
        return end

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return [op for op in (self._taker, self._giver) if op is not None]

    def satisfiers(self) -> Iterable[Task[Any]]:
        if self._taker is not None and self.producer is not None:
            return (self.producer,)
        return ()

    def describe(self) -> str:
        return self._label


class Take(Brief[Any], Generic[T]):
    """See ``Handoff.take``."""

    __slots__ = ()
    resource: Handoff[T]

    def poll(self) -> bool:
        handoff = self.resource
        item = handoff.item
        if item is not _EMPTY:
            handoff.item = _EMPTY
            self.value = item
            return True
        if handoff.end is not None:
            self.value = handoff.last()
            return True
        handoff.want()
        return False

    def register(self) -> None:
        self.resource._taker = self

    def unregister(self) -> None:
        self.resource._taker = None

    def undo(self, value: Any) -> None:
        if value is not END:
            self.resource.item = value

    def describe(self) -> str:
        return f"next item of {self.resource.describe()}"


class Wanted(Brief[None]):
    """See ``Handoff.demand``."""

    __slots__ = ()
    resource: Handoff[Any]

    def poll(self) -> bool:
        return self.resource.wanted

    def register(self) -> None:
        self.resource._giver = self

    def unregister(self) -> None:
        self.resource._giver = None

    def describe(self) -> str:
        return f"demand for the next item of {self.resource.describe()}"


async def pump(flow: Flow[Any], handoff: Handoff[Any]) -> None:
    """Drive ``flow`` and hand over what it gives, until its end."""
    try:
        while True:
            await handoff.demand()
            item = await flow.next()
            if item is END:
                handoff.finish(END)
                return
            handoff.put(item)
    except Exception as error:
        if of_the_cut(current_task(), error):
            raise
        handoff.finish(Failure(error))
    finally:
        flow.close()
        _finish(handoff)


async def close_iterator(items: AsyncIterator[Any]) -> None:
    """``aclose()`` it, if it has one, within a cleanup budget."""
    aclose: Callable[[], Any] | None = getattr(items, "aclose", None)
    if aclose is not None:
        async with Cleanup(DEFAULT_BUDGET):
            await aclose()


def _finish(handoff: Handoff[Any]) -> None:
    """A pump that ends without having said why was cut: what it did not come to is not to pass for the end."""
    handoff.finish(Failure(stopped(handoff.describe())))


def stopped(what: str) -> EndedUnderIt:
    """The error of a consumer whose pipeline was ended under it."""
    return EndedUnderIt(
        f"{what} was ended by the end of the scope it ran in, while its next item was awaited",
        CancelRecord("the pipeline's scope has ended"),
    )


def raised_cancelled(what: str, error: BaseException) -> TaskCancelled:
    """The error in the place of an item whose function raised a cancellation though nobody had cancelled it: it came upon another
    one's, and let it out.
    """
    found = TaskCancelled(f"the work on an item of {what} raised {type(error).__name__}, but was not cancelled itself")
    found.__cause__ = error
    return found


def items_of(take: Callable[[], Awaitable[Any]]) -> Iterator[Any]:
    """The generator of a stage whose items come from the background, by ``take``, which gives ``END`` after the last."""
    need = Need()
    while True:
        yield need.of(take)
        if need.error is not None:
            yield Failure(need.error)
            continue
        if need.value is END:
            return
        yield need.value


def pumped(flow: Iterator[Any], interior: Interior, label: str) -> Iterator[Any]:
    """``flow``, driven by a background task on demand."""
    handoff: Handoff[Any] = Handoff(label)
    handoff.producer = interior.spawn(pump, Flow(flow), handoff, name=label)
    yield from items_of(handoff.take)
