"""The watch: the latest value, and word of its changes."""

from __future__ import annotations

import pytest

import bateau
from bateau.channel import watch

from .helpers import collect, until


def test_the_latest_value(entry):
    async def main():
        tx, rx = watch(1)
        assert (tx.get(), rx.get(), rx.has_changed) == (1, 1, False)
        tx.send(2)
        tx.send(3)
        assert rx.get() == 3
        assert rx.has_changed
        assert await rx.changed() == 3  # what came in between is gone: it tells the state, not the events
        assert not rx.has_changed
        late = tx.subscribe()
        assert not late.has_changed
        assert tx.modify(lambda n: n + 1) == 4
        assert await late.changed() == 4
        assert rx.clone().has_changed

    entry.run(main)


def test_everyone_who_waits_is_told(entry):
    async def main():
        tx, rx = watch("starting")

        async def wait(mine):
            return await mine.changed()

        async with bateau.scope() as scope:
            tasks = [scope.spawn(wait, mine) for mine in (rx, rx, tx.subscribe(), rx.clone())]
            await until(lambda: rx.statistics().waiting_receivers == 4)
            tx.send("ready")
            assert [await task for task in tasks] == ["ready"] * 4
        assert rx.statistics() == (1, 1, 1, 0) or rx.statistics().version == 1

    entry.run(main)


def test_iteration_begins_with_the_present_and_ends_with_the_senders(entry):
    async def main():
        tx, rx = watch(0)
        other = tx.clone()
        seen: list[int] = []

        async def look():
            async for value in rx:
                seen.append(value)

        async with bateau.scope() as scope:
            scope.spawn(look)
            for i in range(1, 4):
                await until(lambda i=i: seen == list(range(i)))
                tx.send(i)
            await until(lambda: len(seen) == 4)
            tx.close()
            other.send(4)
            other.close()
        assert seen == [0, 1, 2, 3, 4]
        with pytest.raises(bateau.EndOfStream, match="will not change any more"):
            await rx.changed()
        assert await collect(rx) == [4]

    entry.run(main)


def test_wait_for(entry):
    async def main():
        tx, rx = watch(0)
        assert await rx.wait_for(lambda n: n == 0) == 0
        asked: list[int] = []

        def large(n):
            asked.append(n)
            return n >= 3

        async def wait():
            return await rx.wait_for(large)

        async with bateau.scope() as scope:
            task = scope.spawn(wait)
            for i in range(1, 6):
                await until(lambda: rx.statistics().waiting_receivers == 1 or task.done)
                tx.send(i)
            assert await task in (3, 4, 5)
        assert asked[:4] == [0, 1, 2, 3]

    entry.run(main)


def test_wait_for_raises_what_the_condition_raises_and_the_end(entry):
    async def main():
        tx, rx = watch(1)
        with pytest.raises(ZeroDivisionError):
            await rx.wait_for(lambda n: n / 0)

        async def later():
            with pytest.raises(ZeroDivisionError):
                await rx.wait_for(lambda n: n == 2 and 1 / 0)
            with pytest.raises(bateau.EndOfStream):
                await rx.wait_for(lambda n: n == 99)
            with pytest.raises(bateau.EndOfStream):
                await rx.wait_for(lambda n: n == 99)
            assert await rx.wait_for(lambda n: n == 2) == 2

        async with bateau.scope() as scope:
            scope.spawn(later)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            tx.send(2)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            tx.close()

    entry.run(main)


@pytest.mark.law(5)
def test_a_cancelled_wait_has_seen_nothing(entry):
    async def main():
        tx, rx = watch(0)
        for operation in (rx.changed, lambda: rx.wait_for(lambda n: n == 1)):
            with bateau.move_on_after(0.005) as cut:
                await operation()
            assert cut.cancelled_caught
            assert rx.statistics().waiting_receivers == 0
        tx.send(1)
        with bateau.CancelScope() as cut:
            cut.cancel()
            await rx.changed()
        assert rx.has_changed
        assert await rx.changed() == 1

    entry.run(main)


def test_closed_ends(entry):
    async def main():
        tx, rx = watch(0)

        async def refused(operation):
            with pytest.raises(bateau.Closed):
                await operation

        async with bateau.scope() as scope:
            scope.spawn(refused, rx.changed())
            scope.spawn(refused, rx.wait_for(lambda n: n == 9))
            await until(lambda: rx.statistics().waiting_receivers == 2)
            rx.close()
        await refused(rx.changed())
        await refused(rx.wait_for(bool))
        tx.close()
        for call in (lambda: tx.send(1), tx.subscribe, tx.clone, rx.clone, lambda: tx.modify(abs)):
            with pytest.raises(bateau.Closed):
                call()

    entry.run(main)


@pytest.mark.law(16)
def test_it_names_who_could_change_it(entry):
    async def main():
        tx, rx = watch(0, name="state")

        async def change():
            tx.send(1)
            await bateau.time.sleep_forever()

        async with bateau.scope() as scope:
            changer = scope.spawn(change)
            assert await rx.changed() == 1

            async def wait():
                await rx.changed()

            waiter = scope.spawn(wait)
            await until(lambda: rx.statistics().waiting_receivers == 1)
            assert waiter.waiting.describe() == "change of watch 'state'"
            assert list(waiter.waiting.resource.satisfiers()) == [changer]
            changer.cancel()
            waiter.cancel()

    entry.run(main)


def test_a_modification_that_fails_changes_nothing(entry):
    async def main():
        tx, rx = watch(0)
        with pytest.raises(ZeroDivisionError):
            tx.modify(lambda n: n // 0)
        assert not rx.has_changed

    entry.run(main)
