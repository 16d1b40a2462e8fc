"""One sans-I/O protocol over the shared buffered interfaces, beside the same over asyncio's own streams (story F07).

The protocol knows no I/O: it is a generator that asks for a line or for a number of bytes and gives a message. What differs is who
fetches those: `bateau.io.BufReader`, on any runtime, or `asyncio.StreamReader`, on asyncio's loops only. Both ends are in
one program, over a real socket pair; printed is CPU time per message, there and back, so the numbers are comparable on a busy machine.
Beside it: what it costs to read a short line or record that is in the buffer already.

    .venv/bin/python -m benchmarks.buffered [--messages 5000] [--size 100] [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import bateau
from bateau import net
from bateau.io import AsyncBufRead, AsyncStream, BufReader, BufStream, duplex

if TYPE_CHECKING:
    import asyncio  # elsewhere only where it is used: a native loop that must serve asyncio too pays for it

PIPELINE = 16  # messages that are under way at once
READ_SIZE = 20  # bytes of a line, or of a record, that is in the buffer already
READS = ("readline", "readexactly")
ROWS = {
    "message": "message, there and back",
    "readline": "readline, buffered",
    "readexactly": "readexactly, buffered",
}

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
    import asyncio

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


async def ready_bateau(count: int, size: int) -> dict[str, float]:
    """CPU seconds of `count` reads of what is in the buffer already: the reader's own cost, without any I/O."""
    lines = (bytes(size - 1).replace(b"\0", b"x") + b"\n") * count
    spent: dict[str, float] = {}
    for name in READS:
        near, far = duplex(len(lines) + 1)
        reader = BufReader(near, len(lines) + 1)
        await far.write(lines)
        await reader.peek(len(lines))
        began = time.process_time()
        if name == "readline":
            for _ in range(count):
                await reader.readline()
        else:
            for _ in range(count):
                await reader.readexactly(size)
        spent[name] = time.process_time() - began
    return spent


async def ready_asyncio(count: int, size: int) -> dict[str, float]:
    """The same with asyncio's."""
    import asyncio

    lines = (bytes(size - 1).replace(b"\0", b"x") + b"\n") * count
    spent: dict[str, float] = {}
    for name in READS:
        reader = asyncio.StreamReader(limit=len(lines) + 1)
        reader.feed_data(lines)
        began = time.process_time()
        if name == "readline":
            for _ in range(count):
                await reader.readline()
        else:
            for _ in range(count):
                await reader.readexactly(size)
        spent[name] = time.process_time() - began
    return spent


def measure(system: str, messages: int, size: int) -> dict[str, float]:
    """Microseconds of CPU per operation, by row, for one system in this process. The first, shorter turn is not counted."""
    library, _, loop = system.partition(" on ")
    found: dict[str, float] = {}
    for count in (messages // 5, messages):
        if library == "bateau":
            exchanged = bateau.run(over_bateau, count, size, runtime=loop)
            ready = bateau.run(ready_bateau, count, READ_SIZE, runtime=loop)
        else:
            import asyncio

            factory = None
            if loop == "uvloop":
                import uvloop

                factory = uvloop.new_event_loop
            with asyncio.Runner(loop_factory=factory) as runner:
                exchanged = runner.run(over_asyncio(count, size))
                ready = runner.run(ready_asyncio(count, READ_SIZE))
        found = {"message": exchanged / count * 1e6, **{name: ready[name] / count * 1e6 for name in READS}}
    return found


def installed() -> list[str]:
    """Each way to run it here; the first is what the others are compared with."""
    found = ["asyncio.StreamReader on asyncio", "bateau on native", "bateau on asyncio"]
    if find_spec("uvloop"):
        found += ["asyncio.StreamReader on uvloop", "bateau on uvloop"]
    if find_spec("trio"):
        found.append("bateau on trio")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=5000, help="messages in a round, and reads of what is buffered")
    parser.add_argument("--size", type=int, default=100, help="bytes in a message's body")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; medians are printed")
    parser.add_argument("--one", choices=installed(), help="measure only this, in this process, and print it as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.messages, options.size)))
        return
    systems = installed()
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    for number in range(options.rounds):
        # In turns that rotate, so that a busy moment of the machine hits all of them; each in a fresh process, so that none pays
        # for what another has imported or left to the garbage collector.
        turn = number % len(systems)
        for name in systems[turn:] + systems[:turn]:
            command = [sys.executable, "-m", "benchmarks.buffered", "--one", name]
            command += ["--messages", str(options.messages), "--size", str(options.size)]
            samples[name].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    base = samples[systems[0]]
    print("us of CPU (median), and its ratio to the first row's of the same round (median; below 1 is faster)")
    print(f"{'':34}" + "".join(f"{title:>30}" for title in ROWS.values()))
    for name, rounds in samples.items():
        line = f"{name:34}"
        for row in ROWS:
            middle = statistics.median(one[row] for one in rounds)
            ratio = statistics.median(one[row] / other[row] for one, other in zip(rounds, base, strict=True))
            line += f"{middle:22.2f}{ratio:8.2f}"
        print(line)


if __name__ == "__main__":
    main()
