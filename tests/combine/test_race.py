"""``race``: the first to succeed wins; the losers are cancelled and awaited, and lose nothing (law 3, S10, S17)."""

from __future__ import annotations

import pytest

import bateau
from bateau import race

pytestmark = pytest.mark.law(3)


async def value(v, turns=1):
    for _ in range(turns):
        await bateau.yield_now()
    return v


async def fail(error, turns=1):
    await value(None, turns)
    raise error


def test_who_won(entry):
    async def main():
        won = await race(value("slow", 50), value(2), lambda: value("slow", 50))
        assert (won.index, won.name, won.value) == (1, None, 2)
        won = await race(reader=value(b"x", 50), clock=value(1.5))
        assert (won.index, won.name, won.value) == (1, "clock", 1.5)
        match won:
            case bateau.combine.Won(_, "clock", float(seconds)):
                assert seconds == 1.5
            case _:
                raise AssertionError
        assert "clock" in repr(won)

    entry.run(main)


def test_losers_have_ended_first(entry):
    order: list[str] = []

    async def loser():
        try:
            await bateau.time.sleep_forever()
        finally:
            async with bateau.cleanup(5):
                await value(0, 3)
            order.append("loser unwound")

    async def main():
        await race(loser(), value(1), loser())
        order.append("race returned")
        async with bateau.scope() as scope:
            assert not scope.tasks
        assert order == ["loser unwound", "loser unwound", "race returned"]

    entry.run(main)


def test_operations_have_their_effect_only_if_they_win(entry):
    async def main():
        tx, rx = bateau.channel.channel[int](8)
        lock = bateau.sync.Lock()
        async with tx, rx:
            for n in range(4):
                tx.try_send(n)
            won = await race(item=rx.recv(), lock=lock.acquire())
            assert (won.name, won.value) == ("item", 0)
            assert not lock.locked()
            assert [rx.try_recv() for _ in range(3)] == [1, 2, 3]
            won = await race(late=bateau.time.sleep(0.01), item=rx.recv())
            assert won.name == "late"
            tx.try_send(9)
            assert rx.try_recv() == 9

    entry.run(main)


@pytest.mark.parametrize("turn", [bateau.checkpoint, bateau.yield_now])
def test_a_turn_can_be_an_arm(entry, turn):
    async def main():
        won = await race(bateau.time.sleep(60), turn())
        assert won.index == 1

    entry.run(main)


def test_failures_count_only_if_all_fail(entry):
    async def main():
        won = await race(fail(ValueError("a")), value("ok", 4))
        assert won.value == "ok"
        assert [(event.name, type(event.value)) for event in won.failed] == [(0, ValueError)]
        with pytest.raises(ExceptionGroup) as caught:
            await race(fail(ValueError("a")), fail(KeyError("b"), 3))
        assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]

    entry.run(main)


def test_a_loser_that_finished_all_the_same(entry):
    disposed: list[tuple[object, object]] = []

    async def stubborn():
        try:
            await bateau.time.sleep_forever()
        except bateau.Cancelled:
            pass
        return "connection"

    async def dispose(name, v):
        await bateau.yield_now()
        disposed.append((name, v))

    async def main():
        won = await race(stubborn(), value(1, 3))
        assert won.value == 1 and [tuple(event) for event in won.also] == [(0, "connection")]
        won = await race(value(1, 3), conn=stubborn(), on_loser=dispose)
        assert won.also == () and disposed == [("conn", "connection")]

    entry.run(main)


def test_a_loser_that_fails_while_cancelled_is_not_hidden(entry):
    async def clumsy():
        try:
            await bateau.time.sleep_forever()
        finally:
            raise KeyError("cleanup")

    async def main():
        won = await race(clumsy(), value(1, 3))
        assert won.value == 1 and [type(event.value) for event in won.failed] == [KeyError]

    entry.run(main)


@pytest.mark.law(5)
def test_cancelled_from_outside(entry):
    ended: list[int] = []

    async def slow(n):
        try:
            await bateau.time.sleep_forever()
        finally:
            ended.append(n)

    async def main():
        with bateau.move_on_after(0.02) as limit:
            await race(slow(1), slow(2))
        assert limit.cancelled_caught and sorted(ended) == [1, 2]

    entry.run(main)


def test_a_result_nobody_can_have_is_reported(entry):
    async def stubborn():
        try:
            await bateau.time.sleep_forever()
        except bateau.Cancelled:
            return "connection"

    async def main():
        with pytest.warns(bateau.HazardWarning, match="unclaimed_result.*connection"):
            with bateau.move_on_after(0.02):
                await race(stubborn())

    entry.run(main)


def test_bad_input(entry):
    async def main():
        with pytest.raises(ValueError, match="at least one"):
            await race()
        with pytest.raises(TypeError, match="argument 1 of race"):
            await race(value(1), 3)

    entry.run(main)


def test_ten_thousand_losers(entry):
    async def main():
        won = await race(*[bateau.time.sleep_forever() for _ in range(2000)], value(1, 2))
        assert won.index == 2000

    entry.run(main)
