"""A runtime that stays open over several programs: for a REPL, a notebook, a test suite."""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, TypeVar, TypeVarTuple

from ..kernel.errors import NestedRun, WrongRuntime, user_site
from ..kernel.hazard import report
from ..kernel.host import Host
from . import registry
from .base import Runtime, Session
from .program import Program

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Runner:
    """``with bateau.Runner() as runner: runner.run(fn, *args)``, as often as you like, on one live loop.

    What the loop holds (run-scoped variables, foreign tasks, connections that nobody closed) lives from one ``run`` to the
    next, as do context variables, and ends with ``close``. Each ``run`` is a program of its own, with its own root scope and
    Ctrl-C in two phases. ``runtime``: a name or an object, None as in ``bateau.run``; ``context``: the context of the first
    run, by default a copy of the caller's. The loop is opened by ``with`` or the first ``run``, and belongs to that thread.
    """

    def __init__(self, *, runtime: str | Runtime | None = None, context: Context | None = None) -> None:
        self.runtime = registry.get(runtime)
        self._context = context
        self._session: Session | None = None
        self._site = user_site(sys._getframe(1))
        self._thread = 0
        self._pid = 0
        self._running = False
        self._closed = False

    @property
    def host(self) -> Host:
        """The host all runs share; opens the loop if need be."""
        return self._open().host

    def run(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts) -> T:
        """Run ``await fn(*args)`` as a program, to its end; returns its value or raises its error.

        Raises ``NestedRun`` where a program is running on this thread, ``WrongRuntime`` on another thread than the one that
        opened the loop, ``RuntimeError`` after ``close``, and in a child process for a loop that was opened before ``fork``.
        """
        self.runtime.check_not_running()
        if self._running:
            raise NestedRun(
                f"this Runner is in the middle of a run on {self.host.describe()}; await the function instead"
            )
        session = self._open()
        assert self._context is not None
        program = _Kept(self, session.host)
        self._running = True
        try:
            return self._context.run(program.run, session, fn, args)
        finally:
            self._running = False

    def close(self) -> None:
        """Cancel and await what is left on the loop, then free it. Idempotent; blocks until it has ended.

        In a forked child it forgets the loop, which is the parent's. Raises as ``run`` does from a wrong place.
        """
        session = self._session
        if session is None or os.getpid() != self._pid:
            self._closed = True
            self._session = None
            return
        self._check_place()
        if self._running:
            raise RuntimeError("this Runner can't be closed from inside its own run; let the run end first")
        self._closed = True
        self._session = None
        session.close()

    def __enter__(self) -> Runner:
        self._open()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Session:
        if self._closed:
            raise RuntimeError("this Runner is closed; make a new one")
        if self._session is None:
            self.runtime.check_not_running()
            if self._context is None:
                self._context = copy_context()
            self._session = self._context.run(self.runtime.open)
            self._session.keep_leftovers = True
            self._thread = get_ident()
            self._pid = os.getpid()
        else:
            self._check_place()
        return self._session

    def _check_place(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this Runner was opened before fork(), in process {self._pid}; make a new one in the child process"
            )
        if get_ident() != self._thread:
            raise WrongRuntime(
                f"this Runner's loop belongs to thread {self._thread} and is being used from thread {get_ident()}; "
                "give each thread a Runner of its own, or spawn into the running program with runner.runtime.spawn"
            )

    def __del__(self) -> None:
        if getattr(self, "_session", None) is not None and os.getpid() == self._pid:
            report(
                "dropped_without_close",
                f"{self!r} was dropped without close(): what is left on its loop can't end in order; "
                "write `with bateau.Runner() as runner:`, or call runner.close() when the last run is over",
                self._site,
            )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._running else "open" if self._session else "not opened"
        return f"<bateau Runner on {self.runtime.name!r}, {state}>"


class _Kept(Program):
    """A program that leaves its context variables to the next one."""

    def __init__(self, runner: Runner, host: Host) -> None:
        super().__init__(runner.runtime, host)
        self._runner = runner

    async def _main(self, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        try:
            return await super()._main(fn, args)
        finally:
            self._runner._context = copy_context()
