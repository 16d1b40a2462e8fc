"""The catalogue: each known bug is found within its seeds, explained by its lines, shrunk and replayed; its mended twin passes.

A file of this directory is one bug (see `support/bugs.py`); it is found here by having a `BUG`.
"""

from __future__ import annotations

import pytest

from bateau import sim
from support.bugs import Bug, Entry, catalogue, leaf

ENTRIES = catalogue()


each = pytest.mark.parametrize("known", ENTRIES, ids=lambda known: known.name)


def test_the_catalogue_is_complete() -> None:
    assert len(ENTRIES) >= 25
    for entry in ENTRIES:
        assert all(words in " ".join(entry.doc.split()) for words in ("Modelled on", "must name", "Mended")), entry.name
        assert entry.named, f"{entry.name} marks no line that the story must name"


@each
def test_found_explained_shrunk_and_replayed(known: Entry) -> None:
    bug: Bug = known.bug
    with pytest.raises(sim.Found) as caught:
        known.explore(known.buggy)
    found = caught.value
    error = leaf(found.error)
    assert bug.error in [kind.__name__ for kind in type(error).__mro__], found.story
    assert bug.says in str(error), found.story
    for line in known.named:
        assert f"{known.path.name}:{line}" in found.story, f"line {line} is not named in\n{found.story}"
    assert sum(map(len, found.run.choices.values())) <= bug.shrinks_to, found.story

    again = [sim.replay(known.buggy, found.token, **bug.options) for _ in range(2)]
    assert {run.failure() for run in again} == {found.run.failure()}
    assert {run.digest for run in again} == {found.run.digest}


@each
def test_mended_passes_the_same_exploration(known: Entry) -> None:
    known.explore(known.mended)


@pytest.mark.parametrize("known", [known for known in ENTRIES if known.bug.proof], ids=lambda known: known.name)
def test_no_order_at_all_breaks_the_mended(known: Entry) -> None:
    options = {"strategy": "exhaustive", "seeds": known.bug.proof, **known.bug.options}
    assert sim.explore(known.mended, **options).exhausted
    with pytest.raises(sim.Found):
        sim.explore(known.buggy, shrink=False, **options)
