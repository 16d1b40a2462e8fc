"""The wait graph over a snapshot: who waits on what, who could free it, and who can never be freed.

``kernel.knots`` has the search. A task moves by itself if it runs or is ready, or if a timer, a deadline around it, a cancellation or
somebody outside will end its wait.

It is exact where all that is known of the resources is: nobody is called stuck who has any way out. Resources whose satisfiers are
not known free themselves. A knot that goes through something that was worked out from another library's insides (``inferred``) is a
likely one. With ``patient``, deadlines and timeouts are not counted as ways out: what is stuck
only then comes free when the first of them is over, and has waited for nothing until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..kernel.knots import Freeing, find_rings, who_can_move
from .model import Resource, Scope, Snapshot, Task


@dataclass(frozen=True)
class Step:
    """One link of a chain: ``task`` waits on ``resource``, which ``by`` could free (None: somebody outside, or nobody known)."""

    task: int
    resource: int | None
    by: int | None


@dataclass(frozen=True)
class Knot:
    """Tasks that can never go on. ``ring``: those that wait for each other, in order. ``resources``: what the ring waits on.
    ``behind``: those that wait for somebody in the ring, directly or not. ``exact``: proven, not inferred. ``until``: seconds until a
    timeout cuts it, for what ``find_timed`` found; None for a knot that nothing cuts.
    """

    ring: tuple[int, ...]
    resources: tuple[int, ...]
    behind: tuple[int, ...]
    exact: bool
    until: float | None = None


class WaitGraph:
    """See the module's head. Takes time in proportion to tasks and relations."""

    def __init__(self, snapshot: Snapshot, *, patient: bool = False) -> None:
        self.snapshot = snapshot
        self.patient = patient
        self.tasks: dict[int, Task] = {task.id: task for task in snapshot.tasks}
        self.resources: dict[int, Resource] = {resource.id: resource for resource in snapshot.resources}
        self._scopes: dict[int, Scope] = {scope.id: scope for scope in snapshot.scopes}
        self._expires: dict[int | None, bool] = {None: False}
        self._alive = self._who_can_move()

    # -- who can move ----------------------------------------------------------------------------------------------------

    def can_move(self, task: int) -> bool:
        """Whether this task is not stuck. What is not in the snapshot has ended, and stands in nobody's way."""
        return task in self._alive or task not in self.tasks

    def alternatives(self, task: Task) -> tuple[int, ...]:
        """The resources any of which ends the wait of ``task``."""
        wait = task.waits
        if wait is None:
            return ()
        if not wait.arms:
            return (wait.resource,) if wait.resource is not None else ()
        return tuple(arm.resource for arm in wait.arms if arm.resource is not None)

    def frees(self, resource: Resource) -> tuple[int, ...] | None:
        """The tasks that alone could free it; None if somebody else could as well."""
        return resource.satisfiers if resource.freed_by == "tasks" else None

    def next_tasks(self, task: Task) -> Iterable[int]:
        """Whose moves the wait of ``task`` depends on."""
        for number in self.alternatives(task):
            resource = self.resources.get(number)
            if resource is not None:
                yield from resource.satisfiers
        for arm in task.waits.arms if task.waits is not None else ():
            if arm.task is not None:
                yield arm.task

    def _who_can_move(self) -> set[int]:
        moving: list[int] = []
        waiters: dict[int, list[int]] = {}
        arms_of: dict[int, list[int]] = {}
        by_tasks = {number for number, resource in self.resources.items() if resource.freed_by == "tasks"}
        for number, task in self.tasks.items():
            wait = task.waits
            # The usual case, written out, for it is gone through for 100,000 tasks: somebody else could free what it waits on.
            if wait is None or (not wait.arms and wait.resource not in by_tasks):
                moving.append(number)
                continue
            if self._moves_by_itself(task):
                moving.append(number)
                continue
            if not wait.arms:
                assert wait.resource is not None
                waiters.setdefault(wait.resource, []).append(number)
                continue
            for each in self.alternatives(task):
                waiters.setdefault(each, []).append(number)
            for arm in wait.arms:
                if arm.task is not None:
                    arms_of.setdefault(arm.task, []).append(number)
        return who_can_move(moving, waiters, self._freeing, arms_of)

    def _freeing(self, number: int) -> Freeing | None:
        """Who alone could free that resource; who is not in the snapshot has ended."""
        resource = self.resources.get(number)
        satisfiers = self.frees(resource) if resource is not None else None
        if resource is None or satisfiers is None:
            return None
        left = [one for one in satisfiers if one in self.tasks]
        if len(left) < len(satisfiers) and not resource.needs_all:
            return None
        return left, resource.needs_all

    def _moves_by_itself(self, task: Task) -> bool:
        wait = task.waits
        if task.state != "waiting" or wait is None or task.moved:
            return True
        if wait.left is not None and not (self.patient and self._is_by_tasks(wait.resource)):
            return True
        if task.cancelled is not None and not wait.shielded:
            return True
        if wait.arms and any(arm.state == "ready" for arm in wait.arms):
            return True
        if not wait.arms and wait.resource is None:
            return True
        return not self.patient and self._will_expire(task.entered if task.entered is not None else task.scope)

    def _is_by_tasks(self, number: int | None) -> bool:
        resource = self.resources.get(number) if number is not None else None
        return resource is not None and resource.freed_by == "tasks"

    def until(self, task: Task) -> float | None:
        """Seconds until a timeout at or around this task's wait ends it; None if none does."""
        nearest = task.waits.left if task.waits is not None else None
        number = task.entered if task.entered is not None else task.scope
        seen: set[int] = set()
        while number is not None and number not in seen:
            seen.add(number)
            scope = self._scopes.get(number)
            if scope is None:
                break
            if scope.left is not None and (nearest is None or scope.left < nearest):
                nearest = scope.left
            number = None if scope.shielded else scope.parent
        return nearest

    def _will_expire(self, number: int | None) -> bool:
        """Whether a deadline at or around this scope will cancel what is inside."""
        path: list[int] = []
        known = self._expires
        while number is not None and number not in known:
            scope = self._scopes.get(number)
            if scope is None or scope.left is not None or (scope.cancelled is not None):
                known[number] = scope is not None and scope.left is not None
                break
            if scope.shielded:
                known[number] = False
                break
            path.append(number)
            number = scope.parent
        found = known[number]
        for each in path:
            known[each] = found
        return found

    # -- knots -------------------------------------------------------------------------------------------------------------

    def stuck(self) -> list[int]:
        """The tasks that can never go on."""
        return [number for number in self.tasks if number not in self._alive]

    def knots(self) -> tuple[Knot, ...]:
        """The knots, each with those who wait behind it. Empty as long as everybody has a way out."""
        stuck = set(self.stuck())
        if not stuck:
            return ()
        edges = {number: [one for one in self.next_tasks(self.tasks[number]) if one in stuck] for number in stuck}
        found: list[Knot] = []
        for ring, behind in find_rings(edges):
            resources = tuple(dict.fromkeys(number for one in ring for number in self.alternatives(self.tasks[one])))
            exact = not any(
                (found_one := self.resources.get(number)) is not None and found_one.inferred for number in resources
            )
            found.append(Knot(ring, resources, behind, exact))
        return tuple(sorted(found, key=lambda knot: min(knot.ring)))

    # -- chains --------------------------------------------------------------------------------------------------------------

    def chain(self, task: int) -> tuple[Step, ...]:
        """From a waiting task to who could set it free: the shortest way to somebody who can move, or, where there is none, around
        its knot. The last step's ``by`` is that task, or None where somebody outside decides.
        """
        previous: dict[int, tuple[int, int | None]] = {}
        todo = deque([task])
        seen = {task}
        while todo:
            here = todo.popleft()
            found = self.tasks.get(here)
            if found is None or found.waits is None or (here != task and self._moves_by_itself(found)):
                return self._path(task, here, previous)
            for number in self.alternatives(found) or (None,):
                resource = self.resources.get(number) if number is not None else None
                if resource is None or self.frees(resource) is None:
                    return (*self._path(task, here, previous), Step(here, number, None))
                for one in resource.satisfiers:
                    if one not in seen:
                        seen.add(one)
                        previous[one] = (here, number)
                        todo.append(one)
        return self._around(task)

    def _path(self, start: int, end: int, previous: dict[int, tuple[int, int | None]]) -> tuple[Step, ...]:
        steps: list[Step] = []
        here = end
        while here != start:
            before, number = previous[here]
            steps.append(Step(before, number, here))
            here = before
        return tuple(reversed(steps))

    def _around(self, task: int) -> tuple[Step, ...]:
        """Everybody it leads to is stuck: follow the first satisfier until it comes round."""
        steps: list[Step] = []
        seen: set[int] = set()
        here = task
        while here not in seen:
            seen.add(here)
            following = next(
                ((number, one) for number in self.alternatives(self.tasks[here])
                 if (resource := self.resources.get(number)) is not None
                 for one in resource.satisfiers if one in self.tasks and one not in self._alive),
                None,
            )  # fmt: skip
            if following is None:
                break
            steps.append(Step(here, following[0], following[1]))
            here = following[1]
        return tuple(steps)


