"""S34: an async iterator is not parallel; the error of two concurrent ``next`` says nothing; a pipeline that never waits is slow.

Here: ``map`` becomes concurrent by ``buffered(n)``, parallel by ``par(n)``; the error names the remedy; a hint says when to leave async.
"""

from __future__ import annotations

import sys
import threading

import pytest

import bateau
from bateau import time
from bateau.iter import threads
from support.entries import on_native


async def fetch(n):
    await time.sleep(0.05)
    return n * n


SQUARES = [n * n for n in range(16)]


def test_one_after_the_other_and_at_once(entry):
    async def main():
        start = bateau.now()
        assert await bateau.iter(range(8)).map(fetch).collect() == SQUARES[:8]
        one_by_one = bateau.now() - start
        start = bateau.now()
        assert await bateau.iter(range(16)).map(fetch).buffered(16).collect() == SQUARES
        at_once = bateau.now() - start
        start = bateau.now()
        assert await bateau.iter(range(16)).par(16).map(fetch).collect() == SQUARES
        parallel = bateau.now() - start
        assert one_by_one >= 0.39
        assert at_once < one_by_one
        assert parallel < one_by_one

    entry.run(main)


def test_plain_functions_on_threads(entry):
    met = threading.Barrier(8, timeout=60)

    def blocking(n):
        if n < 8:
            met.wait()  # one after the other they would wait for ever
        return n * n

    async def main():
        assert await bateau.iter(range(16)).par(8, on=threads(), chunk=1).map(blocking).collect() == SQUARES

    entry.run(main)


def test_the_remedy_for_two_at_once_works(entry):
    async def main():
        async def numbers():
            for n in range(100):
                await bateau.checkpoint()
                yield n

        shared = bateau.iter(numbers()).share()
        async with bateau.scope() as scope:
            tasks = [scope.spawn(shared.iter().collect) for _ in range(3)]
        assert sorted([n for task in tasks for n in await task]) == list(range(100))
        one, two = bateau.iter(numbers()).tee(2)
        assert await bateau.join(one.collect(), two.collect()) == (list(range(100)), list(range(100)))

    entry.run(main)


@pytest.mark.parametrize("end", ["loop", "collect"])
def test_the_hint_for_a_pipeline_that_never_waits(entry, end):
    async def main():
        numbers = bateau.iter(range(20_000)).map(lambda n: n + 1)
        line = sys._getframe().f_lineno - 1
        with pytest.warns(
            bateau.HazardWarning, match="never_waits: this pipeline gave .* a plain iterator would do"
        ) as caught:
            if end == "loop":
                async for _ in numbers:
                    pass
            else:
                await numbers.collect()
        [warning] = caught
        assert (warning.filename, warning.lineno) == (__file__, line)

    from bateau.iter import chain

    chain._told.clear()
    entry.run(main)


@on_native
def test_no_hint_where_it_waits_or_is_short(entry):
    async def main():
        async def waits(n):
            await bateau.checkpoint()
            return n

        await bateau.iter(range(11_000)).map(waits).collect()
        await bateau.iter(range(9_000)).map(lambda n: n).collect()

    entry.run(main)
