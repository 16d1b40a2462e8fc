"""How a supervised task is run again, at once or after a while, under the same handle. See ``policy.Supervise``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .coroutines import as_coroutine
from .errors import CancelRecord

if TYPE_CHECKING:
    from .scope import Scope
    from .task import Task


def restart(scope: Scope, task: Task[Any], delay: float) -> None:
    """For supervision: run the task's function again, ``delay`` seconds from now, under the same handle.

    A task whose restart is delayed keeps its place under ``limit``. Asked to stop meanwhile, it is given up.
    """
    fn, args, context = task.factory
    error = task._error
    task.coro = as_coroutine(fn, args)
    task.send = None
    task.context = context.copy()
    task._error = None
    task.ended = False
    task.started = False
    task.node = task
    assert scope.children is not None
    scope.children[task] = None
    if delay:
        if scope._delayed is None:
            scope._delayed = {}
        scope._delayed[task] = task.host.call_at(task.host.now() + delay, lambda: hurry(scope, task))
        if not task.background:
            scope._running += 1
        if scope.on_stop_calls is None:
            scope.on_stop_calls = []
        scope.on_stop_calls.append(lambda: _give_up(scope, task, error))
    else:
        if not task.background:
            scope._running += 1
        scope._launch(task)


def hurry(scope: Scope, task: Task[Any]) -> None:
    """A delayed restart is due, or must not be waited for any longer."""
    timer = scope._delayed.pop(task, None) if scope._delayed else None
    if timer is not None:
        timer.cancel()
        scope._launch(task)


def _give_up(scope: Scope, task: Task[Any], error: BaseException | None) -> None:
    """The scope is stopping: a task that waits for its restart ends here, with the error it last failed with."""
    timer = scope._delayed.pop(task, None) if scope._delayed else None
    if timer is None:
        return
    timer.cancel()
    if task.coro is not None:
        task.coro.close()
    if error is not None:
        scope._errors.append(error)
    task.finish(None, task.host.new_cancelled(scope.stopping or CancelRecord("asked to stop", site=scope.site)))
