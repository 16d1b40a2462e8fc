"""The one search for knots, and the words in which a ``Deadlock`` tells of them (laws 16 and 17)."""

from __future__ import annotations

import pytest

import bateau
from bateau import sync
from bateau.kernel.knots import find_rings, who_can_move


def test_any_helper_will_do_unless_all_are_needed() -> None:
    waiters = {10: [1], 20: [2]}
    freeing = {10: ([3, 4], False), 20: ([3, 4], True)}
    assert who_can_move([3], waiters, freeing.get) == {3, 1}
    assert who_can_move([3, 4], waiters, freeing.get) == {1, 2, 3, 4}
    assert who_can_move([], waiters, {**freeing, 10: None}.get) == {1}, "who is not known may come"
    assert who_can_move([], waiters, {**freeing, 10: ([], True)}.get) == {1}, "everybody it needed has ended"


def test_who_follows_moves_too() -> None:
    assert who_can_move([1], {}, {}.get, {1: [2], 2: [3], 4: [5]}) == {1, 2, 3}


def test_rings_and_those_behind_them() -> None:
    edges = {1: [2], 2: [1], 3: [1], 4: [3], 5: [5], 6: [7, 8], 7: [6], 8: [6]}
    assert find_rings(edges) == [((1, 2), (3, 4)), ((5,), ()), ((6, 7), (8,))]


def test_a_permit_that_a_parent_holds_while_it_waits_for_its_children() -> None:
    """The ring goes through the end of all children; a second one beside it is told as well."""

    async def main() -> None:
        permits, left, right = sync.Semaphore(1, name="permits"), sync.Lock(name="left"), sync.Lock(name="right")

        async def parent() -> None:
            async with permits, bateau.scope() as inner:
                inner.spawn(permits.acquire, name="first")
                inner.spawn(permits.acquire, name="second")

        async def both(one: sync.Lock, other: sync.Lock) -> None:
            async with one:
                await bateau.time.sleep(0.01)
                await other.acquire()

        async with bateau.scope() as scope:
            scope.spawn(parent, name="parent")
            scope.spawn(both, left, right, name="lr")
            scope.spawn(both, right, left, name="rl")

    with pytest.raises(bateau.Deadlock) as caught:
        bateau.run(main, runtime="native")
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert [line for line in lines if line.startswith("a ring")] == [
        "a ring of waits: 'parent' -> 'first' -> 'parent'",
        "a ring of waits: 'lr' -> 'rl' -> 'lr'",
    ]
    assert "needs the end of 'first', 'second'" in lines
    assert "held by 'parent'" in lines
