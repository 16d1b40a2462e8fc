"""Adopted use: finding the bateau record of the foreign task that runs on this thread.

Imports neither asyncio nor trio: if they are not in ``sys.modules``, no task of theirs can be running.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..kernel.current import Finder, finders

if TYPE_CHECKING:
    from ..kernel.task import Task


def find_trio_task() -> Task[Any] | None:
    """The record of the running trio task. Asked before asyncio: in guest mode both loops are running."""
    if "trio" not in sys.modules:
        return None
    from .trio_host import find_current_task

    _replace(find_trio_task, find_current_task)
    return find_current_task()


def find_asyncio_task() -> Task[Any] | None:
    """The record of the running asyncio task."""
    asyncio = sys.modules.get("asyncio")
    # While asyncio itself is being imported it has no ``events`` yet.
    events = getattr(asyncio, "events", None)
    if events is None or events._get_running_loop() is None:
        return None
    from .asyncio_host import find_current_task

    _replace(find_asyncio_task, find_current_task)
    return find_current_task()


def _replace(first: Finder, then: Finder) -> None:
    """From its first success on, ask the host's own finder: every operation in a foreign task comes by here."""
    if first in finders:
        finders[finders.index(first)] = then


_installed = False


def install() -> None:
    """Register the finders, once."""
    global _installed
    if not _installed:
        _installed = True
        finders.extend((find_trio_task, find_asyncio_task))
