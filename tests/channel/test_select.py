"""Channels in a select: an arm that was not chosen had no effect."""

from __future__ import annotations

import pytest

import bateau
from bateau.channel import broadcast, channel, oneshot, watch

from .helpers import until

pytestmark = pytest.mark.law(3)


def test_one_of_two_channels_and_nothing_is_lost(entry):
    async def main():
        a_tx, a_rx = channel[int](4)
        b_tx, b_rx = channel[int](4)
        got: list[int] = []

        async def feed(tx, numbers):
            async with tx:
                for i in numbers:
                    await tx.send(i)
                    await bateau.yield_now()

        async with bateau.scope() as scope:
            scope.spawn(feed, a_tx, range(0, 100, 2))
            scope.spawn(feed, b_tx, range(1, 100, 2))
            async with bateau.Select() as select:
                select.insert("a", a_rx.recv)
                select.insert("b", b_rx.recv)
                async for event in select:
                    got.append(event.value)
        return got

    got = entry.run(main)
    assert sorted(got) == list(range(100))
    for half in (0, 1):
        assert [i for i in got if i % 2 == half] == list(range(half, 100, 2))


def test_a_send_arm_that_was_not_chosen_has_not_sent(entry):
    async def main():
        full_tx, full_rx = channel[int](1)
        await full_tx.send(0)
        stop_tx, stop_rx = oneshot[str]()
        async with bateau.scope() as scope:

            async def choose():
                chosen = await bateau.select(stop=stop_rx.recv(), send=full_tx.send(1))
                return chosen.name

            task = scope.spawn(choose)
            await until(lambda: full_tx.statistics().waiting_senders == 1)
            stop_tx.send("now")
            assert await task == "stop"
        assert full_tx.statistics().waiting_senders == 0
        assert full_rx.try_recv() == 0
        assert len(full_rx) == 0

    entry.run(main)


def test_broadcast_watch_and_sleep_are_arms_too(entry):
    async def main():
        news_tx, news_rx = broadcast[str](4)
        state_tx, state_rx = watch(0)
        seen: list[object] = []

        async with bateau.scope() as scope:

            async def look():
                async with bateau.Select() as select:
                    select.insert("news", news_rx.recv)
                    select.insert("state", lambda: state_rx.wait_for(lambda n: n >= 2))
                    select.insert("late", lambda: bateau.time.sleep(100))
                    async for event in select:
                        seen.append((event.name, event.value))
                        if len(seen) == 3:
                            return
                        if event.name == "state":
                            select.remove("state")

            scope.spawn(look)
            await until(lambda: news_tx.statistics().waiting_receivers == 1)
            await news_tx.send("one")
            await until(lambda: len(seen) == 1)
            state_tx.send(1)
            state_tx.send(2)
            await until(lambda: len(seen) == 2)
            await news_tx.send("two")
        return seen

    assert entry.run(main) == [("news", "one"), ("state", 2), ("news", "two")]
