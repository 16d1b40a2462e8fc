"""Simulated threads: real OS threads that hand one baton around, so that exactly one of them runs at any time.

Theory of operation. A thread that blocks runs the scheduler itself (``World.next_thread``) and, if another is to go on, releases
that one's baton and waits for its own. A world whose only thread is the test's never switches at all.

Each simulated thread has an OS thread of its own (its ``Carrier``), used once: thread-local objects, context variables and
trace functions are the OS thread's, and a second user would see the first one's.
"""

from __future__ import annotations

import _thread
import sys
from _thread import _local, allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .process import Process
    from .timeline import Event
    from .world import World

READY, RUNNING, BLOCKED, ENDED = "ready", "running", "blocked", "ended"

# What an idle worker waits for: nothing that an explanation would name.
IDLE = "its next job"


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
    aside in ``process.frozen``). ``aside`` iff it is READY only to make its ``calls``, while what it waits for has not come.
    """

    __slots__ = (
        "_event",
        "aside",
        "baton",
        "calls",
        "carrier",
        "deaths",
        "ident",
        "name",
        "native_id",
        "number",
        "on_end",
        "os_ident",
        "os_native_id",
        "pending",
        "process",
        "state",
        "timed_out",
        "waits_for",
        "woken",
    )

    def __init__(self, process: Process, name: str, number: int) -> None:
        self.process = process
        self.name = name
        # Counted in its process, from 1: with the pid a name that is the same in each run.
        self.number = number
        self.baton = allocate_lock()
        self.baton.acquire()
        self.state = BLOCKED
        # What it waits for: words, or an object whose ``str`` says it; for explanations.
        self.waits_for: object = "its start"
        self.timed_out = False
        # Raised in it when it next runs.
        self.pending: BaseException | None = None
        # What it is to do before it goes on, blocked or not: the handlers of signals.
        self.calls: deque[Callable[[], object]] = deque()
        self.aside = False
        # Whether ``unblock`` was called since its last wait began.
        self.woken = False
        # What ``threading.get_ident()`` and ``get_native_id()`` say: the same in each run, and no two of a world are equal.
        self.ident = process.pid << 20 | number
        self.native_id = process.pid if number == 1 else process.pid * 1000 + number
        self.carrier: Carrier | None = None
        # The identifier of its OS thread, under which the interpreter shows its frames.
        self.os_ident = 0
        self.os_native_id = 0
        # How often it was told that it is dead.
        self.deaths = 0
        self._event: Event | None = None
        self.on_end: list[Callable[[], None]] = []

    @property
    def key(self) -> str:
        """The same in each run of the program: process and number."""
        return f"{self.process.name}#{self.number}"

    def unblock(self) -> None:
        """Make it ready, if it is blocked."""
        self.woken = True
        if self.state is BLOCKED:
            self._line_up()
        elif not self.aside:
            return
        self.aside = False
        if self._event is not None:
            self._event.cancel()
            self._event = None

    def time_out(self) -> None:
        """The deadline of what it waits for has come."""
        if self.state is BLOCKED or self.aside:
            self.timed_out = True
            self.unblock()

    def call(self, fn: Callable[[], object]) -> None:
        """Let it call ``fn`` at its next scheduling point; if it is blocked, now, and go on waiting afterwards."""
        self.calls.append(fn)
        if self.state is BLOCKED:
            self.aside = True
            self._line_up()

    def forget(self) -> None:
        """It will not run again: nothing is to wake it."""
        self.calls.clear()
        self.aside = False
        if self._event is not None:
            self._event.cancel()
            self._event = None

    def make_calls(self) -> None:
        """In the thread itself: what was asked for by ``call``. What a call raises, the thread raises; the rest stays for later."""
        while self.calls:
            self.calls.popleft()()

    def _line_up(self) -> None:
        self.state = READY
        process = self.process
        (process.world.ready if process.frozen is None else process.frozen).append(self)

    def interrupt(self, error: BaseException) -> None:
        """Raise ``error`` in it where it is blocked, or at its next simulated call that waits."""
        self.pending = error
        self.unblock()

    def __repr__(self) -> str:
        return f"<SimThread {self.key} {self.name!r} {self.state}>"


class Carrier:
    """The OS thread of one simulated thread."""

    __slots__ = ("_begun", "_end", "_job")

    def __init__(self, job: Callable[[], None]) -> None:
        self._job: Callable[[], None] | None = job
        self._end: Any = None
        if _start_joinable is not None:
            self._end = _start_joinable(self._main, daemon=True)
        else:
            self._begun = allocate_lock()
            self._begun.acquire()
            start_new_thread(self._main, ())

    def _main(self) -> None:
        if _set_sentinel is not None:
            self._end = _set_sentinel()
            self._end.acquire()
            self._begun.release()
        threading = sys.modules.get("threading")
        if threading is not None:  # as in any thread: debuggers and coverage see those of a world too
            if threading._trace_hook is not None:
                sys.settrace(threading._trace_hook)
            if threading._profile_hook is not None:
                sys.setprofile(threading._profile_hook)
        job, self._job = self._job, None
        assert job is not None
        job()

    def join(self, timeout: float = -1) -> None:
        """Wait until the OS thread is gone, with its thread-local objects; at most ``timeout`` seconds (-1: for ever)."""
        if _start_joinable is not None:
            self._end.join(None if timeout < 0 else timeout)
            return
        with self._begun:
            pass  # it has not even begun before
        if self._end.acquire(timeout=timeout):  # released by the interpreter, last of all
            self._end.release()


# The first on Python 3.13 and later, the second before that.
_start_joinable: Any = getattr(_thread, "start_joinable_thread", None)
_set_sentinel: Any = getattr(_thread, "_set_sentinel", None)
