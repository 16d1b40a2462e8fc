"""Taking a snapshot of this very process, on any of its threads, while its loops run or hang.

Nothing is installed in the program for it: what is read is there anyway. Taken on another thread than the loops', it is not one
moment: tasks go on while it is taken. Those that did are found by looking twice, and marked; a deadlock stands still, so what is
said of one is true.
"""

from __future__ import annotations

import heapq
import os
import platform
import sys
import time
from _thread import get_ident
from collections.abc import Callable, Iterable
from functools import partial
from itertools import compress
from operator import attrgetter, itemgetter
from typing import Any, cast

from ..kernel import hazard
from ..kernel.host import Host
from ..kernel.instrument import hosts as all_hosts
from ..kernel.task import Task
from ..runtimes import forking
from . import collect_asyncio, collect_trio, extending, model
from .ages import aged, alike
from .closed_world import ClosedWorld
from .collect_kernel import KernelCollector, foreign_coro, trio_task
from .holding import HoldTimes
from .model import Snapshot, Want, make
from .pausing import collector_paused
from .steps import step_of
from .tables import Tables, native_part, steady, steady_copy, thread_names

# Rows of a runtime's timers and descriptors that are listed; their number is always told.
MOST_LISTED = 1000

# Asked for each task: counters that a recorder keeps.
stats_sources: list[Callable[[Task[Any]], dict[str, float] | None]] = []
# Asked once: observations that hold as of now, beside the findings that were reported.
finding_sources: list[Callable[[Tables], Iterable[model.Finding]]] = []


# Of each task that waits: its fields, the task, and what it waits on.
Waits = tuple[tuple[dict[str, Any], Any, Any], ...]


class LiveReader:
    """The ``Reader`` of this process.

    It remembers what each task was waiting on when it last looked, and so knows, without a recorder, that a task has been waiting for
    at least as long as that; what it remembers is bounded by ``remember`` tasks.
    """

    def __init__(self, *, remember: int = 200_000) -> None:
        self._remember = remember
        # By task id: what it was waiting on (kept, so that the address stays its own), and since when it was seen to. No object of
        # its own for each task: this is what an agent keeps between two snapshots.
        self._seen: dict[int, Any] = {}
        self._since: dict[int, float] = {}
        self._hold_times = HoldTimes()
        self.closed_world = ClosedWorld()

    def read(self, want: Want | None = None) -> Snapshot:
        """Take a snapshot. Not a cancellation point; takes about 5 us per task, during which other threads take turns."""
        with collector_paused():
            collection = _Collection(self, want or Want())
            try:
                return collection.read()
            finally:
                collection.let_go()

    def _date(self, waits: Waits, tables: Tables) -> None:
        """Say for how long each has been waiting, and each holder holding, at least."""
        now = time.monotonic()
        self._seen, self._since = _dated(waits, self._seen, self._since, now, self._remember)
        self._hold_times.note(tables.resources, tables.tasks, now)


def dated_in_python(
    waits: Waits, before: dict[int, Any], times: dict[int, float], now: float, most: int
) -> tuple[dict[int, Any], dict[int, float]]:
    """What at most ``most`` tasks wait on, and since when they were seen to, each by the task's number; given the same of the look before.
    Who has been seen at it then is told to have waited since.

    This is the definition; ``_native/look.c`` does the same.
    """
    seen: dict[int, Any] = {}
    since: dict[int, float] = {}
    for fields, _, what in waits:
        if len(seen) >= most:
            break
        number = fields["id"]
        seen[number] = what
        if before.get(number) is what:
            at = since[number] = times[number]
            wait: dict[str, Any] = fields["waits"].__dict__
            if wait.get("waited") is None:
                wait["waited"] = round(now - at, 3)
                wait["at_least"] = True
        else:
            since[number] = now
    return seen, since


_dated = native_part("dated") or dated_in_python


def snapshot(want: Want | None = None) -> Snapshot:
    """Take a snapshot of this process now, on this thread. See ``LiveReader``."""
    return LiveReader().read(want)


