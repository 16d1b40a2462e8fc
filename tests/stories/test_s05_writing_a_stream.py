"""S05: generators killed by a timeout around ``anext``, closed late, "asynchronous generator is already running".

Here a generator is as easy as an async function, closes deterministically, and survives a timed-out ``next``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import bateau
from bateau import net, time
from support.waiting import until


@bateau.generator
async def lines(port: int, log: list[str]) -> AsyncIterator[bytes]:
    """The lines a server sends: what one would write first, with nothing in it for timeouts, closing or sharing."""
    async with await net.connect_tcp("127.0.0.1", port) as stream:
        log.append("connected")
        try:
            rest = b""
            while data := await stream.read(5):
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    yield line
        finally:
            log.append("closed")


async def slow_server(stream):
    for n in range(10):
        await stream.write(b"line %d\n" % n)
        await time.sleep(0.02)


async def with_server(body):
    listener = await net.listen_tcp("127.0.0.1", 0)
    async with bateau.scope() as scope:
        scope.spawn(net.serve, slow_server, listener, background=True)
        await body(listener.getsockname()[1])


EXPECTED = [b"line %d" % n for n in range(10)]


def test_a_timed_out_next_loses_nothing(entry):
    """A heartbeat every 5 ms beside a line every 20 ms: the usual ``wait_for(anext(...))`` loop, which destroys a plain generator."""
    log = []

    async def body(port):
        got: list[bytes] = []
        beats = 0
        stream = lines(port, log)
        while True:
            try:
                with bateau.timeout(0.005):
                    got.append(await stream.next())
            except TimeoutError:
                beats += 1
            except StopAsyncIteration:
                break
        assert got == EXPECTED
        assert beats >= 10

    entry.run(with_server, body)
    assert log == ["connected", "closed"]


def test_it_is_closed_where_it_is_left(entry):
    log = []

    async def body(port):
        async for line in lines(port, log):
            if line == b"line 2":
                break
        await bateau.checkpoint()
        assert log == ["connected", "closed"]

    entry.run(with_server, body)


def test_two_at_once_are_told(entry):
    @bateau.generator
    async def silent() -> AsyncIterator[int]:
        await time.sleep(60)
        yield 1

    async def main():
        async with silent() as stream, bateau.scope() as scope:
            first = scope.spawn(stream.next, name="first")
            await until(lambda: first.waiting)
            with pytest.raises(bateau.Busy, match=r"task 'first' waits for one[\s\S]*\.share\(\)"):
                await stream.next()
            scope.cancel()

    entry.run(main)
