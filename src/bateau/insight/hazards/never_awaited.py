"""``never_awaited``: a coroutine (or an operation) was made and dropped, so nothing happened.

Of bateau's operations this is reported in every program. Python warns of its own coroutines in words of its own; while the program is
watched, that is a finding as well, at the line that dropped it (which is mostly the one that made it).
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from ...kernel.errors import user_site
from ...kernel.hazard import Finding, keep, muted
from .base import Hazard


class NeverAwaited(Hazard):
    """Nothing happened."""

    name = "never_awaited"
    title = "Never awaited"
    remedy = "await it, or hand it to `scope.spawn`"


def listen(hazard: NeverAwaited) -> Callable[[], None]:
    """Also keep what Python itself warns of. Returns the function that ends it."""
    hooked: Any = warnings
    original: Any = getattr(hooked, "_warn_unawaited_coroutine", None)
    if original is None:
        return lambda: None

    def tell(coro: Any) -> None:
        origin = getattr(coro, "cr_origin", None)
        filename, lineno = origin[0][:2] if origin else user_site(sys._getframe(1))
        code = coro.cr_code
        if not {hazard.name, "*"} & muted.get():
            now = time.time()
            keep(
                Finding(
                    hazard.name,
                    f"coroutine {coro.__qualname__!r} was never awaited: nothing happened",
                    filename,
                    lineno,
                    sites=(("defined", code.co_filename, code.co_firstlineno),),
                    remedy=hazard.remedy,
                    first=now,
                    last=now,
                )
            )
        original(coro)

    hooked._warn_unawaited_coroutine = tell

    def end() -> None:
        if hooked._warn_unawaited_coroutine is tell:
            hooked._warn_unawaited_coroutine = original

    return end