class _Collection:
    """One snapshot being taken."""

    def __init__(self, reader: LiveReader, want: Want) -> None:
        self.reader = reader
        self.want = want
        self.began = time.perf_counter()
        self.taken_at = time.time()
        self.tables = Tables()
        self.kernel = KernelCollector(self.tables, self._outer_left)
        self.asyncio = collect_asyncio.AsyncioCollector(self.tables, _known_asyncio)
        self.trio = collect_trio.TrioCollector(self.tables, _known_trio)
        self.natives: dict[int, Any] = {}
        self.reactors: dict[int, Any] = {}

    def read(self) -> Snapshot:
        """All of it."""
        hosts = [host for host in steady(lambda: all_hosts) if not _has_ended(host)]
        for host in hosts:
            self._part(f"the runtime {host.name!r}", partial(self._host, host))
        self._part("asyncio's tasks", self._asyncio)
        self._part("trio's tasks", self._trio)
        self._part("waits outside bateau", self._elsewhere)
        self._part("timeouts of asyncio's", self.asyncio.spread_timeouts)
        self._part("who holds asyncio's locks", self.asyncio.search)
        self._part("who could set trio's events", self.trio.search)
        self._part("who else could end waits of other libraries", self._settle)
        self._drop_idle(hosts)
        moved = [collector.look_again() for collector in (self.kernel, self.asyncio, self.trio)]
        self._details()
        return self._done(any(moved))

    def let_go(self) -> None:
        """Refer to nothing of the program's any more: this object is part of a cycle, and may stay until the collector comes round."""
        self.natives.clear()
        self.reactors.clear()
        self.tables.kept.clear()
        for collector in (self.kernel, self.asyncio, self.trio):
            collector.let_go()

    def _part(self, what: str, read: Callable[[], None]) -> None:
        """One part may fail (another version of a library, a state half changed) and the others go on: it is named as a gap."""
        try:
            read()
        except Exception as error:
            self.tables.gap(f"{what} could not be read: {type(error).__name__}: {error}")

    # -- runtimes and their tasks ----------------------------------------------------------------------------------------

    def _host(self, host: Any) -> None:
        fields: dict[str, Any] = {"id": id(host), "name": host.name, "thread": host.thread_id}
        self.tables.runtimes[id(host)] = fields
        self.tables.kept.append(host)
        self.kernel.read_tree(steady(lambda: getattr(host, "roots", None) or ()))
        if host in steady_copy(forking._hosts):
            fields["owned"] = True
        if hasattr(host, "roots"):
            fields["ready"] = len(getattr(host, "ready", None) or ())
        holds = getattr(host, "holds", None)
        if holds:
            fields["holds"] = tuple(steady(holds.values)[:MOST_LISTED])
        pending = getattr(host, "pending_timers", None)
        timers = pending() if pending is not None else getattr(host, "_timers", None)
        if timers is not None:
            self._timers(fields, [timer for timer in steady(lambda: timers) if timer.fn is not None], host.now())
        reactor = getattr(host, "reactor", None)
        if reactor is not None:
            self.reactors[id(host)] = reactor
            self._fds(fields, steady(lambda: reactor._readers), steady(lambda: reactor._writers))
        self._offloads(host)
        state = getattr(host, "insight_state", None)
        if state is not None:
            fields["ext"] = state()

    def _asyncio(self) -> None:
        for loop, thread in collect_asyncio.loops():
            home = getattr(loop, "bateau_domain", None) or getattr(loop, "_bateau_host", None) or loop
            number = id(home)
            fields = self.tables.runtimes.get(number)
            if fields is None:
                name = "uvloop" if type(loop).__module__.startswith("uvloop") else "asyncio"
                fields = self.tables.runtimes[number] = {"id": number, "name": name, "library": "asyncio"}
                self.tables.kept.append(home)
                if type(thread) is int:
                    fields["thread"] = thread
            natives = collect_asyncio.tasks_of(loop)
            records = [record for native in natives if (record := _record_of(native)) is not None]
            self.kernel.read_tree(record for record in records if record.scope is None)
            self.kernel.read_tree(records)
            for native in natives:
                if _record_of(native) is None:
                    self.asyncio.task(native, number)
            self._asyncio_tables(loop, fields)

    def _asyncio_tables(self, loop: Any, fields: dict[str, Any]) -> None:
        handles = [handle for handle in steady(lambda: getattr(loop, "_scheduled", ())) if not handle.cancelled()]
        if handles:  # on bateau's own loop beside its host's
            fields["timers"] = fields.get("timers", 0) + len(handles)
            if self.want.tables:
                now = loop.time()
                for handle in heapq.nsmallest(MOST_LISTED, handles, key=lambda handle: handle.when()):
                    what = getattr(handle._callback, "__qualname__", type(handle._callback).__name__)
                    self.tables.timers.append(model.Timer(fields["id"], handle.when() - now, str(what)))
        selector = getattr(loop, "_selector", None)
        if selector is not None and "fds" not in fields:
            keys = steady((selector.get_map() or {}).values)
            self._fds(fields, [key.fd for key in keys if key.events & 1], [key.fd for key in keys if key.events & 2])
        if "ready" not in fields and hasattr(loop, "_ready"):
            fields["ready"] = len(loop._ready)

    def _trio(self) -> None:
        for runner, thread in collect_trio.runs():
            natives = steady_copy(runner.tasks)
            records = [record for native in natives if (record := _trio_record(native)) is not None]
            home: Any = records[0].host if records else runner
            fields = self.tables.runtimes.get(id(home))
            if fields is None:
                fields = self.tables.runtimes[id(home)] = {"id": id(home), "name": "trio", "library": "trio"}
                self.tables.kept.append(home)
                if thread is not None:
                    fields["thread"] = thread
            fields["ready"] = len(runner.runq)
            self.kernel.read_tree(record for record in records if record.scope is None)
            self.kernel.read_tree(records)
            for native in sorted(natives, key=lambda native: native._counter):
                if _trio_record(native) is None and not _is_trios_own(native):
                    self.trio.task(native, id(home))

    def _elsewhere(self) -> None:
        """Tasks of bateau that are in no operation of bateau's: in another library's wait, or ready."""
        for fields, task in self.kernel.elsewhere:
            native = task.face if task.face is not None else getattr(task, "host_task", None)
            coro = task.coro if task.coro is not None else foreign_coro(task)
            if hasattr(native, "_fut_waiter"):
                if not task.scheduled and task.coro is not None and native is getattr(task, "host_task", None):
                    fields["state"] = "ready"  # on asyncio: its first step has not come yet
                else:
                    self.asyncio.fill(fields, native, coro)
            elif native is not None and (native := trio_task(native)) is not None:
                self.trio.fill(fields, native)
            else:
                fields["state"] = "ready"

    def _outer_left(self, task: Task[Any], coro: Any) -> float | None:
        native = getattr(task, "host_task", None)
        if native is not None and hasattr(native, "ref"):
            found = trio_task(native)
            return collect_trio.effective_left(found) if found is not None else None
        loop = getattr(native, "_loop", None) if native is not None else getattr(task.face, "_loop", None)
        if loop is None or "asyncio.timeouts" not in sys.modules:
            return None
        return collect_asyncio.timeout_left(collect_asyncio.coroutines_of(coro), loop)

    def _settle(self) -> None:
        sought = [*self.asyncio.sought(), *self.trio.sought()]
        if sought:
            coros = [*self.asyncio.coros, *self.trio.coros]
            coros += [(fields["id"], task.coro) for fields, task, _ in self.kernel.waits if task.coro is not None]
            self.reader.closed_world.settle(
                self.tables, sought, coros, (*self.asyncio.waits, *self.trio.waits, *self.kernel.waits)
            )

    # -- tables --------------------------------------------------------------------------------------------------------

    def _timers(self, fields: dict[str, Any], timers: list[Any], now: float) -> None:
        fields["timers"] = len(timers)
        if not self.want.tables:
            return
        for timer in heapq.nsmallest(MOST_LISTED, timers, key=attrgetter("when")):
            row: dict[str, Any] = {"runtime": fields["id"], "left": timer.when - now}
            op = getattr(timer.fn, "__self__", timer.fn)
            task = getattr(op, "task", None)
            row["what"] = getattr(timer.fn, "__qualname__", type(timer.fn).__name__)
            if isinstance(task, Task):
                row["task"] = task.id
            self.tables.timers.append(make(model.Timer, row))

    def _fds(self, fields: dict[str, Any], readers: list[int], writers: list[int]) -> None:
        numbers = sorted({*readers, *writers})
        fields["fds"] = len(numbers)
        if not self.want.tables:
            return
        reading, writing = set(readers), set(writers)
        for fd in numbers[:MOST_LISTED]:
            try:
                target = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                target = ""
            row = model.Fd(fd, fields["id"], fd in reading, fd in writing, target)
            self.tables.fds.append(row)

    def _offloads(self, host: Host) -> None:
        module = sys.modules.get("bateau.thread.workers")
        if module is None or not self.want.tables:
            return
        for workers in steady(host.run_vars.values):
            if not isinstance(workers, module.Workers):
                continue
            for job in steady_copy(workers.jobs)[:MOST_LISTED]:
                row: dict[str, Any] = {"runtime": id(host), "what": str(job.label)}
                if not job.started:
                    row["state"] = "queued"
                elif job.cancelled is not None:
                    row["state"] = "cancelled"
                if job.op.task is not None:
                    row["task"] = job.op.task.id
                site = cast("tuple[str, int] | None", job.site)
                if site is not None:
                    row["site"] = self.tables.site(site[0], site[1])
                self.tables.offloads.append(make(model.Offload, row))

    def _drop_idle(self, hosts: list[Any]) -> None:
        """Hosts of runs that are over: nothing of theirs is left but the object."""
        used = set(map(itemgetter("runtime"), self.tables.tasks.values()))
        for host in hosts:
            if id(host) not in used:
                self.tables.runtimes.pop(id(host), None)

    # -- what is added at the end ------------------------------------------------------------------------------------------

    def _details(self) -> None:
        self._part("notes on tasks", lambda: extending.add_notes(self.tables))
        self._recorded()
        every = (*self.kernel.waits, *self.asyncio.waits, *self.trio.waits)
        self.reader._date(every, self.tables)
        states = map(itemgetter("state"), self.tables.tasks.values())
        running = list(compress(self.tables.tasks.values(), map("running".__eq__, states)))
        for fields in running:
            alone = sum(one["runtime"] == fields["runtime"] for one in running) == 1
            self._part("what runs", partial(self._running, fields, alone))
        if self.want.memory or self.want.context:
            self._part("memory and context", self._costly)

    def _running(self, fields: dict[str, Any], alone: bool) -> None:
        """A task in the middle of a step (``alone`` on its loop): its stack is the end of its thread's."""
        runtime = self.tables.runtimes.get(fields["runtime"])
        if runtime is None:
            return
        runtime["running"] = fields["id"]
        frame = sys._current_frames().get(runtime.get("thread", 0))
        reactor = self.reactors.get(fields["runtime"])
        lasted = step_of(fields["id"], runtime.get("thread", 0), frame, reactor, alone=alone)
        if lasted is not None:
            fields.update(lasted.as_fields())
        whole = self.tables.stack_of_frame(frame)
        if whole is None or "stack" not in fields:
            return
        # Compared by function: the lines go on while it runs.
        mine: int = fields["stack"]
        frames, stacks = self.tables.frames, self.tables.stacks
        first, indices = frames[stacks[mine][0]], stacks[whole]
        for at in range(len(indices) - 1, -1, -1):
            if (frames[indices[at]].file, frames[indices[at]].function) == (first.file, first.function):
                fields["stack"] = self.tables.stack_id(list(indices[at:]))
                return

    def _recorded(self) -> None:
        module = sys.modules.get("bateau.insight.recorder.recording")
        recording = module.recording() if module is not None else None
        if recording is not None:
            for fields, task, _ in self.kernel.waits:
                known = recording.waited(task)
                if known is not None:
                    fields["waits"].__dict__.update(waited=known[0], at_least=known[1])
        if stats_sources:
            every: list[tuple[dict[str, Any], Any]] = [(fields, task) for fields, task, _ in self.kernel.waits]
            for fields, task in (*every, *self.kernel.elsewhere):  # who is busy waits for nothing
                for stats in stats_sources:
                    counters = stats(task)
                    if counters:
                        fields["stats"] = counters

    def _costly(self) -> None:
        every: list[tuple[dict[str, Any], Any]] = [(fields, task) for fields, task, _ in self.kernel.waits]
        every += self.kernel.elsewhere
        for fields, task in every:
            if self.want.memory:
                fields["memory"] = extending.memory_of(task.coro if task.coro is not None else foreign_coro(task))
            if self.want.context:
                fields["context"] = extending.context_of(task.context)
        for fields, native, _ in (*self.asyncio.waits, *self.trio.waits):
            if self.want.memory and "memory" not in fields:
                coro = native.get_coro() if hasattr(native, "get_coro") else getattr(native, "coro", None)
                fields["memory"] = extending.memory_of(coro)
            if self.want.context and "context" not in fields:
                fields["context"] = extending.context_of(getattr(native, "context", None))

    def _threads(self) -> tuple[model.Thread, ...]:
        names = thread_names()
        runtimes = {fields.get("thread"): number for number, fields in self.tables.runtimes.items()}
        found: list[model.Thread] = []
        for ident, frame in sys._current_frames().items():
            thread = names.get(ident)
            fields: dict[str, Any] = {"id": ident, "name": thread.name if thread is not None else f"thread {ident}"}
            if thread is not None:
                fields.update(native_id=thread.native_id, daemon=bool(thread.daemon))
            stack = self.tables.stack_of_frame(frame)
            if stack is not None:
                fields["stack"] = stack
            if ident in runtimes:
                fields["runtime"] = runtimes[ident]
            found.append(make(model.Thread, fields))
        return tuple(found)

    def _findings(self) -> tuple[model.Finding, ...]:
        found: list[model.Finding] = []
        for finding in steady(lambda: getattr(hazard, "recent", ())):
            site = self.tables.site(finding.filename, finding.lineno)
            fields: dict[str, Any] = {"hazard": finding.name, "message": finding.message, "site": site}
            ext = {key: value for key in ("task", "remedy", "evidence") if (value := getattr(finding, key, None))}
            if ext:
                fields["ext"] = ext
            fields.update(aged(getattr(finding, "first", 0.0), getattr(finding, "last", 0.0), self.taken_at))
            found.append(make(model.Finding, fields))
        found = list(alike(found))
        for source in finding_sources:
            self._part("observations", partial(self._observations, source, found))
        return tuple(found)

    def _observations(self, source: Callable[[Tables], Iterable[model.Finding]], found: list[model.Finding]) -> None:
        found.extend(source(self.tables))

    def _done(self, moved: bool) -> Snapshot:
        tables, want = self.tables, self.want
        threads = self._threads() if want.threads else ()
        findings = self._findings()
        here = get_ident()
        alone = all(fields.get("thread") == here for fields in tables.runtimes.values())
        gauges = extending.read_gauges(tables)
        ext = extending.read_extensions(tables)
        return Snapshot(
            taken_at=self.taken_at,
            process=_process(),
            source="live",
            took=time.perf_counter() - self.began,
            exact=alone and not moved,
            frames=tuple(tables.frames),
            stacks=tuple(tables.stacks),
            runtimes=tables.table("runtimes", model.Runtime),
            tasks=tables.table("tasks", model.Task),
            scopes=tables.table("scopes", model.Scope),
            resources=tables.table("resources", model.Resource),
            threads=threads,
            timers=tuple(tables.timers),
            fds=tuple(tables.fds),
            offloads=tuple(tables.offloads),
            findings=findings,
            gauges=gauges or model.EMPTY,
            gaps=tuple(tables.gaps),
            ext=ext or model.EMPTY,
        )


