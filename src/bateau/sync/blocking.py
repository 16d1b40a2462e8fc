"""Waiting for a shared primitive from a plain thread: the same operations, blocking."""

from __future__ import annotations

from _thread import allocate_lock
from typing import Any, TypeVar

from ..kernel.cancellation import check_seconds
from ..kernel.current import current_task_or_none
from ..kernel.errors import WrongRuntime
from ..kernel.operation import DONE, NEW, PARKED, Operation, Watcher

T = TypeVar("T")


def wait_in_thread(operation: Operation[T], timeout: float | None = None) -> T:
    """Do what ``await operation`` does, from a thread in which no runtime runs, and return its value.

    ``wait_in_thread(event.wait(), timeout=5)``. The resource must be of the ``shared`` flavour. ``timeout`` in seconds; None
    waits for ever. Raises ``TimeoutError`` (the operation had no effect), ``WrongRuntime`` for a local resource, and
    ``RuntimeError`` inside a running program, whose thread it would block: there, use ``await``.
    """
    if not isinstance(operation, Operation):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f"expected an operation such as event.wait() or lock.acquire(), not {type(operation).__name__}")
    if operation.state is not NEW:
        raise RuntimeError(f"this {type(operation).__name__} was used before; each call gives a single-use operation")
    operation.state = DONE  # spent, whatever follows: no complaint that it was never awaited
    check_seconds(timeout, "timeout")
    task = current_task_or_none()
    if task is not None:
        raise RuntimeError(
            f"wait_in_thread would block {task.host.describe()}, in which task {task.name!r} runs; use await instead"
        )
    mutex = operation.resource.mutex
    if mutex is None:
        raise WrongRuntime(
            f"{operation.describe()}: it is local to one runtime, and this thread has none; make it with flavour='shared'"
        )
    return _wait(operation, mutex, timeout)


def _wait(operation: Operation[T], mutex: Any, timeout: float | None) -> T:
    done = allocate_lock()
    done.acquire()
    with mutex:
        if not operation.poll():
            operation.watcher = _ThreadWatcher(done)
            operation.state = PARKED
            try:
                operation.register()
            except BaseException:
                operation.state = DONE
                raise
    if operation.state is PARKED:
        _block(operation, done, timeout)
    operation.state = DONE
    if operation.error is not None:
        error, operation.error = operation.error, None
        raise error
    value: T = operation.value
    return value


def _block(operation: Operation[Any], done: Any, timeout: float | None) -> None:
    try:
        fired = done.acquire(timeout=-1 if timeout is None else timeout)
    except BaseException:  # Ctrl-C while blocked
        if not operation.abort() and operation.error is None:
            operation.undo(operation.value)
        raise
    if not fired and operation.abort():
        raise TimeoutError(f"{operation.describe()}: not within {timeout:g} s")


class _ThreadWatcher(Watcher):
    """Wakes the blocked thread, where others wake a task."""

    __slots__ = ("done",)

    def __init__(self, done: Any) -> None:
        self.done = done

    def claim(self, op: Operation[Any] | None = None) -> bool:
        return True

    def fired(self, op: Operation[Any]) -> None:
        self.done.release()
