"""The broadcast: every receiver sees every item sent since it subscribed.

Theory of operation. Items are numbered. Each receiver has a cursor: the number of the item it takes next. A stored item
counts the cursors that have not passed it and leaves when the last one has; as cursors only move on, items leave in
order. A receiver that is parked has taken everything, so a new item is handed to it and not stored on its account.

When ``capacity`` items are stored, either the oldest goes, and who had not taken it is told (``Lagged``), or the sender
waits for the slowest receiver: ``lag="raise"`` or ``lag="wait"``.

Invariants: ``stored`` has exactly the numbers from ``oldest`` to ``head - 1``; the count of an item is the number of
cursors with ``next`` not beyond it; a cursor with something parked has ``next == head`` and nothing ``returned``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple

from ..kernel.errors import BateauError
from ..kernel.operation import Operation
from ..kernel.resource import Flavour, Resource, WaitQueue
from .ends import State, T
from .seats import Seat, Site, unused, users_of

if TYPE_CHECKING:
    from ..kernel.host import Host
    from ..kernel.task import Task
    from .broadcasting import BroadcastReceiver, BroadcastSender


class Lagged(BateauError):
    """A receiver of a broadcast was too slow: ``missed`` items are gone. The next ``recv`` gets the oldest one left."""

    def __init__(self, message: str, missed: int) -> None:
        super().__init__(message)
        self.missed = missed


class BroadcastStatistics(NamedTuple):
    """One look at a broadcast: ``items`` is what its slowest receiver has still to take; the rest are counts too."""

    capacity: int
    items: int
    open_senders: int
    open_receivers: int
    waiting_senders: int
    waiting_receivers: int


class BroadcastState(State, Generic[T]):
    """What the ends of one broadcast share. See the module's head."""

    __slots__ = ("capacity", "head", "oldest", "orphans", "receivers", "senders", "sending", "stored", "waits")
    kind: ClassVar[str] = "broadcast"

    def __init__(self, capacity: int, waits: bool, name: str | None, flavour: Flavour | None) -> None:
        super().__init__(name=name, flavour=flavour)
        self.capacity = capacity
        self.waits = waits
        self.head = 0
        self.oldest = 0
        # Number -> [item, how many cursors have still to pass it].
        self.stored: dict[int, list[Any]] = {}
        self.senders: dict[Seat, None] = {}
        self.receivers: dict[Cursor[T], None] = {}
        self.sending = WaitQueue()
        # Cursors of receivers that were dropped. The collector may find them in the middle of a transition, so they are
        # taken out at the beginning of the next one.
        self.orphans: list[Cursor[T]] = []

    def leave(self, cursor: Cursor[T]) -> None:
        """Take a cursor out: what it has not passed waits for it no longer."""
        if cursor in self.receivers:
            del self.receivers[cursor]
            for number in range(max(cursor.next, self.oldest), self.head):
                self.pass_by(number)

    def reap(self) -> None:
        """Take out the cursors of dropped receivers, and let in who waited for them."""
        while self.orphans:
            self.leave(self.orphans.pop())
        self.admit()

    def orphaned(self, cursor: Cursor[T]) -> None:
        """A receiver was dropped, at any moment and in any thread."""
        self.orphans.append(cursor)
        first = self.sending.peek()
        task = first.task if first is not None else None
        if task is not None:
            try:
                task.host.call_threadsafe(self._reap_later)
            except RuntimeError:
                pass  # that program has ended, and its sender waits no more

    def _reap_later(self) -> None:
        if self.mutex is None:
            self.reap()
        else:
            with self.mutex:
                self.reap()

    def put(self, item: T) -> int | None:
        """Give ``item`` to every receiver. How many there are; None if the sender has to wait."""
        if self.orphans:
            self.reap()
        return self.spread(item)

    def spread(self, item: T) -> int | None:
        """``put``, for those who have been waiting: nobody is counted out, and so let in, in between."""
        if self.waits and len(self.stored) >= self.capacity:
            return None
        number = self.head
        self.head = number + 1
        later = 0
        for cursor in tuple(self.receivers):
            op = cursor.parked.pop()
            if op is None:
                later += 1
            else:
                cursor.next = number + 1
                op.fire(item)
        if later:
            if len(self.stored) >= self.capacity:
                del self.stored[self.oldest]
                self.oldest += 1
            self.stored[number] = [item, later]
        else:
            self.oldest = self.head if not self.stored else self.oldest
        return len(self.receivers)

    def pass_by(self, number: int) -> None:
        """A cursor has passed item ``number``, which is stored."""
        slot = self.stored[number]
        slot[1] -= 1
        if not slot[1]:
            del self.stored[number]
            self.oldest = number + 1

    def admit(self) -> None:
        """Let parked senders' items in, as far as there is room."""
        while self.sending and len(self.stored) < self.capacity:
            op: Any = self.sending.pop()
            if op is None:
                return
            op.fire(self.spread(op.item))

    def waiters(self) -> Iterable[Operation[Any]]:
        return tuple(self.sending)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        """A full broadcast waits for those who have not taken the oldest item."""
        return users_of([cursor for cursor in self.receivers if cursor.next <= self.oldest])

    def _fill(self) -> str:
        return f" ({len(self.stored)}/{self.capacity})"

    def statistics(self) -> BroadcastStatistics:
        """See ``BroadcastSender.statistics``."""
        return BroadcastStatistics(
            capacity=self.capacity,
            items=len(self.stored),
            open_senders=len(self.senders),
            open_receivers=len(self.receivers) - len(self.orphans),
            waiting_senders=len(self.sending),
            waiting_receivers=sum(len(cursor.parked) for cursor in self.receivers),
        )


