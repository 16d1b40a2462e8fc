"""Who waits on what, in words: since which line, and who would have to free it.

The words are the same wherever they are said: in a ``Deadlock``, in a test that did not end, in a hazard, in a dump. Who has only
names and lines (a snapshot, another library's task) uses the first part; the second asks bateau's own tasks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .cancellation import CancelNode
from .errors import PACKAGE_DIR
from .knots import Freeing, find_rings, who_can_move
from .task import Task

# A user is told of a line of theirs, not of asyncio's that they wait in. What pip installs lies below the standard library.
STDLIB = os.path.dirname(os.__file__) + os.sep
INSTALLED = (STDLIB + "site-packages", STDLIB + "dist-packages")


# -- words ---------------------------------------------------------------------------------------------------------------


def who(name: str, place: tuple[str, int, str] | None, library: str = "bateau") -> str:
    """A task in a sentence: ``task 'a' at app.py:3 in main``."""
    kind = "task" if library == "bateau" else f"{library} task"
    return f"{kind} {name!r}{f' at {told(place)}' if place is not None else ''}"


def told(place: tuple[str, int, str]) -> str:
    """A line of a program: ``app.py:3 in main``."""
    file, line, function = place
    return f"{file}:{line} in {function}" if function else f"{file}:{line}"


def who_helps(holders: Sequence[str], others: Sequence[str], *, needs_all: bool = False) -> Iterator[str]:
    """Who has what is waited on, and who else could end the wait: a line each, if there is anybody. The tasks are in words already."""
    if holders:
        yield f"held by {'; '.join(holders) if any(map(_is_clause, holders)) else ', '.join(holders)}"
    if others:
        between = "; " if any(map(_is_clause, others)) else ", "
        yield f"{'needs the end of' if needs_all else 'could be freed by'} {between.join(others)}"


def _is_clause(words: str) -> bool:
    return ", " in words


def ring_of(names: Sequence[str]) -> str:
    """``'a' -> 'b' -> 'a'``."""
    return " -> ".join([*names, names[0]])


# -- bateau's own tasks ----------------------------------------------------------------------------------------------------


def all_tasks(roots: Iterable[CancelNode]) -> list[Task[Any]]:
    """Every task below ``roots``, parents before children, in the order they were spawned."""
    found: list[Task[Any]] = []
    todo: list[Any] = list(roots)
    for node in todo:
        if isinstance(node, Task):
            found.append(node)  # pyright: ignore[reportUnknownArgumentType]  # a Task of whatever it returns
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


def describe_wait(task: Task[Any], nobody: str | None = None) -> str:
    """What one task waits on and who could free it, in a line or two. ``nobody``: what to say where no task could."""
    own, innermost = sites_of(task.coro)
    site = own or innermost
    line = who(task.name, site)
    op = task.waiting
    if op is None:
        inside = (
            f": {innermost[2]} at {innermost[0]}:{innermost[1]}" if innermost is not None and innermost != site else ""
        )
        return f"{line} waits on something outside bateau{inside}"
    resource = op.resource
    holders = [repr(holder.name) for holder in resource.holders()]
    satisfiers = resource.satisfiers()
    others = [] if isinstance(satisfiers, str) else [repr(other.name) for other in satisfiers]
    helpers = [*who_helps(holders, [name for name in others if name not in holders], needs_all=resource.needs_all)]
    if not helpers and not isinstance(satisfiers, str):
        helpers = [nobody or "who could free it is not known"]
    elif not helpers and nobody is not None:
        helpers = [nobody]
    return "\n".join([f"{line} waits: {op.describe()}", *(f"    {helper}" for helper in helpers)])


def rings_among(tasks: Iterable[Task[Any]]) -> list[list[Task[Any]]]:
    """For each knot of tasks that can only be freed by each other a ring of them, in order; a timeout may still cut it.

    What a timer, a descriptor, a thread or somebody unknown could free is no part of one.
    """
    known = {task.id: task for task in tasks}
    moving: list[int] = []
    waiters: dict[int, list[int]] = {}
    freeing: dict[int, Freeing] = {}
    for number, task in known.items():
        resource = task.waiting.resource if task.waiting is not None else None
        satisfiers = resource.satisfiers() if resource is not None else "outside"
        if resource is None or isinstance(satisfiers, str):
            moving.append(number)
            continue
        others = [other.id for other in satisfiers if not other.ended]
        if not others or any(other not in known for other in others):
            moving.append(number)  # nobody says who could, or it is somebody whom the caller leaves out
            continue
        waiters.setdefault(id(resource), []).append(number)
        freeing[id(resource)] = others, resource.needs_all
    alive = who_can_move(moving, waiters, freeing.__getitem__)
    edges: dict[int, list[int]] = {}
    for number, those in waiters.items():
        stuck = [other for other in freeing[number][0] if other not in alive]
        edges.update((one, stuck) for one in those if one not in alive)
    return [[known[number] for number in ring] for ring, _ in find_rings(edges)]


def explain_deadlock(roots: Iterable[CancelNode]) -> str:
    """The text of a ``Deadlock``."""
    tasks = [task for task in all_tasks(roots) if not task.ended]
    lines = ["nothing can ever run again: no timer, fd, thread or foreign wait is outstanding"]
    lines.extend(f"  a ring of waits: {ring_of([repr(task.name) for task in ring])}" for ring in rings_among(tasks))
    lines.extend(f"  {describe_wait(task, 'nobody is left who could free it')}" for task in tasks)
    return "\n".join(lines)
