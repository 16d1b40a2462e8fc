"""The same seed is the same run, and where it is not, the first place that differs is found."""

from __future__ import annotations

import itertools
import random

import pytest

import bateau
from bateau import sim
from bateau import time as vtime


async def several():
    async def child(n):
        for _ in range(3):
            await vtime.sleep(random.random())

    async with bateau.scope() as scope:
        for n in range(4):
            scope.spawn(child, n, name=f"child {n}")


@pytest.mark.parametrize("strategy", ["fifo", "random", "pct", "pos", "surw"])
def test_what_is_deterministic_passes(strategy):
    for seed in range(5):
        sim.check_determinism(several, seed=seed, strategy=strategy, times=3)


def test_the_first_difference_is_shown_with_its_line():
    counter = itertools.count()

    async def leaky():
        await vtime.sleep(1)
        await vtime.sleep(2 + next(counter))  # the outside comes in

    with pytest.raises(sim.InvariantBroken) as caught:
        sim.check_determinism(leaky)
    text = str(caught.value)
    assert "sleep of 2 s" in text
    assert "sleep of 3 s" in text
    assert "the outside comes in" in text


def test_an_end_that_differs():
    outside = []

    async def leaky():
        outside.append(1)
        if len(outside) > 1:
            raise ValueError("second time")

    with pytest.raises(sim.InvariantBroken, match="second time|differ"):
        sim.check_determinism(leaky)


def test_one_run_is_none_to_compare():
    with pytest.raises(ValueError, match="two runs or more"):
        sim.check_determinism(several, times=1)
