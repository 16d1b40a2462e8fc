"""What waiting costs: the memory of a hundred thousand tasks that wait, and of ten thousand connections on which nothing happens.

One operation is one of them. The figure is the growth of the process's resident memory, garbage collected, from before the first to
after the last one, divided by their number; what the kernel holds for a socket is not in it, and is the same for all.

Cases
  idle_task   100k tasks (10k with --quick) in one scope, all waiting for one event. Not on curio, whose spawning is quadratic.
  connection  10k connections (2k with --quick) from a C program (``c/crowd_client.c``), each with a task that waits to read from it,
              served as in ``tcp_echo``.

Where semantics differ
  * asyncio's streams have a reader, a writer, a transport and a protocol for each connection before anything is read.
  * uvloop, rloop and bateau's loop keep part of it outside of Python's allocator; resident memory has it all.
  * The floor is a suspended coroutine; a socket object and its registration with epoll.
"""

from __future__ import annotations

import gc
import select
import socket
import subprocess
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import Any

from .. import limits
from ..model import Case, Measured, Stopwatch, Workload
from ..programs import program, start_load

HOST = "127.0.0.1"
BACKLOG = 4096


class Crowd:
    """Connections that stay open until they are let go."""

    def __init__(self, n: int, clock: Stopwatch) -> None:
        self.count, clock.note = limits.connections(n)
        self._clock = clock
        self._opened = self._closed = 0
        self._before = 0
        self._client: subprocess.Popen[bytes] | None = None

    def start_client(self, port: int) -> None:
        """Start the client. Does not wait."""
        command = (program("crowd_client"), str(port), str(self.count), "0", "1000")
        gc.collect()
        self._clock.start()
        self._before = limits.page_bytes()
        pipe = subprocess.PIPE
        self._client = start_load(*command, stdin=pipe, stdout=pipe)

    def opened(self) -> None:
        """The server waits on one more connection. After the last one the memory is looked at, and the client let go."""
        self._opened += 1
        if self._opened == self.count:
            gc.collect()
            self._clock.memory += limits.page_bytes() - self._before
            self._clock.operations = self.count
            self._clock.stop()
            assert self._client is not None
            assert self._client.stdin is not None
            self._client.stdin.close()

    def closed(self) -> bool:
        """One connection has ended; True for the last one."""
        self._closed += 1
        return self._closed == self.count

    def finish(self) -> None:
        """Raise RuntimeError unless the client is content."""
        assert self._client is not None
        assert self._client.stdout is not None
        said = self._client.stdout.read()
        self._client.stdout.close()
        if status := self._client.wait(timeout=30):
            raise RuntimeError(f"the client failed with status {status}; its message is above")
        assert said == b"open\n", said


def _cases(
    spawn_all: Callable[[int, Callable[[], None]], Awaitable[None]] | None,
    serve: Callable[[Crowd], Coroutine[Any, Any, None]],
) -> Mapping[str, Measured]:
    """``spawn_all(n, look)`` has n tasks wait, calls ``look`` when all do, and lets them end; None: there is no such case."""

    async def idle_task(n: int, clock: Stopwatch) -> None:
        assert spawn_all is not None
        gc.collect()
        before = limits.page_bytes()

        def look() -> None:
            gc.collect()
            clock.memory += limits.page_bytes() - before

        with clock:
            await spawn_all(n, look)

    async def connection(n: int, clock: Stopwatch) -> None:
        crowd = Crowd(n, clock)
        await serve(crowd)
        crowd.finish()

    return {"idle_task": idle_task, "connection": connection}


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def spawn_all(n: int, look: Callable[[], None]) -> None:
        event, waiting = asyncio.Event(), 0

        async def wait() -> None:
            nonlocal waiting
            waiting += 1
            await event.wait()

        async with asyncio.TaskGroup() as group:
            for _ in range(n):
                group.create_task(wait())
            while waiting < n:
                await asyncio.sleep(0)
            look()
            event.set()

    async def serve(crowd: Crowd) -> None:
        done = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asyncio.get_running_loop().call_soon(crowd.opened)
            while await reader.read(4096):
                pass
            writer.close()
            await writer.wait_closed()
            if crowd.closed():
                done.set()

        async with await asyncio.start_server(handle, HOST, 0, backlog=BACKLOG) as server:
            crowd.start_client(server.sockets[0].getsockname()[1])
            await done.wait()

    return _cases(spawn_all, serve)


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def spawn_all(n: int, look: Callable[[], None]) -> None:
        event, waiting = trio.Event(), 0

        async def wait() -> None:
            nonlocal waiting
            waiting += 1
            await event.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(n):
                nursery.start_soon(wait)
            while waiting < n:
                await trio.lowlevel.checkpoint()
            look()
            event.set()

    async def serve(crowd: Crowd) -> None:
        done = trio.Event()

        async def handle(stream: trio.SocketStream) -> None:
            crowd.opened()
            while await stream.receive_some(4096):
                pass
            await stream.aclose()
            if crowd.closed():
                done.set()

        async with trio.open_nursery() as nursery:
            start = partial(trio.serve_tcp, handle, 0, host=HOST, backlog=BACKLOG)
            listeners: list[trio.SocketListener] = await nursery.start(start)
            crowd.start_client(listeners[0].socket.getsockname()[1])
            await done.wait()
            nursery.cancel_scope.cancel()

    return _cases(spawn_all, serve)


