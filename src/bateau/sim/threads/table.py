"""The threads of one simulated process, as ``threading`` sees them: who is current, how they start and end, the workers that wait.

Of ``threading.Thread`` everything is used as it is but the few methods that touch the interpreter (see ``sim/doors/threads.py``).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from ..errors import NotSimulated, ProcessFailed
from ..thread import ENDED, IDLE, Killed, SimThread
from .tracing import Tracing, tracing_of
from .waits import Wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..process import Process
    from ..world import World

# threading's own parts that the stubs don't show.
_threading: Any = threading


class Worker:
    """A thread of bateau's own pool: it runs job after job, of whichever part of the process has one."""

    __slots__ = ("job", "thread")

    def __init__(self, job: Callable[[], None]) -> None:
        self.job: Callable[[], None] | None = job
        self.thread: SimThread | None = None


class ThreadTable:
    """Kept in ``process.parts["threads"]``; made when the process first does anything with threads."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        self.tracing: Tracing | None = tracing_of(process.world)
        # The living ones, in the order in which they began.
        self.known: dict[SimThread, threading.Thread] = {}
        self.idle: list[Worker] = []
        # What executors made elsewhere are to this process: see ``executors``.
        self.executors: dict[Any, Any] = {}
        # The loops that ``block_on`` keeps open, by thread.
        self.sessions: dict[SimThread, Any] = {}
        # What ``atexit`` was asked for.
        self.at_exit: list[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]] = []
        self._counters: dict[str, Iterator[int]] = {}
        if process is process.world.director:
            self.world.at_end.append(self._director_ends)
            self.world.at_close.append(self.process_ended)

    # -- names and identities --------------------------------------------------------------------------------------------

    def next(self, kind: str) -> int:
        """The next number for names of that kind, from 1 on: the same in each run, whatever ran before."""
        counter = self._counters.get(kind)
        if counter is None:
            counter = self._counters[kind] = count(1)
        return next(counter)

    def of(self, thread: SimThread) -> threading.Thread:
        """The ``Thread`` object of a simulated thread; made where there is none, as ``threading.current_thread`` does."""
        found = self.known.get(thread)
        if found is None:
            found = self.known[thread] = self._make(thread)
        return found

    def main(self) -> threading.Thread:
        """``threading.main_thread()``."""
        return self.of(self.process.main)

    def _make(self, thread: SimThread) -> threading.Thread:
        if thread is self.process.main:
            made: threading.Thread = _threading._MainThread.__new__(_threading._MainThread)
            threading.Thread.__init__(made, name="MainThread", daemon=False)
        else:
            made = _threading._DummyThread.__new__(_threading._DummyThread)
            name = f"Dummy-{self.next('Dummy-%d')}"
            threading.Thread.__init__(made, name=name, daemon=True)
        _attach(made, thread)
        return made

    # -- starting --------------------------------------------------------------------------------------------------------

    def start(self, python: threading.Thread) -> SimThread:
        """``Thread.start``: make a simulated thread that runs ``python.run()``; it does not run yet."""
        world = self.world
        if self.process.ended:
            raise RuntimeError("can't start new thread: the process has ended")
        thread = self.process.new_thread(python.name)
        _attach(python, thread)
        self.known[thread] = python
        thread.on_end.append(lambda: self._ended(thread, python))
        actor = self.process.actor(world.thread)
        world.trace("thread", f"starts thread {python.name!r}", actor=actor)
        self.process.start_thread(thread, lambda: self._run(thread, python))
        self._trace_starter()
        return thread

    def start_raw(self, fn: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> SimThread:
        """``_thread.start_new_thread``."""
        thread = self.process.new_thread(getattr(fn, "__name__", "thread"))
        self.process.start_thread(thread, lambda: self._guard(thread, None, lambda: fn(*args, **kwargs)))
        self._trace_starter()
        return thread

    def _trace_starter(self) -> None:
        if self.tracing is not None:
            self.tracing.begin_here()

    def _run(self, thread: SimThread, python: threading.Thread) -> None:
        self._guard(thread, python, python.run)

    def _guard(self, thread: SimThread, python: threading.Thread | None, fn: Callable[[], object]) -> None:
        """In the new thread: what ``threading`` does around ``run``."""
        if self.tracing is not None:
            self.tracing.begin()
        try:
            fn()
        except Killed:
            raise
        except SystemExit:  # ends the thread, and nothing else
            pass
        except BaseException as error:
            self._failed(thread, python, error)
        finally:
            if self.tracing is not None:
                sys.settrace(None)
            self.close_session(thread)

    def _failed(self, thread: SimThread, python: threading.Thread | None, error: BaseException) -> None:
        if python is not None and threading.excepthook is not hook_outside():
            python_: Any = python
            python_._invoke_excepthook(python)
            return
        name = self.process.actor(thread)
        failed = ProcessFailed(f"thread {name!r} failed and nobody caught it: {error!r}")
        failed.__cause__ = error
        self.world.end_with(failed)

    def _ended(self, thread: SimThread, python: threading.Thread) -> None:
        self.known.pop(thread, None)
        _mark_stopped(python)

    # -- ending ----------------------------------------------------------------------------------------------------------

    def join(self, python: threading.Thread, timeout: float | None) -> None:
        """Block until ``python`` has ended, at most ``timeout`` seconds."""
        world = self.world
        target = sim_of(python, world)
        world.point()
        if target is None:
            return  # of a world that has ended
        caller = world.thread
        deadline = None if timeout is None else self.process.host.clock.world_time_after(max(timeout, 0))
        what = JoinWait(target, deadline is not None)
        while target.state is not ENDED:
            if timeout is not None and timeout <= 0:
                return
            target.on_end.append(caller.unblock)
            if not world.block(what, deadline):
                return

    def process_leaving(self) -> None:
        """The main thread has ended: what the interpreter does then. Executors end, threads that are no daemons are waited for."""
        from .executors import shut_down

        shut_down(self)
        waited = True
        while waited:
            waited = False
            for thread, python in tuple(self.known.items()):
                if thread is not self.world.thread and not python.daemon:
                    waited = True
                    self.join(python, None)
        self._leave()

    def _director_ends(self) -> None:
        # The world ends with the test's function: its threads are not waited for, as nothing else is.
        self._leave()

    def _leave(self) -> None:
        """Call what ``atexit`` was asked for, last first. Raises the first error of one, after all of them."""
        failed: BaseException | None = None
        try:
            while self.at_exit:
                fn, args, kwargs = self.at_exit.pop()
                try:
                    fn(*args, **kwargs)
                except Exception as error:
                    failed = failed or error
        finally:
            self.close_session(self.world.thread)
        if failed is not None:
            raise failed

    def process_ended(self) -> None:
        """None of its threads runs any more."""
        for python in self.known.values():
            _mark_stopped(python)
        for sessions in self.sessions.values():
            for session in tuple(sessions.open.values()):
                session.close()
            sessions.open.clear()
        self.sessions.clear()

    # -- workers ---------------------------------------------------------------------------------------------------------

    def submit(self, job: Callable[[], None]) -> None:
        """``bateau.thread.pool.submit`` in this process: run ``job()`` on an idle worker or a new one."""
        if self.idle:
            worker = self.idle.pop()
            worker.job = job
            assert worker.thread is not None
            worker.thread.unblock()
            return
        worker = Worker(job)
        name = f"bateau-worker-{self.next('bateau-worker-%d')}"
        worker.thread = self.start(threading.Thread(target=self._work, args=(worker,), name=name, daemon=True))

    def _work(self, worker: Worker) -> None:
        while True:
            job, worker.job = worker.job, None
            if job is not None:
                job()
                del job  # an idle thread must keep nothing of its last job alive
                self.idle.append(worker)
            while worker.job is None:
                self.world.block(IDLE)

    # -- loops of block_on -----------------------------------------------------------------------------------------------

    def close_session(self, thread: SimThread) -> None:
        """The thread ends, and with it the loops that ``block_on`` keeps for it."""
        sessions = self.sessions.pop(thread, None)
        if sessions is not None:
            sessions.close()


class JoinWait(Wait):
    """Waiting for the end of a thread."""

    __slots__ = ("target",)

    def __init__(self, target: SimThread, timed: bool) -> None:
        super().__init__(timed)
        self.target = target

    def certain(self) -> SimThread | None:
        return self.target

    def __str__(self) -> str:
        return f"the end of thread {self.target.process.actor(self.target)!r}"


def table_of(world: World) -> ThreadTable:
    """That of the running process."""
    process = world.thread.process
    found: ThreadTable | None = process.parts.get("threads")
    if found is None:
        found = process.parts["threads"] = ThreadTable(process)
    return found


_ATTRIBUTE = "_bateau_sim"


def sim_of(python: threading.Thread, world: World) -> SimThread | None:
    """The simulated thread of a ``Thread`` that was started; None if that was in a world that has ended.

    Raises ``NotSimulated`` for one that runs outside any world.
    """
    thread: SimThread | None = python.__dict__.get(_ATTRIBUTE)
    if thread is None:
        if not real_is_alive(python):
            return None
        raise NotSimulated(
            f"thread {python.name!r} was started outside the simulated world, which can't wait for it: start it in the program"
        )
    return thread if thread.process.world is world else None


class SimHandle:
    """What a ``Thread`` of Python 3.13 asks about the end of its thread."""

    __slots__ = ("thread",)

    def __init__(self, thread: SimThread) -> None:
        self.thread = thread

    @property
    def ident(self) -> int:
        """The thread's identifier."""
        return self.thread.ident

    def is_done(self) -> bool:
        """Whether the thread has ended, or its world has."""
        return self.thread.state is ENDED or self.thread.process.world.closed

    def join(self, timeout: float | None = None) -> None:
        """Outside its world there is nothing to wait for."""


def _attach(python: Any, thread: SimThread) -> None:
    python.__dict__[_ATTRIBUTE] = thread
    python._ident = thread.ident
    python._native_id = thread.native_id
    python._started._flag = True
    for name in ("_handle", "_os_thread_handle"):  # Python 3.13; from 3.14 on
        if hasattr(python, name):
            setattr(python, name, SimHandle(thread))


def _mark_stopped(python: Any) -> None:
    if hasattr(python, "_is_stopped"):
        python._is_stopped = True
        python._tstate_lock = None


real_is_alive = threading.Thread.is_alive
_hook_outside: Any = threading.excepthook


def hook_outside() -> Any:
    """``threading.excepthook`` as it was when the worlds were opened."""
    return _hook_outside


def note_hook() -> None:
    """Called when the worlds are opened."""
    global _hook_outside
    _hook_outside = threading.excepthook
