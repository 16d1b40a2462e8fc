"""The other end of ``scope.start``: how a child says that it is ready."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .operation import Operation
from .resource import Resource

if TYPE_CHECKING:
    from .task import Task

T = TypeVar("T")


class Starting(Resource, Generic[T]):
    """The ``task_status`` given to a child by ``scope.start``. Call ``started(value)`` once, when ready."""

    __slots__ = ("_op", "child", "error", "is_started", "value")
    kind = "start of a task"

    def __init__(self) -> None:
        self.child: Task[Any] | None = None
        self.is_started = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._op: WaitStarted[T] | None = None

    def started(self, value: T | None = None) -> None:
        """Tell the starter that this task is ready, with a value for it. Raises ``RuntimeError`` the second time."""
        if self.is_started:
            raise RuntimeError("task_status.started() was called before; it takes one call")
        self.is_started = True
        self.value = value
        op, self._op = self._op, None
        if op is not None:
            op.fire(value)

    def child_ended(self, error: BaseException | None, cancelled: bool) -> None:
        """The child ended without having started."""
        if error is None:
            error = RuntimeError("the task ended without calling task_status.started()")
        elif cancelled:
            error = RuntimeError("the task was cancelled before it called task_status.started()")
        self.error = error
        op, self._op = self._op, None
        if op is not None:
            op.fail(error)

    def wait(self) -> WaitStarted[T]:
        """The starter's wait. A cancellation point."""
        return WaitStarted(self)

    def waiters(self) -> Iterable[Operation[Any]]:
        return (self._op,) if self._op is not None else ()

    def satisfiers(self) -> Iterable[Task[Any]]:
        return (self.child,) if self.child is not None else ()

    def describe(self) -> str:
        return f"start of {self.child.describe()}" if self.child is not None else self.kind


class WaitStarted(Operation[T]):
    """Waiting for ``started()``."""

    __slots__ = ("starting",)

    def __init__(self, starting: Starting[T]) -> None:
        super().__init__(starting)
        self.starting = starting

    def poll(self) -> bool:
        starting = self.starting
        if starting.error is not None:
            self.error = starting.error
            return True
        self.value = starting.value
        return starting.is_started

    def register(self) -> None:
        self.starting._op = self

    def unregister(self) -> None:
        self.starting._op = None

    def describe(self) -> str:
        return f"wait for the {self.starting.describe()}"
