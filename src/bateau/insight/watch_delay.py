"""Scheduling delays: a step (or callback) that holds its loop, seen while it does.

Theory of operation. Each tick looks at the loop's thread. Where it waits for the world, all is well and nothing is done: an idle loop
is never woken. Where it is busy, a call is handed to the loop, and how long the loop takes to get around to it is its scheduling delay.
Once that is over the threshold, the thread's stack says what holds it, at that moment.

Two things look like a delay and are none. A machine that stood still, or had no processor for the loop's thread: what the operating
system says of the thread (its processor time, its time in the queue for one) is taken off. And a watcher that came late: while C code
holds the GIL (a regular expression, a big sort), no Python thread runs. If the loop's thread used the processor meanwhile, it was that,
and it still stands at the line, for the interpreter hands the GIL over right after the call; the delay is reported then, in full.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..kernel.errors import PACKAGE_DIR
from ..kernel.explain import INSTALLED, STDLIB
from ..kernel.hazard import Finding, publish
from .hazards import SCHEDULING_DELAY
from .hazards.settings import is_muted
from .hazards.store import amend
from .watch_look import Seen
from .words import duration

if TYPE_CHECKING:
    from .watch_loops import WatchedLoop

# Code objects of coroutines and async generators.
_ASYNC = 0x80 | 0x100 | 0x200
_RUNTIMES = PACKAGE_DIR + "runtimes"
# Of a stack, at most so many frames are told.
_MOST_FRAMES = 30


class ThreadClock:
    """What the operating system says of one thread: its processor time, and its time spent waiting for a processor (seconds)."""

    def __init__(self, thread_id: int) -> None:
        self._clock: int | None = None
        self._schedstat = -1
        thread = threading._active.get(thread_id) if hasattr(threading, "_active") else None  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]  # stubs leave out what is private
        native = getattr(thread, "native_id", None)  # pyright: ignore[reportUnknownArgumentType]  # as above
        if native is None:
            return
        try:
            self._clock = time.pthread_getcpuclockid(thread_id)
            self._schedstat = os.open(f"/proc/self/task/{native}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return

    def used(self) -> float | None:
        """Its processor time, or None where that can't be known."""
        if self._clock is None:
            return None
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return None

    def queued(self) -> float:
        """Its time in the queue for a processor; 0 where that can't be known."""
        if self._schedstat < 0:
            return 0.0
        try:
            return int(os.pread(self._schedstat, 64, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def close(self) -> None:
        """Free the descriptor."""
        if self._schedstat >= 0:
            os.close(self._schedstat)
            self._schedstat = -1


class Sight(NamedTuple):
    """What a loop's thread is at: its place and step (see ``_place_of``), the user's part of its stack, and whose step it is.

    ``seen`` is not asked for (None) where nothing can be told yet, or the thread is at the place it was at.
    """

    place: tuple[tuple[int, int], ...]
    step: int
    stack: list[tuple[str, int, str]]
    seen: Seen | None


class Pulse:
    """The scheduling delay of one loop.

    Invariants: ``_asked`` is when the outstanding call was handed over, and None if there is none; ``_told`` is the finding made about
    it. ``answer`` is called on the loop's thread, everything else on the watcher's.
    """

    def __init__(self, loop: WatchedLoop, now: float) -> None:
        self.loop = loop
        self.clock = ThreadClock(loop.thread_id)
        self._asked: float | None = None
        # When the loop got around to it; 0 until then.
        self._answered = 0.0
        self._told: Finding | None = None
        # What was told of it before that, at other lines; and for how long it had been held when it came to the place it is at.
        self._earlier: list[Finding] = []
        # Whose step it was at the place it is at, where that was asked for.
        self._told_of: Seen | None = None
        self._held_before = 0.0
        # Until when one step was known to hold the loop.
        self.blocked_until = 0.0
        self._excused = 0.0
        # The thread's time in the queue for a processor: now, and when the outstanding call was handed over.
        self._queued = self._queued_then = self.clock.queued()
        self._used_last = self.clock.used()
        # What was seen while the outstanding call waited: the last place, and how often each step.
        self._place: tuple[tuple[int, int], ...] = ()
        self._steps: dict[int, int] = {}

    def sight(self, now: float, *, late: bool) -> Sight | None:
        """What its thread is at; None where it waits for the world. ``late``: the GIL may have been held until just now.

        To be asked for before anything that may let the GIL go (a system call): until then, the thread stands where it held the GIL. Who
        holds a frame that returns meanwhile destroys its variables, on the wrong thread; so no frame is kept.
        """
        if self._answered:
            self._end()
        frame = sys._current_frames().get(self.loop.thread_id)
        if frame is None or self.loop.is_waiting(frame):
            return None
        place, step = _place_of(frame)
        if self._told is None:
            asked_for = self.held(now) >= _NOTABLE
        else:
            asked_for = self._told is _NOBODY or place != self._place
        return Sight(place, step, user_stack(frame), holder(self.loop, frame) if late or asked_for else None)

    def tick(self, now: float, late: float, sight: Sight | None) -> None:
        """The loop's thread is at what ``sight`` says. The watcher itself came ``late`` (seconds)."""
        used, before = self.clock.used(), self._used_last
        self._used_last = used
        queued, queued_before = self.clock.queued(), self._queued
        in_queue = max(0.0, queued - queued_before)
        asleep = _stood_still(late - in_queue, used, before)
        # For how long it ran although we were to look: the GIL was held.
        ran = min(late, used - before) if used is not None and before is not None else late - asleep - in_queue
        asking = False
        if self._asked is not None:
            self._excused += asleep
            if sight is not None and self._told is not None and self._told is not _NOBODY:
                self._told = amend(self._told)  # it goes on
        elif sight is not None:
            asking = True
            # Where the GIL was held while we were to look, the loop has been held at least since then.
            self._ask(now - ran if ran >= sys.getswitchinterval() else now, queued)
        self._queued = queued
        found: list[Finding] = []
        if sight is not None:  # (it may have gone on since, and answered: it was there all the same)
            exact = late >= sys.getswitchinterval()
            if self._told is None:
                found = self._judge(now, sight, exact=exact)
            elif self._told is not _NOBODY:
                found = self._judge_further(now, sight, ran if exact else 0.0)
            elif _key(sight.seen) != _key(self._told_of):  # another task's step follows, which may be told of
                self._told, self._held_before = None, self.held(now)
                self._steps.clear()
        for finding in found:
            publish(finding)
        if asking:
            try:
                self.loop.ping(self.answer)
            except RuntimeError:
                self._asked = None

    def _ask(self, since: float, queued: float) -> None:
        self._asked, self._answered, self._told = since, 0.0, None
        self._earlier.clear()
        self._held_before = 0.0
        self._excused, self._queued_then = 0.0, queued
        self._place = ()
        self._steps.clear()

    def answer(self) -> None:
        """The loop has got around to it."""
        self._answered = time.monotonic()

    def held(self, now: float) -> float:
        """For how long the loop has been held, without what the machine is to blame for (seconds)."""
        if self._asked is None:
            return 0.0
        queued = max(0.0, self._queued - self._queued_then)
        return (self._answered or now) - self._asked - self._excused - queued

    def _end(self) -> None:
        if self.held(self._answered) > _NOTABLE:
            self.blocked_until = self._answered
        if self._told is not None and self._told is not _NOBODY:
            for told in (*self._earlier, self._told):
                amend(told, f"it took about {duration(self.held(self._answered))} in all")
        self._asked, self._answered, self._told, self._told_of = None, 0.0, None, None

    def _judge(self, now: float, sight: Sight, *, exact: bool) -> list[Finding]:
        held = self.held(now) - self._held_before
        place, step = sight.place, sight.step
        # Seen twice at the same place, it is there for long. Else it may just have come there from what really took the time; but
        # a step that is seen again and again is itself what takes it, and where the GIL was handed to us, that was right there.
        sure = exact or place == self._place or self._steps.get(step, 0) >= 2
        self._place = place
        self._steps[step] = self._steps.get(step, 0) + 1
        if held > _NOTABLE:
            self.blocked_until = now
        if not sure or held < _NOTABLE:
            return []
        seen = sight.seen
        if held < SCHEDULING_DELAY.limit(seen):
            return []
        findings = self._made(seen, sight.stack, held)
        self._told = findings[0] if findings else _NOBODY
        self._told_of = seen
        return findings

    def _made(self, seen: Seen | None, stack: list[tuple[str, int, str]], held: float) -> list[Finding]:
        """What is told, if anything is, of a step that is there and has held the loop for so long."""
        if not stack or is_muted(SCHEDULING_DELAY.name, seen.context if seen is not None else None):
            return []  # (without a stack it is the loop's own doing: starting, ending, importing)
        made = SCHEDULING_DELAY.check_stack(self.loop, seen, stack, held, one_step=len(self._steps) == 1)
        return [found.finding for found in made]

    def _judge_further(self, now: float, sight: Sight, missed: float) -> list[Finding]:
        """It has been told, and goes on: by another call of the same step, perhaps, which wants a line of its own.

        ``missed``: for how long the GIL was held while we were to look, which was at the place where the thread now is.
        """
        assert self._told is not None
        self.blocked_until = now
        held = self.held(now)
        if sight.place != self._place:
            self._place, self._told_of = sight.place, sight.seen
            self._steps.setdefault(sight.step, 1)
            self._held_before = max(0.0, held - missed)
        lasted = held - self._held_before
        if not self._held_before or lasted < _NOTABLE or len(self._earlier) >= _MOST_LINES:
            return []
        seen = self._told_of
        if lasted < SCHEDULING_DELAY.limit(seen):
            return []
        told = {(one.filename, one.lineno) for one in (*self._earlier, self._told)}
        findings = [one for one in self._made(seen, sight.stack, lasted) if (one.filename, one.lineno) not in told]
        if findings:
            self._earlier.append(self._told)
            self._told = findings[0]
        return findings

    def add_evidence(self, text: str) -> None:
        """Something more is known about the delay that was told last."""
        if self._told is not None and self._told is not _NOBODY:
            self._told = amend(self._told, text)

    def close(self) -> None:
        """The loop has ended, or is watched no longer."""
        if self._answered:
            self._end()
        self.clock.close()


# Below this (seconds) nobody can ask for a finding: a processor shared with others makes more of a delay.
_NOTABLE = 0.01
# Of one delay, so many lines are told besides the first: a computation is at many.
_MOST_LINES = 3
# Told to nobody: muted there, or no line of the user's.
_NOBODY = Finding("", "", "", 0)


def _key(seen: Seen | None) -> int:
    return seen.key if seen is not None else 0


def holder(loop: WatchedLoop, frame: FrameType | None) -> Seen | None:
    """The task in whose step that frame is, if it is in any."""
    outer: set[FrameType] = set()
    at = frame
    while at is not None:
        if at.f_code.co_flags & _ASYNC:
            outer.add(at)
        at = at.f_back
    if not outer:
        return None
    current = loop.current()
    if current is not None:
        return Seen(getattr(current, "_bateau", None), current)
    for task, native in loop.pairs():
        seen = Seen(task, native)
        if getattr(seen.coro, "cr_frame", None) in outer:
            return seen
    return None


def _stood_still(late: float, used: float | None, before: float | None) -> float:
    """How much of the watcher's lateness was the machine's, or another thread's: not the loop's, which used no processor meanwhile."""
    if late <= 0:
        return 0.0
    if used is None or before is None:
        return late
    return max(0.0, late - (used - before))


def _place_of(frame: FrameType) -> tuple[tuple[tuple[int, int], ...], int]:
    """Where a step is: each of its coroutines, with the instruction that it is at; and what tells it from other steps."""
    place: list[tuple[int, int]] = []
    last, at = frame, frame.f_back
    if frame.f_code.co_flags & _ASYNC:
        place.append((id(frame), frame.f_lasti))
    while at is not None and not is_loop(at):
        if at.f_code.co_flags & _ASYNC:
            place.append((id(at), at.f_lasti))
        last, at = at, at.f_back
    return tuple(place) or ((id(last), last.f_lasti),), id(last)


def user_stack(frame: FrameType | None) -> list[tuple[str, int, str]]:
    """The user's part of a stack, the innermost first: file, line, function. Down to the program's loop, without bateau's frames.

    It begins at the line that is the user's own (what it called in the standard library is left out); empty if there is none.
    """
    found: list[tuple[str, int, str]] = []
    at = frame
    while at is not None and len(found) < _MOST_FRAMES:
        filename = at.f_code.co_filename
        if is_loop(at):
            break
        if is_own(filename):
            found.append((filename, at.f_lineno, at.f_code.co_qualname))
        at = at.f_back
    return found


def is_own(filename: str) -> bool:
    """Whether a file is the user's: neither bateau's nor the standard library's."""
    if filename.startswith((PACKAGE_DIR, "<frozen")):
        return False
    return not filename.startswith(STDLIB) or filename.startswith(INSTALLED)


def is_loop(frame: FrameType) -> bool:
    """Whether a frame is a loop's, which called what lies above it."""
    name: Any = frame.f_code.co_name
    filename = frame.f_code.co_filename
    if filename.startswith(PACKAGE_DIR):
        return filename.startswith(_RUNTIMES) or (
            name in ("turn", "step", "advance") and filename.endswith("kernel/engine.py")
        )
    if name in ("_run_once", "run") and filename.endswith(("asyncio/base_events.py", "asyncio/runners.py")):
        return True
    return name == "unrolled_run" and filename.endswith("trio/_core/_run.py")
