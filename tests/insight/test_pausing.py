"""Snapshots are made while the garbage collector rests: what it is like before, meanwhile and afterwards."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest

from bateau.insight.pausing import collector_paused


@pytest.fixture(autouse=True)
def collector_on() -> Generator[None]:
    was_on, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.enable()
    gc.unfreeze()
    yield
    if frozen:
        gc.freeze()
    (gc.enable if was_on else gc.disable)()


def test_the_collector_rests_until_the_outermost_block_ends() -> None:
    with collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_stays_off_for_a_program_that_had_it_off() -> None:
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()


def test_an_exception_leaves_it_on() -> None:
    with pytest.raises(ValueError, match="inside"), collector_paused():
        raise ValueError("inside")
    assert gc.isenabled()


def test_what_was_made_meanwhile_is_not_visited_at_the_end() -> None:
    made: list[list[int]] = []
    with collector_paused():
        made.extend([] for _ in range(50_000))
    assert len(gc.get_objects(generation=0)) < 25_000
    assert gc.get_freeze_count() == 0


def test_garbage_made_meanwhile_is_found_later() -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            self.itself = self
            Node.alive += 1

        def __del__(self) -> None:
            Node.alive -= 1

    with collector_paused():
        Node()
    gc.collect()
    assert Node.alive == 0


def test_what_the_program_has_frozen_stays_frozen() -> None:
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        with collector_paused():
            pass
        assert before > 0
        assert gc.get_freeze_count() == before
    finally:
        gc.unfreeze()
