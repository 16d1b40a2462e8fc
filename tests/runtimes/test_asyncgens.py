"""Async generators that nobody closed: the `finally` of each is run by a task before `run` returns, whenever it was dropped."""

from __future__ import annotations

import gc

import pytest

import bateau

# What asyncio and trio have to say of such generators on their own runtimes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:dropped_without_close"),
    pytest.mark.filterwarnings("ignore:leftover_task"),
    pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),
]


async def _take_one(log):
    async def numbers():
        try:
            for number in range(10):
                yield number
        finally:
            log.append("closing")
            await bateau.time.sleep(0)
            log.append("closed")

    async for _ in numbers():  # bateau: ignore[dropped_without_close]
        break
    gc.collect()


def _as_promised(log, runtime):
    """On native the waits of the `finally` are waited for as well; asyncio and trio cancel them at the program's end."""
    return log == ["closing", "closed"] or (runtime.family != "native" and log == ["closing"])


@pytest.mark.parametrize("turns_after", [0, 1, 5, 300])
def test_dropped_half_way_it_is_closed_before_run_returns(runtime, turns_after):
    log = []

    async def main():
        await _take_one(log)
        for _ in range(turns_after):
            await bateau.yield_now()

    runtime.run(main)
    assert _as_promised(log, runtime), log


def test_dropped_by_a_program_that_fails(runtime):
    log = []

    async def main():
        await _take_one(log)
        raise LookupError("no")

    with pytest.raises(LookupError):
        runtime.run(main)
    assert _as_promised(log, runtime), log
