"""Which line of the user's code a thread is at: for explanations and stories, where the frames of libraries say nothing."""

from __future__ import annotations

import os
import sys
from types import FrameType

from ..kernel.errors import PACKAGE_DIR

Site = tuple[str, int, str]

STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_known: dict[str, bool] = {}
_current_frames = sys._current_frames  # the real one, also while a door stands in its place


def is_inner(filename: str) -> bool:
    """Whether the file is bateau's or the standard library's, and so not what a user wants to be shown."""
    found = _known.get(filename)
    if found is None:
        stdlib = filename.startswith(STDLIB) and f"{os.sep}site-packages{os.sep}" not in filename
        found = _known[filename] = stdlib or filename.startswith((PACKAGE_DIR, "<frozen")) or filename == "<string>"
    return found


def site_of(frame: FrameType | None) -> Site | None:
    """File, line and function of the innermost frame that is a user's, starting at ``frame``; None where there is none."""
    while frame is not None:
        code = frame.f_code
        if not is_inner(code.co_filename):
            return code.co_filename, frame.f_lineno, code.co_qualname
        frame = frame.f_back
    return None


def running_at() -> Site | None:
    """Where the calling thread is."""
    return site_of(sys._getframe(1))


def standing_at(os_ident: int) -> Site | None:
    """Where the OS thread of that (real) identifier is."""
    return site_of(_current_frames().get(os_ident))
