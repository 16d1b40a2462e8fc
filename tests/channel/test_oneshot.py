"""The oneshot: one value or one error, once."""

from __future__ import annotations

import gc

import pytest

import bateau
from bateau.channel import channel, oneshot

from .helpers import until


def test_a_value_sent_before_and_after_the_wait(entry):
    async def main():
        tx, rx = oneshot[int]()
        tx.send(1)
        assert await rx == 1
        tx, rx = oneshot[int]()
        async with bateau.scope() as scope:
            task = scope.spawn(_await, rx)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            tx.send(2)
            assert await task == 2
        tx, rx = oneshot[int]()
        with pytest.raises(bateau.WouldBlock, match="no value yet"):
            rx.try_recv()
        tx.send(3)
        assert rx.try_recv() == 3

    entry.run(main)


def test_an_error_is_raised_at_the_receiver(entry):
    async def main():
        tx, rx = oneshot[int]()
        tx.fail(KeyError("no such row"))
        with pytest.raises(KeyError, match="no such row"):
            await rx.recv()
        tx, rx = oneshot[int]()
        tx.fail(KeyError("again"))
        with pytest.raises(KeyError):
            rx.try_recv()
        tx, rx = oneshot[int]()
        with pytest.raises(TypeError, match="use send"):
            tx.fail("text")  # type: ignore[arg-type]

    entry.run(main)


def test_it_carries_one_value(entry):
    async def main():
        tx, rx = oneshot[int](name="reply")
        assert tx.statistics() == ("empty", True, True, 0)
        tx.send(1)
        assert rx.statistics() == ("value", False, True, 0)
        assert tx.closed
        with pytest.raises(bateau.Closed, match="has sent its one value"):
            tx.send(2)
        await rx
        with pytest.raises(bateau.Closed, match="oneshot 'reply' carries one value, and it was received already"):
            await rx
        with pytest.raises(bateau.Closed):
            rx.try_recv()

    entry.run(main)


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_sender_that_goes_away_is_named_by_its_line(entry, how):
    async def main():
        tx, rx = oneshot[int]()
        async with bateau.scope() as scope:

            async def wait():
                with pytest.raises(bateau.Broken, match=rf"made at {__file__}:\d+, was closed or dropped"):
                    await rx

            scope.spawn(wait)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            if how == "close":
                tx.close()
            else:
                del tx
                gc.collect()
        with pytest.raises(bateau.Broken):
            await rx
        with pytest.raises(bateau.Broken):
            rx.try_recv()

    entry.run(main)


def test_a_receiver_that_goes_away(entry):
    async def main():
        tx, rx = oneshot[int]()
        assert not tx.receiver_gone
        async with bateau.scope() as scope:

            async def wait():
                with pytest.raises(bateau.Closed):
                    await rx

            scope.spawn(wait)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            rx.close()
        assert tx.receiver_gone
        with pytest.raises(bateau.Broken, match="nothing was sent"):
            tx.send(1)

    entry.run(main)


def test_an_error_that_nobody_received_is_reported(entry):
    async def main():
        tx, rx = oneshot[int]()
        tx.fail(KeyError("lost"))
        with pytest.warns(bateau.HazardWarning, match=r"unretrieved_error: .*KeyError\('lost'\)"):
            del rx
            gc.collect()

    entry.run(main)


def test_a_cancelled_wait_leaves_the_value(entry):
    async def main():
        tx, rx = oneshot[int]()
        with bateau.move_on_after(0.005) as cut:
            await rx
        assert cut.cancelled_caught
        tx.send(1)
        assert await rx == 1

    entry.run(main)


@pytest.mark.law(11)
def test_handed_over_before_the_cancellation_is_delivered(entry):
    async def main():
        tx, rx = oneshot[int]()
        got: list[int] = []

        async def wait():
            got.append(await rx)

        async with bateau.scope() as scope:
            task = scope.spawn(wait)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            tx.send(5)
            task.cancel()
        return got

    assert entry.run(main) == [5]


@pytest.mark.law(15)
def test_two_waiters_are_one_too_many(entry):
    async def main():
        tx, rx = oneshot[int]()
        async with bateau.scope() as scope:
            task = scope.spawn(_await, rx, name="first")
            await until(lambda: rx.statistics().waiting_receivers == 1)
            with pytest.raises(bateau.Busy, match="task 'first' waits"):
                await rx
            tx.send(1)
            assert await task == 1

    entry.run(main)


def test_a_request_with_its_answer(entry):
    """An actor in three lines: requests carry the sender of their answer."""

    async def main():
        requests_tx, requests_rx = channel[tuple[int, object]](4)

        async def serve():
            async for number, answer in requests_rx:
                if number < 0:
                    answer.fail(ValueError("negative"))
                else:
                    answer.send(number * 2)

        async def ask(number):
            tx, rx = oneshot[int]()
            await requests_tx.send((number, tx))
            return await rx

        async with bateau.scope() as scope:
            scope.spawn(serve)
            assert [await ask(i) for i in range(5)] == [0, 2, 4, 6, 8]
            with pytest.raises(ValueError, match="negative"):
                await ask(-1)
            requests_tx.close()

    entry.run(main)


async def _await(rx):
    return await rx
