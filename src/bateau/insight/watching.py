"""The watcher: a thread beside the program that looks at its loops, also while they are blocked, and says what should not be.

It takes nothing from the program but the GIL for a moment: a glance at the loop's thread every fiftieth of a second (see
``watch_delay``), and every second a look at the tasks (``watch_look``), which the hazards then judge. Where there are many tasks, a look
makes pauses, in which it goes on glancing, and the next one comes later: looking takes at most a tenth of the time, pauses included.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable
from os import PathLike
from types import FrameType, TracebackType
from typing import Any, Self

from ..kernel.hazard import Finding, publish, raise_unraisable
from .hazards import LOOKED_FOR, NEVER_AWAITED, SCHEDULING_DELAY, UNRETRIEVED, by_name, never_awaited, unretrieved
from .hazards.settings import checked, mute_for_process, restore_for_process, set_for_process
from .hazards.store import LogSink, amend
from .watch_delay import Pulse, ThreadClock
from .watch_gil import GilWatch
from .watch_look import Look
from .watch_loops import running_loops

# Of all time, looking takes at most this share (its pauses included).
_SHARE = 0.1
# Seconds of looking without a pause, and how many times as long the pause then is: a look at many tasks is not felt.
_SLICE = 0.002
_REST = 10


class Watch:
    """What ``watch`` returns: the watching, until ``stop()`` or the end of a ``with`` block."""

    def __init__(self, before: dict[str, float]) -> None:
        self._before = before
        self._stopped = False

    def stop(self) -> None:
        """Watch no longer (unless somebody else asked for it as well). Idempotent; waits for the thread to end."""
        if not self._stopped:
            self._stopped = True
            restore_for_process(self._before)
            _leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()


def watch(
    *,
    every: float = 1.0,
    deep: bool = False,
    mute: Iterable[str] = (),
    gil_file: str | PathLike[str] | None = None,
    **thresholds: float,
) -> Watch:
    """Watch every loop of this process for hazards, from a thread of its own: bateau's, asyncio's, uvloop's, trio's.

    Call it anywhere, before or inside a program; ``bateau run`` does it for you. ``every``: seconds between two looks at the tasks.
    ``deep``: also look for what costs the program something to look for (``unreachable_waker`` asks the garbage collector).
    ``mute``: names not to be reported at all. ``gil_file``: where the stacks go that are taken while C code holds the GIL for a
    second. Others by name: thresholds, as in ``thresholds``. Not a cancellation point. A second call joins the first's thread, with
    the sharper of both settings. Raises ``ValueError`` for names that no hazard has.
    """
    values = checked(thresholds)
    for name in mute:
        by_name(name)
    if not every > 0:
        raise ValueError(f"every is a number of seconds above 0, not {every!r}")
    return _join(every, deep, frozenset(mute), gil_file, values)


_lock = threading.Lock()
_watcher: _Watcher | None = None
_users = 0


def _join(
    every: float, deep: bool, mute: frozenset[str], gil_file: str | PathLike[str] | None, values: dict[str, float]
) -> Watch:
    global _watcher, _users
    with _lock:
        before = set_for_process(values)
        if _watcher is None:
            _watcher = _Watcher(every)
            _watcher.start()
        _users += 1
        _watcher.every = min(_watcher.every, every)
        _watcher.deep |= deep
        _watcher.mute |= mute
        mute_for_process(_watcher.mute)
        if gil_file is not None and _watcher.gil is None:
            _watcher.gil = GilWatch(gil_file)
    return Watch(before)


def _leave() -> None:
    global _watcher, _users
    with _lock:
        _users -= 1
        watcher = _watcher
        if _users or watcher is None:
            return
        _watcher = None
        mute_for_process(frozenset())
    watcher.close()


def _forked() -> None:
    """The child of a fork has no watcher: the thread is the parent's."""
    global _watcher, _users, _lock
    _lock = threading.Lock()
    if _watcher is not None:
        _watcher.forget()
    _watcher, _users = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class _Ending(Exception):
    """The watcher is to end, in the middle of a look."""


