"""Whether the tasks that stand still are the only ones who could ever free what they wait on, where the library does not say.

An asyncio event may be set, and a queue filled, by whoever refers to it: a task, but also a callback, a signal's handler, another
thread. So its waiters are nobody's business as a rule, and a ring that leads through it proves nothing. Who refers to what the garbage
collector knows. It is asked only about things whose waiters would be stuck if nobody but the tasks seen to use them could help, once for
each such wait and then at ever longer intervals, and within a budget of time: what it has no time for stays unknown.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterable, Sequence
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any
from weakref import ref

from .model import Process, Resource, Scope, Snapshot, Task, make
from .tables import Tables, chain_of
from .waitgraph import WaitGraph

# At most so many objects are visited on the way from a thing to the tasks that refer to it, and no question is begun after so many
# seconds of processor time in one snapshot.
_MOST = 200
_BUDGET = 0.02
# Where one question takes longer than this (the heap is large) the next one comes after a pause.
_SLOW = 0.05
_PAUSE = 60.0
_FIRST_REST = 2.0
_LONGEST_REST = 3600.0

# What may do anything at any time, for all we know: a coroutine that is no known task's, a class.
_COROUTINES = (CoroutineType, GeneratorType, AsyncGeneratorType)
_ANYBODYS = (*_COROUTINES, type)

# A thing that is waited on, and its fields as a resource.
Sought = tuple[Any, dict[str, Any]]


class ClosedWorld:
    """See the module's head. One reader keeps one, which remembers what was asked and refers to nothing of the program's."""

    def __init__(self) -> None:
        # By the thing's id: a weak reference to it, who refers to it (None: others as well), when to ask again, and the pause after that.
        self._known: dict[int, tuple[Any, frozenset[int] | None, float, float]] = {}
        self._not_before = 0.0

    def settle(
        self,
        tables: Tables,
        sought: Sequence[Sought],
        coros: Sequence[tuple[int, Any]],
        waits: Iterable[tuple[dict[str, Any], Any, Any]],
    ) -> None:
        """Mark those of ``sought`` as freed by tasks alone whose referrers are tasks alone. ``coros``: each task's id and coroutine."""
        open_ones = [entry for entry in sought if entry[1].get("freed_by") != "tasks"]
        if not open_ones:
            return
        waiting: dict[int, set[int]] = {}
        for fields, _, _ in waits:
            waiting.setdefault(fields["waits"].resource, set()).add(fields["id"])
        suspects = _suspects(tables, open_ones, waiting)
        known = {id(thing): self._known[id(thing)] for thing, _ in suspects if self._is_known(thing)}
        self._known = known
        now = time.monotonic()
        todo = [entry for entry in suspects if id(entry[0]) not in known or known[id(entry[0])][2] <= now]
        if todo and now >= self._not_before:
            owned = [(id(entry), id(entry[1])) for entry in sought]
            ignored = {id(tables.kept), id(sought), id(open_ones), id(suspects), id(todo)}
            ignored.update(number for pair in owned for number in pair)
            self._ask(todo, ignored, _Owners(coros), now)
        for thing, fields in suspects:
            if (found := known.get(id(thing))) is not None and found[1] is not None:
                # Who waits for it himself can't help, and is named only where there is nobody else.
                fields["satisfiers"] = tuple(sorted(found[1] - waiting.get(fields["id"], set()) or found[1]))
                fields["freed_by"] = "tasks"

    def _is_known(self, thing: Any) -> bool:
        found = self._known.get(id(thing))
        return found is not None and found[0]() is thing

    def _ask(self, todo: Sequence[Sought], ignored: set[int], owners: _Owners, now: float) -> None:
        began = time.thread_time()  # not the time of a machine that stands still
        for entry in todo:  # and no variable that refers to the thing itself: see _hidden
            started = time.thread_time()
            if started - began > _BUDGET:
                return
            number = id(entry[0])
            try:
                weak = ref(entry[0])
            except TypeError:
                continue  # it could not be known again
            before = self._known.get(number)
            rest = min(before[3] * 2, _LONGEST_REST) if before is not None else _FIRST_REST
            self._known[number] = weak, _referring([entry[0]], ignored, owners), now + rest, rest
            if time.thread_time() - started > _SLOW:
                self._not_before = now + _PAUSE
                return


