"""Doors of ``time``: the host's clocks instead of the machine's, and a sleep that lets virtual time pass.

Time stands still while a program computes, so one that waits in a loop for the clock would never see it go on: after many looks at the same
moment it does, a little. CPU clocks count what the world counts: steps and looks at clocks, a microsecond each.

While doors are open the time zone of the whole interpreter is UTC: much of Python asks C for local times, which no door can change.
"""

from __future__ import annotations

import os
import posix
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from . import at_opening, at_shutting, door

if TYPE_CHECKING:
    from ..world import World

CPU_SECONDS = 1e-6
# International atomic time is ahead of UTC by so many seconds, since 2017.
TAI_OFFSET = 37
_NS = 1_000_000_000


@door("time", "time")
def wall(world: World) -> float:
    world.look()
    return world.thread.process.host.clock.wall()


@door("time", "time_ns")
def wall_ns(world: World) -> int:
    return round(wall(world) * _NS)


@door("time", "monotonic", "perf_counter")
def monotonic(world: World) -> float:
    world.look()
    return world.thread.process.host.clock.monotonic()


@door("time", "monotonic_ns", "perf_counter_ns")
def monotonic_ns(world: World) -> int:
    return round(monotonic(world) * _NS)


@door("time", "process_time", "thread_time")
def cpu_time(world: World) -> float:
    world.look()
    return (world.steps + world.looks) * CPU_SECONDS


@door("time", "process_time_ns", "thread_time_ns")
def cpu_time_ns(world: World) -> int:
    return round(cpu_time(world) * _NS)


@door("os", "times")
def times(world: World) -> os.times_result:
    user = cpu_time(world)
    return os.times_result((user, 0.0, 0.0, 0.0, monotonic(world)))


# -- clocks by number ------------------------------------------------------------------------------------------------------


def _numbers(*names: str) -> set[int]:
    return {getattr(time, f"CLOCK_{name}") for name in names if hasattr(time, f"CLOCK_{name}")}


_WALL = _numbers("REALTIME", "REALTIME_COARSE")
_STEADY = _numbers("MONOTONIC", "MONOTONIC_RAW", "MONOTONIC_COARSE", "BOOTTIME", "UPTIME_RAW", "HIGHRES")
_CPU = _numbers("PROCESS_CPUTIME_ID", "THREAD_CPUTIME_ID", "PROF")
_TAI = _numbers("TAI")


@door("time", "clock_gettime")
def clock_gettime(world: World, clock: int, /) -> float:
    if clock in _WALL:
        return wall(world)
    if clock in _STEADY:
        return monotonic(world)
    if clock in _CPU:
        return cpu_time(world)
    if clock in _TAI:
        return wall(world) + TAI_OFFSET
    raise OSError(22, "Invalid argument")


@door("time", "clock_gettime_ns")
def clock_gettime_ns(world: World, clock: int, /) -> int:
    return round(clock_gettime(world, clock) * _NS)


@door("time", "clock_settime")
def clock_settime(world: World, clock: int, seconds: float, /) -> None:
    if clock not in _WALL:
        raise OSError(22, "Invalid argument")
    host_clock = world.thread.process.host.clock
    host_clock.jump(seconds - host_clock.wall())


@door("time", "clock_settime_ns")
def clock_settime_ns(world: World, clock: int, nanoseconds: int, /) -> None:
    clock_settime(world, clock, nanoseconds / _NS)


@door("time", "clock_getres")
def clock_getres(world: World, clock: int, /) -> float:
    return 1e-9


@door("time", "get_clock_info")
def get_clock_info(world: World, name: str, /) -> SimpleNamespace:
    if name not in {"time", "monotonic", "perf_counter", "process_time", "thread_time"}:
        raise ValueError("unknown clock")
    steady = name != "time"
    return SimpleNamespace(implementation="bateau.sim", monotonic=steady, adjustable=not steady, resolution=1e-9)


# -- times in words --------------------------------------------------------------------------------------------------------

_gmtime, _localtime, _asctime, _strftime = time.gmtime, time.localtime, time.asctime, time.strftime


@door("time", "gmtime")
def gmtime(world: World, seconds: float | None = None, /) -> time.struct_time:
    return _gmtime(wall(world) if seconds is None else seconds)


@door("time", "localtime")
def localtime(world: World, seconds: float | None = None, /) -> time.struct_time:
    return _localtime(wall(world) if seconds is None else seconds)


@door("time", "ctime")
def ctime(world: World, seconds: float | None = None, /) -> str:
    return _asctime(localtime(world, seconds))


@door("time", "asctime")
def asctime(world: World, parts: Any = None, /) -> str:
    return _asctime(localtime(world) if parts is None else parts)


@door("time", "strftime")
def strftime(world: World, form: str, parts: Any = None, /) -> str:
    return _strftime(form, localtime(world) if parts is None else parts)


@door("time", "tzset")
def tzset(world: World) -> None:
    """The zone stays UTC."""


_tzset = time.tzset


def _be_utc() -> None:
    posix.putenv("TZ", "UTC")
    _tzset()


def _be_local() -> None:
    zone = os.environ.get("TZ")
    if zone is None:
        posix.unsetenv("TZ")
    else:
        posix.putenv("TZ", zone)
    _tzset()


at_opening(_be_utc)
at_shutting(_be_local)

# -- waiting ---------------------------------------------------------------------------------------------------------------


@door("time", "sleep")
def sleep(world: World, seconds: float, /) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    if seconds == 0:
        world.thread_stepped()
        world.pass_on()
        return
    if seconds != seconds:
        raise ValueError("Invalid value NaN (not a number)")
    deadline = world.thread.process.host.clock.world_time_after(seconds)
    while world.block(f"time.sleep({seconds:g})", deadline):
        continue  # a signal's handler has run: the rest of the time is slept, too
