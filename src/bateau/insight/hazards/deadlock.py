"""``deadlock``: some tasks of a program that goes on otherwise can only be freed by each other.

A wait leads to each task that could end it; ``kernel.knots`` finds who can never go on. A task moves by itself if it does not wait, if
something outside could end its wait (a timer, a descriptor, a deadline around it), or if nobody knows who could.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...kernel.explain import describe_wait, ring_of
from ...kernel.knots import Freeing, find_rings, who_can_move
from .base import Found, Hazard
from .foreign_deadlock import check as check_foreign

if TYPE_CHECKING:
    from ..watch_look import Look, Seen


class Deadlock(Hazard):
    """A knot of waits."""

    name = "deadlock"
    title = "Deadlock cycle detected"
    threshold = 2.0
    remedy = (
        "take what is shared in one order everywhere, let a task that serves a queue not wait for room in it, "
        "or bound one of the waits (`bateau.fail_after`)"
    )

    def check(self, look: Look) -> Iterable[Found]:
        for knot in knots(look):
            age = min(look.waited(seen) for seen in knot)
            if age < min(self.limit(seen) for seen in knot) or not all(_still_waits(seen) for seen in knot):
                continue
            first, *others = knot
            words = (
                f"tasks {', '.join(repr(seen.name) for seen in knot)} wait for each other, and nobody else can free them"
                if others
                else f"task {first.name!r} waits for what only itself could do"
            )
            yield from self.found(
                frozenset(seen.key for seen in knot),
                first,
                f"{words}: {first.op.describe() if first.op is not None else ''}",
                sites=tuple((f"{seen.name!r} waits", *seen.site[:2]) for seen in others),
                evidence=[
                    ring_of([repr(seen.name) for seen in knot]),
                    *(line for seen in knot if seen.task is not None for line in describe_wait(seen.task).splitlines()),
                ],
            )
        yield from check_foreign(self, look)


def _still_waits(seen: Seen) -> bool:
    """Whether it waits as it did when it was looked at: the loop has gone on meanwhile."""
    return seen.task is not None and seen.task.waiting is seen.op and seen.is_parked


def knots(look: Look) -> list[list[Seen]]:
    """For each knot a ring of those in it, in order. Who is stuck is noted in the look's memory, under ``knotted``."""
    moving: list[int] = []
    waiters: dict[int, list[int]] = {}
    freeing: dict[int, Freeing] = {}
    seen_as: dict[int, Seen] = {}
    for seen in look:
        number = seen.task.id if seen.task is not None else -seen.key
        seen_as[number] = seen
        helpers = _helpers(look, seen)
        if helpers is None or seen.op is None:
            moving.append(number)
            continue
        resource = seen.op.resource
        waiters.setdefault(id(resource), []).append(number)
        freeing[id(resource)] = helpers, resource.needs_all
    alive = who_can_move(moving, waiters, freeing.__getitem__)
    look.memory["knotted"] = {seen.key for number, seen in seen_as.items() if number not in alive}
    edges: dict[int, list[int]] = {}
    for wanted, those in waiters.items():
        stuck = [other for other in freeing[wanted][0] if other not in alive]
        edges.update((one, stuck) for one in those if one not in alive)
    return [[seen_as[number] for number in ring] for ring, _ in find_rings(edges)]


def _helpers(look: Look, seen: Seen) -> list[int] | None:
    """The tasks that could end this wait; None where something or somebody else could, or it is not known who."""
    if not seen.is_parked or seen.op is None:
        return None
    if any(node.deadline_at is not None for node in seen.nodes()):
        return None
    satisfiers = seen.op.resource.satisfiers()
    if isinstance(satisfiers, str):
        return None
    tasks = tuple(satisfiers)
    if any(look.of(task) is None for task in tasks):
        return None  # of another loop, or new, or about to end
    return [task.id for task in tasks] or None
