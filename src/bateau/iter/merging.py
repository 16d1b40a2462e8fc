"""Several sources at once: ``merge`` and ``merge_with_priority`` ask all of them, ``interleave`` one after the other, in turn.

Theory of operation of ``merge``. Each source is driven by a task of its own, which fetches one item, leaves it, and fetches the
next once that has been taken: so never more than one item of each source is claimed and not yet taken, all of them make progress
while the consumer's body runs, and a source that always has something can't starve the others.

By priority, that is what is wanted: a source whose item has just been taken is given the time to fetch the next one before one
behind it is served, as far as it need not wait for it. Nobody can tell from outside whether a task is on its way or waits
for the world, so "the time" is a number of turns of the scheduler, and spent once for each item taken: ``TURNS``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from ..kernel.current import current_task
from ..kernel.errors import Cancelled
from ..kernel.flow import yield_now
from ..kernel.operation import Operation
from ..kernel.task import Task
from .brief import Brief
from .buffering import PENDING, Line
from .chain import Chain
from .flow import END, Failure, Flow, Need, Signal, of_the_cut
from .handoff import stopped
from .interior import Interior
from .nesting import nested
from .opening import as_stages, background
from .stage import Stage, depth, gives_up

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")
Source: TypeAlias = AsyncIterable[R] | Iterable[R] | Callable[[], AsyncIterable[R]]


# An item of an async generator that waits for nothing takes three: its lane asks, its body gives, its lane takes. One that comes
# through another such generator takes two more.
TURNS: Final = 8


class Lane:
    """One of the merged sources. ``item`` is what it has fetched and nobody has taken."""

    __slots__ = ("flow", "index", "item", "parked", "under_way")

    def __init__(self, index: int, flow: Flow[Any]) -> None:
        self.index = index
        self.flow = flow
        self.item: Any = PENDING
        self.parked: Taken | None = None
        # Whether it may be about to bring an item: it has begun to fetch, and was not given its turns yet.
        self.under_way = True


class Merged(Line):
    """Where the sources of one ``merge`` leave their items.

    Invariants: ``fetched`` has the lanes with an item, in the order of their arrival. ``lanes`` has those that have not ended, by
    their task. A lane is parked only while its item is there.
    """

    __slots__ = ("_cut", "_label", "by_priority", "fetched", "lanes")
    kind = "merge"

    def __init__(self, label: str, *, by_priority: bool) -> None:
        self._label = label
        self.by_priority = by_priority
        self.lanes: dict[Task[Any], Lane] = {}
        # Whether a source was cut before its end, and the consumer has not been told.
        self._cut = False
        self.fetched: deque[Lane] = deque()
        super().__init__()

    def add(self, flow: Flow[Any], interior: Interior) -> None:
        """Begin to fetch the items of ``flow``."""
        lane = Lane(len(self.lanes), flow)
        task = interior.spawn(self._fetch, lane, name=f"source {lane.index + 1} of {self._label}")
        self.lanes[task] = lane
        task.at_end = {self: self._gone}

    # -- the sources' side ---------------------------------------------------------------------------------------------

    async def _fetch(self, lane: Lane) -> None:
        flow = lane.flow
        try:
            while True:
                if lane.item is not PENDING:
                    await Taken(self, lane)
                item = await flow.next()
                if item is END:
                    return
                self._arrived(lane, item)
        except (Cancelled, GeneratorExit):
            raise
        except BaseException as error:
            if of_the_cut(current_task(), error):
                raise
            self._arrived(lane, Failure(error))
        finally:
            flow.close()

    def _arrived(self, lane: Lane, item: Any) -> None:
        lane.item = item
        lane.under_way = False
        self.fetched.append(lane)
        self.tell()

    def _gone(self, task: Task[Any]) -> None:
        self.lanes.pop(task)
        self._cut = self._cut or task._error is not None
        self.tell()

    # -- the consumer's side -------------------------------------------------------------------------------------------

    def there(self) -> bool:
        return bool(self.fetched) or not self.lanes

    def take(self) -> Any:
        fetched = self.fetched
        if not fetched:
            cut, self._cut = self._cut, False
            return Failure(stopped(self._label)) if cut else END
        if self.by_priority and len(fetched) > 1:
            lane = min(fetched, key=_by_index)
            fetched.remove(lane)
        else:
            lane = fetched.popleft()
        item, lane.item = lane.item, PENDING
        lane.under_way = True
        parked, lane.parked = lane.parked, None
        if parked is not None:
            parked.fire(None)
        return item

    def items(self) -> Iterator[Any]:
        if not self.by_priority:
            yield from super().items()
            return
        need = Need()
        while True:
            if not self.there():
                yield need.of(self.ready)
            elif self._better_under_way():
                yield need.of(self._give_turns)
            else:
                item = self.take()
                if item is END:
                    return
                yield item
                continue
            if need.error is not None:
                yield Failure(need.error)

    def _better_under_way(self) -> bool:
        """Whether one may be about to come that is preferred to all that are there."""
        best = min((lane.index for lane in self.fetched), default=-1)
        return any(lane.under_way and lane.index < best for lane in self.lanes.values())

    async def _give_turns(self) -> None:
        for _ in range(TURNS):
            await yield_now()
            if not self._better_under_way():
                return
        for lane in self.lanes.values():
            lane.under_way = False  # it waits for something

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        found: list[Operation[Any]] = [lane.parked for lane in self.lanes.values() if lane.parked is not None]
        return [*found, self._taker] if self._taker is not None else found

    def satisfiers(self) -> Iterable[Task[Any]]:
        return tuple(self.lanes) if self._taker is not None else ()

    def describe(self) -> str:
        return f"{self._label}: {len(self.lanes)} sources open, {len(self.fetched)} items ready"


def _by_index(lane: Lane) -> int:
    return lane.index


class Taken(Brief[None]):
    """A source's wait until its item has been taken."""

    __slots__ = ("lane",)
    resource: Merged

    def __init__(self, merged: Merged, lane: Lane) -> None:
        super().__init__(merged)
        self.lane = lane

    def poll(self) -> bool:
        return self.lane.item is PENDING

    def register(self) -> None:
        self.lane.parked = self

    def unregister(self) -> None:
        self.lane.parked = None

    def describe(self) -> str:
        return f"wait for an item to be taken from {self.resource.describe()}"


