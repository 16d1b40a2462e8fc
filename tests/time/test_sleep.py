"""Sleeping and reading the clock."""

from __future__ import annotations

import math
import time

import pytest

import bateau


def test_sleep_lasts_as_long_as_it_should_and_never_less(entry):
    async def main():
        before = bateau.now()
        await bateau.time.sleep(0.02)
        return bateau.now() - before

    took = entry.run(main)
    assert took >= 0.02 - 1e-6
    assert took < 5


def test_sleepers_wake_in_the_order_of_their_times(entry):
    async def main():
        order: list[float] = []

        async def sleeper(seconds):
            await bateau.time.sleep(seconds)
            order.append(seconds)

        async with bateau.scope() as scope:
            for seconds in (0.06, 0.02, 0.04):
                scope.spawn(sleeper, seconds)
        return order

    order = entry.run(main)
    if entry.family == "trio":
        order.sort()  # where the loop is late, trio shuffles those that it wakes in one batch
    assert order == [0.02, 0.04, 0.06]


@pytest.mark.law(13)
def test_sleep_zero_lets_the_others_run_each_time(entry):
    async def main():
        steps = 0

        async def other():
            nonlocal steps
            while True:
                await bateau.yield_now()
                steps += 1

        async with bateau.scope() as scope:
            scope.spawn(other, background=True)
            for _ in range(50):
                await bateau.time.sleep(0)
        return steps

    assert entry.run(main) >= 20


def test_the_length_counts_from_the_await(entry):
    async def main():
        nap = bateau.time.sleep(0.02)
        await bateau.time.sleep(0.03)
        before = bateau.now()
        await nap
        return bateau.now() - before

    assert entry.run(main) >= 0.02 - 1e-6


def test_sleep_until(entry):
    async def main():
        when = bateau.now() + 0.02
        await bateau.time.sleep_until(when)
        assert bateau.now() >= when - 1e-6
        ran = False

        async def other():
            nonlocal ran
            ran = True

        async with bateau.scope() as scope:
            scope.spawn(other)
            for _ in range(3):
                await bateau.time.sleep_until(when)  # in the past: just a turn for the others
            assert ran

    entry.run(main)


@pytest.mark.law(5)
@pytest.mark.parametrize("make", ["sleep", "until", "forever", "inf", "zero", "past"])
def test_every_sleep_is_a_cancellation_point(entry, make):
    async def main():
        makers = {
            "sleep": lambda: bateau.time.sleep(100),
            "until": lambda: bateau.time.sleep_until(bateau.now() + 100),
            "forever": bateau.time.sleep_forever,
            "inf": lambda: bateau.time.sleep(math.inf),
            "zero": lambda: bateau.time.sleep(0),
            "past": lambda: bateau.time.sleep_until(0),
        }
        with bateau.CancelScope() as cut:
            cut.cancel()
            await makers[make]()
        assert cut.cancelled_caught
        if make in ("zero", "past"):
            return
        with bateau.move_on_after(0.01) as cut:
            await makers[make]()
        assert cut.cancelled_caught

    entry.run(main)


@pytest.mark.law(10)
@pytest.mark.parametrize("entry", ["owned:native"], indirect=True)
def test_a_cancelled_sleep_takes_its_timer_back(entry):
    async def main():
        engine = bateau.current_task().host
        with bateau.move_on_after(0.005):
            await bateau.time.sleep(100)
        assert not engine.pending_timers()

    entry.run(main)


@pytest.mark.law(17)
@pytest.mark.parametrize("runtime", ["native"], indirect=True)
def test_sleeping_for_ever_hides_no_deadlock(runtime):
    async def main():
        await bateau.time.sleep_forever()

    with pytest.raises(bateau.Deadlock, match="sleep_forever"):
        runtime.run(main)


@pytest.mark.law(16)
def test_what_a_sleeper_waits_on(entry):
    async def main():
        async with bateau.scope() as scope:

            async def nap():
                await bateau.time.sleep(100)

            async def rest():
                await bateau.time.sleep_forever()

            napping, resting = scope.spawn(nap), scope.spawn(rest)
            while resting.waiting is None or napping.waiting is None:
                await bateau.yield_now()
            assert napping.waiting.describe() == "sleep of 100 s"
            assert napping.waiting.resource.satisfiers() == "outside"
            assert resting.waiting.describe() == "sleep_forever"
            assert list(resting.waiting.resource.satisfiers()) == []
            napping.cancel()
            resting.cancel()

    entry.run(main)


def test_wrong_lengths():
    for wrong in (-1, -0.001, float("nan"), -math.inf):
        with pytest.raises(ValueError, match="0 or more"):
            bateau.time.sleep(wrong)
    for wrong in ("1", None, True, [1]):
        with pytest.raises(TypeError):
            bateau.time.sleep(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"clock of bateau\.now"):
        bateau.time.sleep_until("soon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        bateau.time.sleep_until(float("nan"))


def test_the_clocks(entry):
    async def main():
        before = bateau.now()
        assert before <= bateau.time.monotonic() <= bateau.now()
        assert abs(bateau.time.time() - time.time()) < 60

    entry.run(main)


def test_outside_a_program_the_clocks_are_pythons_own():
    before = time.monotonic()
    assert before <= bateau.time.monotonic() <= time.monotonic()
    assert abs(bateau.time.time() - time.time()) < 60


def test_timeouts_are_found_here_too():
    assert bateau.time.timeout is bateau.timeout
    assert bateau.time.move_on_after is bateau.move_on_after
    assert bateau.time.fail_after is bateau.fail_after
