"""One chain for several consumers: ``share`` gives each item to one of them, ``tee`` to all.

Theory of operation. There is no task in the middle: whoever asks drives. The chain stands behind a *turn*, which one consumer has
at a time, first come, first served; it drives the chain until it has an item. A driver whose wait is cancelled gives the turn on,
and what it waited for is still pending for the next one (see flow.py): nothing is lost, nothing is asked twice.

What the chain runs in the background lives in the scope around the consumer that asked first, and ends when the last consumer
has left.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar, cast, overload

from ..kernel.cancellation import CancelScope
from ..kernel.current import current_task, tls
from ..kernel.errors import user_site
from ..kernel.hazard import report
from ..kernel.operation import Operation
from ..kernel.resource import Resource, WaitQueue
from ..kernel.task import Task
from .brief import Brief
from .chain import Chain
from .flow import END, Failure, Flow, Need
from .interior import Interior, soon
from .stage import Stage, check_count, depth, open_stages

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")
_MISSING: Any = object()

# How many seconds one part of a ``tee`` waits for another that no other task has asked for an item, before that is said.
PATIENCE = 1.0


class Place:
    """What a shared chain knows of one of its consumers."""

    __slots__ = ("items", "user")

    def __init__(self) -> None:
        # What others have fetched and this consumer has not taken yet (``tee`` only).
        self.items: deque[Any] = deque()
        self.user: Task[Any] | None = None


class Seat:
    """A consumer's hold on its place. Dropped or left, the place is given up: the chain itself does not refer to it."""

    __slots__ = ("_core", "place")

    def __init__(self, core: Core) -> None:
        self._core = core
        self.place = Place()
        core.places[self.place] = None

    def leave(self) -> None:
        """Give it up; again is harmless. May run in a finaliser."""
        self._core.left(self.place)

    def __del__(self) -> None:
        self.leave()


class Core(Resource):
    """A chain behind a turn.

    Invariants: ``holder`` is the task that has the turn; others are parked in ``_waiting`` only while there is one. ``flow`` is
    set once the first item was asked for. ``limit`` is None where each item goes to one consumer; else no place ever has more
    items than that, and a holder is parked in ``behind`` only while one has as many.
    """

    __slots__ = (
        "_stages",
        "_waiting",
        "behind",
        "flow",
        "holder",
        "interior",
        "limit",
        "method",
        "over",
        "places",
        "site",
    )
    kind = "shared iterator"

    def __init__(self, stages: tuple[Stage, ...], site: tuple[str, int], method: str, limit: float | None) -> None:
        self._stages = stages
        self.site = site
        self.method = method
        self.limit = limit
        self.interior = Interior(site, resumable=True)
        self.flow: Flow[Any] | None = None
        self.over = False
        self.holder: Task[Any] | None = None
        # A dict for its order.
        self.places: dict[Place, None] = {}
        self._waiting = WaitQueue()
        self.behind = Behind(self)

    # -- asking --------------------------------------------------------------------------------------------------------

    async def ask(self, place: Place) -> Any:
        """The next item for ``place``, a ``Failure``, ``END``. A cancellation point; cancelled, nothing is lost."""
        place.user = current_task()
        await Turn(self)
        try:
            if place.items:  # come while we waited
                return self.pop(place)
            if self.over:
                return END
            if self.full():
                await self.behind.wait()
            flow = self.flow
            if flow is None:
                flow = await self._open()
            self.interior.consumer = current_task()
            item = await flow.next()
            if item is END:
                await self._end()
            elif self.limit is not None:
                for other in self.places:
                    if other is not place:
                        other.items.append(item)
            return item
        finally:
            self.release()

    async def _open(self) -> Flow[Any]:
        interior = self.interior
        if interior.scope is None and any(stage.background(True) for stage in self._stages):
            await interior.keep()
        self.flow = flow = Flow[Any](open_stages(self._stages, interior), interior)
        return flow

    async def _end(self) -> None:
        """The chain is over, or will not be asked again: what it runs ends now."""
        self.over = True
        try:
            if self.flow is not None:
                self.flow.close()
        finally:
            await self.interior.close()

    def pop(self, place: Place) -> Any:
        """The first of its items."""
        item = place.items.popleft()
        place.user = tls.running.task or current_task()
        self.behind.look()
        return item

    def full(self) -> bool:
        """Whether some consumer is as far behind as it may be."""
        limit = self.limit
        return limit is not None and any(len(place.items) >= limit for place in self.places)

    # -- the turn ------------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Give the turn on."""
        op = self._waiting.pop()
        self.holder = op.task if op is not None else None
        if op is not None:
            op.fire(None)

    # -- leaving -------------------------------------------------------------------------------------------------------

    def left(self, place: Place) -> None:
        """A consumer has left, perhaps in a finaliser: nobody waits for it any more, and the last one ends the chain."""
        if self.places.pop(place, self) is self:
            return
        place.items.clear()
        room = self.behind.room
        if room is not None and room.task is not None:
            soon(room.task.host, self.behind.look)
        if not self.places and self.holder is None:
            flow, self.over = self.flow, True
            try:
                if flow is not None:
                    flow.close()
            finally:
                self.interior.drop()

    async def settle(self) -> None:
        """Once nobody is left: wait until what the chain ran has ended."""
        if not self.places:
            await self.interior.close()

    async def close(self) -> None:
        """End it for everybody: what is being asked for is still delivered, nothing after it."""
        self.over = True
        if self.holder is None:
            await self._end()
            return
        await Turn(self)
        try:
            await self._end()
        finally:
            self.release()

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return list(self._waiting)

    def holders(self) -> Iterable[Task[Any]]:
        return (self.holder,) if self.holder is not None else ()

    def describe(self) -> str:
        fill = (
            ""
            if self.limit is None
            else f", up to {max((len(place.items) for place in self.places), default=0)} behind"
        )
        return f".{self.method}() of the pipeline ({self.site[0]}:{self.site[1]}), {len(self.places)} consumers{fill}"


