"""Simulated threads: real OS threads that hand one baton around, so that exactly one of them runs at any time.

Theory of operation. A thread that blocks runs the scheduler itself (``World.next_thread``) and, if another is to go on, releases
that one's baton and waits for its own. A world whose only thread is the test's never switches at all. The OS threads are
*carriers*: idle ones are kept and reused, since a run may start many short threads.
"""

from __future__ import annotations

import os
from _thread import _local, allocate_lock, start_new_thread
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .process import Process
    from .world import Event, World

READY, RUNNING, BLOCKED, ENDED = "ready", "running", "blocked", "ended"


class Killed(BaseException):
    """Raised by every simulated call of a process that was killed, or whose world has ended: it must not act any more.

    Programs never see it while their world runs: a killed process is not resumed. It unwinds what is left of them afterwards.
    """


class _Here(_local):
    """What the doors ask: the world that the calling OS thread belongs to, or None."""

    world: World | None = None


here = _Here()


class SimThread:
    """One thread of a simulated process.

    Invariants: ``baton`` is locked except between the moment when another hands it over and the moment when this thread has
    taken it. ``state`` is RUNNING for exactly one thread of a world, its ``world.thread``; READY iff in ``world.ready`` (or put
    aside in ``process.frozen``).
    """

    __slots__ = (
        "_event",
        "baton",
        "ident",
        "name",
        "number",
        "on_end",
        "pending",
        "process",
        "state",
        "timed_out",
        "waits_for",
    )

    def __init__(self, process: Process, name: str, number: int) -> None:
        self.process = process
        self.name = name
        # Counted in its process, from 1: with the pid a name that is the same in each run.
        self.number = number
        self.baton = allocate_lock()
        self.baton.acquire()
        self.state = BLOCKED
        # What it waits for, in words; for explanations.
        self.waits_for = "its start"
        self.timed_out = False
        # Raised in it when it next runs.
        self.pending: BaseException | None = None
        self.ident = 0
        self._event: Event | None = None
        self.on_end: list[Callable[[], None]] = []

    @property
    def key(self) -> str:
        """The same in each run of the program: process and number."""
        return f"{self.process.name}#{self.number}"

    def unblock(self) -> None:
        """Make it ready, if it is blocked."""
        if self.state is BLOCKED:
            self.state = READY
            if self._event is not None:
                self._event.cancel()
                self._event = None
            process = self.process
            (process.world.ready if process.frozen is None else process.frozen).append(self)

    def time_out(self) -> None:
        """The deadline of what it waits for has come."""
        if self.state is BLOCKED:
            self.timed_out = True
            self.unblock()

    def interrupt(self, error: BaseException) -> None:
        """Raise ``error`` in it where it is blocked, or at its next simulated call that waits."""
        self.pending = error
        self.unblock()

    def __repr__(self) -> str:
        return f"<SimThread {self.key} {self.name!r} {self.state}>"


class _Carrier:
    """An OS thread that runs simulated threads, one after the other."""

    __slots__ = ("box", "job")

    def __init__(self) -> None:
        self.box = allocate_lock()
        self.box.acquire()
        self.job: Callable[[], None] | None = None

    def main(self) -> None:
        while True:
            self.box.acquire()
            job, self.job = self.job, None
            if job is None:
                return
            job()
            del job
            if len(_idle) >= MOST_IDLE:
                return
            _idle.append(self)


MOST_IDLE = 32
_idle: list[_Carrier] = []


def carry(job: Callable[[], None]) -> None:
    """Run ``job``, which must not raise, on an OS thread of its own."""
    try:
        carrier = _idle.pop()
    except IndexError:
        carrier = _Carrier()
        start_new_thread(carrier.main, ())
    carrier.job = job
    carrier.box.release()


def release_idle() -> None:
    """End the OS threads that carry nothing."""
    while _idle:
        _idle.pop().box.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # in a forked child the threads are gone
