"""Asynchronous iteration: ``bateau.iter(source)`` and what can be chained to it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from .asynciter import AsyncIter
from .callbacks import Overflowed, Push
from .chain import Moved
from .delegating import each
from .ends import NoItems
from .flow import ItemTimeout
from .generators import generator
from .joining import Uneven
from .par import ParIter, WorkerDied
from .retrying import Retry
from .sinks import Sink, fan_out, sink
from .sources import iter  # noqa: A004  # its public name

__all__ = [
    "AsyncIter",
    "ItemTimeout",
    "Moved",
    "NoItems",
    "Overflowed",
    "ParIter",
    "Progress",
    "Push",
    "Retry",
    "Sink",
    "Uneven",
    "WorkerDied",
    "each",
    "fan_out",
    "generator",
    "iter",
    "sink",
]
from .timing import Progress


class _Callable(ModuleType):
    """``bateau.iter`` is the function and its kin; once this package was imported by its own name, it is the package. Both work."""

    def __call__(self, items: Any, /) -> AsyncIter[Any]:
        return iter(items)

    def __getattr__(self, name: str) -> Any:
        return getattr(iter, name)


sys.modules[__name__].__class__ = _Callable
