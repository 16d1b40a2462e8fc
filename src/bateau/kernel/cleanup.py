"""Cleanup budgets (law 7): time to finish what must be finished, and no more than that."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from .cancellation import CancelNode, CancelScope, check_seconds, enter
from .current import current_task
from .errors import CancelRecord, user_site
from .hazard import report

if TYPE_CHECKING:
    from .task import Task

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Seconds a scope gives to what was deferred, unless told otherwise.
DEFAULT_BUDGET = 10.0

_NO_BUDGET = "cleanup needs a number of seconds: a budget without an end is no budget"


class Cleanup(CancelScope):
    """``async with cleanup(seconds):`` is shielded from cancellation for that long, then cancelled and reported.

    A nested budget never extends the one around it. Against native ``task.cancel()`` from foreign code use ``run``.

    Invariant, while entered: ``deadline_at`` is the earlier of ``_own_end`` and the deadline of the nearest budget around; if it
    is the latter, ``outer`` is that budget, and else None.
    """

    __slots__ = ("_own_end", "_seconds", "outer")

    def __init__(self, seconds: float, *, site: tuple[str, int] | None = None) -> None:
        super().__init__(seconds=seconds, shield=True, site=site or user_site(sys._getframe(1)))
        if check_seconds(seconds) is None:
            raise TypeError(_NO_BUDGET)
        self._seconds = seconds
        self._own_end = 0.0
        # The budget around, if its time is up before ours would be: then we end with it, on its account.
        self.outer: Cleanup | None = None

    def _enter(self) -> Task[Any]:
        task = current_task()
        if self.relative is not None:
            self.deadline_at = task.host.now() + self.relative
        assert self.deadline_at is not None
        self._own_end = self.deadline_at
        self._fit_into(task.node)
        return enter(self, task)

    def _fit_into(self, around: CancelNode | None) -> None:
        """Establish the class's invariant; ``around`` is the node around this one."""
        outer = _nearest_budget(around)
        fits = outer is None or outer.deadline_at is None or outer.deadline_at > self._own_end
        self.outer = None if fits else outer
        self.deadline_at = self._own_end if outer is None or fits else outer.deadline_at

    def reschedule(self, when: float | None) -> None:
        if when is None:
            raise TypeError(_NO_BUDGET)
        outer, self.outer = self.outer, None  # should ``when`` be past, then it is this budget alone that is used up
        try:
            super().reschedule(when)
        except BaseException:
            self.outer = outer
            raise
        self._own_end = when
        todo: list[CancelNode] = [self] if self.task is not None else []
        for node in todo:  # from the outside in, so that each finds those around it in place
            if isinstance(node, Cleanup):
                node._move()
            todo.extend(node.children or ())

    def _move(self) -> None:
        """A budget around this one was moved, or this one."""
        self._sync()
        before = self.deadline_at
        self._fit_into(self.parent)
        if self.record is None and self.deadline_at != before and self.task is not None:
            self._disarm()
            self._arm(self.task.host)

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
        task, outer = self.task, self.outer
        if outer is not None:
            outer._disarm()  # due at the same time, and its timer has not come yet
            if outer.record is None:
                outer._expire()
        elif task is not None and self.record is None:
            waiting = task.waiting.describe() if task.waiting is not None else "running or in a foreign wait"
            report(
                "cleanup_overrun",
                f"the cleanup of task {task.name!r} used up its {self._title()}; it was at: {waiting}",
                self.site,
                task,
            )
        super()._expire()

    def _deadline_record(self) -> CancelRecord:
        return CancelRecord(f"cleanup {self._title()} used up", site=self.site)

    def _title(self) -> str:
        return f"budget of {self._seconds:g} s" + (", which was moved," if self.relative is None else "")


def _nearest_budget(node: CancelNode | None) -> Cleanup | None:
    """The innermost budget around ``node``; it has the least time of all, because none ever extends another."""
    while node is not None:
        if isinstance(node, Cleanup):
            return node
        node = node.parent
    return None
