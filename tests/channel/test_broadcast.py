"""The broadcast: everyone sees everything since they subscribed; the slow are told, or waited for."""

from __future__ import annotations

import gc

import pytest

import bateau
from bateau.channel import Lagged, broadcast

from .helpers import collect, recv_one, send_one, until


def test_each_receiver_sees_each_item_since_it_subscribed(entry):
    async def main():
        tx, first = broadcast[int](8)
        assert await tx.send(1) == 1
        second = tx.subscribe()
        assert await tx.send(2) == 2
        third = first.clone()
        assert await tx.send(3) == 3
        tx.close()
        assert await collect(first) == [1, 2, 3]
        assert await collect(second) == [2, 3]
        assert await collect(third) == [1, 2, 3]
        assert first.statistics().items == 0

    entry.run(main)


def test_parked_receivers_are_handed_the_item(entry):
    async def main():
        tx, rx = broadcast[int](2)
        others = [tx.subscribe() for _ in range(3)]
        async with bateau.scope() as scope:
            tasks = [scope.spawn(recv_one, each) for each in (rx, *others)]
            await until(lambda: tx.statistics().waiting_receivers == 4)
            await tx.send(7)
            assert tx.statistics().items == 0
            assert [await task for task in tasks] == [7] * 4
        with pytest.raises(bateau.WouldBlock, match="nothing new"):
            rx.try_recv()

    entry.run(main)


def test_the_slow_are_told_how_many_they_missed(entry):
    async def main():
        tx, rx = broadcast[int](3)
        fast = tx.subscribe()
        for i in range(10):
            await tx.send(i)
            assert await fast.recv() == i
        with pytest.raises(Lagged, match="missed 7 items") as caught:
            await rx.recv()
        assert caught.value.missed == 7
        assert [await rx.recv() for _ in range(3)] == [7, 8, 9]
        await tx.send(10)
        assert rx.try_recv() == 10

    entry.run(main)


def test_iteration_can_go_on_after_a_lag(entry):
    async def main():
        tx, rx = broadcast[int](2)
        for i in range(5):
            tx.try_send(i)
        tx.close()
        got: list[object] = []
        while True:
            try:
                async for item in rx:
                    got.append(item)
                return got
            except Lagged as lag:
                got.append(lag.missed)

    # Item by item: three are missed, the two left are seen.
    assert entry.run(main) == [3, 3, 4]


def test_senders_can_wait_for_the_slowest_instead(entry):
    async def main():
        tx, slow = broadcast[int](2, lag="wait", name="news")
        fast = tx.subscribe()
        for i in range(2):
            await tx.send(i)
        assert [await fast.recv(), await fast.recv()] == [0, 1]
        with pytest.raises(bateau.WouldBlock, match="slowest"):
            tx.try_send(9)
        async with bateau.scope() as scope:
            sending = scope.spawn(send_one, tx, 2)
            await until(lambda: tx.statistics().waiting_senders == 1)
            assert sending.waiting.describe().startswith("send on broadcast 'news' (2/2)")
            assert await slow.recv() == 0
            await sending
        assert await fast.recv() == 2
        tx.close()
        assert await collect(slow) == [1, 2]

    entry.run(main)


@pytest.mark.law(16)
def test_a_full_broadcast_names_the_slowest(entry):
    async def main():
        tx, slow = broadcast[int](1, lag="wait")
        fast = tx.subscribe()

        async def lazy():
            await slow.recv()
            await bateau.time.sleep_forever()

        async with bateau.scope() as scope:
            lazy_task = scope.spawn(lazy)
            fast_task = scope.spawn(collect, fast)
            await tx.send(1)
            await tx.send(2)
            sending = scope.spawn(send_one, tx, 3)
            await until(lambda: tx.statistics().waiting_senders == 1)
            assert list(sending.waiting.resource.satisfiers()) == [lazy_task]
            assert fast_task.waiting.resource.satisfiers() == (sending,) or sending in list(
                fast_task.waiting.resource.satisfiers()
            )
            for task in (lazy_task, fast_task, sending):
                task.cancel()

    entry.run(main)


