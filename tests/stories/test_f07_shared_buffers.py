"""F07: one sans-I/O protocol over buffered interfaces that all runtimes share. Its speed: `python -m benchmarks.buffered`."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau import io, net
from bateau.io import BufReader, BufStream
from support.entries import Entry

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks.buffered import echo, over_asyncio, over_bateau, receive, render

MESSAGES = [("put", b""), ("put", b"x" * 70_000), ("get", b"a\nb\r\n\0"), ("get", bytes(range(256)))]


def sockets() -> tuple[io.AsyncStream, io.AsyncStream]:
    first, second = socket.socketpair()
    return net.from_socket(first), net.from_socket(second)


@pytest.mark.parametrize(
    "make", [sockets, io.duplex, lambda: io.duplex(3)], ids=["sockets", "memory", "3 bytes at a time"]
)
def test_f07_one_protocol_over_any_stream_on_any_runtime(entry: Entry, make: Callable[[], Any]) -> None:
    async def main() -> list[Any]:
        ours, theirs = make()
        got: list[Any] = []
        async with bateau.timeout(30), bateau.scope() as scope, BufStream(ours) as client:
            scope.spawn(echo, theirs)
            for message in MESSAGES:

                async def send(data: bytes = render(message)) -> None:
                    await client.write(data)
                    await client.flush()

                scope.spawn(send)
                got.append(await receive(client))
            await client.write_eof()
            assert await receive(client) is None
        return got

    assert entry.run(main) == MESSAGES


@pytest.mark.law(9)
def test_f07_the_protocol_can_be_cut_off_between_any_two_bytes(entry: Entry) -> None:
    """Reads that were cancelled lose nothing, so the message is whole when it is asked for again from its parts."""

    async def main() -> tuple[bytes, bytes]:
        ours, theirs = io.duplex()
        reader = BufReader(ours)
        data = render(("put", b"body"))

        async def drip() -> None:
            for n in range(len(data)):
                await theirs.write(data[n : n + 1])
                await bateau.time.sleep(0.001)

        async def insist(read: Callable[[], Any]) -> bytes:
            while True:
                with bateau.move_on_after(0.0005):
                    found: bytes = await read()
                    return found

        async with bateau.scope() as scope:
            scope.spawn(drip)
            head = await insist(reader.readline)
            body = await insist(lambda: reader.readexactly(4))
        return head, body

    assert entry.run(main) == (b"put 4\n", b"body")


def test_f07_the_benchmark_runs() -> None:
    assert bateau.run(over_bateau, 64, 10) > 0
    import asyncio

    assert asyncio.run(over_asyncio(64, 10)) > 0
