"""The oneshot: one value or one error, from one sender to one receiver. The answer to a request, say."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, Self, cast

from ..kernel.errors import Broken, Busy, Closed, WouldBlock, user_site
from ..kernel.hazard import report
from ..kernel.operation import Operation
from ..kernel.resource import Flavour
from .ends import End, State, T
from .seats import Seat, Site, unused, users_of

if TYPE_CHECKING:
    from ..kernel.task import Task

EMPTY, VALUE, ERROR, TAKEN = range(4)
CONTENTS = ("empty", "value", "error", "received")


class OneshotStatistics(NamedTuple):
    """One look at a oneshot. ``content`` is what it holds: ``"empty"``, ``"value"``, ``"error"`` or ``"received"``."""

    content: str
    sender_open: bool
    receiver_open: bool
    waiting_receivers: int


class OnceState(State, Generic[T]):
    """What the two ends share.

    Invariants: ``content`` is meaningful iff ``phase`` is VALUE or ERROR; ``op`` is parked iff it is not None, and then
    ``phase`` is EMPTY and both ends are open.
    """

    __slots__ = ("content", "op", "phase", "receiver", "sender")
    kind: ClassVar[str] = "oneshot"

    def __init__(self, name: str | None, flavour: Flavour | None) -> None:
        super().__init__(name=name, flavour=flavour)
        self.phase = EMPTY
        self.content: Any = None
        self.op: RecvOnce[T] | None = None
        self.sender: Seat | None = None
        self.receiver: Seat | None = None

    def put(self, phase: int, content: Any) -> bool:
        """Hand over the value or error, or keep it until asked. False if the receiver is gone."""
        op, self.op = self.op, None
        if op is not None and op.claim():
            self.phase = TAKEN
            if phase == VALUE:
                op.fire(content)
            else:
                op.fail(content)
            return True
        if self.receiver is None:
            return False
        self.phase = phase
        self.content = content
        return True

    def take(self) -> tuple[int, Any]:
        """Take out what is there: its phase and content."""
        phase, content = self.phase, self.content
        if phase in (VALUE, ERROR):
            self.phase = TAKEN
            self.content = None
        return phase, content

    def broken(self, site: Site) -> Broken:
        """For a receiver whose sender has gone."""
        return Broken(
            f"the sender of {self.label()}, made at {site[0]}:{site[1]}, was closed or dropped without sending"
        )

    def taken(self) -> Closed:
        """For a second receive."""
        return Closed(f"{self.label()} carries one value, and it was received already")

    def waiters(self) -> Iterable[Operation[Any]]:
        return () if self.op is None else (self.op,)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        return users_of(() if self.sender is None else (self.sender,))

    def _fill(self) -> str:
        return f" ({CONTENTS[self.phase]})"

    def statistics(self) -> OneshotStatistics:
        """See ``OneSender.statistics``."""
        return OneshotStatistics(
            content=CONTENTS[self.phase],
            sender_open=self.sender is not None,
            receiver_open=self.receiver is not None,
            waiting_receivers=0 if self.op is None else 1,
        )


class RecvOnce(Operation[T]):
    """Waiting for the value. Cancelled, it had no effect: the value can still be received."""

    __slots__ = ("end",)
    resource: OnceState[T]

    def __init__(self, end: OneReceiver[T]) -> None:
        super().__init__(end._state)
        self.end = end

    def poll(self) -> bool:
        state = self.resource
        if self.end._seat is None:
            self.error = self.end._closed_error()
            return True
        phase, content = state.take()
        if phase == VALUE:
            self.value = content
        elif phase == ERROR:
            self.error = content
        elif phase == TAKEN:
            self.error = state.taken()
        elif state.op is not None:
            self.error = self._busy(state.op)
        elif state.sender is None:
            self.error = state.broken(self.end._site)
        else:
            return False
        return True

    def _busy(self, other: RecvOnce[T]) -> Busy:
        names = [repr(op.task.name) if op.task is not None else "?" for op in (other, self)]
        return Busy(f"task {names[0]} waits for {self.resource.label()} already; task {names[1]} can't wait for it too")

    def register(self) -> None:
        state = self.resource
        state.op = self
        if state.sender is None and state.op is self:  # dropped since ``poll`` by the collector
            state.op = None
            self.fail(state.broken(self.end._site))

    def unregister(self) -> None:
        if self.resource.op is self:
            self.resource.op = None

    def undo(self, value: T) -> None:
        state = self.resource
        state.phase = VALUE
        state.content = value

    def describe(self) -> str:
        sender = self.resource.sender
        return f"recv on {self.resource.describe()}" + unused(self, () if sender is None else (sender,), "sender")


class OneSender(End, Generic[T]):
    """The end that sends once. Closing or dropping it before that makes the receiver raise ``Broken``."""

    __slots__ = ()
    word = "sender"
    _state: OnceState[T]

    def send(self, value: T) -> None:
        """Send the value. It never waits, so it is not awaited.

        Raises ``Closed`` if something was sent before (or this end was closed), ``Broken`` if the receiver is gone.
        """
        self._put(VALUE, value)

    def fail(self, error: BaseException) -> None:
        """Send an error instead: the receiver raises it. Raises as ``send`` does, and ``TypeError`` for no exception."""
        if not isinstance(error, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"fail() takes an exception, not {type(error).__name__}; use send() for a value")
        self._put(ERROR, error)

    @property
    def receiver_gone(self) -> bool:
        """Whether the receiver was closed or dropped: nobody wants the value any more."""
        return self._state.receiver is None

    def statistics(self) -> OneshotStatistics:
        """What it holds, which ends are open, whether a task waits."""
        return self._state.statistics()

    def _put(self, phase: int, content: Any) -> None:
        self._use()
        state = self._state
        if state.mutex is None:
            done = state.put(phase, content)
        else:
            with state.mutex:
                done = state.put(phase, content)
        self.close()
        if not done:
            raise Broken(f"the receiver of {state.label()} is closed, so nothing was sent")

    def _closed_error(self) -> Closed:
        return Closed(f"this sender of {self._state.label()} has sent its one value, or was closed")

    def _gone(self, seat: Seat) -> None:
        state = self._state
        state.sender = None
        op, state.op = state.op, None
        if op is not None and op.claim():
            op.fail(state.broken(self._site))


class OneReceiver(End, Generic[T]):
    """The end that receives once: await it (``value = await rx``), or call ``recv()`` where an operation is needed."""

    __slots__ = ()
    word = "receiver"
    _state: OnceState[T]

    def recv(self) -> RecvOnce[T]:
        """Await it: the value. A cancellation point; cancelled, the value can still be received.

        Raises the error that was sent, ``Broken`` if the sender is gone without having sent, ``Closed`` if this end is
        closed or the value was received before, ``Busy`` if another task waits for it.
        """
        return RecvOnce(self)

    def __await__(self) -> Generator[Any, Any, T]:
        return RecvOnce(self).__await__()

    def statistics(self) -> OneshotStatistics:
        """What it holds, which ends are open, whether a task waits."""
        return self._state.statistics()

    def try_recv(self) -> T:
        """The value if it is there; else raise ``WouldBlock``. Not a cancellation point. Raises as ``recv`` does."""
        self._use()
        state = self._state
        if state.mutex is None:
            phase, content = state.take()
        else:
            with state.mutex:
                phase, content = state.take()
        if phase == VALUE:
            return cast("T", content)
        if phase == ERROR:
            raise content
        if phase == TAKEN:
            raise state.taken()
        if state.sender is None:
            raise state.broken(self._site)
        raise WouldBlock(f"{state.describe()} has no value yet; await it to wait for one")

    def _gone(self, seat: Seat) -> None:
        state = self._state
        state.receiver = None
        op, state.op = state.op, None
        if op is not None and op.claim():
            op.fail(self._closed_error())

    def __del__(self) -> None:
        if getattr(self, "_seat", None) is not None:
            state = self._state
            super().__del__()
            if state.phase == ERROR and not sys.is_finalizing():
                report(
                    "unretrieved_error",
                    f"{state.label()}: {state.content!r} was sent and nobody received it",
                    self._site,
                )


class oneshot(tuple[OneSender[T], OneReceiver[T]]):  # noqa: N801  # called like a function; a class so that it takes [T]
    """``tx, rx = oneshot[int]()``: the two ends of a channel for one value. ``tx.send(7)``, ``await rx``.

    It is a pair, so unpack it. The type in brackets is for type checkers, and may be left out.
    """

    __slots__ = ()

    def __new__(cls, *, name: str | None = None, flavour: Flavour | None = None) -> Self:
        """Make one. ``name`` is for messages and tools; ``flavour`` is ``"local"``, ``"shared"``, or by context."""
        state: OnceState[T] = OnceState(name, flavour)
        site = user_site(sys._getframe(1))
        sender: OneSender[T] = OneSender(state, site)
        receiver: OneReceiver[T] = OneReceiver(state, site)
        state.sender, state.receiver = sender._seat, receiver._seat
        return super().__new__(cls, (sender, receiver))
