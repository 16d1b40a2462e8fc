"""A session of any engine: runs programs on it one after the other, and ends what is left when it closes."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

from ..kernel.asyncgens import AsyncGens
from ..kernel.current import tls
from ..kernel.direct import close_coroutines
from ..kernel.engine import Engine
from ..kernel.errors import Cancelled, CancelRecord, Deadlock
from ..kernel.hazard import raise_unraisable
from ..kernel.task import Task
from .base import Session

T = TypeVar("T")


class EngineSession(Session):
    """Drives an engine until the program's main task has ended. A deadlock cancels the program, then is raised."""

    def __init__(self, engine: Engine) -> None:
        self.host = engine
        self.engine = engine
        self._pid = os.getpid()
        self.asyncgens = AsyncGens(engine)

    def run(self, root: Callable[[], Coroutine[Any, Any, T]]) -> T:
        engine = self.engine
        if os.getpid() != self._pid:
            raise RuntimeError("this session was opened before fork(); open a new one in the child process")
        task: Task[T] = Task(engine, root(), name="main", context=copy_context())
        engine.spawn_root(task)
        engine.main = task
        outer = tls.running.task
        try:
            with self.asyncgens:
                self._drive(task)
                if not self.keep_leftovers:
                    self._end_foreign_leftovers()
        finally:
            # Also after an exception that a signal's handler raised in the middle of the engine.
            tls.running.task = outer
        if task._error is not None:
            task.error_seen = True
            raise task._error
        value: T = task._value
        return value

    def _drive(self, task: Task[Any]) -> None:
        engine = self.engine
        deadlock: Deadlock | None = None
        while not task.ended:
            try:
                engine.advance()
            except Deadlock as error:
                if deadlock is not None:
                    raise deadlock from None  # its cleanup is stuck as well: there is no way to end it in order
                deadlock = error
                task._cancel(CancelRecord("deadlock", task_name="main", cause=error))
        if deadlock is not None and (task._error is None or isinstance(task._error, Cancelled)):
            raise deadlock

    def _end_foreign_leftovers(self) -> None:
        """Tasks made by foreign ``create_task`` don't outlive the program that made them."""
        engine = self.engine
        aio = engine.aio
        if aio is None or not aio.has_leftovers():
            return
        aio.cancel_leftovers()
        engine.main = None  # nothing of the program's is left to watch for
        while aio.has_leftovers():
            engine.advance()
        aio.report_leftovers()

    def close(self) -> None:
        """Cancel and await what is left outside every scope, then free the loop."""
        engine = self.engine
        if engine._closed or os.getpid() != self._pid:
            return
        try:
            with self.asyncgens:
                self._end_leftovers()
        finally:
            engine.close()

    def _end_leftovers(self) -> None:
        engine = self.engine
        for task in tuple(engine.roots):
            task._cancel(CancelRecord("the program has ended"))
        self._end_foreign_leftovers()
        engine.main = None
        self._end_roots()
        self.asyncgens.close_all()  # after the tasks that use them
        self._end_roots()

    def _end_roots(self) -> None:
        engine = self.engine
        rounds = 0
        while engine.roots:
            engine.main = next(
                iter(engine.roots)
            )  # once it has ended nothing blocks: an abandoned thread may hold the engine
            try:
                engine.advance()
            except Deadlock:
                rounds += 1
                if rounds > 1:
                    return
                for task in tuple(engine.roots):
                    try:
                        close_coroutines(task)
                    except BaseException as error:
                        raise_unraisable(error, f"task {task.name!r} failed while it was closed")
                    task.finish(None, Cancelled())
                    engine.roots.pop(task, None)
