"""What a person should see of a failure: the frames of their own code.

Between the runner's frames and the test stand those of a loop, and below it those of bateau. Both are taken out of the traceback, of
the causes and of the parts of groups as well; ``BATEAU_TRACEBACK=full`` keeps everything.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, cast

from ..kernel.errors import PACKAGE_DIR, BateauError
from .running import TestTimeout

# Whose frames may stand above the first of the user's. Only there: further down, these are what the user called.
_ABOVE = ("asyncio", "trio", "outcome", "uvloop", "_pytest", "pluggy", "unittest")


def trimmed(error: BaseException) -> BaseException:
    """``error``, with the machinery taken out of every traceback in it."""
    if os.environ.get("BATEAU_TRACEBACK") == "full":
        return error
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    for each in todo:
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        shown = users_frames(each.__traceback__, below=isinstance(each, TestTimeout))
        if shown is not None or isinstance(each, BateauError | BaseExceptionGroup):  # whose text says where
            each.__traceback__ = shown
        todo += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            todo += cast("BaseExceptionGroup[BaseException]", each).exceptions
    return error


def users_frames(tb: TracebackType | None, *, below: bool = False) -> TracebackType | None:
    """The traceback without bateau's frames, beginning with the first that is no loop's; None, where nothing else is in it.

    ``below``: and ending with the last that is no loop's.
    """
    above = [os.path.dirname(sys.modules[name].__file__ or "") + os.sep for name in _ABOVE if name in sys.modules]
    kept: list[TracebackType] = []
    at: Any = tb
    while at is not None:
        name = at.tb_frame.f_code.co_filename
        ours = name.startswith(PACKAGE_DIR)
        if not ours and (kept or not name.startswith(tuple(above))):
            kept.append(at)
        at = at.tb_next
    while below and kept and kept[-1].tb_frame.f_code.co_filename.startswith(tuple(above)):
        kept.pop()
    made: TracebackType | None = None
    for at in reversed(kept):
        made = TracebackType(made, at.tb_frame, at.tb_lasti, at.tb_lineno)
    return made