class Turn(Operation[None]):
    """A consumer's wait for its turn to drive the chain. First come, first served."""

    __slots__ = ()
    resource: Core

    def poll(self) -> bool:
        core = self.resource
        if core.holder is not None:
            return False
        core.holder = self.task
        return True

    def register(self) -> None:
        self.resource._waiting.add(self)

    def unregister(self) -> None:
        self.resource._waiting.discard(self)

    def undo(self, value: None) -> None:
        self.resource.release()

    def describe(self) -> str:
        return f"turn at {self.resource.describe()}"


class Behind(Resource):
    """The consumers of a ``tee`` that are as far behind as they may be: what the fastest one waits for.

    Invariant: ``room`` is set only while there is one.
    """

    __slots__ = ("core", "room", "told")
    kind = "tee"

    def __init__(self, core: Core) -> None:
        self.core = core
        self.room: Room | None = None
        # Whether it was reported that nobody seems to move them.
        self.told = False

    async def wait(self) -> None:
        """Wait until there is none. A cancellation point."""
        task = current_task()
        if not self.told and self.left_to(task):
            with CancelScope(at=task.host.now() + PATIENCE) as limit:
                await Room(self)
            if not limit.cancelled_caught:
                return
            if self.left_to(task):
                self.told = True
                report("tee_alone", f"a part of {self.core.describe()} waits for another one. {REMEDY}", self.core.site)
        await Room(self)

    def look(self) -> None:
        """Somebody took an item, or left: it may be that there is room now."""
        room = self.room
        if room is not None and not self.core.full():
            self.room = None
            room.fire(None)

    def left_to(self, task: Task[Any] | None) -> bool:
        """Whether nobody but ``task`` was ever seen to move one of them (or only who has ended)."""
        return any(user is None or user is task or user.ended for user in self._users())

    def _users(self) -> list[Task[Any] | None]:
        limit = self.core.limit
        return [place.user for place in self.core.places if limit is not None and len(place.items) >= limit]

    def waiters(self) -> Iterable[Operation[Any]]:
        return (self.room,) if self.room is not None else ()

    def satisfiers(self) -> Iterable[Task[Any]]:
        mine = self.room.task if self.room is not None else None
        return [task for task in self._users() if task is not None and task is not mine and not task.ended]

    def describe(self) -> str:
        mine = self.room.task if self.room is not None else None
        remedy = f". {REMEDY}" if self.left_to(mine) else ""
        return f"the slowest consumer of {self.core.describe()}{remedy}"


REMEDY: Final = (
    "No other task asks that one for its items, and what it has not taken may not grow without end: "
    "use up each part in a task of its own, or write unbounded=True"
)


