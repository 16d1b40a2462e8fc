"""An exception as it is written down: its tree, its frames, and those of their variables that were asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from types import FrameType, TracebackType
from typing import Any

from .report import Error, ErrorFrame

# A tree of errors may be as large as the program: what is kept of it.
_MOST_FRAMES = 60
_MOST_MEMBERS = 16
_DEEPEST = 8
_LONGEST_VALUE = 200
_LONGEST_MESSAGE = 2000
_MOST_LOCALS = 20

# Variables whose values are never written down, whatever was asked for.
SECRET = re.compile(
    r"pass(?:word|wd|phrase)?$|passw|secret|token|credential|api_?key|private|auth|cookie|session_?id", re.IGNORECASE
)
REDACTED = "<redacted>"


def describe_error(error: BaseException, wanted: Sequence[str] = ()) -> Error:
    """Write an exception down. ``wanted``: patterns (``request*``) of the local variables whose values are kept, in the frames of the
    user's own code; a name that looks like a secret's is redacted all the same.
    """
    return _describe(error, wanted, 0, set())


def _describe(error: BaseException, wanted: Sequence[str], depth: int, seen: set[int]) -> Error:
    seen.add(id(error))
    cause = error.__cause__
    because = cause if cause is not None or error.__suppress_context__ else error.__context__
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ()) if _is_group(error) and depth < _DEEPEST else ()
    members = tuple(_describe(one, wanted, depth + 1, seen) for one in inner[:_MOST_MEMBERS])
    linked: Error | None = None
    if because is not None and id(because) not in seen and depth < _DEEPEST:
        linked = _describe(because, wanted, depth + 1, seen)
    kind = type(error)
    return Error(
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
        _safely(error, str)[:_LONGEST_MESSAGE],
        tuple(str(note)[:_LONGEST_MESSAGE] for note in _notes(error)),
        tuple(_frames(error.__traceback__, wanted)),
        linked,
        cause is not None,
        members,
        max(0, len(inner) - _MOST_MEMBERS),
    )


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)


def _notes(error: BaseException) -> list[object]:
    notes: Any = getattr(error, "__notes__", ())
    return [*notes] if isinstance(notes, (list, tuple)) else []


def _frames(tb: TracebackType | None, wanted: Sequence[str]) -> list[ErrorFrame]:
    found: list[ErrorFrame] = []
    while tb is not None:
        code = tb.tb_frame.f_code
        kept = _locals(tb.tb_frame, wanted) if wanted else {}
        found.append(ErrorFrame(code.co_filename, tb.tb_lineno, code.co_qualname, kept))
        tb = tb.tb_next
    if len(found) > _MOST_FRAMES:  # both ends tell: where it came from, and where it happened
        del found[_MOST_FRAMES // 3 : len(found) - _MOST_FRAMES * 2 // 3]
    return found


def _locals(frame: FrameType, wanted: Sequence[str]) -> dict[str, str]:
    from .death import whose

    if whose(frame.f_code.co_filename) != "user":
        return {}
    found: dict[str, str] = {}
    for name, value in frame.f_locals.items():
        if any(fnmatchcase(name, pattern) for pattern in wanted) and not (
            name.startswith("__") and name.endswith("__")
        ):
            found[name] = REDACTED if SECRET.search(name) else _safely(value, repr)[:_LONGEST_VALUE]
            if len(found) == _MOST_LOCALS:
                break
    return found


def _safely(value: object, how: type[str] | object) -> str:
    """``str`` or ``repr`` of what may be in any state: the program has just failed."""
    try:
        return str(value) if how is str else repr(value)
    except Exception as error:
        return f"<no text: {type(error).__name__} in its own code>"
