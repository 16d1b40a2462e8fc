"""What one worker process does: accept, run a task per connection, stop when told, and when its supervisor is gone."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from .. import signal as signals
from ..io.fd import FdWatch
from ..kernel.errors import WouldBlock
from ..kernel.scope import Scope
from ..net._listener import Listener, _log_error
from ..net._stream import SocketStream
from ..net.unix import UnixStream
from ..runtimes.base import Runtime


@dataclass(frozen=True)
class Job:
    """What every worker is to do. ``load`` is called in the worker."""

    load: Callable[[], Callable[[Any], Awaitable[object]]]
    runtime: Runtime
    grace: float
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None
    limit: int | None


def work(job: Job, socks: list[socket.socket], ready: int, life: int) -> None:
    """Be a worker, in the forked child: returns once it has been stopped.

    ``ready`` is written to when it accepts. ``life`` is a pipe whose other end is the supervisor's alone: its end is the supervisor's.
    SIGTERM is blocked on entry, so that none is lost before there is somebody to hear it.
    """
    handler = job.load()
    job.runtime.run(_main, job, handler, socks, ready, life)


async def _main(
    job: Job, handler: Callable[[Any], Awaitable[object]], socks: list[socket.socket], ready: int, life: int
) -> None:
    with signals.open(signal.SIGTERM) as told:
        async with _lifespan(job), Scope(name="worker") as scope:
            if hasattr(signal, "pthread_sigmask"):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            scope.spawn(_hear, scope, told, job.grace, background=True)
            scope.spawn(_outlived, scope, life, job.grace, background=True)
            for unix in (False, True):
                if found := [sock for sock in socks if (sock.family == socket.AF_UNIX) is unix]:
                    scope.spawn(_accept, scope, _listener(found, unix, job.limit), handler)
            os.write(ready, b"R")
            os.close(ready)
    if scope.cancelled_caught:
        logging.getLogger("bateau.serve").warning(
            "worker %d: connections were still open %g s after it was asked to stop, and were cancelled",
            os.getpid(),
            job.grace,
        )


@asynccontextmanager
async def _lifespan(job: Job) -> AsyncGenerator[None]:
    if job.lifespan is None:
        yield
    else:
        async with job.lifespan():
            yield


def _listener(socks: list[socket.socket], unix: bool, limit: int | None) -> Listener:
    return Listener(socks, stream_type=UnixStream if unix else SocketStream, limit=limit, nodelay=not unix)


async def _accept(scope: Scope, listener: Listener, handler: Callable[[Any], Awaitable[object]]) -> None:
    async with listener:
        async for stream in listener:
            scope.spawn(_handle, stream, handler)
        while True:  # asked to stop: who stands in the queue was promised a server by the system
            try:
                stream = listener.try_accept()
            except WouldBlock:
                return
            scope.spawn(_handle, stream, handler)


async def _handle(stream: SocketStream, handler: Callable[[Any], Awaitable[object]]) -> None:
    async with stream:
        try:
            await handler(stream)
        except Exception as error:
            _log_error(error, stream)


async def _hear(scope: Scope, told: signals.SignalStream, grace: float) -> None:
    """The first SIGTERM asks, the second cancels."""
    await told.wait()
    scope.stop(grace, "SIGTERM")
    await told.wait()
    scope.cancel("SIGTERM, twice")


async def _outlived(scope: Scope, life: int, grace: float) -> None:
    """A worker without a supervisor stops: nobody could tell it to later."""
    watch = FdWatch(life, label="the supervisor's end")
    try:
        await watch.readable()
        scope.stop(grace, "the supervisor is gone")
    finally:
        watch.close()
