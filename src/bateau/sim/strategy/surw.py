"""SURW, the selectively uniform random walk (Zhao, Wolff, Mathur, Roychoudhury: "Selectively Uniform Concurrency Testing", ASPLOS 2025).

A plain random walk does not choose among interleavings with equal probability: whoever has many steps to make is hardly ever last.
Choosing each actor with a weight, namely the number of steps that it (and what it will spawn) has still to make, is uniform. Uniform
over *all* steps is still lavish, since most of them matter to nobody; so each run selects some, and is uniform over their order alone:
who makes the next selected step is drawn by weight, the others run freely but wait before a selected step of their own.

How many steps there will be is learnt from the run before, by each actor's path of spawns (``ActorKeys``). The selection of a run
is a *kind* of step: those that begin after a wait for the same thing in the same function. Every other run selects all steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...kernel.errors import PACKAGE_DIR
from ...kernel.leaving import Drain
from .base import WAITS, Actor, ActorKeys, Key, Seeded

# Steps after which the intended one is drawn anew, should it have come to no selected step: it may be waiting for others in a loop.
PATIENCE = 200

# What a step is selected by: a wait and the function it stands in.
Kind = tuple[str, str]
ALL: Kind = ("", "")


class Surw(Seeded):
    """The selectively uniform random walk. ``waits``: how likely the clock goes on first, where it may."""

    name = "surw"
    follows = True

    def __init__(self, *, waits: float = WAITS) -> None:
        # Steps by actor and kind: of the run before, and of this one.
        self._learnt: dict[Key, dict[Kind, int]] = {}
        self._made: dict[Key, dict[Kind, int]] = {}
        super().__init__(waits=waits)

    def _start(self, seed: int) -> None:
        if self._made:
            self._learnt = self._made
        super()._start(seed)
        self._made = {}
        self._keys = ActorKeys()
        # Of the pending step of each actor, until it is made.
        self._kinds: dict[Key, Kind] = {}
        kinds = sorted({kind for counts in self._learnt.values() for kind, count in counts.items() if count})
        self._selected = ALL
        if kinds and self._draw() < 0.5:
            self._selected = self._order.choice(kinds)
        self._left = self._weights()
        # Who is to make the next selected step, and how many steps were made since it was drawn.
        self._intended: Key | None = None
        self._since = 0

    def _weights(self) -> dict[Key, int]:
        """How many selected steps each actor has still to make, with those of the descendants that it has not spawned yet: all of them."""
        selected = self._selected
        weights: dict[Key, int] = {}
        for key, counts in self._learnt.items():
            own = sum(counts.values()) if selected is ALL else counts.get(selected, 0)
            while own and key:
                weights[key] = weights.get(key, 0) + own
                key = key[:-1]
        return weights

    def _see(self, stream: str, ready: Sequence[Actor]) -> list[Key]:
        keys = self._keys.see(stream, ready)
        for key in keys:
            if key not in self._made:  # spawned: from here on its steps are its own, and no longer its parent's
                self._made[key] = {}
                parent = key[:-1]
                if parent in self._left:
                    self._left[parent] -= self._left.get(key, 0)
        return keys

    def step(self, stream: str, ready: Sequence[Actor], may_wait: bool) -> int:
        if may_wait and self._draw() < self.waits:
            return len(ready)
        keys = self._see(stream, ready)
        kinds = [self._kind(key, actor) for key, actor in zip(keys, ready, strict=True)]
        index = self._pick(keys, kinds)
        self._ran(stream, keys[index], kinds[index])
        return index

    def only(self, stream: str, actor: Actor) -> None:
        key = self._see(stream, (actor,))[0]
        self._ran(stream, key, self._kind(key, actor))

    def _pick(self, keys: list[Key], kinds: list[Kind]) -> int:
        selected = self._selected
        self._since += 1
        if self._intended not in keys or self._since > PATIENCE:
            self._intended = self._draw_intended(keys)
            self._since = 0
        free = [
            index
            for index, (key, kind) in enumerate(zip(keys, kinds, strict=True))
            if key == self._intended or not (selected is ALL or kind == selected)
        ]
        return free[int(self._draw() * len(free))]

    def _draw_intended(self, keys: list[Key]) -> Key:
        weights = [max(self._left.get(key, 0), 0) for key in keys]
        if not any(weights):  # none of them was there in the run before, or all have made more steps than then
            return self._order.choice(keys)
        return self._order.choices(keys, weights)[0]

    def _ran(self, stream: str, key: Key, kind: Kind) -> None:
        self._keys.ran(stream, key)
        del self._kinds[key]
        counts = self._made[key]
        counts[kind] = counts.get(kind, 0) + 1
        if self._selected is ALL or kind == self._selected:
            self._left[key] = self._left.get(key, 0) - 1
            self._intended = None

    def _kind(self, key: Key, actor: Actor) -> Kind:
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = kind_of(actor)
        return kind


def kind_of(actor: Actor) -> Kind:
    """What the pending step of ``actor`` follows: its wait, and the innermost function of the program that waits.

    Bateau's own functions below that are left out: the C twin has fewer of them, and a seed makes the same run on both kernels.
    Of an actor that is no kernel task nothing is known but its name, of which the number at its end is no part.
    """
    operation = getattr(actor, "waiting", None)
    coro = getattr(actor, "coro", None)
    function = str(getattr(actor, "name", "")).rstrip("-0123456789") if coro is None else ""
    while coro is not None:
        code = getattr(coro, "cr_code", None)
        if code is None:
            break
        if not (function and code.co_filename.startswith(PACKAGE_DIR)):
            function = code.co_qualname
        coro = coro.cr_await
    if isinstance(operation, Drain):
        return "Drain", function  # the twin's is of a class of its own
    return ("" if operation is None else type(operation).__name__, function)
