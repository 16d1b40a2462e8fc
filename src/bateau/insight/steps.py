"""For how long a task has been in the step it is in: what a spinning program is asked first.

Exact where each step is noted: in the recorder's hot words (to 10 ms for one that follows a bare yield), by a console's counters.
Elsewhere bateau's own loop, and asyncio's and trio's in a variable, know when they looked outside last, and the step began no earlier:
so it has lasted at most as long as that. The same is true of a host that rides on another's loop, where a step is noted after a wait of
ours only. Another's loop that is written in C (uvloop) tells nothing.
"""

from __future__ import annotations

import sys
import time
from types import FrameType
from typing import Any, NamedTuple

# Up to 3.12 `f_locals` is a copy, which would keep all of it alive until the frame ends: at once, or only with the run.
_COPIES = bool(sys.version_info < (3, 13))


# Three centuries.
_LONGEST = 1e10


class Lasted(NamedTuple):
    """``seconds``, or, with ``at_most``, no more than that."""

    seconds: float
    at_most: bool = False

    def as_fields(self) -> dict[str, Any]:
        """As ``model.Task`` has it: in thousandths of a second."""
        found: dict[str, Any] = {"ran": round(max(self.seconds, 0.0), 3)}
        return {**found, "ran_at_most": True} if self.at_most else found


def shorter(known: list[Lasted | None]) -> Lasted | None:
    """What is known best: an exact time, else the lowest bound. What is torn (no number, or endless) is none."""
    told = [one for one in known if one is not None and abs(one.seconds) < _LONGEST]
    return min(told, key=lambda one: (one.at_most, one.seconds), default=None)


def step_of(number: int, thread: int, frame: FrameType | None, reactor: Any, *, alone: bool) -> Lasted | None:
    """The step of task ``number`` on the thread whose innermost frame is ``frame``. None: not known.

    ``reactor``: the driver of bateau's own loop, if it is on one. ``alone``: no other task is in the middle of a step on that loop;
    else one has entered the loop again (a nested ``block_on``), and the turn that is under way says nothing of the outer step.
    """
    known = [_counted(number), _recorded(number, thread)]
    if alone:
        known += [_turn(frame), _polled(reactor)]
    return shorter(known)


def _counted(number: int) -> Lasted | None:
    module = sys.modules.get("bateau.insight.counting")
    return module.running_for(number) if module is not None else None


def _recorded(number: int, thread: int) -> Lasted | None:
    module = sys.modules.get("bateau.insight.recorder.recording")
    recording = module.recording() if module is not None else None
    return recording.running_for(number, thread) if recording is not None else None


def _polled(reactor: Any) -> Lasted | None:
    """Since bateau's own loop has last looked outside."""
    polled = getattr(reactor, "_polled", 0)
    return Lasted((time.monotonic_ns() - polled) / 1e9, at_most=True) if polled else None


def _turn(frame: FrameType | None) -> Lasted | None:
    """Since the loop has last looked outside, by the innermost loop on the stack."""
    at = frame
    while at is not None:
        name, file = at.f_code.co_name, at.f_code.co_filename
        if name == "_run_once" and file.endswith("asyncio/base_events.py"):
            began = at.f_locals.get("end_time")
            return Lasted(time.monotonic() - began, at_most=True) if isinstance(began, float) else None
        if name == "unrolled_run" and file.endswith("trio/_core/_run.py"):
            if _COPIES:
                return None
            began = at.f_locals.get("now")
            clock = getattr(at.f_locals.get("runner"), "clock", None)
            if not isinstance(began, float) or type(clock).__name__ != "SystemClock":
                return None  # another clock counts other seconds
            return Lasted(clock.current_time() - began, at_most=True)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # a SystemClock: its class was asked by name
        at = at.f_back
    return None