class Cursor(Seat, Resource, Generic[T]):
    """The seat of a receiver, and what its receives wait on: the next item, which only a sender can bring."""

    __slots__ = ("mutex", "next", "parked", "returned", "state")
    kind = "broadcast"

    def __init__(self, state: BroadcastState[T], site: Site, number: int) -> None:
        super().__init__(site)
        self.state = state
        self.mutex = state.mutex
        self.next = number
        self.parked = WaitQueue()
        # Items that were handed over and given back: they come before all others.
        self.returned: deque[T] = deque()

    def take(self) -> tuple[T] | None:
        """The next item in a tuple, or None. Raises ``Lagged`` once if items were missed."""
        if self.state.orphans:
            self.state.reap()
        if self.returned:
            return (self.returned.popleft(),)
        state = self.state
        number = self.next
        if number < state.oldest and number < state.head:
            missed = state.oldest - number
            self.next = state.oldest
            raise Lagged(
                f"this receiver of {state.describe()} was too slow and missed {missed} items; "
                "receive again for the oldest left, or make the broadcast with lag='wait'",
                missed,
            )
        if number == state.head:
            return None
        item: T = state.stored[number][0]
        self.next = number + 1
        state.pass_by(number)
        state.admit()
        return (item,)

    def check_home(self, host: Host) -> None:
        self.state.check_home(host)

    def waiters(self) -> Iterable[Operation[Any]]:
        return tuple(self.parked)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        return users_of(self.state.senders)

    def describe(self) -> str:
        unread = self.state.head - max(self.next, self.state.oldest) + len(self.returned)
        return f"{self.state.label()} ({unread}/{self.state.capacity})"


class SendBroadcast(Operation[int], Generic[T]):
    """One send. Cancelled, it had no effect."""

    __slots__ = ("end", "item")
    resource: BroadcastState[T]

    def __init__(self, end: BroadcastSender[T], item: T) -> None:
        super().__init__(end._state)
        self.end = end
        self.item = item

    def poll(self) -> bool:
        seat = self.end._seat
        if seat is None:
            self.error = self.end._closed_error()
            return True
        if self.task is not None and seat.user_id != self.task.id:
            seat.note(self.task)
        reached = self.resource.put(self.item)
        if reached is None:
            return False
        self.value = reached
        return True

    def register(self) -> None:
        state = self.resource
        state.sending.add(self)
        if state.orphans:  # the collector found the slowest receiver since ``poll``, and nobody waited then
            state.reap()

    def unregister(self) -> None:
        self.resource.sending.discard(self)

    def describe(self) -> str:
        return f"send on {self.resource.describe()}" + unused(self, self.resource.receivers, "receiver")


class RecvBroadcast(Operation[T]):
    """One receive. Cancelled, it had no effect."""

    __slots__ = ("end",)
    resource: Cursor[T]

    def __init__(self, end: BroadcastReceiver[T]) -> None:
        super().__init__(end._cursor)
        self.end = end

    def poll(self) -> bool:
        cursor = self.resource
        if self.end._seat is None:
            self.error = self.end._closed_error()
            return True
        if self.task is not None and cursor.user_id != self.task.id:
            cursor.note(self.task)
        try:
            taken = cursor.take()
        except Lagged as error:
            self.error = error
            return True
        if taken is not None:
            self.value = taken[0]
            return True
        if not cursor.state.senders:
            self.error = self.at_end()
            return True
        return False

    def register(self) -> None:
        cursor = self.resource
        cursor.parked.add(self)
        if not cursor.state.senders and self in cursor.parked:  # dropped since ``poll`` by the collector
            cursor.parked.discard(self)
            self.fail(self.at_end())

    def unregister(self) -> None:
        self.resource.parked.discard(self)

    def undo(self, value: T) -> None:
        cursor = self.resource
        if cursor.mutex is None:
            self._give_back(value)
        else:
            with cursor.mutex:
                self._give_back(value)

    def _give_back(self, value: T) -> None:
        other = self.resource.parked.pop()
        if other is not None:
            other.fire(value)
        else:
            self.resource.returned.appendleft(value)

    def at_end(self) -> Exception:
        """How this operation says that nothing will come any more."""
        return self.end._end_error()

    def describe(self) -> str:
        return f"recv on {self.resource.describe()}" + unused(self, self.resource.state.senders, "sender")


class NextBroadcast(RecvBroadcast[T]):
    """A receive for ``async for``, which has its own way to say that it is over."""

    __slots__ = ()

    def at_end(self) -> Exception:
        return StopAsyncIteration()
