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

from .hazard import report

if TYPE_CHECKING:
    from .task import Task


def check_swallowed(task: Task[Any]) -> None:
    """Report once if the last cancellation delivered to ``task`` was caught and dropped."""
    exc = task.delivered
    if exc is None or _is_being_handled(exc):
        return
    task.delivered = None
    tb = exc.__traceback__
    if tb is None:
        return
    site = _handler_site(tb)
    report(
        "swallowed_cancellation",
        f"task {task.name!r} caught the cancellation ({exc}) and went on; clean up, then raise it again "
        "(a bare `raise`), or catch `Exception` instead",
        site,
    )


def _is_being_handled(exc: BaseException) -> bool:
    current = sys.exc_info()[1]
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        if current is exc:
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
        line = next((ln for start, end, ln in code.co_lines() if start <= offset < end and ln is not None), None)
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
