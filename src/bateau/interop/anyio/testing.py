"""The runner of anyio's pytest plugin: fixtures and tests in one task, which lives from the first to the last of them.

Fixtures may leave cancel scopes and task groups open for the tests, so all must be the same task. It is a root of the session; for each call
a program of a moment's length hands the call over and waits for its end. Between two calls the loop stands still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextvars import copy_context
from types import TracebackType
from typing import Any, TypeVar

from anyio import abc

from ...kernel.cancellation import CancelScope as KernelScope
from ...kernel.current import current_task
from ...kernel.errors import Cancelled
from ...kernel.task import Task
from ...runtimes.base import Session
from ...sync import Event
from .library import mark_context
from .runtimes import Options, chosen

T = TypeVar("T")


class _Call:
    """One function to run in the runner's task. Invariant: ``done`` is set once ``value`` or ``error`` is there."""

    def __init__(self, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = Event(flavour="local")  # nobody but the runner sets it: a deadlock can be proven

    async def run(self) -> None:
        """In the runner's task."""
        try:
            self.value = await self.fn(*self.args, **self.kwargs)
        except BaseException as error:
            self.error = error
            if isinstance(error, Cancelled) and current_task().record is not None:
                raise  # the runner itself is being ended
        finally:
            self.done.set()


class TestRunner(abc.TestRunner):
    """See ``anyio.abc.TestRunner``."""

    __test__ = False

    def __init__(self, options: Options) -> None:
        self._runtime = chosen(options)
        self._session: Session | None = None
        self._task: Task[None] | None = None
        self._calls: deque[_Call] = deque()
        self._wake: Event | None = None
        self._busy = False

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()  # cancels and awaits the runner's task with whatever it left running

    def is_running(self) -> bool:
        return self._busy

    async def _serve(self) -> None:
        """The runner's task."""
        while True:
            while self._calls:
                await self._calls.popleft().run()
            self._wake = Event()
            await self._wake.wait()

    async def _hand_over(self, call: _Call) -> None:
        """A program: run ``call`` in the runner's task. Cancelled (a deadlock was found), it cancels that task's work first."""
        session = self._session
        assert session is not None
        self._calls.append(call)
        if self._task is None or self._task.ended:
            context = copy_context()
            mark_context(context)
            self._task = Task(session.host, self._serve(), name="anyio test runner", context=context)
            session.host.spawn_root(self._task)
        elif self._wake is not None:
            self._wake.set()
        try:
            await call.done.wait()
        except Cancelled as cancelled:
            self._task.cancel(str(cancelled))
            with KernelScope(shield=True):
                await call.done.wait()
            raise

    def _run(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        if self._session is None:
            self._runtime.check_not_running()
            self._session = self._runtime.open()
            self._session.keep_leftovers = True
        call = _Call(fn, args, kwargs)
        self._busy = True
        try:
            self._session.run(lambda: self._hand_over(call))
        finally:
            self._busy = False
        if call.error is not None:
            try:
                raise call.error
            finally:
                del call
        return call.value

    def run_asyncgen_fixture(
        self, fixture_func: Callable[..., AsyncGenerator[T, Any]], kwargs: dict[str, Any]
    ) -> Iterable[T]:
        generator = fixture_func(**kwargs)
        yield self._run(generator.asend, None)
        try:
            self._run(generator.asend, None)
        except StopAsyncIteration:
            return
        self._run(generator.aclose)
        raise RuntimeError("Async generator fixture did not stop")

    def run_fixture(self, fixture_func: Callable[..., Coroutine[Any, Any, T]], kwargs: dict[str, Any]) -> T:
        value: T = self._run(fixture_func, **kwargs)
        return value

    def run_test(self, test_func: Callable[..., Coroutine[Any, Any, Any]], kwargs: dict[str, Any]) -> None:
        self._run(test_func, **kwargs)
