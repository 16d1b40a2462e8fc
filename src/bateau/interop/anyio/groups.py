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
from anyio.abc._tasks import call_for_coroutine, get_callable_name, get_coro_name  # pyright: ignore[reportUnknownVariableType]  # partly annotated

from ...kernel.cancellation import CancelScope as KernelScope
from ...kernel.current import current_task
from ...kernel.errors import Cancelled, CancelRecord
from ...kernel.operation import FIRED, NextTurn, Operation
from ...kernel.policy import Policy
from ...kernel.scope import Scope
from ...kernel.shielding import set_shield
from ...kernel.starting import Starting
from ...kernel.task import Task
from .info import starters
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
    """anyio's ``task_status`` over the kernel's. Until ``started``, the cancellations of the group stay outside the ``gate``."""

    __slots__ = ("gate", "starting")

    def __init__(self, starting: Starting[Any], gate: KernelScope) -> None:
        self.starting = starting
        self.gate = gate

    def started(self, value: Any = None) -> None:
        """See ``anyio.abc.TaskStatus.started``."""
        if self.starting.is_started:
            raise RuntimeError("called 'started' twice on the same task status")
        self.starting.started(value)
        set_shield(self.gate, False)


_NEXT_TURN = NextTurn()


class _Starting(Starting[Any]):
    """The kernel's, with the words of anyio's other backends."""

    __slots__ = ()

    def child_ended(self, error: BaseException | None, cancelled: bool) -> None:
        if error is None or cancelled:
            error = RuntimeError("child exited without calling task_status.started()")
        super().child_ended(error, False)


class Turn(Operation[None]):
    """Await it: lets the others run once, without looking at cancellation.

    It is granted as it is parked: the task is queued behind those that are ready, and no cancellation finds anything to abort.
    """

    __slots__ = ()
    shielded = True
    selectable = False

    def __init__(self) -> None:
        super().__init__(_NEXT_TURN)

    def register(self) -> None:
        task = self.task
        assert task is not None
        self.state = FIRED
        task.host.wake(task)

    def unregister(self) -> None:
        """It is never in a queue of ours."""


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
        errors = self._failures.errors
        if failure is not None:
            errors.append(failure)
        alone = not self._scope.tasks
        try:
            if alone:
                await Turn()  # leaving a task group lets the others run, also where there is nobody to wait for
            absorbed = bool(await self._scope.__aexit__(type(body) if body is not None else None, body, exc_tb))
            if failure is not None:
                raise grouped(errors) from None
            return absorbed
        except BaseException as error:
            if alone and body is None and isinstance(error, Cancelled) and error.record is not None:
                _leave_for_later(self._scope)
                return False
            if error is not body and errors and not _is_of(error, errors):
                raise grouped([*errors, error]) from None
            raise
        finally:
            self._active = False
            self._failures.errors = []
            del exc_val, exc_tb, cancelled, failure, body, errors  # a traceback holds this frame: cycles otherwise

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
        starting = _Starting()
        gate = KernelScope(shield=True)
        coro = call_for_coroutine(func, args, task_status=TaskStatus[Any](starting, gate))
        handle: TaskHandle[Any, Any] = TaskHandle(coro, get_callable_name(func, name), CancelScope())
        task = self._task(handle, None, gate)
        starters(task.host)[task] = current_task()
        task.starting = starting
        starting.child = task
        self._scope._admit(task, False)
        try:
            value = await starting.wait()
        except BaseException:
            task.starting = None
            if not task.ended:
                gate.cancel("the wait for its start was cancelled")
                await self._scope._wait_for_end(task)
            raise
        finally:
            starters(task.host).pop(task, None)
        if return_handle:
            handle._start_value = value
            return handle
        return value

    def _check_active(self, coro: Coroutine[Any, Any, Any] | None = None) -> None:
        if not self._active:
            if coro is not None:
                coro.close()
            raise RuntimeError("This task group is not active; no new tasks can be started.")

    def _task(
        self, handle: TaskHandle[Any, Any], context: Context | None, gate: KernelScope | None = None
    ) -> Task[Any]:
        host = self._scope._host
        assert host is not None
        if context is None:
            context = copy_context()
        mark_context(context)
        coro = handle._run_coro() if gate is None else _gated(gate, handle)
        return Task(host, coro, scope=self._scope, name=handle.name, site=outer_site(), context=context)


async def _gated(gate: KernelScope, handle: TaskHandle[Any, Any]) -> None:
    """A task that is being started is in its starter's hands: the group's cancellations reach it from ``started`` on."""
    with gate:
        await handle._run_coro()


def _leave_for_later(scope: Scope) -> None:
    """Leaving an empty group is no checkpoint for anyio: the cancellation that was raised there comes at the next one."""
    task = scope.task
    if task is not None:
        task.delivered = None


def _is_of(error: BaseException, errors: list[BaseException]) -> bool:
    """Whether ``error`` is the group of exactly these."""
    return list(getattr(error, "exceptions", ())) == errors
