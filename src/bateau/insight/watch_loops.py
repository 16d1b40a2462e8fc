"""The loops that are running in this process, found from a thread of their own, whoever started them.

bateau's own hosts are known; a plain asyncio or trio program is found by the frames of its loop on the stack of the thread that it runs
on. Nothing is put into a loop to watch it. Everything here is called on the watcher's thread, while the loops go on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Any

from ..kernel.engine import Engine
from ..kernel.errors import PACKAGE_DIR
from ..kernel.explain import all_tasks
from ..kernel.host import Host
from ..kernel.task import Task
from ..runtimes import forking

# Where a loop of each kind waits for the world: the innermost frame, as (end of the file's name, function).
_WAITING = (
    ("selectors.py", "select"),
    ("trio/_core/_io_epoll.py", "get_events"),
    ("trio/_core/_io_kqueue.py", "get_events"),
)
_RUNTIMES = PACKAGE_DIR + "runtimes"
_RUNNERS = "asyncio/runners.py"


class WatchedLoop:
    """One running loop. ``source`` is the object that it is known by."""

    kind = "loop"

    def __init__(self, source: Any, thread_id: int) -> None:
        self.source = source
        self.thread_id = thread_id

    def is_over(self) -> bool:
        """Whether it has ended."""
        raise NotImplementedError

    def ping(self, answer: Callable[[], None]) -> None:
        """Have the loop call ``answer`` when it next gets around to it. Raises ``RuntimeError`` if it has ended."""
        raise NotImplementedError

    def pairs(self) -> Iterable[tuple[Task[Any] | None, Any]]:
        """Its tasks: bateau's record, and the loop's own task, either of which may be None."""
        raise NotImplementedError

    def current(self) -> Any:
        """The loop's own task whose step is under way, if the loop can tell; else None."""
        return None

    def is_waiting(self, frame: FrameType | None) -> bool:
        """Whether the loop, whose thread's innermost frame this is, waits for the world."""
        if frame is None:
            return False
        code = frame.f_code
        if code.co_filename.startswith(_RUNTIMES) or (code.co_name == "run" and code.co_filename.endswith(_RUNNERS)):
            return True  # a loop written in C has no frame of its own: this is who started it
        return any(code.co_name == name and code.co_filename.endswith(end) for end, name in _WAITING)


class EngineLoop(WatchedLoop):
    """bateau's own engine, with the asyncio tasks of its asyncio side."""

    kind = "bateau"
    source: Engine

    def is_over(self) -> bool:
        return self.source.is_closed()

    def ping(self, answer: Callable[[], None]) -> None:
        self.source.call_threadsafe(answer)

    def pairs(self) -> Iterable[tuple[Task[Any] | None, Any]]:
        found: list[tuple[Task[Any] | None, Any]] = [
            (task, None) for task in _tolerant(lambda: all_tasks(self.source.roots)) if not task.ended
        ]
        aio = self.source.aio
        if aio is not None:
            known = {id(task) for task, _ in found}
            found += [pair for pair in _asyncio_pairs(aio.loop) if pair[0] is None or id(pair[0]) not in known]
        return found


class AsyncioLoop(WatchedLoop):
    """Any asyncio loop, bateau's tasks riding on it or not."""

    kind = "asyncio"

    def is_over(self) -> bool:
        return bool(self.source.is_closed() or not self.source.is_running())

    def ping(self, answer: Callable[[], None]) -> None:
        self.source.call_soon_threadsafe(answer)

    def pairs(self) -> Iterable[tuple[Task[Any] | None, Any]]:
        return _asyncio_pairs(self.source)

    def current(self) -> Any:
        with suppress(RuntimeError):
            return sys.modules["asyncio"].current_task(self.source)
        return None


class TrioLoop(WatchedLoop):
    """A run of trio's: ``source`` is its runner."""

    kind = "trio"

    def __init__(self, source: Any, thread_id: int) -> None:
        super().__init__(source, thread_id)
        self.ended = False

    def is_over(self) -> bool:
        return self.ended

    def ping(self, answer: Callable[[], None]) -> None:
        try:
            self.source.entry_queue.run_sync_soon(answer)
        except Exception as error:  # trio.RunFinishedError
            self.ended = True
            raise RuntimeError("the trio run has ended") from error

    def pairs(self) -> Iterable[tuple[Task[Any] | None, Any]]:
        records = getattr(sys.modules.get("bateau.runtimes.trio_helpers"), "records", {})
        system = self.source.system_nursery
        return [
            (records.get(id(native)), native)
            for native in _tolerant(lambda: tuple(self.source.tasks))
            if native.parent_nursery is not system
            and native is not self.source.init_task
            and native.name != "<TrioToken.run_sync_soon task>"
        ]

    def current(self) -> Any:
        return None  # trio keeps it for its own thread


def _asyncio_pairs(loop: Any) -> list[tuple[Task[Any] | None, Any]]:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return []
    natives = _tolerant(lambda: tuple(asyncio.all_tasks(loop)))
    return [(getattr(native, "_bateau", None), native) for native in natives]


def _tolerant(read: Callable[[], Any]) -> Any:
    """What ``read`` returns, or nothing at all where the loop changes it under our hands each time."""
    for _ in range(3):
        with suppress(RuntimeError):
            return read()
    return ()


def running_loops(frames: dict[int, FrameType], own_thread: int) -> list[WatchedLoop]:
    """The loops that run now; ``frames`` has each thread's innermost one."""
    found: dict[int, WatchedLoop] = {}
    for host in _tolerant(lambda: tuple(forking._hosts)):
        loop = _of_host(host)
        if loop is not None and loop.thread_id in frames and not loop.is_over():
            found.setdefault(id(loop.source), loop)
    for thread_id, frame in frames.items():
        if thread_id != own_thread:
            for loop in _on_stack(thread_id, frame):
                found.setdefault(id(loop.source), loop)
    return list(found.values())


def _of_host(host: Host) -> WatchedLoop | None:
    if isinstance(host, Engine):
        return EngineLoop(host, host.thread_id)
    loop = getattr(host, "loop", None)
    return AsyncioLoop(loop, host.thread_id) if loop is not None and not hasattr(loop, "bateau_domain") else None


def _on_stack(thread_id: int, frame: FrameType) -> Iterable[WatchedLoop]:
    at: FrameType | None = frame
    while at is not None:
        name, filename = at.f_code.co_name, at.f_code.co_filename
        if name == "run_forever" and filename.endswith("asyncio/base_events.py"):
            loop = at.f_locals.get("self")
            if loop is not None and not hasattr(loop, "bateau_domain"):
                yield AsyncioLoop(loop, thread_id)
        elif name == "run" and filename.endswith("asyncio/runners.py"):
            loop = getattr(at.f_locals.get("self"), "_loop", None)
            if loop is not None and loop.is_running():
                yield AsyncioLoop(loop, thread_id)  # uvloop's ``run_forever`` has no frame
        elif name in ("run", "unrolled_run") and filename.endswith("trio/_core/_run.py"):
            runner = at.f_locals.get("runner")
            if runner is not None:
                yield TrioLoop(runner, thread_id)
        at = at.f_back
