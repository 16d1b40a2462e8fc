"""``bateau.sim``: run the real program in a world where time, order, network and disk are ours.

Nothing here is imported by ``import bateau``; the parts are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .determinism import check_determinism as check_determinism
    from .determinism import pin_hash_seed as pin_hash_seed
    from .errors import InvariantBroken as InvariantBroken
    from .errors import NoProgress as NoProgress
    from .errors import NotSimulated as NotSimulated
    from .errors import ProcessFailed as ProcessFailed
    from .errors import StoodStill as StoodStill
    from .errors import StubbornThread as StubbornThread
    from .errors import Stuck as Stuck
    from .everywhere import cancel_everywhere as cancel_everywhere
    from .everywhere import crash_everywhere as crash_everywhere
    from .exploring import Exploration as Exploration
    from .exploring import Found as Found
    from .exploring import explore as explore
    from .exploring import replay as replay
    from .exploring import run as run
    from .faults import Faults as Faults
    from .faults import Latency as Latency
    from .faults import buggify as buggify
    from .history import History as History
    from .host import SimHost as SimHost
    from .invariants import always as always
    from .invariants import eventually as eventually
    from .invariants import unchanged as unchanged
    from .linear import NotLinearizable as NotLinearizable
    from .linear import Undecided as Undecided
    from .linear import check_linearizable as check_linearizable
    from .linear import is_linearizable as is_linearizable
    from .process import Process as Process
    from .running import Run as Run
    from .strategy import Strategy as Strategy
    from .world import World as World
    from .world import current_world as current_world

_WHERE = {
    "determinism": ("check_determinism", "pin_hash_seed"),
    "errors": (
        "InvariantBroken",
        "NoProgress",
        "NotSimulated",
        "ProcessFailed",
        "StoodStill",
        "StubbornThread",
        "Stuck",
    ),
    "everywhere": ("cancel_everywhere", "crash_everywhere"),
    "exploring": ("Exploration", "Found", "explore", "replay", "run"),
    "faults": ("Faults", "Latency", "buggify"),
    "history": ("History",),
    "host": ("SimHost",),
    "invariants": ("always", "eventually", "unchanged"),
    "linear": ("NotLinearizable", "Undecided", "check_linearizable", "is_linearizable"),
    "process": ("Process",),
    "running": ("Run",),
    "strategy": ("Strategy",),
    "world": ("World", "current_world"),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}
__all__ = list(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll]  # one list, not two


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
