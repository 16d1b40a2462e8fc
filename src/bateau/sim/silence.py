"""What the dead would say is not said: destructors that run while a world is taken apart have no effect, and nobody to tell."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ..kernel.errors import HazardWarning
from .thread import Killed


@contextmanager
def the_dead_are_silent() -> Generator[None]:
    """While the block runs, hazards are not reported ("was dropped without being closed": it was, by a power cut), nor is ``Killed``,
    which every simulated call raises in a dead process, when it comes out of a destructor.
    """
    told = sys.unraisablehook

    def tell(args: Any) -> None:
        if not isinstance(args.exc_value, Killed):
            told(args)

    sys.unraisablehook = tell
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HazardWarning)
            yield
    finally:
        sys.unraisablehook = told
