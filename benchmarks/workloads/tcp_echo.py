"""A TCP echo server under 1, 50 and 1,000 connections with messages of 64 bytes and 16 KiB.

One operation is one message received and sent back by the server over a real loopback socket. The client is a C program
(``c/echo_client.c``) in a process of its own, on another core where there is one; each connection has one message in flight.
Only the server's CPU time is counted, from the moment at which all connections are accepted to the end of the first one, which
comes after the last message. Much of it is the kernel's TCP: see the share of system time in the JSON output.

Cases
  stream_CxS    one task per connection, in the form that the authors show first: ``asyncio.start_server``, ``trio.serve_tcp``,
                ``curio.run_server``, an anyio listener's ``serve``, ``bateau.net.serve``. C connections, messages of S bytes. Reads of
                up to 4096 bytes where messages have 64, of up to 65,536 where they have 16,384.
  protocol_CxS  loops of asyncio only: the same server as an ``asyncio.Protocol``, callbacks without tasks. It is not the same
                program for its author (no backpressure here, no ``await``); it shows what asyncio's streams cost.

Where semantics differ
  * asyncio's transports read ahead of the program into a buffer; trio, curio, anyio on trio and bateau read when asked.
  * ``drain`` does not suspend while little is buffered; trio's and anyio's ``send`` go through the scheduler each time.
  * All of them set ``TCP_NODELAY`` (with one message in flight it hardly matters) and have a backlog of 4,096.
  * The floor is a server in C (``c/echo_server.c``): one epoll, one buffer, no tasks.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from ..model import Case, Measured, Stopwatch, Workload
from ..programs import program, start_load

HOST = "127.0.0.1"
BACKLOG = 4096
LEFT_OPEN = 3
"""The client's status if all came back, but the server did not close its side."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many connections, and how long a message is."""

    connections: int
    size: int
    protocol: bool
    """Whether callbacks are measured in this shape too."""

    @property
    def name(self) -> str:
        return f"{self.connections}x{'64B' if self.size == 64 else '16K'}"

    @property
    def chunk(self) -> int:
        """The most that a server reads at once."""
        return max(4096, 4 * self.size)


SHAPES = tuple(Shape(count, size, count == 50 or size == 64) for size in (64, 16_384) for count in (1, 50, 1000))


class Session:
    """One run of the client against a server: starts it, times its messages, checks its verdict."""

    def __init__(self, shape: Shape, n: int, clock: Stopwatch) -> None:
        self.connections = min(shape.connections, n)
        self.chunk = shape.chunk
        self._size = shape.size
        self._messages = n // self.connections
        self._clock = clock
        self._opened = self._closed = 0
        self._client: subprocess.Popen[bytes] | None = None

    def start_client(self, port: int) -> None:
        """Start the client; it connects as soon as it runs. Does not wait."""
        numbers = (port, self.connections, self._messages, self._size)
        self._client = start_load(program("echo_client"), *map(str, numbers))

    def opened(self) -> None:
        """The server has accepted a connection. The last one starts the stopwatch; the first one only warms the server."""
        self._opened += 1
        if self._opened == self.connections + 1:
            self._clock.start()

    def closed(self) -> bool:
        """The server has closed a connection; the first one after the warming one stops the stopwatch. True for the last."""
        self._closed += 1
        if self._closed == 2:
            self._clock.stop()
        return self._closed == self.connections + 1

    def finish(self) -> None:
        """Raise RuntimeError unless the client is content. Blocks for the moment it needs to exit."""
        assert self._client is not None
        status = self._client.wait(timeout=30)
        if status == LEFT_OPEN:
            self._clock.note = "leaves sockets open after their end"
        elif status:
            raise RuntimeError(f"the echo client failed with status {status}; its message is above")


Serve = Callable[[Session], Coroutine[Any, Any, None]]


