"""The catalogue: each known bug is found within its seeds, explained by its lines, shrunk and replayed; its mended twin passes.

A file of this directory is one bug (see `support/bugs.py`); it is found here by having a `BUG`.
"""

from __future__ import annotations

import pytest

from bateau import sim
from support.bugs import Bug, Entry, catalogue, leaf

ENTRIES = catalogue()


@pytest.fixture(params=ENTRIES, ids=lambda entry: entry.name)
def entry(request: pytest.FixtureRequest) -> Entry:
    return request.param


def test_the_catalogue_is_complete() -> None:
    assert len(ENTRIES) >= 25
    for entry in ENTRIES:
        assert "Modelled on" in entry.doc and "must name" in entry.doc and "Mended" in entry.doc, entry.name
        assert entry.named, f"{entry.name} marks no line that the story must name"


def test_found_explained_shrunk_and_replayed(entry: Entry) -> None:
    bug: Bug = entry.bug
    with pytest.raises(sim.Found) as caught:
        entry.explore(entry.buggy)
    found = caught.value
    error = leaf(found.error)
    assert bug.error in [kind.__name__ for kind in type(error).__mro__], found.story
    assert bug.says in str(error), found.story
    for line in entry.named:
        assert f"{entry.path.name}:{line}" in found.story, f"line {line} is not named in\n{found.story}"
    assert sum(map(len, found.run.choices.values())) <= bug.shrinks_to, found.story

    again = [sim.replay(entry.buggy, found.token, **bug.options) for _ in range(2)]
    assert {run.failure() for run in again} == {found.run.failure()}
    assert {run.digest for run in again} == {found.run.digest}


def test_mended_passes_the_same_exploration(entry: Entry) -> None:
    entry.explore(entry.mended)
