"""Calling back into the runtime from a worker thread: for functions that ``thread.run`` started.

The runtime is found through the thread itself. Async code runs in the very task that waits for this thread, under its
scopes and timeouts. From threads that are not bateau's, use ``thread.portal()``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TypeVar, TypeVarTuple

from ..kernel.coroutines import as_coroutine
from ..kernel.current import current_task_or_none
from ..kernel.errors import NotInRuntime
from .jobs import Job, JobCancelled, state

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

__all__ = ["check_cancelled", "run", "run_sync"]


def run(fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts) -> T:
    """Run ``await fn(*args)`` in the task that waits for this worker thread; block until it is done.

    Returns its value or raises its error; ``Cancelled`` if that task is cancelled meanwhile. Raises ``NotInRuntime`` in any
    other thread. It sees this thread's context variables.
    """
    answer: T = _job().ask(lambda: as_coroutine(fn, args))
    return answer


def run_sync(fn: Callable[[*Ts], T], /, *args: *Ts) -> T:
    """Call the sync ``fn(*args)`` on the runtime's thread, in the task that waits for this one; block until it is done.

    For the sync methods of primitives that are not thread-safe. Returns its value or raises its error.
    """
    answer: T = _job().ask(lambda: _only_sync(fn, fn(*args)))
    return answer


def check_cancelled() -> None:
    """Raise ``Cancelled`` if the task that waits for this worker thread was cancelled: let it end the function.

    Returns at once otherwise. Raises ``NotInRuntime`` outside worker threads.
    """
    record = _job().cancelled
    if record is not None:
        raise JobCancelled(record)


def _job() -> Job:
    job = state.job
    if job is None or current_task_or_none() is not None:
        raise NotInRuntime(
            "bateau.thread.from_thread works in the functions that bateau.thread.run started; in async code just await; "
            "from a thread of your own, open `async with bateau.thread.portal() as portal` in the program and give it to the thread"
        )
    return job


def _only_sync(fn: object, value: T) -> T:
    if isinstance(value, CoroutineType):
        value.close()
        raise TypeError(f"{getattr(fn, '__qualname__', fn)!s} is async; use from_thread.run for it, not run_sync")
    return value
