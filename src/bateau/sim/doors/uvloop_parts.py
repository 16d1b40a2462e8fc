"""uvloop in a world: its loop is C over real descriptors, so asyncio's own takes its place there.

``uvloop.Loop()``, and with it ``uvloop.run`` and the policy, gives a loop of asyncio's that calls itself one of uvloop's.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ..thread import here
from . import at_opening, at_shutting, importing

_open_in: list[Any] = []


def _put_in_place(module: ModuleType) -> None:
    import asyncio

    loop: Any = getattr(module, "Loop", None)
    if loop is None or _open_in:
        return

    class Simulated(asyncio.SelectorEventLoop):
        """asyncio's loop, which ``isinstance`` takes for uvloop's."""

        @property  # type: ignore[misc]  # that it can be set is of no use here
        def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
            return loop

    base = loop.__mro__[1]

    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return base.__new__(cls, *args, **kwargs) if here.world is None else Simulated()

    loop.__new__ = new
    _open_in.append(loop)


def _open() -> None:
    module = sys.modules.get("uvloop")
    if module is not None:
        _put_in_place(module)


def _shut() -> None:
    while _open_in:
        del _open_in.pop().__new__


at_opening(_open)
at_shutting(_shut)
importing.executed["uvloop"] = _put_in_place
