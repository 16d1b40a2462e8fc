"""From a recording to a report: the last snapshot, the timeline, and what can be said of the end."""

from __future__ import annotations

import re
import sysconfig
import time
from typing import Any, cast

from ...kernel.errors import PACKAGE_DIR
from ..model import Finding, Frame, Process, Resource, Runtime, Snapshot, Task, TaskState, Thread, Wait, Whose
from ..recorder import layout as at
from ..recorder.files import is_alive
from ..recorder.found import from_words
from ..recorder.reading import Place, Record, Recorded, RingFile, Slot, argv_of
from ..unsuspended import NAME as NEVER_WAITS
from ..unsuspended import in_ring
from .cluster import cluster_of
from .report import End, Happening, Report

# How much of the time before the end is told, unless asked otherwise.
SECONDS = 10.0
EVENTS = 400
# Who says how it ended without having seen when.
UNSEEN = ("the recorder", "the interpreter")


def report_of(recorded: Recorded, *, seconds: float = SECONDS, events: int = EVENTS, end: End | None = None) -> Report:
    """The report of what a process left. ``end``: what somebody knows who saw it end.

    ``seconds`` and ``events`` bound the timeline, counted back from the last event.
    """
    if end is None:
        end = _end_of(recorded)
    snapshot = _Reader(recorded, end).snapshot()
    report = Report(end, snapshot, _timeline(recorded, seconds, events), fatal=recorded.fatal)
    return Report(end, snapshot, report.timeline, fatal=recorded.fatal, cluster=cluster_of(report))


def last_sign(recorded: Recorded) -> float:
    """When the process was alive for sure the last time: it did something, or its watcher saw it alive (seconds since the epoch)."""
    return max((last_event(recorded), *(_seen_alive(ring) for ring in recorded.rings)), default=0.0)


def last_event(recorded: Recorded) -> float:
    """When a task last did something, in seconds since the epoch."""
    return max((ring.wall(ring.last_time()) for ring in recorded.rings), default=0.0)


def _seen_alive(ring: RingFile) -> float:
    """By its watcher; 0 if nobody watched, or if the word makes no sense: hot words have no checksum."""
    when = ring.wall(ring.hot[at.HOT_ALIVE])
    return when if when <= time.time() else 0.0


def _end_of(recorded: Recorded) -> End:
    when = last_sign(recorded)
    if recorded.fatal:
        first = recorded.fatal.splitlines()[0].removeprefix("Fatal Python error: ")
        number = {
            "Segmentation fault": 11,
            "Aborted": 6,
            "Bus error": 7,
            "Illegal instruction": 4,
            "Floating-point exception": 8,
        }
        known = number.get(first.split(",")[0].strip())
        return End("signal", f"a fatal signal: {first}", when, "the interpreter", signal=known)
    if recorded.rings and all(ring.closed for ring in recorded.rings):
        return End("closed", "the recording was closed in order", when, "the recorder")
    if is_alive(recorded.folder):
        return End("running", "the process is still running", max(when, time.time()), "the system")
    text = "it ended without a trace: SIGKILL (also for want of memory), os._exit, or the machine stopped"
    return End("gone", text, when, "the recorder")


