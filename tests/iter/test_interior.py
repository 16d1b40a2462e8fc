"""The scope inside a pipeline: where it lives, whose context its tasks have, and what the scopes around it make of it."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

import bateau
from bateau.iter import AsyncIter
from support.entries import on_adopted, on_native, on_owned, on_trio
from support.waiting import until

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


async def ticks(count: int = 5) -> AsyncIterator[int]:
    for i in range(count):
        await bateau.yield_now()
        yield i


async def same(item: int) -> int:
    await bateau.yield_now()
    return item


def piped(count: int = 5) -> AsyncIter[int]:
    return bateau.iter(range(count)).map(same).buffered(2)


def keepers(scope: Any) -> list[Any]:
    return [task for task in scope.tasks if task.name == "pipeline"]


@pytest.mark.law(1)
def test_the_keeper_lives_in_the_innermost_scope_around_the_consumer(entry):
    async def main() -> None:
        async with bateau.scope(name="outer") as outer:
            async with bateau.scope(name="inner") as inner:
                with bateau.move_on_after(60):
                    async for _ in piped():
                        assert len(keepers(inner)) == 1
                        assert not keepers(outer)
                        break
                await bateau.checkpoint()
                assert not inner.tasks
            assert not outer.tasks

    entry.run(main)


def test_a_child_task_keeps_in_the_scope_it_was_spawned_in(entry):
    async def child(scope: Any) -> None:
        async for _ in piped():
            assert keepers(scope)

    async def main() -> None:
        async with bateau.scope() as scope:
            await scope.spawn(child, scope)
            assert not scope.tasks

    entry.run(main)


def test_without_any_scope_around(entry):
    async def main() -> list[int]:
        got = [item async for item in piped()]
        async for _ in piped():
            break
        return got

    assert entry.run(main) == [0, 1, 2, 3, 4]


@on_trio
def test_trio_itself_has_nothing_left_of_it(entry):
    import trio

    async def main() -> None:
        before = len(trio.lowlevel.current_root_task().child_nurseries[0].child_tasks)  # type: ignore[union-attr]
        for _ in range(3):
            async for _ in piped():
                break
            await bateau.yield_now()
        await trio.testing.wait_all_tasks_blocked()
        after = len(trio.lowlevel.current_root_task().child_nurseries[0].child_tasks)  # type: ignore[union-attr]
        assert after <= before + 1  # bateau's own server of timers and calls

    import trio.testing

    entry.run(main)


@pytest.mark.parametrize("policy", ["FirstSuccess", "Collect", "Supervise"])
def test_policies_of_the_scope_around_do_not_see_the_pipeline(entry, policy):
    async def main() -> None:
        made = getattr(bateau, policy)()
        async with bateau.scope(policy=made) as scope:
            assert [item async for item in piped()] == [0, 1, 2, 3, 4]
            async for _ in piped():
                break
            await bateau.yield_now()
            assert not scope.tasks
            assert not scope.cancel_called

    entry.run(main)


def test_a_limit_of_the_scope_around_does_not_count_the_pipeline(entry):
    async def child() -> list[int]:
        return [item async for item in piped()]

    async def main() -> None:
        async with bateau.scope(limit=1) as scope:
            tasks = [scope.spawn(child) for _ in range(3)]
        for task in tasks:
            assert await task == [0, 1, 2, 3, 4]

    entry.run(main)


def test_context_variables(entry):
    """What runs inside begins with the consumer's variables, whoever spawns it; what it sets does not reach the consumer."""

    async def work(item: int) -> str:
        seen = variable.get()
        variable.set(f"worker of {item}")
        for _ in range(20):  # so that each item has a task of its own
            await bateau.yield_now()
        return seen

    async def generator() -> AsyncIterator[str]:
        variable.set("generator's")
        yield variable.get()
        yield variable.get()

    async def main() -> None:
        variable.set("consumer's")
        for method in ("buffered", "buffered_unordered"):
            got = [item async for item in getattr(bateau.iter(range(4)).map(work), method)(4)]
            assert got == ["consumer's"] * 4
        got = []
        async for item in bateau.iter(generator()):
            got.append(item)
            assert variable.get() == "consumer's"
        assert got == ["generator's"] * 2
        assert variable.get() == "consumer's"

    entry.run(main)


@pytest.mark.law(15)
def test_two_tasks_at_one_iterator_are_told(entry):
    async def main() -> None:
        for it in (bateau.iter(ticks()).map(same), piped(), bateau.iter(ticks())):
            async with bateau.scope() as scope:
                outcomes = []

                async def ask(it: Any = it, outcomes: list[str] = outcomes) -> None:
                    try:
                        await it.next()
                    except bateau.Busy as error:
                        outcomes.append(str(error))
                    else:
                        outcomes.append("item")

                tasks = [scope.spawn(ask) for _ in range(3)]
                for task in tasks:
                    await task
                await it.aclose()
            assert outcomes.count("item") == 1
            assert all(".share()" in text for text in outcomes if text != "item")

    entry.run(main)


