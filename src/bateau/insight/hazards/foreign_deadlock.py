"""``deadlock`` among tasks that wait on asyncio's or trio's own things: locks, queues, events, task groups, each other.

A look knows nothing of those. So when somebody has waited on one for long who was not there the last time, a snapshot is taken, which
works out what it can (see ``closed_world``), and its wait graph is asked. Snapshots take at most a fiftieth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ..explain import explain_knot
from ..model import Snapshot, Want
from ..waitgraph import Knot, find_knots
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..collect import LiveReader
    from ..watch_look import Look, Seen

_REST = 50
# A judgement is looked at again after so many seconds at least, and when the wait is twice as old: who could free it may have gone.
_AGAIN = 1.0
# Where a task that waits for other tasks, and not for the world, is suspended: the end of the file's path.
_PLACES = frozenset(
    (
        "asyncio/locks.py",
        "asyncio/queues.py",
        "asyncio/taskgroups.py",
        "asyncio/tasks.py",
        "trio/_sync.py",
        "trio/_channel.py",
    )
)


class _Memory:
    """What is kept from look to look: a reader, and when it may be used next."""

    def __init__(self) -> None:
        from ..collect import LiveReader

        self.reader: LiveReader = LiveReader(remember=0)  # it keeps nothing of the program alive
        self.not_before = 0.0


def check(hazard: Hazard, look: Look) -> Iterable[Found]:
    """The knots that lead through waits of other libraries, and have stood for as long as the threshold says."""
    waiting = {_id(seen): seen for seen in look if seen.token is not None and look.waited(seen) >= hazard.limit(seen)}
    suspects = [seen for seen in waiting.values() if seen.op is None and _waits_for_tasks(seen)]
    if not suspects:
        return
    memory: _Memory | None = look.memory.get("foreign deadlock")
    if memory is None:
        memory = look.memory["foreign deadlock"] = _Memory()
    if look.now >= memory.not_before and any(look.now >= seen.kept.get("judged", 0.0) for seen in suspects):
        began = time.monotonic()
        snapshot = memory.reader.read(Want(threads=False, tables=False))
        knots = [(knot, snapshot) for knot in find_knots(snapshot)]
        look.memory["foreign knots"] = knots
        memory.not_before = look.now + _REST * (time.monotonic() - began)
        for seen in suspects:
            seen.kept["judged"] = look.now + max(look.waited(seen), _AGAIN)
    for knot, snapshot in look.memory.get("foreign knots", ()):
        members = [waiting.get(number) for number in knot.ring]
        whole = [seen for seen in members if seen is not None]
        if len(whole) == len(members) and any(seen.op is None for seen in whole):
            yield from _found(hazard, look, knot, snapshot, whole)


def _found(hazard: Hazard, look: Look, knot: Knot, snapshot: Snapshot, ring: list[Seen]) -> Iterable[Found]:
    # From the first of them in the text: the order of tasks is chance.
    start = min(range(len(ring)), key=lambda index: ring[index].site)
    first, *others = ring = [*ring[start:], *ring[:start]]
    words = (
        f"tasks {', '.join(repr(seen.name) for seen in ring)} wait for each other, and nobody else is known who could free them"
        if others
        else f"task {first.name!r} waits for what nobody but itself is known to be able to do"
    )
    wait = next(task.waits for task in snapshot.tasks if task.id == _id(first))
    title, *lines = explain_knot(snapshot, knot).splitlines()
    yield from hazard.found(
        frozenset(seen.key for seen in ring),
        first,
        f"{words}: {wait.operation if wait is not None else ''}",
        sites=tuple((f"{seen.name!r} waits", *seen.site[:2]) for seen in others),
        evidence=[title, *(line[2:] for line in lines)],
    )


def _id(seen: Seen) -> int:
    """What a snapshot calls it."""
    return seen.task.id if seen.task is not None else -id(seen.native)


def _waits_for_tasks(seen: Seen) -> bool:
    """Whether it stands in a function of asyncio's or trio's in which one waits for other tasks."""
    known: bool | None = seen.kept.get("for tasks")
    if known is None:
        code: Any = None
        known = False
        for link in seen.chain():
            frame = getattr(link, "cr_frame", None) or getattr(link, "ag_frame", None)
            code = frame.f_code if frame is not None else code
            known = known or (code is not None and "/".join(PurePath(code.co_filename).parts[-2:]) in _PLACES)
        # A task, or a gathering of them, is awaited without a frame of asyncio's.
        known = known or hasattr(seen.token, "get_coro") or hasattr(seen.token, "_children")
        seen.kept["for tasks"] = known
    return known
