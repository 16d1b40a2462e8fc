"""Worker threads: sync functions that block, run beside the tasks; and the ways back from any thread.

``await thread.run(fn, *args)`` runs a function in a worker thread. Inside it, ``thread.from_thread`` calls back into the
runtime. ``thread.portal()`` is an explicit handle for threads that are not bateau's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, TypeVarTuple

from ..kernel.current import current_host
from . import from_thread as from_thread
from .from_thread import check_cancelled as check_cancelled
from .futures import CallbackFuture as CallbackFuture
from .futures import as_future as as_future
from .futures import wrap_future as wrap_future
from .jobs import ThreadRun
from .portals import Portal as Portal
from .portals import portal as portal
from .portals import start_portal as start_portal
from .workers import DEFAULT_LIMIT as DEFAULT_LIMIT
from .workers import Permit, workers_of
from .workers import Workers as Workers

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

__all__ = [
    "DEFAULT_LIMIT",
    "CallbackFuture",
    "Portal",
    "Workers",
    "as_future",
    "check_cancelled",
    "from_thread",
    "portal",
    "run",
    "start_portal",
    "workers",
    "wrap_future",
]


async def run(
    fn: Callable[[*Ts], T],
    /,
    *args: *Ts,
    limiter: AbstractAsyncContextManager[Any] | None = None,
    abandon_on_cancel: bool = False,
) -> T:
    """Run the sync ``fn(*args)`` on a worker thread and return its value, or raise its error.

    At most ``workers().limit`` functions of one run have a thread at once, others queue; with ``limiter`` (a
    ``bateau.sync.Limiter``, or anything else for ``async with``) that one counts instead. The thread sees a copy of the caller's
    context variables. A function that waits in ``from_thread.run`` does not count, so nesting can't exhaust the threads:
    its limiter is left meanwhile, and entered again before the function goes on.

    A cancellation point. Cancelled before a thread has it, the function is not run. Afterwards it can't be killed: it is
    told (``check_cancelled()`` raises in it) and awaited; if it returns all the same, its value is returned, and the
    cancellation comes at the next wait. With ``abandon_on_cancel=True`` the wait ends at once instead and the function
    goes on alone: its value is dropped, its error reported as the hazard ``unretrieved_error``.
    """
    if not callable(fn):
        raise TypeError(f"thread.run needs a function, not {type(fn).__name__}; pass fn and its arguments separately")
    label = getattr(fn, "__qualname__", None) or repr(fn)

    def call() -> T:
        return fn(*args)

    if limiter is None:
        return await ThreadRun(call, label, abandon_on_cancel=abandon_on_cancel, counted=True)
    async with Permit(limiter) as permit:
        return await ThreadRun(call, label, abandon_on_cancel=abandon_on_cancel, counted=False, permit=permit)


def workers() -> Workers:
    """The worker threads of the current run: ``limit`` (changed by ``set_limit``), ``running``, ``queued``."""
    return workers_of(current_host())
