"""Which task is running on this thread.

``tls.task`` is set by the kernel's own engine for the length of each step and is None otherwise. Code that runs in a
foreign task (adopted or owned on a foreign loop) is found by the finders that the bridges register; the kernel knows
them only as functions.
"""

from __future__ import annotations

from _thread import _local
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import NotInRuntime

if TYPE_CHECKING:
    from .host import Host
    from .task import Task


class _ThreadState(_local):
    # Invariant: not None exactly while a kernel-driven task's coroutine is being resumed on this thread.
    task: Task[Any] | None = None


tls = _ThreadState()

Finder = Callable[[], "Task[Any] | None"]
# Asked in order, each returns the bateau record of the foreign task now running on this thread, or None.
finders: list[Finder] = []


def current_task_or_none() -> Task[Any] | None:
    """The running task, or None outside any."""
    task = tls.task
    if task is not None:
        return task
    for find in finders:
        task = find()
        if task is not None:
            return task
    return None


def current_task() -> Task[Any]:
    """The running task. Raises ``NotInRuntime`` outside any."""
    task = tls.task
    if task is not None:
        return task
    task = current_task_or_none()
    if task is None:
        raise NotInRuntime(
            "this must be awaited inside a running program: start one with bateau.run(main), "
            "or await it in a plain asyncio or trio task"
        )
    return task


def current_host() -> Host:
    """The host that runs the current task. Raises ``NotInRuntime`` outside any."""
    return current_task().host
