"""Event: a flag that tasks can wait for."""

from __future__ import annotations

from typing import NamedTuple

from ..kernel.operation import Operation
from ..kernel.resource import Flavour
from ..kernel.twin import EventFields, EventWaitFields, slots, twinned
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
        return _Wait(self)

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

    def poll(self) -> bool:
        self.value = self.resource._flag
        return self.resource._flag

    # All who wait for one event wait alike: who tells of very many need not ask each.
    described_alike = True

    def describe(self) -> str:
        return f"wait for {self.resource.describe()}"