class _Reader:
    """Builds a snapshot of a recording."""

    def __init__(self, recorded: Recorded, end: End) -> None:
        self.recorded = recorded
        # Waits are told until then. What nobody saw end went on for an unknown time after its last sign of life.
        self.now = max(last_sign(recorded), end.at)
        self.at_least = end.by in UNSEEN
        self.frames: dict[tuple[str, str, int], int] = {}
        self.stacks: dict[tuple[int, ...], int] = {}
        self.tasks: list[Task] = []
        self.resources: dict[int, Resource] = {}
        self.names: dict[int, str] = {}

    def snapshot(self) -> Snapshot:
        recorded = self.recorded
        runtimes: list[Runtime] = []
        threads: list[Thread] = []
        for ring in recorded.rings:
            self.names.update((task, ring.task_name(task)) for task in ring.slots)
        for index, ring in enumerate(recorded.rings, 1):
            running = running_at_end(ring)
            runtimes.append(self._runtime(index, ring, running))
            threads.append(Thread(ring.header.thread, ring.name, ring.header.native_thread or None, runtime=index))
            waiting: dict[int, list[Slot]] = {}
            for slot in ring.slots.values():
                if slot.state != at.ENDED:
                    self.tasks.append(self._task(ring, index, slot, running))
                    if slot.state == at.WAITING and slot.address:
                        waiting.setdefault(slot.address, []).append(slot)
            for address, slots in waiting.items():
                self.resources[address] = self._resource(ring, address, slots)
        self.tasks.sort(key=lambda task: task.id)
        findings = self._findings()
        return Snapshot(
            taken_at=self.now,
            process=self._process(),
            source="recorder",
            exact=not recorded.damaged,
            frames=tuple(Frame(file, line, function, whose(file)) for file, function, line in self.frames),
            stacks=tuple(self.stacks),
            runtimes=tuple(runtimes),
            tasks=tuple(self.tasks),
            resources=tuple(self.resources.values()),
            threads=tuple(threads),
            findings=findings,
            gaps=tuple(recorded.damaged),
        )

    def _findings(self) -> tuple[Finding, ...]:
        """The hazards that were reported, as far as the rings go back, oldest first."""
        found: list[Finding] = []
        for ring in self.recorded.rings:
            for record in ring.records:
                parts = from_words(ring.text(record.a)) if record.kind == at.NOTE else None
                if parts is not None:
                    name, message, file, line = parts
                    site = self._frames([Place(file, "", line)])[0]
                    found.append(Finding(name, message, site, ago=self.now - ring.wall(record.time)))
        for ring in self.recorded.rings:
            for message, place in in_ring(ring):
                found.append(Finding(NEVER_WAITS, message, self._frames([place])[0] if place is not None else None))
        return tuple(sorted(found, key=lambda finding: -(finding.ago or 0.0)))

    def _process(self) -> Process:
        if not self.recorded.rings:
            return Process(0)
        ring = self.recorded.rings[0]
        header = ring.header
        return Process(
            header.pid,
            argv_of(header),
            python=header.python.rstrip(b"\0").decode("utf-8", "replace"),
            bateau=header.bateau.rstrip(b"\0").decode("utf-8", "replace"),
            started_at=ring.wall(header.monotonic),
        )

    def _runtime(self, index: int, ring: RingFile, running: Record | None) -> Runtime:
        ready = sum(slot.state == at.READY for slot in ring.slots.values())
        name = ring.name.partition(" on ")[0]
        ext: dict[str, Any] = {"closed": ring.closed, "steps_complete": not ring.rides}
        idle = ring.hot[at.HOT_IDLE]
        if running is not None:
            ext["running_for"] = self.now - ring.wall(running.time)
            if later := ring.later(running):
                ext["running_for_less"] = later / 1e9  # it may have begun so much later
        elif idle and ring.wall(idle) <= self.now:
            ext["idle_for"] = self.now - ring.wall(idle)
        return Runtime(index, name, running=running.task if running is not None else None, ready=ready, ext=ext)

    def _task(self, ring: RingFile, runtime: int, slot: Slot, running: Record | None) -> Task:
        state: TaskState = cast("TaskState", {at.NEW: "new", at.READY: "ready"}.get(slot.state, "waiting"))
        if running is not None and running.task == slot.id:
            state = "running"
        elif state == "ready" and ring.rides and last_step(ring).get(slot.id, 0) >= slot.since:
            state = "unknown"  # it went on, and another library's wait does not show
        waits = self._wait(ring, slot) if state == "waiting" else None
        site = self._frames(ring.stack(slot.site))
        known = bool(site) and ring.stack(slot.site)[-1].file != "<unknown>"
        return Task(
            slot.id,
            ring.task_name(slot.id),
            state,
            runtime=runtime,
            parent=slot.parent or None,
            stack=self._stack(ring.stack(slot.stack)),
            spawned=site[-1] if known else None,
            waits=waits,
            cancelled=ring.text(slot.reason) or None,
            ext={"alive_for": self.now - ring.wall(slot.spawned), "since": self.now - ring.wall(slot.since)},
        )

    def _wait(self, ring: RingFile, slot: Slot) -> Wait:
        waited = max(0.0, self.now - ring.wall(slot.since))
        if slot.state == at.FOREIGN:
            return Wait("something outside bateau", waited=waited, at_least=self.at_least, foreign=True)
        words = _words(ring.text(slot.operation), self._text_of(ring, slot))
        return Wait(words, slot.address or None, waited=waited, at_least=self.at_least)

    def _text_of(self, ring: RingFile, slot: Slot) -> str:
        kind, label = ring.text(slot.kind) or "something", ring.text(slot.label)
        if kind == "task":
            return f"task {self.names.get(slot.number, str(slot.number))!r}"
        if label:
            return f"{kind} {label!r}"
        return f"{kind} {slot.number}" if slot.number else kind

    def _resource(self, ring: RingFile, address: int, slots: list[Slot]) -> Resource:
        slots.sort(key=lambda slot: slot.since)
        last = slots[-1]
        kind = ring.text(last.kind)
        holder = self._holder(ring, slots)
        satisfiers = (last.number,) if kind == "task" else holder
        return Resource(
            address,
            kind,
            self._text_of(ring, last),
            ring.text(last.label) or None,
            waiters=tuple(slot.id for slot in slots[:1000]),
            waiting=len(slots),
            holders=holder,
            satisfiers=satisfiers,
            freed_by="tasks" if kind == "task" or holder else "unknown",
            inferred=bool(holder),
        )

    def _holder(self, ring: RingFile, slots: list[Slot]) -> tuple[int, ...]:
        """Who held it when the last wait on it began, unless it was handed on since: to a waiter that was woken from it."""
        last = slots[-1]
        if not any(slot.holder for slot in slots):
            return ()  # nobody can hold a thing of this kind
        woken = [
            slot for slot in ring.slots.values()
            if slot.address == last.address and slot.state == at.READY and slot.since >= last.since
        ]  # fmt: skip
        holder = max(woken, key=lambda slot: slot.since).id if woken else last.holder
        slot = ring.slots.get(holder)
        return (holder,) if slot is not None and slot.state != at.ENDED else ()

    def _frames(self, places: list[Place]) -> list[int]:
        found: list[int] = []
        for place in places:
            key = place.file, place.function, place.line
            found.append(self.frames.setdefault(key, len(self.frames)))
        return found

    def _stack(self, places: list[Place]) -> int | None:
        for index, place in enumerate(places):
            if place.function == "unrolled_run" and "trio" in place.file:  # a generator of trio's that drives its tasks
                places = places[index + 1 :]
                break
        if not places:
            return None
        key = tuple(self._frames(places))
        return self.stacks.setdefault(key, len(self.stacks))


