"""Barrier: a number of tasks wait for each other, then go on together.

It mirrors ``threading.Barrier``, but for one thing: a wait that is cancelled or timed out leaves without a trace instead
of breaking the barrier for the others, as every wait here does. Whoever wants it broken calls ``abort()``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..kernel.operation import Operation
from ..kernel.resource import Flavour
from .base import QueuedWait, SyncPrimitive, check_count
from .errors import BrokenBarrierError


class BarrierStatistics(NamedTuple):
    """The state of a ``Barrier`` at one moment."""

    parties: int
    tasks_waiting: int
    broken: bool


class Barrier(SyncPrimitive):
    """``parties`` tasks that wait here are released together; then it can be used again.

    ``action``, a sync function, is called by the last to arrive, before any is released. If it raises, the barrier is
    broken: the others get ``BrokenBarrierError``. Raises ``ValueError`` for ``parties`` below 1.
    """

    __slots__ = ("_broken", "action", "parties")
    kind = "barrier"

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        *,
        name: str | None = None,
        flavour: Flavour | None = None,
    ) -> None:
        super().__init__(name=name, flavour=flavour)
        self.parties = check_count(parties, "parties", 1)
        if action is not None and not callable(action):
            raise TypeError(f"action must be a sync function, not {type(action).__name__}")
        self.action = action
        self._broken = False

    def wait(self) -> Operation[int]:
        """Wait until all have come. Gives each a different number from 0 to ``parties - 1``, in the order of coming.

        A cancellation point; cancelled, it had no effect: the others wait on for one more. Raises ``BrokenBarrierError`` if the
        barrier is or gets broken. Not for ``select``: the whole crowd can't commit to an arm that may not be chosen.
        """
        return _Wait(self)

    def reset(self) -> None:
        """Make it new: who waits gets ``BrokenBarrierError``, who comes next waits for a full crowd. Never suspends."""
        with self._transition():
            self._broken = False
            self._turn_away("was reset while waiting")

    def abort(self) -> None:
        """Break it: who waits and who comes later gets ``BrokenBarrierError``, until ``reset()``. Never suspends."""
        with self._transition():
            self._broken = True
            self._turn_away("was aborted")

    def _turn_away(self, why: str) -> None:
        while (op := self._queue.pop()) is not None:
            op.fail(self._error(why))

    def _error(self, why: str) -> BrokenBarrierError:
        return BrokenBarrierError(f"{self.describe()} {why}")

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return len(self._queue)

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._broken

    def statistics(self) -> BarrierStatistics:
        """Parties, how many wait, and whether it is broken."""
        return BarrierStatistics(self.parties, len(self._queue), self._broken)

    def _fill(self) -> str:
        return f" ({len(self._queue)}/{self.parties} have come{', broken' if self._broken else ''})"


class _Wait(QueuedWait):
    """Waiting for the others."""

    __slots__ = ()
    resource: Barrier

    def poll(self) -> bool:
        barrier = self.resource
        if barrier._broken:
            raise barrier._error("is broken; reset() makes it usable again")
        if len(barrier._queue) < barrier.parties - 1:
            return False
        if barrier.action is not None:
            try:
                barrier.action()
            except BaseException:
                barrier._broken = True
                barrier._turn_away("is broken: its action failed")
                raise
        number = 0
        while (op := barrier._queue.pop()) is not None:
            op.fire(number)
            number += 1
        self.value = number
        return True

    def register(self) -> None:
        if self.watcher is not None and self.task is not None:
            raise TypeError("a barrier can't be an arm of select; give select a function that waits for it")
        super().register()

    def describe(self) -> str:
        return f"wait for {self.resource.describe()}"
