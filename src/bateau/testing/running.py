"""Running one test after another on live loops: the loop, the program that a test is, and the guard around it.

A *loop* is an open session of a runtime: fixtures live on it as tasks, and each test (and each step of a fixture) is a program of its
own on it. A *guard* is the block in which a test's own code runs: it has the deadline, and is what a broken fixture cancels.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any

from ..kernel.cancellation import CancelNode, CancelScope
from ..kernel.current import current_task
from ..kernel.errors import BateauError, Cancelled, CancelRecord
from ..kernel.host import Host, Timer
from ..kernel.task import Task
from ..runtimes.base import Runtime, Session
from ..runtimes.program import Program
from ..sync import Event
from .waits import RUNNERS, who_waits

# How long a test that was cancelled may clean up before its shields fall: at most this, and at most the timeout itself.
LONGEST_CLEANUP = 10.0


class TestTimeout(BateauError, AssertionError):
    """A test or a fixture did not end within its time. The message says who waited on what then."""

    __test__ = False


class FixtureEnded(BateauError, RuntimeError):
    """The code of a fixture came to its end, or was cancelled, while tests that use it were running."""


class FixtureMisuse(BateauError, RuntimeError):
    """A fixture is not written as a fixture has to be: no ``yield``, or more than one."""


class RunnersEvent(Event):
    """What the runner itself waits for. Who asks why a test hangs need not hear of it."""

    __slots__ = ()
    kind = RUNNERS


# What a test was waiting for when Ctrl-C came, for the summary.
interrupted: list[str] = []


class _TestProgram(Program):
    """A test as a program. Ctrl-C cancels it at once: nobody waits for the requests of a test to be finished in peace."""

    def __init__(self, runtime: Runtime, host: Host) -> None:
        super().__init__(runtime, host)
        self.interrupts = 1  # the first phase is over

    def _cancel(self) -> None:
        if self._interruptible is not None:
            interrupted[:] = [who_waits(self.host)]
            self._interruptible.cancel("Ctrl-C")


class Loop:
    """One open session of a runtime, for tests and the fixtures that live on it."""

    def __init__(self, runtime: Runtime) -> None:
        runtime.check_not_running()
        self.runtime = runtime
        self.session: Session = runtime.open()
        self.session.keep_leftovers = True
        # The tasks of live fixtures, in the order they were set up.
        self.fixtures: dict[Task[Any], None] = {}
        self._closed = False

    @property
    def host(self) -> Host:
        """Its host."""
        return self.session.host

    def run(self, fn: Callable[[], Awaitable[Any]]) -> Any:
        """Run ``await fn()`` as a program, in a copy of the caller's context."""
        self.runtime.check_not_running()
        program = _TestProgram(self.runtime, self.host)
        return copy_context().run(program.run, self.session, fn, ())

    def add(self, task: Task[Any]) -> None:
        """``task`` is a fixture that lives on this loop."""
        self.fixtures[task] = None

    def close(self) -> None:
        """Cancel and await what is left, then free the loop. Idempotent."""
        if not self._closed:
            self._closed = True
            self.session.close()


