"""Every error bateau raises, and the record a cancellation carries.

Errors are subclasses of the built-in type a reader would expect (``RuntimeError`` for misuse, ``OSError`` for
streams), so that existing handlers keep working, and of ``BateauError``, so that ours can be told apart.
"""

from __future__ import annotations

import sys
import typing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

PACKAGE_DIR = __file__[: -len("kernel/errors.py")]
# ``Event[int](...)`` makes its object in a frame of this file: never the line to blame.
_TYPING_FILE = typing.__file__


def user_site(frame: FrameType | None) -> tuple[str, int]:
    """The file and line of the innermost frame outside bateau, starting at ``frame``."""
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(PACKAGE_DIR) and filename != _TYPING_FILE:
            return filename, frame.f_lineno
        frame = frame.f_back
    return "<unknown>", 0


def line_of(code: CodeType | tuple[str, int], offset: int) -> tuple[str, int]:
    """The file and line that a code object and an offset into it name. Worked out only when somebody asks: finding the line in a
    frame costs more than the rest of a timeout's making, in a long function.
    """
    if isinstance(code, tuple):
        return code
    line = next((ln for start, end, ln in code.co_lines() if start <= offset < end and ln is not None), 0)
    return code.co_filename, line


class CancelRecord:
    """Why a cancellation happened: ``reason`` in words, ``origin`` (task name and file:line), and its ``cause``.

    ``cause`` is the exception that led to it (a sibling's failure, say), or None. ``chain`` lists the records from
    this one back to the first: a cancellation caused by another cancellation names it.
    """

    __slots__ = ("cause", "filename", "lineno", "parent", "reason", "task_name")

    def __init__(
        self,
        reason: str,
        *,
        task_name: str | None = None,
        cause: BaseException | None = None,
        parent: CancelRecord | None = None,
        site: tuple[str, int] | None = None,
    ) -> None:
        if site is None:
            site = user_site(sys._getframe(1))
        self.reason = reason
        self.task_name = task_name
        self.cause = cause
        self.parent = parent
        self.filename, self.lineno = site

    @property
    def origin(self) -> str:
        """Who cancelled, as ``task 'name' at file:line``."""
        who = f"task {self.task_name!r}" if self.task_name else "code outside any task"
        return f"{who} at {self.filename}:{self.lineno}"

    @property
    def chain(self) -> tuple[CancelRecord, ...]:
        """This record, then the one that caused it, and so on."""
        found: list[CancelRecord] = []
        record: CancelRecord | None = self
        while record is not None:
            found.append(record)
            record = record.parent
        return tuple(found)

    def __str__(self) -> str:
        text = f"{self.reason} (by {self.origin})"
        return text if self.parent is None else f"{text}; because: {self.parent}"

    def __repr__(self) -> str:
        return f"<CancelRecord {self}>"


class Cancelled(BaseException):
    """What a cancelled task sees. It has no slots and no state, so a host's own exact type can take it as a base.

    Catch it to clean up, then raise it again; the scope that was cancelled ends it.
    """

    __slots__ = ()

    @property
    def record(self) -> CancelRecord | None:
        """The record of the cancellation, or None where foreign code cancelled the task."""
        found = self.__dict__.get("_bateau_record")
        if found is None and self.args and isinstance(self.args[0], CancelRecord):
            return self.args[0]
        return found

    @property
    def reason(self) -> str:
        """Why, in words."""
        record = self.record
        return record.reason if record is not None else "cancelled by code outside bateau"

    @property
    def origin(self) -> str:
        """Who cancelled, and where."""
        record = self.record
        return record.origin if record is not None else "unknown"

    @property
    def chain(self) -> tuple[CancelRecord, ...]:
        """The records from this cancellation back to its first cause."""
        record = self.record
        return record.chain if record is not None else ()


class BateauError(Exception):
    """The base of bateau's own errors."""


class TaskCancelled(BateauError):
    """Raised by ``await task`` when that task, a stranger's, had been cancelled. ``record`` tells why."""

    def __init__(self, message: str, record: CancelRecord | None = None) -> None:
        super().__init__(message)
        self.record = record


class NotInRuntime(BateauError, RuntimeError):
    """A waiting call was awaited where no runtime drives this thread."""


class NestedRun(BateauError, RuntimeError):
    """A runtime was started inside a running one, on the same thread."""


class WrongRuntime(BateauError, RuntimeError):
    """A ``local`` primitive was used from a second runtime or thread."""


class Unsupported(BateauError, NotImplementedError):
    """The running runtime lacks a feature; the message names an alternative."""


class ScopeError(BateauError, RuntimeError):
    """A scope was left out of order or from another task, or used before it opened or after it closed."""


class Deadlock(BateauError, RuntimeError):
    """Nothing in the program can ever run again. The message says who waits on what, and who holds it."""


class Busy(BateauError, RuntimeError):
    """Two tasks use one end of a stream at once. The message names both."""


class Closed(BateauError, OSError):
    """The resource was closed on this side; it can't be used again."""


class Broken(BateauError, OSError):
    """The other side is gone, or a torn write made the stream useless. ``sent`` is how many bytes went out."""

    def __init__(self, message: str, *, sent: int | None = None) -> None:
        super().__init__(message)
        self.sent = sent


class EndOfStream(BateauError, EOFError):
    """No further item or byte will come: every sender is gone. ``partial`` holds bytes already read, if any."""

    def __init__(self, message: str, *, partial: bytes = b"") -> None:
        super().__init__(message)
        self.partial = partial


class WouldBlock(BateauError, BlockingIOError):
    """A ``try_`` call could not go ahead at once."""


class Stopped(BateauError):
    """A stop-aware wait (accept, an iterator) ended because its scope was asked to stop."""


class HazardWarning(RuntimeWarning):
    """A hazard seen at run time. Its message starts with the hazard's name, which lint and console share."""
