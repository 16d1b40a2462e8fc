"""S38: read, wait, write loses updates. ``Cell`` raises at the await; the simulator finds the version without it, and its line."""

from __future__ import annotations

from pathlib import Path

import pytest

import bateau
from bateau import sim
from bateau.sync import BorrowError, Cell

DEPOSITS = 3


async def consult_the_bank() -> None:
    await bateau.yield_now()


class Unguarded:
    def __init__(self) -> None:
        self.balance = 0

    async def deposit(self) -> None:
        before = self.balance
        await consult_the_bank()
        self.balance = before + 1


class OverTheAwait:
    def __init__(self) -> None:
        self.cell = Cell(0)

    async def deposit(self) -> None:
        with self.cell.borrow_mut() as ref:
            before = ref.value
            await consult_the_bank()
            ref.value = before + 1


class Guarded(OverTheAwait):
    async def deposit(self) -> None:
        await consult_the_bank()
        with self.cell.borrow_mut() as ref:
            ref.value += 1

    @property
    def balance(self) -> int:
        with self.cell.borrow() as value:
            return value


def scenario(kind):
    """Deposits that come one after the other in production's order, which is why nobody has noticed."""

    async def deposits() -> None:
        account = kind()

        async def client(number: int) -> None:
            for _ in range(3 * number):
                await bateau.yield_now()
            await account.deposit()

        async with bateau.scope() as scope:
            for number in range(DEPOSITS):
                scope.spawn(client, number, name=f"client {number}")
        assert account.balance == DEPOSITS, f"the balance is {account.balance}"

    return deposits


def test_the_simulator_finds_the_unguarded_version() -> None:
    sim.run(scenario(Unguarded))
    with pytest.raises(sim.Found) as caught:
        sim.explore(scenario(Unguarded), seeds=100)
    story = caught.value.story
    line = next(
        n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text == "    await bateau.yield_now()"
    )
    assert f"{Path(__file__).name}:{line}" in story
    assert "await bateau.yield_now()" in story
    assert sum(map(len, caught.value.run.choices.values())) <= 3


def test_a_cell_raises_at_the_await_in_any_order() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        sim.run(scenario(OverTheAwait))
    assert caught.group_contains(BorrowError, match="borrow")


def test_the_guarded_version_holds_in_every_order() -> None:
    covered = sim.explore(scenario(Guarded), seeds=200)
    assert covered.runs == 200
    assert len(covered.digests) > 10
