"""The third Ctrl-C: ends what the first two did not, without breaking the loop that has to end it.

Python runs a signal handler between any two bytecodes. ``KeyboardInterrupt`` raised between two lines of a scheduler leaves it
with a task that is in no queue, and the program hangs (seen on every runtime). So it is raised on the spot only where a program's
own code holds the thread. Where the loop has it, everything is waiting somewhere: then the shields fall, every wait is cancelled,
and the program ends in order.
"""

from __future__ import annotations

import os
from types import CodeType, FrameType

from ..kernel.cancellation import CancelNode
from ..kernel.errors import CancelRecord

_SEP = os.sep
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + _SEP
# Parts of this package that are programs like a user's.
_PROGRAMS = (f"{_PACKAGE}cli{_SEP}", f"{_PACKAGE}testing{_SEP}")
_STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + _SEP
_LOOPS = tuple(f"{_SEP}{name}{_SEP}" for name in ("asyncio", "trio", "outcome", "uvloop"))


def in_the_loop(frame: FrameType | None) -> bool:
    """Whether ``frame`` is the machinery's: ours, asyncio's or trio's, or the standard library called from there."""
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename.startswith(_PACKAGE):
            return not filename.startswith(_PROGRAMS)
        if any(part in filename for part in _LOOPS):
            return True
        neutral = filename.startswith("<frozen") or (
            filename.startswith(_STDLIB) and f"{_SEP}site-packages{_SEP}" not in filename
        )
        if not neutral:
            return False
        frame = frame.f_back
    return False


def found_at(frame: FrameType | None, handler: CodeType) -> FrameType | None:
    """Where the thread was when it was interrupted, if ``handler`` runs for a signal that came while it ran for another.

    Else what it does itself (it wakes a loop) would count as the loop's.
    """
    at = frame
    while at is not None:
        if at.f_code is handler:
            frame = at.f_back
        at = at.f_back
    return frame


def break_shields(top: CancelNode) -> None:
    """Cancel what is shielded at this moment anywhere below ``top``."""
    todo = [top]
    for node in todo:
        if node.children:
            todo.extend(node.children)
    for node in todo:
        if node.shielded:
            node._cancel(CancelRecord("Ctrl-C, three times"))
