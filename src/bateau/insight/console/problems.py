"""What is wrong, most serious first: knots of the wait graph, and the hazards that were found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...kernel.explain import told
from ..drawing import to_dot, to_mermaid
from ..explain import evidence, explain_knot, is_told, seen
from ..model import Finding, Snapshot
from ..waitgraph import Knot, find_knots

# Where the chapters stand; each has an anchor with the hazard's name.
CHAPTERS = "docs/hazards.md"


@dataclass(frozen=True)
class Problem:
    """One problem. ``title`` in one line, ``text`` the explanation, ``chapter`` where to read on, ``tasks`` who is concerned,
    ``seen`` how often and when, if that is known.
    """

    name: str
    level: Literal["proven", "likely", "found"]
    title: str
    text: str
    chapter: str
    tasks: tuple[int, ...]
    seen: str = ""

    def banner(self) -> str:
        """What stands on every page as long as it is there."""
        return f"{self.title}: press P"


def find_problems(snapshot: Snapshot) -> tuple[Problem, ...]:
    """The problems of a snapshot."""
    knots = find_knots(snapshot)
    reported = [finding for finding in reversed(snapshot.findings) if not is_told(snapshot, finding, knots)]
    return (*(_knot(snapshot, knot) for knot in knots), *(_found(snapshot, finding) for finding in reported))


def graph_of(snapshot: Snapshot, problem: Problem | None) -> tuple[str, str]:
    """The wait graph as ``.dot`` and as Mermaid: of the problem's tasks, or of all that wait."""
    tasks = problem.tasks if problem is not None and problem.tasks else None
    return to_dot(snapshot, tasks), to_mermaid(snapshot, tasks)


def _knot(snapshot: Snapshot, knot: Knot) -> Problem:
    what = "task waits for itself" if len(knot.ring) == 1 else f"{len(knot.ring)} tasks wait for each other"
    title = f"deadlock cycle detected, {what}" if knot.exact else f"probably a deadlock, {what}"
    behind = f", {len(knot.behind)} more behind them" if knot.behind else ""
    return Problem(
        "deadlock",
        "proven" if knot.exact else "likely",
        title + behind,
        explain_knot(snapshot, knot),
        f"{CHAPTERS}#deadlock",
        (*knot.ring, *knot.behind),
    )


def _remedy(finding: Finding) -> list[str]:
    """What to do: a finding may say so itself, else its hazard does."""
    from ..hazards import by_name  # only where there is a finding

    try:
        remedy = by_name(finding.hazard).remedy
    except ValueError:  # another version's, another tool's
        return []
    return [f"what to do: {remedy}"] if remedy and remedy not in finding.message else []


def _found(snapshot: Snapshot, finding: Finding) -> Problem:
    frame = snapshot.frame(finding.site)
    where = f"\n  at {told((frame.file, frame.line, frame.function))}" if frame is not None else ""
    when = seen(finding)
    return Problem(
        finding.hazard,
        "found",
        finding.hazard,
        f"{finding.message}{where}"
        + "".join(f"\n  {line}" for line in ([f"seen {when}"] if when else []) + evidence(finding) + _remedy(finding)),
        f"{CHAPTERS}#{finding.hazard}",
        finding.tasks,
        when,
    )