def last_step(ring: RingFile) -> dict[int, int]:
    """When each task's last step began, as far as the ring goes back."""
    found: dict[int, int] | None = ring.__dict__.get("_last_step")
    if found is None:
        found = {record.task: record.time for record in ring.records if record.kind == at.STEP}
        ring.__dict__["_last_step"] = found
    return found


def running_at_end(ring: RingFile) -> Record | None:
    """The step that was under way, if one was: the last that began, with neither a wait nor the end of its task after it."""
    over: set[int] = set()
    for record in reversed(ring.records):
        if record.kind == at.STEP:
            return record if record.task not in over else None
        if record.kind == at.IDLE:
            return None
        if record.kind in (at.PARK, at.END):
            over.add(record.task)
    return None


_STDLIB = re.compile(r"[/\\][Ll]ib(?:64)?[/\\]python\d+\.\d+[/\\]|^<frozen |[/\\]python\d+\d*\.zip[/\\]")
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]")
_BATEAU = re.compile(r"(?:^|[/\\])bateau[/\\](?:kernel|runtimes|io|net|channel|sync|iter|thread|selecting|subprocess|fs|cli|insight|sim)[/\\]|[/\\]bateau[/\\](?:time|ssl|signal|scopes|combine|running|blocking)\.py$")  # fmt: skip


def whose(file: str) -> Whose:
    """Whose code a file is. By its path alone: the machine that recorded it may have been another one."""
    if file.startswith(PACKAGE_DIR) or _BATEAU.search(file):
        return "bateau"
    if _INSTALLED.search(file):
        return "package"
    if _STDLIB.search(file) or file.startswith(sysconfig.get_path("stdlib") + "/"):
        return "stdlib"
    return "user"


# -- the time before ---------------------------------------------------------------------------------------------------------------


def _timeline(recorded: Recorded, seconds: float, events: int) -> tuple[Happening, ...]:
    start = last_event(recorded) - seconds
    found: list[Happening] = []
    for ring in recorded.rings:
        for record in ring.records[-4 * events :]:
            when = ring.wall(record.time)
            if when >= start:
                found.append(_happening(ring, record, when))
    found.sort(key=lambda event: event.at)
    return tuple(found[-events:])


def _happening(ring: RingFile, record: Record, when: float) -> Happening:
    name = repr(ring.task_name(record.task)) if record.task else ""
    kind = at.KINDS[record.kind] if record.kind < len(at.KINDS) else ""
    match record.kind:
        case at.SPAWN:
            text = f"{name} was spawned{_where(ring, record.b)}"
        case at.STEP:
            text = f"{name} runs"
        case at.IDLE:
            text = "nobody runs"
        case at.PARK:
            text = f"{name} waits: {_verb(ring.text(record.a)) or 'something outside bateau'}{_where(ring, record.b)}"
        case at.WAKE:
            text = f"{name} is woken" + (f" by {ring.task_name(record.a)!r}" if record.a else "")
        case at.CANCEL:
            text = f"{name} is cancelled{', in one of its scopes' if record.b else ''}: {ring.text(record.a)}"
        case at.END:
            ways = {at.RETURNED: "has ended", at.CANCELLED: "has ended: cancelled"}
            text = f"{name} {ways.get(record.a) or f'has failed: {ring.text(record.b)}'}"
        case at.NOTE:
            text = f"{name + ': ' if name else ''}{ring.text(record.a)}"
        case _:
            text = f"an event of kind {record.kind}"
    return Happening(when, kind or "?", text, record.task or None, ring.name)


def _verb(operation: str) -> str:
    """What an operation is called where people read of it: some of bateau's own names are its innards."""
    return "end of the children" if operation in ("drain", "passage") else operation


def _words(operation: str, resource: str) -> str:
    """A wait as the live tools say it."""
    if operation in ("drain", "passage"):
        return f"{_verb(operation)} of {resource}"
    return f"{operation or 'a wait'} on {resource}"


def _where(ring: RingFile, stack: int) -> str:
    """The line of a stack to show: the innermost of the user's own."""
    places = [place for place in ring.stack(stack) if place.file != "<unknown>"]
    own = [place for place in places if whose(place.file) == "user"] or [
        place for place in places if whose(place.file) != "bateau"
    ]
    return f" at {own[-1].file}:{own[-1].line}" if own else ""
