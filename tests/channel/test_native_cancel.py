"""Channels under cancellations that asyncio's and trio's own means bring (law 11): nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio

import pytest

import bateau
from bateau.channel import channel
from support.entries import on_asyncio_family, on_trio

from .helpers import recv_one, until

pytestmark = pytest.mark.law(11)


@on_asyncio_family
def test_wait_for_loses_no_item(entry):
    """The same code over `asyncio.Queue` loses items on some Python versions: the timeout may hit what was just got."""

    async def main():
        tx, rx = channel[int](4)
        got: list[int] = []

        async def consume():
            while True:
                try:
                    got.append(await asyncio.wait_for(rx.recv(), 0.0004))
                except TimeoutError:
                    continue
                except bateau.EndOfStream:
                    return

        async with bateau.scope() as scope:
            scope.spawn(consume)
            for i in range(100):
                await asyncio.sleep(0.0004 if i % 3 else 0)
                await tx.send(i)
            tx.close()
        return got

    assert entry.run(main) == list(range(100))


@on_asyncio_family
def test_a_native_cancel_after_the_hand_over_comes_at_the_next_wait(entry):
    async def main():
        tx, rx = channel[int](4)
        got: list[int] = []

        async def consume():
            got.append(await rx.recv())
            await asyncio.sleep(10)

        task = asyncio.create_task(consume())
        while rx.statistics().waiting_receivers == 0:
            await asyncio.sleep(0)
        await tx.send(1)
        await tx.send(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert rx.try_recv() == 2
        return got

    assert entry.run(main) == [1]


@on_asyncio_family
def test_a_native_cancel_of_a_parked_operation_leaves_no_trace(entry):
    async def main():
        tx, rx = channel[int](1)
        receiving = asyncio.create_task(recv_one(rx))
        await _until(lambda: rx.statistics().waiting_receivers == 1)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        assert rx.statistics().waiting_receivers == 0
        await tx.send(1)
        sending = asyncio.ensure_future(tx.send(2))
        await _until(lambda: rx.statistics().waiting_senders == 1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert rx.try_recv() == 1
        with pytest.raises(bateau.WouldBlock):
            rx.try_recv()

    entry.run(main)


@on_trio
def test_trio_timeouts_lose_no_item(entry):
    import trio

    async def main():
        tx, rx = channel[int](4)
        got: list[int] = []

        async def consume():
            while True:
                with trio.move_on_after(0.0004):
                    try:
                        got.append(await rx.recv())
                    except bateau.EndOfStream:
                        return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume)
            for i in range(100):
                await trio.sleep(0.0004 if i % 3 else 0)
                await tx.send(i)
            tx.close()
        return got

    assert entry.run(main) == list(range(100))


def test_a_shield_holds_a_receive_through_a_cancellation(entry):
    async def main():
        tx, rx = channel[int](1)
        got: list[int] = []

        async def consume():
            with bateau.shield():
                got.append(await rx.recv())
            await bateau.checkpoint()
            got.append(-1)

        async with bateau.scope() as scope:
            task = scope.spawn(consume)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            task.cancel()
            await bateau.yield_now()
            assert rx.statistics().waiting_receivers == 1
            await tx.send(1)
        return got

    assert entry.run(main) == [1]


async def _until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)
