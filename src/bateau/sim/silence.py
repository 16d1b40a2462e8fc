"""What the dead would say is not said: destructors that run while a world is taken apart have no effect, and nobody to tell."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ..kernel.errors import HazardWarning
from .thread import Killed, here


@contextmanager
def the_dead_are_silent() -> Generator[None]:
    """While the block runs, hazards are not reported ("was dropped without being closed": it was, by a power cut), nor is what destructors
    raise on threads of the world: each simulated call raises ``Killed`` in them, and what they make of it is nobody's.
    """
    told = sys.unraisablehook

    def tell(args: Any) -> None:
        if here.world is None and not isinstance(args.exc_value, Killed):
            told(args)

    sys.unraisablehook = tell
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HazardWarning)
            yield
    finally:
        sys.unraisablehook = told
