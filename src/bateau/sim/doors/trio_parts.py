"""What trio took by name when it was imported, where no door can stand.

It keeps idle worker threads for the whole interpreter: one of a world that has ended would never run again, so each simulated
process has a cache of its own. It names threads by ``pthread_setname_np``, which takes a real thread's number: a simulated one would
crash the interpreter. And it took the methods of ``socket.socket`` out of the class.
"""

from __future__ import annotations

import queue
import socket
import sys
from itertools import count
from types import ModuleType
from typing import Any

from ..thread import here
from . import at_opening, at_shutting, importing

_THREADS, _SOCKETS = "trio._core._thread_cache", "trio._socket"
_WORKERS, _FACTORY = "trio._threads", "__attr_factory_queue"
_PART = "trio's threads"


class _Numbers:
    """Stands for trio's count of its threads, by which it names them: each simulated process has its own."""

    def __init__(self, outside: Any) -> None:
        self.outside = outside

    def __next__(self) -> int:
        world = here.world
        counts = self.outside
        if world is not None:
            counts = world.thread.process.parts.setdefault(_PART + ", counted", count())
        return int(next(counts))


class _Caches:
    """Stands for ``THREAD_CACHE``: the real one outside any world, else the process's own."""

    def __init__(self, outside: Any) -> None:
        self.outside = outside

    def start_thread_soon(self, *args: Any, **kwargs: Any) -> None:
        """As ``ThreadCache.start_thread_soon``."""
        world = here.world
        cache = self.outside
        if world is not None:
            parts = world.thread.process.parts
            cache = parts.get(_PART)
            if cache is None:
                cache = parts[_PART] = type(self.outside)()
        cache.start_thread_soon(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.outside, name)


# (owner, attribute, what was there), and the dictionaries that had another queue's class.
_kept: list[tuple[Any, str, Any]] = []
_kept_items: list[tuple[dict[str, Any], Any]] = []


def _put(owner: Any, attribute: str, thing: Any) -> None:
    _kept.append((owner, attribute, getattr(owner, attribute)))
    setattr(owner, attribute, thing)


def _replace_cache(module: ModuleType) -> None:
    names: Any = module
    _put(names, "THREAD_CACHE", _Caches(names.THREAD_CACHE))
    _put(names, "name_counter", _Numbers(names.name_counter))
    set_name = names.set_os_thread_name
    if set_name is not None:

        def name_thread(ident: int | None, name: str) -> None:
            if here.world is None:
                set_name(ident, name)

        _put(names, "set_os_thread_name", name_thread)


def _replace_helper(module: ModuleType) -> None:
    names: Any = module
    attempt = names._SocketType._nonblocking_helper

    def helper(self: Any, wait_fn: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """The same attempt, with the method that the class has now."""
        return attempt(self, wait_fn, getattr(socket.socket, fn.__name__, fn), *args, **kwargs)

    _put(names._SocketType, "_nonblocking_helper", helper)


def _new_queue() -> Any:
    """Of the class that stands in ``queue`` now."""
    made: Any = queue.SimpleQueue
    return made()


def _replace_queues(module: ModuleType) -> None:
    """Between a worker thread and trio goes a queue, whose class ``attrs`` has written into the ``__init__`` that it made."""
    names: Any = module
    for owner in (names.Run, names.RunSync):
        made: dict[str, Any] = owner.__init__.__globals__
        if made.get(_FACTORY) is not None:
            _kept_items.append((made, made[_FACTORY]))
            made[_FACTORY] = _new_queue


_replacements = {_THREADS: _replace_cache, _SOCKETS: _replace_helper, _WORKERS: _replace_queues}


def _open() -> None:
    for name, replace in _replacements.items():
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            replace(module)


def _shut() -> None:
    while _kept:
        owner, attribute, thing = _kept.pop()
        setattr(owner, attribute, thing)
    while _kept_items:
        made, factory = _kept_items.pop()
        made[_FACTORY] = factory


at_opening(_open)
at_shutting(_shut)
importing.executed.update(_replacements)
