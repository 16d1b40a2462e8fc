"""Cleanup budgets (law 7): time to finish what must be finished, and no more than that."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

from .cancellation import CancelNode, CancelScope, check_seconds, enter
from .current import current_task
from .errors import CancelRecord, user_site
from .hazard import report

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Seconds a scope gives to what was deferred, unless told otherwise.
DEFAULT_BUDGET = 10.0


class Cleanup(CancelScope):
    """``async with cleanup(seconds):`` is shielded from cancellation for that long, then cancelled and reported.

    A nested budget never extends the one around it. Against native ``task.cancel()`` from foreign code use ``run``.
    """

    __slots__ = ()

    def __init__(self, seconds: float, *, site: tuple[str, int] | None = None) -> None:
        super().__init__(seconds=seconds, shield=True, site=site or user_site(sys._getframe(1)))
        if check_seconds(seconds) is None:
            raise TypeError("cleanup needs a number of seconds: a budget without an end is no budget")

    def _enter(self) -> None:
        task = current_task()
        now = task.host.now()
        assert self.relative is not None
        self.deadline_at = now + self.relative
        found: CancelNode | None = task.node
        while found is not None:  # the nearest budget around has the least time of all, by this same rule
            if isinstance(found, Cleanup):
                left = now if found.record is not None else found.deadline_at
                if left is not None:
                    self.deadline_at = min(self.deadline_at, left)
                break
            found = found.parent
        enter(self)

    async def run(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts) -> T:
        """Run ``fn(*args)`` to its end within the budget, even if foreign code cancels this task natively meanwhile.

        Returns its value or raises its error; a cancellation that came meanwhile is raised at the next wait.
        """
        from .protected import run_protected

        return await run_protected(self, fn, args)

    def _expire(self) -> None:
        task = self.task
        if task is not None and self.record is None:
            waiting = task.waiting.describe() if task.waiting is not None else "running or in a foreign wait"
            report(
                "cleanup_overrun",
                f"the cleanup of task {task.name!r} used up its budget of {self.relative:g} s; it was at: {waiting}",
                self.site,
            )
        super()._expire()

    def _deadline_record(self) -> CancelRecord:
        return CancelRecord(f"cleanup budget of {self.relative or 0:g} s used up", site=self.site)
