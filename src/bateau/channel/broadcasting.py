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

import sys
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, Self

from ..kernel.errors import BateauError, EndOfStream, WouldBlock, user_site
from ..kernel.operation import Operation
from ..kernel.resource import Flavour, Resource, WaitQueue
from .ends import End, State, T, check_capacity, fail_own
from .seats import Seat, Site, unused, users_of

if TYPE_CHECKING:
    from ..kernel.host import Host
    from ..kernel.task import Task


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

    __slots__ = ("capacity", "head", "oldest", "receivers", "senders", "sending", "stored", "waits")
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

    def put(self, item: T) -> int | None:
        """Give ``item`` to every receiver. How many there are; None if the sender has to wait."""
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
        while len(self.stored) < self.capacity:
            op: Any = self.sending.pop()
            if op is None:
                return
            op.fire(self.put(op.item))

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
            open_receivers=len(self.receivers),
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
        if len(state.stored) < state.capacity:  # the collector dropped the slowest receiver since ``poll``
            state.admit()

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


class BroadcastSender(End, Generic[T]):
    """The end that sends to all. With the last one closed, receivers get what is left and then ``EndOfStream``."""

    __slots__ = ()
    word = "sender"
    _state: BroadcastState[T]

    def send(self, item: T) -> SendBroadcast[T]:
        """Await it: give ``item`` to every receiver; returns how many there are (0: nobody listens, it is gone).

        With ``lag="raise"`` it never waits. With ``lag="wait"`` it waits while the slowest receiver has ``capacity``
        items to take. A cancellation point; cancelled, nobody gets the item. Raises ``Closed`` if this end is closed.
        """
        return SendBroadcast(self, item)

    def try_send(self, item: T) -> int:
        """The same at once, or ``WouldBlock`` where it would have to wait. Not a cancellation point."""
        self._use()
        state = self._state
        if state.mutex is None:
            reached = state.put(item)
        else:
            with state.mutex:
                reached = state.put(item)
        if reached is None:
            raise WouldBlock(f"{state.describe()} is full; await send() to wait for the slowest receiver")
        return reached

    def subscribe(self) -> BroadcastReceiver[T]:
        """A new receiver, which sees what is sent from now on. Not a cancellation point."""
        self._check()
        state = self._state
        return _new_receiver(state, user_site(sys._getframe(1)), state.head)

    def clone(self) -> BroadcastSender[T]:
        """Another sender of the same broadcast, with a life of its own."""
        self._check()
        return _new_sender(self._state, user_site(sys._getframe(1)))

    def statistics(self) -> BroadcastStatistics:
        """How much is stored, how many ends are open, how many tasks wait."""
        return self._state.statistics()

    def _gone(self, seat: Seat) -> None:
        state = self._state
        fail_own(state.sending, self)
        state.senders.pop(seat, None)
        if not state.senders:
            for cursor in tuple(state.receivers):
                op: Any = cursor.parked.pop()
                while op is not None:
                    op.fail(op.at_end())
                    op = cursor.parked.pop()


