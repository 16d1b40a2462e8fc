"""What the hot words of a recorder's file say of the step that is under way, while it is."""

from __future__ import annotations

import struct
import time

from ..steps import Lasted
from . import layout as at

_WORDS = struct.Struct("<4Q")


def lasting(words: bytes, number: int, *, rides: bool) -> Lasted | None:
    """For how long the step of task ``number`` has lasted, by the first four hot words; None if its step is not under way.

    ``rides``: another loop drives, so that the step may have begun later, after a wait that was not ours. One that shares its time with the
    step before it (see ``layout.LATER``) may, too, which counts only while it has not lasted a hundred times as long.
    """
    found = _WORDS.unpack(words)
    if found[at.HOT_TASK] != number or found[at.HOT_IDLE]:
        return None
    lasted = time.monotonic_ns() - found[at.HOT_STEP]
    return Lasted(lasted / 1e9, at_most=rides or (bool(found[at.HOT_STEP] & 1) and lasted < 100 * at.LATER))