@pytest.mark.law(5, 13)
def test_every_way_to_ask_checks_for_cancellation(entry):
    async def main() -> None:
        ways: list[Any] = [
            lambda: piped().next(),
            lambda: piped().collect(),
            lambda: bateau.iter([]).collect(),
            lambda: bateau.iter([1]).next(),
            lambda: piped().for_each_concurrent(2, same),
            lambda: bateau.iter([1]).share().next(),
            lambda: bateau.iter([1]).tee(1)[0].next(),
            lambda: bateau.iter([1]).merge([2]).next(),
        ]
        for way in ways:
            with bateau.move_on_after(60) as limit:
                limit.cancel()
                await way()
            assert limit.cancelled_caught, way

    entry.run(main)


@pytest.mark.law(13)
def test_a_pipeline_that_never_waits_lets_others_run(entry):
    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await bateau.yield_now()
                turns += 1

        async with bateau.scope() as scope:
            scope.spawn(other, background=True)
            for build in (
                lambda: bateau.iter(range(2000)),
                lambda: bateau.iter(range(2000)).prefetch(3000),
                lambda: bateau.iter(range(1000)).interleave(range(1000)),
                lambda: bateau.iter(range(2000)).tee(1, unbounded=True)[0],
                lambda: bateau.iter(range(2000)).share().iter(),
            ):
                turns = 0
                async for _ in build():
                    pass
                assert turns >= 10

    entry.run(main)


def test_entered_pipelines_nest(entry):
    async def main() -> None:
        got = []
        async with piped() as outer:
            async for a in outer:
                async with piped(2) as inner:
                    got.extend([(a, b) async for b in inner])
                async for b in piped(2):
                    got.append((a, b + 10))
                    break
        assert got == [pair for a in range(5) for pair in ((a, 0), (a, 1), (a, 10))]

    entry.run(main)


def test_a_failing_sibling_ends_the_pipeline_with_the_rest(entry):
    async def fail() -> None:
        for _ in range(4):
            await bateau.yield_now()
        raise OSError("sibling")

    async def endless() -> AsyncIterator[int]:
        while True:
            await bateau.yield_now()
            yield 1

    async def main() -> None:
        async with bateau.scope() as scope:
            scope.spawn(fail)
            async for _ in bateau.iter(endless()).map(same).buffered(3):
                pass

    with pytest.raises(BaseExceptionGroup) as caught:
        entry.run(main)
    assert [type(error) for error in caught.value.exceptions] == [OSError]


def test_a_deadline_around_a_loop(entry):
    async def slow(item: int) -> int:
        await bateau.time.sleep(3600)
        return item

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with bateau.timeout(0.01):
                async for _ in bateau.iter(range(5)).map(slow).buffered(3):
                    pass

    entry.run(main)


def test_closed_from_inside_its_own_work(entry):
    """Its consumer awaits the end; the work itself can't."""

    async def main() -> None:
        async def work(item: int) -> int:
            if item == 1:
                with suppress(bateau.Busy):
                    await it.aclose()
            await bateau.yield_now()
            return item

        it = bateau.iter(range(4)).map(work).buffered(2)
        with bateau.timeout(5), suppress(bateau.TaskCancelled):
            async for _ in it:
                await bateau.yield_now()

    entry.run(main)


@on_native
def test_a_hang_inside_is_proven_and_explained(entry):
    async def never(item: int) -> int:
        await bateau.sync.Event(name="the event").wait()
        return item

    async def main() -> None:
        async for _ in bateau.iter(range(3)).map(never).buffered(2):
            pass

    with pytest.raises(bateau.Deadlock) as caught:
        entry.run(main)
    assert "the event" in str(caught.value)
    assert "buffered(2)" in str(caught.value)


@on_owned
def test_stop_is_heard_inside(entry):
    async def main() -> None:
        heard = []

        async def work(item: int) -> int:
            await until(bateau.stopping)
            heard.append(item)
            return item

        async with bateau.scope() as scope:
            task = scope.spawn(bateau.iter(range(2)).map(work).buffered(2).collect)
            for _ in range(10):
                await bateau.yield_now()
            scope.stop()
            assert await task == [0, 1]
        assert sorted(heard) == [0, 1]

    entry.run(main)


@on_adopted
def test_in_a_program_without_bateau_at_its_top(entry):
    async def main() -> None:
        for _ in range(3):
            async for item in bateau.iter(ticks()).map(same).buffered(2):
                if item == 1:
                    break

    entry.run(main)


@pytest.mark.parametrize("cancelled", [False, True], ids=["ended", "cancelled before"])
def test_a_pipeline_kept_beyond_the_shield_it_began_in_ends_with_the_scope(entry, cancelled):
    log: list[int] = []
    kept: list[Any] = []

    async def work(item: int) -> int:
        try:
            await bateau.time.sleep(60 if item else 0)
            return item
        finally:
            async with bateau.cleanup(30):
                await bateau.time.sleep(0.01)
            log.append(item)

    async def main() -> None:
        async with bateau.scope() as scope:
            if cancelled:
                scope.cancel()
            with bateau.shield():
                kept.append(bateau.iter(range(5)).map(work).buffered(2))
                assert await kept[0].next() == 0
                await bateau.yield_now()
        assert {0, 1} <= set(log)

    entry.run(main)