class Guard:
    """Runs one async function of the user's within its time; see the module's head.

    ``scope``: one around the function that is entered already and stays open, for
    functions that leave scopes of their own open; without it there is one for the length of ``run``.
    """

    def __init__(
        self,
        what: str,
        seconds: float | None,
        scope: CancelScope | None = None,
    ) -> None:
        self.what = what
        self.seconds = seconds
        self.task: Task[Any] | None = None
        # Why it was cancelled, if it was.
        self.verdict: BaseException | None = None
        self._over = False
        self._own = scope is None
        self._scope = scope if scope is not None else CancelScope()
        self._timer: Timer | None = None

    async def run(self, fn: Callable[[], Awaitable[Any]]) -> Any:
        """``await fn()``. Raises the verdict if it was cancelled for one, with what the function itself raised as its cause."""
        self.task = current_task()
        failure: BaseException | None = None
        stopped_at: TracebackType | None = None
        value: Any = None
        try:
            with self._scope if self._own else nullcontext():
                self._arm()
                if self.verdict is not None:
                    self._cancel(self.verdict)
                try:
                    value = await fn()
                except Exception as error:
                    failure = error
                except Cancelled as error:
                    stopped_at = error.__traceback__
                    raise
        except Cancelled:
            if self.verdict is None:
                raise
        finally:
            self._over = True
            self._disarm()
        if self.verdict is not None:
            if self.verdict.__traceback__ is None:  # it shows where the function stood
                self.verdict.__traceback__ = stopped_at
            if failure is not None and self.verdict.__cause__ is None:
                self.verdict.__cause__ = failure
            raise self.verdict
        if failure is not None:
            raise failure
        return value

    def break_off(self, verdict: BaseException) -> bool:
        """Cancel what runs inside; ``verdict`` is what ``run`` then raises. False if it is over, or has a verdict already."""
        if self._over or self.verdict is not None:
            return False
        self.verdict = verdict
        if self.task is not None:
            self._cancel(verdict)
        return True

    def _cancel(self, verdict: BaseException) -> None:
        reason = str(verdict).partition("\n")[0]
        self._scope._cancel(CancelRecord(reason, cause=verdict, site=("<the test's runner>", 0)))

    def _arm(self) -> None:
        if self.seconds is not None:
            self._timer = self._call_after(self.seconds, self._overdue)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _call_after(self, seconds: float, fn: Callable[[], None]) -> Timer:
        assert self.task is not None
        host = self.task.host
        return host.call_at(host.now() + seconds, fn)

    def _overdue(self) -> None:
        """Called by the host, between steps."""
        assert self.task is not None
        assert self.seconds is not None
        self.break_off(overdue(self.what, self.seconds, _clock(self.task), self._waits()))
        self._timer = self._call_after(min(self.seconds, LONGEST_CLEANUP), self._still_there)

    def _waits(self) -> str:
        assert self.task is not None
        if self.task.host.name == "sim":
            from ..sim import current_world

            world = current_world()
            if world is not None and world.hosts.keys() - {"test"}:  # there are others, who may be to blame
                return world.explain()
        try:
            return who_waits(self.task.host)
        except (
            Exception
        ) as error:  # whatever it is (another version of a library, no memory), the test has to be broken off
            return f"  (who waits on what could not be told: {type(error).__name__}: {error})"

    def _still_there(self) -> None:
        assert self.task is not None
        self._timer = None
        if self.verdict is not None:
            self.verdict.add_note(
                f"it was cancelled, and had not ended {LONGEST_CLEANUP:g} s later at most:\n{self._waits()}"
            )
        _break_shields(self._scope)


def overdue(what: str, seconds: float, clock: str, waits: str) -> TestTimeout:
    """The error of a test that did not end in time."""
    return TestTimeout(f"{what} did not end within {seconds:g} s of {clock}:\n{waits}")


def _clock(task: Task[Any]) -> str:
    return "virtual time" if task.host.name == "sim" else f"{task.host.name}'s clock"


async def end(task: Task[Any], reason: str) -> None:
    """Cancel ``task`` and wait for its end, whatever happens here. Its shields fall when it takes too long."""
    task.cancel(reason)
    host = task.host
    timer = host.call_at(host.now() + LONGEST_CLEANUP, partial(_break_shields, task))
    try:
        with CancelScope(shield=True):
            await task.join()
    finally:
        timer.cancel()


def _break_shields(top: CancelNode) -> None:
    """Cancel what is shielded below ``top``: its time is over."""
    todo = [top]
    for node in todo:
        todo.extend(node.children or ())
    for node in todo:
        if node.shielded:
            node._cancel(CancelRecord("the cleanup of a cancelled test took too long", site=("<the test's runner>", 0)))
