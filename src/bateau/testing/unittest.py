"""``AsyncTestCase``: async tests for ``unittest``, on any runtime. Needs no pytest, and works under it.

One task per test runs ``asyncSetUp``, the test, ``asyncTearDown`` and the cleanups, so that what is entered in one of them (a scope, a
timeout) can be left in another, and reaches what runs in between.
"""
# ruff: noqa: N802, N803  # unittest's names

from __future__ import annotations

import inspect
import os
import unittest
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from functools import partial
from typing import Any, ClassVar, TypeVar

from ..kernel.cancellation import CancelScope
from ..kernel.errors import Cancelled
from ..kernel.task import Task
from ..runtimes import registry
from .marks import RUNTIMES, SIMULATE, marks_of
from .running import Guard, Loop, RunnersEvent
from .tracebacks import trimmed

T = TypeVar("T")
# Frames of modules that have this name are not shown by unittest.
__unittest = True


class AsyncTestCase(unittest.TestCase):
    """A test case whose tests, ``asyncSetUp``, ``asyncTearDown`` and cleanups may be async functions.

    ``runtime`` is the name of the runtime they run on (None: ``BATEAU_RUNTIME``, else the platform's default); ``@runtimes(...)`` on the
    class or on a test makes it run on several, each time as a new instance. ``timeout`` bounds each step (seconds on that runtime's
    clock); when it passes, the error says who waited on what, and the rest of the test runs cancelled (``bateau.cleanup`` holds).
    """

    runtime: ClassVar[str | None] = None
    timeout: ClassVar[float | None] = None

    def __init__(self, methodName: str = "runTest") -> None:
        super().__init__(methodName)
        self._bateau_context = copy_context()
        self._bateau_steps: _Steps | None = None
        self._bateau_runtime: str | None = None

    # -- for subclasses --------------------------------------------------------------------------------------------------

    async def asyncSetUp(self) -> None:
        """Called after ``setUp``, before the test. To be overridden."""

    async def asyncTearDown(self) -> None:
        """Called after the test, before ``tearDown``. To be overridden."""

    def addAsyncCleanup(self, func: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> None:
        """Call and await ``func(*args, **kwargs)`` after ``tearDown``: the last one added comes first."""

        async def clean_up() -> None:
            await func(*args, **kwargs)

        self.addCleanup(clean_up)

    async def enterAsyncContext(self, cm: AbstractAsyncContextManager[T]) -> T:
        """Enter an async context manager; it is left after ``tearDown``. Returns what it gives. May be a bateau scope or timeout."""
        cls = type(cm)
        enter, leave = getattr(cls, "__aenter__", None), getattr(cls, "__aexit__", None)
        if enter is None or leave is None:
            raise TypeError(
                f"'{cls.__module__}.{cls.__qualname__}' object does not support the asynchronous context manager protocol"
            )
        value: T = await enter(cm)
        self.addAsyncCleanup(leave, cm, None, None, None)
        return value

    # -- what unittest calls -----------------------------------------------------------------------------------------------

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test on each of its runtimes."""
        own = result is None
        if result is None:
            result = self.defaultTestResult()
            result.startTestRun()
        try:
            problem = self._bateau_problem()
            names = self._bateau_names()
            if problem is not None:
                _told(result, self, lambda: result.addError(self, _exc_info(problem)))
            elif self._bateau_runtime is not None or len(names) == 1:
                self._bateau_run(self._bateau_runtime or names[0], result)
            else:
                for name in names:
                    case = type(self)(self._testMethodName)
                    case._bateau_runtime = name
                    case.run(result)
        finally:
            if own:
                result.stopTestRun()
        return result

    def debug(self) -> None:
        """Run the test without collecting its error."""
        for name in self._bateau_names():
            case = type(self)(self._testMethodName)
            case._bateau_inside(name, super(AsyncTestCase, case).debug)

    def countTestCases(self) -> int:
        """One for each runtime."""
        return 1 if self._bateau_runtime is not None else len(self._bateau_names())

    def id(self) -> str:
        """The name of the test, with the runtime where there are several."""
        return super().id() + (f"[{self._bateau_runtime}]" if self._bateau_runtime is not None else "")

    def __str__(self) -> str:
        return super().__str__() + (f" [{self._bateau_runtime}]" if self._bateau_runtime is not None else "")

    def _callSetUp(self) -> None:
        self._bateau_context.run(self.setUp)
        self._bateau_call(self.asyncSetUp)

    def _callTestMethod(self, method: Callable[[], Any]) -> None:
        self._bateau_call(method)

    def _callTearDown(self) -> None:
        self._bateau_call(self.asyncTearDown)
        self._bateau_context.run(self.tearDown)

    def _callCleanup(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._bateau_call(partial(function, *args, **kwargs))

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _bateau_names(self) -> list[str]:
        for holder in self._bateau_marked():
            mark = next(marks_of(holder, RUNTIMES), None)
            if mark is not None:
                return list(dict.fromkeys(mark.args))
        return [self.runtime or os.environ.get("BATEAU_RUNTIME") or registry.default_name()]

    def _bateau_marked(self) -> list[Any]:
        method = getattr(type(self), self._testMethodName, None)
        return [type(self)] if method is None else [method, type(self)]

    def _bateau_problem(self) -> Exception | None:
        """What is written on the test and can't be."""
        if any(next(marks_of(holder, SIMULATE), None) is not None for holder in self._bateau_marked()):
            return TypeError(
                f"{self.id()} is marked @simulate, which explores test functions under pytest; in an AsyncTestCase write "
                "runtime = 'sim' for one run in a simulated world"
            )
        known = registry.names()
        wrong = next((name for name in self._bateau_names() if name not in known), None)
        return None if wrong is None else ValueError(f"unknown runtime {wrong!r}; known: {', '.join(known)}")

    def _bateau_run(self, name: str, result: unittest.TestResult) -> None:
        why = registry.why_unavailable(name)
        if why is not None:
            _told(result, self, lambda: result.addSkip(self, why))
            return
        try:
            self._bateau_inside(name, partial(super().run, result))
        except Exception as error:  # of the loop itself, as it opened or closed
            result.addError(self, _exc_info(error))

    def _bateau_inside(self, name: str, run: Callable[[], T]) -> T:
        """``run()``, with a loop of that runtime for the async steps."""

        def whole() -> T:
            steps = self._bateau_steps = _Steps(Loop(registry.get(name)), self._bateau_context)
            try:
                return run()
            finally:
                self._bateau_steps = None
                steps.close()

        if name != "sim":
            return whole()
        from ..sim import run as run_in_world

        value: T = run_in_world(whole, seed=int(os.environ.get("BATEAU_SEED", "0")))
        return value

    def _bateau_call(self, fn: Callable[[], Any]) -> None:
        steps = self._bateau_steps
        assert steps is not None
        plain: Any = getattr(fn, "func", fn)
        if inspect.iscoroutinefunction(plain):
            steps.run(fn, f"{getattr(plain, '__name__', 'a step')} of {self.id()}", self.timeout)
        else:
            self._bateau_context.run(fn)


def _told(result: unittest.TestResult, case: unittest.TestCase, tell: Callable[[], None]) -> None:
    """``case`` does not run, and ``tell`` says why."""
    result.startTest(case)
    tell()
    result.stopTest(case)


def _exc_info(error: Exception) -> Any:
    return type(error), error, error.__traceback__


class _Steps:
    """The task of one test: it runs one async function after another, and waits in between.

    Invariant: while ``run`` is not running, the task waits, shielded: what was cancelled around it concerns the next step. All of it is
    inside ``_scope``, which a timeout cancels: a step may leave scopes open, so none of its own can be closed behind it.
    """

    def __init__(self, loop: Loop, context: Context) -> None:
        self._loop = loop
        self._context = context
        self._task: Task[None] | None = None
        self._step: tuple[Callable[[], Awaitable[Any]], Guard] | None = None
        self._error: BaseException | None = None
        self._scope = CancelScope()

    def run(self, fn: Callable[[], Awaitable[Any]], what: str, seconds: float | None) -> None:
        """Run ``await fn()`` in the task; raises what it raises."""
        over = self._scope.record is not None
        self._loop.run(lambda: self._ask(fn, Guard(what, seconds, self._scope)))
        error, self._error = self._error, None
        if error is not None and not (
            over and isinstance(error, Cancelled)
        ):  # an earlier step has been too late, and said so
            raise trimmed(error)

    def close(self) -> None:
        """End the task and its loop."""
        try:
            if self._task is not None and not self._task.ended:
                self._loop.run(self._end)
        finally:
            self._loop.close()

    async def _ask(self, fn: Callable[[], Awaitable[Any]], guard: Guard) -> None:
        self._step = (fn, guard)
        self._done = RunnersEvent(name="end of the step")
        if self._task is None:
            self._go = RunnersEvent(name="next step of the test")
            host = self._loop.host
            self._task = Task(host, self._live(), None, "test", ("<unknown>", 0), self._context)
            self._task.background = True
            self._loop.add(self._task)
            host.spawn_root(self._task)
        self._go.set()
        try:
            await self._done.wait()
        except BaseException as error:
            guard.break_off(error)
            with CancelScope(shield=True):
                await self._done.wait()
            raise

    async def _end(self) -> None:
        assert self._task is not None
        self._step = None
        self._go.set()
        await self._task.join()

    async def _live(self) -> None:
        task = self._task
        assert task is not None
        with self._scope:
            while True:
                with CancelScope(shield=True):
                    await self._go.wait()
                self._go.clear()
                if self._step is None:
                    return
                fn, guard = self._step
                try:
                    await guard.run(fn)
                except BaseException as error:
                    self._error = error
                    task.delivered = None  # a cancellation that ends a step has done its work: unittest reports it
                self._done.set()
