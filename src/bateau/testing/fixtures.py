"""A fixture that is an async function or an async generator: it lives in a task of its own, from its setup to its teardown.

One task for all of it is what lets a generator hold scopes, timeouts and nurseries open around its ``yield``. A cancellation that comes
while the tests run (a child of the fixture's scope failed) is thrown into the generator at its ``yield``; if that ends it, the test is
cancelled and told why.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any

from ..kernel.current import current_host
from ..kernel.errors import Cancelled
from ..kernel.task import Task
from .running import FixtureEnded, FixtureMisuse, Guard, RunnersEvent, TestTimeout, end

_MISSING = object()


class LiveFixture:
    """One fixture that is set up. ``start`` and ``stop`` are awaited on its host, ``stop`` maybe in another program than ``start``.

    Invariants: ``error`` is what it ended with and nobody has been told yet. ``changed`` has the context variables that its setup set.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        kwargs: Mapping[str, Any],
        *,
        seconds: float | None = None,
        context: Context | None = None,
    ) -> None:
        self.name = name
        self.seconds = seconds
        self.changed: dict[ContextVar[Any], Any] = {}
        self.error: BaseException | None = None
        self.task: Task[None] | None = None
        # What to break off when it ends before it was asked to: the test that uses it.
        self._guard: Guard | None = None
        self._fn = fn
        self._kwargs = dict(kwargs)
        self._context = context if context is not None else copy_context()
        self._value: Any = None
        # Whether its task lives until the teardown: it is a generator.
        self._holds = False

    # -- setup and teardown ----------------------------------------------------------------------------------------------

    async def start(self, register: Callable[[Task[Any]], None] | None = None) -> Any:
        """Set it up and return its value; raises what its code raised. Cancelled, the fixture is cancelled and awaited first."""
        self._ready = RunnersEvent(name=f"setup of fixture {self.name!r}")
        self._end = RunnersEvent(name=f"end of the tests that use fixture {self.name!r}")
        host = current_host()
        code = getattr(self._fn, "__code__", None)
        site = (code.co_filename, code.co_firstlineno) if code is not None else ("<unknown>", 0)
        task: Task[None] = Task(host, self._live(), None, f"fixture {self.name}", site, self._context)
        task.background = True  # nobody's leftover: it is ended by ``stop``
        self.task = task
        if register is not None:
            register(task)
        host.spawn_root(task)
        await self._until(f"the setup of fixture {self.name!r}", self._ready.wait)
        error = self.take_error()
        if error is not None:
            raise error
        return self._value

    async def stop(self) -> None:
        """Let its code go on behind the ``yield``, to its end; raises what that raises."""
        task = self.task
        if task is None:
            return
        self._guard = None
        if not task.ended:
            self._end.set()
            await self._until(f"the teardown of fixture {self.name!r}", task.join)
        error = self.take_error()
        if error is not None:
            raise error

    def watch(self, guard: Guard | None) -> None:
        """From now on ``guard`` is broken off if this fixture ends by itself; at once, if it has. None: nobody uses it now."""
        self._guard = guard
        if guard is not None and self.error is not None:
            self._break_off()
        elif guard is not None and self._holds and self.task is not None and self.task.ended:
            guard.break_off(
                FixtureEnded(f"fixture {self.name!r} has ended already: an earlier test that used it says why")
            )

    def _break_off(self) -> None:
        assert self.error is not None
        assert self._guard is not None
        if self._guard.break_off(self.error):
            self.error.add_note(f"this came from fixture {self.name!r} while {self._guard.what} was using it")
            self.error = None

    def take_error(self) -> BaseException | None:
        """What it ended with and nobody has been told; whoever asks is told."""
        error, self.error = self.error, None
        return error

    async def _until(self, what: str, wait: Callable[[], Any]) -> None:
        """Wait for the task, within the fixture's time. Cancelled, cancel it and wait for its end."""
        task = self.task
        assert task is not None
        try:
            await Guard(what, self.seconds).run(wait)
        except BaseException as error:
            await end(task, "its test run is over")
            if self.error is not None:
                stopped_at, self.error = self.error.__traceback__, None
                if isinstance(error, TestTimeout):
                    raise error.with_traceback(stopped_at) from None
            raise

    # -- its own task ----------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """What its task runs. Never raises: its errors are in ``error``, for whoever asks."""
        before = copy_context()
        try:
            made = self._fn(**self._kwargs)
            if not inspect.isasyncgen(made):
                self._value = await made
                self._is_ready(before)
                return
            try:
                self._value = await made.__anext__()
            except StopAsyncIteration:
                raise FixtureMisuse(f"fixture {self.name!r} ended without a `yield`{self._site()}") from None
            self._holds = True
            self._is_ready(before)
            await self._until_the_end(made)
        except BaseException as error:
            tb = error.__traceback__
            self.error = error.with_traceback(tb.tb_next if tb is not None and tb.tb_next is not None else tb)
        finally:
            self._ended()

    def _is_ready(self, before: Context) -> None:
        for var, value in copy_context().items():
            if before.get(var, _MISSING) is not value:
                self.changed[var] = value
        self._ready.set()

    async def _until_the_end(self, made: Any) -> None:
        try:
            await self._end.wait()
        except BaseException as error:
            # Not ours: it belongs to a scope that the generator has open.
            try:
                await made.athrow(error)
            except StopAsyncIteration:
                if not self._end.is_set():
                    raise FixtureEnded(
                        f"fixture {self.name!r} ended while its tests were running: what it held open around its `yield` was "
                        f"cancelled ({_reason(error)})"
                    ) from None
                return
            except BaseException as failure:
                if failure.__context__ is error:
                    # That it was cancelled is how it heard of the failure, and no failure itself.
                    failure.__context__ = None
                raise
        else:
            try:
                await made.__anext__()
            except StopAsyncIteration:
                return
        await made.aclose()
        raise FixtureMisuse(f"fixture {self.name!r} has more than one `yield`{self._site()}")

    def _site(self) -> str:
        code = getattr(self._fn, "__code__", None)
        return f" [{code.co_filename}:{code.co_firstlineno}]" if code is not None else ""

    def _ended(self) -> None:
        was_ready = self._ready.is_set()
        self._ready.set()
        if was_ready and self.error is not None and self._guard is not None:
            self._break_off()


def _reason(error: BaseException) -> str:
    return error.reason if isinstance(error, Cancelled) else repr(error)