def _cases(stream: Serve, protocol: Serve | None = None) -> Mapping[str, Measured]:
    """The servers of one side in every shape."""

    async def run(serve: Serve, shape: Shape, n: int, clock: Stopwatch) -> None:
        session = Session(shape, n, clock)
        await serve(session)
        session.finish()

    cases = {f"stream_{shape.name}": partial(run, stream, shape) for shape in SHAPES}
    if protocol is not None:
        cases.update({f"protocol_{shape.name}": partial(run, protocol, shape) for shape in SHAPES if shape.protocol})
    return cases


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def stream(session: Session) -> None:
        done = asyncio.Event()

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            session.opened()
            while data := await reader.read(session.chunk):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            if session.closed():
                done.set()

        async with await asyncio.start_server(echo, HOST, 0, backlog=BACKLOG) as server:
            session.start_client(server.sockets[0].getsockname()[1])
            await done.wait()

    async def protocol(session: Session) -> None:
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
        async with await loop.create_server(Echo, HOST, 0, backlog=BACKLOG) as server:
            session.start_client(server.sockets[0].getsockname()[1])
            await done.wait()

    return _cases(stream, protocol)


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def stream(session: Session) -> None:
        done = trio.Event()

        async def echo(stream: trio.SocketStream) -> None:
            session.opened()
            while data := await stream.receive_some(session.chunk):
                await stream.send_all(data)
            await stream.aclose()
            if session.closed():
                done.set()

        async with trio.open_nursery() as nursery:
            listeners: list[trio.SocketListener] = await nursery.start(
                partial(trio.serve_tcp, echo, 0, host=HOST, backlog=BACKLOG)
            )
            session.start_client(listeners[0].socket.getsockname()[1])
            await done.wait()
            nursery.cancel_scope.cancel()

    return _cases(stream)


def curio_side() -> Mapping[str, Measured]:
    import curio
    from curio.network import run_server

    async def stream(session: Session) -> None:
        done = curio.Event()

        async def echo(client: curio.io.Socket, address: object) -> None:
            session.opened()
            while data := await client.recv(session.chunk):
                await client.sendall(data)
            await client.close()
            if session.closed():
                await done.set()

        listener = curio.tcp_server_socket(HOST, 0, backlog=BACKLOG)
        port = listener.getsockname()[1]
        server = await curio.spawn(run_server, listener, echo)
        session.start_client(port)
        await done.wait()
        await server.cancel()

    return _cases(stream)


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    from anyio.abc import SocketAttribute, SocketStream

    async def stream(session: Session) -> None:
        done = anyio.Event()

        async def echo(stream: SocketStream) -> None:
            session.opened()
            async with stream:
                while True:
                    try:
                        data = await stream.receive(session.chunk)
                    except anyio.EndOfStream:
                        break
                    await stream.send(data)
            if session.closed():
                done.set()

        async with (
            await anyio.create_tcp_listener(local_host=HOST, backlog=BACKLOG) as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, echo)
            session.start_client(listener.extra(SocketAttribute.local_port))
            await done.wait()
            group.cancel_scope.cancel()

    return _cases(stream)


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    import bateau.net
    from bateau.sync import Event

    async def stream(session: Session) -> None:
        done = Event()

        async def echo(stream: bateau.net.SocketStream) -> None:
            session.opened()
            while data := await stream.read(session.chunk):
                await stream.write(data)
            await stream.aclose()
            if session.closed():
                done.set()

        listener = await bateau.net.listen_tcp(HOST, 0, backlog=BACKLOG)
        async with bateau.scope() as scope:
            scope.spawn(bateau.net.serve, echo, listener)
            session.start_client(listener.port)
            await done.wait()
            scope.cancel()

    return _cases(stream)


def floor_side() -> Mapping[str, Measured]:
    async def run(shape: Shape, n: int, clock: Stopwatch) -> None:
        session = Session(shape, n, clock)
        command = [program("echo_server"), "tcp", str(session.connections), str(session.chunk)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            session.start_client(int(server.stdout.readline()))
            session.finish()
            clock.add(*map(float, server.stdout.readline().split()))

    cases = {f"stream_{shape.name}": partial(run, shape) for shape in SHAPES}
    return cases | {f"protocol_{shape.name}": partial(run, shape) for shape in SHAPES if shape.protocol}


def _case(name: str, shape: Shape, families: tuple[str, ...] | None) -> Case:
    programs = ("echo_client", "echo_server")
    return Case(
        f"{name}_{shape.name}",
        "message",
        multiple=shape.connections,
        families=families,
        busy=False,
        tiny=min(20, shape.connections * 2),
        programs=programs,
    )


WORKLOAD = Workload(
    "tcp_echo",
    "TCP echo server",
    (
        *(_case("stream", shape, None) for shape in SHAPES),
        *(_case("protocol", shape, ("asyncio", "floor")) for shape in SHAPES if shape.protocol),
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
