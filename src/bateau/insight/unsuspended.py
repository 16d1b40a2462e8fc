"""Async functions that never suspend: all of whose tasks have ended in their first step (``never_waits``; story S11).

Such a function runs nothing at once with anything, and a plain call would do the same for less. That it has happened to a few tasks means
nothing, since what they waited for may have been there already: so only functions with many tasks are listed, and none of which any
task ever waited. The live list is kept while somebody counts (a console does); a recording has the events themselves.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from contextvars import copy_context
from types import CodeType
from typing import TYPE_CHECKING, Any

from .hazards.settings import is_muted, limit
from .model import Finding
from .words import count

if TYPE_CHECKING:
    from ..kernel.task import Task
    from .recorder.reading import Place, RingFile
    from .tables import Tables

NAME = "never_waits"
# How many tasks of a function must have ended for it to be listed, unless ``thresholds(never_waits=...)`` says otherwise.
ENOUGH = 1000
# Functions that are told apart; a program that makes more of them by `exec` hears of the first.
_MOST = 10_000
# What a coroutine can suspend in.
_SUSPENDS = frozenset(("GET_AWAITABLE", "GET_ANEXT"))


class Unsuspended:
    """By function: how many of its tasks returned in their first step. None: one of them did not."""

    def __init__(self) -> None:
        self._counts: dict[CodeType, int | None] = {}

    def ended(self, task: Task[Any], steps: int) -> None:
        """A task has returned, after that many steps. Called by the loop's own thread."""
        code: CodeType | None = getattr(task.coro, "cr_code", None)
        if code is None:
            return
        counts = self._counts
        before = counts.get(code, 0)
        if steps > 1:
            before = None
        elif before is not None:
            before += 1
        if code in counts or len(counts) < _MOST:
            counts[code] = before

    def findings(self, tables: Tables) -> Iterator[Finding]:
        """What there is to say, the most frequent first; the functions' lines go into ``tables``."""
        here = copy_context()  # of whoever takes the snapshot
        enough = limit(NAME, ENOUGH, here)
        found = [(number, code) for code, number in self._counts.copy().items() if number and number >= enough]
        if is_muted(NAME, here):
            return
        for number, code in sorted(found, key=lambda one: -one[0]):
            site = tables.site(code.co_filename, code.co_firstlineno)
            yield Finding(NAME, _sentence(number, code.co_qualname, has_awaits(code)), site)


def in_ring(ring: RingFile) -> Iterator[tuple[str, Place | None]]:
    """The same of the tasks that a recording tells from their spawn to their end: sentences, each with the line that spawned them."""
    from .recorder import layout as at

    if ring.rides:
        return  # steps of another library's loop are not told
    begun: dict[int, tuple[int, int]] = {}
    steps: dict[int, int] = {}
    counts: dict[tuple[int, int], int | None] = {}
    for record in ring.records:
        if record.kind == at.SPAWN:
            begun[record.task] = record.a, record.b
            steps[record.task] = 0
        elif record.kind == at.STEP and record.task in steps:
            steps[record.task] += 1
        elif record.kind == at.PARK and record.task in steps:
            steps[record.task] += 2
        elif record.kind == at.END and record.task in begun:
            which, taken = begun.pop(record.task), steps.pop(record.task)
            if record.a == at.RETURNED:
                before = counts.get(which, 0)
                counts[which] = None if taken > 1 or before is None else before + 1
    # One line may have been written down as more than one stack.
    totals: dict[tuple[str, Place | None], int | None] = {}
    for (name, stack), number in counts.items():
        where = ring.text(name), next(iter(ring.stack(stack)), None)
        before = totals.get(where, 0)
        totals[where] = None if number is None or before is None else before + number
    for (text, place), number in sorted(totals.items(), key=lambda one: -(one[1] or 0)):
        if number is not None and number >= ENOUGH:
            yield _sentence(number, text, None), place


def has_awaits(code: CodeType) -> bool:
    """Whether there is anything in it that could suspend: an ``await``, an ``async for`` or an ``async with``."""
    return any(step.opname in _SUSPENDS for step in dis.get_instructions(code))


def _sentence(number: int, name: str, awaits: bool | None) -> str:
    why = (
        ""
        if awaits is None
        else "; there is an await in it, which never had to wait"
        if awaits
        else "; there is no await in it"
    )
    return (
        f"{count(number, 'task')} of {name!r} have ended, and none of them ever waited{why}: "
        "where that is always so, a plain function called in place does the same for less"
    )
