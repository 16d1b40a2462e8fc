"""The ends of a channel, and ``channel`` itself, which makes them."""

from __future__ import annotations

import sys
from typing import Generic, Literal, Self, overload

from ..kernel.errors import EndOfStream, WouldBlock, user_site
from ..kernel.operation import NEW
from ..kernel.resource import Flavour
from ..kernel.twin import ReceiverFields, SenderFields, twinned
from .ends import End, T, check_capacity, fail_own
from .queue import UNBOUNDED, ChannelStatistics, Next, QueueState, Recv, Send
from .seats import Seat, Site


@twinned("send")
class Sender(SenderFields, End, Generic[T]):
    """The end that sends. Made by ``channel`` and by ``clone``; close it when done, or use it in a ``with`` block.

    When the last sender is closed, the receivers get what is still there and then ``EndOfStream`` (an ``async for``
    simply ends). A sender that is dropped counts as closed.
    """

    __slots__ = ()
    word = "sender"
    _state: QueueState[T]

    def statistics(self) -> ChannelStatistics:
        """How full the channel is, how many ends are open, how many tasks wait. Costs a few counts."""
        return self._state.statistics()

    def __len__(self) -> int:
        return len(self._state.items)

    def send(self, item: T) -> Send[T]:
        """Await it: send ``item``, waiting while the channel is full. First come, first served.

        A cancellation point; cancelled, the item was not sent. Raises ``Closed`` if this sender is closed, ``Broken``
        if every receiver is.
        """
        op: Send[T] = Send()
        op.resource = self._state
        op.state = NEW
        op.value = op.error = op.task = op.watcher = None
        op.end = self
        op.item = item
        return op

    def try_send(self, item: T) -> None:
        """Send ``item`` if that is possible at once; else raise ``WouldBlock``. Not a cancellation point.

        Raises ``Closed`` and ``Broken`` as ``send`` does. Works from any thread if the channel is shared.
        """
        self._use()
        state = self._state
        if state.mutex is None:
            sent = state.put(item)
        else:
            with state.mutex:
                sent = state.put(item)
        if not sent:
            if not state.receivers:
                raise state.broken()
            raise WouldBlock(f"{state.describe()} is full; await send(), or receive from it first")

    def clone(self) -> Sender[T]:
        """Another sender of the same channel, with a life of its own: give one to each task that sends."""
        self._check()
        return _new_sender(self._state, user_site(sys._getframe(1)))

    def _gone(self, seat: Seat) -> None:
        fail_own(self._state.sending, self)
        self._state.sender_gone(seat)


