"""Chunks: their sizes follow the measured cost, their boundaries are exact where they are fixed."""

from __future__ import annotations

from typing import Any

import pytest

from bateau.iter.flow import Failure, Need
from bateau.iter.par.chunking import MOST_ITEMS, Chunk, Done, Sizes, gather, shown, spread
from bateau.iter.par.work import Outcome, Trouble


def test_sizes_grow_and_shrink_with_the_cost() -> None:
    sizes = Sizes(None, 0.005)
    assert sizes.size == 1
    grown = []
    for _ in range(8):
        sizes.learn(sizes.size, sizes.size * 1e-5)
        grown.append(sizes.size)
    assert grown == [4, 16, 64, 256, 500, 500, 500, 500]
    for _ in range(12):  # items become a hundred times as dear
        sizes.learn(sizes.size, sizes.size * 1e-3)
    assert sizes.size == 5
    sizes.learn(5, 10.0)
    assert sizes.size == 1
    for _ in range(40):
        sizes.learn(sizes.size, 0.0)
    assert sizes.size == MOST_ITEMS


def test_fixed_sizes_stay() -> None:
    for sizes in (Sizes(7, 0.005), Sizes(7, None)):
        sizes.learn(7, 1e-9)
        assert sizes.size == 7
    waiting = Sizes(None, None)  # items that wait rather than work
    waiting.learn(1, 1e-9)
    assert waiting.size == 1


def drawn(items: list[Any], sizes: Sizes) -> list[Any]:
    return [(got.start, got.items) if isinstance(got, Chunk) else got for got in gather(iter(items), sizes)]


def test_gathering() -> None:
    need, failure = Need(), Failure(ValueError())
    fixed, adaptive = Sizes(3, None), Sizes(None, 0.005)
    adaptive.size = 3
    assert drawn([], fixed) == []
    assert drawn([1, 2, 3, 4], fixed) == [(0, [1, 2, 3]), (3, [4])]
    # Where the source waits, an adaptive chunk does not: it is sent as it is. A fixed one is exact.
    assert drawn([1, need, 2, 3, 4], adaptive) == [(0, [1]), need, (1, [2, 3, 4])]
    assert drawn([1, need, 2, 3, 4], fixed) == [need, (0, [1, 2, 3]), (3, [4])]
    # A failure keeps its place.
    assert drawn([1, failure, 2], fixed) == [(0, [1]), failure, (1, [2])]


def test_spreading() -> None:
    chunk = Chunk(10)
    chunk.items = ["a", "b", "c", "d"]
    outcome = Outcome()
    outcome.results = [1, 2, 3]
    first, second, lost = ValueError("first"), ValueError("second"), TypeError("lost")
    outcome.troubles = [
        Trouble(0, 0, "map", first),
        Trouble(2, 2, "filter", second),
        Trouble(3, -1, "par", lost),
    ]
    need = Need()
    got = list(spread(iter([need, Done(chunk, outcome)]), "par", lambda: None))
    assert got[0] is need
    assert [g.error if isinstance(g, Failure) else g for g in got[1:]] == [first, 1, 2, second, 3, lost]
    assert first.__notes__ == ["item 10 of par, in .map(): 'a'"]
    assert second.__notes__ == ["item 12 of par, in .filter(): 'c'"]
    assert not hasattr(lost, "__notes__")


@pytest.mark.parametrize("troubles", [[], [0], [3], [1, 2], [0, 3, 3]])
@pytest.mark.parametrize("results", [0, 3])
def test_a_chunk_is_released_with_its_last_result(results: int, troubles: list[int]) -> None:
    outcome = Outcome()
    outcome.results = list(range(results))
    outcome.troubles = [Trouble(min(at, results), -1, "par", ValueError()) for at in troubles]
    got: list[Any] = []
    released: list[int] = []
    for item in spread(iter([Done(Chunk(0), outcome)]), "par", lambda: released.append(len(got))):
        got.append(item)
    assert len(got) == results + len(troubles)
    assert released == [max(0, len(got) - 1)]  # before the last one is handed on


def test_shown() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert shown(3) == "3"
    assert shown("x" * 1000, 20) == "'xxxxxxxxxxxxxxxxxxx... (1002 characters)"
    assert shown(Rude()) == "<Rude whose repr failed: RuntimeError('no')>"


@pytest.mark.parametrize("n", [0, 1, 5, 100])
def test_no_item_is_lost_or_doubled(n: int) -> None:
    sizes = Sizes(None, 0.005)
    got: list[int] = []
    for chunk in gather(iter(range(n)), sizes):
        assert chunk.start == len(got)
        got += chunk.items
        sizes.learn(len(chunk.items), 1e-4 * len(chunk.items))
    assert got == list(range(n))
