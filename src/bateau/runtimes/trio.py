"""The trio runtime, owned: ``bateau.run(main, runtime="trio")``. Adopted use needs no more than ``trio_host``.

A single run is a plain ``trio.run``. A session that stays open over several runs keeps one trio loop alive in guest mode:
the session's thread pumps it while a run is going on, and it stands still in between.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from importlib.util import find_spec
from math import inf
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple

from ..kernel.errors import NestedRun
from .base import Runtime, Session

if TYPE_CHECKING:
    import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_OLDEST = (0, 27)


class TrioRuntime(Runtime):
    """Trio's own loop. ``clock`` and ``instruments`` are handed to trio (``trio.testing.MockClock``, say)."""

    name = "trio"
    features = frozenset({"trio", "fds"})

    def __init__(self, *, clock: trio.abc.Clock | None = None, instruments: Sequence[trio.abc.Instrument] = ()) -> None:
        super().__init__()
        self._options: dict[str, Any] = {"clock": clock, "instruments": instruments}

    def unavailable(self) -> str | None:
        if find_spec("trio") is None:
            return "trio is not installed; pip install 'bateau[trio]'"
        from importlib.metadata import version

        found = version("trio")
        if tuple(int(part) for part in found.split(".")[:2]) < _OLDEST:
            return f"trio {found} is too old, {_OLDEST[0]}.{_OLDEST[1]} or later is needed; pip install 'bateau[trio]'"
        return None

    def open(self) -> Session:
        return TrioSession(self._options)

    def run(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts) -> T:
        from .program import Program

        self.check_not_running()
        session = OneRun(self._options)
        return Program(self, session.host).run(session, fn, args)


class OneRun(Session):
    """A session for one run: ``trio.run`` on the spot."""

    def __init__(self, options: dict[str, Any]) -> None:
        from .trio_host import TrioHost

        self._options = options
        self.host = self._trio_host = TrioHost()

    def run(self, root: Callable[[], Coroutine[Any, Any, T]]) -> T:
        import trio

        job = _Job(root, copy_context())
        try:
            trio.run(job.run_in, self.host, **self._options)
        except trio.TrioInternalError as error:
            if isinstance(error.__cause__, KeyboardInterrupt):  # the third Ctrl-C, which stops even trio itself
                raise KeyboardInterrupt from error
            raise
        finally:
            self._trio_host._closed = True
        return job.result()

    def close(self) -> None:
        """The run has closed everything already."""


class _Job(Generic[T]):
    """One run: what to run, and how it ended."""

    def __init__(self, root: Callable[[], Coroutine[Any, Any, T]], context: Context) -> None:
        self.root = root
        self.context = context
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    async def run_in(self, host: Any) -> None:
        """Run it as the current trio task."""
        host.attach()
        self.value, self.error = await host.run_main(self.root())
        self.done = True

    def result(self) -> T:
        """Its value; raises its error."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # the frame is in the error's traceback
        value: T = self.value
        return value


class TrioSession(Session):
    """A session for any number of runs, on one trio loop in guest mode. Use it from the thread that made it.

    Between runs the loop is not only still but invisible: other loops may run on the thread. Invariant: trio's state of
    this thread is in ``_state`` while the loop is paused, and in trio's own hands while ``run`` or ``close`` pumps it.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        from _queue import SimpleQueue

        from .trio_host import TrioHost

        self._options = options
        self._pid = os.getpid()
        self.host = self._trio_host = TrioHost()
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._jobs: Any = None
        self._nursery: Any = None
        self._outcome: Any = None
        self._state: dict[str, Any] = {}
        self._hooks: Any = None
        self._closed = False

    def run(self, root: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._closed:
            raise RuntimeError("this session is closed; open a new one")
        if os.getpid() != self._pid:
            raise RuntimeError("this session was opened before fork(); open a new one in the child process")
        job: _Job[T] = _Job(root, copy_context())
        with _Interrupt(self._interrupted), self._present():
            if self._jobs is None:
                self._jobs = self._start()
            self._jobs.send_nowait(job)
            try:
                self._pump(lambda: job.done)
            except BaseException:
                self._cancel_all()  # an interrupt in the pump itself: the program must not be left half-way
                self._pump(lambda: job.done)
                raise
        return job.result()

    def close(self) -> None:
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        if self._jobs is None or self._outcome is not None:
            return
        with self._present():
            self._jobs.close()
            self._pump(lambda: False)

    def _start(self) -> Any:
        import trio

        sender, jobs = trio.open_memory_channel[Any](inf)
        trio.lowlevel.start_guest_run(
            self._serve,
            jobs,
            run_sync_soon_threadsafe=self._calls.put,
            run_sync_soon_not_threadsafe=self._calls.put,
            done_callback=self._ended,
            host_uses_signal_set_wakeup_fd=True,  # a signal interrupts the pump's wait
            **self._options,
        )
        return sender

    def _ended(self, outcome: Any) -> None:
        self._outcome = outcome
        self._trio_host._closed = True

    def _pump(self, until: Callable[[], bool]) -> None:
        """Drive the loop until ``until()``, or to its end."""
        while not until():
            if self._outcome is not None:
                self._closed = True
                self._outcome.unwrap()  # trio's own error, which ended it before its time
                return
            self._calls.get()()

    @contextmanager
    def _present(self) -> Generator[None]:
        """While the block runs, this is the trio loop of the thread."""
        state = _trio_state()
        if "runner" in state:
            raise NestedRun("a trio loop is running on this thread already; await the function in it instead")
        outer = sys.get_asyncgen_hooks()
        state.update(self._state)
        if self._hooks is not None:
            sys.set_asyncgen_hooks(*self._hooks)
        try:
            yield
        finally:
            self._state = dict(state)
            state.clear()
            self._hooks = sys.get_asyncgen_hooks()
            sys.set_asyncgen_hooks(*outer)

    async def _serve(self, jobs: Any) -> None:
        import trio

        self._trio_host.attach()
        async with jobs:
            async for job in jobs:
                async with trio.open_nursery() as self._nursery:
                    job.context.run(self._nursery.start_soon, job.run_in, self.host)

    def _interrupted(self) -> None:
        self.host.call_threadsafe(self._cancel_all)

    def _cancel_all(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()


def _trio_state() -> dict[str, Any]:
    """What trio keeps per thread while it runs. There is no public way to put a guest run aside."""
    from trio._core import _run

    return _run.GLOBAL_RUN_CONTEXT.__dict__


class _Interrupt:
    """Ctrl-C where nobody handles it (a session without a program): cancels the run, then raises. The second one raises
    at once. It also keeps trio from taking the signal for as long as its loop lives, paused or not.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._count = 0
        self._installed = False

    def __enter__(self) -> None:
        try:
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._caught)
                self._installed = True
        except ValueError:  # not the main thread: signals are not ours
            return

    def _caught(self, signum: int, frame: Any) -> None:
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt
        self._cancel()

    def __exit__(self, *exc_info: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._count == 1:
            raise KeyboardInterrupt from None
