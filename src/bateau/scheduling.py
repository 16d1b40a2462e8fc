"""Scheduling policies: which ready task runs next. Priorities, as the worked example of writing your own.

A policy is any object with ``push``, ``pop`` and ``__len__`` (see ``bateau.kernel.engine.SchedulingPolicy``). Give a runtime
the class, or any function that makes one, since each run needs a queue of its own::

    bateau.run(main, runtime=NativeRuntime(policy=PriorityPolicy))
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from .kernel.task import Task


class PriorityPolicy:
    """Ready tasks run by ``task.priority``, the highest first; equals run first in, first out.

    It is strict: a task waits while any task of a higher priority is ready, so urgent tasks should be short. A task's
    priority counts at the moment it becomes ready; changing it later takes effect at its next wake.
    """

    __slots__ = ("_order", "_ready")

    def __init__(self) -> None:
        self._ready: list[tuple[int, int, Task[Any]]] = []
        self._order = 0  # ties are broken by age, and tasks are never compared

    def push(self, task: Task[Any]) -> None:
        """``task`` became ready."""
        self._order += 1
        heappush(self._ready, (-task.priority, self._order, task))

    def pop(self) -> Task[Any]:
        """Take out the oldest of the most urgent."""
        return heappop(self._ready)[2]

    def __len__(self) -> int:
        return len(self._ready)
