"""S07: state read before an await and used after it; children that outlive what they touch. Here neither goes unseen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import bateau
from bateau import sim
from support.waiting import until


class World:
    """Something with an end, which children touch."""

    def __init__(self) -> None:
        self.alive = True
        self.touched = 0

    def touch(self) -> None:
        assert self.alive, "a child has outlived its world"
        self.touched += 1

    async def aclose(self) -> None:
        await bateau.yield_now()
        self.alive = False


@pytest.mark.law(1)
@pytest.mark.parametrize("end", ["all done", "the body fails", "a child fails", "cancelled", "a deadline", "stopped"])
def test_no_child_outlives_the_world_it_touches(entry: Any, end: str) -> None:
    async def main() -> World:
        world = World()

        async def child(turns: int, fail: bool = False) -> None:
            try:
                for _ in range(turns):
                    world.touch()
                    await bateau.time.sleep(0.001)
                    if fail:
                        raise ValueError("child")
                    if bateau.stopping():
                        return
            finally:
                world.touch()

        with bateau.move_on_after(None) as outer:
            try:
                async with bateau.scope(timeout=0.01 if end == "a deadline" else None) as scope:
                    scope.own(world)
                    for n in range(5):
                        scope.spawn(child, 3 if end == "all done" else 10**6, end == "a child fails" and n == 2)
                    scope.spawn(child, 10**6, background=True)
                    await until(lambda: world.touched >= 6)
                    if end == "the body fails":
                        raise ValueError("body")
                    if end == "cancelled":
                        outer.cancel()
                    if end == "stopped":
                        scope.stop()
            except (ValueError, ExceptionGroup):
                failures.append(end)
        return world

    failures: list[str] = []

    world = entry.run(main)
    assert failures == [end] * ("fails" in end)
    assert not world.alive
    assert world.touched >= 12  # each of the six was there at its own end


@pytest.mark.law(1)
def test_a_handle_does_not_let_a_child_escape(entry: Any) -> None:
    """A function that starts children can't return before they have ended, whoever holds their handles."""

    async def main() -> None:
        async def starts() -> bateau.Task[str]:
            async with bateau.scope() as scope:
                return scope.spawn(slow)

        async def slow() -> str:
            await bateau.time.sleep(0.005)
            return "done"

        task = await starts()
        assert task.done
        assert task.outcome().unwrap() == "done"

    entry.run(main)


def test_state_may_not_be_held_over_an_await(entry: Any) -> None:
    """Read, wait, write: an update is lost. `Cell` refuses it at the very await."""

    async def main() -> int:
        balance = bateau.sync.Cell(0)

        async def deposit_wrongly() -> None:
            with balance.borrow_mut() as ref:
                before = ref.value
                await bateau.yield_now()
                ref.value = before + 1

        async def deposit() -> None:
            await bateau.yield_now()
            with balance.borrow_mut() as ref:
                ref.value += 1

        with pytest.raises(bateau.sync.BorrowError):
            await deposit_wrongly()
        async with bateau.scope() as scope:
            for _ in range(10):
                scope.spawn(deposit)
        with balance.borrow() as value:
            return value

    assert entry.run(main) == 10


async def lives_on(world: World, pause: Any) -> None:
    for _ in range(3):
        world.touch()
        await pause()


def test_the_simulator_finds_the_child_that_outlives_its_world() -> None:
    """A task of nobody's, which "surely" has ended by then. In production's order it has."""

    async def main() -> None:
        world = World()
        child = asyncio.create_task(lives_on(world, lambda: asyncio.sleep(0)))
        for _ in range(5):
            await asyncio.sleep(0)
        world.alive = False
        await child

    def scenario() -> None:
        asyncio.run(main())

    sim.run(scenario)
    with pytest.raises(sim.Found, match="a child has outlived its world") as caught:
        sim.explore(scenario, seeds=200)
    assert "world.touch()" in caught.value.story


@pytest.mark.law(1)
def test_in_no_order_does_a_child_outlive_its_scope() -> None:
    async def scenario() -> None:
        world = World()
        async with bateau.scope() as scope:
            for _ in range(3):
                scope.spawn(lives_on, world, bateau.yield_now)
            scope.spawn(lives_on, world, lambda: bateau.time.sleep(0.01), background=True)
            await bateau.yield_now()
        await world.aclose()

    assert sim.explore(scenario, seeds=300).runs == 300
    assert sim.cancel_everywhere(scenario).exhausted
