"""Which task is running on this thread.

``tls.running.task`` is set by the kernel's own engine for the length of each step and is None otherwise. Code that runs in a
foreign task (adopted or owned on a foreign loop) is found by the finders that the bridges register; the kernel knows
them only as functions.
"""

from __future__ import annotations

from _thread import _local
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import NotInRuntime
from .twin import RunningFields, native, slots

if TYPE_CHECKING:
    from .host import Host
    from .task import Task


Finder = Callable[[], "Task[Any] | None"]


class Running(RunningFields):
    """What runs on one thread. An object of its own because an engine sets it twice for each step: looked up once per turn,
    that costs next to nothing, where setting an attribute of a thread-local object costs 70 ns.

    Invariant: ``task`` is not None exactly while a kernel-driven task's coroutine is being resumed on this thread.
    """

    __slots__ = slots("task")

    def __init__(self) -> None:
        self.task: Task[Any] | None = None


class _ThreadState(_local):
    def __init__(self) -> None:  # called once in each thread
        self.running = Running()

    @property
    def task(self) -> Task[Any] | None:
        """``running.task``, a little slower."""
        return self.running.task

    @task.setter
    def task(self, task: Task[Any] | None) -> None:
        self.running.task = task


tls = _ThreadState()

# Who found the last foreign task, on any thread. Asked first, and only a hint: at most one of them finds something at a time.
_hint: Finder | None = None
# What else to say where nothing runs: set in a forked child until it starts a program of its own.
forked = ""
# Each returns the bateau record of the foreign task now running on this thread, or None.
finders: list[Finder] = []


def _take_hint(find: Finder | None) -> None:
    global _hint
    _hint = find
    if native is not None:
        native.keep("finder", find)


def forget_hint() -> None:
    """A finder has been taken out: ask each again."""
    _take_hint(None)


def current_task_or_none() -> Task[Any] | None:
    """The running task, or None outside any."""
    task = tls.running.task
    return task if task is not None else _find()


def current_task() -> Task[Any]:
    """The running task. Raises ``NotInRuntime`` outside any."""
    task = tls.running.task
    return task if task is not None else foreign_task()


def foreign_task() -> Task[Any]:
    """``current_task`` for those who have looked at ``tls`` already."""
    if _hint is not None:  # every operation on a foreign loop comes by here, so this is not left to the call below
        task = _hint()
        if task is not None:
            return task
    task = _find()
    if task is None:
        raise NotInRuntime(
            "this must be awaited inside a running program: start one with bateau.run(main), "
            f"or await it in a plain asyncio or trio task{forked}"
        )
    return task


def _find() -> Task[Any] | None:
    if _hint is not None:
        task = _hint()
        if task is not None:
            return task
    for index, find in enumerate(finders):
        task = find()
        if task is not None:
            _take_hint(finders[index])  # not ``find``, which may have put a faster one in its place
            return task
    return None


def current_host() -> Host:
    """The host that runs the current task. Raises ``NotInRuntime`` outside any."""
    return current_task().host
