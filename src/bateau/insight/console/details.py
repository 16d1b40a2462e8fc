"""What the console says of one task, one resource, one scope: text, worked out from a snapshot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ..explain import SOME_EVENTS, explain_task, noted
from ..model import Scope, Snapshot, Task
from ..waitgraph import WaitGraph
from ..words import count, duration
from .listing import longest_waits, place
from .trends import histogram

# Waiters and children that are listed before the rest is counted.
MOST_LISTED = 30


def task_text(snapshot: Snapshot, number: int) -> str:
    """Where it is, what it waits on, who could free it, how it spent its time. Raises ``KeyError`` if it is not there."""
    task = next((one for one in snapshot.tasks if one.id == number), None)
    if task is None:
        raise KeyError(number)
    lines = [explain_task(snapshot, number).rstrip(), "", *_life(snapshot, task)]
    earlier = task.events[:-SOME_EVENTS]  # the last ones stand at the top
    if earlier:
        lines += ["", "noted by the program before:", *(f"  {noted(event)}" for event in earlier)]
    return "\n".join(lines)


def _life(snapshot: Snapshot, task: Task) -> Iterator[str]:
    parent = next((one for one in snapshot.tasks if one.id == task.parent), None)
    yield f"state: {task.state}" + (f", being cancelled: {task.cancelled}" if task.cancelled is not None else "")
    if task.stopping is not None:
        yield f"asked to stop: {task.stopping}"
    yield f"parent: {parent.name!r}" if parent is not None else "parent: none, it is a root"
    for scope in _scopes_around(snapshot, task):
        left = f", {duration(scope.left)} left" if scope.left is not None else ""
        yield f"inside {scope_label(snapshot, scope)}{left}"
    for one in snapshot.resources:
        if task.id in one.holders:
            held = one.held_for(one.holders.index(task.id))
            waiting = (
                f", for which {count(one.waiting, 'task')} wait{'s' if one.waiting == 1 else ''}" if one.waiting else ""
            )
            since = f" for at least {duration(held)}" if held is not None else ""
            yield f"holds {one.kind}{f' {one.name!r}' if one.name else ''}{since}{waiting}"
    stats = task.stats
    if stats:
        yield (
            f"ran {duration(stats.get('busy'))} in {count(int(stats.get('steps', 0)), 'step')}; ready and not yet run "
            f"{duration(stats.get('scheduled'))}; waited {duration(stats.get('idle'))}; woken {count(int(stats.get('wakes', 0)), 'time')}, "
            f"{stats.get('self_wakes', 0):.0f} of them by itself"
        )
        late = histogram(dict(stats))
        if late:
            yield "from being woken to running:"
            yield from late


def scope_label(snapshot: Snapshot, scope: Scope) -> str:
    """A scope in a sentence, by its name, the line that entered it, or whose block it is: ``scope 'requests' (server.py:12)``."""
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", scope.kind).lower()
    name = f" {scope.name!r}" if scope.name else ""
    frame = snapshot.frame(scope.site)
    if frame is not None and frame.line:
        return f"{kind}{name} ({place(frame)})"
    owner = next((task.name for task in snapshot.tasks if task.id == scope.task), None)
    return f"{kind}{name}" + (f" of task {owner!r}" if owner is not None and not name else "")


def _scopes_around(snapshot: Snapshot, task: Task) -> Iterator[Scope]:
    scopes = {scope.id: scope for scope in snapshot.scopes}
    number = task.entered if task.entered is not None else task.scope
    for _ in range(20):
        scope = scopes.get(number) if number is not None else None
        if scope is None:
            return
        yield scope
        number = scope.parent


def resource_text(snapshot: Snapshot, number: int) -> str:
    """Who waits on it, who has it, who could free it, how full it is. Raises ``KeyError`` if it is not there."""
    one = next((resource for resource in snapshot.resources if resource.id == number), None)
    if one is None:
        raise KeyError(number)
    tasks = {task.id: task for task in snapshot.tasks}
    graph = WaitGraph(snapshot)
    lines = [one.text, ""]
    if one.used is not None:
        full = one.capacity is not None and one.used >= one.capacity
        capacity = "without a bound" if one.capacity is None else f"of {one.capacity}"
        lines.append(f"fill: {one.used} {capacity}" + (", full" if full else ""))
    longest = longest_waits(snapshot).get(one.id)
    lines.append(f"waiting: {one.waiting}" + (f", the longest for {duration(longest)}" if longest is not None else ""))
    lines += [f"  {_where(snapshot, tasks.get(each))}" for each in one.waiters[:MOST_LISTED]]
    if one.waiting > MOST_LISTED:
        lines.append(f"  and {one.waiting - MOST_LISTED} more")
    if one.holders or one.holder_threads:
        lines.append("held by:")
        holders = [_doing(snapshot, tasks.get(each)) for each in one.holders[:MOST_LISTED]]
        threads = [f"thread {each}" for each in one.holder_threads]
        lines += [f"  {who}{_held(one.held_for(at))}" for at, who in enumerate(holders)]
        lines += [f"  {who}{_held(one.held_for(len(one.holders) + at))}" for at, who in enumerate(threads)]
    outside = {
        "outside": "somebody outside (a timer, a descriptor, a thread)",
        "unknown": "it is not known for sure who",
    }
    if one.freed_by != "tasks":
        lines.append(f"could be freed by: {outside[one.freed_by]}")
    others = [each for each in one.satisfiers if each not in one.holders]
    if others:
        lines.append("tasks that could free it:")
        for each in others[:MOST_LISTED]:
            stuck = "" if graph.can_move(each) else "; it can't go on itself"
            lines.append(f"  {_doing(snapshot, tasks.get(each))}{stuck}")
    if one.inferred:
        lines.append("(worked out from another library's insides: likely, not proven)")
    return "\n".join(lines)


def _held(seconds: float | None) -> str:
    return f"; has had it for at least {duration(seconds)}" if seconds is not None else ""


def _where(snapshot: Snapshot, task: Task | None) -> str:
    if task is None:
        return "a task that has ended"
    where = place(snapshot.place(task))
    wait = task.waits
    since = (
        f", for {'at least ' if wait.at_least else ''}{duration(wait.waited)}"
        if wait and wait.waited is not None
        else ""
    )
    return repr(task.name) + (f" at {where}" if where else "") + since


def _doing(snapshot: Snapshot, task: Task | None) -> str:
    if task is None:
        return "a task that has ended"
    wait = f", waits: {task.waits.operation}" if task.waits is not None else f", {task.state}"
    return _where(snapshot, task) + wait


def scope_text(snapshot: Snapshot, number: int) -> str:
    """Whose it is, who lives in it, what becomes of it. Raises ``KeyError`` if it is not there."""
    scope = next((one for one in snapshot.scopes if one.id == number), None)
    if scope is None:
        raise KeyError(number)
    tasks = {task.id: task for task in snapshot.tasks}
    children = [task for task in snapshot.tasks if task.scope == number]
    lines = [scope_label(snapshot, scope), ""]
    where = place(snapshot.frame(scope.site))
    if where:
        lines.append(f"entered at: {where}")
    if scope.task is not None:
        lines.append(f"block of: {_doing(snapshot, tasks.get(scope.task))}")
    if scope.left is not None:
        lines.append(f"deadline: {duration(scope.left)} left")
    for word, text in (("cancelled", scope.cancelled), ("asked to stop", scope.stopping)):
        if text is not None:
            lines.append(f"{word}: {text}")
    if scope.closing:
        lines.append("its block has ended; it waits for its children")
    if scope.limit is not None:
        lines.append(
            f"at most {scope.limit} children run at once: {scope.running or 0} do, {scope.queued or 0} wait for their place"
        )
    lines.append(f"children: {max(scope.children, len(children))}")
    lines += [f"  {_doing(snapshot, child)}" for child in children[:MOST_LISTED]]
    if len(children) > MOST_LISTED:
        lines.append(f"  and {len(children) - MOST_LISTED} more")
    return "\n".join(lines)


TEXTS: dict[str, Callable[[Snapshot, int], str]] = {"task": task_text, "resource": resource_text, "scope": scope_text}
