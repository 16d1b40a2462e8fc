"""The story of a failed run, for people: what went wrong and where, what was decided otherwise than usual, and what happened when."""

from __future__ import annotations

import linecache
import os
import re
import shlex
import traceback
from typing import TYPE_CHECKING

from ..kernel.errors import PACKAGE_DIR, BateauError
from ..kernel.explain import INSTALLED, STDLIB
from .errors import leaves

if TYPE_CHECKING:
    from .exploring import Exploration
    from .running import Run
    from .timeline import Record

# Lines of the timeline in a message; the picture and ``bateau sim replay`` have all of it.
MOST_LINES = 60


def tell(run: Run, token: str, covered: Exploration | None = None, *, replays: bool = True) -> str:
    """The whole story of a failed run, as text."""
    error = run.error
    after = f" after {covered.runs} runs" if covered is not None and covered.runs > 1 else ""
    lines = [f"seed {run.seed} fails{after}: {headline(error)}", ""]
    lines += blame(error)
    lines += ["", decisions(run), ""]
    lines += timeline(run.events)
    lines += [
        "",
        f"replay: bateau sim replay {token} --target {shlex.quote(_absolute(run.target))}"
        if run.target
        else f'replay: sim.replay(scenario, "{token}")',
        f'pin:    @simulate.pin("{token}")',
    ]
    if run.strayed:
        lines.append(
            f"NOTE: this run went another way than its token records ({'; '.join(run.strayed)}): the program has changed since, or "
            "it is the token of another scenario; this may be another failure than the one it was made of"
        )
    if not replays:
        lines.append(
            "WARNING: this run does not replay: something in it is not under the world's control (an unpinned hash seed, a set "
            "of objects in the order of their addresses, a real thread or clock); bateau.sim.check_determinism finds where"
        )
    return without_addresses("\n".join(lines))


def _absolute(target: str) -> str:
    """The command is to work from any directory of this machine; the token, which knows the relative path, in any copy of the project."""
    path, _, name = target.rpartition(":")
    return f"{os.path.abspath(path)}:{name}"


def without_addresses(text: str) -> str:
    """``at 0x7f...`` tells one object from another and differs in each run: number them instead, in the order of appearance."""
    seen: dict[str, int] = {}
    return re.sub(r" at (0x[0-9a-fA-F]+)", lambda found: f" #{seen.setdefault(found[1], len(seen) + 1)}", text)


def headline(error: BaseException | None) -> str:
    """The error in one line."""
    if error is None:
        return "nothing failed"
    if len(leaves(error)) == 1:
        error = leaves(error)[0]
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def blame(error: BaseException | None, *, of_another: bool = False) -> list[str]:
    """The user's frames of the error and of its cause, with their source lines; and the rest of its message.

    An error that was the cause ``of_another`` and never passed the user's code (a reset that a stream has turned into its own error) has
    none: the lines of the network that it came from say nothing.
    """
    if error is None:
        return []
    lines: list[str] = []
    for one in leaves(error):
        if len(lines) > MOST_LINES:
            lines.append("  ... and more errors")
            break
        lines.append(f"{type(one).__name__}: {one}")
        frames = traceback.extract_tb(one.__traceback__)
        shown = [frame for frame in frames if not _is_inner(frame.filename)]
        if not shown and not of_another and not isinstance(one, BateauError | AssertionError):
            shown = frames[-3:]  # an error of bateau's own making that it did not mean to raise
        lines += [
            f"  {place(frame.filename, frame.lineno or 0)} in {frame.name}\n      {(frame.line or '').strip()}"
            for frame in shown
        ]
        cause = one.__cause__
        if cause is not None:
            lines.append("because of:")
            lines += blame(cause, of_another=True)
    return lines


def _is_inner(filename: str) -> bool:
    standard = filename.startswith(STDLIB) and not filename.startswith(INSTALLED)
    return standard or filename.startswith((PACKAGE_DIR, "<frozen"))


def decisions(run: Run) -> str:
    """How many answers were not production's, and which."""
    made = sum(map(len, run.choices.values()))
    asked = sum(run.asked.values())
    if not made:
        return f"every one of {asked} decisions was what production does (choice 0)"
    streams = ", ".join(f"{stream} ({len(answers)})" for stream, answers in sorted(run.choices.items()))
    return f"{made} of {asked} decisions were not what production does: {streams}"


def place(filename: str, line: int) -> str:
    """``file:line``, relative to the current directory where that is shorter."""
    try:
        relative = os.path.relpath(filename)
    except ValueError:  # another drive
        relative = filename
    return f"{relative if len(relative) < len(filename) else filename}:{line}"


def timeline(events: list[Record], most: int = MOST_LINES) -> list[str]:
    """The run as a table: when, who, what, and the source line where a task stands. Equal steps in a row are one line."""
    rows: list[tuple[str, str, str]] = []
    for event in events:
        row = (f"{event.at:.6f}", event.actor, _what(event))
        if rows and rows[-1][1:] == row[1:]:
            continue
        rows.append(row)
    cut = max(0, len(rows) - most)
    wide = max((len(row[1]) for row in rows[cut:]), default=4)
    when = max((len(row[0]) for row in rows[cut:]), default=4)
    head = [f"{'time':>{when}}  {'who':<{wide}}  what"]
    if cut:
        head.append(f"{'...':>{when}}  ({cut} earlier lines)")
    return head + [f"{at:>{when}}  {who:<{wide}}  {what}" for at, who, what in rows[cut:]]


def _what(event: Record) -> str:
    site = event.data.get("site")
    if event.kind == "step":
        if site is None:
            return event.text
        source = linecache.getline(site[0], site[1]).strip()
        return (
            f"{event.text}  [{place(site[0], site[1])}: {source}]"
            if source
            else f"{event.text}  [{place(site[0], site[1])}]"
        )
    mark = {"choice": "<> ", "fault": "!! ", "crash": "!! ", "kill": "!! ", "buggify": "!! "}.get(event.kind, "")
    return f"{mark}{event.text}"
