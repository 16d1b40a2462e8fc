"""S32: one-by-one awaits take the sum of their times. Here: `join` over a list takes the longest."""

from __future__ import annotations

import bateau


async def fetch(n):
    await bateau.time.sleep(0.05)
    return n * n


def test_join_over_a_list(entry):
    async def main():
        start = bateau.now()
        one_by_one = [await fetch(n) for n in range(8)]
        between = bateau.now()
        together = await bateau.join([fetch(n) for n in range(8)])
        end = bateau.now()
        assert together == one_by_one == [n * n for n in range(8)]
        assert between - start >= 0.39
        assert end - between < between - start

    entry.run(main)
