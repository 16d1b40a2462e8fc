"""The rows of the console's tables: what a snapshot has, filtered, sorted and cut to what a screen can hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from ..model import Frame, Resource, Runtime, Scope, Snapshot, Task
from ..naming import Names
from ..words import cut, duration

# Rows made of one table: more than anybody scrolls through, and few enough to redraw ten times a second.
MOST_ROWS = 500
# Children shown of one task in the tree.
MOST_CHILDREN = 200


@dataclass(frozen=True)
class Row:
    """One line: the id of what it shows, and the text of each column."""

    id: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """The rows that are shown, of ``matching`` that the filter lets through, of ``total``."""

    rows: tuple[Row, ...]
    matching: int
    total: int
    # The columns, where they are not those of ``COLUMNS``.
    columns: tuple[str, ...] = ()

    def caption(self, noun: str) -> str:
        """``12 tasks``; ``3 of 12 tasks``; ``500 of 100,000 tasks``, and why. ``noun`` in the plural."""
        if self.total == 1:
            noun = noun[:-1]
        shown = len(self.rows)
        if shown == self.total:
            return f"{self.total:,} {noun}"
        if shown < self.matching:
            return f"the first {shown:,} of {self.matching:,} {noun}: / filters, o sorts"
        return f"{shown:,} of {self.total:,} {noun}"


RUNTIME = "runtime"  # of each task, where there is more than one
TASK_COLUMNS = ("id", "state", "name", "busy", "sched", "idle", "wakes", "waits on", "at")
RESOURCE_COLUMNS = ("kind", "name", "used", "waiting", "held by", "held for", "freed by", "longest wait")
SCOPE_COLUMNS = ("kind", "name", "children", "task", "at", "left", "state")
RUNTIME_COLUMNS = ("name", "thread", "tasks", "ready", "timers", "fds", "running", "waits for")

COLUMNS: dict[str, Sequence[str]] = {
    "tasks": TASK_COLUMNS,
    "resources": RESOURCE_COLUMNS,
    "scopes": SCOPE_COLUMNS,
    "runtimes": RUNTIME_COLUMNS,
    "problems": ("problem", "seen", "where the book explains it"),
}

_STATES = {"running": 0, "ready": 1, "new": 2, "waiting": 3, "unknown": 4, "ended": 5}
# What the tasks can be sorted by; the key gives small values first.
SORTS: dict[str, Callable[[Task], Any]] = {
    "state": lambda task: (_STATES[task.state], -(task.stats.get("busy", 0.0)), task.id),
    "busy": lambda task: (-task.stats.get("busy", 0.0), task.id),
    "scheduled": lambda task: (-task.stats.get("scheduled", 0.0), task.id),
    "waited": lambda task: (-(task.waits.waited or 0.0) if task.waits is not None else 0.0, task.id),
    "wakes": lambda task: (-task.stats.get("wakes", 0.0), task.id),
    "name": lambda task: (task.name, task.id),
    "id": lambda task: task.id,
}


def task_rows(snapshot: Snapshot, *, match: str = "", sort: str = "state", most: int = MOST_ROWS) -> Listing:
    """The tasks. ``match``: see ``matcher``. Raises ``KeyError`` for a sort that is not in ``SORTS``."""
    key = SORTS[sort]
    found = matcher(match)
    lines: dict[int | None, str] = {}
    names = Names(snapshot)
    tasks = (
        [task for task in snapshot.tasks if found(f"{task_text(snapshot, task, lines)} {names.runtime(task)}")]
        if match.strip()
        else list(snapshot.tasks)
    )
    shown = [(task, _task_cells(snapshot, task)) for task in nsmallest(most, tasks, key=key)]
    if not names.several:
        return Listing(tuple(Row(task.id, cells) for task, cells in shown), len(tasks), len(snapshot.tasks))
    rows = tuple(Row(task.id, (*cells[:3], names.runtime(task), *cells[3:])) for task, cells in shown)
    return Listing(rows, len(tasks), len(snapshot.tasks), (*TASK_COLUMNS[:3], RUNTIME, *TASK_COLUMNS[3:]))


def task_text(snapshot: Snapshot, task: Task, lines: dict[int | None, str] | None = None) -> str:
    """What a filter looks through: name, state, library, what it waits on, and its lines. ``lines``: what is known of those, by stack;
    many tasks stand at the same.
    """
    frames = lines.get(task.stack) if lines is not None else None
    if frames is None:
        frames = " ".join(f"{frame.file}:{frame.line} {frame.function}" for frame in snapshot.stack(task.stack))
        if lines is not None:
            lines[task.stack] = frames
    wait = task.waits.operation if task.waits is not None else ""
    return f"{task.id} {task.name} {task.state} {task.library} {wait} {task.cancelled or ''} {frames}"


def matcher(text: str) -> Callable[[str], bool]:
    """Whether something is meant by ``text``: all its words occur, in any case; ``-word``: it must not; ``/re/``: that is found."""
    text = text.strip()
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        try:
            pattern = re.compile(text[1:-1], re.IGNORECASE)
        except re.error:
            return lambda _: False
        return lambda where: pattern.search(where) is not None
    words = [word.lower() for word in text.split()]
    wanted = [word for word in words if not word.startswith("-")]
    unwanted = [word[1:] for word in words if word.startswith("-") and len(word) > 1]

    def matches(where: str) -> bool:
        where = where.lower()
        return all(word in where for word in wanted) and not any(word in where for word in unwanted)

    return matches


def resource_rows(snapshot: Snapshot, *, match: str = "", most: int = MOST_ROWS) -> Listing:
    """The resources, those with the most waiters first."""
    names = {task.id: task.name for task in snapshot.tasks}
    longest = longest_waits(snapshot)
    found = matcher(match)
    chosen = [one for one in snapshot.resources if found(f"{one.kind} {one.text} {one.library}")]
    chosen.sort(key=lambda one: (-one.waiting, -longest.get(one.id, 0.0), one.id))
    rows = tuple(Row(one.id, _resource_cells(one, names, longest.get(one.id))) for one in chosen[:most])
    return Listing(rows, len(chosen), len(snapshot.resources))


def scope_rows(snapshot: Snapshot, *, match: str = "", most: int = MOST_ROWS) -> Listing:
    """The scopes, timeouts, shields and nurseries."""
    names = {task.id: task.name for task in snapshot.tasks}
    found = matcher(match)
    rows = [Row(scope.id, _scope_cells(snapshot, scope, names)) for scope in snapshot.scopes]
    chosen = [row for row in rows if found(" ".join(row.cells))]
    return Listing(tuple(chosen[:most]), len(chosen), len(rows))


def runtime_rows(snapshot: Snapshot) -> Listing:
    """The runtimes."""
    names = {task.id: task.name for task in snapshot.tasks}
    threads = {thread.id: thread.name for thread in snapshot.threads}
    counts: dict[int | None, int] = {}
    for task in snapshot.tasks:
        counts[task.runtime] = counts.get(task.runtime, 0) + 1
    rows = tuple(Row(one.id, _runtime_cells(one, counts.get(one.id, 0), names, threads)) for one in snapshot.runtimes)
    return Listing(rows, len(rows), len(rows))


def longest_waits(snapshot: Snapshot) -> dict[int, float]:
    """For each resource, for how many seconds the one who waits longest has been waiting, where that is known."""
    longest: dict[int, float] = {}
    for task in snapshot.tasks:
        wait = task.waits
        if wait is not None and wait.resource is not None and wait.waited is not None:
            longest[wait.resource] = max(longest.get(wait.resource, 0.0), wait.waited)
    return longest


def tree(snapshot: Snapshot) -> tuple[list[int], dict[int, list[int]]]:
    """The roots, and the children of each task, by parent; whose parent is not there is a root. In order of age."""
    known = {task.id for task in snapshot.tasks}
    roots: list[int] = []
    children: dict[int, list[int]] = {}
    for task in snapshot.tasks:
        if task.parent is not None and task.parent in known and task.parent != task.id:
            children.setdefault(task.parent, []).append(task.id)
        else:
            roots.append(task.id)
    for each in (roots, *children.values()):
        each.sort(key=lambda number: (number < 0, abs(number)))
    return roots, children


@dataclass(frozen=True)
class Branch:
    """One node of the tree that is shown: a task below ``parent`` (None: a root). ``hidden``: children that are not shown."""

    id: int
    parent: int | None
    label: str
    parents_others: bool
    hidden: int


@dataclass(frozen=True)
class Branches:
    """The nodes that are shown, parents before their children, of ``total`` tasks."""

    nodes: tuple[Branch, ...]
    total: int

    def caption(self) -> str:
        """How many are shown, if that is not all."""
        shown = len(self.nodes)
        return f"{shown:,} of {self.total:,} tasks" if shown < self.total else ""


def branches(snapshot: Snapshot, *, match: str = "", most: int = MOST_ROWS, children: int = MOST_CHILDREN) -> Branches:
    """The tree, level by level, at most ``most`` tasks of it and ``children`` of each; what ``match`` means has a star."""
    roots, below = tree(snapshot)
    tasks = {task.id: task for task in snapshot.tasks}
    found = matcher(match)
    names = Names(snapshot)
    nodes: list[Branch] = []
    level: list[tuple[int, int | None]] = [(number, None) for number in roots[:children]]
    while level and len(nodes) < most:
        following: list[tuple[int, int | None]] = []
        for number, parent in level[: most - len(nodes)]:
            task, own = tasks[number], below.get(number, [])
            wait = f"  waits: {task.waits.operation}" if task.waits is not None else ""
            mark = "* " if match and found(task_text(snapshot, task)) else ""
            whose = f", {names.runtime(task)}" if parent is None and names.several else ""
            label = f"{mark}{task.name}  ({task.state}{whose}){wait}"
            nodes.append(Branch(number, parent, label, bool(own), max(0, len(own) - children)))
            following.extend((child, number) for child in own[:children])
        level = following
    return Branches(tuple(nodes), len(tasks))


# -- words ---------------------------------------------------------------------------------------------------------------


def place(frame: Frame | None) -> str:
    """``server.py:12 in handle``."""
    if frame is None:
        return ""
    function = frame.function.rpartition("<locals>.")[2]
    return f"{frame.file.rpartition('/')[2]}:{frame.line}" + (f" in {function}" if function else "")


def names_of(numbers: Sequence[int], names: dict[int, str], most: int = 2) -> str:
    """The names of a few tasks, and how many more."""
    shown = ", ".join(names.get(number, "an ended task") for number in numbers[:most])
    return shown + (f" +{len(numbers) - most}" if len(numbers) > most else "")


def _stat(task: Task, name: str) -> str:
    value = task.stats.get(name)
    return duration(value) if value is not None else "-"


def _task_cells(snapshot: Snapshot, task: Task) -> tuple[str, ...]:
    wait, wakes = task.waits, task.stats.get("wakes")
    idle = _stat(task, "idle")
    if idle == "-" and wait is not None and wait.waited is not None:
        idle = (">" if wait.at_least else "") + duration(wait.waited)
    frame = snapshot.place(task)
    doing = wait.operation if wait is not None else ""
    if task.ran is not None:
        doing = f"runs for {'at most ' if task.ran_at_most else ''}{duration(task.ran)}"
    return (
        str(task.id) if task.id >= 0 else task.library,
        "cancelled" if task.cancelled is not None and task.state != "ended" else task.state,
        cut(task.name, 30),
        _stat(task, "busy"),
        _stat(task, "scheduled"),
        idle,
        f"{wakes:.0f}" if wakes is not None else "-",
        cut(doing, 52),
        place(frame),
    )


def _resource_cells(one: Resource, names: dict[int, str], longest: float | None) -> tuple[str, ...]:
    used = "-" if one.used is None else f"{one.used}/{one.capacity if one.capacity is not None else '∞'}"
    holders = names_of(one.holders, names) or (f"{len(one.holder_threads)} threads" if one.holder_threads else "")
    freed = {"outside": "the outside", "unknown": "?"}.get(one.freed_by) or names_of(one.satisfiers, names) or "nobody"
    held = (
        f">{duration(max(one.held))}" if any(one.held) else "-"
    )  # at least: nobody takes the time when a lock changes hands
    return (one.kind, cut(one.name or one.text, 50), used, str(one.waiting), holders, held, freed, duration(longest))


def _scope_cells(snapshot: Snapshot, scope: Scope, names: dict[int, str]) -> tuple[str, ...]:
    state = ", ".join(
        word
        for word, true in (
            (f"cancelled: {scope.cancelled}", scope.cancelled is not None),
            (f"stopping: {scope.stopping}", scope.stopping is not None),
            ("closing", scope.closing),
            ("shielded", scope.shielded),
        )
        if true
    )
    children = str(scope.children)
    if scope.limit is not None:
        children += f" (limit {scope.limit}, {scope.queued or 0} queued)"
    owner = names.get(scope.task, "") if scope.task is not None else ""
    return (scope.kind, scope.name, children, owner, place(snapshot.frame(scope.site)), duration(scope.left), state)


def _runtime_cells(one: Runtime, tasks: int, names: dict[int, str], threads: dict[int, str]) -> tuple[str, ...]:
    def number(value: int | None) -> str:
        return "-" if value is None else str(value)

    thread = threads.get(one.thread) or str(one.thread) if one.thread is not None else "-"
    running = names.get(one.running, "") if one.running is not None else ""
    cells: Iterable[str] = (
        one.name,
        thread,
        str(tasks),
        number(one.ready),
        number(one.timers),
        number(one.fds),
        running,
        ", ".join(one.holds),
    )
    return tuple(cells)
