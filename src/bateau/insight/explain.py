"""A snapshot in words: which tasks, since when, at which line, waiting on what, held by whom, and what would free them.

Like tasks are told once, with their number. What is wrong comes first, then what runs, then who waits.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from ..kernel.explain import ring_of, told, who_helps
from .model import Event, Finding, Frame, Resource, Snapshot, Task, Wait
from .naming import Names
from .waitgraph import Knot, WaitGraph, find_knots, find_timed
from .words import count, cut, duration

# Names listed before "and N more".
MOST_NAMES = 4
MOST_GROUPS = 60
# Of what the program has noted on a task, the last so many are told with it.
SOME_EVENTS = 3

# The tools' own.
_OWN_THREADS = ("bateau-insight", "bateau watcher", "bateau-dump-every")

T = TypeVar("T")

_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")


def explain(snapshot: Snapshot, *, width: int = MOST_GROUPS) -> str:
    """The whole snapshot. ``width``: how many groups of waiting tasks to tell before the rest is only counted."""
    return "\n".join(_Teller(snapshot).everything(width)) + "\n"


def explain_task(snapshot: Snapshot, number: int) -> str:
    """One task: its stack, its wait, and the chain to who could free it. Raises ``KeyError`` if there is no such task."""
    teller = _Teller(snapshot)
    return "\n".join(teller.one(teller.graph.tasks[number])) + "\n"


def explain_waits(snapshot: Snapshot, tasks: Collection[int]) -> str:
    """These tasks alone: rings of waits first, then each with what it waits on. Of more than a few alike one is told, with their number."""
    return "\n".join(_Teller(snapshot).waits_of(tasks))


def explain_knot(snapshot: Snapshot, knot: Knot) -> str:
    """One knot: who is in it, at which lines, holding what, and what would free it."""
    return "\n".join(_Teller(snapshot)._knot(knot))


class _Teller:
    """See the module's head."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.graph = WaitGraph(snapshot)
        self.knots = find_knots(snapshot, self.graph)
        self.timed = find_timed(snapshot, self.graph)
        self.names = Names(snapshot)
        self._threads = {thread.id: thread for thread in snapshot.threads}
        self._runtimes = {runtime.id: runtime for runtime in snapshot.runtimes}

    def everything(self, width: int) -> Iterator[str]:
        """All lines."""
        yield from self._head()
        for knot in self.knots:
            yield ""
            yield from self._knot(knot)
        for knot in self.timed:
            yield ""
            yield from self._knot(knot)
        findings = [
            one for one in self.snapshot.findings if not is_told(self.snapshot, one, [*self.knots, *self.timed])
        ]
        for finding in findings[-10:]:
            frame = self.snapshot.frame(finding.site)
            when = seen(finding)
            yield ""
            yield (
                f"FOUND {finding.hazard}{f' ({when})' if when else ''}: {finding.message}"
                + (f" [{frame.file}:{frame.line}]" if frame else "")
            )
            yield from _indented(evidence(finding))
        yield from self._moving()
        yield from self._waiting(width)
        yield from self._threads_lines()
        for gap in self.snapshot.gaps:
            yield f"NOT READ: {gap}"

    # -- the head --------------------------------------------------------------------------------------------------------

    def _head(self) -> Iterator[str]:
        snapshot, process = self.snapshot, self.snapshot.process
        command = " ".join(process.argv) or process.executable or "?"
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.taken_at))
        yield f"process {process.pid} ({cut(command, 100)}), Python {process.python or '?'}, {when}"
        yield (
            f"{count(len(snapshot.tasks), 'task')}, read {_source(snapshot.source)} in {snapshot.took * 1000:.0f} ms"
            + ("" if snapshot.exact else "; it went on while it was being read")
        )
        if process.stopped:
            yield f"the process is STOPPED, by a signal or a debugger: nothing in it goes on until `kill -CONT {process.pid}`"
        counts = Counter(map(attrgetter("runtime"), snapshot.tasks))
        for runtime in snapshot.runtimes:
            thread = self._threads.get(runtime.thread or 0)
            parts = [count(counts[runtime.id], "task")]
            if runtime.timers is not None:
                parts.append(count(runtime.timers, "timer"))
            if runtime.fds is not None:
                parts.append(count(runtime.fds, "descriptor"))
            parts.extend(runtime.holds[:3])
            yield f"runtime {runtime.name} on thread {thread.name if thread else runtime.thread}: {', '.join(parts)}"
            if snapshot.source == "live":  # other readers have words of their own there
                yield from (f"  {name}: {cut(str(value), 160)}" for name, value in runtime.ext.items())
        if snapshot.gauges:
            yield "gauges: " + ", ".join(f"{name} {value:g}" for name, value in snapshot.gauges.items())
        if snapshot.source == "live":
            yield from (f"{name}: {cut(str(value), 160)}" for name, value in snapshot.ext.items())

    # -- what is wrong ----------------------------------------------------------------------------------------------------

    def _knot(self, knot: Knot) -> Iterator[str]:
        certain = "DEADLOCK" if knot.exact else f"PROBABLY A DEADLOCK ({_basis(self.snapshot.source)})"
        ring = [self.graph.tasks[number] for number in knot.ring]
        if knot.until is not None:
            yield (
                f"IN EACH OTHER'S WAY: {count(len(ring), 'task')} can only be freed by each other, or by a timeout in "
                f"{duration(knot.until)}"
            )
        elif len(ring) == 1:
            yield f"{certain}: task {self.names.short(ring[0])} waits for itself, and nobody else can free it"
        else:
            yield f"{certain}: {len(ring)} tasks wait for each other, and nobody else can free them"
        for task in ring:
            yield from _indented(self._task(task))
        names: list[str] = []
        for task in ring:
            resource = self._resource(task)
            names += [self.names.short(task), *([_label(resource)] if resource is not None else [])]
        yield "  the ring: " + ring_of([*names[:12], *(["..."] if len(names) > 12 else [])])
        if knot.behind:
            behind = [self.graph.tasks[number] for number in knot.behind]
            yield f"  behind it: {_names(behind)}"
        yield f"  to free it: {_advice(ring, [self._resource(task) for task in ring])}"

    # -- who runs ---------------------------------------------------------------------------------------------------------

    def _moving(self) -> Iterator[str]:
        states = Counter(map(attrgetter("state"), self.snapshot.tasks))
        for state, title in (("running", "running now"), ("ready", "ready to run"), ("new", "not started yet")):
            if not states[state]:
                continue
            tasks = [task for task in self.snapshot.tasks if task.state == state]
            yield ""
            yield f"{title}: {count(len(tasks), 'task')}"
            for group in _groups(tasks, lambda task: (task.stack, task.cancelled, task.runtime))[:10]:
                yield from _indented(self._group(group))
                if state == "running":
                    yield from _indented(_indented(self._stack(group[0])))

    def _waiting(self, width: int) -> Iterator[str]:
        told = {number for knot in (*self.knots, *self.timed) for number in knot.ring}
        tasks = [task for task in self.snapshot.tasks if task.state in ("waiting", "unknown") and task.id not in told]
        if not tasks:
            return
        yield ""
        yield f"waiting: {count(len(tasks), 'task')}"
        groups = _alike(tasks, self.graph.resources)
        groups.sort(key=len, reverse=True)
        for group in groups[:width]:
            yield from _indented(self._group(group))
        rest = groups[width:]
        if rest:
            yield f"  and {count(sum(map(len, rest)), 'task')} in {len(rest)} other places"

    def waits_of(self, chosen: Collection[int]) -> Iterator[str]:
        """For ``explain_waits``."""
        for knot in (*self.knots, *self.timed):
            if not set(chosen).isdisjoint(knot.ring):
                yield f"a ring of waits: {ring_of([self._name(number) for number in knot.ring])}"
        tasks = [task for task in self.snapshot.tasks if task.id in chosen]
        for group in _alike(tasks, self.graph.resources):
            for some in [group] if len(group) > MOST_NAMES else [[task] for task in group]:
                yield from self._group(some)

    def _threads_lines(self) -> Iterator[str]:
        others = [
            thread
            for thread in self.snapshot.threads
            if thread.runtime is None and thread.stack is not None and thread.name not in _OWN_THREADS
        ]
        if others:
            yield ""
            yield f"other threads: {len(others)}"
            for thread in others[:20]:
                frame = self.snapshot.at(thread.stack)
                yield f"  {thread.name}" + (f" at {_place(frame)}" if frame else "")

    # -- tasks -----------------------------------------------------------------------------------------------------------

    def _group(self, group: list[Task]) -> Iterator[str]:
        if len(group) == 1:
            yield from self._task(group[0])
            return
        label = self.names.runtime(group[0])
        like = f"{group[0].name!r} ({label})" if label else repr(group[0].name)
        first, *more = self._task(group[0], names=f"{len(group)} tasks like {like}")
        yield first
        yield from more
        known = [task.memory for task in group if task.memory is not None]
        if known:
            yield f"  memory of their frames: {sum(known):,} bytes"

    def _task(self, task: Task, names: str | None = None) -> Iterator[str]:
        """A task in a few lines; the first says who, where, and what it waits on."""
        frame = self.snapshot.place(task)
        if names is None:
            line = f"{'task' if task.library == 'bateau' else f'{task.library} task'} {self.names.full(task)}"
        else:
            line = names
        line += f" at {_place(frame)}" if frame is not None else ""
        wait = task.waits
        if task.ran is not None and names is None:
            line += f" has run for {_lasted(task)}"
        if wait is not None:
            line += f" {_waits(wait, several=names is not None)}: {cut(wait.operation, 160)}"
            if wait.left is not None:
                line += f" ({duration(wait.left)} left)"
        yield line
        if wait is not None:
            yield from _indented(self._freeing(task, wait))
        if task.cancelled is not None:
            yield f"  it is being cancelled: {task.cancelled}"
        spawned = self.snapshot.frame(task.spawned)
        if spawned is not None and names is None and spawned.line and spawned.whose != "bateau":
            yield f"  spawned at {spawned.file}:{spawned.line}"
        if names is not None:
            return
        for event in task.events[-SOME_EVENTS:]:
            yield f"  {noted(event)}"
        for name, value in task.context.items():
            yield f"  context {name} = {value}"
        if task.memory is not None:
            yield f"  memory of its frames: {task.memory:,} bytes"

    def _freeing(self, task: Task, wait: Wait) -> Iterator[str]:
        for arm in wait.arms[:8]:
            last = ", the last that was served" if arm.last else ""
            yield f"arm {arm.name!r} ({arm.state}{last}): {cut(arm.operation, 140)}"
            if arm.resource is not None:
                yield from _indented(self._who(self.graph.resources.get(arm.resource)))
        if wait.arms:
            return
        resource = self.graph.resources.get(wait.resource) if wait.resource is not None else None
        yield from self._who(resource, timed=wait.left is not None)
        steps = self.graph.chain(task.id)
        if len(steps) > 1 and self.graph.can_move(task.id):
            yield "so in the end it waits for: " + self._end_of(steps[-1].by, steps[-1].resource)

    def _who(self, resource: Resource | None, *, timed: bool = False) -> Iterator[str]:
        """Who holds it, who could free it. ``timed``: time does, at the latest."""
        if resource is None or resource.kind in ("the clock", "the next turn"):
            return
        others = [one for one in resource.satisfiers if one not in resource.holders]
        tell = self._doing if len(others) == 1 else self._name
        yield from who_helps(
            _some([*enumerate(resource.holders)], lambda one: self._holding(resource, *one)),
            _some(others, tell),
            needs_all=resource.needs_all,
        )
        for ident in resource.holder_threads:
            thread = self._threads.get(ident)
            yield f"held by thread {thread.name if thread else ident}{_held(resource, len(resource.holders))}"
        if resource.freed_by == "unknown" and not resource.holders and not timed:
            yield "who could free it is not known" + (" for sure" if others else "")

    def _name(self, number: int) -> str:
        task = self.graph.tasks.get(number)
        return repr(task.name) if task is not None else "a task that has ended"

    def _doing(self, number: int) -> str:
        """A task as one that could help: its name, and what it does itself."""
        task = self.graph.tasks.get(number)
        if task is None:
            return "a task that has ended"
        if task.state != "waiting" or task.waits is None:
            frame = self.snapshot.place(task)
            since = f", for {_lasted(task)}" if task.ran is not None else ""
            return (
                f"{self.names.short(task)}, which is {task.state}" + (f" at {_place(frame)}" if frame else "") + since
            )
        frame = self.snapshot.place(task)
        where = f" at {_place(frame)}" if frame is not None else ""
        return f"{self.names.short(task)}, which waits{where}"

    def _holding(self, resource: Resource, at: int, number: int) -> str:
        return self._doing(number) + _held(resource, at)

    def _end_of(self, number: int | None, resource: int | None) -> str:
        if number is not None:
            return self._doing(number)
        found = self.graph.resources.get(resource) if resource is not None else None
        return found.text if found is not None else "something outside"

    def _resource(self, task: Task) -> Resource | None:
        numbers = self.graph.alternatives(task)
        return self.graph.resources.get(numbers[0]) if numbers else None

    def _stack(self, task: Task) -> Iterator[str]:
        for frame in self.snapshot.stack(task.stack):
            if frame.whose != "bateau":
                yield f"{frame.file}:{frame.line} in {frame.function}"

    def one(self, task: Task) -> Iterator[str]:
        """For ``explain_task``."""
        yield from self._task(task)
        stack = list(self._stack(task))
        if (
            stack
        ):  # else it is in a function of bateau's from its first frame on, and the line that spawned it is told above
            yield "stack:"
            yield from _indented(stack)
        steps = self.graph.chain(task.id)
        if steps:
            yield "chain:"
            for step in steps:
                resource = self.graph.resources.get(step.resource) if step.resource is not None else None
                what = resource.text if resource is not None else "something unknown"
                if resource is not None and resource.kind == "the clock":
                    yield f"  {self.names.short(self.graph.tasks[step.task])} waits until its time has come"
                    continue
                by = self._doing(step.by) if step.by is not None else "somebody outside"
                yield f"  {self.names.short(self.graph.tasks[step.task])} waits on {what}, which could be freed by {by}"
        if not self.graph.can_move(task.id):
            yield "nobody can free it any more"


