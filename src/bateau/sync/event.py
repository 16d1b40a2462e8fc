"""Event: a flag that tasks can wait for."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..kernel.current import tls
from ..kernel.operation import DONE, NEW, Operation
from ..kernel.resource import Flavour
from ..kernel.twin import EventFields, EventWaitFields, native, slots, twinned
from .base import QueuedWait, SyncPrimitive


class EventStatistics(NamedTuple):
    """The state of an ``Event`` at one moment."""

    is_set: bool
    tasks_waiting: int


@twinned("is_set", "set", "clear", "wait")
class Event(EventFields, SyncPrimitive):
    """A flag, false at first. ``set()`` wakes everybody who waits; those who wait later go straight on, until ``clear()``."""

    __slots__ = slots("_flag")
    kind = "event"

    def __init__(self, *, name: str | None = None, flavour: Flavour | None = None) -> None:
        super().__init__(name=name, flavour=flavour)
        self._flag = False

    def is_set(self) -> bool:
        """Whether the flag is true."""
        return self._flag

    def set(self) -> None:
        """Make the flag true and wake all who wait, even if it is cleared again before they run. Never suspends."""
        with self._transition():
            self._flag = True
            while (op := self._queue.pop()) is not None:
                op.fire(True)

    def clear(self) -> None:
        """Make the flag false: who waits from now on, waits for the next ``set()``."""
        with self._transition():
            self._flag = False

    def wait(self) -> Operation[bool]:
        """Wait until the flag is true; gives True. A cancellation point; cancelled, it had no effect."""
        op = _Wait()
        op.resource = self
        op.state = NEW
        op.value = op.error = op.task = op.watcher = None
        return op

    def statistics(self) -> EventStatistics:
        """The flag, and how many tasks wait."""
        return EventStatistics(self._flag, len(self._queue))

    def _fill(self) -> str:
        return f" ({'set' if self._flag else 'not set'}{self._waiting()})"


@twinned(final=True, known_as="event wait")
class _Wait(EventWaitFields, QueuedWait):
    """Waiting for the flag."""

    __slots__ = ()
    resource: Event

    if not TYPE_CHECKING:
        # ``Event.wait`` sets every field itself, for half of the price of an ``__init__``.
        __init__ = object.__init__
    else:

        def __init__(self) -> None: ...

    def poll(self) -> bool:
        self.value = self.resource._flag
        return self.resource._flag

    # All who wait for one event wait alike: who tells of very many need not ask each.
    described_alike = True

    if TYPE_CHECKING or native is None:  # the twin has one for all operations

        def __await__(self) -> Generator[Any, Any, bool]:
            """The base's, with a short way for a local event that is set."""
            event = self.resource
            task = tls.running.task
            if (
                task is not None
                and event._flag
                and event._home is task.host
                and event.mutex is None
                and self.state is NEW
                and task.node.effective is None
                and task.budget > 0
            ):
                task.budget -= 1
                self.state = DONE
                return True
            return (yield from Operation.__await__(self))  # type: ignore[no-any-return]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # the base's is of whatever

    def describe(self) -> str:
        return f"wait for {self.resource.describe()}"
