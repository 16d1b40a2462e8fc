"""``deadlock``: some tasks of a program that goes on otherwise can only be freed by each other.

A wait has an edge to each task that could end it. A task is alive if it does not wait, if something outside could end its wait (a timer,
a descriptor, a deadline around it), if nobody knows who could, or if one that could is alive. Who is left is in a knot, or waits for one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...kernel.explain import describe_wait
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
        stuck = knotted(look)
        look.memory["knotted"] = {seen.key for seen in stuck}
        for knot in _components(look, stuck):
            age = min(look.waited(seen) for seen in knot)
            if age < min(self.limit(seen) for seen in knot) or not all(_still_waits(seen) for seen in knot):
                continue
            knot.sort(key=lambda seen: seen.task.id if seen.task is not None else 0)
            first, *others = knot
            ring = " -> ".join(repr(seen.name) for seen in [*knot, first])
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
                    ring,
                    *(line for seen in knot if seen.task is not None for line in describe_wait(seen.task).splitlines()),
                ],
            )
        yield from check_foreign(self, look)


def _still_waits(seen: Seen) -> bool:
    """Whether it waits as it did when it was looked at: the loop has gone on meanwhile."""
    return seen.task is not None and seen.task.waiting is seen.op and seen.is_parked


def targets(look: Look, seen: Seen) -> list[Seen] | None:
    """The tasks that could end this wait; None where something or somebody else could, or it is not known who."""
    if not seen.is_parked or seen.op is None:
        return None
    if any(node.deadline_at is not None for node in seen.nodes()):
        return None
    satisfiers = seen.op.resource.satisfiers()
    if isinstance(satisfiers, str):
        return None
    found: list[Seen] = []
    for task in tuple(satisfiers):
        other = look.of(task)
        if other is None:
            return None  # of another loop, or new, or about to end
        found.append(other)
    return found or None


def knotted(look: Look) -> list[Seen]:
    """Everybody whom nobody alive can free."""
    edges = {seen.key: aims for seen in look.seen if (aims := targets(look, seen)) is not None}
    waiting: dict[int, list[int]] = {}
    for key, aims in edges.items():
        for aim in aims:
            waiting.setdefault(aim.key, []).append(key)
    alive = [seen.key for seen in look.seen if seen.key not in edges]
    known = set(alive)
    for key in alive:
        for other in waiting.get(key, ()):
            if other not in known:
                known.add(other)
                alive.append(other)
    return [seen for seen in look.seen if seen.key not in known]


def _components(look: Look, stuck: list[Seen]) -> list[list[Seen]]:
    """The knots themselves: those of ``stuck`` that can reach themselves, together with whom they reach in a circle."""
    if not stuck:
        return []
    by_key = {seen.key: seen for seen in stuck}
    reach: dict[int, set[int]] = {}
    for seen in stuck:
        found: set[int] = set()
        todo = [seen.key]
        for key in todo:
            for aim in targets(look, by_key[key]) or ():
                if aim.key in by_key and aim.key not in found:
                    found.add(aim.key)
                    todo.append(aim.key)
        reach[seen.key] = found
        if len(reach) >= 1000:
            break  # a finding about the first thousand is enough
    knots: list[list[Seen]] = []
    done: set[int] = set()
    for key, found in reach.items():
        if key in found and key not in done:
            ring = [other for other in found if key in reach.get(other, ())]
            done.update(ring)
            knots.append([by_key[other] for other in ring])
    return knots
