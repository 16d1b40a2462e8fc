"""The executor for computing: worker processes, each with an interpreter, and a lock, of its own.

Theory of operation. A worker is a child of ``bateau.subprocess`` that runs ``worker.main``. Its *keeper*, a background task of the pool's
scope, opens it, forwards what it writes to its standard error, and ends it with the scope: so no way out of a pipeline leaves a process
behind. Who submits takes a free worker (or a keeper to be, up to ``n``), writes the request and reads the answer itself.

Cancelling a chunk under way ends its worker, because nothing less stops a computation; the next chunk gets a new one.

Invariants: a worker is in ``idle`` iff nobody uses it and it can be used. Permits never exceed ``n``, and so neither do workers in use.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections import deque
from contextlib import suppress
from typing import Any, cast

from ... import thread
from ...io import BufReader
from ...kernel.cancellation import CancelScope
from ...kernel.cleanup import Cleanup
from ...kernel.errors import Broken, Closed, EndOfStream, Unsupported
from ...kernel.scope import Scope
from ...kernel.task import Task
from ...subprocess import PIPE, PipeReader, Process, open_process
from ...sync import Event, Semaphore
from .chunking import shown
from .executor import Recipe, WorkerDied
from .remote import Packed, check_importable, pack_items, receive, unpack
from .work import Outcome, Work
from .worker import LENGTH, check_not_preparing, frame, preparation

# Seconds between asking a worker to end and killing it.
GRACE = 1.0
# Seconds that an ended worker's last words and answers have to arrive: somebody it started may hold its pipes open.
LAST_WORDS = 0.25
# How much of what a worker writes to its standard error is kept for messages, in bytes.
STDERR_KEPT = 4096


class Processes(Recipe):
    """``bateau.iter.processes(n)``: real parallel computing. Functions must be importable by name, items and results picklable."""

    kind = "processes"

    def check(self, fn: object, method: str) -> None:
        check_importable(fn, method, "a worker process")

    async def start(self, scope: Scope) -> ProcessPool:
        """Workers start when they are first needed. Raises ``Unsupported`` where there is no POSIX."""
        if os.name != "posix":
            raise Unsupported(
                "bateau.iter.processes() hands its workers a pipe, which needs POSIX; here, use threads(), interpreters() or dask()"
            )
        if not sys.executable:
            raise Unsupported(
                "bateau.iter.processes() starts this program's interpreter, and sys.executable does not name one"
            )
        check_not_preparing()
        return ProcessPool(scope, self.workers)


class ProcessPool:
    """See the module's head."""

    def __init__(self, scope: Scope, n: int) -> None:
        self._scope = scope
        self._permits = Semaphore(n, name="par processes")
        self._idle: deque[Worker] = deque()
        self._all: set[Worker] = set()
        self._count = 0
        # The work that was pickled last: a pipeline submits the same one again and again.
        self._pickled: tuple[Work | None, bytes] = (None, b"")

    async def submit(self, work: Work, items: list[Any]) -> Outcome:
        """Cancelled, the worker is ended first (SIGTERM, a second, SIGKILL). Raises ``WorkerDied`` if it ended by itself."""
        if self._pickled[0] is not work:
            self._pickled = (work, pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL))
        blob = pack_items(items, "a worker process")
        async with self._permits:
            worker = self._take()
            try:
                answer = await worker.exchange(work, self._pickled[1], blob, items)
            except BaseException:
                await worker.end()
                raise
            self._idle.append(worker)
        return receive(answer)

    def _take(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.usable:
                return worker
        self._count += 1
        worker = Worker(self._count)
        worker.task = self._scope.spawn(worker.keep, name=f"worker process {self._count}", background=True)
        self._all = {other for other in self._all if not other.ended.is_set()}
        self._all.add(worker)
        return worker

    async def close(self) -> None:
        """Idle workers leave by themselves; what does not within a second is ended."""
        for worker in self._all:
            worker.leaving.set()
        for worker in self._all:
            await worker.ended.wait()


class Worker:
    """One worker process. ``usable`` from its making on until something ended it or an exchange was torn."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.usable = True
        self.task: Task[None] | None = None
        self.life = CancelScope()
        self.ready = Event()
        self.leaving = Event()
        self.ended = Event()
        self.error: BaseException | None = None
        self.process: Process | None = None
        self.answers: BufReader | None = None
        self.stderr = bytearray()
        self.heard = Event()
        self._sent: Work | None = None

    # -- its keeper ----------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Open the process, keep it until it is told to leave or the scope is cancelled, and see it dead."""
        try:
            with self.life:
                await self._run()
        except Exception as error:
            self.error = error
        finally:
            self.usable = False
            self.ready.set()
            self.ended.set()

    async def _run(self) -> None:
        here, there = os.pipe()
        reader = PipeReader(os.fdopen(here, "rb", buffering=0), f"answers of worker process {self.number}")
        try:
            opening = open_process(_command(there), stdin=PIPE, stderr=PIPE, pass_fds=(there,), grace=GRACE)
            try:
                process = await opening
            finally:
                os.close(there)
            self.process, self.answers = process, BufReader(reader)
            try:
                await self._live(process, reader)
            finally:
                await process.aclose()
        finally:
            reader.close()

    async def _live(self, process: Process, reader: PipeReader) -> None:
        async with Scope(name=f"worker process {self.number}") as scope:
            scope.spawn(self._listen, process, name="its stderr", background=True)
            scope.spawn(self._watch, process, reader, name="its end", background=True)
            self.ready.set()
            await self.leaving.wait()
            assert process.stdin is not None
            process.stdin.close()
            with CancelScope(seconds=GRACE):
                await process.wait()
                await self.heard.wait()

    async def _listen(self, process: Process) -> None:
        """Forward its standard error to ours, and remember the end of it."""
        assert process.stderr is not None
        try:
            with suppress(Broken, Closed):
                while data := await process.stderr.read():
                    self.stderr += data
                    del self.stderr[:-STDERR_KEPT]
                    await thread.run(_forward, bytes(data))
        finally:
            self.heard.set()

    async def _watch(self, process: Process, reader: PipeReader) -> None:
        """Its end is the end of its answers, even if a process that it started holds their pipe."""
        await process.wait()
        self.usable = False
        with CancelScope(seconds=LAST_WORDS):
            await self.heard.wait()
        # Once more around: what is in the pipe is read before the reader finds it closed.
        with CancelScope(seconds=LAST_WORDS):
            await self.ended.wait()
        reader.close()

    # -- its user ------------------------------------------------------------------------------------------------------

    async def exchange(self, work: Work, blob: bytes, items_blob: bytes, items: list[Any]) -> bytes:
        """Send a request and read the answer. Torn by an error or a cancellation, the worker is of no more use."""
        starting = not self.ready.is_set()
        await self.ready.wait()
        process, answers = self.process, self.answers
        if process is None or answers is None:
            raise self.error or WorkerDied("a worker process was ended before it began", items)
        assert process.stdin is not None
        try:
            if starting:
                await process.stdin.write(frame(pickle.dumps(preparation())))
                problem: Packed | None = pickle.loads(await _read(answers))
                if problem is not None:
                    raise RuntimeError(
                        f"a worker process could not import the program's main module: {problem.summary}"
                    ) from unpack(problem)
                starting = False
            request = (None if self._sent is work else blob, items_blob)
            self._sent = work
            await process.stdin.write(frame(pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)))
            return await _read(answers)
        except (Broken, Closed, EndOfStream) as error:
            self.usable = False
            raise await self._died(process, items, starting) from error

    async def _died(self, process: Process, items: list[Any], starting: bool) -> WorkerDied:
        with CancelScope(seconds=GRACE):
            await process.wait()
            await self.heard.wait()
        words = self.stderr.decode(errors="replace").strip()
        had = "" if starting else f" while it had {len(items)} item{'s' * (len(items) != 1)}: {shown(items)}"
        said = f"\nThe end of what it wrote to its standard error:\n{words}" if words else ""
        return WorkerDied(
            f"worker process {process.pid} {_how(process.returncode)}{had}{said}", items, process.returncode, words
        )

    async def end(self) -> None:
        """End the process and see it dead; also in a cancelled scope."""
        self.usable = False
        self.life.cancel("its chunk was given up")
        async with Cleanup(GRACE + 6):
            await self.ended.wait()


async def _read(answers: BufReader) -> bytes:
    size = int.from_bytes(await answers.readexactly(LENGTH), "big")
    return await answers.readexactly(size)


def _command(answers: int) -> list[str]:
    """How a worker is started: this interpreter, its flags, and bateau from where we have it."""
    import subprocess

    # The same that multiprocessing uses for its children.
    flags: list[str] = cast("Any", subprocess)._args_from_interpreter_flags()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    code = f"import sys; sys.path.insert(0, {root!r}); from bateau.iter.par.worker import main; main({answers})"
    return [sys.executable, *flags, "-c", code]


def _forward(data: bytes) -> None:
    """On a worker thread: the other end of our own standard error may be slow."""
    stream: Any = sys.stderr
    if stream is None:  # a program without a console
        return
    with suppress(OSError, ValueError):
        stream.write(data.decode(errors="replace"))
        stream.flush()


def _how(returncode: int | None) -> str:
    if returncode is None:
        return "closed its pipe"
    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        return f"was ended by {name}"
    return f"exited with status {returncode}"
