"""Doors of ``time``: the host's clocks instead of the machine's, and a sleep that lets virtual time pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import door, real

if TYPE_CHECKING:
    from ..world import World


@door("time", "time")
def wall(world: World) -> float:
    return world.thread.process.host.clock.wall()


@door("time", "time_ns")
def wall_ns(world: World) -> int:
    return round(world.thread.process.host.clock.wall() * 1_000_000_000)


@door("time", "monotonic", "perf_counter", "process_time", "thread_time")
def monotonic(world: World) -> float:
    return world.thread.process.host.clock.monotonic()


@door("time", "monotonic_ns", "perf_counter_ns", "process_time_ns", "thread_time_ns")
def monotonic_ns(world: World) -> int:
    return round(world.thread.process.host.clock.monotonic() * 1_000_000_000)


@door("time", "sleep")
def sleep(world: World, seconds: float) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    if seconds == 0:
        world.pass_on()
        return
    world.block(f"time.sleep({seconds:g})", world.thread.process.host.clock.world_time_after(seconds))


def _struct_time(function: str) -> None:
    @door("time", function)
    def inside(world: World, seconds: float | None = None) -> Any:
        return real("time", function)(wall(world) if seconds is None else seconds)


for _name in ("gmtime", "localtime", "ctime"):
    _struct_time(_name)
