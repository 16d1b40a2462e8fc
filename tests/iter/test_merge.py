"""merge, merge_with_priority, interleave: what comes when, what is claimed, and how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import bateau
from support.waiting import until


async def ticks(name: str, count: int, turns: int = 1) -> AsyncIterator[str]:
    for i in range(count):
        for _ in range(turns):
            await bateau.yield_now()
        yield f"{name}{i}"


@pytest.mark.parametrize("method", ["merge", "merge_with_priority", "interleave"])
def test_every_item_once_and_each_source_in_order(entry, method):
    async def main() -> None:
        for whole in (False, True):
            it = getattr(bateau.iter(ticks("a", 5)), method)(
                ticks("b", 3, 4), ["c0", "c1"], lambda: ticks("d", 2), bateau.iter(range(4)).map(lambda i: f"e{i}")
            )
            got = await it.collect() if whole else [item async for item in it]
            assert len(got) == 5 + 3 + 2 + 2 + 4
            for name in "abcde":
                mine = [item for item in got if item[0] == name]
                assert mine == [f"{name}{i}" for i in range(len(mine))]

    entry.run(main)


def test_merge_of_nothing(entry):
    async def main() -> None:
        assert await bateau.iter([]).merge([], []).collect() == []
        assert [item async for item in bateau.iter([]).merge()] == []
        assert await bateau.iter([1]).interleave().collect() == [1]

    entry.run(main)


def test_interleave_is_round_robin(entry):
    async def main() -> None:
        it = bateau.iter([1, 2, 3]).interleave([10], ticks("x", 4), [])
        assert await it.collect() == [1, 10, "x0", 2, "x1", 3, "x2", "x3"]

    entry.run(main)


@pytest.mark.law(14)
def test_each_source_is_one_item_ahead_at_most(entry):
    async def main() -> None:
        claimed = [0, 0]
        taken = [0, 0]

        async def source(index: int) -> AsyncIterator[int]:
            for _ in range(20):
                claimed[index] += 1
                assert claimed[index] - taken[index] <= 2  # the one that was given, and the one it is at
                await bateau.yield_now()
                yield index

        async for index in bateau.iter(source(0)).merge(source(1)):
            taken[index] += 1
            for _ in range(6):
                await bateau.yield_now()
            assert claimed[0] - taken[0] <= 1
            assert claimed[1] - taken[1] <= 1
        assert taken == [20, 20]

    entry.run(main)


@pytest.mark.law(12)
def test_a_source_that_always_has_something_starves_nobody(entry):
    def endless() -> Any:
        while True:
            yield "busy"

    async def main() -> None:
        got = []
        async for item in bateau.iter(endless()).merge(ticks("calm", 3)):
            got.append(item)
            if item == "calm2":
                break
        assert len(got) < 100

    entry.run(main)


def test_priority_decides_where_several_are_there(entry):
    async def main() -> None:
        it = bateau.iter(ticks("a", 3)).merge_with_priority(ticks("b", 3), ticks("c", 3))
        got = []
        async for item in it:
            got.append(item)
            for _ in range(20):  # so that each has its next item
                await bateau.yield_now()
        first = got[1:] if got[0] != "a0" else got
        assert [item for item in first if item[0] == "a"] == first[: len([item for item in first if item[0] == "a"])]
        assert got[-1] == "c2"

    entry.run(main)


async def ready(name: str, count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield name


def through_channel(name: str, count: int) -> Any:
    send, receive = bateau.channel.channel(count)
    for _ in range(count):
        send.try_send(name)
    send.close()
    return receive


ALWAYS_READY: dict[str, Any] = {
    "list": lambda name, count: [name] * count,
    "generator": ready,
    "generator of another's": lambda name, count: bateau.iter(ready(name, count)).flat_map(lambda x: ready(x, 1)),
    "channel": through_channel,
    "prefetched": lambda name, count: bateau.iter(ready(name, count)).prefetch(2),
    "buffered": lambda name, count: bateau.iter([name] * count).map(lambda x: x).buffered(3),
}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("other", ["list", "generator"])
@pytest.mark.parametrize("first", ALWAYS_READY)
def test_a_preferred_source_that_is_always_ready_keeps_the_others_waiting(entry, first, other, whole):
    async def main() -> None:
        it = bateau.iter(ALWAYS_READY[first]("a", 50)).merge_with_priority(
            ALWAYS_READY[other]("b", 50), ALWAYS_READY[other]("c", 50)
        )
        got = await it.collect() if whole else [item async for item in it]  # a body that never waits
        assert "".join(got) == "a" * 50 + "b" * 50 + "c" * 50

    entry.run(main)


def test_a_preferred_source_that_waits_holds_nobody_up(entry):
    async def main() -> None:
        send, receive = bateau.channel.channel(1)
        await send.send("a")
        got = []
        async for item in bateau.iter(receive).merge_with_priority(["b"] * 30):
            got.append(item)
            if len(got) == 20:
                await send.send("a")
                send.close()
        assert got[0] == "a"
        assert got[1:20] == ["b"] * 19
        assert "a" in got[20:22]  # one of the others may have been fetched before
        assert len(got) == 32

    entry.run(main)


def test_an_error_of_one_source_ends_that_one(entry):
    async def broken() -> AsyncIterator[str]:
        yield "x0"
        raise OSError("broken")

    async def main() -> None:
        for method in ("merge", "interleave"):
            it = getattr(bateau.iter(broken()), method)(ticks("a", 4))
            got, errors = [], 0
            while True:
                try:
                    item = await it.next(default=None)
                except OSError:
                    errors += 1
                    continue
                if item is None:
                    break
                got.append(item)
            assert errors == 1
            assert sorted(got) == ["a0", "a1", "a2", "a3", "x0"]

    entry.run(main)


@pytest.mark.law(9)
def test_a_timed_out_next_loses_nothing(entry):
    async def slow(name: str) -> AsyncIterator[str]:
        for i in range(3):
            await bateau.time.sleep(0.004)
            yield f"{name}{i}"

    async def main() -> None:
        it = bateau.iter(slow("a")).merge(slow("b"))
        got = []
        while True:
            with bateau.move_on_after(0.001):
                item = await it.next(default=None)
                if item is None:
                    break
                got.append(item)
        assert sorted(got) == ["a0", "a1", "a2", "b0", "b1", "b2"]

    entry.run(main)


@pytest.mark.law(16)
def test_what_a_merge_waits_for(entry):
    async def silent() -> AsyncIterator[int]:
        await bateau.sync.Event(name="never").wait()
        yield 1

    async def consume() -> None:
        async for _ in bateau.iter(silent()).merge(silent()):
            pass

    async def main() -> None:
        async with bateau.scope() as scope:
            task = scope.spawn(consume)
            await until(lambda: task.waiting is not None and "2 sources open" in task.waiting.describe())
            op = task.waiting
            assert op is not None
            assert len(list(op.resource.satisfiers())) == 2
            assert op in list(op.resource.waiters())
            task.cancel()

    entry.run(main)