def test_a_slow_receiver_that_leaves_frees_the_senders(entry):
    async def main():
        for how in ("close", "drop"):
            tx, slow = broadcast[int](1, lag="wait")
            fast = tx.subscribe()
            async with bateau.scope() as scope:
                await tx.send(1)
                assert await fast.recv() == 1
                sending = scope.spawn(send_one, tx, 2)
                await until(lambda tx=tx: tx.statistics().waiting_senders == 1)
                if how == "close":
                    slow.close()
                else:
                    del slow
                    gc.collect()
                await sending
            assert await fast.recv() == 2
            fast.close()
            assert await tx.send(3) == 0  # nobody listens

    entry.run(main)


@pytest.mark.law(5)
def test_cancelled_operations_had_no_effect(entry):
    async def main():
        tx, rx = broadcast[int](1, lag="wait")
        with bateau.move_on_after(0.005) as cut:
            await rx.recv()
        assert cut.cancelled_caught
        await tx.send(1)
        with bateau.move_on_after(0.005) as cut:
            await tx.send(2)
        assert cut.cancelled_caught
        tx.close()
        assert await collect(rx) == [1]

    entry.run(main)


@pytest.mark.law(11)
def test_handed_over_before_the_cancellation_is_delivered(entry):
    async def main():
        tx, rx = broadcast[int](2)
        got: list[int] = []

        async def wait():
            got.append(await rx.recv())

        async with bateau.scope() as scope:
            task = scope.spawn(wait)
            await until(lambda: tx.statistics().waiting_receivers == 1)
            await tx.send(5)
            task.cancel()
        return got

    assert entry.run(main) == [5]


@pytest.mark.parametrize("entry", ["owned:native"], indirect=True)
def test_closing_the_coroutine_gives_the_item_back(entry):
    async def main():
        tx, rx = broadcast[int](4)
        async with bateau.scope() as scope:
            task = scope.spawn(recv_one, rx)
            await until(lambda: tx.statistics().waiting_receivers == 1)
            await tx.send(1)
            await tx.send(2)
            copy = rx.clone()
            task.coro.close()
            tx.close()
            assert await collect(rx) == [1, 2]
            assert await collect(copy) == [2]
            task.finish(None, bateau.Cancelled())

    entry.run(main)


def test_the_end(entry):
    async def main():
        tx, rx = broadcast[int](4)
        other = tx.clone()
        async with bateau.scope() as scope:
            items = scope.spawn(collect, rx)
            await until(lambda: tx.statistics().waiting_receivers == 1)
            tx.close()
            await other.send(1)
            other.close()
            assert await items == [1]
        with pytest.raises(bateau.EndOfStream):
            await rx.recv()
        with pytest.raises(bateau.EndOfStream):
            rx.try_recv()
        with pytest.raises(bateau.Closed):
            await tx.send(1)
        with pytest.raises(bateau.Closed):
            tx.subscribe()
        rx.close()
        with pytest.raises(bateau.Closed):
            await rx.recv()

    entry.run(main)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="1 or more"):
        broadcast(0)
    with pytest.raises(TypeError, match="whole number"):
        broadcast("3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'raise'"):
        broadcast(3, lag="drop")  # type: ignore[arg-type]


def test_receivers_in_garbage_hold_nobody_up(entry):
    """The collector may find a dropped receiver in the middle of a send; it is counted out before the next."""

    async def main():
        tx, rx = broadcast[list[int]](2, lag="wait")
        threshold = gc.get_threshold()
        gc.set_threshold(7, 2, 2)  # collections everywhere, in the middle of transitions too
        try:
            for i in range(60):
                ring: list[object] = [tx.subscribe(), tx.subscribe()]
                ring.append(ring)
                await tx.send([i])
                del ring
                if i % 3 == 0:
                    gc.collect()
                assert await rx.recv() == [i]
                with bateau.fail_after(5):
                    await tx.send([-1])
                    async with bateau.scope() as scope:
                        sending = scope.spawn(send_one, tx, [-2])
                        await bateau.yield_now()
                        gc.collect()
                        assert [await rx.recv(), await rx.recv()] == [[-1], [-2]]
                        await sending
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        await tx.send([0])
        assert await rx.recv() == [0]
        assert tx.statistics() == (2, 0, 1, 1, 0, 0)

    entry.run(main)