@twinned("recv", "__anext__")
class Receiver(ReceiverFields, End, Generic[T]):
    """The end that receives: ``await rx.recv()``, or ``async for item in rx``. Made by ``channel`` and by ``clone``.

    Each item goes to one receiver. When the last receiver is closed, what is still there is lost, and sends raise
    ``Broken``, which names it. A receiver that is dropped counts as closed; if items are lost by that, it is reported.

    Iteration ends when every sender is closed and everything was received. It does not end on ``Scope.stop``: what was
    sent is work accepted. Close the senders where the work comes in.
    """

    __slots__ = ()
    word = "receiver"
    _state: QueueState[T]

    def statistics(self) -> ChannelStatistics:
        """How full the channel is, how many ends are open, how many tasks wait. Costs a few counts."""
        return self._state.statistics()

    def __len__(self) -> int:
        return len(self._state.items)

    def recv(self) -> Recv[T]:
        """Await it: the next item, waiting while there is none. First come, first served.

        A cancellation point; cancelled, no item was taken, so a timeout around it loses nothing. Raises ``EndOfStream``
        once every sender is closed and everything was received, ``Closed`` if this receiver is closed.
        """
        op: Recv[T] = Recv()
        op.resource = self._state
        op.state = NEW
        op.value = op.error = op.task = op.watcher = None
        op.end = self
        return op

    def try_recv(self) -> T:
        """The next item if there is one; else raise ``WouldBlock``. Not a cancellation point.

        Raises ``EndOfStream`` and ``Closed`` as ``recv`` does. Works from any thread if the channel is shared.
        """
        self._use()
        state = self._state
        if state.mutex is None:
            taken = state.take()
        else:
            with state.mutex:
                taken = state.take()
        if taken is not None:
            return taken[0]
        if not state.senders:
            raise self._end_error()
        raise WouldBlock(f"{state.describe()} is empty; await recv() to wait for an item")

    def clone(self) -> Receiver[T]:
        """Another receiver of the same channel, with a life of its own. Each item goes to one of them."""
        self._check()
        return _new_receiver(self._state, user_site(sys._getframe(1)))

    def close(self) -> None:
        """Give up this end; closing it again does nothing. Never suspends.

        Receives that wait at this very end raise ``Closed``, without effect. If it was the last receiver, items not yet
        received are lost: take them with ``try_recv`` first if they matter.
        """
        super().close()

    def _gone(self, seat: Seat) -> None:
        fail_own(self._state.receiving, self)
        self._state.receiver_gone(seat)

    def _end_error(self) -> EndOfStream:
        return EndOfStream(f"every sender of {self._state.label()} is closed, and all its items were received")

    def __aiter__(self) -> Receiver[T]:
        return self

    def __anext__(self) -> Next[T]:
        op: Next[T] = Next()
        op.resource = self._state
        op.state = NEW
        op.value = op.error = op.task = op.watcher = None
        op.end = self
        return op

    def __del__(self) -> None:
        if getattr(self, "_seat", None) is not None:
            state = self._state
            lost = tuple(state.items) if len(state.receivers) == 1 else ()
            super().__del__()
            if lost:
                state.report_lost("its last receiver was dropped without close()", lost, self._site)


def _new_sender(state: QueueState[T], site: Site) -> Sender[T]:
    end = Sender(state, site)
    seat = end._seat
    assert seat is not None
    state.senders[seat] = None
    return end


def _new_receiver(state: QueueState[T], site: Site) -> Receiver[T]:
    end = Receiver(state, site)
    seat = end._seat
    assert seat is not None
    state.receivers[seat] = None
    return end


class channel(tuple[Sender[T], Receiver[T]]):  # noqa: N801  # called like a function; a class so that it takes [T]
    """``tx, rx = channel[int](16)``: the two ends of a new channel for up to ``capacity`` items that wait.

    It is a pair, so unpack it. The type of the items in brackets is for type checkers, and may be left out.
    """

    __slots__ = ()

    @overload
    def __new__(cls, capacity: int, *, name: str | None = None, flavour: Flavour | None = None) -> Self: ...
    @overload
    def __new__(cls, *, unbounded: Literal[True], name: str | None = None, flavour: Flavour | None = None) -> Self: ...
    def __new__(
        cls,
        capacity: int | None = None,
        *,
        unbounded: bool = False,
        name: str | None = None,
        flavour: Flavour | None = None,
    ) -> Self:
        """Make a channel.

        ``capacity`` 0 means that each send waits until a receiver takes its item. A channel without a bound has to be
        asked for with ``unbounded=True`` instead of a capacity: it hides a slow receiver until the memory is gone.
        ``name`` is for messages and tools. ``flavour`` is ``"local"``, ``"shared"``, or by default what the place where
        it is made says. Raises ``ValueError`` for a negative capacity, ``TypeError`` if it is missing or no whole number.
        """
        if unbounded:
            if capacity is not None:
                raise TypeError("a channel has either a capacity or unbounded=True, not both")
            size = UNBOUNDED
        else:
            size = check_capacity(capacity, 0, "; write unbounded=True for a channel without a bound")
        state: QueueState[T] = QueueState(size, name, flavour)
        site = user_site(sys._getframe(1))
        return super().__new__(cls, (_new_sender(state, site), _new_receiver(state, site)))
