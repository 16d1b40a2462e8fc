"""``unretrieved_error`` in asyncio's own tasks and futures, which say it only to their loop's exception handler (mostly a line in a log).

While the program is watched that is a finding as well, at the line that raised. Loops written in C (uvloop's) have no method to look into.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from ...kernel.errors import user_site
from ...kernel.explain import INSTALLED, STDLIB
from ...kernel.hazard import Finding, keep, muted
from .base import Hazard

_NAME = "unretrieved_error"
_SAYS = "exception was never retrieved"


def listen(hazard: Hazard) -> Callable[[], None] | None:
    """Keep what asyncio's loops are told of. Returns the function that ends it; None as long as nobody has imported asyncio."""
    module: Any = sys.modules.get("asyncio.base_events")
    cls: Any = getattr(module, "BaseEventLoop", None)
    if cls is None:
        return None
    original: Any = cls.call_exception_handler

    def call_exception_handler(self: Any, context: dict[str, Any]) -> None:
        if str(context.get("message", "")).endswith(_SAYS) and not {hazard.name, "*"} & muted.get():
            keep(_finding(hazard, context))
        original(self, context)

    cls.call_exception_handler = call_exception_handler

    def end() -> None:
        if cls.call_exception_handler is call_exception_handler:
            cls.call_exception_handler = original

    return end


def _finding(hazard: Hazard, context: dict[str, Any]) -> Finding:
    error: Any = context.get("exception")
    future: Any = context.get("task") or context.get("future")
    name = str(future.get_name()) if hasattr(future, "get_name") else ""
    what = f"task {name!r} failed" if name else "a future failed"
    code = getattr(future.get_coro(), "cr_code", None) if hasattr(future, "get_coro") else None
    sites = (("defined", code.co_filename, code.co_firstlineno),) if code is not None else ()
    now = time.time()
    return Finding(
        _NAME,
        f"{what}, and nobody ever looked: {_words(error)}",
        *(_raised_at(error) or user_site(sys._getframe(2))),
        task=name,
        sites=sites,
        remedy=hazard.remedy,
        first=now,
        last=now,
    )


def _words(error: Any) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # a text of the user's own that fails
        return type(error).__name__


def _raised_at(error: Any) -> tuple[str, int] | None:
    """The innermost line of the user's that the error went through."""
    found: tuple[str, int] | None = None
    step = getattr(error, "__traceback__", None)
    while step is not None:
        filename = step.tb_frame.f_code.co_filename
        if not filename.startswith(STDLIB) or filename.startswith(INSTALLED):
            found = filename, step.tb_lineno
        step = step.tb_next
    return found
