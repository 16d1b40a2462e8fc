"""examples/raft in simulated worlds: some seeds hold, some planted mistakes are found, and both are the same each time.

Many more of both: ``python examples/raft/check.py --help``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

from raft import consensus
from raft.check import scenario

from bateau import sim
from bateau.sim.determinism import check_determinism


@pytest.fixture(autouse=True)
def own_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus, "BATCH", consensus.BATCH)  # each run sets it


def test_some_seeds_hold() -> None:
    covered = sim.explore(scenario, seeds=5)
    assert covered.runs == 5
    # Things did go wrong in them.
    assert {"freeze", "cut", "kill", "crash"} & covered.answered.keys(), str(covered)


def test_a_seed_is_the_same_each_time() -> None:
    check_determinism(scenario, seed=3)


# The more frequent ones. In how many seeds each is found, and how long that takes: examples/raft/README.md.
# From which seed on it is looked for: the first that finds it in a short run.
@pytest.mark.parametrize(
    ("mistake", "first"),
    [("answers-before-sync", 2), ("cuts-always", 10), ("executes-twice", 0), ("forgets-its-vote", 4)],
)
def test_mistakes_are_found_and_replayed(mistake: str, first: int) -> None:
    with pytest.raises(sim.Found) as caught:
        sim.explore(scenario, args=(mistake,), seeds=range(first, 400), shrink=False)
    found = caught.value
    again = sim.replay(scenario, found.token, args=(mistake,), detailed=False)
    assert (again.digest, str(again.error)) == (found.run.digest, str(found.error))
    right = sim.replay(scenario, found.token, detailed=False, strict=False)
    assert right.error is None, "the servers without the mistake stand the same trouble"
