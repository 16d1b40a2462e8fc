"""``retry``: the functions before it run again for an item that failed."""

from __future__ import annotations

from typing import Any

import pytest

import bateau
from bateau.iter import Retry
from support.entries import Entry, Runtime


class Flaky:
    """Fails each item so many times before it succeeds."""

    def __init__(self, failures: int, error: type[Exception] = OSError) -> None:
        self.failures = failures
        self.error = error
        self.calls: list[int] = []

    async def __call__(self, item: int) -> int:
        self.calls.append(item)
        await bateau.checkpoint()
        if self.calls.count(item) <= self.failures:
            raise self.error(f"item {item}")
        return item * 10


def test_an_item_that_failed_is_tried_again_in_its_place(entry: Entry) -> None:
    flaky = Flaky(2)

    async def main() -> list[int]:
        return await bateau.iter(range(3)).map(flaky).retry(Retry(2, delay=0)).collect()

    assert entry.run(main) == [0, 10, 20]
    assert flaky.calls == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_all_functions_before_it_run_again(runtime: Runtime) -> None:
    flaky = Flaky(1)
    seen: list[int] = []

    def note(item: int) -> int:
        seen.append(item)
        return item

    async def main() -> list[int]:
        steps = bateau.iter(range(4)).map(note).map(flaky).filter(lambda x: x != 10)
        return await steps.retry(Retry(1, delay=0)).collect()

    assert runtime.run(main) == [0, 20, 30]
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3]


def test_when_tries_are_used_up_the_last_error_is_raised_and_the_rest_goes_on(runtime: Runtime) -> None:
    async def risky(x: int) -> int:
        if x == 1:
            raise OSError("always")
        return x

    async def main() -> None:
        items = bateau.iter(range(3)).map(risky).retry(Retry(3, delay=0))
        assert await items.next() == 0
        with pytest.raises(OSError, match="always") as caught:
            await items.next()
        assert caught.value.__notes__ == ["tried 4 times"]
        assert await items.next() == 2

    runtime.run(main)


def test_only_what_is_named_is_tried_again(runtime: Runtime) -> None:
    flaky = Flaky(1, KeyError)

    async def main() -> None:
        with pytest.raises(KeyError):
            await bateau.iter([1]).map(flaky).retry(Retry(on=(OSError, ValueError), delay=0)).collect()

    runtime.run(main)
    assert flaky.calls == [1]


def test_before_buffered_each_retries_by_itself(entry: Entry) -> None:
    flaky = Flaky(1)

    async def main() -> float:
        begin = bateau.now()
        found = await bateau.iter(range(8)).map(flaky).retry(Retry(delay=0.2)).buffered(8).collect()
        assert found == [x * 10 for x in range(8)]
        return bateau.now() - begin

    assert 0.2 <= entry.run(main) < 1.2  # one after the other: 1.6


def test_a_cancelled_wait_between_tries_loses_nothing(runtime: Runtime) -> None:
    flaky = Flaky(1)

    async def main() -> list[int]:
        items = bateau.iter(range(2)).map(flaky).retry(Retry(delay=0.1))
        found: list[int] = []
        while len(found) < 2:
            with bateau.move_on_after(0.03):
                found.append(await items.next())
            if len(found) < 2:
                await bateau.time.sleep(0.08)
        return found

    assert runtime.run(main) == [0, 10]


def test_delays_grow_up_to_the_longest() -> None:
    policy = Retry(9, delay=1, factor=3, longest=20)
    assert [policy.wait(n) for n in range(1, 6)] == [1, 3, 9, 20, 20]
    spread = Retry(delay=1, jitter=0.5)
    assert all(0.5 <= spread.wait(1) <= 1 for _ in range(100))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: bateau.iter([1]).retry(), TypeError, "right after the function"),
        (lambda: bateau.iter([1]).map(str).retry("x"), TypeError, "Retry or a number"),
        (lambda: bateau.iter([1]).map(str).retry(0), ValueError, "at least 1"),
        (lambda: Retry(delay=-1), ValueError, "delay of 0 or more"),
        (lambda: Retry(delay=float("nan")), ValueError, "finite delay"),
        (lambda: Retry(delay=float("inf")), ValueError, "finite delay"),
        (lambda: Retry(delay="x"), TypeError, "number of seconds for delay"),  # type: ignore[arg-type]
        (lambda: Retry(longest=float("nan")), ValueError, "finite longest"),
        (lambda: Retry(longest=None), TypeError, "number of seconds for longest"),  # type: ignore[arg-type]
        (lambda: Retry(factor=float("nan")), ValueError, "finite factor"),
        (lambda: Retry(factor="2"), TypeError, "a number for factor"),  # type: ignore[arg-type]
        (lambda: Retry(jitter=float("nan")), ValueError, "finite jitter"),
        (lambda: Retry(jitter=True), TypeError, "a number for jitter"),
        (lambda: Retry(jitter=2), ValueError, "between 0 and 1"),
        (lambda: Retry(on=BaseException), TypeError, "exception classes"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_refused_at_once(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
