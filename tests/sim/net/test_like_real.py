"""Each scene sees the same on Linux and in a simulated world."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bateau import sim
from bateau.sim.net import handshake, links, network

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


def over_a_link(name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As ``in_a_world``, with what a host sends to itself on its way as between two hosts, for a moment."""
    link = network.Network.link

    def slow(self: network.Network, src: sim.SimHost, dst: sim.SimHost) -> links.Link:
        found = link(self, src, dst)
        if src is dst:
            found.local = False
            found.quality = links.Quality(sim.Latency(1e-5, 1e-5, 0))
        return found

    monkeypatch.setattr(network.Network, "link", slow)
    monkeypatch.setattr(handshake.Attempt, "begin", handshake.Attempt.ask)
    return in_a_world(name)


# What they do next begins before what they did last has arrived.
HASTY = {"connecting", "passive_close"}


@pytest.mark.parametrize("name", scenes)
def test_a_scene_sees_the_same(name, tmp_path_factory):
    place = tmp_path_factory.mktemp("u")
    assert in_a_world(name) == on_linux(name, place)


@pytest.mark.parametrize("name", [name for name in scenes if name not in HASTY])
def test_a_scene_sees_the_same_over_a_link(name, monkeypatch):
    assert over_a_link(name, monkeypatch) == in_a_world(name)