class _Watcher:
    """The thread. What is told once is told again only after it was gone: ``_told`` has what is told, by its key."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.deep = False
        self.mute: frozenset[str] = frozenset()
        self.gil: GilWatch | None = None
        self.sink = LogSink()
        self._unhook = never_awaited.listen(NEVER_AWAITED)
        self._unhook_asyncio = unretrieved.listen(UNRETRIEVED)
        self._thread = threading.Thread(target=self._run, name="bateau watcher", daemon=True)
        self._end = threading.Event()
        self._pulses: dict[int, Pulse] = {}
        self._looks: dict[int, Look] = {}
        self._told: dict[int, dict[Any, Finding]] = {}
        self._next_look = 0.0
        # When the next glance is due; since when there was no pause in the present look.
        self._due = self._since = 0.0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; waits for it, unless the thread itself asks."""
        self._end.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self.forget()

    def forget(self) -> None:
        """Take back what was put into the process."""
        self.sink.close()
        self._unhook()
        if self._unhook_asyncio is not None:
            self._unhook_asyncio()

    def _run(self) -> None:
        self._due = time.monotonic()
        self._clock = ThreadClock(threading.get_ident())
        self._queued = self._clock.queued()
        try:
            while not self._end.is_set():
                self._due += self._period()
                if self._end.wait(max(0.0, self._due - time.monotonic())):
                    return
                try:
                    self._tick()
                except _Ending:
                    return
                except Exception as error:
                    raise_unraisable(error, "bateau's watcher failed at one look, and goes on")
                self._due = max(self._due, time.monotonic() - self._period())
        finally:
            self._clock.close()
            for pulse in self._pulses.values():
                pulse.close()
            if self.gil is not None:
                self.gil.close()

    def _period(self) -> float:
        """Seconds between two glances: often enough to see what is over the threshold at about one and a half times of it."""
        return min(max(SCHEDULING_DELAY.limit(None) / 2, 0.005), 0.25, self.every)

    def _tick(self) -> None:
        """Glance at the loops, and look at their tasks if it is time."""
        doors = sys.modules.get("bateau.sim.doors")
        if doors is not None and doors._open:
            return  # a simulated world: what we would ask of its loops would change what happens in it
        now = time.monotonic()
        looking = now >= self._next_look
        if self._unhook_asyncio is None:
            self._unhook_asyncio = unretrieved.listen(UNRETRIEVED)
        if looking or not self._pulses:
            self._find_loops(sys._current_frames(), now)
        self._glance(max(0.0, now - self._due))
        if looking:
            self._since = time.monotonic()
            for key, pulse in tuple(self._pulses.items()):
                self._look(key, pulse, now)
            self._next_look = now + max(self.every, (time.monotonic() - now) / _SHARE)

    def _glance(self, late: float) -> None:
        """Look at the threads of the loops. ``late``: for how long we did not run, though it was time (seconds)."""
        now = time.monotonic()
        sights = {
            key: pulse.sight(now, late=late >= sys.getswitchinterval()) for key, pulse in tuple(self._pulses.items())
        }
        # What we waited for a processor says nothing of the GIL, nor of the loop.
        queued, self._queued = self._queued, self._clock.queued()
        late = max(0.0, late - (self._queued - queued))
        if self.gil is not None:
            self.gil.alive(now)
        recorder = sys.modules.get("bateau.insight.recorder.recording")
        recording = recorder.recording() if recorder is not None else None
        if recording is not None:
            recording.alive()
        for key, pulse in tuple(self._pulses.items()):
            if pulse.loop.is_over():
                self._drop(key)
            else:
                pulse.tick(now, late, sights[key])
        if self.gil is not None and (taken := self.gil.taken()):
            for pulse in self._pulses.values():
                pulse.add_evidence(f"the stacks meanwhile, in {self.gil.path}:\n{taken}")

    def _breathe(self) -> None:
        """In the middle of a look: after a slice of work leave the GIL to the program for a while, and glance when it is time."""
        now = time.monotonic()
        worked = now - self._since
        if worked < _SLICE:
            return
        pause = max(min(worked * _REST, self._due - now), 0.0)
        if self._end.wait(pause):
            raise _Ending
        self._since = after = time.monotonic()
        if after >= self._due:
            self._glance(max(0.0, after - now - pause))
            self._due = after + self._period()

    def _find_loops(self, frames: dict[int, FrameType], now: float) -> None:
        for loop in running_loops(frames, threading.get_ident()):
            pulse = self._pulses.get(id(loop.source))
            if pulse is None:
                self._pulses[id(loop.source)] = Pulse(loop, now)

    def _drop(self, key: int) -> None:
        self._pulses.pop(key).close()
        self._looks.pop(key, None)
        self._told.pop(key, None)

    def _look(self, key: int, pulse: Pulse, now: float) -> None:
        idle = pulse.loop.is_waiting(sys._current_frames().get(pulse.loop.thread_id))
        earlier = self._looks.get(key)
        look = self._looks[key] = Look(
            pulse.loop, now, earlier, idle=idle, blocked_until=pulse.blocked_until, breathe=self._breathe
        )
        told = self._told.setdefault(key, {})
        standing: dict[Any, Finding] = {}
        for hazard in LOOKED_FOR:
            if hazard.name in self.mute or (hazard.deep and not self.deep):
                continue
            for found in hazard.check(look):
                before = told.get(found.key)
                if before is None:
                    standing[found.key] = found.finding
                    publish(found.finding)
                else:
                    standing[found.key] = amend(before)
        self._told[key] = standing
        look.forget()
