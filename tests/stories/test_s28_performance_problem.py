"""S28: CPU work in a coroutine stalls all the others, and threads do not help.

The happy ending: small work stays on the loop, big work leaves it, to processes (or interpreters); which, is measured and can be asked.
Offloaded work that is cancelled really ends.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

import bateau
from bateau import offload
from support.entries import Entry
from support.par_functions import busy

once_per_family = pytest.mark.parametrize("entry", ["owned:native", "adopted:asyncio", "owned:trio"], indirect=True)


async def longest_stall(until: Any) -> float:
    """For how long the loop's thread computed, in seconds, while this task, which only wants a turn every millisecond, had none.

    Not for how long it waited: a machine that stands still is nobody's stall.
    """
    longest = 0.0
    while not until():
        began = time.thread_time()
        await bateau.time.sleep(0.001)
        longest = max(longest, time.thread_time() - began)
    return longest


@once_per_family
def test_s28_big_work_leaves_and_small_stays(entry: Entry) -> None:
    async def main() -> None:
        offload.forget(busy)
        async with bateau.iter.processes(1) as pool:

            async def requests() -> None:
                nonlocal over
                await offload(busy, 0.8, size=800_000, on=pool)  # not measured yet: it leaves
                small = offload.decide(busy, size=100)
                assert small.place == "loop"
                for _ in range(60):
                    await offload(busy, 0.0001, size=100, on=pool)
                assert offload.decide(busy, size=800_000).place == "worker"
                await offload(busy, 0.8, size=800_000, on=pool)
                over = True

            over = False
            async with bateau.scope() as scope:
                stall = scope.spawn(longest_stall, lambda: over)
                scope.spawn(requests)
            stats = offload.stats(busy)
            assert stats.inline + stats.offloaded == 62
            # All the small ones, but for some after one that this machine held up: it is believed at first.
            assert stats.inline >= 10
            # Either of the two big calls, made here, would have been a stall of 0.8 s.
            assert stall.outcome().unwrap() < 0.75
        offload.forget(busy)

    entry.run(main)


@once_per_family
def test_s28_cancelled_work_ends(entry: Entry) -> None:
    async def main() -> None:
        offload.forget(busy)
        began = time.monotonic()
        async with bateau.iter.processes(1) as pool:
            with bateau.move_on_after(0.2) as limit:
                await offload(busy, 60.0, on=pool)
            assert limit.cancelled_caught
            # Its place is free: the next call is not behind a computation that nobody waits for any more.
            await offload(busy, 0.001, on=pool)
        assert time.monotonic() - began < 30
        offload.forget(busy)

    entry.run(main)


def test_s28_computing_in_parallel_where_threads_do_not_help() -> None:
    """The same chain, with the executor as its only difference; two processes use two CPUs."""

    async def main() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for on in (bateau.iter.threads(2), bateau.iter.processes(2)):
            found[on.kind] = await bateau.iter([0.005] * 60).par(on=on).map(busy).sum()
        return found

    found = bateau.run(main, runtime="native")
    assert found["threads"] == pytest.approx(0.3)
    assert found["processes"] == pytest.approx(0.3)
