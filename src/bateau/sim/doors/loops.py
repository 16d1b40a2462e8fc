"""A door in asyncio: loops made on a thread of a world take their ready tasks in the order that the world chooses.

asyncio is not imported for it: the door is opened when the program has imported asyncio, before or during the run.
"""

from __future__ import annotations

import sys
from typing import Any

from ..thread import here
from . import at_opening, at_shutting, importing

_real: Any = None


def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    _real(self, *args, **kwargs)
    if here.world is not None:
        from ..asyncio_tasks import adopt

        adopt(self)


def _open(module: Any = None) -> None:
    global _real
    base = sys.modules.get("asyncio.base_events")
    if base is not None and _real is None and hasattr(base, "BaseEventLoop"):
        loop: Any = base.BaseEventLoop
        _real, loop.__init__ = loop.__init__, _init


def _shut() -> None:
    global _real
    base: Any = sys.modules.get("asyncio.base_events")
    if base is not None and _real is not None:
        base.BaseEventLoop.__init__, _real = _real, None


at_opening(_open)
at_shutting(_shut)
importing.executed["asyncio.base_events"] = _open
