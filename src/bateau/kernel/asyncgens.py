"""Async generators on our own engine: one that is dropped half-way is closed by a task of the engine, never by the GC."""

from __future__ import annotations

import sys
from collections import deque
from contextvars import copy_context
from types import AsyncGeneratorType, TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from .engine import Engine
from .hazard import report
from .task import Task


class AsyncGens:
    """Installs the interpreter's hooks for the length of a run (``with``), and closes what is left at the end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # In the order in which they began, which is the order in which they are closed: a set has that of their addresses.
        self._open: WeakKeyDictionary[AsyncGeneratorType[Any, Any], None] = WeakKeyDictionary()
        # Dropped, by the garbage collector on whatever thread, and not yet being closed.
        self._dropped: deque[AsyncGeneratorType[Any, Any]] = deque()
        self._saved: list[Any] = []

    def __enter__(self) -> None:
        self._saved.append(sys.get_asyncgen_hooks())
        hooks: Any = self  # the stubs ask for the abstract type, the interpreter gives the real one
        sys.set_asyncgen_hooks(firstiter=hooks._began, finalizer=hooks._finalizer)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        sys.set_asyncgen_hooks(*self._saved.pop())

    def _began(self, agen: AsyncGeneratorType[Any, Any]) -> None:
        self._open[agen] = None

    def _finalizer(self, agen: AsyncGeneratorType[Any, Any]) -> None:
        self._open.pop(agen, None)
        code = agen.ag_code
        report(
            "dropped_without_close",
            f"async generator {code.co_qualname} was dropped before its end; iterate it inside "
            "`async with contextlib.aclosing(...)` so that it is closed where you leave it",
            (code.co_filename, code.co_firstlineno),
        )
        self._dropped.append(agen)
        try:
            self._engine.call_threadsafe(self._close_dropped)
        except RuntimeError:
            self._dropped.clear()  # the engine has ended; the generator is closed by the interpreter as any other

    def _close_dropped(self) -> None:
        while self._dropped:
            self._close_in_task(self._dropped.popleft())

    def _close_in_task(self, agen: AsyncGeneratorType[Any, Any]) -> None:
        task: Task[None] = Task(self._engine, _close(agen), name="close of async generator", context=copy_context())
        self._engine.spawn_root(task)

    def close_all(self) -> None:
        """Start closing every generator still open; the caller drives until the tasks have ended."""
        self._close_dropped()  # the program may have ended before the engine came round to it
        for agen in list(self._open):
            # One that is over is only not collected yet. When that happens is no affair of the program's, nor of a simulated run.
            if agen.ag_frame is not None:
                self._close_in_task(agen)
        self._open.clear()


async def _close(agen: AsyncGeneratorType[Any, Any]) -> None:
    try:
        await agen.aclose()
    except Exception as error:
        report(
            "unretrieved_error",
            f"async generator {agen.ag_code.co_qualname} failed while being closed: {error!r}",
            (agen.ag_code.co_filename, agen.ag_code.co_firstlineno),
        )