class Several(Stage):
    """A first stage with several sources."""

    __slots__ = ("frames", "gives_up", "method", "parts")
    # Whether a part that is nothing but another one of these may as well be its parts, beside ours.
    flat = True

    def __init__(self, parts: tuple[tuple[Stage, ...], ...], method: str) -> None:
        self.parts = parts
        self.method = method
        self.gives_up = any(map(gives_up, parts))
        self.frames = 5 + max(map(depth, parts))

    def describe(self) -> str:
        first, *others = (".".join(stage.describe() for stage in part) for part in self.parts)
        return f"{first}.{self.method}({', '.join(others)})"


class Merge(Several):
    """The items of all sources, as they come."""

    __slots__ = ()

    def background(self, resumable: bool) -> bool:
        return True

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        merged = Merged(f".{self.method}() of {interior.describe()}", by_priority=self.method != "merge")
        for part in self.parts:
            merged.add(Flow(nested(part, interior)), interior)
        yield from merged.items()


class Interleave(Several):
    """One item of each source, in turn."""

    __slots__ = ()
    flat = False  # a turn of its own for each part, whatever that is made of

    def background(self, resumable: bool) -> bool:
        return any(background(part, resumable) for part in self.parts)

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        turns: deque[Any] = deque(nested(part, interior) for part in self.parts)
        try:
            while turns:
                item = next(turns[0], END)
                if item is END:
                    turns.popleft()
                    continue
                yield item
                if not isinstance(item, Signal) or isinstance(item, Failure):  # else it is still its turn
                    turns.rotate(-1)
        finally:
            for each in turns:
                each.close()


class Merging(Chain[T_co]):
    """The combinators of this module."""

    __slots__ = ()

    def merge(self, *others: Source[R]) -> AsyncIter[T_co | R]:
        """The items of this and all ``others``, in the order in which they come. Ends when all have ended.

        Every source works in a task of its own, also while the consumer's body runs, and is never more than one item ahead. One
        that fails raises in the place of its item; the others go on. All have ended when the loop is left.
        """
        return self._several(Merge, others, "merge")

    def merge_with_priority(self, *others: Source[R]) -> AsyncIter[T_co | R]:
        """Like ``merge``; where several have an item, this one's goes first, then that of the first of ``others``, and so on.

        A source whose item was taken gets the time to fetch its next one, before one behind it is served: a few turns of
        the scheduler, enough if it need not wait for anything. So one that always has an item keeps those behind it from ever
        being heard, even by a body that never waits; one that does wait (for a clock, a peer) holds nobody up.
        """
        return self._several(Merge, others, "merge_with_priority")

    def interleave(self, *others: Source[R]) -> AsyncIter[T_co | R]:
        """One item of this, one of each of ``others``, and again; one that has ended is left out. One source is asked at a time."""
        return self._several(Interleave, others, "interleave")

    def _several(self, kind: type[Several], others: tuple[Any, ...], method: str) -> AsyncIter[Any]:
        parts: list[tuple[Stage, ...]] = []
        for part in (self._take(method), *(as_stages(other, method) for other in others)):
            only = part[0] if len(part) == 1 else None
            if isinstance(only, kind) and only.method == method and only.flat:
                parts += only.parts
            else:
                parts.append(part)
        made: AsyncIter[Any] = self._make((kind(tuple(parts), method),), self._site)
        return made
