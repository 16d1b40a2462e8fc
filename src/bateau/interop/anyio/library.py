"""Which async library anyio is to see: ``sniffio``'s variable, set only where this backend was asked for.

Where asyncio has been imported, a native task is an asyncio task as well, and ``sniffio`` would say so. The variable goes first.
"""

from __future__ import annotations

from contextvars import Context

import sniffio

NAME = "bateau"

variable = sniffio.current_async_library_cvar


def mark_context(context: Context) -> None:
    """Make ``context`` one of a task that runs on this backend."""
    if context.get(variable) != NAME:
        context.run(variable.set, NAME)
