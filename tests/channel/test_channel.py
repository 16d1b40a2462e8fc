"""The channel: order, bounds, hand-over, cancellation, wrong use. See test_closing for its ends."""

from __future__ import annotations

import gc

import pytest

import bateau
from bateau.channel import channel

from .helpers import recv_one, send_one, until


def test_items_come_in_order_and_each_once(entry):
    async def main():
        tx, rx = channel[int](4)
        got: list[int] = []

        async def consume():
            async for item in rx:
                got.append(item)

        async with bateau.scope() as scope:
            scope.spawn(consume)
            async with tx:
                for i in range(300):
                    await tx.send(i)
        return got

    assert entry.run(main) == list(range(300))


def test_many_senders_many_receivers_share_the_items(entry):
    async def main():
        tx, rx = channel[int](3)
        got: list[int] = []

        async def produce(mine, numbers):
            async with mine:
                for i in numbers:
                    await mine.send(i)

        async def consume(mine):
            async with mine:
                async for item in mine:
                    got.append(item)
                    await bateau.yield_now()

        async with bateau.scope() as scope:
            for k in range(4):
                scope.spawn(produce, tx.clone(), range(k, 400, 4))
                scope.spawn(consume, rx.clone())
            tx.close()
            rx.close()
        return got

    assert sorted(entry.run(main)) == list(range(400))


@pytest.mark.law(14)
def test_capacity_is_exact(entry):
    async def main():
        tx, rx = channel[int](2)
        tx.try_send(1)
        tx.try_send(2)
        with pytest.raises(bateau.WouldBlock, match=r"\(2/2\) is full"):
            tx.try_send(3)
        assert (len(tx), len(rx), bool(rx)) == (2, 2, True)
        assert rx.try_recv() == 1
        tx.try_send(3)
        assert [await rx.recv(), await rx.recv()] == [2, 3]
        with pytest.raises(bateau.WouldBlock, match="empty"):
            rx.try_recv()

    entry.run(main)


@pytest.mark.law(14)
def test_without_a_bound_only_when_written_out():
    with pytest.raises(TypeError, match="unbounded=True"):
        channel()  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not both"):
        channel(3, unbounded=True)  # type: ignore[call-overload]
    for wrong in (2.0, "2", True, None):
        with pytest.raises(TypeError, match="whole number"):
            channel(wrong)
    with pytest.raises(ValueError, match="0 or more"):
        channel(-1)
    with pytest.raises(ValueError, match="flavour"):
        channel(1, flavour="global")
    tx, rx = channel[int](unbounded=True)
    for i in range(10_000):
        tx.try_send(i)
    assert tx.statistics().capacity is None
    assert "10000/unbounded" in repr(tx)
    rx.close()


def test_the_slow_reader_holds_the_writer_back_through_every_layer(entry):
    """S24: backpressure passes through layers; nothing piles up between them."""

    async def main():
        most = 0
        sent = 0

        async def stage(source, sink):
            async with source, sink:
                async for item in source:
                    await sink.send(item)

        async with bateau.scope() as scope:
            first_tx, rx = channel[int](1)
            for _ in range(5):
                tx, next_rx = channel[int](1)
                scope.spawn(stage, rx, tx)
                rx = next_rx

            async def produce():
                nonlocal sent
                async with first_tx:
                    for i in range(100):
                        await first_tx.send(i)
                        sent += 1

            scope.spawn(produce)
            received = 0
            async with rx:
                async for _ in rx:
                    received += 1
                    for _ in range(20):
                        await bateau.yield_now()
                    most = max(most, sent - received)
        return received, most

    received, most = entry.run(main)
    assert received == 100
    # Six channels hold one each, and each of five stages has one in its hands.
    assert most <= 11


def test_rendezvous_send_ends_when_it_was_received(entry):
    async def main():
        tx, rx = channel[str](0)
        events: list[str] = []

        async def produce():
            for item in ("a", "b"):
                await tx.send(item)
                events.append(f"sent {item}")

        with pytest.raises(bateau.WouldBlock):
            tx.try_send("x")
        async with bateau.scope() as scope:
            scope.spawn(produce)
            for _ in range(3):
                await bateau.yield_now()
            assert events == []
            assert rx.statistics().waiting_senders == 1
            assert await rx.recv() == "a"
            for _ in range(3):
                await bateau.yield_now()
            assert events == ["sent a"]
            assert rx.try_recv() == "b"
        assert events == ["sent a", "sent b"]

    entry.run(main)


