"""``select``: wait on several things at once, and lose nothing of what was not chosen (law 3).

Theory of operation. An *arm* is a name and something that gives values. If what it gives is an operation, the operation is
registered with its resource only while the select waits, and has its effect only if it is the one chosen: the resource asks
first (``Watcher.claim``), and one arm alone hears yes. Anything else (an async function, say) is a child task of the select
that goes on working while the body runs and holds at most one result until it is taken.

An arm is armed anew when the next wait begins after its delivery: an operation that was not chosen stays the same one over
many waits (a ``sleep`` is not started over), and what came to hand though its wait was cancelled is kept for the next wait.
"""

from __future__ import annotations

from .core import Arm, Chosen, OnLoser, Select, Selection, select
from .waiting import Event, Next

__all__ = ["Arm", "Chosen", "Event", "Next", "OnLoser", "Select", "Selection", "select"]