class Room(Brief[None]):
    """The fastest consumer's wait for the slowest one."""

    __slots__ = ()
    resource: Behind

    def poll(self) -> bool:
        return not self.resource.core.full()

    def register(self) -> None:
        self.resource.room = self

    def unregister(self) -> None:
        self.resource.room = None

    def describe(self) -> str:
        return f"wait for {self.resource.describe()}"


class FromCore(Stage):
    """The items of one seat at a shared chain."""

    __slots__ = ("core", "frames", "seat")

    def __init__(self, core: Core) -> None:
        self.core = core
        self.frames = 5 + depth(core._stages)
        self.seat = Seat(core)

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        core, seat, need = self.core, self.seat, Need()
        place = seat.place
        interior.defer(core.settle)
        try:
            while True:
                while place.items:
                    yield core.pop(place)
                yield need.of(partial(core.ask, place))
                if need.error is not None:
                    yield Failure(need.error)
                elif need.value is END:
                    return
                else:
                    yield need.value
        finally:
            seat.leave()

    def describe(self) -> str:
        before = ".".join(stage.describe() for stage in self.core._stages)
        return f"{before}.{self.core.method}()"


class Shared(Generic[T_co]):
    """What ``AsyncIter.share()`` gives: each ``async for`` over it, in whatever task, gets some of the items; each item goes to one.

    ``async for item in shared`` and ``shared.iter()`` give an iterator each; ``await shared.next()`` one item. ``async with
    shared:`` ends what the chain runs at the end of the block; else that ends when the last iterator and this object are gone.
    """

    __slots__ = ("__weakref__", "_core", "_seat", "_site")

    def __init__(self, stages: tuple[Stage, ...], site: tuple[str, int]) -> None:
        self._site = site
        self._core = Core(stages, site, "share", None)
        self._seat = Seat(self._core)

    def iter(self) -> AsyncIter[T_co]:
        """A consumer more: an iterator with all its combinators over the items that it will get."""
        return cast("AsyncIter[T_co]", Chain._make((FromCore(self._core),), user_site(sys._getframe(1))))

    def __aiter__(self) -> AsyncIter[T_co]:
        return self.iter()

    @overload
    async def next(self) -> T_co: ...
    @overload
    async def next(self, default: D) -> T_co | D: ...
    async def next(self, default: Any = _MISSING) -> Any:
        """The next item; at the end ``default``, or ``StopAsyncIteration`` without one. Any number of tasks may wait here.

        A cancellation point. Cancelled or timed out, no item is lost. A failed item's error is raised in the task that got it.
        """
        item = await self._core.ask(self._seat.place)
        if isinstance(item, Failure):
            raise item.error
        if item is not END:
            return item
        if default is _MISSING:
            raise StopAsyncIteration
        return default

    async def aclose(self) -> None:
        """End it for all its consumers; what one of them is waiting for is still delivered. Again is harmless."""
        await self._core.close()

    async def __aenter__(self) -> Shared[T_co]:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __iter__(self) -> NoReturn:
        raise TypeError("this is an asynchronous iterable: write `async for item in shared`")

    def __repr__(self) -> str:
        return f"<{self._core.describe()}>"


class Sharing(Chain[T_co]):
    """The combinators of this module."""

    __slots__ = ()

    def share(self) -> Shared[T_co]:
        """For several tasks: each ``async for`` over what this gives gets some of the items; each item goes to one of them.

        There is no buffer and no task between them: whoever asks drives, the others wait for their turn, in order. A consumer
        whose wait is cancelled is replaced by the next; no item is lost. A failed item is raised in the task that got it.
        """
        return Shared(self._take("share"), self._site)

    def tee(self, n: int = 2, *, limit: int = 64, unbounded: bool = False) -> tuple[AsyncIter[T_co], ...]:
        """``n`` iterators, each of which gives all items, to be used in different tasks. This one is spent.

        Memory: an item is kept until all have taken it, and never more than ``limit`` for each iterator: the fastest waits while
        the slowest is ``limit`` items behind. So one task can't use up one of them and then the next, unless
        ``unbounded=True`` is written out; a wait that seems to be of that kind is reported (``tee_alone``). An iterator that is closed or dropped holds nobody up. A failed item is raised in each.
        """
        check_count(n, "tee")
        check_count(limit, "tee", name="limit")
        core = Core(self._take("tee"), self._site, "tee", float("inf") if unbounded else limit)
        return tuple(self._make((FromCore(core),), self._site) for _ in range(n))