def test_try_send_meets_a_parked_receiver_of_a_rendezvous(entry):
    async def main():
        tx, rx = channel[int](0)
        async with bateau.scope() as scope:
            task = scope.spawn(recv_one, rx)
            await until(lambda: tx.statistics().waiting_receivers == 1)
            tx.try_send(5)
            assert await task == 5

    entry.run(main)


@pytest.mark.law(12)
def test_waiting_senders_are_served_first_come_first(entry):
    async def main():
        tx, rx = channel[int](1)
        await tx.send(-1)
        async with bateau.scope() as scope:
            for i in range(5):
                scope.spawn(send_one, tx, i)
                await until(lambda i=i: tx.statistics().waiting_senders == i + 1)
            got = [rx.try_recv() for _ in range(3)]
            # A place that became free went to who waited for it, not to who comes now.
            with pytest.raises(bateau.WouldBlock):
                tx.try_send(99)
            got += [await rx.recv() for _ in range(3)]
        return got

    assert entry.run(main) == [-1, 0, 1, 2, 3, 4]


@pytest.mark.law(12)
def test_waiting_receivers_are_served_first_come_first(entry):
    async def main():
        tx, rx = channel[int](8)
        async with bateau.scope() as scope:
            tasks = []
            for i in range(4):
                tasks.append(scope.spawn(recv_one, rx))
                await until(lambda i=i: rx.statistics().waiting_receivers == i + 1)
            for i in range(4):
                await tx.send(i)
            assert len(tx) == 0  # handed over, not stored: nobody can come in between
            with pytest.raises(bateau.WouldBlock):
                rx.try_recv()
            return [await task for task in tasks]

    assert entry.run(main) == [0, 1, 2, 3]


# -- cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.law(5)
def test_a_cancelled_send_has_not_sent(entry):
    async def main():
        tx, rx = channel[int](1)
        await tx.send(1)
        with bateau.move_on_after(0.01) as cut:
            await tx.send(2)
        assert cut.cancelled_caught
        assert tx.statistics().waiting_senders == 0
        assert await rx.recv() == 1
        assert len(rx) == 0

    entry.run(main)


@pytest.mark.law(5)
def test_no_item_is_lost_to_timeouts_around_recv(entry):
    """The pain of plain asyncio: `wait_for(queue.get(), t)` could drop what it had just got."""

    async def main():
        tx, rx = channel[int](4)
        got: list[int] = []

        async def consume():
            while True:
                try:
                    with bateau.timeout(0.0005):
                        got.append(await rx.recv())
                except TimeoutError:
                    continue
                except bateau.EndOfStream:
                    return

        async with bateau.scope() as scope:
            scope.spawn(consume)
            scope.spawn(consume)
            for i in range(150):
                with bateau.move_on_after(0.0007):
                    await bateau.time.sleep(0.0005)
                await tx.send(i)
            tx.close()
        return got

    assert sorted(entry.run(main)) == list(range(150))


@pytest.mark.law(11)
def test_handed_over_before_the_cancellation_is_delivered(entry):
    """Woken, not stepped, then cancelled: the item arrives, and the cancellation comes at the next wait."""

    async def main():
        tx, rx = channel[int](4)
        got: list[object] = []

        async def consume():
            try:
                got.append(await rx.recv())
                await rx.recv()
            except bateau.Cancelled:
                got.append("cancelled")
                raise

        async with bateau.scope() as scope:
            task = scope.spawn(consume)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            await tx.send(7)
            await tx.send(8)
            task.cancel()
        assert rx.try_recv() == 8
        return got

    assert entry.run(main) == [7, "cancelled"]


@pytest.mark.law(11)
def test_a_send_that_was_let_in_before_the_cancellation_counts(entry):
    async def main():
        tx, rx = channel[int](1)
        await tx.send(1)
        sent: list[int] = []

        async def produce():
            await tx.send(2)
            sent.append(2)
            await bateau.checkpoint()

        async with bateau.scope() as scope:
            task = scope.spawn(produce)
            await until(lambda: tx.statistics().waiting_senders == 1)
            assert rx.try_recv() == 1
            task.cancel()
        assert sent == [2]
        assert rx.try_recv() == 2

    entry.run(main)


