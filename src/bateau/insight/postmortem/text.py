"""A report as a person reads it: how it ended, what was going on, what every task was at, the last events."""

from __future__ import annotations

import re
import time
from collections import Counter

from ...kernel.explain import who_helps
from ..explain import explain_knot
from ..model import Finding, Frame, Runtime, Snapshot, Task
from ..naming import Names
from ..waitgraph import find_knots
from ..words import count, duration
from .death import UNSEEN, whose
from .report import Error, Report

# What several may hold at once.
_SHARED = frozenset(("semaphore", "limiter", "rwlock"))
# What is told in full; more tasks at one line are counted.
_TASKS = 200
_EVENTS = 40
_FINDINGS = 10
_ERROR_FRAMES = 12


def tell(report: Report, *, tasks: int = _TASKS, events: int = _EVENTS) -> str:
    """The whole report. ``tasks``, ``events``: how many are told one by one; the rest is counted, and all of it is in the JSON."""
    snapshot = report.snapshot
    process = snapshot.process
    lines = [
        f"{' '.join(process.argv) or 'a process'} (pid {process.pid}, Python {process.python}, bateau {process.bateau})"
    ]
    lines += [*tell_end(report), f"cluster {report.cluster}"]
    if report.error is not None:
        lines += ["", f"The exception, in {report.thread or 'the main thread'}:", *_error(report.error, "  ")]
    if report.fatal:
        lines += ["", "What the interpreter wrote:", *("  " + line for line in report.fatal.splitlines())]
    for finding in snapshot.findings[-_FINDINGS:]:
        lines += ["", *_finding(snapshot, finding)]
    for knot in find_knots(snapshot):
        lines += ["", *explain_knot(snapshot, knot).splitlines()]
    lines += ["", *_tasks(snapshot, tasks)]
    if report.timeline:
        lines += ["", *_timeline(report, events)]
    if snapshot.gaps:
        lines += ["", "What could not be read:", *("  " + gap for gap in snapshot.gaps)]
    return "\n".join(lines)


def tell_end(report: Report) -> list[str]:
    """How it ended and what was going on, in a few lines."""
    end, snapshot = report.end, report.snapshot
    # Of an end that nobody saw the time is not known: only when the recorder was told something last.
    witnessed = end.by not in UNSEEN
    when = _clock(end.at) if witnessed else f"last sign of life {_clock(end.at)}"
    lines = [f"{when}: {end.text}" + (f" (says {end.by})" if end.by else "")]
    if (place := fatal_place(report.fatal)) is not None:
        lines.append(f"the thread that died was {place}")
    for runtime in snapshot.runtimes:
        names = {task.id: task for task in snapshot.tasks}
        task = names.get(runtime.running) if runtime.running is not None else None
        thread = next((thread.name for thread in snapshot.threads if thread.runtime == runtime.id), runtime.name)
        if task is not None:
            lasted = runtime.ext.get("running_for")
            silent = max(0.0, end.at - snapshot.taken_at)
            total = (float(lasted) if isinstance(lasted, (int, float)) else 0.0) + silent
            lasted = _how_long(total, runtime, witnessed=witnessed)
            lines.append(f"on {thread}: task {task.name!r} was running{lasted}{_since(snapshot, task)}")
        elif runtime.ext.get("closed"):
            lines.append(f"on {thread}: the loop had ended")
        elif snapshot.source == "recorder":
            silent = end.at - (report.timeline[-1].at if report.timeline else snapshot.taken_at)
            before = f"; the last event was {duration(silent)} before" if silent > 0.001 else ""
            lines.append(f"on {thread}: nobody was running{before}")
    return lines


def _how_long(total: float, runtime: Runtime, *, witnessed: bool) -> str:
    """For how long the step had lasted. It may have begun a little later than its record says: see the recorder's layout."""
    less = runtime.ext.get("running_for_less")
    less = float(less) if isinstance(less, (int, float)) else 0.0
    if witnessed and total < less:
        return f", for at most {duration(total)}"
    if witnessed:
        return f", for {duration(total)}" + (f" (or up to {duration(less)} less)" if less else "")
    # Without a witness the last event is the last that is known: it may have run on for hours, and mostly it is the step's start.
    return f", for at least {duration(total - less)}" if total - less > 0.001 else ""


def fatal_place(fatal: str) -> str | None:
    """Where the thread was that a fatal signal hit: its innermost line in the user's code."""
    current = fatal.partition("Current thread ")[2].partition("\n\n")[0]
    found = re.findall(r'^  File "(.*)", line (\d+) in (.*)$', current, re.MULTILINE)
    own = [one for one in found if whose(one[0]) == "user"] or found
    return f"in {own[0][2]} at {own[0][0]}:{own[0][1]}" if own else None


def _since(snapshot: Snapshot, task: Task) -> str:
    """Since when a running task runs: its last wait, or, where it never waited, its start; the line that spawned it tells it from others."""
    if (frame := snapshot.at(task.stack)) is not None:
        return _line(" since it last waited at", frame)
    return _line(" since it began; it was spawned at", snapshot.frame(task.spawned))


