"""The ends of a channel: cloning, closing, dropping, and what each tells the other side."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

import bateau
from bateau.channel import channel

from .helpers import collect, recv_one, send_one, until


def test_after_the_last_sender_the_rest_is_received_then_the_end(entry):
    async def main():
        tx, rx = channel[int](4)
        other = tx.clone()
        await tx.send(1)
        tx.close()
        await other.send(2)
        other.close()
        assert [await rx.recv(), await rx.recv()] == [1, 2]
        for _ in range(2):
            with pytest.raises(bateau.EndOfStream, match="every sender of channel"):
                await rx.recv()
        with pytest.raises(bateau.EndOfStream):
            rx.try_recv()
        assert [item async for item in rx] == []

    entry.run(main)


def test_parked_receivers_learn_of_the_end(entry):
    async def main():
        tx, rx = channel[int](4)

        async def iterate():
            return [item async for item in rx]

        async def receive():
            with pytest.raises(bateau.EndOfStream):
                await rx.recv()

        async with bateau.scope() as scope:
            items = scope.spawn(iterate)
            scope.spawn(receive)
            await until(lambda: rx.statistics().waiting_receivers == 2)
            tx.close()
            assert await items == []

    entry.run(main)


def test_after_the_last_receiver_sends_raise_and_name_what_was_lost(entry):
    async def main():
        tx, rx = channel[str](5, name="jobs")
        other = rx.clone()
        for item in ("a", "b", "c", "d"):
            await tx.send(item)
        rx.close()
        await tx.send("e")
        other.close()
        assert len(tx) == 0
        with pytest.raises(bateau.Broken) as caught:
            await tx.send("f")
        text = "every receiver of channel 'jobs' is closed, so this item was not sent; lost: 'a', 'b', 'c' and 2 more"
        assert str(caught.value) == text
        with pytest.raises(bateau.Broken, match="lost"):
            tx.try_send("f")

    entry.run(main)


def test_parked_senders_learn_that_nobody_receives(entry):
    async def main():
        tx, rx = channel[int](1)
        await tx.send(1)

        async def produce():
            with pytest.raises(bateau.Broken, match="not sent; lost: 1"):
                await tx.send(2)

        async with bateau.scope() as scope:
            scope.spawn(produce)
            await until(lambda: tx.statistics().waiting_senders == 1)
            rx.close()

    entry.run(main)


def test_a_closed_end_says_so(entry):
    async def main():
        tx, rx = channel[int](1)
        keep = tx.clone()
        tx.close()
        tx.close()
        assert tx.closed
        assert not keep.closed
        for call in (lambda: tx.try_send(1), tx.clone):
            with pytest.raises(bateau.Closed, match="this sender of channel"):
                call()
        with pytest.raises(bateau.Closed, match="sender"):
            await tx.send(1)
        rx.close()
        for call in (rx.try_recv, rx.clone):
            with pytest.raises(bateau.Closed, match="this receiver of channel"):
                call()
        with pytest.raises(bateau.Closed, match="receiver"):
            await rx.recv()
        with pytest.raises(bateau.Closed):
            async for _ in rx:
                pass

    entry.run(main)


def test_closing_an_end_under_its_own_waiters(entry):
    async def main():
        tx, rx = channel[int](0)
        spare_tx, spare_rx = tx.clone(), rx.clone()

        async def refused(operation):
            with pytest.raises(bateau.Closed):
                await operation()

        async with bateau.scope() as scope:
            scope.spawn(refused, rx.recv)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            rx.close()
        async with bateau.scope() as scope:
            scope.spawn(refused, lambda: tx.send(1))
            await until(lambda: tx.statistics().waiting_senders == 1)
            tx.close()
        # The others' ends work on.
        async with bateau.scope() as scope:
            got = scope.spawn(recv_one, spare_rx)
            await spare_tx.send(2)
            assert await got == 2

    entry.run(main)


def test_ends_are_context_managers_sync_and_async(entry):
    async def main():
        tx, rx = channel[int](4)
        with tx.clone() as mine:
            await mine.send(1)
        async with tx as mine:
            assert mine is tx
            await mine.send(2)
        async with rx.clone() as mine:
            assert await mine.recv() == 1
        with rx:
            assert await rx.recv() == 2
            with pytest.raises(bateau.EndOfStream):
                await rx.recv()
        assert rx.closed

    entry.run(main)


def test_a_scope_can_own_an_end(entry):
    async def main():
        tx, rx = channel[int](4)
        async with bateau.scope() as scope:
            scope.own(tx)
            await tx.send(1)
        assert [item async for item in rx] == [1]

    entry.run(main)


def test_clones_of_a_sender_end_the_stream_together(entry):
    """S13: one sender per task, the stream ends when the last is done."""

    async def main():
        tx, rx = channel[str](2)

        async def worker(mine, name):
            async with mine:
                for i in range(3):
                    await mine.send(f"{name}{i}")

        async with bateau.scope() as scope:
            for name in "abc":
                scope.spawn(worker, tx.clone(), name)
            tx.close()
            got = [item async for item in rx]
        assert sorted(got) == sorted(f"{name}{i}" for name in "abc" for i in range(3))
        for name in "abc":
            mine = [item for item in got if item[0] == name]
            assert mine == sorted(mine)

    entry.run(main)


# -- dropping ----------------------------------------------------------------------------------------------------------


def test_a_dropped_sender_counts_as_closed(entry):
    async def main():
        tx, rx = channel[int](4)
        async with bateau.scope() as scope:
            got = scope.spawn(collect, rx)
            await tx.send(1)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            del tx
            gc.collect()
            assert await got == [1]

    entry.run(main)


def test_a_sender_dropped_by_its_task_counts_as_closed(entry):
    async def main():
        tx, rx = channel[int](4)
        async with bateau.scope() as scope:
            scope.spawn(send_one, tx.clone(), 1)
            tx.close()
            return await collect(rx)

    assert entry.run(main) == [1]


def test_a_dropped_receiver_counts_as_closed(entry):
    async def main():
        tx, rx = channel[int](0)

        async def produce():
            with pytest.raises(bateau.Broken):
                await tx.send(1)

        async with bateau.scope() as scope:
            scope.spawn(produce)
            await until(lambda: tx.statistics().waiting_senders == 1)
            del rx
            gc.collect()

    entry.run(main)


def test_items_lost_by_dropping_the_last_receiver_are_reported(entry):
    async def main():
        tx, rx = channel[int](4, name="jobs")
        await tx.send(1)
        await tx.send(2)
        with pytest.warns(bateau.HazardWarning) as caught:
            del rx
            gc.collect()
        assert [str(w.message) for w in caught] == [
            "dropped_without_close: channel 'jobs': its last receiver was dropped without close(); lost: 1, 2"
        ]
        assert caught[0].filename == __file__
        tx.close()

    entry.run(main)


def test_a_sender_in_garbage_found_by_another_thread(entry):
    """The collector runs where it likes; the waiting receiver is woken on its own thread all the same."""
    from threading import Thread

    async def main():
        tx, rx = channel[int](4)
        ring = [tx]
        ring.append(ring)  # type: ignore[arg-type]
        del tx
        gc.disable()
        try:
            async with bateau.scope() as scope:
                got = scope.spawn(collect, rx)
                await until(lambda: rx.statistics().waiting_receivers == 1)
                del ring
                thread = Thread(target=gc.collect)
                thread.start()
                thread.join()
                with bateau.fail_after(5):
                    return await got
        finally:
            gc.enable()

    assert entry.run(main) == []


def test_a_channel_left_at_the_end_of_the_interpreter_is_quiet(tmp_path):
    program = (
        "from bateau.channel import channel, broadcast, oneshot, watch\n"
        "tx, rx = channel(4)\n"
        "for i in range(4): tx.try_send(i)\n"
        "b_tx, b_rx = broadcast(4)\n"
        "b_tx.try_send(1)\n"
        "o_tx, o_rx = oneshot()\n"
        "o_tx.send(1)\n"
        "w = watch(1)\n"
        "ring = [tx, rx, b_rx, o_rx, w]; ring.append(ring)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_messages_shorten_what_they_show():
    tx, rx = channel[object](4)
    for item in (b"x" * 10**6, "y" * 1000, list(range(1000))):
        tx.try_send(item)
    rx.close()
    with pytest.raises(bateau.Broken) as caught:
        tx.try_send(1)
    assert "lost: 1000000 bytes, 'yyy" in str(caught.value)
    assert len(str(caught.value)) < 250
