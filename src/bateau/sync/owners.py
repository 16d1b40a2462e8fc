"""Who holds a lock: a task, or a plain thread by its ident; and how to learn that a holder has ended."""

from __future__ import annotations

import sys
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from ..kernel.current import current_task_or_none
from ..kernel.operation import Operation
from ..kernel.task import Task

Owner: TypeAlias = Task[Any] | int

# Held while the first watcher makes a task's ``at_end``: two shared locks may do so from two threads.
_making = allocate_lock()


def caller() -> Owner:
    """The running task, or the ident of this thread where no task runs."""
    task = current_task_or_none()
    return task if task is not None else get_ident()


def owner_of(op: Operation[Any]) -> Owner:
    """For whom ``op`` acquires: its task, or (see ``wait_in_thread``) this very thread."""
    task = op.task
    return task if task is not None else get_ident()


def name_of(owner: Owner) -> str:
    """For messages: ``task 'name'`` or ``thread 'name'``."""
    if not isinstance(owner, int):
        return f"task {owner.name!r}"
    threading = sys.modules.get("threading")
    thread = threading._active.get(owner) if threading is not None else None
    return f"thread {thread.name!r}" if thread is not None else f"thread {owner}"


def tasks_among(*owners: Owner | None) -> tuple[Task[Any], ...]:
    """Those of ``owners`` that are tasks."""
    return tuple(owner for owner in owners if owner is not None and not isinstance(owner, int))


def has_ended(owner: Owner) -> bool:
    """Whether the holder is known to have ended. Plain threads are not known."""
    return not isinstance(owner, int) and owner.ended


def watch_end(owner: Owner, key: object, fn: Callable[[Task[Any]], None]) -> None:
    """Call ``fn(owner)`` when the task ends, until ``unwatch_end``. A task that ended already is the caller's to see:
    ask ``has_ended`` *after* this call.
    """
    if isinstance(owner, int):
        return
    if owner.at_end is None:
        made: dict[
            object, Callable[[Task[Any]], None]
        ] = {}  # before the look: making it may run the collector, and that anything
        with _making:
            if owner.at_end is None:
                owner.at_end = made
    calls = cast("dict[object, Callable[[Task[Any]], None]] | None", owner.at_end)
    if calls is None or key in calls:  # None: it has just ended, on its own thread
        return
    calls[key] = fn
    if owner.coro is None and not owner.ended:  # adopted from foreign code: its host has to be asked
        host = owner.host
        if host.thread_id == get_ident():
            host.watch_end(owner)
        else:
            try:
                host.call_threadsafe(lambda: host.watch_end(owner))
            except RuntimeError:  # its loop has ended, and so has it
                owner.finish(None, None)


def unwatch_end(owner: Owner, key: object) -> None:
    """Undo ``watch_end``."""
    if not isinstance(owner, int) and owner.at_end is not None:
        owner.at_end.pop(key, None)
