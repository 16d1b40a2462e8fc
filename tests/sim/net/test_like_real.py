"""Each scene sees the same on Linux and in a simulated world."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bateau import sim

sys.path.insert(0, str(Path(__file__).parent))
from scenes import Notes, scenes


def in_a_world(name: str) -> list[str]:
    def scenario() -> list[str]:
        with Notes("/tmp") as notes:
            scenes[name](notes)
            return notes.lines

    return sim.run(scenario)


def on_linux(name: str, place: Path) -> list[str]:
    with Notes(str(place)) as notes:
        scenes[name](notes)
        return notes.lines


@pytest.mark.parametrize("name", scenes)
def test_a_scene_sees_the_same(name, tmp_path_factory):
    place = tmp_path_factory.mktemp("u")
    assert in_a_world(name) == on_linux(name, place)