# -- words ---------------------------------------------------------------------------------------------------------------


def _advice(ring: list[Task], resources: list[Resource | None]) -> str:
    """What would free a knot, by what it is made of."""
    kinds = {resource.kind for resource in resources if resource is not None}
    if any("channel" in kind or "Queue" in kind for kind in kinds):
        if len(ring) == 1:
            return (
                "it is the only one who takes out what it puts in; let another task receive, or send less before receiving "
                "(try_send, and keep what does not fit), or give the channel more room"
            )
        return (
            "let one of them receive while it waits to send (select over both), send less, or give a channel more room"
        )
    if len(ring) == 1:
        return "cancel it; it has or is what it waits for"
    if all("ock" in kind for kind in kinds):
        return "cancel one of them; for good, take these locks in the same order everywhere, or take them as one"
    return "cancel one of them; for good, don't wait for another while holding what that one needs"


def _alike(tasks: Iterable[Task], resources: dict[int, Resource]) -> list[list[Task]]:
    """Tasks that stand at the same lines and wait for the same kind of thing; for the very same one, where somebody holds it."""
    found: dict[Any, list[Task]] = {}
    # By resource: one number for all whose waiters may be told together. This is gone through for 100,000 tasks.
    kinds: dict[int | None, int] = {}
    numbers: dict[Any, int] = {}
    for task in tasks:
        wait, stack = task.waits, task.stack
        key: Any
        if wait is None:
            key = stack, task.state, task.cancelled, task.runtime
        else:
            kind = kinds.get(wait.resource)
            if kind is None:
                resource = resources.get(wait.resource) if wait.resource is not None else None
                shared = wait.resource if resource is not None and resource.holders else None
                alike = resource.kind if resource is not None else None, shared
                kind = kinds[wait.resource] = numbers.setdefault(alike, len(numbers))
            words = _NUMBERS.sub("#", wait.operation[:60]) if stack is None else None
            key = stack, task.library, kind, task.cancelled, task.runtime, words
        group = found.get(key)
        if group is None:
            found[key] = [task]
        else:
            group.append(task)
    return list(found.values())


