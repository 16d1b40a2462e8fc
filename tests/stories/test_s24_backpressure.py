"""S24: backpressure. ``write()`` that nobody drains fills the memory; a layer in between forgets to pass the pressure on.

Here writing is awaited, through every layer: a writer whose reader has stopped reading stops too, and loses nothing.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import trustme

import bateau
import bateau.ssl
from bateau import net
from bateau.io import BufStream, duplex, traced

MESSAGE = bytes(64 * 1024)
MESSAGES = 400  # 25 MiB: more than the buffers of any socket take


def sockets() -> tuple[Any, Any]:
    left, right = socket.socketpair()
    return net.from_socket(left), net.from_socket(right)


def tls_over(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("boat.example").configure_cert(server)
    authority.configure_trust(client)
    return (
        bateau.ssl.wrap(pair[0], client, server_hostname="boat.example"),
        bateau.ssl.wrap(pair[1], server, server_side=True),
    )


def all_of_them() -> tuple[Any, Any]:
    inner = tuple(traced(end, lambda event: None) for end in sockets())
    return tuple(BufStream(end) for end in tls_over((inner[0], inner[1])))  # type: ignore[return-value]


LAYERS = {
    "sockets": sockets,
    "memory": duplex,
    "buffers": lambda: tuple(BufStream(end) for end in sockets()),
    "tls": lambda: tls_over(sockets()),
    "all": all_of_them,
}


@pytest.mark.parametrize("layers", LAYERS)
def test_a_writer_stops_with_its_reader(entry: Any, layers: str) -> None:
    async def main() -> None:
        sent = 0

        async def write(stream: Any) -> None:
            nonlocal sent
            for _ in range(MESSAGES):
                await stream.write(MESSAGE)
                sent += 1
            if hasattr(stream, "flush"):
                await stream.flush()
            await stream.aclose()

        async def read(stream: Any) -> int:
            size = 0
            while data := await stream.read(1 << 16):
                size += len(data)
            return size

        writer, reader = LAYERS[layers]()
        async with bateau.scope() as scope:
            scope.spawn(write, writer)
            first = len(await reader.read(1))  # a handshake, where there is one, needs both
            with bateau.move_on_after(0.05):  # nobody reads, for however long that is
                await bateau.time.sleep_forever()
            assert sent < MESSAGES
            assert first + await read(reader) == MESSAGES * len(MESSAGE)
            await reader.aclose()

    entry.run(main)
