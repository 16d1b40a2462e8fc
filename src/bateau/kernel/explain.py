"""Deadlocks in words: who waits on what, since which line, and who would have to free it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from .cancellation import CancelNode
from .errors import PACKAGE_DIR
from .task import Task

# A user is told of a line of theirs, not of asyncio's that they wait in. What pip installs lies below the standard library.
STDLIB = os.path.dirname(os.__file__) + os.sep
INSTALLED = (STDLIB + "site-packages", STDLIB + "dist-packages")


def all_tasks(roots: Iterable[CancelNode]) -> list[Task[Any]]:
    """Every task below ``roots``, parents before children, in the order they were spawned."""
    found: list[Task[Any]] = []
    todo: list[Any] = list(roots)
    for node in todo:
        if isinstance(node, Task):
            found.append(node)  # pyright: ignore[reportUnknownArgumentType]
        todo.extend(node.children or ())
    return found


def suspended_at(task: Task[Any]) -> tuple[str, int, str] | None:
    """File, line and function where the task is suspended: its innermost frame outside bateau and the standard library.

    Where there is none but the standard library's, its innermost one.
    """
    return where_suspended(task.coro)


def where_suspended(coro: Any) -> tuple[str, int, str] | None:
    """``suspended_at`` for any coroutine."""
    own, innermost = sites_of(coro)
    return own or innermost


def sites_of(coro: Any) -> tuple[tuple[str, int, str] | None, tuple[str, int, str] | None]:
    """What ``suspended_at`` says, and the innermost frame outside bateau, whosesoever it is."""
    own: tuple[str, int, str] | None = None
    innermost: tuple[str, int, str] | None = None
    awaited: Any = coro
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        frame = frame or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        filename = frame.f_code.co_filename
        if not filename.startswith(PACKAGE_DIR):
            innermost = filename, frame.f_lineno, frame.f_code.co_qualname
            if not filename.startswith(STDLIB) or filename.startswith(INSTALLED):
                own = innermost
        awaited = (
            getattr(awaited, "cr_await", None)
            or getattr(awaited, "ag_await", None)
            or getattr(awaited, "gi_yieldfrom", None)
        )
    return own, innermost


def describe_wait(task: Task[Any]) -> str:
    """What one task waits on and who could free it, in a line or two."""
    own, innermost = sites_of(task.coro)
    site = own or innermost
    where = f" at {site[0]}:{site[1]} in {site[2]}" if site is not None else ""
    op = task.waiting
    if op is None:
        inside = (
            f": {innermost[2]} at {innermost[0]}:{innermost[1]}" if innermost is not None and innermost != site else ""
        )
        return f"task {task.name!r}{where} waits on something outside bateau{inside}"
    line = f"task {task.name!r}{where} waits: {op.describe()}"
    resource = op.resource
    holders = [holder.name for holder in resource.holders()]
    satisfiers = resource.satisfiers()
    names = [] if isinstance(satisfiers, str) else [other.name for other in satisfiers]
    if holders:
        line += f"\n    held by: {', '.join(map(repr, holders))}"
    if names and names != holders:
        line += f"\n    could be freed by: {', '.join(map(repr, names))}"
    if not holders and not names:
        known = "known" if isinstance(satisfiers, str) else "left"
        line += f"\n    nobody {known} who could free it"
    return line


def find_cycle(tasks: Iterable[Task[Any]]) -> list[Task[Any]]:
    """Tasks that wait on each other in a ring, or an empty list. A wait with one possible satisfier is an edge."""
    edges: dict[Task[Any], Task[Any]] = {}
    for task in tasks:
        if task.waiting is not None:
            satisfiers = task.waiting.resource.satisfiers()
            if not isinstance(satisfiers, str):
                others = tuple(satisfiers)
                if len(others) == 1:
                    edges[task] = others[0]
    done: set[int] = set()
    for start in edges:
        path: list[Task[Any]] = []
        here: Task[Any] | None = start
        while here is not None and id(here) not in done and here not in path:
            path.append(here)
            here = edges.get(here)
        if here is not None and here in path:
            return path[path.index(here) :]
        done.update(id(task) for task in path)
    return []


def explain_deadlock(roots: Iterable[CancelNode]) -> str:
    """The text of a ``Deadlock``."""
    tasks = [task for task in all_tasks(roots) if not task.ended]
    lines = ["nothing can ever run again: no timer, fd, thread or foreign wait is outstanding"]
    cycle = find_cycle(tasks)
    if cycle:
        ring = " -> ".join(repr(task.name) for task in [*cycle, cycle[0]])
        lines.append(f"  a ring of waits: {ring}")
    lines.extend("  " + describe_wait(task) for task in tasks)
    return "\n".join(lines)
