"""The asyncio family of runtimes, owned: ``asyncio`` on its own loop, and ``uvloop``."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from importlib.util import find_spec
from typing import Any, TypeVar

from .base import Runtime, Session

T = TypeVar("T")


class AsyncioSession(Session):
    """One loop in an ``asyncio.Runner``; it stays open over several runs."""

    def __init__(self, loop_factory: Callable[[], Any] | None) -> None:
        import asyncio

        from .asyncio_host import host_of

        self._pid = os.getpid()
        self._runner = asyncio.Runner(loop_factory=loop_factory)
        self._runner.__enter__()
        self.host = host_of(self._runner.get_loop())

    def run(self, root: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if os.getpid() != self._pid:
            raise RuntimeError("this session was opened before fork(); open a new one in the child process")
        # In the caller's context, as on the other runtimes: asyncio's runner would take the one it was made in.
        return self._runner.run(_run_root(root, self.keep_leftovers), context=copy_context())

    def close(self) -> None:
        if os.getpid() != self._pid:
            return
        try:
            if self.keep_leftovers:
                self.keep_leftovers = False
                # Not the runner's ``run``: it asks for threading's current thread, and this one may be ending, with its record
                # gone. The dummy made then outlives it, and Python before 3.13.3 complains about that at exit.
                self._runner.get_loop().run_until_complete(_end_leftovers())
        finally:
            self._runner.close()


async def _run_root(root: Callable[[], Coroutine[Any, Any, T]], keep_leftovers: bool) -> T:
    """The main task: runs the program, then ends what foreign ``create_task`` left behind (they are roots of their own)."""
    try:
        return await root()
    finally:
        if not keep_leftovers:
            await _end_leftovers()


async def _end_leftovers() -> None:
    import asyncio

    from .asyncio_host import cancel_leftovers, report_leftovers

    leftovers = cancel_leftovers(asyncio.get_running_loop())
    await asyncio.gather(*leftovers, return_exceptions=True)
    report_leftovers(leftovers)


class AsyncioRuntime(Runtime):
    """asyncio's own loop. ``loop_factory``: any other loop that speaks its interface."""

    name = "asyncio"
    features = frozenset({"asyncio", "fds"})

    def __init__(self, loop_factory: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self._loop_factory = loop_factory

    def open(self) -> AsyncioSession:
        return AsyncioSession(self._loop_factory)


class UvloopRuntime(AsyncioRuntime):
    """asyncio on uvloop."""

    name = "uvloop"

    def unavailable(self) -> str | None:
        if find_spec("uvloop") is None:
            return "uvloop is not installed; pip install 'bateau[uvloop]'"
        return None

    def open(self) -> AsyncioSession:
        import uvloop

        return AsyncioSession(uvloop.new_event_loop)
