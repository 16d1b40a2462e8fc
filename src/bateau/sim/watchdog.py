"""A world that stands still because its running thread waits for something real is ended, with an error that says where.

A lock that was made before any world was open, and that ``threads.adopting`` could not find, is a real one: a simulated thread that waits
for it never comes to a simulated call, and who holds it never gets its turn. From inside that can't be noticed. So one real thread looks,
while doors are open, whether the running thread of a world sleeps in a lock of the operating system at the same place for long.

Then all others of that world are unwound, which gives back what they hold; with it the waiting thread mostly wakes, and ends as well.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

from .errors import StoodStill
from .sites import site_of
from .thread import ENDED, Carrier, SimThread

if TYPE_CHECKING:
    from .world import World

# Seconds between two looks, and how many looks in a row must show the same before it counts.
PERIOD = 1.0
LOOKS = 10
# Seconds that each thread has for unwinding.
PATIENCE = 5.0
# The number of the system call ``futex``, by machine.
_FUTEX = {"x86_64": "202", "aarch64": "98", "riscv64": "98"}

# The worlds that are being run, each by a real thread of its own.
worlds: dict[World, None] = {}


class Watchdog:
    """The thread that looks; ``stop`` ends it."""

    def __init__(self) -> None:
        self._bell = allocate_lock()
        self._bell.acquire()
        self._seen: dict[World, tuple[Any, int]] = {}
        self._carrier = Carrier(self._main)

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._bell.release()
        self._carrier.join()

    def _main(self) -> None:
        while not self._bell.acquire(timeout=PERIOD):
            for world in tuple(worlds):
                self._look(world)
            for world in [world for world in self._seen if world not in worlds]:
                del self._seen[world]

    def _look(self, world: World) -> None:
        thread: SimThread | None = getattr(world, "thread", None)  # None until it begins
        if thread is None or world.closed or not _sleeps_in_a_lock(thread):
            self._seen.pop(world, None)
            return
        frame = sys._current_frames().get(thread.os_ident)
        # Its identity and not the frame: that would keep alive what the thread has in hand, and its destructors would run here.
        sight = (world.switches, world.steps, world.looks, id(frame), frame.f_lasti if frame is not None else 0)
        del frame
        last, times = self._seen.get(world, (None, 0))
        times = times + 1 if last == sight else 1
        self._seen[world] = sight, times
        if times >= LOOKS:
            self._seen.pop(world, None)
            end(world, thread)


def end(world: World, stuck: SimThread) -> None:
    """``stuck`` holds the baton and waits for something real: end everything else in the world, so that it may wake and end too."""
    site = site_of(sys._current_frames().get(stuck.os_ident))
    where = f" at {site[0]}:{site[1]} in {site[2]}" if site is not None else ""
    world.verdict = StoodStill(
        f"thread {stuck.process.actor(stuck)!r}{where} waits for a real lock (or queue, or thread), and with it the whole simulated world: "
        "what was made outside the world can't be waited for in it. Make it in the scenario, or keep it in a module or in what the "
        f"scenario refers to, where it is found and replaced\n{world.explain()}"
    )
    world.over = world.closed = True
    world.stuck = stuck
    assert world.director is not None
    director = world.director.main
    others = [thread for host in world.hosts.values() for process in host.processes for thread in process.threads]
    for thread in others:
        if thread is not director and thread is not stuck and thread.state is not ENDED and thread.carrier is not None:
            thread.process.dead = True
            world.thread = thread
            thread.baton.release()
            thread.carrier.join(PATIENCE)
    world.thread = director
    if stuck is not director:
        director.baton.release()


def _sleeps_in_a_lock(thread: SimThread) -> bool:
    try:
        with open(f"/proc/self/task/{thread.os_native_id}/syscall", "rb", buffering=0) as file:
            number = file.read(16).split()[0].decode()
    except (OSError, IndexError):
        return False
    return number == _number


def _machine() -> str:
    return os.uname().machine if hasattr(os, "uname") else ""


_number = _FUTEX.get(_machine(), "")
_running: Watchdog | None = None


def start() -> None:
    """The doors have been opened."""
    global _running
    if sys.platform.startswith("linux") and _number:
        _running = Watchdog()


def _forked() -> None:
    """In a forked child (a worker of an exploration) the thread is gone: it gets one of its own."""
    if _running is not None:
        worlds.clear()
        start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def stop() -> None:
    """The doors have been shut."""
    global _running
    running, _running = _running, None
    if running is not None:
        running.stop()
