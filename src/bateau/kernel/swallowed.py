"""Finding the line that swallowed a cancellation (law 8).

Asked only when a task under cancellation reaches another operation, so it may be slow. A delivered exception is *not*
swallowed while it is being handled (it, or an exception raised in its handler, is the current one). Otherwise its
traceback names the frame that caught it, and that code object's exception table names the handler's line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any

from .errors import Cancelled, user_site
from .hazard import report

if TYPE_CHECKING:
    from .cancellation import CancelNode
    from .task import Task


def check_swallowed(task: Task[Any]) -> None:
    """``task``, under cancellation, reached an operation: report once if it caught the cancellation and dropped it."""
    exc = task.delivered
    if exc is None:
        _check_foreign(task)
        return
    if _is_being_handled(exc):
        return
    task.delivered = None
    tb = exc.__traceback__
    if tb is not None:
        _report(task, f"caught the cancellation ({exc}) and went on", _handler_site(tb))


def _check_foreign(task: Task[Any]) -> None:
    """The cancellation was thrown by the host into a foreign await, so we hold no exception whose traceback names the line;
    the line where the task went on is the next best.
    """
    node: CancelNode | None = task.node
    while node is not None and not node.given:
        node = None if node is task else node.parent
    if node is None or _is_being_handled(None):
        return
    message = f"caught the cancellation ({task.node.effective}) of a foreign await before this line and went on"
    _report(task, message, user_site(sys._getframe(2)))


def _report(task: Task[Any], what: str, site: tuple[str, int]) -> None:
    report(
        "swallowed_cancellation",
        f"task {task.name!r} {what}; clean up, then raise it again (a bare `raise`), or catch `Exception` instead",
        site,
        task,
    )


def _is_being_handled(exc: BaseException | None) -> bool:
    """Whether ``exc`` (None: any cancellation) is the current exception, or one in whose handler that was raised."""
    current = sys.exc_info()[1]
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        if current is exc or (exc is None and isinstance(current, Cancelled)):
            return True
        seen.add(id(current))
        current = current.__context__
    return False


def _handler_site(tb: TracebackType) -> tuple[str, int]:
    """The traceback's outermost frame is the one that caught it; the line is its handler's."""
    code = tb.tb_frame.f_code
    offset = _handler_offset(code, tb.tb_lasti)
    line: int | None = None
    if offset is not None:
        # The handler's first instruction is bookkeeping without a line; the next one with a line is the `except` clause.
        line = next((ln for _, end, ln in code.co_lines() if end > offset and ln is not None), None)
    return code.co_filename, line or tb.tb_lineno


def _handler_offset(code: CodeType, lasti: int) -> int | None:
    for start, end, target in _exception_table(code.co_exceptiontable):
        if start <= lasti < end:
            return target
    return None


def _exception_table(table: bytes) -> Iterator[tuple[int, int, int]]:
    """(start, end, target) byte offsets, innermost first for any one instruction (CPython 3.11's varint encoding)."""
    it = iter(table)

    def varint() -> int:
        byte = next(it)
        value = byte & 63
        while byte & 64:
            byte = next(it)
            value = value << 6 | byte & 63
        return value

    while True:
        try:
            start = varint() * 2
        except StopIteration:
            return
        length = varint() * 2
        target = varint() * 2
        varint()  # stack depth and the lasti flag
        yield start, start + length, target
