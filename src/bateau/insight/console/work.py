"""What is worked out of a snapshot on a thread, so that the keys of a screen that shows 100,000 tasks are answered meanwhile.

Nothing here knows the screen. A snapshot is read together with what every page needs of it (``look``); the rows of the open tab are
worked out when they are wanted (``rows_of``), never more than ``listing.MOST_ROWS`` of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..model import Snapshot, Want
from . import listing
from .details import TEXTS
from .listing import Branches, Listing
from .problems import Problem, find_problems
from .sources import Source
from .trends import numbers_of

# Up to so many tasks, rows and details are worked out at once, on the screen's own thread: in less time than a screen takes to be drawn.
FEW = 2_000


@dataclass(frozen=True)
class Seen:
    """A snapshot, its problems, the numbers for the trends, and the texts of the pages that were open (None: the thing is gone)."""

    snapshot: Snapshot
    problems: tuple[Problem, ...]
    numbers: dict[str, float]
    texts: dict[tuple[str, int], str | None]


@dataclass(frozen=True)
class Ask:
    """Whose rows are wanted: those of a tab, filtered and sorted."""

    tab: str
    match: str
    order: str


def is_large(snapshot: Snapshot) -> bool:
    """Whether what is made of it is made on a thread."""
    return len(snapshot.tasks) > FEW


def look(source: Source, want: Want, pages: Iterable[tuple[str, int]] = ()) -> Seen:
    """Read a program. ``pages``: of what (kind and id) the details are wanted as well. Raises what ``source.read`` does."""
    snapshot = source.read(want)
    texts: dict[tuple[str, int], str | None] = {}
    for kind, number in pages:
        try:
            texts[kind, number] = TEXTS[kind](snapshot, number)
        except KeyError:
            texts[kind, number] = None
    return Seen(snapshot, find_problems(snapshot), numbers_of(snapshot), texts)


def rows_of(snapshot: Snapshot, problems: tuple[Problem, ...], ask: Ask) -> Listing | Branches:
    """The rows of a tab."""
    if ask.tab == "tree":
        return listing.branches(snapshot, match=ask.match)
    if ask.tab == "tasks":
        return listing.task_rows(snapshot, match=ask.match, sort=ask.order)
    if ask.tab == "resources":
        return listing.resource_rows(snapshot, match=ask.match)
    if ask.tab == "scopes":
        return listing.scope_rows(snapshot, match=ask.match)
    if ask.tab == "runtimes":
        return listing.runtime_rows(snapshot)
    rows = tuple(listing.Row(at, (one.title, one.seen or "now", one.chapter)) for at, one in enumerate(problems))
    return Listing(rows, len(rows), len(rows))