def find_knots(snapshot: Snapshot, graph: WaitGraph | None = None) -> tuple[Knot, ...]:
    """The knots, the proven ones first. ``graph``: that of the snapshot, if it is there."""
    found = (graph if graph is not None else WaitGraph(snapshot)).knots()
    return tuple(sorted(found, key=lambda knot: not knot.exact))


def find_timed(snapshot: Snapshot, graph: WaitGraph | None = None) -> tuple[Knot, ...]:
    """What would be a knot, did not a timeout cut it sooner or later: with ``until``, the soonest first. ``graph``: as above."""
    if not any(scope.left is not None for scope in snapshot.scopes) and not _timed_by_tasks(snapshot):
        return ()  # nothing has a way out that patience would close: a hundred thousand sleepers are not gone through again
    stuck = set((graph if graph is not None else WaitGraph(snapshot)).stuck())
    graph = WaitGraph(snapshot, patient=True)
    found: list[Knot] = []
    for knot in graph.knots():
        times = [left for one in (*knot.ring, *knot.behind) if (left := graph.until(graph.tasks[one])) is not None]
        if times and not stuck.intersection(knot.ring):
            found.append(replace(knot, until=min(times)))
    return tuple(sorted(found, key=lambda knot: knot.until or 0.0))


def _timed_by_tasks(snapshot: Snapshot) -> bool:
    """Whether any wait for other tasks has a timer of its own."""
    by_tasks = {resource.id for resource in snapshot.resources if resource.freed_by == "tasks"}
    return bool(by_tasks) and any(
        task.waits is not None and task.waits.left is not None and task.waits.resource in by_tasks
        for task in snapshot.tasks
    )
