"""S10: deep await chains hit the recursion limit; losers of a race live on. Here: boxed recursion, short errors, no survivors."""

from __future__ import annotations

import traceback

import pytest

import bateau


class Directory:
    """A tree as deep as a list: each has one entry."""

    def __init__(self, depth):
        self.child = None
        top = self
        for _ in range(depth):
            top.child = Directory(0)
            top = top.child


@bateau.boxed
async def size(directory):
    await bateau.checkpoint()
    return 1 + (await size(directory.child) if directory.child is not None else 0)


async def naive_size(directory):
    await bateau.checkpoint()
    return 1 + (await naive_size(directory.child) if directory.child is not None else 0)


def drop(directory):
    """A chain this deep is taken apart by hand, or Python's own deallocation would recurse."""
    while directory is not None:
        directory.child, directory = None, directory.child


def test_a_deep_tree_is_walked(entry):
    tree = Directory(20_000)
    assert entry.run(size, tree) == 20_001
    drop(tree)


def test_runaway_recursion_is_one_short_error(runtime):
    tree = Directory(20_000)

    async def main():
        async with bateau.scope() as scope:
            scope.spawn(naive_size, tree)

    with pytest.raises(ExceptionGroup) as caught:
        runtime.run(main)
    (error,) = caught.value.exceptions
    assert isinstance(error, RecursionError)
    shown = "".join(traceback.format_exception(error))
    assert len(shown.splitlines()) < 60
    assert "naive_size" in shown and "@bateau.boxed" in shown
    drop(tree)


def test_race_unwinds_the_losers_first(entry):
    log: list[str] = []

    @bateau.boxed
    async def loser(depth):
        try:
            if depth == 0:
                await bateau.time.sleep_forever()
            await loser(depth - 1)
        finally:
            if depth in (0, 3000):
                log.append(f"left {depth}")

    async def winner():
        await bateau.time.sleep(0.005)
        return "won"

    async def main():
        won = await bateau.race(loser(3000), winner())
        log.append(won.value)

    entry.run(main)
    assert log == ["left 0", "left 3000", "won"]
