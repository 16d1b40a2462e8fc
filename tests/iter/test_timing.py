"""Combinators that look at the clock. Durations are lower bounds, or told apart by a factor of ten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import bateau
from bateau.iter import ItemTimeout, Progress, Retry
from support.entries import Entry, Runtime
from support.waiting import until

LONG = 0.3  # a pause that a slow machine does not mistake for a short one
SHORT = 0.06


async def paused(*steps: object) -> AsyncIterator[Any]:
    """Items as they are; a float is a pause of so many seconds; an exception is raised."""
    for step in steps:
        if isinstance(step, float):
            await bateau.time.sleep(step)
        elif isinstance(step, Exception):
            raise step
        else:
            yield step


def test_a_batch_goes_when_it_is_full_or_has_waited(runtime: Runtime) -> None:
    async def main() -> None:
        items = bateau.iter(paused(1, 2, 3, 4, LONG, 5)).batch(3, wait=SHORT)
        assert [batch async for batch in items] == [[1, 2, 3], [4], [5]]

    runtime.run(main)


def test_a_batch_waits_for_its_first_item_without_giving_an_empty_one(runtime: Runtime) -> None:
    async def main() -> list[list[int]]:
        return await bateau.iter(paused(0.3, 1)).batch(10, wait=0.01).collect()

    assert runtime.run(main) == [[1]]


def test_a_failed_item_comes_after_the_batch_before_it(runtime: Runtime) -> None:
    def odd(x: int) -> int:
        if x == 3:
            raise ValueError(x)
        return x

    async def main() -> None:
        items = bateau.iter(range(6)).map(odd).batch(10, wait=1)
        assert await items.next() == [0, 1, 2]
        with pytest.raises(ValueError, match="3"):
            await items.next()
        assert await items.next() == [4, 5]
        assert await items.next(None) is None

    runtime.run(main)


def test_a_timed_out_next_loses_nothing_of_a_batch(entry: Entry) -> None:
    async def main() -> None:
        items = bateau.iter(paused(1, 0.2, 2, 0.2, 3)).batch(3, wait=10)
        tries = 0
        found = None
        while found is None:
            with bateau.move_on_after(0.05):
                found = await items.next()
            tries += 1
        assert found == [1, 2, 3]
        assert tries > 2
        await items.aclose()

    entry.run(main)


def test_throttle_never_exceeds_its_rate(runtime: Runtime) -> None:
    async def main() -> list[float]:
        stamps: list[float] = []
        async for _ in bateau.iter(range(10)).throttle(3, per=0.1):
            stamps.append(bateau.now())
        return stamps

    stamps = runtime.run(main)
    assert len(stamps) == 10
    assert all(later - earlier >= 0.0999 for earlier, later in zip(stamps, stamps[3:], strict=False))


def test_debounce_gives_what_was_followed_by_quiet(runtime: Runtime) -> None:
    async def main() -> list[int]:
        return await bateau.iter(paused(1, 2, 3, LONG, 4, 5, LONG, 6)).debounce(SHORT).collect()

    assert runtime.run(main) == [3, 5, 6]


def test_sample_gives_the_newest_at_each_tick(runtime: Runtime) -> None:
    async def main() -> list[int]:
        return await bateau.iter(paused(1, 2, LONG, 3, 4, LONG, 5)).sample(0.25).collect()

    assert runtime.run(main) == [2, 4, 5]


def test_sample_goes_on_while_its_consumer_is_busy(runtime: Runtime) -> None:
    async def ticks() -> AsyncIterator[int]:
        nonlocal made
        for made in range(60):
            await bateau.time.sleep(0.01)
            yield made

    async def main() -> tuple[int, int]:
        async with bateau.iter(ticks()).sample(0.02) as items:
            first = await items.next()
            await until(lambda: made > first + 15)
            return first, await items.next()

    made = 0
    first, second = runtime.run(main)
    assert second - first > 5  # the newest, not the next one


@pytest.mark.parametrize("method", ["debounce", "sample"])
def test_a_failure_keeps_its_place_and_the_rest_follows(runtime: Runtime, method: str) -> None:
    async def risky(x: int) -> int:
        if x == 2:
            await bateau.time.sleep(LONG)
            raise ValueError(x)
        if x == 3:
            await bateau.time.sleep(LONG)
        return x

    async def main() -> None:
        items = getattr(bateau.iter(range(1, 4)).map(risky), method)(SHORT)
        assert await items.next() == 1
        with pytest.raises(ValueError, match="2"):
            await items.next()
        assert await items.next() == 3
        assert await items.next("over") == "over"

    runtime.run(main)


@pytest.mark.parametrize("method", ["debounce", "sample"])
def test_the_newest_item_survives_a_timed_out_next(runtime: Runtime, method: str) -> None:
    async def main() -> list[int]:
        items = getattr(bateau.iter(paused(0.3, 7)), method)(0.05)
        found: list[int] = []
        while not found:
            with bateau.move_on_after(0.02):
                found.append(await items.next())
        return found

    assert runtime.run(main) == [7]


def test_an_item_that_takes_too_long_fails_in_its_place(runtime: Runtime) -> None:
    cancelled: list[int] = []

    async def work(x: int) -> int:
        try:
            await bateau.time.sleep(10 if x == 1 else 0)
        except bateau.Cancelled:
            cancelled.append(x)
            raise
        return x

    async def main() -> None:
        items = bateau.iter(range(3)).map(work).timeout(0.25)
        assert await items.next() == 0
        with pytest.raises(ItemTimeout, match=r"longer than 0.25 s"):
            await items.next()
        assert await items.next() == 2

    runtime.run(main)
    assert cancelled == [1]


def test_before_buffered_each_call_has_its_own_limit(entry: Entry) -> None:
    async def work(x: int) -> int:
        await bateau.time.sleep(10 if x % 2 else 0)
        return x

    async def main() -> list[object]:
        found: list[object] = []
        async with bateau.iter(range(6)).map(work).timeout(0.25).buffered(6) as items:
            while True:
                try:
                    found.append(await items.next())
                except ItemTimeout:
                    found.append("late")
                except StopAsyncIteration:
                    return found

    assert entry.run(main) == [0, "late", 2, "late", 4, "late"]


def test_a_source_that_is_late_goes_on_afterwards(runtime: Runtime) -> None:
    async def main() -> None:
        async with bateau.iter(paused(1, LONG, 2)).timeout(SHORT) as items:
            assert await items.next() == 1
            with pytest.raises(ItemTimeout):
                await items.next()
            while True:
                try:
                    assert await items.next() == 2
                    return
                except ItemTimeout:
                    pass

    runtime.run(main)


class Custom:
    """An async iterator of somebody's: no generator, and what a cancelled ``__anext__`` leaves is its own affair."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.at = 0
        self.cut = 0

    def __aiter__(self) -> Custom:
        return self

    async def __anext__(self) -> int:
        self.at += 1
        if self.at > 4:
            raise StopAsyncIteration
        try:
            await bateau.time.sleep(self.pause if self.at == 2 else 0)
        except BaseException:
            self.cut += 1
            raise
        return self.at


