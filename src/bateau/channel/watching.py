"""The watch: the latest value, and word of its changes. For configuration, progress, state; not for events.

Whoever is slow misses the values in between, and always sees the last one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, Self

from ..kernel.errors import EndOfStream, user_site
from ..kernel.operation import DONE, PARKED, Operation, RetryOperation
from ..kernel.resource import Flavour, WaitQueue
from .ends import End, State, T, fail_own
from .seats import Seat, Site, unused, users_of

if TYPE_CHECKING:
    from ..kernel.task import Task


class WatchStatistics(NamedTuple):
    """One look at a watch: ``version`` counts the values sent; the rest are counts too."""

    version: int
    open_senders: int
    open_receivers: int
    waiting_receivers: int


class WatchState(State, Generic[T]):
    """What the ends share. ``current`` is one tuple, so that any thread sees a value with its own version.

    Invariant: with no open sender nothing is parked.
    """

    __slots__ = ("current", "parked", "receivers", "senders")
    kind: ClassVar[str] = "watch"

    def __init__(self, initial: T, name: str | None, flavour: Flavour | None) -> None:
        super().__init__(name=name, flavour=flavour)
        self.current: tuple[T, int] = (initial, 0)
        self.parked = WaitQueue()
        self.senders: dict[Seat, None] = {}
        self.receivers: dict[Seat, None] = {}

    def put(self, value: T) -> None:
        """Set the value and tell all who wait now (not those who come to wait while they are told)."""
        version = self.current[1] + 1
        self.current = (value, version)
        for _ in range(len(self.parked)):
            op: Any = self.parked.pop()
            if op is None:
                return
            op.see(version)
            op.fire(value)

    def waiters(self) -> Iterable[Operation[Any]]:
        return tuple(self.parked)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        return users_of(self.senders)

    def ended(self) -> EndOfStream:
        """For a wait that no sender is left to end."""
        return EndOfStream(f"every sender of {self.label()} is closed; its value will not change any more")

    def statistics(self) -> WatchStatistics:
        """See ``WatchSender.statistics``."""
        return WatchStatistics(self.current[1], len(self.senders), len(self.receivers), len(self.parked))


class Changed(Operation[T]):
    """Waiting for a value not seen before. Cancelled, nothing counts as seen."""

    __slots__ = ("end",)
    resource: WatchState[T]

    def __init__(self, end: WatchReceiver[T]) -> None:
        super().__init__(end._state)
        self.end = end

    def poll(self) -> bool:
        end, state = self.end, self.resource
        if end._seat is None:
            self.error = end._closed_error()
            return True
        value, version = state.current
        if version != end._seen:
            end._seen = version
            self.value = value
            return True
        if not state.senders:
            self.error = self.at_end()
            return True
        return False

    def see(self, version: int) -> None:
        """It is about to be fired with the value of this version."""
        self.end._seen = version

    def register(self) -> None:
        state = self.resource
        state.parked.add(self)
        if not state.senders and self in state.parked:  # dropped since ``poll`` by the collector
            state.parked.discard(self)
            self.fail(self.at_end())

    def unregister(self) -> None:
        self.resource.parked.discard(self)

    def undo(self, value: T) -> None:
        self.end._seen = -1  # not seen: the next one gets the latest

    def at_end(self) -> Exception:
        """How this operation says that nothing will come any more."""
        return self.resource.ended()

    def describe(self) -> str:
        return f"change of {self.resource.describe()}" + unused(self, self.resource.senders, "sender")


class NextChange(Changed[T]):
    """A change for ``async for``, which has its own way to say that it is over."""

    __slots__ = ()

    def at_end(self) -> Exception:
        return StopAsyncIteration()


class WaitFor(RetryOperation[T]):
    """Waiting for a value that fulfils a condition. The condition runs in the waiting task, and outside the mutex."""

    __slots__ = ("end", "predicate")
    resource: WatchState[T]

    def __init__(self, end: WatchReceiver[T], predicate: Callable[[T], object]) -> None:
        super().__init__(end._state)
        self.end = end
        self.predicate = predicate

    def begin(self, task: Task[Any]) -> bool:
        self.task = task
        state = self.resource
        if state.mutex is None:
            state.check_home(task.host)
        while True:
            version = state.current[1]
            if self.poll():
                self.state = DONE
                return True
            if state.mutex is None:
                parked = self._park(version)
            else:
                with state.mutex:
                    parked = self._park(version)
            if parked:
                return False

    def poll(self) -> bool:
        state, end = self.resource, self.end
        if end._seat is None:
            raise end._closed_error()
        value, version = state.current
        if self.predicate(value):
            end._seen = version
            self.value = value
            return True
        if not state.senders and state.current[1] == version:
            raise state.ended()
        return False

    def _park(self, version: int) -> bool:
        """Join the queue, unless there is a newer value than the one looked at."""
        state = self.resource
        if state.current[1] != version:
            return False
        self.state = PARKED
        self.register()
        return True

    def see(self, version: int) -> None:
        """Being told is only a hint; what was seen is decided in the task."""

    def register(self) -> None:
        state = self.resource
        state.parked.add(self)
        if not state.senders and self in state.parked:
            state.parked.discard(self)
            self.fail(self.at_end())

    def unregister(self) -> None:
        self.resource.parked.discard(self)

    def at_end(self) -> Exception:
        """As for ``Changed``."""
        return self.resource.ended()

    def describe(self) -> str:
        return f"wait_for on {self.resource.describe()}" + unused(self, self.resource.senders, "sender")


class WatchSender(End, Generic[T]):
    """The end that sets the value. With the last one closed, waiting for a change raises ``EndOfStream``."""

    __slots__ = ()
    word = "sender"
    _state: WatchState[T]

    def send(self, value: T) -> None:
        """Set the value and wake who waits for a change. It never waits, so it is not awaited.

        Raises ``Closed`` if this end is closed. That nobody listens is no error: a later subscriber sees the value.
        """
        self._use()
        state = self._state
        if state.mutex is None:
            state.put(value)
        else:
            with state.mutex:
                state.put(value)

    def modify(self, fn: Callable[[T], T]) -> T:
        """Set the value to ``fn(value)``, as one step even where threads share the watch; returns the new value.

        ``fn`` must be quick, and not touch this watch. What it raises is raised here, and the value stays.
        """
        self._use()
        state = self._state
        if state.mutex is None:
            value = fn(state.current[0])
            state.put(value)
        else:
            with state.mutex:
                value = fn(state.current[0])
                state.put(value)
        return value

    def get(self) -> T:
        """The latest value."""
        return self._state.current[0]

    def subscribe(self) -> WatchReceiver[T]:
        """A new receiver; the present value counts as seen by it."""
        self._check()
        return _new_receiver(self._state, user_site(sys._getframe(1)), self._state.current[1])

    def clone(self) -> WatchSender[T]:
        """Another sender of the same watch, with a life of its own."""
        self._check()
        return _new_sender(self._state, user_site(sys._getframe(1)))

    def statistics(self) -> WatchStatistics:
        """How many values were sent, how many ends are open, how many tasks wait."""
        return self._state.statistics()

    def _gone(self, seat: Seat) -> None:
        state = self._state
        state.senders.pop(seat, None)
        if not state.senders:
            op: Any = state.parked.pop()
            while op is not None:
                op.fail(op.at_end())
                op = state.parked.pop()


class WatchReceiver(End, Generic[T]):
    """The end that looks. It remembers which value it has seen last; ``clone`` it for a memory of its own.

    ``async for value in rx`` begins with the present value and goes on with each change, until every sender is closed.
    """

    __slots__ = ("_seen",)
    word = "receiver"
    _state: WatchState[T]

    def __init__(self, state: WatchState[T], site: Site, seen: int) -> None:
        super().__init__(state, site)
        self._seen = seen

    def get(self) -> T:
        """The latest value. It does not count as seen by that. Not a cancellation point."""
        return self._state.current[0]

    @property
    def has_changed(self) -> bool:
        """Whether ``changed()`` would return at once."""
        return self._state.current[1] != self._seen

    def changed(self) -> Changed[T]:
        """Await it: the latest value, as soon as it is one that this receiver has not seen. Then it counts as seen.

        A cancellation point; cancelled, nothing counts as seen. Raises ``EndOfStream`` once every sender is closed and
        the last value was seen, ``Closed`` if this receiver is closed.
        """
        return Changed(self)

    def wait_for(self, predicate: Callable[[T], object]) -> WaitFor[T]:
        """Await it: the first value, the present one included, for which ``predicate(value)`` is true; it counts as seen.

        Values that are replaced before this task runs are not asked about. A cancellation point, without effect when
        cancelled. Raises what ``predicate`` raises, and otherwise as ``changed`` does.
        """
        return WaitFor(self, predicate)

    def clone(self) -> WatchReceiver[T]:
        """Another receiver that has seen what this one has."""
        self._check()
        return _new_receiver(self._state, user_site(sys._getframe(1)), self._seen)

    def statistics(self) -> WatchStatistics:
        """How many values were sent, how many ends are open, how many tasks wait."""
        return self._state.statistics()

    def _gone(self, seat: Seat) -> None:
        state = self._state
        state.receivers.pop(seat, None)
        fail_own(state.parked, self)

    def __aiter__(self) -> WatchReceiver[T]:
        self._seen = -1
        return self

    def __anext__(self) -> NextChange[T]:
        return NextChange(self)


def _new_sender(state: WatchState[T], site: Site) -> WatchSender[T]:
    end: WatchSender[T] = WatchSender(state, site)
    seat = end._seat
    assert seat is not None
    state.senders[seat] = None
    return end


def _new_receiver(state: WatchState[T], site: Site, seen: int) -> WatchReceiver[T]:
    end: WatchReceiver[T] = WatchReceiver(state, site, seen)
    seat = end._seat
    assert seat is not None
    state.receivers[seat] = None
    return end


class watch(tuple[WatchSender[T], WatchReceiver[T]]):  # noqa: N801  # called like a function; takes [T]
    """``tx, rx = watch(initial)``: the two ends of a value that changes. ``tx.send(x)``, ``await rx.changed()``.

    It is a pair, so unpack it. Its type is that of ``initial``, or what is written in brackets: ``watch[int | None](None)``.
    """

    __slots__ = ()

    def __new__(cls, initial: T, *, name: str | None = None, flavour: Flavour | None = None) -> Self:
        """Make one. ``name`` is for messages and tools; ``flavour`` is ``"local"``, ``"shared"``, or by context."""
        state: WatchState[T] = WatchState(initial, name, flavour)
        site = user_site(sys._getframe(1))
        return super().__new__(cls, (_new_sender(state, site), _new_receiver(state, site, 0)))