def _tasks(snapshot: Snapshot, most: int) -> list[str]:
    alive = [task for task in snapshot.tasks if task.state != "ended"]
    counts = Counter(task.state for task in alive)
    summary = ", ".join(f"{number} {state}" for state, number in counts.most_common())
    lines = [
        f"{count(len(alive), 'task')} {'were' if len(alive) != 1 else 'was'} alive" + (f": {summary}" if alive else "")
    ]
    names = Names(snapshot)
    short = {task.id: names.short(task) for task in snapshot.tasks}
    resources = {resource.id: resource for resource in snapshot.resources}
    rank = {"running": 0, "unknown": 1, "ready": 2, "waiting": 3}
    for task in sorted(alive, key=lambda task: (rank.get(task.state, 4), task.id))[:most]:
        lines.append(f"  {names.full(task)} {_state(task)}")
        if (
            task.waits is not None
            and (resource := resources.get(task.waits.resource or 0)) is not None
            and resource.holders
        ):
            # The recorder writes one holder down; of these there may have been several.
            more = " and perhaps others" if resource.kind in _SHARED else ""
            since = f"{more} when the wait began" if resource.inferred else ""
            held = who_helps([short.get(holder, str(holder)) for holder in resource.holders], ())
            lines += [f"      {words}{since}" for words in held]
        if task.cancelled:
            lines.append(f"      was being cancelled: {task.cancelled}")
        known = snapshot.stack(task.stack)
        frames = [frame for frame in known if frame.whose != "bateau"]
        lines.extend(
            f"      {'in' if task.state == 'waiting' else 'last waited in'} {_place(frame)}" for frame in frames
        )
        if (spawned := snapshot.frame(task.spawned)) is not None:
            lines.append(f"      spawned in {_place(spawned)}")
    if len(alive) > most:
        lines.append(f"  ... and {len(alive) - most} more (all of them: --json)")
    return lines


def _finding(snapshot: Snapshot, finding: Finding) -> list[str]:
    """A hazard that was reported before the end."""
    when = f" {duration(finding.ago)} before the end" if finding.ago is not None else ""
    lines = [f"FOUND{when}: {finding.hazard}: {finding.message}"]
    if (frame := snapshot.frame(finding.site)) is not None:
        lines.append(f"  at {_place(frame)}")
    return lines


def _state(task: Task) -> str:
    if task.waits is not None:
        least = "at least " if task.waits.at_least else ""
        waited = f"had waited for {least}{duration(task.waits.waited)}" if task.waits.waited is not None else "waited"
        return f"{waited}: {task.waits.operation}"
    since = task.ext.get("since")
    lasted = f" for {duration(float(since))}" if isinstance(since, (int, float)) else ""
    words = {
        "running": "was running",
        "ready": f"was ready to run{lasted}",
        "new": f"had not begun{lasted}",
        "unknown": "had gone on after its last wait: it ran, or waited for something that is not bateau's",
    }
    return words.get(task.state, task.state)


def _timeline(report: Report, most: int) -> list[str]:
    events = report.timeline[-most:]
    end = report.timeline[-1].at
    several = len({event.thread for event in report.timeline}) > 1
    lines = [f"The last {len(events)} of {len(report.timeline)} events, counted back from the last ({_clock(end)}):"]
    for event in events:
        where = f"  [{event.thread}]" if several else ""
        lines.append(f"  {event.at - end:+12.6f} s  {event.text}{where}")
    return lines


def _error(error: Error, indent: str) -> list[str]:
    lines: list[str] = []
    if error.because is not None:
        lines += _error(error.because, indent)
        lines.append(f"{indent}{'which led to' if error.direct else 'and while that was handled'}:")
    lines.append(f"{indent}{error.type}: {error.message}" if error.message else indent + error.type)
    lines += [f"{indent}  {note}" for note in error.notes]
    own = [frame for frame in error.frames if whose(frame.file) in ("user", "package")] or list(error.frames)
    if len(own) > _ERROR_FRAMES:
        lines.append(f"{indent}  ({len(own) - _ERROR_FRAMES} outer frames are left out)")
    for frame in own[-_ERROR_FRAMES:]:
        lines.append(f"{indent}  in {frame.function} at {frame.file}:{frame.line}")
        lines += [f"{indent}      {name} = {value}" for name, value in frame.locals.items()]
    for number, member in enumerate(error.members, 1):
        lines += [f"{indent}  member {number}:", *_error(member, indent + "    ")]
    if error.cut:
        lines.append(f"{indent}  ... and {error.cut} more members")
    return lines


def _place(frame: Frame) -> str:
    return f"{frame.function} at {frame.file}:{frame.line}" if frame.function else f"{frame.file}:{frame.line}"


def _line(word: str, frame: Frame | None) -> str:
    return f"{word} {frame.file}:{frame.line}" if frame is not None else ""


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"
