"""S29: cancelling the loser of a race loses rows. Here select keeps its arms, and the simulator tells the two apart.

The program reads rows from a parser that needs several steps for each, and must flush now and then meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

import bateau
from bateau import sim

ROWS = 6


class Parser:
    """A row takes it two waits; it has no idea of being cancelled between them."""

    def __init__(self) -> None:
        self.bytes_read = 0

    async def next_row(self) -> int:
        self.bytes_read += 1
        row = self.bytes_read
        await bateau.time.sleep(0.01)
        await bateau.time.sleep(0.01)
        return row


async def by_racing(parser: Parser, rows: list[int]) -> None:
    while len(rows) < ROWS:
        first = await bateau.race(parser.next_row(), bateau.time.sleep(0.025))
        if first.value is not None:
            rows.append(first.value)
        assert parser.bytes_read < 10 * ROWS, "it starts over and over"


async def by_selecting(parser: Parser, rows: list[int]) -> None:
    async with bateau.select(row=parser.next_row, tick=lambda: bateau.time.sleep(0.025)) as arms:
        async for event in arms:
            if event.name == "row":
                rows.append(event.value)
                if len(rows) == ROWS:
                    return


def scenario(read: Callable[[Parser, list[int]], Awaitable[None]]):
    async def reads_every_row() -> None:
        rows: list[int] = []
        await read(Parser(), rows)
        assert rows == list(range(1, ROWS + 1)), f"rows were lost: {rows}"

    return reads_every_row


def test_the_loser_of_a_race_loses_its_row() -> None:
    with pytest.raises(sim.Found, match="rows were lost"):
        sim.explore(scenario(by_racing), seeds=100)


@pytest.mark.law(3)
def test_select_keeps_its_arms_in_every_order() -> None:
    sim.explore(scenario(by_selecting), seeds=200)
    sim.explore(scenario(by_selecting), seeds=100, strategy="pct")