class BroadcastReceiver(End, Generic[T]):
    """One subscription: ``await rx.recv()``, or ``async for item in rx``. Close it as soon as it is not needed.

    Several tasks that share one receiver share its items; ``clone`` it to have each see all.
    """

    __slots__ = ("_cursor",)
    word = "receiver"
    _state: BroadcastState[T]

    def __init__(self, state: BroadcastState[T], site: Site, number: int) -> None:
        super().__init__(state, site)
        self._cursor = self._seat = Cursor(state, site, number)

    def recv(self) -> RecvBroadcast[T]:
        """Await it: the next item. A cancellation point; cancelled, no item was taken.

        Raises ``Lagged`` once if this receiver was too slow (``.missed`` says by how many items; call again to go on),
        ``EndOfStream`` once every sender is closed and all was received, ``Closed`` if this receiver is closed.
        """
        return RecvBroadcast(self)

    def try_recv(self) -> T:
        """The next item if there is one; else raise ``WouldBlock``. Not a cancellation point. Raises as ``recv`` does."""
        self._use()
        cursor = self._cursor
        if cursor.mutex is None:
            taken = cursor.take()
        else:
            with cursor.mutex:
                taken = cursor.take()
        if taken is not None:
            return taken[0]
        if not self._state.senders:
            raise self._end_error()
        raise WouldBlock(f"{cursor.describe()} has nothing new; await recv() to wait for an item")

    def clone(self) -> BroadcastReceiver[T]:
        """Another receiver at the same place: both see everything this one has not yet received."""
        self._check()
        state, cursor = self._state, self._cursor
        copy = _new_receiver(state, user_site(sys._getframe(1)), cursor.next)
        copy._cursor.returned.extend(cursor.returned)
        return copy

    def statistics(self) -> BroadcastStatistics:
        """How much is stored, how many ends are open, how many tasks wait."""
        return self._state.statistics()

    def _end_error(self) -> EndOfStream:
        return EndOfStream(f"every sender of {self._state.label()} is closed, and all its items were received")

    def _gone(self, seat: Seat) -> None:
        state, cursor = self._state, self._cursor
        fail_own(cursor.parked, self)
        if state.receivers.pop(cursor, state) is None:
            for number in range(max(cursor.next, state.oldest), state.head):
                state.pass_by(number)
            state.admit()

    def __aiter__(self) -> BroadcastReceiver[T]:
        return self

    def __anext__(self) -> NextBroadcast[T]:
        return NextBroadcast(self)


def _new_sender(state: BroadcastState[T], site: Site) -> BroadcastSender[T]:
    end: BroadcastSender[T] = BroadcastSender(state, site)
    seat = end._seat
    assert seat is not None
    state.senders[seat] = None
    return end


def _new_receiver(state: BroadcastState[T], site: Site, number: int) -> BroadcastReceiver[T]:
    end: BroadcastReceiver[T] = BroadcastReceiver(state, site, number)
    if state.mutex is None:
        _seat_receiver(state, end._cursor)
    else:
        with state.mutex:
            _seat_receiver(state, end._cursor)
    return end


def _seat_receiver(state: BroadcastState[T], cursor: Cursor[T]) -> None:
    state.receivers[cursor] = None
    for number in range(max(cursor.next, state.oldest), state.head):
        state.stored[number][1] += 1


class broadcast(tuple[BroadcastSender[T], BroadcastReceiver[T]]):  # noqa: N801  # called like a function; takes [T]
    """``tx, rx = broadcast[str](16)``: a sender to all, and its first receiver; ``tx.subscribe()`` makes more.

    It is a pair, so unpack it. The type in brackets is for type checkers, and may be left out.
    """

    __slots__ = ()

    def __new__(
        cls,
        capacity: int,
        *,
        lag: Literal["raise", "wait"] = "raise",
        name: str | None = None,
        flavour: Flavour | None = None,
    ) -> Self:
        """Make a broadcast that stores up to ``capacity`` items (1 or more) for receivers that are slow.

        ``lag="raise"``: then the oldest is dropped, and who has not taken it gets ``Lagged``. ``lag="wait"``: then sends
        wait for the slowest receiver; close what is not needed, the first one included. ``name`` is for messages and
        tools; ``flavour`` is ``"local"``, ``"shared"``, or by context. Raises ``ValueError``, ``TypeError`` for wrong ones.
        """
        if lag not in ("raise", "wait"):
            raise ValueError(f"lag must be 'raise' (the slow miss items) or 'wait' (for the slowest), not {lag!r}")
        state: BroadcastState[T] = BroadcastState(check_capacity(capacity, 1), lag == "wait", name, flavour)
        site = user_site(sys._getframe(1))
        return super().__new__(cls, (_new_sender(state, site), _new_receiver(state, site, 0)))
