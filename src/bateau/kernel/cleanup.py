"""Cleanup budgets (law 7): time to finish what must be finished, and no more than that."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
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

    __slots__ = ("outer",)

    def __init__(self, seconds: float, *, site: tuple[str, int] | None = None) -> None:
        super().__init__(seconds=seconds, shield=True, site=site or user_site(sys._getframe(1)))
        if check_seconds(seconds) is None:
            raise TypeError("cleanup needs a number of seconds: a budget without an end is no budget")
        # The budget around, if its time is up before ours would be: then we end with it, on its account.
        self.outer: Cleanup | None = None

    def _enter(self) -> None:
        task = current_task()
        assert self.relative is not None
        self.deadline_at = task.host.now() + self.relative
        outer = _nearest_budget(task.node)
        if outer is not None and outer.deadline_at is not None and outer.deadline_at <= self.deadline_at:
            self.deadline_at = outer.deadline_at
            self.outer = outer
        enter(self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        # What ended is the outer budget: the cancellation goes on to its block.
        return super().__exit__(exc_type, exc, tb) and self.outer is None

    async def run(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts) -> T:
        """Run ``fn(*args)`` to its end within the budget, even if foreign code cancels this task natively meanwhile.

        Returns its value or raises its error; a cancellation that came meanwhile is raised at the next wait.
        """
        from .protected import run_protected

        return await run_protected(self, fn, args)

    def _expire(self) -> None:
        task = self.task
        if self.outer is not None:
            if self.outer.record is None:
                self.outer._expire()
        elif task is not None and self.record is None:
            waiting = task.waiting.describe() if task.waiting is not None else "running or in a foreign wait"
            report(
                "cleanup_overrun",
                f"the cleanup of task {task.name!r} used up its budget of {self.relative:g} s; it was at: {waiting}",
                self.site,
            )
        super()._expire()

    def _deadline_record(self) -> CancelRecord:
        return CancelRecord(f"cleanup budget of {self.relative or 0:g} s used up", site=self.site)


def _nearest_budget(node: CancelNode | None) -> Cleanup | None:
    """The innermost budget around ``node``; it has the least time of all, because none ever extends another."""
    while node is not None:
        if isinstance(node, Cleanup):
            return node
        node = node.parent
    return None
