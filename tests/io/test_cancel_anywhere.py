"""Cancellation at random moments, over every kind of layer: no byte is lost, no frame is torn (laws 9 and 11)."""

from __future__ import annotations

import random
import ssl
import struct

import pytest
import trustme

import bateau
import bateau.ssl
from bateau.io import BufReader, BufStream, BufWriter, TextReader, duplex, split, traced

HOST = "boat.example"


@pytest.fixture(scope="module")
def tls():
    ca = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(HOST).configure_cert(server_context)
    client_context = ssl.create_default_context()
    ca.configure_trust(client_context)

    def make(pair):
        client = bateau.ssl.wrap(pair[0], client_context, server_hostname=HOST)
        return client, bateau.ssl.wrap(pair[1], server_context, server_side=True)

    return make


def stacks(tls):
    return {
        "duplex": lambda: duplex(300),
        "buffered": lambda: tuple(BufStream(end, 50, 50) for end in duplex(300)),
        "traced": lambda: tuple(traced(end, lambda event: None) for end in duplex(300)),
        "tls": lambda: tls(duplex(300)),
        "tls in tls": lambda: tls(tls(duplex(700))),
        "buffered tls": lambda: tuple(BufStream(end, 50, 50) for end in tls(duplex(300))),
    }


STACKS = list(stacks(None))


async def harass(victim: bateau.Task, chance: random.Random) -> None:
    """Cancel the task at some moment, unless it has ended."""
    for _ in range(chance.randrange(6)):
        await bateau.yield_now()
    victim.cancel()


@pytest.mark.law(9)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("seed", range(3))
def test_cancelled_reads_lose_nothing(entry, tls, stack, seed) -> None:
    """The handshake is in it, too: the first reads are cancelled in the middle of it."""
    chance = random.Random(f"{stack} {seed}")
    data = chance.randbytes(6_000)

    async def main() -> bytes:
        a, b = stacks(tls)[stack]()
        got = bytearray()

        async def send() -> None:
            at = 0
            while at < len(data):
                step = chance.randrange(1, 200)
                await a.write(data[at : at + step])
                at += step
                if chance.random() < 0.3:
                    await a.flush()
            await a.aclose()

        async def read() -> None:
            if isinstance(b, BufStream) and chance.random() < 0.5:
                got.extend(await b.readexactly(min(30, len(data) - len(got))))
            else:
                got.extend(await b.read(chance.randrange(1, 100)))

        async with bateau.scope() as scope:
            scope.spawn(send)
            for _ in range(100_000):
                if len(got) >= len(data):
                    break
                async with bateau.scope() as inner:
                    task = inner.spawn(read)
                    await harass(task, chance)
            assert await b.read() == b""
        b.close()
        return bytes(got)

    assert entry.run(main) == data


@pytest.mark.law(9)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("seed", range(3))
def test_cancelled_senders_tear_no_frame(entry, tls, stack, seed) -> None:
    chance = random.Random(f"{stack} {seed} frames")
    sent: dict[int, bytes] = {}
    completed: set[int] = set()
    arrived: list[int] = []

    async def main() -> None:
        a, b = stacks(tls)[stack]()
        receiver, sender = split(a)

        async def send(number: int) -> None:
            body = bytes([number % 256]) * chance.randrange(400)
            sent[number] = body
            await sender.write(struct.pack(">HH", number, len(body)) + body)
            completed.add(number)

        async def receive() -> None:
            frames = BufReader(b)
            while await frames.peek():
                number, size = struct.unpack(">HH", await frames.readexactly(4))
                assert await frames.readexactly(size) == sent[number]
                arrived.append(number)

        async with bateau.scope() as scope:
            scope.spawn(receive)
            for first in range(0, 60, 3):
                async with bateau.scope() as inner:
                    for number in range(first, first + 3):
                        task = inner.spawn(send, number)
                        if chance.random() < 0.6:
                            inner.spawn(harass, task, chance)
            if isinstance(a, BufStream):
                await sender.flush()
            await sender.aclose()
        receiver.close()
        b.close()

    entry.run(main)
    assert completed <= set(arrived)
    assert len(arrived) == len(set(arrived))


@pytest.mark.law(9)
@pytest.mark.parametrize("seed", range(5))
def test_cancelled_lines_and_flushes(entry, seed) -> None:
    chance = random.Random(seed)
    lines = [("é" * chance.randrange(60)) + "\n" for _ in range(60)]

    async def main() -> None:
        a, b = duplex(40)
        writer, reader = BufWriter(a, 90), TextReader(b)
        got: list[str] = []

        async def write() -> None:
            todo = list(lines)

            async def one() -> None:
                # What a write that was cancelled did is known from the buffer: nothing.
                if todo:
                    await writer.write(todo[0].encode())
                    todo.pop(0)

            while todo:
                # Larger than the buffer goes through to the duplex, where it can be torn: these lines never are.
                async with bateau.scope() as inner:
                    await harass(inner.spawn(one), chance)
                async with bateau.scope() as inner:
                    await harass(inner.spawn(writer.flush), chance)
            await writer.aclose()

        async def read() -> None:
            line = await reader.readline()
            got.append(line)

        async with bateau.scope() as scope:
            scope.spawn(write)
            while not got or got[-1]:
                async with bateau.scope() as inner:
                    await harass(inner.spawn(read), chance)
        assert got[:-1] == lines
        reader.close()

    lines[:] = [line[:40] + "\n" if len(line) > 40 else line for line in lines]
    entry.run(main)
