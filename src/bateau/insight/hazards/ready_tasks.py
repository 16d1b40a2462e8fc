"""``starvation`` and ``self_wakes``: tasks that are ready all the time, because they are never run, or because they never wait.

Which of the two is told by what they stand at: who has not been run stands in the very same await as before; who was run, and yielded,
stands in a new one at each look.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from ..words import duration
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..watch_look import Look, Seen


class Starvation(Hazard):
    """Ready, and not run, while the loop runs others."""

    name = "starvation"
    title = "Starvation"
    threshold = 1.0
    remedy = (
        "let those that run instead of it wait or yield (`bateau.checkpoint()`), or change their priority; "
        "a scheduling policy has to let everybody run in the end"
    )

    def check(self, look: Look) -> Iterable[Found]:
        for seen, since, moved in _ready(look, self.name):
            if not moved and look.now - max(since, look.blocked_until) >= self.limit(seen):
                yield from self.found(
                    seen.key,
                    seen,
                    f"task {seen.name!r} has been ready to run for {duration(look.now - since)}, and was not run",
                )


class SelfWakes(Hazard):
    """Run, and ready again at once, for long: it polls."""

    name = "self_wakes"
    title = "A task keeps waking itself"
    threshold = 5.0
    remedy = (
        "wait for what it polls for (an `Event`, a `Condition`, a channel); for long computations, "
        "run them elsewhere: `bateau.thread.run`, `bateau.offload`"
    )

    def check(self, look: Look) -> Iterable[Found]:
        for seen, since, moved in _ready(look, self.name):
            if moved >= 2 and look.now - since >= self.limit(seen):
                yield from self.found(
                    seen.key,
                    seen,
                    f"task {seen.name!r} has only let others run, and not waited for anything, for {duration(look.now - since)}",
                )


class _Mark(NamedTuple):
    """What is kept of a task from one look to the next: what it stood at, since when it has been as it is, and the last look at it.

    ``at``: the await, or how often the task has waited for something and how often it has let others run.
    ``moved``: at how many looks in a row it stood at a new await; 0 while it stands at the same.
    """

    at: ref[Any] | tuple[int, int]
    since: float
    moved: int
    seen: float


def _ready(look: Look, name: str) -> list[tuple[Seen, float, int]]:
    """Tasks that were ready at the last look and are at this: since when, and at how many looks in a row they had moved.

    On the native kernel a task that does nothing but let others run is seen in the middle of its steps at every look, since only
    there another thread gets to look. What it has done meanwhile it counts itself.
    """
    last: dict[int, _Mark] = look.memory.get(name, {})
    now: dict[int, _Mark] = {}
    look.memory[name] = now
    found: list[tuple[Seen, float, int]] = []
    for seen in look:
        runs = bool(getattr(seen.coro, "cr_running", False))
        counts = _counts(seen)
        at = counts if runs else _stands_at(seen)
        if at is None:
            continue
        if counts is not None:
            at = counts
        before = last.get(seen.key)
        if before is None or (isinstance(at, tuple) and isinstance(before.at, tuple) and before.at[0] != at[0]):
            now[seen.key] = _Mark(at, look.now, 0, look.now)  # new here, or it has waited for something meanwhile
            continue
        if _same(before.at, at):
            if runs:
                continue  # one long step: another hazard
            mark = _Mark(at, look.now if before.moved else before.since, 0, look.now)
        else:
            mark = _Mark(at, before.since if before.moved else before.seen, before.moved + 1, look.now)
        now[seen.key] = mark
        found.append((seen, mark.since, mark.moved))
    return found


def _same(before: ref[Any] | tuple[int, int], now: ref[Any] | tuple[int, int]) -> bool:
    if isinstance(before, tuple) or isinstance(now, tuple):
        return before == now
    return before() is now()


def _counts(seen: Seen) -> tuple[int, int] | None:
    """How often a task has waited for something, and how often it has let others run; None where nobody counts that."""
    task: Any = seen.task
    if task is None or seen.token is not None or not task.started or task.ended or not hasattr(task, "_waits"):
        return None
    counts = task._waits, task._yields
    return counts if any(counts) else None  # on another library's loop nobody counts


def _stands_at(seen: Seen) -> ref[Any] | None:
    """What a task that is ready awaits innermost; None if it is not ready, is being run, or can't be asked."""
    task = seen.task
    if seen.token is not None or seen.coro is None or getattr(seen.coro, "cr_running", False):
        return None
    if task is not None and (not task.started or task.ended):
        return None
    *_, inner = seen.chain()
    try:
        return ref(inner)
    except TypeError:
        return None
