"""A snapshot of another process, made from its memory alone.

The process is not stopped and nothing is written to it, so what is read may move meanwhile. A process that is blocked, the usual
reason to look, does not move: everything is read a second time at the end, and ``exact`` says whether it was the same. Elsewhere
``gaps`` has what fell out.
"""

from __future__ import annotations

import platform
import struct
import time
from dataclasses import replace

from ..model import Process, Runtime, Snapshot, Thread, Want
from ..pausing import collector_paused
from .asyncio_tasks import AsyncioTasks
from .bateau_tasks import BateauTasks
from .core import CoreMemory
from .draft import Draft
from .errors import Fault, MemoryReadError, NotPython
from .findings import findings
from .interpreter import Python, ThreadState, find_python
from .process import ProcessMemory
from .runtimes import loops, merged, thread_names
from .source import MemorySource
from .steps import add_steps
from .trio_tasks import TrioTasks

# A list that changes while it is read leaves a snapshot without tasks: it is taken again, so often.
ATTEMPTS = 3


class MemoryReader:
    """Reads a process (or a core file) by its memory: the ``Reader`` that needs nothing of the program.

    ``source``: where the bytes come from; see ``read_process`` for the common case.
    """

    def __init__(self, source: MemorySource) -> None:
        self.source = source

    def read(self, want: Want | None = None) -> Snapshot:
        """Take a snapshot.

        Raises ``ReadError``: ``NotPython``, ``UnsupportedVersion``, ``ProcessEnded`` (also a ``ProcessLookupError``) or one that is a
        ``PermissionError`` too.
        """
        want = want if want is not None else Want()
        deadline = time.monotonic() + want.seconds
        best: Snapshot | None = None
        for _ in range(ATTEMPTS):
            with collector_paused():
                snapshot = _Reading(self.source, want).snapshot()
            if best is None or len(snapshot.gaps) < len(best.gaps):
                best = snapshot
            if not snapshot.gaps or time.monotonic() + snapshot.took > deadline:
                break
        assert best is not None
        return best


def read_process(pid: int, want: Want | None = None) -> Snapshot:
    """A snapshot of process ``pid``, which was not prepared for it and is not disturbed; also while it holds the GIL.

    Raises ``ReadError``: ``ProcessEnded``, one that is a ``PermissionError`` as well and says what would permit it, ``NotPython``,
    ``UnsupportedVersion`` (CPython 3.11 to 3.15 are known, not free-threaded ones).
    """
    return MemoryReader(ProcessMemory(pid)).read(want)


def read_core(path: str, want: Want | None = None) -> Snapshot:
    """A snapshot of the process whose core file (``gcore PID``, or the kernel's) is at ``path``.

    How long timers have left is not known. Raises ``ReadError`` for what is no core file, or not one of a Python program; the files that
    the process had mapped (libpython, extension modules) must still be where they were.
    """
    source = CoreMemory(path)
    try:
        return MemoryReader(source).read(want)
    finally:
        source.close()


class _Reading:
    """One attempt."""

    def __init__(self, source: MemorySource, want: Want) -> None:
        self.source = source
        self.want = want

    def snapshot(self) -> Snapshot:
        taken_at, started = time.time(), time.perf_counter()
        python = find_python(self.source)
        parts = [self._interpreter(python, interpreter) for interpreter in python.interpreters()]
        if not parts:
            raise NotPython(f"process {self.source.pid} has no interpreter (it is starting, or ending)")
        draft, runtimes, threads = parts[-1]  # the list has the main interpreter last
        if len(parts) > 1:
            draft.gap(f"{len(parts) - 1} sub-interpreters were not read")
        reported = findings(draft, taken_at if self.source.live else 0.0)
        gaps = tuple(what if count == 1 else f"{what} ({count} times)" for what, count in draft.gaps.items())
        resources = draft.finished_resources()
        if not self.source.live:
            draft.forget_clock()
        exact = not gaps and python.memory.unchanged()
        return Snapshot(
            taken_at=taken_at,
            process=_process(self.source, python),
            source="memory",
            exact=exact,
            took=time.perf_counter() - started,
            frames=tuple(draft.frames),
            stacks=tuple(draft.stacks),
            runtimes=tuple(runtimes),
            tasks=draft.finished_tasks(),
            scopes=draft.finished_scopes(),
            resources=resources,
            threads=tuple(threads),
            findings=reported,
            gaps=gaps,
        )

    def _interpreter(self, python: Python, interpreter: int) -> tuple[Draft, list[Runtime], list[Thread]]:
        try:
            modules = python.modules(interpreter)
        except Fault as fault:
            raise NotPython(
                f"the modules of process {self.source.pid} can't be read (it is starting, or ending): {fault}"
            ) from None
        draft = Draft(python, time.monotonic(), modules)
        states = self._threads(draft, interpreter)
        draft.threads(states)
        runtimes = self._tasks(draft, interpreter, modules, states)
        by_thread = {runtime.thread: runtime.id for runtime in reversed(runtimes) if runtime.thread}
        names = thread_names(draft) if states else {}
        threads = [
            Thread(
                state.ident,
                # A program that never loads `threading` has no names for its threads.
                names.get(state.ident)
                or ("MainThread" if state.native_id == self.source.pid else f"thread {state.ident}"),
                state.native_id,
                draft.stack([step.link for step in state.stack]) if self.want.threads else None,
                by_thread.get(state.ident),
            )
            for state in states
        ]
        return draft, runtimes, threads

    def _tasks(
        self, draft: Draft, interpreter: int, modules: dict[str, int], states: list[ThreadState]
    ) -> list[Runtime]:
        """Read the tasks of every library, the hosts before bateau, whose records lie on their tasks."""
        runtimes: list[Runtime] = []
        records: dict[int, int] = {}
        if "asyncio.tasks" in modules:
            try:
                aio = AsyncioTasks(draft, interpreter, modules)
                aio.read()
                records = aio.records
                runtimes += loops(draft, states)
            except (Fault, struct.error, KeyError) as error:
                draft.gap(f"asyncio's tasks could not be read: {error}")
        if "trio._core._run" in modules:
            try:
                trio = TrioTasks(draft, modules, states)
                trio.read()
                runtimes += trio.runtimes
            except (Fault, struct.error, KeyError) as error:
                draft.gap(f"trio's tasks could not be read: {error}")
        if "bateau.kernel.instrument" in modules:
            try:
                ours = BateauTasks(draft, modules, records)
                ours.read()
                runtimes = merged(draft, runtimes, ours.runtimes)
            except (Fault, struct.error, KeyError) as error:
                draft.gap(f"bateau's tasks could not be read: {error}")
        elif "bateau.kernel.task" in modules:
            draft.gap("bateau's tasks could not be read: it is of an older version than this one")
        add_steps(draft, states, runtimes)
        running = {fields["runtime"]: fields["id"] for fields in draft.tasks.values() if fields["state"] == "running"}
        return [replace(runtime, running=running.get(runtime.id)) for runtime in runtimes]

    def _threads(self, draft: Draft, interpreter: int) -> list[ThreadState]:
        try:
            states = list(draft.python.threads(interpreter))
        except Fault as fault:
            draft.gap(f"the list of threads could not be read to its end: {fault}")
            return []
        for state in states:
            if not state.complete:
                draft.gap(f"the stack of thread {state.native_id} changed while it was read")
        return states


def _process(source: MemorySource, python: Python) -> Process:
    return Process(
        source.pid, source.arguments, source.executable, python.version, platform.platform(), stopped=source.stopped
    )


__all__ = ["MemoryReadError", "MemoryReader", "read_core", "read_process"]