async def outcomes(items: Any, *, by_hand: bool) -> list[object]:
    """Everything, "late" in the place of an item that was; in one call, or by ``next``."""
    if not by_hand:
        return await items.catch(ItemTimeout, lambda error, item: "late").collect()
    found: list[object] = []
    async with items:
        while True:
            try:
                found.append(await items.next())
            except ItemTimeout:
                found.append("late")
            except StopAsyncIteration:
                return found


UNDER_A_LIMIT: dict[str, Any] = {
    "alone": lambda source: bateau.iter(source).timeout(SHORT),
    "after a function": lambda source: bateau.iter(source).map(lambda x: x).timeout(SHORT),
    "twice": lambda source: bateau.iter(source).timeout(SHORT).timeout(10),
    "twice, the other way": lambda source: bateau.iter(source).timeout(10).timeout(SHORT),
    "a part of chain": lambda source: bateau.iter([]).chain(source).timeout(SHORT),
    "within a part of chain": lambda source: bateau.iter([]).chain(bateau.iter(source).timeout(SHORT)),
    "within a part of interleave": lambda source: bateau.iter([]).interleave(bateau.iter(source).timeout(SHORT)),
    "within a part of merge": lambda source: bateau.iter([]).merge(bateau.iter(source).timeout(SHORT)),
    "a part of flat_map": lambda source: bateau.iter([1]).flat_map(lambda _: source).timeout(SHORT),
    "within flat_map": lambda source: bateau.iter([1]).flat_map(lambda _: bateau.iter(source).timeout(SHORT)),
    "a part of zip": lambda source: bateau.iter(range(1, 9)).zip(source).timeout(SHORT).map(lambda row: row[1]),
    "within a part of zip": lambda source: (
        bateau.iter(source).timeout(SHORT).catch(ItemTimeout, lambda *_: "late").zip(range(99)).map(lambda row: row[0])
    ),
    "under batch": lambda source: bateau.iter(source).timeout(SHORT).batch(1, 10).map(lambda batch: batch[0]),
    "under prefetch": lambda source: bateau.iter(source).timeout(SHORT).prefetch(2),
    "before buffered": lambda source: bateau.iter(source).timeout(SHORT).map(lambda x: x).buffered(2),
    "before retry": lambda source: bateau.iter(source).timeout(SHORT).map(lambda x: x).retry(2),
}


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("how", UNDER_A_LIMIT)
def test_a_source_that_is_late_loses_nothing_and_is_not_cut(entry: Entry, how: str, by_hand: bool) -> None:
    source = Custom(2.5 * SHORT)

    async def main() -> list[object]:
        return await outcomes(UNDER_A_LIMIT[how](source), by_hand=by_hand)

    found = entry.run(main)
    # Mostly 1, late, late, 2, 3, 4; where this machine stands still, others of them are late as well.
    assert "late" in found[: found.index(2)]
    assert [item for item in found if item != "late"] == [1, 2, 3, 4]
    assert not source.cut


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_channel_goes_on_after_a_time_limit(entry: Entry, by_hand: bool) -> None:
    async def main() -> list[object]:
        send, receive = bateau.channel.channel(1)

        async def feed() -> None:
            await send.send(1)
            await bateau.time.sleep(2.5 * SHORT)
            await send.send(2)
            send.close()

        async with bateau.scope() as scope:
            scope.spawn(feed)
            return await outcomes(bateau.iter(receive).timeout(SHORT), by_hand=by_hand)

    found = entry.run(main)
    assert "late" in found[: found.index(2)]
    assert [item for item in found if item != "late"] == [1, 2]


