"""anyio's view of bateau's tasks, and the wait until all others are blocked."""

from __future__ import annotations

from typing import Any

from anyio import TaskInfo as BaseTaskInfo

from ...kernel.current import current_task
from ...kernel.explain import all_tasks
from ...kernel.host import Host
from ...kernel.operation import Operation
from ...kernel.resource import OUTSIDE, Resource
from ...kernel.task import Task

_STARTERS = object()


def starters(host: Host) -> dict[Task[Any], Task[Any]]:
    """Who starts the tasks of ``host`` that are being started: their parent, until they are."""
    found: dict[Task[Any], Task[Any]] = host.run_vars.setdefault(_STARTERS, {})
    return found


class TaskInfo(BaseTaskInfo):
    """See ``anyio.TaskInfo``. It keeps the task's record, which is small once the task has ended."""

    __slots__ = ("_task",)

    def __init__(self, task: Task[Any]) -> None:
        starting = task.starting
        parent = task.scope.task if task.scope is not None else None
        if starting is not None and not starting.is_started:
            parent = starters(task.host).get(task, parent)
        coro: Any = task.coro
        super().__init__(id(task), id(parent) if parent is not None else None, task.name, coro)
        self._task = task

    def has_pending_cancellation(self) -> bool:
        return not self._task.ended and self._task.node.effective is not None


def running_tasks(host: Host) -> list[Task[Any]]:
    """The tasks of ``host`` that have not ended, parents before children."""
    roots: Any = getattr(host, "roots", ())
    return [task for task in all_tasks(roots) if task.started and not task.ended]


class _NextLook(Resource):
    __slots__ = ()
    kind = "the loop's next look at the world outside"

    def satisfiers(self) -> Any:
        return OUTSIDE


_NEXT_LOOK = _NextLook()


class _AfterPoll(Operation[None]):
    """Waits until the loop has polled once."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_NEXT_LOOK)

    def register(self) -> None:
        task = self.task
        assert task is not None
        task.host.call_soon(self._polled)

    def unregister(self) -> None:
        """The call finds that it has nothing to do."""

    def _polled(self) -> None:
        from ...kernel.operation import PARKED

        if self.state is PARKED:
            self.fire()


async def wait_all_blocked() -> None:
    """Wait until no task but this one is about to run, also after a look at what has come from outside."""
    me = current_task()
    quiet = 0
    while quiet < 2:
        await _AfterPoll()
        busy = any(task.scheduled for task in running_tasks(me.host) if task is not me)
        quiet = 0 if busy else quiet + 1
