"""Connections made and ended, one after another, each with one byte there and back: what a server pays for one, and a client.

The other end is a C program (``c/connections.c``) in a process of its own, on another core where there is one. Only the measured side's
CPU time is counted, without its first connection. Most of it is the kernel's: a connection on loopback is some ten system calls.

Cases
  accept   a server in the form that the authors show first (``asyncio.start_server``, ``trio.serve_tcp``, ``bateau.net.serve``): each
           connection is accepted, gets a task and a stream, reads, writes, and is closed by the server.
  connect  a client that connects to ``127.0.0.1`` (no name to resolve), writes, reads, and closes.

Where semantics differ
  * asyncio's client and server make a reader, a writer and a protocol of each connection; its transports register the socket at once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from ..model import Case, Measured, Stopwatch, Workload
from ..programs import program, start_load

HOST = "127.0.0.1"
LEFT_OPEN = 3
"""The C program's status if all came, but the measured side did not close its sockets."""


def judge(status: int, clock: Stopwatch) -> None:
    """Note what the other end has to complain of, or raise RuntimeError."""
    if status == LEFT_OPEN:
        clock.note = "leaves sockets open after their end"
    elif status:
        raise RuntimeError(f"the other end failed with status {status}; its message is above")


class Session:
    """One run of a measured server against the C client."""

    def __init__(self, n: int, clock: Stopwatch) -> None:
        self._n = n + 1
        self._clock = clock
        self._ended = 0
        self._client: subprocess.Popen[bytes] | None = None

    def start_client(self, port: int) -> None:
        """Start the client. Does not wait."""
        self._client = start_load(program("connections"), "client", str(port), str(self._n))

    def closed(self) -> bool:
        """The server has closed a connection: the first starts the stopwatch, the last stops it. True for the last."""
        self._ended += 1
        if self._ended == 1:
            self._clock.start()
        if self._ended == self._n:
            self._clock.stop()
        return self._ended == self._n

    def finish(self) -> None:
        """Raise RuntimeError unless the client is content. Blocks for the moment it needs to exit."""
        assert self._client is not None
        judge(self._client.wait(timeout=30), self._clock)


Serve = Callable[[Session], Coroutine[Any, Any, None]]
Connect = Callable[[int], Coroutine[Any, Any, None]]


def _cases(serve: Serve, connect: Connect) -> Mapping[str, Measured]:
    async def accepting(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        await serve(session)
        session.finish()

    async def connecting(n: int, clock: Stopwatch) -> None:
        with start_load(program("connections"), "server", str(n + 1), stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            await connect(port)
            with clock:
                for _ in range(n):
                    await connect(port)
            judge(server.wait(timeout=30), clock)

    return {"accept": accepting, "connect": connecting}


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def serve(session: Session) -> None:
        done = asyncio.Event()

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(1))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            if session.closed():
                done.set()

        async with await asyncio.start_server(once, HOST, 0) as server:
            session.start_client(server.sockets[0].getsockname()[1])
            await done.wait()

    async def connect(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"x")
        await writer.drain()
        assert await reader.read(1) == b"x"
        writer.close()
        await writer.wait_closed()

    return _cases(serve, connect)


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def serve(session: Session) -> None:
        done = trio.Event()

        async def once(stream: trio.SocketStream) -> None:
            async with stream:
                await stream.send_all(await stream.receive_some(1))
            if session.closed():
                done.set()

        async with trio.open_nursery() as nursery:
            listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, once, 0, host=HOST))
            session.start_client(listeners[0].socket.getsockname()[1])
            await done.wait()
            nursery.cancel_scope.cancel()

    async def connect(port: int) -> None:
        async with await trio.open_tcp_stream(HOST, port) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some(1) == b"x"

    return _cases(serve, connect)


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    import bateau.net
    from bateau.sync import Event

    async def serve(session: Session) -> None:
        done = Event()

        async def once(stream: bateau.net.SocketStream) -> None:
            await stream.write(await stream.read(1))
            stream.close()
            if session.closed():
                done.set()

        listener = await bateau.net.listen_tcp(HOST, 0)
        async with bateau.scope() as scope:
            scope.spawn(bateau.net.serve, once, listener)
            session.start_client(listener.port)
            await done.wait()
            scope.cancel()

    async def connect(port: int) -> None:
        async with await bateau.net.connect_tcp(HOST, port) as stream:
            await stream.write(b"x")
            assert await stream.read(1) == b"x"

    return _cases(serve, connect)


WORKLOAD = Workload(
    "connections",
    "Connections made and ended, one byte each",
    tuple(Case(name, "connection", busy=False, tiny=5, programs=("connections",)) for name in ("accept", "connect")),
    {"asyncio": asyncio_side, "trio": trio_side, "bateau": bateau_side},
)
