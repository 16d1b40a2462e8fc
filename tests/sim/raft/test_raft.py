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
    covered = sim.explore(scenario, seeds=8)
    assert covered.runs == 8
    # Things did go wrong in them.
    assert {"freeze", "cut", "kill", "crash"} & covered.answered.keys(), str(covered)


def test_a_seed_is_the_same_each_time() -> None:
    check_determinism(scenario, seed=3)


# The more frequent ones. In how many seeds each is found, and how long that takes: examples/raft/README.md.
@pytest.mark.parametrize("mistake", ["answers-before-sync", "cuts-always", "executes-twice", "forgets-its-vote"])
def test_mistakes_are_found_and_replayed(mistake: str) -> None:
    with pytest.raises(sim.Found) as caught:
        sim.explore(scenario, args=(mistake,), seeds=400, shrink=False)
    found = caught.value
    again = sim.replay(scenario, found.token, args=(mistake,), detailed=False)
    assert (again.digest, str(again.error)) == (found.run.digest, str(found.error))
    right = sim.replay(scenario, found.token, detailed=False, strict=False)
    assert right.error is None, "the servers without the mistake stand the same trouble"
