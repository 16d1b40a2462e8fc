"""``cleanup(seconds).run(fn)``: in a task of its own, so that a native cancellation of the caller can't cut it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .current import current_task
from .errors import Cancelled, TaskCancelled
from .leaving import ShieldedJoin
from .policy import Policy
from .scope import Scope

if TYPE_CHECKING:
    from .cleanup import Cleanup
    from .task import Task

T = TypeVar("T")


class _Handled(Policy):
    """The one child's outcome is passed on by hand."""

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        return True


async def run_protected(budget: Cleanup, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    """Run ``fn(*args)`` to its end or to the budget's."""
    caller = current_task()
    native: Cancelled | None = None
    with budget:
        async with Scope(name="cleanup", policy=_Handled(), site=budget.site) as scope:
            child: Task[T] = scope.spawn(fn, *args)
            while not child.ended:
                try:
                    await ShieldedJoin(child)
                except Cancelled as exc:
                    native = native or exc
                except BaseException:  # the child's own error: it is raised below, once native cancels are settled
                    break
    if native is not None:
        caller.host.rearm(caller, native)
    try:
        return child.outcome().unwrap()
    except TaskCancelled:
        if budget.record is not None:
            raise TimeoutError(f"{budget.record.reason} [{budget.site[0]}:{budget.site[1]}]") from None
        raise
