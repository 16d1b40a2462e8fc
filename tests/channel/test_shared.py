"""The shared flavour: two runtimes and plain threads on one channel (law 15, S22)."""

from __future__ import annotations

from threading import Event, Thread

import pytest

import bateau
from bateau.channel import broadcast, channel, oneshot, watch
from support.waiting import until

from .helpers import collect

pytestmark = pytest.mark.law(15)
COUNT = 2000


@pytest.mark.parametrize("other", ["native", "asyncio", "trio"])
@pytest.mark.parametrize("capacity", [0, 1, 64])
@pytest.mark.real_os("another runtime runs on a real thread")
def test_two_runtimes_pass_items_both_ways(runtime, other, capacity):
    there_tx, there_rx = channel[int](capacity, flavour="shared")
    back_tx, back_rx = channel[int](capacity, flavour="shared")

    async def echo():
        async with back_tx:
            async for item in there_rx:
                await back_tx.send(item)

    async def main():
        async def produce():
            async with there_tx:
                for i in range(COUNT):
                    await there_tx.send(i)

        async with bateau.scope() as scope:
            scope.spawn(produce)
            return await collect(back_rx)

    # Nobody tells a runtime that another will use the channel, and still none takes its wait for a deadlock (law 17).
    thread = Thread(target=lambda: bateau.run(echo, runtime=other))
    thread.start()
    try:
        assert runtime.run(main) == list(range(COUNT))
    finally:
        thread.join(10)
    assert not thread.is_alive()


@pytest.mark.law(17)
def test_what_arrives_while_a_deadlock_is_looked_for_counts():
    """Another thread goes on between the look at what is ready and the look at who waits: here it receives, and then sends
    once more than anybody receives, so that each wait seems to be for the waiting program itself.
    """
    there_tx, there_rx = channel[int](0, flavour="shared")
    back_tx, back_rx = channel[int](0, flavour="shared")
    holding, go, gone_on = Event(), Event(), Event()
    sent: list[int] = []

    async def echo():
        async with back_tx, bateau.scope() as scope:
            item = await there_rx.recv()
            holding.set()
            await bateau.thread.run(go.wait, 20)
            scope.spawn(tell)
            await back_tx.send(item)
            async for item in there_rx:
                await back_tx.send(item)

    async def tell():
        await until(lambda: back_tx.statistics().waiting_senders)
        gone_on.set()

    async def main():
        engine = bateau.current_task().host
        look = engine.timeout

        def timeout():
            found = look()
            waiting = there_tx.statistics().waiting_senders, back_rx.statistics().waiting_receivers
            if found is None and sent == [0] and waiting == (1, 1) and not go.is_set():
                assert holding.wait(20)  # it has the first item, and may not have come to say so yet
                go.set()
                assert gone_on.wait(20)
            return found

        async def produce():
            async with there_tx:
                for item in range(5):
                    await there_tx.send(item)
                    sent.append(item)

        engine.timeout = timeout
        async with bateau.scope() as scope:
            scope.spawn(produce)
            return await collect(back_rx)

    thread = Thread(target=lambda: bateau.run(echo, runtime="asyncio"))
    thread.start()
    try:
        assert bateau.run(main, runtime="native") == list(range(5))
    finally:
        thread.join(10)
    assert gone_on.is_set()


def test_plain_threads_send_and_receive_without_waiting(runtime):
    tx, rx = channel[int](unbounded=True, flavour="shared")

    def produce(mine, numbers):
        with mine:
            for i in numbers:
                mine.try_send(i)

    threads = [Thread(target=produce, args=(tx.clone(), range(k, COUNT, 4))) for k in range(4)]
    tx.close()

    async def main():
        for thread in threads:
            thread.start()
        return await collect(rx)

    got = runtime.run(main)
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(COUNT))
    for k in range(4):
        assert [i for i in got if i % 4 == k] == list(range(k, COUNT, 4))


@pytest.mark.real_os("another runtime runs on a real thread")
def test_no_item_is_lost_to_timeouts_across_threads(runtime):
    tx, rx = channel[int](2, flavour="shared")
    got: list[int] = []

    async def consume():
        while True:
            try:
                with bateau.timeout(0.0003):
                    got.append(await rx.recv())
            except TimeoutError:
                continue
            except bateau.EndOfStream:
                return

    async def produce():
        async with tx:
            for i in range(400):
                while True:
                    with bateau.move_on_after(0.0003) as cut:
                        await tx.send(i)
                    if not cut.cancelled_caught:
                        break

    thread = Thread(target=lambda: bateau.run(produce, runtime="native"))
    thread.start()
    runtime.run(consume)
    thread.join(10)
    assert got == list(range(400))


@pytest.mark.real_os("another runtime runs on a real thread")
def test_oneshot_watch_and_broadcast_cross_threads(runtime):
    answer_tx, answer_rx = oneshot[str](flavour="shared")
    state_tx, state_rx = watch(0, flavour="shared")
    news_tx, news_rx = broadcast[int](16, lag="wait", flavour="shared")

    async def elsewhere():
        async with news_tx:
            for i in range(100):
                await news_tx.send(i)
        for i in range(1, 101):
            state_tx.send(i)
        answer_tx.send("done")

    async def main():
        assert await collect(news_rx) == list(range(100))
        assert await state_rx.wait_for(lambda n: n == 100) == 100
        return await answer_rx

    thread = Thread(target=lambda: bateau.run(elsewhere, runtime="native"))
    thread.start()
    assert runtime.run(main) == "done"
    thread.join(10)


def test_modify_is_one_step_for_threads():
    tx, rx = watch(0, flavour="shared")

    def count():
        for _ in range(2000):
            tx.modify(lambda n: n + 1)

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rx.get() == 8000
