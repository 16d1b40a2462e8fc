"""The ends of a broadcast, and ``broadcast`` itself, which makes them. How it works: see ``broadcast_state``."""

from __future__ import annotations

import sys
from typing import Any, Generic, Literal, Self

from ..kernel.errors import EndOfStream, WouldBlock, user_site
from ..kernel.resource import Flavour
from .broadcast_state import BroadcastState, BroadcastStatistics, Cursor, NextBroadcast, RecvBroadcast, SendBroadcast
from .ends import End, T, check_capacity, fail_own
from .seats import Seat, Site


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
        state.leave(cursor)
        state.admit()

    def __del__(self) -> None:
        if getattr(self, "_seat", None) is not None:
            self._seat = None
            self._state.orphaned(self._cursor)

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
