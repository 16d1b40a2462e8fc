"""The random walk: each time any of those who are ready, all equally likely.

Cheap, and hard to beat for shallow bugs. What it hardly ever does is to keep one task back for long: the more steps the others make
meanwhile, the less likely (see ``pct`` and ``pos``).
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import WAITS, Actor, Seeded, Walk


class Random(Seeded):
    """A random walk. ``waits``: how likely the clock goes on first, where it may."""

    name = "random"

    def __init__(self, *, waits: float = WAITS) -> None:
        super().__init__(waits=waits)
        self._scale = 1 / (1 - waits)

    def walk(self) -> Walk | None:
        if type(self) is not Random:
            return None  # a class of one's own may answer otherwise
        return self._draw, self._faults.random, float(self.waits), self._scale

    def step(self, stream: str, ready: Sequence[Actor], may_wait: bool) -> int:
        drawn = self._draw()
        if may_wait:  # one draw decides both: what is left of the interval is stretched again
            drawn = (drawn - self.waits) * self._scale
            if drawn < 0:
                return len(ready)
        return int(drawn * len(ready))