def _suspects(tables: Tables, sought: Sequence[Sought], waiting: dict[int, set[int]]) -> list[Sought]:
    """Those whose waiters would be stuck, could only the tasks help that were seen to use them."""
    resources = {number: make(Resource, fields) for number, fields in tables.resources.items()}
    for _, fields in sought:
        number = fields["id"]
        users = tuple({*fields.get("satisfiers", ()), *waiting.get(number, ())})
        resources[number] = make(Resource, {**fields, "satisfiers": users, "freed_by": "tasks"})
    graph = WaitGraph(
        Snapshot(
            0.0,
            Process(0),
            tasks=tables.table("tasks", Task),
            scopes=tables.table("scopes", Scope),
            resources=tuple(resources.values()),
        )
    )
    stuck = set(graph.stuck())
    return [entry for entry in sought if not stuck.isdisjoint(waiting.get(entry[1]["id"], ()))]


class _Owners:
    """The task that each suspended coroutine belongs to."""

    def __init__(self, coros: Iterable[tuple[int, Any]]) -> None:
        self.tasks: dict[int, int] = {}
        # Those that the collector does not know of, as the native kernel's tasks have them, and what these wait in: to be asked one by one.
        self.unknown: list[Any] = []
        for number, coro in coros:
            for link in chain_of(coro):
                self.tasks[id(link)] = number
                if not gc.is_tracked(link):
                    self.unknown.append(link)


def _referring(level: list[Any], ignored: set[int], owners: _Owners) -> frozenset[int] | None:
    """The tasks that refer to what is in ``level``, directly or not; None if somebody else does, or it takes too long to tell."""
    tasks: set[int] = set()
    visited = {id(level[0])}
    referrers: list[Any] = []
    while level:
        del referrers  # which refers to all of them itself
        referrers = _referrers(level)
        numbers = set(map(id, level))
        referrers += [link for link in owners.unknown if not numbers.isdisjoint(map(id, gc.get_referents(link)))]
        if _hidden(level, referrers):
            return None
        skip = {id(level), *ignored}
        level = []
        for each in referrers:
            number = id(each)
            if number in skip or number in visited:
                continue
            if number in owners.tasks:
                tasks.add(owners.tasks[number])
                continue
            if isinstance(each, _ANYBODYS) or _is_alive(each):
                return None
            visited.add(number)
            if len(visited) > _MOST:
                return None
            level.append(each)
        each = None
    return frozenset(tasks)


def _referrers(level: list[Any]) -> list[Any]:
    """Who refers to these. From Python 3.14 on the tuple of the call's own arguments is among them, which nobody has but the answer."""
    found = gc.get_referrers(*level)
    return [
        found[index]
        for index in range(len(found))
        if type(found[index]) is not tuple or sys.getrefcount(found[index]) > 2
    ]


def _hidden(level: list[Any], referrers: list[Any]) -> bool:
    """Whether one of these is referred to from where the collector can't see: a variable of code that runs just now, or of C.

    Then it has more references than were found. This function's own variables never hold one.
    """
    known = dict.fromkeys(map(id, level), 0)
    for holder in referrers:
        for number in map(id, gc.get_referents(holder)):
            if number in known:
                known[number] += 1
    return any(sys.getrefcount(level[index]) - 1 > known[id(level[index])] for index in range(len(level)))


def _is_alive(each: Any) -> bool:
    """Whether it does things by itself: a loop, a call that is due, a thread, a module."""
    if type(each) is dict:
        return "__name__" in each and "__builtins__" in each
    return hasattr(each, "call_soon_threadsafe") or type(each).__name__ in ("Handle", "TimerHandle", "Thread")