def _groups(tasks: Iterable[Task], key: Callable[[Task], Any]) -> list[list[Task]]:
    found: dict[Any, list[Task]] = {}
    for task in tasks:
        found.setdefault(key(task), []).append(task)
    return list(found.values())


def _place(frame: Frame) -> str:
    return told((frame.file, frame.line, frame.function))


def _held(resource: Resource, at: int) -> str:
    seconds = resource.held_for(at)
    return f", and has had it for at least {duration(seconds)}" if seconds is not None else ""


def _label(resource: Resource) -> str:
    return f"{resource.kind} {resource.name!r}" if resource.name else resource.kind


def _waits(wait: Wait, *, several: bool) -> str:
    """Not "waits for 2 s", which would be a wait that ends then."""
    if wait.waited is None or (wait.at_least and wait.waited < 0.05):
        return "wait" if several else "waits"
    return f"{'have' if several else 'has'} waited for {'at least ' if wait.at_least else ''}{duration(wait.waited)}"


def seen(finding: Finding) -> str:
    """How often a hazard was seen, and when: ``12 s ago``; ``3 times, first 5m10s ago, last 12 s ago``; "" if nothing is known."""
    parts = [f"{finding.count} times"] if finding.count > 1 else []
    if finding.ago is not None:
        first = finding.first_ago
        if first is not None and first - finding.ago >= 0.5:
            parts += [f"first {duration(first)} ago", f"last {duration(finding.ago)} ago"]
        else:
            parts.append(f"{duration(finding.ago)} ago")
    return ", ".join(parts)


