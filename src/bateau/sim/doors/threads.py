"""Doors of ``threading``, ``_thread``, ``queue``, executors and bateau's own pool: see ``sim/threads``."""

from __future__ import annotations

import concurrent.futures.thread
import logging
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...runtimes import registry
from .. import watchdog
from ..thread import ENDED, here
from ..threads import adopting, executors, table
from ..threads.locks import Lock, RLock, new_lock, new_rlock
from ..threads.queues import SimpleQueue
from ..threads.table import table_of
from . import at_opening, at_shutting, door, stand_in, standing
from .dates import RealDate, RealDateTime, date, datetime

if TYPE_CHECKING:
    from ..world import World

# -- locks ---------------------------------------------------------------------------------------------------------------


class LockType:
    """What stands for ``threading.Lock`` and ``RLock``: called it makes a lock, of the world or a real one; and ``isinstance`` holds for both."""

    def __init__(self, real: Any, make: Callable[..., Any], kinds: tuple[type, ...]) -> None:
        self.real = real
        self.make = make
        self.kinds = kinds
        self.__name__ = self.__qualname__ = getattr(real, "__name__", "lock")
        self.__module__ = getattr(real, "__module__", "_thread")
        self.__doc__ = getattr(real, "__doc__", None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        world = here.world
        return self.make(world, self.real(*args, **kwargs) if world is None else None)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.kinds)

    def __or__(self, other: Any) -> Any:
        return self.kinds[0] | other

    def __ror__(self, other: Any) -> Any:
        return other | self.kinds[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __repr__(self) -> str:
        return repr(self.real)


_PLAIN, _REENTRANT = (type(threading.Lock()), Lock), (type(threading.RLock()), RLock)
for _module, _attribute in (
    ("_thread", "allocate_lock"), ("_thread", "allocate"), ("_thread", "lock"), ("threading", "Lock"),
    ("threading", "_allocate_lock"),
):  # fmt: skip
    _real = getattr(sys.modules[_module], _attribute, None)
    if _real is not None:
        stand_in(_module, _attribute, LockType(_real, new_lock, _PLAIN))
for _module, _attribute in (("_thread", "RLock"), ("threading", "RLock")):
    stand_in(_module, _attribute, LockType(getattr(sys.modules[_module], _attribute), new_rlock, _REENTRANT))


@door("threading:Event", "is_set", "isSet")
def is_set(world: World, event: Any) -> bool:
    world.point()
    return bool(event._flag)


# -- threads -------------------------------------------------------------------------------------------------------------


@door("threading:Thread", "start")
def start(world: World, thread: Any) -> None:
    if not thread._initialized:
        raise RuntimeError("thread.__init__() not called")
    if thread._started._flag:
        raise RuntimeError("threads can only be started once")
    table_of(world).start(thread)
    world.point()


@door("threading:Thread", "join")
def join(world: World, thread: Any, timeout: float | None = None) -> None:
    if not thread._initialized:
        raise RuntimeError("Thread.__init__() not called")
    if not thread._started._flag:
        raise RuntimeError("cannot join thread before it is started")
    mine = table_of(world)
    if thread is mine.of(world.thread):
        raise RuntimeError("cannot join current thread")
    mine.join(thread, timeout)


@door("threading:Thread", "is_alive")
def is_alive(world: World, thread: Any) -> bool:
    assert thread._initialized, "Thread.__init__() not called"
    if not thread._started._flag:
        return False
    if thread.__dict__.get(table._ATTRIBUTE) is None:
        return bool(table.real_is_alive(thread))
    world.point()
    found = table.sim_of(thread, world)
    return found is not None and found.state is not ENDED


@door("threading", "current_thread", "currentThread")
def current_thread(world: World) -> threading.Thread:
    return table_of(world).of(world.thread)


@door("threading", "main_thread")
def main_thread(world: World) -> threading.Thread:
    return table_of(world).main()


@door("threading", "enumerate")
def enumerate_threads(world: World) -> list[threading.Thread]:
    mine = table_of(world)
    mine.main()
    return [mine.known[thread] for thread in sorted(mine.known, key=lambda thread: thread.number)]


@door("threading", "active_count", "activeCount")
def active_count(world: World) -> int:
    return len(enumerate_threads(world))


@door("threading", "get_ident")
@door("_thread", "get_ident")
def get_ident(world: World) -> int:
    return world.thread.ident


@door("threading", "get_native_id")
@door("_thread", "get_native_id")
def get_native_id(world: World) -> int:
    return world.thread.native_id


@door("threading", "_newname")
def new_name(world: World, template: str = "Thread-%d") -> str:
    return template % table_of(world).next(template)


@door("_thread", "start_new_thread", "start_new")
def start_new_thread(
    world: World, fn: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> int:
    thread = table_of(world).start_raw(fn, args, kwargs or {})
    world.point()
    return thread.ident


@door("_thread", "start_joinable_thread")
def start_joinable_thread(world: World, fn: Callable[[], object], handle: Any = None, daemon: bool = True) -> Any:
    started = threading.Thread(target=fn, daemon=daemon)
    made = table.SimHandle(table_of(world).start(started))
    world.point()
    return made


@door("_thread", "_count")
def count(world: World) -> int:
    return len(world.thread.process.threads) - 1


@door("sys", "_current_frames")
def current_frames(world: World) -> dict[int, Any]:
    real = _current_frames()
    return {thread.ident: real[thread.os_ident] for thread in world.thread.process.threads if thread.os_ident in real}


_current_frames = sys._current_frames

# -- queues and pools ----------------------------------------------------------------------------------------------------

stand_in("queue", "SimpleQueue", SimpleQueue)
stand_in("_queue", "SimpleQueue", SimpleQueue)

_EXECUTOR = "concurrent.futures.thread:ThreadPoolExecutor"


@door(_EXECUTOR, "__init__")
def executor_init(
    world: World, executor: Any, max_workers: int | None = None, thread_name_prefix: str = "", *args: Any, **kwargs: Any
) -> None:
    executors.real_init(executor, max_workers, thread_name_prefix, *args, **kwargs)
    executors.prepare(table_of(world), executor, named=bool(thread_name_prefix))


@door(_EXECUTOR, "submit")
def executor_submit(world: World, executor: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return executors.real_submit(executors.own(table_of(world), executor), fn, *args, **kwargs)


@door(_EXECUTOR, "shutdown")
def executor_shutdown(world: World, executor: Any, *args: Any, **kwargs: Any) -> None:
    executors.real_shutdown(executors.own(table_of(world), executor), *args, **kwargs)


@door("bateau.thread.pool", "submit")
def submit(world: World, job: Callable[[], None]) -> None:
    table_of(world).submit(job)
    world.point()


@door("bateau.thread.pool", "idle_workers")
def idle_workers(world: World) -> int:
    return len(table_of(world).idle)


# -- block_on ------------------------------------------------------------------------------------------------------------


class OpenLoops:
    """What stands for the thread-local ``bateau.blocking._state``: a simulated thread's loops are its own, and end with it."""

    def __init__(self, real: Any) -> None:
        self.__dict__["_real"] = real

    @property
    def sessions(self) -> Any:
        """The loops that are open on the calling thread, or None."""
        world = here.world
        return self.__dict__["_real"].sessions if world is None else table_of(world).sessions.get(world.thread)

    def __setattr__(self, name: str, value: Any) -> None:
        world = here.world
        if world is None:
            setattr(self.__dict__["_real"], name, value)
        elif value is None:
            table_of(world).sessions.pop(world.thread, None)
        else:
            table_of(world).sessions[world.thread] = value


def _blocking_state() -> Any:
    from ... import blocking

    return blocking._state


stand_in("bateau.blocking", "_state", OpenLoops(_blocking_state()))


@door("bateau.blocking", "_close_at_exit")
def close_at_exit(world: World) -> None:
    """A simulated thread closes its loops itself."""
    jobs = sys.modules.get("bateau.thread.jobs")
    if jobs is not None and jobs.in_worker():
        from ... import blocking

        jobs.state.at_end = blocking.close_thread


_get_runtime = registry.get


@door("bateau.runtimes.registry", "get")
def get_runtime(world: World, name: Any = None) -> Any:
    """Where a program names no runtime, it is the world's."""
    return _get_runtime("sim" if name is None else name)


# -- logging: its locks are adopted; in what is left of a world that has ended, nothing is said any more --------------------

_handle = logging.Logger.handle


@door("logging:Logger", "handle")
def handle(world: World, logger: logging.Logger, record: logging.LogRecord) -> None:
    if not world.closed:
        _handle(logger, record)


def _adopt() -> None:
    methods = (RealDateTime, datetime, ("now", "utcnow", "today")), (RealDate, date, ("today",))
    bound = {(real, name): getattr(stands, name) for real, stands, names in methods for name in names}
    adopting.adopt(standing(), bound)


at_opening(table.note_hook)
at_opening(_adopt)
at_shutting(adopting.give_back)
at_opening(watchdog.start)
at_shutting(watchdog.stop)
assert concurrent.futures.thread is not None