@pytest.mark.parametrize("by_hand", [True, False])
def test_waits_that_are_nobodys_work_are_cut_and_said_to_be(runtime: Runtime, by_hand: bool) -> None:
    async def failing(item: int) -> int:
        nonlocal calls
        calls += 1
        raise OSError

    async def main() -> None:
        found = await outcomes(bateau.iter([1, 2]).throttle(1, per=2.5 * SHORT).timeout(SHORT), by_hand=by_hand)
        assert found == [1, *["late"] * found.count("late"), 2]
        assert 1 <= found.count("late") <= 3
        again = Retry(3, delay=100, longest=100)
        assert (
            await outcomes(bateau.iter([1, 2]).map(failing).retry(again).timeout(SHORT), by_hand=by_hand)
            == ["late"] * 2
        )
        assert calls == 2
        endless = bateau.iter.repeat(1).filter(lambda _: False).timeout(SHORT)
        async with endless:
            for _ in range(2):
                with pytest.raises(ItemTimeout):
                    await endless.next()
        with pytest.raises(ItemTimeout):
            await bateau.iter.repeat(1).filter(lambda _: False).timeout(SHORT).first()

    calls = 0
    runtime.run(main)


@pytest.mark.parametrize("by_hand", [True, False])
def test_an_iterator_is_not_asked_again_after_an_error_of_its_own(runtime: Runtime, by_hand: bool) -> None:
    class Broken(Custom):
        async def __anext__(self) -> int:
            if self.at == 1:
                self.at = 2
                raise OSError
            return await super().__anext__()

    async def main() -> None:
        if not by_hand:
            whole = bateau.iter(Broken(0)).timeout(SHORT).catch(OSError, lambda error, item: "broken")
            assert await whole.collect() == [1, "broken"]
            return
        items = bateau.iter(Broken(0)).timeout(SHORT)
        assert await items.next() == 1
        with pytest.raises(OSError):
            await items.next()
        assert await items.next("over") == "over"

    runtime.run(main)


@pytest.mark.parametrize("method", ["buffered", "buffered_unordered", "retry"])
def test_a_time_limit_for_the_source_is_no_work_for(method: str) -> None:
    with pytest.raises(TypeError, match="right after the function"):
        getattr(bateau.iter([1]).timeout(1), method)(2)


def test_progress_is_told_at_intervals_and_at_the_end(runtime: Runtime) -> None:
    told: list[Progress] = []

    async def note(progress: Progress) -> None:
        await bateau.checkpoint()
        told.append(progress)

    async def main() -> list[int]:
        return await bateau.iter(paused(1, 0.1, 2, 0.1, 3)).progress(note, every=0.05, total=3).collect()

    assert runtime.run(main) == [1, 2, 3]
    assert [step.items for step in told] == [2, 3, 3]
    assert told[-1].done
    assert not told[0].done
    assert str(told[-1]).startswith("3/3 items in ")


def test_what_progress_raises_is_raised(runtime: Runtime) -> None:
    def broken(progress: Progress) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await bateau.iter(range(3)).progress(broken).collect()

    runtime.run(main)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda it: it.batch(0, 1), ValueError, "most of at least 1"),
        (lambda it: it.batch(2, 0), ValueError, "wait above 0"),
        (lambda it: it.batch(2.0, 1), TypeError, "whole number"),
        (lambda it: it.throttle(1, "x"), TypeError, "seconds for per"),
        (lambda it: it.debounce(-1), ValueError, "above 0"),
        (lambda it: it.sample(True), TypeError, "number of seconds"),
        (lambda it: it.timeout(float("nan")), ValueError, "above 0"),
        (lambda it: it.progress(3), TypeError, "needs a function"),
    ],
)
def test_bad_arguments_are_refused_at_once(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make(bateau.iter([1]))