def noted(event: Event) -> str:
    """A note of the program's: ``3 s ago: query sent (rows=3)``."""
    data = ", ".join(f"{name}={value}" for name, value in event.data.items())
    return f"{duration(event.ago)} ago: {event.text}" + (f" ({cut(data, 160)})" if data else "")


def is_told(snapshot: Snapshot, finding: Finding, knots: Iterable[Knot]) -> bool:
    """Whether it is the report of a deadlock that is there still, and told at greater length."""
    if finding.hazard != "deadlock":
        return False
    names = {task.id: repr(task.name) for task in snapshot.tasks}
    return any(all(names.get(one, "?") in finding.message for one in knot.ring) for knot in knots)


def evidence(finding: Finding) -> list[str]:
    """What was seen of it besides, in the few lines that are short: as a rule who called, and how long it took in the end."""
    given: Any = finding.ext.get("evidence")
    lines = [str(each) for each in given] if isinstance(given, (list, tuple)) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # what others have written
    short = [line for line in lines if "\n" not in line]
    return [cut(line, 160) for line in (short if len(short) <= MOST_NAMES else [*short[:2], *short[-2:]])]


def _lasted(task: Task) -> str:
    """For how long a running task has been in its step."""
    return ("at most " if task.ran_at_most else "") + duration(task.ran)


def _names(tasks: list[Task]) -> str:
    return ", ".join(_some(tasks, lambda task: repr(task.name)))


def _some(items: Sequence[T], tell: Callable[[T], str]) -> list[str]:
    """The first of them in words, and how many there are besides."""
    shown = [tell(item) for item in items[:MOST_NAMES]]
    return [*shown, f"and {len(items) - MOST_NAMES} more"] if len(items) > MOST_NAMES else shown


def _basis(source: str) -> str:
    """What is known only by inference, in a snapshot of that source."""
    return (
        "by who held what when the waits began" if source == "recorder" else "worked out from another library's frames"
    )


def _source(source: str) -> str:
    return {"live": "from inside", "memory": "from its memory"}.get(source, f"from {source}")


def _indented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield "  " + line
