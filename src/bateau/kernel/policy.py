"""Policies: what a scope makes of its children's outcomes. Objects, not flags; write your own by subclassing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import CancelRecord
from .hazard import report

if TYPE_CHECKING:
    from .scope import Scope
    from .task import Task


class Policy:
    """The base. One policy object serves one scope."""

    # Whether it may call ``scope.restart``: children then keep their function and arguments.
    restarts = False

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        """A child has ended. Return True if its error is dealt with (else the scope raises it at its end)."""
        return False

    def conclude(self, scope: Scope) -> BaseException | None:
        """All children have ended and none left an error: an error to raise anyway, or None."""
        return None


class AllMustSucceed(Policy):
    """The default: the first failure cancels the siblings and the body; the scope raises an ``ExceptionGroup``."""

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        error = task._error
        if error is not None and not task.was_cancelled:
            cause = f"task {task.name!r} failed with {type(error).__name__}"
            scope._cancel(CancelRecord(cause, task_name=task.name, cause=error, site=task.spawn_site))
        return False


class FirstSuccess(Policy):
    """The first child that returns wins (``result``); the others are cancelled. Errors count only if all fail."""

    def __init__(self) -> None:
        self.winner: Task[Any] | None = None
        self._failed: list[BaseException] = []

    @property
    def result(self) -> Any:
        """The winner's value; raises ``RuntimeError`` while there is none."""
        if self.winner is None:
            raise RuntimeError("no child has succeeded yet")
        return self.winner._value

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        error = task._error
        if error is None:
            if self.winner is None and not task.background:
                self.winner = task
                scope._cancel(
                    CancelRecord(f"task {task.name!r} succeeded first", task_name=task.name, site=task.spawn_site)
                )
        elif not task.was_cancelled:
            if not isinstance(error, Exception):
                return AllMustSucceed().child_ended(scope, task)
            task.error_seen = True
            self._failed.append(error)
        return True

    def conclude(self, scope: Scope) -> BaseException | None:
        if self.winner is None and self._failed:
            return BaseExceptionGroup(f"no task of {scope.describe()} succeeded", self._failed)
        return None


class Collect(Policy):
    """Failures cancel nobody and are not raised: look at each handle's ``outcome()``. Errors nobody looks at are reported."""

    def __init__(self) -> None:
        self._failed: list[Task[Any]] = []

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        error = task._error
        if error is not None and not task.was_cancelled:
            if not isinstance(error, Exception):
                return AllMustSucceed().child_ended(scope, task)
            self._failed.append(task)
        return True

    @property
    def errors(self) -> list[Exception]:
        """The failures so far, in order of their ends. Reading it counts as having looked."""
        for task in self._failed:
            task.error_seen = True
        return [task._error for task in self._failed if isinstance(task._error, Exception)]

    def __del__(self) -> None:
        for task in self._failed:
            if not task.error_seen:
                report(
                    "unretrieved_error",
                    f"task {task.name!r} failed with {task._error!r} and nobody looked",
                    task.spawn_site,
                )


class Supervise(Policy):
    """Restart a child that fails, up to ``max_restarts`` times within ``within`` seconds; then fail as the default does.

    Only children spawned as a function with arguments can be restarted; a failed coroutine object fails the scope.
    ``backoff`` seconds pass before each restart. The handle stays the same over restarts.
    """

    restarts = True

    def __init__(self, *, max_restarts: int = 3, within: float = 60.0, backoff: float = 0.0) -> None:
        if max_restarts < 0:
            raise ValueError(f"max_restarts must be 0 or more, not {max_restarts!r}")
        if not within > 0 or not backoff >= 0:
            raise ValueError("within must be more than 0 seconds and backoff 0 or more")
        self.max_restarts = max_restarts
        self.within = within
        self.backoff = backoff
        self.restarted = 0
        self._times: dict[Task[Any], list[float]] = {}

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        error = task._error
        if error is None or task.was_cancelled:
            self._times.pop(task, None)
            return False
        if isinstance(error, Exception) and task.factory is not None and scope.effective is None:
            now = task.host.now()
            times = [t for t in self._times.get(task, ()) if now - t < self.within]
            if len(times) < self.max_restarts and scope.stopping is None:
                self._times[task] = [*times, now]
                self.restarted += 1
                scope.restart(task, self.backoff)
                return True
            error.add_note(f"restarted {len(times)} times within {self.within:g} s; giving up")
        return AllMustSucceed().child_ended(scope, task)