@pytest.mark.law(5)
def test_cancelled_before_it_began_it_has_no_effect(entry):
    async def main():
        tx, rx = channel[int](1)
        with bateau.CancelScope() as cut:
            cut.cancel()
            await tx.send(1)
        assert cut.cancelled_caught
        assert len(tx) == 0
        await tx.send(1)
        with bateau.CancelScope() as cut:
            cut.cancel()
            await rx.recv()
        assert cut.cancelled_caught
        assert rx.try_recv() == 1

    entry.run(main)


@pytest.mark.parametrize("entry", ["owned:native"], indirect=True)
def test_closing_the_coroutine_puts_the_item_back_in_front(entry):
    """A coroutine that is thrown away after it was handed an item can't use it: the item is the next one again."""

    async def main():
        tx, rx = channel[int](4)

        async def consume():
            return await rx.recv()

        async with bateau.scope() as scope:
            task = scope.spawn(consume)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            await tx.send(1)
            await tx.send(2)
            coro = task.coro
            coro.close()
            assert [rx.try_recv(), rx.try_recv()] == [1, 2]
            task.finish(None, bateau.Cancelled())

    entry.run(main)


# -- fairness, foreign use, wrong use ----------------------------------------------------------------------------------


@pytest.mark.law(13)
def test_a_channel_with_room_lets_others_run(entry):
    async def main():
        tx, rx = channel[int](unbounded=True)
        ticks = 0

        async def other():
            nonlocal ticks
            while True:
                await bateau.yield_now()
                ticks += 1

        async with bateau.scope() as scope:
            scope.spawn(other, background=True)
            for i in range(1000):
                await tx.send(i)
            for _ in range(1000):
                await rx.recv()
        return ticks

    assert entry.run(main) >= 10


def test_an_operation_is_single_use(entry):
    async def main():
        tx, _rx = channel[int](4)
        send = tx.send(1)
        await send
        with pytest.raises(RuntimeError, match="awaited before"):
            await send
        assert len(tx) == 1
        _rx.close()

    entry.run(main)


def test_a_forgotten_await_is_loud(entry):
    """S08."""

    async def main():
        tx, rx = channel[int](4, name="jobs")
        with pytest.warns(RuntimeWarning, match=r"send on channel 'jobs' \(0/4\) was never awaited: nothing happened"):
            tx.send(1)
        with pytest.warns(RuntimeWarning, match="recv on channel 'jobs'"):
            rx.recv()
        gc.collect()
        assert len(tx) == 0

    entry.run(main)


def test_outside_a_program_it_says_what_to_do():
    tx, rx = channel[int](4)
    send = tx.send(1)
    with pytest.raises(bateau.NotInRuntime, match=r"bateau\.run"):
        send.__await__().send(None)
    tx.try_send(2)
    assert rx.try_recv() == 2


@pytest.mark.law(15)
def test_local_in_the_wrong_thread_names_the_fix(entry):
    from threading import Thread

    async def main():
        tx, rx = channel[int](4, name="mine", flavour="local")
        await tx.send(0)
        caught: list[BaseException] = []

        def misuse():
            for call in (lambda: tx.try_send(1), rx.try_recv, tx.clone, tx.close):
                try:
                    call()
                except bateau.WrongRuntime as error:
                    caught.append(error)

        thread = Thread(target=misuse)
        thread.start()
        thread.join()
        rx.close()
        return caught

    caught = entry.run(main)
    assert len(caught) == 4
    assert all("channel 'mine'" in str(e) and "flavour='shared'" in str(e) for e in caught)


@pytest.mark.law(15)
def test_local_in_a_second_runtime_raises():
    async def make():
        tx, rx = channel[int](4)
        await tx.send(1)
        return tx, rx

    async def use(tx):
        await tx.send(2)

    tx, rx = bateau.run(make, runtime="native")
    with pytest.raises(bateau.WrongRuntime):
        bateau.run(use, tx, runtime="native")
    assert rx.try_recv() == 1


