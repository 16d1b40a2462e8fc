"""``select`` over real sources: sockets, threads, locks, generators; nothing is lost, whoever wins (laws 3, 9, 11, 15; S29)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading

import pytest

import bateau
from bateau import Select, select
from support.entries import on_asyncio_family

pytestmark = pytest.mark.law(3)


async def turns(n):
    for _ in range(n):
        await bateau.yield_now()


# -- S29: burned by select ---------------------------------------------------------------------------------------------


class Cursor:
    """A database cursor as they are: a row leaves the server's result set, and then takes a round trip to arrive."""

    def __init__(self, count, trip):
        self.count = count
        self.sent = 0
        self.trip = trip

    async def fetch(self):
        if self.sent == self.count:
            return None
        row = self.sent
        self.sent += 1
        await self.trip()
        return row


def test_s29_on_plain_asyncio_the_losing_rows_are_gone():
    async def main():
        cursor = Cursor(10, lambda: asyncio.sleep(0.02))
        got = []
        while cursor.sent < cursor.count:
            fetch = asyncio.create_task(cursor.fetch())
            tick = asyncio.create_task(asyncio.sleep(0.001))
            done, pending = await asyncio.wait({fetch, tick}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.wait({fetch, tick})
            if fetch in done:
                got.append(fetch.result())
        return got

    assert len(asyncio.run(main())) < 10


def test_s29_with_select_no_row_is_lost(entry):
    async def main():
        cursor = Cursor(20, lambda: bateau.time.sleep(0.001))
        got = []
        ticks = 0
        async with select(row=cursor.fetch, tick=lambda: bateau.time.sleep(0.0005)) as events:
            async for name, value in events:
                if name == "tick":
                    ticks += 1
                elif value is None:
                    break
                else:
                    got.append(value)
        assert got == list(range(20)) and ticks > 0

    entry.run(main)


def test_s29_a_generator_survives_the_loops_of_others(entry):
    async def rows():
        for n in range(20):
            await bateau.time.sleep(0.001)
            yield n

    async def main():
        got = []
        async with (
            contextlib.aclosing(rows()) as source,  # it is not at its end: else it is dropped open, of which trio warns
            select(row=source, tick=lambda: bateau.time.sleep(0.0004)) as events,
        ):
            async for name, value in events:
                if name == "row":
                    got.append(value)
                if len(got) == 20:
                    break
        assert got == list(range(20))

    entry.run(main)


# -- sockets -----------------------------------------------------------------------------------------------------------


@pytest.mark.law(9)
def test_sockets_lose_no_byte(entry):
    payload = bytes(range(256)) * 40

    async def main():
        left, right = socket.socketpair()
        a = bateau.net.from_socket(left)
        b = bateau.net.from_socket(right)

        async def send():
            for start in range(0, len(payload), 100):
                await a.write(payload[start : start + 100])
                await bateau.yield_now()
            await a.write_eof()

        got = bytearray()
        async with a, b, bateau.scope() as scope:
            scope.spawn(send)
            async with select(read=lambda: b.read(64), tick=lambda: bateau.time.sleep(0.0003)) as events:
                async for name, data in events:
                    if name == "tick":
                        continue
                    if not data:
                        break
                    got += data
        assert bytes(got) == payload

    entry.run(main)


@pytest.mark.law(9)
def test_a_read_or_a_timeout_again_and_again(entry):
    async def main():
        left, right = socket.socketpair()
        async with bateau.net.from_socket(left) as a, bateau.net.from_socket(right) as b:
            got = []
            for n in range(10):
                if n % 3 == 0:
                    await a.write(bytes([n]))
                name, data = await select(late=bateau.time.sleep(0.002), read=b.read(1))
                if name == "read":
                    got.append(data[0])
            while len(got) < 4:
                got.append((await b.read(1))[0])
            assert got == [0, 3, 6, 9]

    entry.run(main)


def test_a_write_runs_as_a_child_and_is_not_torn(entry):
    payload = bytes(1_000_000)

    async def main():
        left, right = socket.socketpair()
        async with bateau.net.from_socket(left) as a, bateau.net.from_socket(right) as b:

            async def drain():
                total = 0
                while total < len(payload):
                    total += len(await b.read(65536))
                    await bateau.time.sleep(0.0005)
                return total

            async with bateau.scope() as scope:
                reader = scope.spawn(drain)
                async with select(sent=a.write(payload), tick=lambda: bateau.time.sleep(0.0005)) as events:
                    async for name, _ in events:
                        if name == "sent":
                            break
            assert await reader == len(payload)

    entry.run(main)


def test_accept_in_a_select(entry):
    async def main():
        listener = await bateau.net.listen_tcp("127.0.0.1", 0)
        async with listener:
            name, _ = await select(conn=listener.accept(), late=bateau.time.sleep(0.01))
            assert name == "late"
            host, port = listener.getsockname()[:2]
            async with bateau.scope() as scope:
                client = scope.spawn(bateau.net.connect_tcp, host, port)
                chosen = await select(conn=listener.accept(), late=bateau.time.sleep(10))
                assert chosen.name == "conn"
                assert chosen.value is not None
                chosen.value.close()  # type: ignore[attr-defined]
                (await client).close()

    entry.run(main)


# -- locks and shared primitives -----------------------------------------------------------------------------------------


def test_a_lock_is_held_only_if_it_was_chosen(entry):
    async def main():
        lock = bateau.sync.Lock()
        done = bateau.token()

        async def holder():
            async with lock:
                await done.wait()

        async with bateau.scope() as scope:
            scope.spawn(holder)
            await turns(3)
            for _ in range(3):
                name, _ = await select(lock=lock.acquire(), late=bateau.time.sleep(0.001))
                assert name == "late"
            done.cancel()
        assert not lock.locked()
        name, _ = await select(late=bateau.time.sleep(1), lock=lock.acquire())
        assert name == "lock" and lock.locked()
        lock.release()

    entry.run(main)


@pytest.mark.law(12)
def test_who_waits_in_a_select_does_not_hold_up_the_others(entry):
    async def main():
        tx, rx = bateau.channel.channel[int](4)
        tx2, rx2 = bateau.channel.channel[int](4)
        got: list[tuple[str, int]] = []

        async def chooser():
            chosen = await select(a=rx.recv(), b=rx2.recv())
            got.append(chosen)

        async def plain():
            got.append(("plain", await rx2.recv()))

        async with tx, rx, tx2, rx2:
            async with bateau.scope() as scope:
                scope.spawn(chooser)
                await turns(4)
                scope.spawn(plain)
                await turns(4)
                tx.try_send(1)  # chosen: from now on the select says no to the other channel
                tx2.try_send(2)
                await turns(6)
        assert sorted(got) == [("a", 1), ("plain", 2)]

    entry.run(main)


@pytest.mark.law(15)
def test_threads_and_two_runtimes_feed_one_select(entry):
    count, feeders = 200, 3

    channels = [bateau.channel.channel[int](4) for _ in range(feeders)]
    stop = bateau.token()

    def feed(index):
        async def send_all():
            tx = channels[index][0]
            async with tx:
                for n in range(count):
                    await tx.send(n)
                    if random.random() < 0.05:
                        await bateau.time.sleep(0.0005)

        bateau.run(send_all, runtime="native")

    async def main():
        release = bateau.current_task().host.hold("feeding threads")
        threads = [threading.Thread(target=feed, args=(n,)) for n in range(feeders)]
        for thread in threads:
            thread.start()
        got: dict[int, list[int]] = {n: [] for n in range(feeders)}
        timeouts = 0
        async with Select[int, int]() as sel:
            for n in range(feeders):
                sel.insert(n, channels[n][1].recv)
            while len(sel):
                with bateau.move_on_after(random.random() * 0.002) as limit:
                    try:
                        index, value = await sel.next()
                    except bateau.EndOfStream:
                        break
                    got[index].append(value)
                timeouts += limit.cancelled_caught
        for thread in threads:
            thread.join()
        release()
        for _, rx in channels:
            rx.close()
        assert all(got[n] == list(range(count)) for n in range(feeders)), {n: len(got[n]) for n in got}

    entry.run(main)
    assert not tuple(stop.waiters())


@pytest.mark.law(11)
def test_several_selects_share_the_channels_of_threads(entry):
    """Each item is received exactly once, though every select may choose another arm at that very moment."""
    count = 300
    first, second = bateau.channel.channel[int](2), bateau.channel.channel[int](2)

    def feed(channel, start):
        async def send_all():
            async with channel[0] as tx:
                for n in range(start, start + count):
                    await tx.send(n)

        bateau.run(send_all, runtime="native")

    got: list[int] = []

    async def receive():
        one, two = first[1].clone(), second[1].clone()
        async with one, two:
            while True:
                try:
                    got.append((await select(a=one.recv(), b=two.recv())).value)
                except bateau.EndOfStream:
                    return

    async def main():
        release = bateau.current_task().host.hold("feeding threads")
        threads = [threading.Thread(target=feed, args=(c, s)) for c, s in ((first, 0), (second, 1000))]
        for thread in threads:
            thread.start()
        async with bateau.scope() as scope:
            for _ in range(3):
                scope.spawn(receive)
        for thread in threads:
            thread.join()
        release()
        first[1].close()
        second[1].close()

    entry.run(main)
    assert sorted(got) == [*range(count), *range(1000, 1000 + count)]


# -- foreign awaits, native cancellation -----------------------------------------------------------------------------------


@on_asyncio_family
def test_asyncio_things_as_arms(entry):
    async def main():
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def fill():
            for n in range(10):
                await asyncio.sleep(0.001)
                queue.put_nowait(n)

        got = []
        async with bateau.scope() as scope:
            scope.spawn(fill)
            future = asyncio.get_running_loop().create_future()
            async with select(item=queue.get, tick=lambda: bateau.time.sleep(0.0004), future=future) as events:
                async for name, value in events:
                    if name == "item":
                        got.append(value)
                        if value == 9:
                            future.set_result("end")
                    elif name == "future":
                        break
        assert got == list(range(10))

    entry.run(main)


@on_asyncio_family
@pytest.mark.law(11)
def test_a_native_cancel_loses_no_item(entry):
    async def main():
        for delay in range(6):
            tx, rx = bateau.channel.channel[int](8)
            async with tx, rx, select(rx=rx.recv, never=bateau.token().wait) as events:

                async def wait(events=events):
                    return (await events.next()).value

                task = asyncio.ensure_future(wait())
                await turns(3)
                if delay % 2:
                    tx.try_send(7)
                for _ in range(delay // 2):
                    await asyncio.sleep(0)
                task.cancel()
                if not delay % 2:
                    tx.try_send(7)
                try:
                    got = await task
                except asyncio.CancelledError:
                    got = (await events.next()).value
                assert got == 7

    entry.run(main)


def test_random_programs_lose_nothing(entry):
    """Producers, timeouts and cancellations in random order; every item sent is received or still there."""

    async def main():
        rng = random.Random(29)
        for _ in range(15):
            arms = {n: bateau.channel.channel[int](rng.randrange(3)) for n in range(4)}
            got: dict[int, list[int]] = {n: [] for n in arms}

            async def produce(sender):
                async with sender as tx:
                    for item in range(12):
                        await tx.send(item)
                        await turns(rng.randrange(3))

            async with bateau.scope() as scope:
                for n in arms:
                    scope.spawn(produce, arms[n][0])
                async with select({n: end[1].recv for n, end in arms.items()}, biased=rng.random() < 0.3) as events:
                    while len(events):
                        if rng.random() < 0.3:
                            await turns(rng.randrange(4))
                        with bateau.move_on_after(rng.choice([0, 0.0002, 1])):
                            try:
                                name, value = await events.next()
                            except bateau.EndOfStream:
                                break
                            got[name].append(value)
            assert all(items == list(range(12)) for items in got.values()), got
            for end in arms.values():
                end[1].close()

    entry.run(main)
