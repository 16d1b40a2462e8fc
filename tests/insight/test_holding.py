"""For how long a lock or a permit has been held: a lower bound, which is never above the truth (story S12)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import bateau
from bateau import sync
from bateau.insight.collect import LiveReader
from bateau.insight.console.details import resource_text
from bateau.insight.console.listing import RESOURCE_COLUMNS, resource_rows
from bateau.insight.explain import explain
from bateau.insight.holding import HoldTimes
from bateau.insight.model import Resource, Snapshot, Wait
from bateau.insight.schema import from_json, to_json

# What of the truth may be missing from a figure: times are told in thousandths of a second.
ROUNDED = 0.002


def held(snapshot: Snapshot, name: str) -> Resource:
    return next(one for one in snapshot.resources if one.name == name or one.kind == name)


def test_who_is_seen_twice_with_somebody_waiting_meanwhile_has_not_let_go(runtime):
    """The holder never waits for long itself: what proves it is the one who stands in the queue."""

    async def main() -> None:
        reader, lock, over = LiveReader(), sync.Lock(name="db"), sync.Event()

        async def hold() -> None:
            async with lock:
                while not over.is_set():
                    await bateau.time.sleep(0.001)

        async with bateau.scope() as scope:
            began = time.monotonic()
            scope.spawn(hold, name="migration")
            while not lock.locked():
                await bateau.time.sleep(0.001)
            scope.spawn(lock.acquire, name="request")
            await bateau.time.sleep(0.01)
            reader.read()
            await bateau.time.sleep(0.06)
            snapshot = reader.read()
            passed = time.monotonic() - began
            over.set()
        one = held(snapshot, "db")
        assert 0.06 - ROUNDED <= one.held[0] <= passed + ROUNDED
        assert from_json(to_json(snapshot)).resources == snapshot.resources
        assert "and has had it for at least " in explain(snapshot)
        assert "; has had it for at least " in resource_text(snapshot, one.id)
        row = dict(zip(RESOURCE_COLUMNS, resource_rows(snapshot, match="db").rows[0].cells, strict=True))
        assert (row["held by"], row["held for"][0]) == ("migration", ">")

    runtime.run(main)


def test_a_new_holder_begins_at_nought(runtime):
    async def main() -> None:
        reader, permits = LiveReader(), sync.Semaphore(1, name="permits")
        turn = [sync.Event(), sync.Event(), sync.Event()]

        async def take(at: int) -> None:
            async with permits:
                await turn[at].wait()

        async with bateau.scope() as scope:
            for at in range(3):
                scope.spawn(take, at, name=f"{at}")
                await bateau.time.sleep(0.005)
            reader.read()
            await bateau.time.sleep(0.05)
            first = held(reader.read(), "permits")
            handed_over = time.monotonic()
            turn[0].set()
            await bateau.time.sleep(0.01)
            second = held(reader.read(), "permits")
            passed = time.monotonic() - handed_over
            for event in turn:
                event.set()
        assert first.held[0] >= 0.05 - ROUNDED
        assert second.holders != first.holders and second.held[0] <= passed + ROUNDED

    runtime.run(main)


def test_asyncios_own_lock_too():
    async def main() -> None:
        reader, lock = LiveReader(), asyncio.Lock()

        async def hold() -> None:
            async with lock:
                await asyncio.sleep(1000)

        holder = asyncio.create_task(hold())
        await asyncio.sleep(0.01)
        waiter = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0.01)
        reader.read()
        await asyncio.sleep(0.05)
        assert held(reader.read(), "asyncio Lock").held[0] >= 0.05 - ROUNDED
        waiter.cancel()
        holder.cancel()
        await asyncio.gather(holder, waiter, return_exceptions=True)

    asyncio.run(main())


def _look(times: HoldTimes, now: float, waited: float, holder: int = 1, own: float = 0.0) -> tuple[float, ...]:
    tasks = {
        holder: {"state": "waiting", "waits": Wait("sleep", waited=own)},
        9: {"state": "waiting", "waits": Wait("acquire", resource=5, waited=waited)},
    }
    resources: dict[int, dict[str, Any]] = {5: {"id": 5, "holders": (holder,), "waiters": (9,)}}
    times.note(resources, tasks, now)
    return resources[5]["held"]


def test_what_proves_it():
    """A waiter who has come since the last look proves nothing of the time before; the holder's own wait does."""
    times = HoldTimes()
    assert _look(times, 10.0, 0.0) == (0.0,)
    assert _look(times, 12.0, 2.0) == (2.0,)
    assert _look(times, 13.0, 0.5) == (0.0,), "it may have been given away and taken again"
    assert _look(times, 14.0, 1.5) == (1.0,)
    assert _look(times, 15.0, 2.5, holder=2) == (0.0,)
    assert _look(times, 16.0, 0.1, holder=2, own=7.0) == (7.0,)
    assert _look(times, 17.0, 1.1, holder=2) == (8.0,)
