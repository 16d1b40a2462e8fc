"""``join``: all at once, in order, and all of it has ended when it returns (law 3, S08, S32)."""

from __future__ import annotations

import pytest

import bateau
from bateau import join

pytestmark = pytest.mark.law(3)


async def value(v, turns=1):
    for _ in range(turns):
        await bateau.yield_now()
    return v


async def fail(error, turns=1):
    await value(None, turns)
    raise error


def test_results_in_the_order_given(entry):
    async def main():
        assert await join(value(1, 3), value("b"), lambda: value(2.5, 2)) == (1, "b", 2.5)
        assert await join([value(i, 5 - i) for i in range(5)]) == [0, 1, 2, 3, 4]
        assert await join(value(1)) == (1,)
        assert await join() == ()
        assert await join([]) == []
        assert await join(value(i) for i in range(3)) == [0, 1, 2]

    entry.run(main)


def test_what_may_be_given(entry):
    async def main():
        tx, rx = bateau.channel.channel[int](4)
        tx.try_send(7)
        async with bateau.scope() as scope:
            task = scope.spawn(value, "task")
            assert await join(rx.recv(), task, bateau.time.sleep(0), value(3)) == (7, "task", None, 3)
        tx.close()
        rx.close()

    entry.run(main)


def test_they_run_at_the_same_time(entry):
    async def main():
        start = bateau.now()
        await join([bateau.time.sleep(0.1) for _ in range(20)])
        assert bateau.now() - start < 1.5

    entry.run(main)


def test_limit(entry):
    running = most = 0

    async def work():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await bateau.yield_now()
        running -= 1

    async def main():
        await join([work() for _ in range(10)], limit=3)
        assert most == 3
        with pytest.raises(ValueError, match="limit"):
            await join(limit=0)

    entry.run(main)


def test_one_failure_is_raised_as_it_is_after_the_rest_has_ended(entry):
    ended: list[str] = []

    async def slow():
        try:
            await bateau.time.sleep_forever()
        finally:
            async with bateau.cleanup(5):
                await bateau.yield_now()
            ended.append("slow")

    async def main():
        error = ValueError("broken")
        with pytest.raises(ValueError) as caught:
            await join(slow(), fail(error, 2), slow())
        assert caught.value is error
        assert ended == ["slow", "slow"]
        assert any(__file__ in note for note in error.__notes__)

    entry.run(main)


def test_several_failures_are_a_group(entry):
    async def on_cancel():
        try:
            await bateau.time.sleep_forever()
        except bateau.Cancelled as cancelled:
            raise KeyError("cleanup") from cancelled

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            await join(on_cancel(), fail(ValueError("first")))
        assert sorted(type(error).__name__ for error in caught.value.exceptions) == ["KeyError", "ValueError"]

    entry.run(main)


def test_a_task_that_was_cancelled_elsewhere(entry):
    async def main():
        async with bateau.scope() as scope:
            task = scope.spawn(bateau.time.sleep_forever)
            await bateau.yield_now()
            task.cancel("not needed")
            with pytest.raises(bateau.TaskCancelled, match="not needed"):
                await join(value(1), task)

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
            await join(slow(1), slow(2))
        assert limit.cancelled_caught and sorted(ended) == [1, 2]

    entry.run(main)


def test_bad_input(entry):
    async def main():
        with pytest.raises(TypeError, match="argument 1 of join is a int"):
            await join(value(1), 3)
        with pytest.raises(TypeError, match="one iterable"):
            await join(3)
        with pytest.raises(TypeError, match="returned a int"):
            await join(lambda: 3)

    entry.run(main)


def test_never_awaited_is_loud():
    with pytest.warns(RuntimeWarning, match="never awaited"):
        join()
