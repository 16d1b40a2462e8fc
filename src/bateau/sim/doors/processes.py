"""Doors of what a process is to itself (its number, its environment, its end), and of starting others by the system, which no world does."""

from __future__ import annotations

import atexit
import errno
import os
import platform
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ..errors import NotSimulated
from ..sites import STDLIB
from ..thread import here
from ..threads.table import table_of
from . import door, stand_in

if TYPE_CHECKING:
    from ..world import World

# What every simulated machine has, whatever the real one.
CPUS = 4


@door("os", "getpid")
def getpid(world: World) -> int:
    return world.thread.process.pid


@door("os", "getppid")
def getppid(world: World) -> int:
    """Whoever starts programs on the host."""
    return 1


@door("os", "getpgrp", "setsid")
def getpgrp(world: World) -> int:
    return world.thread.process.pid


@door("os", "getpgid", "getsid")
def getpgid(world: World, pid: int, /) -> int:
    return pid or world.thread.process.pid


@door("os", "cpu_count", "process_cpu_count")
def cpu_count(world: World) -> int:
    return CPUS


@door("os", "sched_getaffinity")
def sched_getaffinity(world: World, pid: int, /) -> set[int]:
    return set(range(CPUS))


@door("os", "getloadavg")
def getloadavg(world: World) -> tuple[float, float, float]:
    return 0.0, 0.0, 0.0


_uname = os.uname


@door("os", "uname")
def uname(world: World) -> os.uname_result:
    real = _uname()
    return os.uname_result((real.sysname, world.thread.process.host.name, real.release, real.version, real.machine))


_platform_uname = platform.uname


@door("platform", "uname")
def platform_uname(world: World) -> platform.uname_result:
    return _platform_uname()._replace(node=world.thread.process.host.name)


_names = cast("dict[str, Any]", vars(cast("Any", platform)._Processor))


class _Processor:
    """What stands for ``platform._Processor.get``, which asks a program: in a world there is nothing to say."""

    def __get__(self, instance: object, owner: type) -> Callable[[], str]:
        return _names["get"].__get__(instance, owner) if here.world is None else str


stand_in("platform:_Processor", "get", _Processor())


# -- the environment -------------------------------------------------------------------------------------------------------


class Environment(os._Environ[Any]):
    """What stands for ``os.environ``: in a world each process has one of its own, at first a copy of the real one."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.encodekey, self.decodekey = real.encodekey, real.decodekey
        self.encodevalue, self.decodevalue = real.encodevalue, real.decodevalue

    @property
    def _data(self) -> Any:
        world = here.world
        if world is None:
            return self._real._data
        process = world.thread.process
        data = process.parts.get("environ")
        if data is None:
            data = process.parts["environ"] = dict(self._real._data)
            for name, value in process.host.environ.items():
                data[os.fsencode(name)] = os.fsencode(value)
        return data

    def __setitem__(self, key: Any, value: Any) -> None:
        if here.world is None:
            self._real[key] = value
        else:
            self._data[self.encodekey(key)] = self.encodevalue(value)

    def __delitem__(self, key: Any) -> None:
        if here.world is None:
            del self._real[key]
            return
        try:
            del self._data[self.encodekey(key)]
        except KeyError:
            raise KeyError(key) from None


stand_in("os", "environ", Environment(os.environ))
if hasattr(os, "environb"):
    stand_in("os", "environb", Environment(os.environb))


@door("os", "putenv")
def putenv(world: World, key: Any, value: Any, /) -> None:
    """Told to C, of which no world knows: as in reality, ``os.environ`` does not change."""


@door("os", "unsetenv")
def unsetenv(world: World, key: Any, /) -> None:
    """See ``putenv``."""


# -- the end ---------------------------------------------------------------------------------------------------------------

_register, _unregister = atexit.register, atexit.unregister


def _is_the_interpreters(depth: int = 3) -> bool:
    """Whether the standard library asks, for the sake of the whole interpreter (``weakref.finalize``, ``multiprocessing``)."""
    return sys._getframe(depth).f_code.co_filename.startswith(STDLIB)


@door("atexit", "register")
def register(world: World, fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> Any:
    if _is_the_interpreters():
        return _register(fn, *args, **kwargs)
    table_of(world).at_exit.append((fn, args, kwargs))
    return fn


@door("atexit", "unregister")
def unregister(world: World, fn: Callable[..., object], /) -> None:
    if _is_the_interpreters():
        _unregister(fn)
        return
    table = table_of(world)
    table.at_exit = [entry for entry in table.at_exit if entry[0] != fn]


@door("os", "_exit")
def exit_at_once(world: World, status: int) -> None:
    world.thread.process.terminate(status & 0xFF, f"leaves by os._exit({status})")


@door("os", "abort")
def abort(world: World) -> None:
    world.thread.process.signal(6)
    world.before_call(world.thread)


# -- other programs --------------------------------------------------------------------------------------------------------


def _refuse(module: str, *functions: str) -> None:
    for function in functions:
        what = f"{module.replace(':', '.')}{'' if function == '__init__' else f'.{function}'}"

        @door(module, function)
        def refuse(world: World, *args: Any, _what: str = what, **kwargs: Any) -> Any:
            raise NotSimulated(
                f"{_what} would start a real process, which is not in the simulated world: start the program as a function with "
                "world.host(name).start(fn, *args), or run it before the world"
            )


_refuse(
    "os",
    "fork", "forkpty", "execv", "execve", "posix_spawn", "posix_spawnp", "spawnv", "spawnve", "spawnvp", "spawnvpe", "system",
)  # fmt: skip
_refuse("subprocess:Popen", "__init__")
_refuse("multiprocessing.process:BaseProcess", "start")
_refuse("pty", "fork", "spawn")


@door("os", "wait", "wait3")
def wait(world: World, *args: Any) -> Any:
    raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))


@door("os", "waitpid", "wait4", "waitid")
def waitpid(world: World, *args: Any) -> Any:
    raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