def test_flavour_follows_the_place():
    tx, _ = channel[int](1)
    assert tx._state.flavour == "shared"

    async def main():
        return channel[int](1)[0]._state.flavour, channel[int](1, flavour="shared")[0]._state.flavour

    assert bateau.run(main, runtime="native") == ("local", "shared")


# -- seen from outside -------------------------------------------------------------------------------------------------


def test_statistics(entry):
    async def main():
        tx, rx = channel[int](2)
        assert tx.statistics() == (2, 0, 1, 1, 0, 0)
        other = tx.clone()
        await tx.send(1)
        async with bateau.scope() as scope:
            await other.send(2)
            scope.spawn(send_one, other, 3)
            await until(lambda: rx.statistics().waiting_senders == 1)
            stats = rx.statistics()
            assert (stats.items, stats.open_senders, stats.open_receivers, stats.waiting_senders) == (2, 2, 1, 1)
            for _ in range(3):
                await rx.recv()

    entry.run(main)


@pytest.mark.law(16)
def test_a_full_channel_names_its_receivers(entry):
    """S37: the handler is blocked on its own full queue."""

    async def main():
        tx, rx = channel[int](2, name="C")

        async def handler():
            async for item in rx:
                await tx.send(item)
                await tx.send(item)

        async with bateau.scope() as scope:
            task = scope.spawn(handler, name="handler")
            await tx.send(1)
            await tx.send(2)
            await until(lambda: tx.statistics().waiting_senders == 1)
            assert task.waiting is not None
            assert task.waiting.describe() == "send on channel 'C' (2/2)"
            assert list(task.waiting.resource.satisfiers()) == [task]
            task.cancel()
        rx.close()

    entry.run(main)


@pytest.mark.law(17)
@pytest.mark.parametrize("runtime", ["native"], indirect=True)  # only bateau's own loop can prove it
def test_the_ring_is_in_the_deadlock(runtime):
    async def main():
        tx, rx = channel[int](2, name="C")

        async def handler():
            async for item in rx:
                for _ in range(3):
                    await tx.send(item)

        async with bateau.scope() as scope:
            scope.spawn(handler, name="handler")
            await tx.send(1)

    with pytest.raises(bateau.Deadlock) as caught:
        runtime.run(main)
    assert "send on channel 'C' (2/2)" in str(caught.value)
    assert "a ring of waits: 'handler' -> 'handler'" in str(caught.value)


@pytest.mark.law(16)
def test_a_forgotten_sender_is_named(entry):
    async def main():
        tx, rx = channel[int](2, name="C")
        async with bateau.scope() as scope:
            task = scope.spawn(recv_one, rx)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            text = task.waiting.describe()
            assert task.waiting.resource.satisfiers() == "outside"
            await tx.send(1)
        return text

    text = entry.run(main)
    assert text.startswith("recv on channel 'C' (0/2); not in use by any task: the sender made at ")
    assert __file__ in text


@pytest.mark.law(16)
def test_an_empty_channel_names_its_senders(entry):
    async def main():
        tx, rx = channel[int](2)

        async def produce():
            await tx.send(1)
            await bateau.time.sleep_forever()

        async with bateau.scope() as scope:
            producer = scope.spawn(produce)
            assert await rx.recv() == 1
            consumer = scope.spawn(recv_one, rx)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            assert list(consumer.waiting.resource.satisfiers()) == [producer]
            assert [op.task for op in consumer.waiting.resource.waiters()] == [consumer]
            producer.cancel()
            consumer.cancel()

    entry.run(main)


def test_users_that_ended_are_forgotten(entry):
    async def main():
        tx, rx = channel[int](unbounded=True)
        async with bateau.scope() as scope:
            for i in range(200):
                await scope.spawn(send_one, tx, i)
        assert len(tx._seat.users) < 50
        rx.close()

    entry.run(main)


def test_reprs(entry):
    async def main():
        tx, rx = channel[int](2, name="C")
        assert (repr(tx), repr(rx)) == ("<sender of channel 'C' (0/2)>", "<receiver of channel 'C' (0/2)>")
        tx.close()
        assert repr(tx) == "<closed sender of channel 'C' (0/2)>"
        assert "channel at 0x" in repr(channel[int](2))

    entry.run(main)