def _process() -> model.Process:
    import bateau

    memory: int | None = None
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        memory = None  # not Linux
    return model.Process(
        pid=os.getpid(),
        argv=tuple(sys.orig_argv),
        executable=sys.executable,
        python=platform.python_version(),
        platform=sys.platform,
        bateau=bateau.__version__,
        memory=memory,
    )


def _has_ended(host: Any) -> bool:
    try:
        closed = getattr(host, "is_closed", None)
        if closed is not None:
            return bool(closed())
        loop = getattr(host, "loop", None)
        return bool(loop is not None and loop.is_closed())
    except (AttributeError, ReferenceError):  # it is just being made; or a loop that could only be kept weakly is gone
        return True


def _record_of(native: Any) -> Task[Any] | None:
    """The record that bateau keeps of an asyncio task, if it has one. Looks, and makes none."""
    found: Any = getattr(native, "_bateau", None)
    if found is None:
        module = sys.modules.get("bateau.runtimes.asyncio_host")
        if module is not None and module._slotted:
            found = module._slotted.get(native)
    return found if isinstance(found, Task) else None  # pyright: ignore[reportUnknownVariableType]  # of whatever


def _known_asyncio(native: Any) -> int | None:
    record = _record_of(native)
    return record.id if record is not None else None


def _trio_record(native: Any) -> Task[Any] | None:
    module = sys.modules.get("bateau.runtimes.trio_helpers")
    return module.records.get(id(native)) if module is not None else None


def _known_trio(native: Any) -> int | None:
    record = _trio_record(native)
    return record.id if record is not None else None


def _is_trios_own(native: Any) -> bool:
    """Trio's helpers and bateau's in it, which no program wrote."""
    code = getattr(native.coro, "cr_code", None)
    file = code.co_filename if code is not None else ""
    module = sys.modules.get("bateau.runtimes.trio_helpers")
    if module is not None and id(native) in module.records:
        return True  # ours, and no record: a helper
    return native.name.startswith("<") and f"{os.sep}trio{os.sep}" in file
