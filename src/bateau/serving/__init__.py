"""Serving on every core: ``bateau.serve(handle, bind=..., workers=4)``. One Python loop uses one core, so there is a process for each.

Theory of operation. A supervisor, which runs no loop, opens the listening sockets and forks the workers; each worker runs a program of
its own. For TCP each worker has a socket of its own on the one port (``SO_REUSEPORT``), so that the kernel spreads the connections
and no worker wakes for another's. The supervisor keeps all of them open: connections that wait to be accepted outlive the worker that
dies, and its successor takes them. A Unix socket is shared by all workers.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from ..kernel.cancellation import check_seconds
from ..kernel.policy import Supervise
from ..runtimes import registry
from ..runtimes.base import Runtime
from .errors import WorkersFailed as WorkersFailed
from .worker import Job

__all__ = ["WorkersFailed", "serve"]

Handler = Callable[[Any], Awaitable[object]]


def serve(
    handler: Handler,
    /,
    *,
    bind: str | Sequence[str] = "127.0.0.1:8000",
    workers: int | None = None,
    runtime: str | Runtime | None = None,
    grace: float = 10.0,
    policy: Supervise | None = None,
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    limit: int | None = None,
    backlog: int = 1024,
    on_ready: Callable[[list[str]], object] | None = None,
) -> None:
    """Run ``await handler(stream)`` for each connection, in ``workers`` processes (by default one per core); returns once stopped.

    ``bind``: ``"host:port"`` (``":port"`` for every address of the machine, port 0 for a free one) or ``"unix:/path"``, or several.
    ``lifespan``: an async context manager around each worker's work; it is ready when that is entered. ``limit``: connections open
    at once in one worker. ``on_ready(addresses)`` is called in this process once every worker accepts.

    SIGTERM or Ctrl-C stops: no worker accepts any more, those that wait already are served, ``bateau.stopping()`` turns true, and what
    runs after ``grace`` seconds is cancelled; a second one cancels at once. SIGHUP replaces the workers one after the other. A worker
    that ends by itself is started again, within the limits of ``policy`` (``Supervise``: 3 times in a minute); the others don't
    notice. Blocks this thread, which must be the main one. Raises ``WorkersFailed`` when the limit is reached, or one fails before it was
    ready the first time; ``OSError`` where an address can't be had; ``NestedRun`` inside a program.
    """
    if not callable(handler):
        raise TypeError(f"serve needs an async function of one stream, not {type(handler).__name__}")
    start(
        lambda: handler,
        bind=bind,
        workers=workers,
        runtime=runtime,
        grace=grace,
        policy=policy,
        lifespan=lifespan,
        limit=limit,
        backlog=backlog,
        on_ready=on_ready,
    )


def start(
    load: Callable[[], Handler],
    *,
    bind: str | Sequence[str],
    workers: int | None,
    runtime: str | Runtime | None,
    grace: float,
    policy: Supervise | None = None,
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    limit: int | None = None,
    backlog: int = 1024,
    on_ready: Callable[[list[str]], object] | None = None,
) -> None:
    """``serve``, with a handler that each worker loads by itself: so that a new worker has new code."""
    from .sockets import open_all
    from .supervisor import Supervisor

    count = workers if workers is not None else cores()
    given: Any = count  # users are not type-checked
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError(f"workers must be a whole number of processes, 1 or more, not {workers!r}")
    if check_seconds(grace, "grace") is None:
        raise TypeError("grace must be a number of seconds, after which what still runs is cancelled")
    chosen = registry.get(runtime)
    chosen.check_not_running()
    job = Job(load=load, runtime=chosen, grace=grace, lifespan=lifespan, limit=limit)
    targets = [bind] if isinstance(bind, str) else list(bind)
    with open_all(targets, count, backlog) as opened:
        Supervisor(job, opened, policy if policy is not None else Supervise(), on_ready).run()


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
