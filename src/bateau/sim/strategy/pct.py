"""PCT, probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte: "A randomized scheduler with probabilistic
guarantees of finding bugs", ASPLOS 2010).

Each actor gets a random priority when it is first seen, and the highest that is ready runs. At ``depth - 1`` random steps of the run
the actor that has just made that step falls below all others. A bug that needs ``depth`` ordering constraints is then found in each
run with a probability of at least ``1 / (n * k ** (depth - 1))``, with ``n`` actors and ``k`` steps; `python -m benchmarks.pct` measures it.

Three differences from the paper. The number of steps must be known in advance: it is the largest of the earlier runs, and a guess in
the first one. The clock is nobody's step: it goes on first with a small probability (``waits``), outside of the bound. And in long runs
one that still runs after ``PATIENCE`` steps while others are ready falls below them: it may be waiting for one of them in a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import WAITS, Actor, Seeded, identities

# The number of steps assumed as long as no run has been seen.
FIRST_GUESS = 50
# Steps between two looks at who is running.
PATIENCE = 500


class Pct(Seeded):
    """PCT for bugs of up to ``depth`` ordering constraints; ``steps`` is the length of a run (None: learnt from earlier runs)."""

    name = "pct"
    follows = True

    def __init__(self, depth: int = 3, *, steps: int | None = None, waits: float = WAITS) -> None:
        if depth < 1:
            raise ValueError(f"depth is the number of ordering constraints of a bug: 1 or more, not {depth!r}")
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be 1 or more, or None, not {steps!r}")
        self.depth = depth
        self.fixed = steps
        self.longest = 0
        super().__init__(waits=waits)

    def _start(self, seed: int) -> None:
        self.longest = max(self.longest, getattr(self, "_made", 0))
        super()._start(seed)
        expected = self.fixed or self.longest or FIRST_GUESS
        # What is lost by drawing the points without replacement is nothing: each set of them is only more likely.
        points = self._order.sample(range(1, expected + 1), min(self.depth - 1, expected))
        # The n-th point that was drawn (not the n-th in time) gives the n-th priority from above, all below the first ones.
        self._falls = {point: -float(rank) for rank, point in enumerate(points, 1)}
        # By stream; above 0 for those who have not fallen yet.
        self._priorities: dict[str, dict[Any, float]] = {}
        self._made = 0
        # Who ran at the last look, how many steps ago that was, and the lowest priority given so far.
        self._seen: tuple[str, Any] | None = None
        self._since = 0
        self._lowest = -float(self.depth)

    def step(self, stream: str, ready: Sequence[Actor], may_wait: bool) -> int:
        if may_wait and self._draw() < self.waits:
            return len(ready)
        names = identities(ready)
        priorities = self._priorities.get(stream)
        if priorities is None:
            priorities = self._priorities[stream] = {}
        ranks: list[Any] = list(map(priorities.get, names))
        if None in ranks:
            ranks = [priorities[name] if name in priorities else self._meet(priorities, name) for name in names]
        index = ranks.index(max(ranks))
        self._made += 1
        if self._made in self._falls:
            priorities[names[index]] = self._falls[self._made]
        self._since += 1
        if self._since >= PATIENCE and len(ready) > 1:
            self._since = 0
            before, self._seen = self._seen, (stream, names[index])
            if self._seen == before:
                self._lowest -= 1
                priorities[names[index]] = self._lowest
        return index

    def only(self, stream: str, actor: Actor) -> None:
        self._made += 1
        if self._made in self._falls:
            self._priorities.setdefault(stream, {})[identities((actor,))[0]] = self._falls[self._made]

    def _meet(self, priorities: dict[Any, float], name: Any) -> float:
        # 1 - random() is above 0; equal ones practically do not occur.
        rank = priorities[name] = 1.0 - self._draw()
        return rank
