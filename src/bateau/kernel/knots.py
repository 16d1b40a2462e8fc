"""Who can never go on: the search for deadlocks, over nothing but numbers.

A task that waits has one alternative (its resource) or several (the arms of a select), any of which ends its wait. A resource is freed by
any of its satisfiers or, where it needs all of them (the end of a scope), only by all. The least set of tasks that is closed under this,
begun with those that move by themselves, is who can go on; the rest is stuck for ever. That is a *knot*: a ring is its simplest form, but
two tasks that each hold what either of two others needs are one as well, and a ring with one way out is none.

Deadlock reports, the hazard and every tool that draws the graph ask here; each says for itself what moves and who frees what.
Everything is iterative, and takes time in proportion to tasks and relations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

# Who alone could free a resource, and whether it takes all of them; None where somebody else could as well, or it is not known.
Freeing = tuple[Collection[int], bool]


def who_can_move(
    moving: Iterable[int],
    waiters: Mapping[int, Sequence[int]],
    freed_by: Callable[[int], Freeing | None],
    followers: Mapping[int, Sequence[int]] | None = None,
) -> set[int]:
    """The tasks that can go on, sooner or later.

    ``moving``: those that do by themselves. ``waiters``: by resource, the tasks whose wait its freeing would end. ``freed_by``: of a
    resource, see ``Freeing``. ``followers``: by task, those that go on as soon as that one has moved.
    """
    alive: set[int] = set(moving)
    todo = deque(alive)
    needed: dict[int, int] = {}
    feeds: dict[int, list[int]] = {}

    def wake(tasks: Iterable[int]) -> None:
        for one in tasks:
            if one not in alive:
                alive.add(one)
                todo.append(one)

    for number, those in waiters.items():
        freeing = freed_by(number)
        if freeing is None or not freeing[0]:
            wake(those)
            continue
        helpers, needs_all = freeing
        needed[number] = len(helpers) if needs_all else 1
        for one in helpers:
            feeds.setdefault(one, []).append(number)
    while todo and (followers or feeds):  # else nobody waits for any of them
        mover = todo.popleft()
        if followers:
            wake(followers.get(mover, ()))
        for number in feeds.get(mover, ()):
            needed[number] -= 1
            if needed[number] == 0:
                wake(waiters[number])
    return alive


def find_rings(edges: Mapping[int, Sequence[int]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The knots among stuck tasks: for each a ring of tasks that wait for one another, in order, and whoever else is in it or behind it.

    ``edges``: for each stuck task, the stuck ones that its wait depends on. Who leads to several knots stands behind the first.
    """
    cores = [core for core in _components(edges) if _is_terminal(core, edges)]
    behind = _behind(cores, edges)
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for core, others in zip(cores, behind, strict=True):
        ring = _ring(core, edges)
        found.append((ring, tuple(sorted({*core, *others} - set(ring)))))
    return found


def _components(edges: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """The strongly connected components (Tarjan's algorithm)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    for root in sorted(edges):
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, following = work[-1]
            for one in following:
                if one not in index:
                    index[one] = low[one] = len(index)
                    stack.append(one)
                    on_stack.add(one)
                    work.append((one, iter(edges[one])))
                    break
                if one in on_stack:
                    low[node] = min(low[node], index[one])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == index[node]:
                    component: list[int] = []
                    while True:
                        one = stack.pop()
                        on_stack.discard(one)
                        component.append(one)
                        if one == node:
                            break
                    found.append(sorted(component))
    return found


def _is_terminal(component: list[int], edges: Mapping[int, Sequence[int]]) -> bool:
    members = set(component)
    return all(one in members for number in component for one in edges[number])


def _behind(cores: list[list[int]], edges: Mapping[int, Sequence[int]]) -> list[set[int]]:
    """For each core, who leads to it. Who leads to several stands behind the first."""
    backwards: dict[int, list[int]] = {}
    for number, following in edges.items():
        for one in following:
            backwards.setdefault(one, []).append(number)
    taken: set[int] = {number for core in cores for number in core}
    found: list[set[int]] = []
    for core in cores:
        mine: set[int] = set()
        todo = list(core)
        for number in todo:
            for one in backwards.get(number, ()):
                if one not in taken:
                    taken.add(one)
                    mine.add(one)
                    todo.append(one)
        found.append(mine)
    return found


def _ring(core: list[int], edges: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """A shortest ring through the first member of a core; the member alone if there is none."""
    members, start = set(core), core[0]
    previous: dict[int, int] = {}
    todo = deque([start])
    while todo:
        here = todo.popleft()
        for one in edges[here]:
            if one == start:
                ring = [here]
                while ring[-1] != start:
                    ring.append(previous[ring[-1]])
                return tuple(reversed(ring))
            if one in members and one not in previous:
                previous[one] = here
                todo.append(one)
    return (start,)
