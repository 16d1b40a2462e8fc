"""POS, partial order sampling (Yuan, Yang, Gu: "Partial order aware concurrency sampling", CAV 2018).

The next step of each actor has a random priority, and the highest that is ready runs. A step that has run gets a new priority (it
is another step now), and so do the pending steps that *race* with it: those whose order to it matters. So the order of every race is
drawn anew, where a plain random walk favours orders that have many interleavings.

The paper knows what each pending step will touch. Here nothing is instrumented: two steps are taken to race if what they were
waiting for is the same thing (both were woken by one event, both got a place in one channel), or if neither waited for anything
known. That is a heuristic; it costs no soundness, since every order stays possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import WAITS, Actor, Seeded, identities


class Pos(Seeded):
    """Partial order sampling. ``waits``: how likely the clock goes on first, where it may."""

    name = "pos"

    def __init__(self, *, waits: float = WAITS) -> None:
        super().__init__(waits=waits)

    def _start(self, seed: int) -> None:
        super()._start(seed)
        # Of the next step of each actor, by stream.
        self._priorities: dict[str, dict[Any, float]] = {}

    def step(self, stream: str, ready: Sequence[Actor], may_wait: bool) -> int:
        if may_wait and self._draw() < self.waits:
            return len(ready)
        if len(ready) == 1:
            return 0
        draw, priorities = self._draw, self._priorities.get(stream)
        if priorities is None:
            priorities = self._priorities[stream] = {}
        names = identities(ready)
        ranks: list[Any] = list(map(priorities.get, names))
        if None in ranks:
            ranks = [priorities[name] if name in priorities else priorities.setdefault(name, draw()) for name in names]
        index = ranks.index(max(ranks))
        ran = awaited(ready[index])
        for name, actor in zip(names, ready, strict=True):
            if awaited(actor) is ran:
                priorities[name] = draw()
        return index


def awaited(actor: Actor) -> Any:
    """What the pending step of ``actor`` was waiting for: a resource, or None if that is not known."""
    operation = getattr(actor, "waiting", None)
    return None if operation is None else operation.resource
