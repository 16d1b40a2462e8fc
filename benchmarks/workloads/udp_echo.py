"""A UDP echo server for 50 clients with datagrams of 64 bytes.

One operation is one datagram received and sent back by the server over the loopback. The client is a C program
(``c/udp_client.c``) with 50 sockets, each with one datagram in flight. Only the server's CPU time is counted, from the first
datagram, which warms the server, to the last one.

Cases
  datagram  one task that receives and answers, on asyncio a ``DatagramProtocol``: it has nothing else.

Where semantics differ
  * asyncio calls the program for each datagram, without a task. The others wait for one in a task, so that it can wait for
    something else in between, and further datagrams then wait in the system's buffer instead of the program's.
  * The floor is a server in C (``c/echo_server.c``).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import cast

from ..model import Case, Measured, Stopwatch, Workload
from ..programs import program, start_load

HOST = "127.0.0.1"
SOCKETS = 50


class Session:
    """One run of the client: starts it, counts datagrams, checks its verdict."""

    def __init__(self, n: int, clock: Stopwatch) -> None:
        self.sockets = min(SOCKETS, n)
        self._each = n // self.sockets
        self._left = self._each * self.sockets + 1
        self._clock = clock
        self._client: subprocess.Popen[bytes] | None = None

    @property
    def datagrams(self) -> int:
        """How many the client sends, besides the one that warms the server."""
        return self._each * self.sockets

    def start_client(self, port: int) -> None:
        """Start the client. Does not wait."""
        self._client = start_load(program("udp_client"), str(port), str(self.sockets), str(self._each))

    def answered(self) -> bool:
        """The server has answered one datagram; True for the last one. The first one starts the stopwatch."""
        self._left -= 1
        if not self._left:
            self._clock.stop()
            return True
        if self._left == self.datagrams:
            self._clock.start()
        return False

    def finish(self) -> None:
        """Raise RuntimeError unless the client is content."""
        assert self._client is not None
        if status := self._client.wait(timeout=30):
            raise RuntimeError(f"the UDP client failed with status {status}; its message is above")


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def datagram(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        done = asyncio.Event()

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = cast("asyncio.DatagramTransport", transport)

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                self.transport.sendto(data, addr)
                if session.answered():
                    done.set()

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=(HOST, 0))
        session.start_client(transport.get_extra_info("sockname")[1])
        await done.wait()
        transport.close()
        session.finish()

    return {"datagram": datagram}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def datagram(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            await sock.bind((HOST, 0))
            session.start_client(sock.getsockname()[1])
            while True:
                data, address = await sock.recvfrom(2048)
                await sock.sendto(data, address)
                if session.answered():
                    break
        session.finish()

    return {"datagram": datagram}


def curio_side() -> Mapping[str, Measured]:
    import curio
    from curio import socket

    async def datagram(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        sock: curio.io.Socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        async with sock:
            session.start_client(sock.getsockname()[1])
            while True:
                data, address = await sock.recvfrom(2048)
                await sock.sendto(data, address)
                if session.answered():
                    break
        session.finish()

    return {"datagram": datagram}


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    from anyio.abc import SocketAttribute

    async def datagram(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        async with await anyio.create_udp_socket(local_host=HOST) as udp:
            session.start_client(udp.extra(SocketAttribute.local_port))
            async for packet, (host, port) in udp:
                await udp.sendto(packet, host, port)
                if session.answered():
                    break
        session.finish()

    return {"datagram": datagram}


def bateau_side() -> Mapping[str, Measured]:
    import bateau.net

    async def datagram(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        async with await bateau.net.udp((HOST, 0)) as sock:
            session.start_client(sock.getsockname()[1])
            async for data, address in sock:
                await sock.sendto(data, address)
                if session.answered():
                    break
        session.finish()

    return {"datagram": datagram}


def floor_side() -> Mapping[str, Measured]:
    async def datagram(n: int, clock: Stopwatch) -> None:
        session = Session(n, clock)
        command = [program("echo_server"), "udp", str(session.datagrams)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            session.start_client(int(server.stdout.readline()))
            session.finish()
            clock.add(*map(float, server.stdout.readline().split()))

    return {"datagram": datagram}


WORKLOAD = Workload(
    "udp_echo",
    "UDP echo server, 50 clients, 64-byte datagrams",
    (Case("datagram", "datagram", multiple=SOCKETS, busy=False, tiny=20, programs=("udp_client", "echo_server")),),
    {
        "asyncio": asyncio_side,
        "trio": trio_side,
        "curio": curio_side,
        "anyio": anyio_side,
        "bateau": bateau_side,
        "floor": floor_side,
    },
)
