"""Helper tasks in a trio run, which stay until the last task that may need them has ended.

Trio cancels its system tasks as soon as the main task has ended. Tasks of ours among them, and of others, may then be in
cleanups that are shielded from that and wait for timers, calls and descriptors. So who serves those is shielded as well, and a
keeper, which is not, ends them when nobody else is left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import trio

if TYPE_CHECKING:
    from ..kernel.task import Task

# The record of each trio task, by ``id``: an entry is removed before its trio task is freed. None stands for tasks that are
# not a program's: ours and trio's own helpers.
records: dict[int, Task[Any] | None] = {}
SYSTEM: Task[Any] | None = None
# Helpers and keepers of every run, from their spawning on: a keeper that waited for one that had not begun, or for another keeper, would
# wait for ever.
ours: WeakSet[trio.lowlevel.Task] = WeakSet()


def abort_always(_: Any) -> trio.lowlevel.Abort:
    """For waits that a cancellation may always end."""
    return trio.lowlevel.Abort.SUCCEEDED


class Helpers(trio.abc.Instrument):
    """The helpers of one run. An instrument only while the run ends, to hear who has ended.

    Invariants: ``_scopes`` has the shield of each helper that has begun and not ended. ``_keeper`` is set from the spawning of the
    first one until the run is ``_over``: a trio task that were held for longer would hold its run, and that the record of a main
    task, which leads here. ``_awaited`` is who the keeper waits for, parked with this object as ``custom_sleep_data``.
    """

    def __init__(self) -> None:
        self._scopes: dict[trio.lowlevel.Task, trio.CancelScope] = {}
        self._keeper: trio.lowlevel.Task | None = None
        self._awaited: trio.lowlevel.Task | None = None
        self._over = False

    def spawn(self, fn: Callable[..., Awaitable[object]], *args: object, name: str) -> trio.lowlevel.Task:
        """Run ``fn(*args)`` beside the run's tasks until it is cancelled. ``RuntimeError`` if the run takes no new tasks."""
        helper = trio.lowlevel.spawn_system_task(self._help, fn, args, name=name)
        ours.add(helper)
        if self._keeper is None and not self._over:
            self._keeper = trio.lowlevel.spawn_system_task(self._keep, name="bateau keeper of helpers")
            ours.add(self._keeper)
        return helper

    async def _help(self, fn: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        helper = trio.lowlevel.current_task()
        records[id(helper)] = SYSTEM
        with trio.CancelScope(shield=True) as scope:
            self._scopes[helper] = scope
            if self._over:
                scope.cancel()
            try:
                await fn(*args)
            finally:
                del self._scopes[helper]
                records.pop(id(helper), None)

    async def _keep(self) -> None:
        keeper = trio.lowlevel.current_task()
        records[id(keeper)] = SYSTEM
        try:
            await trio.lowlevel.wait_task_rescheduled(abort_always)
        except trio.Cancelled:
            await self._outlast(keeper)
        finally:
            records.pop(id(keeper), None)
            self._keeper = None
            self._over = True

    async def _outlast(self, keeper: trio.lowlevel.Task) -> None:
        trio.lowlevel.add_instrument(self)
        try:
            with trio.CancelScope(shield=True):
                while (other := self._other(keeper)) is not None:
                    self._awaited = other
                    keeper.custom_sleep_data = self
                    await trio.lowlevel.wait_task_rescheduled(abort_always)
        finally:
            self._awaited = None
            with suppress(RuntimeError):  # trio has crashed, and throws its tasks away
                trio.lowlevel.remove_instrument(self)
            self._over = True  # before the helpers hear of it: what they spawn now must end as well
            for scope in tuple(self._scopes.values()):
                scope.cancel()

    def _other(self, keeper: trio.lowlevel.Task) -> trio.lowlevel.Task | None:
        """A task that is no helper: another system task, or (a system task has crashed) the main task, whose nursery is inside."""
        root, own = trio.lowlevel.current_root_task(), keeper.parent_nursery
        assert root is not None and own is not None
        nurseries = root.child_nurseries
        for nursery in nurseries[nurseries.index(own) :]:
            for task in nursery.child_tasks:
                if task not in ours:
                    return task
        return None

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Told by trio. Only one task's end is waited for at a time: looking at all after each end would be quadratic."""
        keeper = self._keeper
        if task is self._awaited and keeper is not None and keeper.custom_sleep_data is self:
            self._awaited = None
            trio.lowlevel.reschedule(keeper)