def curio_side() -> Mapping[str, Measured]:
    import curio
    from curio.network import run_server

    async def serve(crowd: Crowd) -> None:
        done = curio.Event()

        async def handle(client: curio.io.Socket, address: object) -> None:
            crowd.opened()
            while await client.recv(4096):
                pass
            await client.close()
            if crowd.closed():
                await done.set()

        listener = curio.tcp_server_socket(HOST, 0, backlog=BACKLOG)
        port = listener.getsockname()[1]
        server = await curio.spawn(run_server, listener, handle)
        crowd.start_client(port)
        await done.wait()
        await server.cancel()

    return _cases(None, serve)


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    import anyio.lowlevel
    from anyio.abc import SocketAttribute, SocketStream

    async def spawn_all(n: int, look: Callable[[], None]) -> None:
        event, waiting = anyio.Event(), 0

        async def wait() -> None:
            nonlocal waiting
            waiting += 1
            await event.wait()

        async with anyio.create_task_group() as group:
            for _ in range(n):
                group.start_soon(wait)
            while waiting < n:
                await anyio.lowlevel.checkpoint()
            look()
            event.set()

    async def serve(crowd: Crowd) -> None:
        done = anyio.Event()

        async def handle(stream: SocketStream) -> None:
            crowd.opened()
            async with stream:
                try:
                    await stream.receive(4096)
                except anyio.EndOfStream:
                    pass
            if crowd.closed():
                done.set()

        async with (
            await anyio.create_tcp_listener(local_host=HOST, backlog=BACKLOG) as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, handle)
            crowd.start_client(listener.extra(SocketAttribute.local_port))
            await done.wait()
            group.cancel_scope.cancel()

    return _cases(spawn_all, serve)


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    import bateau.net
    from bateau.sync import Event

    async def spawn_all(n: int, look: Callable[[], None]) -> None:
        event, waiting = Event(), 0

        async def wait() -> None:
            nonlocal waiting
            waiting += 1
            await event.wait()

        async with bateau.scope() as scope:
            for _ in range(n):
                scope.spawn(wait)
            while waiting < n:
                await bateau.yield_now()
            look()
            event.set()

    async def serve(crowd: Crowd) -> None:
        done = Event()

        async def handle(stream: bateau.net.SocketStream) -> None:
            crowd.opened()
            while await stream.read(4096):
                pass
            await stream.aclose()
            if crowd.closed():
                done.set()

        listener = await bateau.net.listen_tcp(HOST, 0, backlog=BACKLOG)
        async with bateau.scope() as scope:
            scope.spawn(bateau.net.serve, handle, listener)
            crowd.start_client(listener.port)
            await done.wait()
            scope.cancel()

    return _cases(spawn_all, serve)


def floor_side() -> Mapping[str, Measured]:
    @types.coroutine
    def give_way() -> Generator[None, None, None]:
        yield

    async def wait() -> None:
        await give_way()

    async def spawn_all(n: int, look: Callable[[], None]) -> None:
        waiting = [wait() for _ in range(n)]
        for coroutine in waiting:
            coroutine.send(None)
        look()
        for coroutine in waiting:
            coroutine.close()

    async def serve(crowd: Crowd) -> None:
        with socket.create_server((HOST, 0), backlog=BACKLOG) as listener, select.epoll() as epoll:
            crowd.start_client(listener.getsockname()[1])
            accepted: list[socket.socket] = []
            for _ in range(crowd.count):
                accepted.append(listener.accept()[0])
                epoll.register(accepted[-1], select.EPOLLIN)
                crowd.opened()
            for sock in accepted:
                assert not sock.recv(1)
                sock.close()
                crowd.closed()

    return _cases(spawn_all, serve)


WORKLOAD = Workload(
    "memory",
    "Bytes of a task and of a connection that wait",
    (
        Case(
            "idle_task",
            "task",
            fixed=100_000,
            fixed_quick=10_000,
            families=("asyncio", "trio", "anyio", "bateau", "floor"),
            busy=False,
            unit="bytes",
            tiny=500,
        ),
        Case(
            "connection",
            "connection",
            fixed=10_000,
            fixed_quick=2_000,
            busy=False,
            unit="bytes",
            tiny=200,
            programs=("crowd_client",),
        ),
    ),
    {
        "asyncio": asyncio_side,
        "trio": trio_side,
        "curio": curio_side,
        "anyio": anyio_side,
        "bateau": bateau_side,
        "floor": floor_side,
    },
)
