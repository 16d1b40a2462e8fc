"""S23: connections that idle while the body of ``async for`` runs; a semaphore held by items that nobody polls: deadlock.

In Rust, ``buffered(n)`` makes progress only while its consumer polls it. Here what is under way goes on beside the consumer.
"""

from __future__ import annotations

import pytest

import bateau
from bateau import net, sync, time
from support.waiting import until


async def answer(stream, log):
    """A server that hangs up on a client that idles between its requests."""
    try:
        for _ in range(5):
            async with bateau.timeout(10):
                request = await stream.read(100)
            if not request:
                return
            await stream.write(request.upper())
    except TimeoutError:
        log.append("idle")


async def ask(port, n):
    """Five requests over one connection."""
    answers = []
    async with await net.connect_tcp("127.0.0.1", port) as stream:
        for step in range(5):
            await stream.write(b"item %d.%d" % (n, step))
            answers.append(await stream.read(100))
    return answers


def test_connections_do_not_idle_while_the_body_runs(entry):
    log = []

    async def main():
        listener = await net.listen_tcp("127.0.0.1", 0)
        port = listener.getsockname()[1]
        async with bateau.scope() as scope:
            scope.spawn(net.serve, lambda stream: answer(stream, log), listener, background=True)
            seen = []
            answered = []

            async def call(n):
                answers = await ask(port, n)
                answered.append(n)
                return n, answers

            async for n, answers in bateau.iter(range(6)).map(call).buffered(3):
                seen.append(n)
                assert answers == [b"ITEM %d.%d" % (n, step) for step in range(5)], (n, answers)
                # The body stays until the three connections that were opened meanwhile have had all of their answers.
                await until(lambda: len(answered) == min(len(seen) + 3, 6))
            assert seen == list(range(6))

    entry.run(main)
    assert log == []


def test_a_semaphore_shared_by_body_and_items(entry):
    """The items hold a permit that the body needs as well. Where they stand still meanwhile, this is a deadlock."""

    async def main():
        permits = sync.Semaphore(1)

        async def work(n):
            async with permits:
                await time.sleep(0.002)
            return n

        got = []
        async for n in bateau.iter(range(10)).map(work).buffered(3):
            async with permits:
                got.append(n)
        assert got == list(range(10))

    entry.run(main)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_bound_is_exact(entry, n):
    async def main():
        under_way: set[int] = set()
        most = claimed = taken = 0
        full = sync.Event()

        async def work(item):
            nonlocal most
            under_way.add(item)
            most = max(most, len(under_way))
            if most == n:
                full.set()
            with bateau.timeout(20):
                await full.wait()  # else the first could be done before the last of the first n begins
            await time.sleep(0.001)
            under_way.discard(item)
            return item

        def source():
            nonlocal claimed
            for item in range(30):
                claimed += 1
                assert claimed - taken <= n + 1  # one may be on its way to the body
                yield item

        async for _ in bateau.iter(source).map(work).buffered_unordered(n):
            taken += 1
            await bateau.yield_now()
        assert most == n
        assert taken == 30

    entry.run(main)


def test_what_is_under_way_ends_with_the_loop(entry):
    async def main():
        begun, ended = [], []

        async def work(n):
            begun.append(n)
            try:
                await time.sleep(0.001 if n == 0 else 60)
                return n
            finally:
                ended.append(n)

        async for _ in bateau.iter(range(100)).map(work).buffered(4):
            await until(lambda: len(begun) == 5)
            break
        await bateau.checkpoint()
        assert sorted(ended) == [0, 1, 2, 3, 4]  # the first, which the body had, and four more

    entry.run(main)
