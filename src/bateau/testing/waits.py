"""Who waits on what, for a test that did not end: bateau's tasks, and those of asyncio and trio beside them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, cast

from ..kernel.cancellation import CancelNode
from ..kernel.errors import PACKAGE_DIR
from ..kernel.explain import all_tasks, describe_wait, find_cycle, suspended_at
from ..kernel.host import Host
from ..kernel.task import Task


class _Seen:
    """A task as ``kernel.explain`` looks at it, for tasks whose coroutine belongs to another loop."""

    def __init__(self, name: str, coro: Any, waiting: Any = None) -> None:
        self.name = name
        self.coro = coro
        self.waiting = waiting

    def as_task(self) -> Task[Any]:
        return cast("Task[Any]", self)


def who_waits(host: Host, roots: Iterable[CancelNode], main: Any = None) -> str:
    """What every task on ``host`` waits for, a line or more for each. ``main``: the coroutine that the main task is in."""
    everybody = [task for task in all_tasks(roots) if not task.ended]
    tasks = [task for task in everybody if not _is_idle(task)]
    lines: list[str] = []
    cycle = find_cycle(tasks)
    if cycle:
        ring = " -> ".join(repr(task.name) for task in [*cycle, cycle[0]])
        lines.append(f"a ring of waits: {ring}")
    for task in tasks:
        if task.coro is None:
            task = _Seen(task.name, main if main is not None else _foreign_coro(task), task.waiting).as_task()
        lines.append(describe_wait(task))
    lines += _foreign(host, everybody)
    return "\n".join(f"  {line}" for line in lines)


def _is_idle(task: Task[Any]) -> bool:
    """Whether it waits for the runner: a fixture, for its tests to end; the runner's main task, for one of them."""
    return task.waiting is not None and getattr(task.waiting.resource, "idle", False)


def _foreign_coro(task: Task[Any]) -> Any:
    get = getattr(task.host_task, "get_coro", None)
    return get() if get is not None else getattr(task.host_task, "coro", None)


def loop_of(host: Host) -> Any:
    """The asyncio loop that ``host`` rides on or is, or None."""
    aio = getattr(host, "aio", None)
    return getattr(host, "loop", None) if aio is None else aio.loop


def asyncio_tasks(host: Host) -> list[Any]:
    """The tasks that foreign code made on the host's asyncio loop, and that have not ended."""
    asyncio = sys.modules.get("asyncio")
    loop = loop_of(host)
    if asyncio is None or loop is None:
        return []
    found = [task for task in asyncio.all_tasks(loop) if isinstance(task, asyncio.Task)]
    # Children of our scopes are asyncio's tasks as well, where asyncio drives.
    return [task for task in found if not _is_ours(task)]


def _is_ours(native: Any) -> bool:
    ours: Any = getattr(native, "_bateau", None)
    return ours is not None and (ours.scope is not None or ours.background)


def _foreign(host: Host, tasks: list[Task[Any]]) -> Iterator[str]:
    known = {id(task.host_task) for task in tasks}
    for native in sorted(asyncio_tasks(host), key=lambda task: str(task.get_name())):
        if id(native) not in known:
            ours: Any = getattr(native, "_bateau", None)
            waiting = ours.waiting if ours is not None else None
            yield _line("asyncio", native.get_name(), native.get_coro(), waiting, getattr(native, "_fut_waiter", None))
    if host.name == "trio":
        for native in _trio_tasks():
            yield _line("trio", native.name, native.coro, None, None)


def _line(library: str, name: str, coro: Any, waiting: Any, waiter: Any) -> str:
    seen = _Seen(name, coro, waiting).as_task()
    if waiting is not None:
        return describe_wait(seen)
    site = suspended_at(seen)
    where = f" at {site[0]}:{site[1]} in {site[2]}" if site is not None else ""
    what = f" waits: {waiter!r}" if waiter is not None else " waits"
    return f"{library} task {name!r}{where}{what}"


def _trio_tasks() -> Iterator[Any]:
    """Trio's tasks that are nobody's of ours: those of nurseries that users opened."""
    trio: Any = sys.modules["trio"]
    todo: list[Any] = [trio.lowlevel.current_root_task()]
    for native in todo:
        for nursery in native.child_nurseries:
            todo.extend(nursery.child_tasks)
        code = getattr(native.coro, "cr_code", None)
        file = code.co_filename if code is not None else ""
        its_own = native.name.startswith("<") and file.startswith(trio.__path__[0])
        if not its_own and not file.startswith(PACKAGE_DIR):
            yield native
