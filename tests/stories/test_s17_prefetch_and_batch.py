"""S17: ``wait_for(anext())`` destroys the stream; racing two calls of different types says not which one won.

Here: ``prefetch(n)``, ``batch(max, wait)``, a ``next`` that can be timed out, and ``race`` and ``select`` that name the winner.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import bateau
from bateau import sync, time
from support.waiting import until


@bateau.generator
async def readings(gaps: list[float], log: list[str] | None = None) -> AsyncIterator[int]:
    """Reading ``n`` comes after the gap ``n``."""
    for n, gap in enumerate(gaps):
        await time.sleep(gap)
        if log is not None:
            log.append(f"read {n}")
        yield n


def test_prefetch_reads_while_the_body_works(entry):
    async def main():
        log: list[str] = []
        async for n in readings([0.001] * 6, log).prefetch(3):
            if n == 0:
                await until(lambda: len(log) == 4)
                await time.sleep(0.02)
                assert log == ["read 0", "read 1", "read 2", "read 3"]  # three ahead of the one in use, and no more
        assert len(log) == 6

    entry.run(main)


def test_batches_by_size_and_by_time(entry):
    async def main():
        got: list[list[int]] = []

        async def pauses() -> AsyncIterator[int]:
            for n in range(7):
                if n == 5:
                    await until(lambda: len(got) == 2)  # what has come is given without waiting for this one
                yield n

        async for batch in bateau.iter(pauses()).batch(3, 0.3):
            got.append(batch)
        assert got == [[0, 1, 2], [3, 4], [5, 6]]

    entry.run(main)


def test_a_batch_by_hand_loses_nothing(entry):
    """Collect for up to 30 ms, again and again: the loop that loses items with ``wait_for(anext(...))``."""

    async def main():
        got: list[list[int]] = []
        source = readings([0.01] * 12)
        over = False
        while not over:
            batch: list[int] = []
            with bateau.move_on_after(0.03):
                while not over:
                    n = await source.next(-1)
                    over = n == -1
                    batch += [n] * (not over)
            got.append(batch)
        assert [n for batch in got for n in batch] == list(range(12))
        assert len(got) >= 3

    entry.run(main)


def test_a_race_of_different_types_says_which_won(entry):
    async def main():
        event = sync.Event()
        source = readings([0.01, 60.0])
        won = await bateau.race(source.next(), event.wait())
        assert (won.index, won.value) == (0, 0)
        event.set()
        won = await bateau.race(source.next(), event.wait())
        assert won.index == 1
        await source.aclose()

    entry.run(main)


def test_select_over_a_stream_and_an_event_loses_no_item(entry):
    async def main():
        event = sync.Event()
        got: list[int] = []
        async with readings([0.005] * 5) as source, bateau.scope() as scope:
            scope.spawn(ring, event)
            rings = 0
            async with bateau.select(item=source, ring=event.wait) as events:
                async for chosen in events:
                    if chosen.name == "item":
                        got.append(chosen.value)
                    else:
                        rings += 1
                        event.clear()
                    if len(got) == 5:
                        break
            assert got == [0, 1, 2, 3, 4]
            assert rings >= 1
            scope.cancel()

    entry.run(main)


async def ring(event: sync.Event) -> None:
    while True:
        await time.sleep(0.003)
        event.set()
