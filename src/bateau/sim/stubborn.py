"""Threads of ended worlds that swallow whatever ends them: told once for each place, and a limit to how many are left behind.

Such a thread can't be ended by anybody. Its OS thread stays until the interpreter ends, so an exploration of thousands of runs must not
make one in each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from warnings import warn

from .errors import StubbornThread
from .sites import standing_at
from .thread import here

if TYPE_CHECKING:
    from .thread import SimThread

# Threads left behind in this interpreter, from which on no further run is made.
MOST_LEFT_BEHIND = 50
MEND = "let `except BaseException` (or a bare `except`) in their loops raise what is no Exception"

_told: set[str] = set()
_left = 0


def leave_behind(threads: list[SimThread]) -> None:
    """These are left behind by a world that has ended. Raises ``RuntimeError`` when there are too many of them."""
    global _left
    _left += len(threads)
    sites = ((thread, standing_at(thread.os_ident)) for thread in threads)
    places = [
        f"{thread.process.actor(thread)} at {site[0]}:{site[1]}" if site is not None else thread.process.actor(thread)
        for thread, site in sites
    ]
    if _left >= MOST_LEFT_BEHIND:
        raise RuntimeError(
            f"{_left} threads of simulated worlds that have ended swallow what ends them and are left behind, the last ones {', '.join(places)}; "
            f"{MEND}, before more runs are made in this interpreter"
        )
    new = [place for place in places if place not in _told]
    _told.update(new)
    if new:
        # What shows a warning reads the real source, and writes to the real stderr.
        outer, here.world = here.world, None
        try:
            warn(
                f"the world has ended, but these threads swallow what ends them and are left behind: {', '.join(new)}; {MEND}",
                StubbornThread,
                stacklevel=3,
            )
        finally:
            here.world = outer
