"""What production does: the oldest ready task goes on. Faults happen as likely as they were said to."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Actor, Seeded


class Fifo(Seeded):
    """Production's order in each run; only faults differ between seeds."""

    name = "fifo"
    yields = 0.0

    def __init__(self) -> None:
        super().__init__(waits=0)

    def step(self, stream: str, ready: Sequence[Actor], may_wait: bool) -> int:
        return 0

    def choose(self, stream: str, n: int) -> int:
        return 0
