"""Notify: waking one task, or all, with at most one wake-up kept for later.

It carries no state of its own: the protected state lives elsewhere, and is looked at again after each wake-up. Two
``notify_one()`` before anybody waits are one, so a waiter that loops over "look, then wait" misses nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..kernel.operation import Operation
from ..kernel.resource import Flavour
from .base import QueuedWait, SyncPrimitive

# What a waiter was woken by. A closed coroutine hands the wake-up of ``notify_one`` on: it was meant for somebody.
_ONE, _ALL = "one", "all"


class NotifyStatistics(NamedTuple):
    """The state of a ``Notify`` at one moment."""

    permit: bool
    tasks_waiting: int


class Notify(SyncPrimitive):
    """Wakes tasks. One wake-up is stored while nobody waits; it is used up by the next ``wait()``."""

    __slots__ = ("_permit",)
    kind = "notify"

    def __init__(self, *, name: str | None = None, flavour: Flavour | None = None) -> None:
        super().__init__(name=name, flavour=flavour)
        self._permit = False

    def notify_one(self) -> None:
        """Wake the task that has waited longest; if none waits, let the next ``wait()`` return at once. Never suspends."""
        with self._transition():
            self._notify()

    def notify_all(self) -> None:
        """Wake all who wait now. Stores nothing for those who come later. Never suspends."""
        with self._transition():
            while (op := self._queue.pop()) is not None:
                op.fire(_ALL)

    def _notify(self) -> None:
        op = self._queue.pop()
        if op is None:
            self._permit = True
        else:
            op.fire(_ONE)

    def wait(self) -> Operation[None]:
        """Wait to be notified. A cancellation point; cancelled, it had no effect, and no wake-up is lost."""
        return _Wait(self)

    def statistics(self) -> NotifyStatistics:
        """Whether a wake-up is stored, and how many tasks wait."""
        return NotifyStatistics(self._permit, len(self._queue))

    def _fill(self) -> str:
        return f" ({'one wake-up stored' if self._permit else 'nothing stored'}{self._waiting()})"


class _Wait(QueuedWait):
    """Waiting to be notified."""

    __slots__ = ("by",)
    resource: Notify

    def poll(self) -> bool:
        stored = self.resource._permit
        self.resource._permit = False
        return stored

    def fire(self, value: Any = None) -> None:
        self.by = value
        super().fire(None)

    def undo(self, value: Any) -> None:
        if self.by is _ONE:
            notify = self.resource
            if notify.mutex is None:
                notify._notify()
            else:
                with notify.mutex:
                    notify._notify()

    def describe(self) -> str:
        return f"wait for {self.resource.describe()}"
