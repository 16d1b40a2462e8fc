"""One sans-I/O protocol over the shared buffered interfaces, beside the same over asyncio's own streams (story F07).

The protocol knows no I/O: it is a generator that asks for a line or for a number of bytes and gives a message. What differs is who
fetches those: `bateau.io.BufReader`, on any runtime, or `asyncio.StreamReader`, on asyncio's loops only. Both ends are in
one program, over a real socket pair; printed is CPU time per message, there and back, so the numbers are comparable on a busy machine.

    .venv/bin/python -m benchmarks.buffered [--messages 5000] [--size 100] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import time
from collections.abc import Callable, Generator
from importlib.util import find_spec
from typing import Any

import bateau
from bateau import net
from bateau.io import AsyncBufRead, AsyncStream, BufStream

PIPELINE = 16  # messages that are under way at once

Message = tuple[str, bytes]
# An int asks for that many bytes, None for a line.
Parser = Generator[int | None, bytes, Message | None]


def parse() -> Parser:
    """One message (`verb length`, a newline, the body), or None at the end of the stream."""
    head = yield None
    if not head:
        return None
    verb, length = head.split()
    return verb.decode(), (yield int(length))


def render(message: Message) -> bytes:
    verb, body = message
    return b"%s %d\n%s" % (verb.encode(), len(body), body)


async def receive(reader: AsyncBufRead) -> Message | None:
    """The protocol over the shared interface."""
    parser = parse()
    try:
        need = next(parser)
        while True:
            need = parser.send(await reader.readline() if need is None else await reader.readexactly(need))
    except StopIteration as end:
        message: Message | None = end.value
        return message


async def receive_asyncio(reader: asyncio.StreamReader) -> Message | None:
    """The protocol over asyncio's own."""
    parser = parse()
    try:
        need = next(parser)
        while True:
            need = parser.send(await reader.readline() if need is None else await reader.readexactly(need))
    except StopIteration as end:
        message: Message | None = end.value
        return message


async def echo(stream: AsyncStream) -> None:
    """Give back each message until the end."""
    async with BufStream(stream) as buffered:
        while (message := await receive(buffered)) is not None:
            await buffered.write(render(message))
            await buffered.flush()


async def over_bateau(messages: int, size: int) -> float:
    """CPU seconds."""
    first, second = socket.socketpair()
    data = render(("put", bytes(size))) * PIPELINE
    async with bateau.scope() as scope, BufStream(net.from_socket(first)) as client:
        scope.spawn(echo, net.from_socket(second))
        began = time.process_time()
        for _ in range(0, messages, PIPELINE):
            await client.write(data)
            await client.flush()
            for _ in range(PIPELINE):
                await receive(client)
        spent = time.process_time() - began
        await client.write_eof()
    return spent


async def over_asyncio(messages: int, size: int) -> float:
    """CPU seconds, with asyncio's streams throughout."""
    first, second = socket.socketpair()
    data = render(("put", bytes(size))) * PIPELINE

    async def serve() -> None:
        reader, writer = await asyncio.open_connection(sock=second)
        while (message := await receive_asyncio(reader)) is not None:
            writer.write(render(message))
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = asyncio.create_task(serve())
    reader, writer = await asyncio.open_connection(sock=first)
    began = time.process_time()
    for _ in range(0, messages, PIPELINE):
        writer.write(data)
        await writer.drain()
        for _ in range(PIPELINE):
            await receive_asyncio(reader)
    spent = time.process_time() - began
    writer.write_eof()
    await server
    writer.close()
    await writer.wait_closed()
    return spent


def systems() -> dict[str, Callable[[int, int], float]]:
    """Each way to run it that is installed here."""

    def bateau_on(runtime: str) -> Callable[[int, int], float]:
        return lambda messages, size: bateau.run(over_bateau, messages, size, runtime=runtime)

    def plain(loop: Callable[[], Any] | None) -> Callable[[int, int], float]:
        def run(messages: int, size: int) -> float:
            with asyncio.Runner(loop_factory=loop) as runner:
                return runner.run(over_asyncio(messages, size))

        return run

    found = {"bateau on native": bateau_on("native"), "bateau on asyncio": bateau_on("asyncio")}
    found["asyncio.StreamReader"] = plain(None)
    if find_spec("uvloop"):
        import uvloop

        found["bateau on uvloop"] = bateau_on("uvloop")
        found["asyncio.StreamReader on uvloop"] = plain(uvloop.new_event_loop)
    if find_spec("trio"):
        found["bateau on trio"] = bateau_on("trio")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=5000, help="messages in a round")
    parser.add_argument("--size", type=int, default=100, help="bytes in a message's body")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median is printed")
    options = parser.parse_args()
    samples: dict[str, list[float]] = {}
    for _ in range(options.rounds):  # in turns, so that a busy moment hits all of them
        for name, run in systems().items():
            samples.setdefault(name, []).append(run(options.messages, options.size) / options.messages * 1e6)
    base = statistics.median(samples["asyncio.StreamReader"])
    print(f"{'us of CPU per message, there and back':40} {'median':>8} {'best':>8} {'x asyncio':>10}")
    for name, values in samples.items():
        median = statistics.median(values)
        print(f"{name:40} {median:8.2f} {min(values):8.2f} {base / median:10.2f}")


if __name__ == "__main__":
    main()
