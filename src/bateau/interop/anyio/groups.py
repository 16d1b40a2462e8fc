"""anyio's task groups over bateau's scopes.

A task group is a ``Scope`` whose policy keeps every failure: anyio raises a group also where the body alone has failed, and
wraps ``SystemExit`` as anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Generic, TypeVar

from anyio import TaskHandle, abc
from anyio.abc._tasks import call_for_coroutine, get_callable_name, get_coro_name

from ...kernel.cancellation import make_cancelled
from ...kernel.current import current_task
from ...kernel.errors import CancelRecord
from ...kernel.operation import yield_once
from ...kernel.policy import Policy
from ...kernel.scope import Scope
from ...kernel.starting import Starting
from ...kernel.task import Task
from .library import mark_context
from .scopes import CancelScope, check_may_leave, outer_site, split

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class _AllFailures(Policy):
    """The first failure cancels the siblings; all are raised in one group at the end."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        error = task._error
        if error is not None and not task.was_cancelled:
            task.error_seen = True
            self.errors.append(error)
            cause = f"task {task.name!r} failed with {type(error).__name__}"
            scope._cancel(CancelRecord(cause, task_name=task.name, cause=error, site=task.spawn_site))
        return True

    def conclude(self, scope: Scope) -> BaseException | None:
        return grouped(self.errors) if self.errors else None


def grouped(errors: list[BaseException]) -> BaseException:
    """What anyio raises for several failures (or one)."""
    return BaseExceptionGroup("unhandled errors in a TaskGroup", errors)


class TaskStatus(Generic[T_contra]):
    """anyio's ``task_status`` over the kernel's."""

    __slots__ = ("starting",)

    def __init__(self, starting: Starting[Any]) -> None:
        self.starting = starting

    def started(self, value: Any = None) -> None:
        """See ``anyio.abc.TaskStatus.started``."""
        if self.starting.is_started:
            raise RuntimeError("called 'started' twice on the same task status")
        self.starting.started(value)


class Turn:
    """Await it: lets the others run once, without looking at cancellation."""

    __slots__ = ()

    def __await__(self) -> Any:
        return yield_once(current_task(), True)


class TaskGroup(abc.TaskGroup):
    """See ``anyio.abc.TaskGroup``. Invariant: ``_active`` from the entering of the block until all its tasks have ended."""

    def __init__(self) -> None:
        self._failures = _AllFailures()
        self._scope = Scope(name="task group", policy=self._failures, site=outer_site())
        self.cancel_scope = CancelScope(node=self._scope)
        self._active = False

    async def __aenter__(self) -> TaskGroup:
        if self._scope.task is not None:
            raise RuntimeError("TaskGroup cannot be entered more than once")
        await self._scope.__aenter__()
        self._active = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool:
        check_may_leave(self._scope)
        cancelled, failure = split(exc_val)
        body = failure if failure is not None else cancelled
        if not self._scope.tasks:
            await Turn()  # whoever leaves a task group lets the others run, also where there is nobody to wait for
        try:
            absorbed = bool(await self._scope.__aexit__(type(body) if body is not None else None, body, exc_tb))
        except BaseException as error:
            if error is not body and self._failures.errors and not _is_of(error, self._failures.errors):
                raise grouped([*self._failures.errors, error]) from None
            raise
        finally:
            self._active = False
        if failure is not None:
            raise grouped([failure, *self._failures.errors]) from None
        return absorbed

    # -- starting tasks --------------------------------------------------------------------------------------------------

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: object = None, context: Context | None = None
    ) -> TaskHandle[T]:
        if not isinstance(coro, Coroutine):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"expected a coroutine, got {coro.__class__.__qualname__}")
        self._check_active(coro)
        handle: TaskHandle[T] = TaskHandle(coro, get_coro_name(coro, name), CancelScope())
        self._scope._admit(self._task(handle, context), False)
        return handle

    async def start(
        self,
        func: Callable[..., Coroutine[Any, Any, Any]],
        *args: object,
        name: object = None,
        return_handle: bool = False,
    ) -> Any:
        self._check_active()
        starting: Starting[Any] = Starting()
        coro = call_for_coroutine(func, args, task_status=TaskStatus[Any](starting))  # pyright: ignore[reportUnknownVariableType]
        handle: TaskHandle[Any, Any] = TaskHandle(coro, get_callable_name(func, name), CancelScope())
        task = self._task(handle, None)
        task.starting = starting
        starting.child = task
        self._scope._admit(task, False)
        try:
            value = await starting.wait()
        except BaseException:
            task.starting = None
            if not task.ended:
                task.cancel("the wait for its start was cancelled")
                await self._scope._wait_for_end(task)
            raise
        if return_handle:
            handle._start_value = value
            return handle
        return value

    def _check_active(self, coro: Coroutine[Any, Any, Any] | None = None) -> None:
        if not self._active:
            if coro is not None:
                coro.close()
            raise RuntimeError("This task group is not active; no new tasks can be started.")

    def _task(self, handle: TaskHandle[Any, Any], context: Context | None) -> Task[Any]:
        host = self._scope._host
        assert host is not None
        if context is None:
            context = copy_context()
        mark_context(context)
        return Task(
            host, handle._run_coro(), scope=self._scope, name=handle.name, site=outer_site(), context=context
        )


def _is_of(error: BaseException, errors: list[BaseException]) -> bool:
    """Whether ``error`` is the group of exactly these."""
    return isinstance(error, BaseExceptionGroup) and list(error.exceptions) == errors
