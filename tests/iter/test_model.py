"""Property tests: every combinator and every end against the obvious sequential model (`model.py`), failing items and cancelled
`next` calls included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bateau
from support.entries import Entry

from .model import ENDS, TABLE, Boom, End, Outcomes, Row, double, each, number

# The function-scoped fixture is a name only, good for any number of examples.
relaxed = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

outcomes = st.lists(
    st.one_of(
        st.integers(0, 16),
        st.integers(0, 16),
        st.integers(0, 16),
        st.builds(Boom, st.just("source"), st.integers(0, 9)),
    ),
    max_size=12,
)
# How often a function lets others run before it answers; None: it is a plain function.
turns = st.one_of(st.none(), st.integers(0, 2))


def colour(turns: int | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def paint(fn: Callable[..., Any]) -> Callable[..., Any]:
        if turns is None:
            return fn

        async def slow(*args: Any) -> Any:
            for _ in range(turns):
                await bateau.yield_now()
            return fn(*args)

        return slow

    return paint


def emit(outcome: Any) -> Any:
    if isinstance(outcome, Boom):
        raise Boom(*outcome.args)
    return outcome


def origin(items: Outcomes, kind: str, turns: int | None) -> bateau.iter.AsyncIter[Any]:
    """The outcomes as an iterator that was made in one of several ways."""
    if kind == "plain":
        return bateau.iter(items).map(colour(turns)(emit))

    async def generate() -> Any:
        for item in items:
            if turns:
                await bateau.yield_now()
            yield item

    return bateau.iter(generate()).map(emit)


async def drain(it: Any) -> Outcomes:
    """Everything, by `next`, failures in their places."""
    found: Outcomes = []
    while True:
        try:
            found.append(await it.next())
        except Boom as error:
            found.append(error)
        except StopAsyncIteration:
            return found


async def drain_impatiently(it: Any, patience: list[int]) -> Outcomes:
    """The same by a consumer whose waits are cancelled after so many turns, in turn."""
    found: Outcomes = []
    turn = 0

    async def lose_patience(scope: Any, after: int) -> None:
        for _ in range(after):
            await bateau.yield_now()
        scope.cancel()

    async with bateau.scope() as helpers:
        while True:
            after = patience[turn % len(patience)] if turn < 40 else 1000
            turn += 1
            try:
                with bateau.CancelScope() as scope:
                    impatient = helpers.spawn(lose_patience, scope, after, background=True)
                    try:
                        found.append(await it.next())
                    finally:
                        impatient.cancel()
            except Boom as error:
                found.append(error)
            except StopAsyncIteration:
                return found


def check(row: Row, found: Outcomes, expected: Outcomes) -> None:
    if row.ordered:
        assert found == expected
    else:
        assert Counter(map(repr, found)) == Counter(map(repr, expected))


def wanted(chain: list[tuple[Row, tuple[Any, ...]]], items: Outcomes) -> Outcomes:
    for row, args in chain:
        items = [x if isinstance(x, Boom) else number(x) for x in row.model(items, *args)]
    return items


def built(chain: list[tuple[Row, tuple[Any, ...]]], it: Any, turns: int | None) -> Any:
    for row, args in chain:
        it = row.apply(it, colour(turns), *args).map(number)
    return it


def drawn(row: Row) -> st.SearchStrategy[tuple[Row, tuple[Any, ...]]]:
    return st.tuples(st.just(row), st.tuples(*row.draw))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@given(data=st.data(), items=outcomes, turns=turns, kind=st.sampled_from(["plain", "generator"]))
@relaxed
def test_each_alone(row: Row, data: Any, items: Outcomes, turns: int | None, kind: str) -> None:
    link = data.draw(drawn(row))
    patience = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))
    expected = wanted([link], items)

    async def main() -> None:
        check(row, await drain(built([link], origin(items, kind, turns), turns)), expected)
        check(row, await drain_impatiently(built([link], origin(items, kind, turns), turns), patience), expected)
        whole = built([link], origin(items, kind, turns), turns)
        if not any(isinstance(x, Boom) for x in expected):
            check(row, await whole.collect(), expected)
        else:
            with pytest.raises(Boom):
                await whole.collect()

    bateau.run(main, runtime="native")


chains = st.lists(st.one_of([drawn(row) for row in TABLE if row.ordered]), min_size=2, max_size=5)


@given(chain=chains, items=outcomes, turns=turns, kind=st.sampled_from(["plain", "generator"]), data=st.data())
@settings(relaxed, max_examples=500)
def test_chains(chain: Any, items: Outcomes, turns: int | None, kind: str, data: Any) -> None:
    patience = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))

    async def main() -> None:
        expected = wanted(chain, items)
        assert await drain(built(chain, origin(items, kind, turns), turns)) == expected
        assert await drain_impatiently(built(chain, origin(items, kind, turns), turns), patience) == expected

    bateau.run(main, runtime="native")


@given(chain=chains, items=outcomes, turns=turns)
@settings(relaxed, max_examples=12)
def test_chains_everywhere(entry: Entry, chain: Any, items: Outcomes, turns: int | None) -> None:
    async def main() -> None:
        expected = wanted(chain, items)
        assert await drain(built(chain, origin(items, "generator", turns), turns)) == expected
        assert await drain_impatiently(built(chain, origin(items, "generator", turns), turns), [0, 3, 1]) == expected

    entry.run(main)


@given(items=outcomes, turns=turns, n=st.integers(1, 4), patience=st.lists(st.integers(0, 6), min_size=1, max_size=5))
@relaxed
def test_buffered_in(items: Outcomes, turns: int | None, n: int, patience: list[int]) -> None:
    """No row of the table: it needs a scope around it."""

    async def main() -> None:
        expected = each(lambda x: [double(x)])(items)
        async with bateau.scope() as scope:

            def made(kind: str) -> Any:
                return origin(items, kind, turns).map(colour(turns)(double)).buffered_in(n, scope)

            for kind in ("plain", "generator"):
                async with made(kind) as it:
                    assert await drain(it) == expected
                async with made(kind) as it:
                    assert await drain_impatiently(it, patience) == expected
                if not any(isinstance(x, Boom) for x in expected):
                    assert await made(kind).collect() == expected

    bateau.run(main, runtime="native")


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
@given(items=outcomes, turns=turns, kind=st.sampled_from(["plain", "generator"]))
@relaxed
def test_ends(end: End, items: Outcomes, turns: int | None, kind: str) -> None:
    async def main() -> None:
        it = origin(items, kind, turns)
        try:
            expected = end.model(items)
        except Boom as error:
            with pytest.raises(Boom, check=error.__eq__):
                await end.apply(it, colour(turns))
        else:
            assert await end.apply(it, colour(turns)) == expected

    bateau.run(main, runtime="native")
