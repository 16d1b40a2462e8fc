"""A TCP echo server under 50 connections with 64-byte messages.

One operation is one message received and sent back by the server over a real loopback socket. The client is a C program
(``echo_client.c``) in a process of its own, on another core where there is one; each connection has one message in flight.
Only the server's CPU time is counted, from its first accepted connection to the end of its last one. Much of it is the
kernel's TCP: see the share of system time in the JSON output.

Cases
  stream    one task per connection, in the form that the authors show first: ``asyncio.start_server``, ``trio.serve_tcp``,
            an anyio listener's ``serve``, ``bateau.net.serve``. Reads of up to 4096 bytes.
  protocol  asyncio and uvloop only: the same server as an ``asyncio.Protocol``, callbacks without tasks. It is not the same
            program for its author (no backpressure here, no ``await``); it shows what asyncio's streams cost.

Where semantics differ
  * asyncio's transports read ahead of the program into a buffer; trio, anyio on trio and bateau read when asked.
  * ``drain`` does not suspend while little is buffered; trio's and anyio's ``send`` go through the scheduler each time.
  * All of them set ``TCP_NODELAY`` (with one message in flight it hardly matters).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import partial
from typing import cast

from ..model import Case, Measured, Stopwatch, Workload

CONNECTIONS = 50
CHUNK = 4096
HOST = "127.0.0.1"

CLIENT_VARIABLE = "BATEAU_BENCH_ECHO_CLIENT"
"""Environment variable with the path of the compiled client; the parent process compiles it once."""
CLIENT_CPU_VARIABLE = "BATEAU_BENCH_ECHO_CLIENT_CPU"
"""The core for the client, or unset."""


class Session:
    """One run of the client against a server: starts it, times its connections, checks its verdict."""

    def __init__(self, n: int, clock: Stopwatch) -> None:
        self._messages = n // CONNECTIONS
        self._clock = clock
        self._opened = self._closed = 0
        self._client: subprocess.Popen[bytes] | None = None

    def start_client(self, port: int) -> None:
        """Start the client; it connects as soon as it runs. Does not wait."""
        command = [os.environ[CLIENT_VARIABLE], str(port), str(CONNECTIONS), str(self._messages)]
        if cpu := os.environ.get(CLIENT_CPU_VARIABLE):
            command.append(cpu)
        self._client = subprocess.Popen(command)

    def opened(self) -> None:
        """The server has accepted a connection. The first one starts the stopwatch."""
        self._opened += 1
        if self._opened == 1:
            self._clock.start()

    def closed(self) -> bool:
        """The server has closed a connection; True for the last one, which stops the stopwatch."""
        self._closed += 1
        if self._closed < CONNECTIONS:
            return False
        self._clock.stop()
        return True

    def finish(self) -> None:
        """Raise RuntimeError unless the client is content. Blocks for the moment it needs to exit."""
        assert self._client is not None
        if status := self._client.wait(timeout=30):
            raise RuntimeError(f"the echo client failed with status {status}; its message is above")


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def stream(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        done = asyncio.Event()

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            session.opened()
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            if session.closed():
                done.set()

        async with await asyncio.start_server(echo, HOST, 0) as server:
            session.start_client(server.sockets[0].getsockname()[1])
            await done.wait()
        session.finish()

    async def protocol(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        done = asyncio.Event()

        class Echo(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                # No isinstance check: uvloop's transports do not derive from asyncio.Transport.
                self.transport = cast("asyncio.Transport", transport)
                session.opened()

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

            def connection_lost(self, exc: Exception | None) -> None:
                if session.closed():
                    done.set()

        loop = asyncio.get_running_loop()
        async with await loop.create_server(Echo, HOST, 0) as server:
            session.start_client(server.sockets[0].getsockname()[1])
            await done.wait()
        session.finish()

    return {"stream": stream, "protocol": protocol}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def stream(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        done = trio.Event()

        async def echo(stream: trio.SocketStream) -> None:
            session.opened()
            while data := await stream.receive_some(CHUNK):
                await stream.send_all(data)
            await stream.aclose()
            if session.closed():
                done.set()

        async with trio.open_nursery() as nursery:
            listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, echo, 0, host=HOST))
            session.start_client(listeners[0].socket.getsockname()[1])
            await done.wait()
            nursery.cancel_scope.cancel()
        session.finish()

    return {"stream": stream}


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    from anyio.abc import SocketAttribute, SocketStream

    async def stream(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        done = anyio.Event()

        async def echo(stream: SocketStream) -> None:
            session.opened()
            async with stream:
                while True:
                    try:
                        data = await stream.receive(CHUNK)
                    except anyio.EndOfStream:
                        break
                    await stream.send(data)
            if session.closed():
                done.set()

        async with await anyio.create_tcp_listener(local_host=HOST) as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            session.start_client(listener.extra(SocketAttribute.local_port))
            await done.wait()
            group.cancel_scope.cancel()
        session.finish()

    return {"stream": stream}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    import bateau.net
    from bateau.sync import Event

    async def stream(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        done = Event()

        async def echo(stream: bateau.net.SocketStream) -> None:
            session.opened()
            while data := await stream.read(CHUNK):
                await stream.write(data)
            await stream.aclose()
            if session.closed():
                done.set()

        listener = await bateau.net.listen_tcp(HOST, 0)
        async with bateau.scope() as scope:
            scope.spawn(bateau.net.serve, echo, listener)
            session.start_client(listener.port)
            await done.wait()
            scope.cancel()
        session.finish()

    return {"stream": stream}


WORKLOAD = Workload(
    "tcp_echo",
    "TCP echo server, 50 connections, 64-byte messages",
    (
        Case("stream", "message", multiple=CONNECTIONS, busy=False),
        Case("protocol", "message", multiple=CONNECTIONS, families=("asyncio",), busy=False),
    ),
    {"asyncio": asyncio_side, "trio": trio_side, "anyio": anyio_side, "bateau": bateau_side},
)
