"""Strategies: who runs next, and what goes wrong, in a simulated run.

| name | what it does | good for |
|---|---|---|
| ``fifo`` | production's order; only faults vary | a first look, faults alone |
| ``random`` | any of the ready, equally likely | the default: cheap, finds shallow bugs fast |
| ``pct`` | random priorities, changed at few random steps | bugs that need one task held back for long; has a proven bound |
| ``pos`` | random priorities, drawn anew where steps race | many short tasks around the same things |
| ``surw`` | uniform over interleavings, of all or of selected steps | tasks of very different length |
| ``exhaustive`` | every order that can matter | small tests: proves that there is none left |
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from .base import ActorKeys, Choices, Strategy
from .replay import Replay

__all__ = ["NAMES", "ActorKeys", "Choices", "Replay", "Strategy", "by_name", "strategy_of"]

_CLASSES = {
    "fifo": "Fifo",
    "random": "Random",
    "pct": "Pct",
    "pos": "Pos",
    "surw": "Surw",
    "exhaustive": "Exhaustive",
}
NAMES = tuple(_CLASSES)


def strategy_of(given: object) -> Strategy:
    """The strategy itself, or a new one of that name. Raises ``TypeError``, ``ValueError``."""
    if isinstance(given, str):
        return by_name(given)
    if not isinstance(given, Strategy):
        hint = f": give an object, {given.__name__}()" if isinstance(given, type) else ""
        raise TypeError(f"strategy is one of {', '.join(NAMES)}, or a sim.Strategy object, not {given!r}{hint}")
    return given


def by_name(name: str) -> Strategy:
    """A new strategy of that name, as it is without arguments. Raises ``ValueError`` for a name that is none."""
    if name not in _CLASSES:
        raise ValueError(f"there is no strategy {name!r}; choose from {', '.join(NAMES)}, or give a Strategy object")
    make = cast("Callable[[], Strategy]", getattr(import_module(f".{name}", __name__), _CLASSES[name]))
    return make()
