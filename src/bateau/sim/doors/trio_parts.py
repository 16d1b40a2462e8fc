"""What trio took by name when it was imported, where no door can stand.

It keeps idle worker threads for the whole interpreter: one of a world that has ended would never run again, so each simulated
process has a cache of its own. It names threads by ``pthread_setname_np``, which takes a real thread's number: a simulated one would
crash the interpreter. It took the methods of ``socket.socket`` out of the class. And it shuffles its tasks with a generator of its own:
in a world their order is a choice, and they are sorted before it, since some come out of sets.
"""

from __future__ import annotations

import socket
import sys
from types import ModuleType
from typing import Any

from ..thread import here
from . import at_opening, at_shutting, importing

_THREADS, _SOCKETS, _RUN = "trio._core._thread_cache", "trio._socket", "trio._core._run"
_PART = "trio's threads"


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


# (owner, attribute, what was there)
_kept: list[tuple[Any, str, Any]] = []


def _put(owner: Any, attribute: str, thing: Any) -> None:
    _kept.append((owner, attribute, getattr(owner, attribute)))
    setattr(owner, attribute, thing)


def _replace_cache(module: ModuleType) -> None:
    names: Any = module
    _put(names, "THREAD_CACHE", _Caches(names.THREAD_CACHE))
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


class _Order:
    """Stands for trio's generator: shuffles the tasks that are ready, which are sorted by their age."""

    def __init__(self, outside: Any) -> None:
        self.outside = outside

    def shuffle(self, batch: list[Any]) -> None:
        """Outside any world at random; in it as is chosen, by default not at all."""
        world = here.world
        if world is None:
            self.outside.shuffle(batch)
            return
        stream = f"tasks {world.thread.process.name}"
        for index in range(len(batch) - 1):
            chosen = world.choose(stream, len(batch) - index)
            if chosen:
                batch.insert(index, batch.pop(index + chosen))

    def uniform(self, least: float, most: float) -> float:
        """Where trio's clock begins: the same in each run, since a time is rounded by its size."""
        world = here.world
        found = self.outside if world is None else world.random(f"random {world.thread.process.name}")
        return float(found.uniform(least, most))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.outside, name)


def _replace_order(module: ModuleType) -> None:
    names: Any = module
    _put(names, "_r", _Order(names._r))
    _put(names, "_ALLOW_DETERMINISTIC_SCHEDULING", True)


_replacements = {_THREADS: _replace_cache, _SOCKETS: _replace_helper, _RUN: _replace_order}


def _open() -> None:
    for name, replace in _replacements.items():
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            replace(module)


def _shut() -> None:
    while _kept:
        owner, attribute, thing = _kept.pop()
        setattr(owner, attribute, thing)


at_opening(_open)
at_shutting(_shut)
importing.executed.update(_replacements)
