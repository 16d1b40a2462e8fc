"""The rules of examples/raft alone, without connections, disks or tasks: messages are lost, doubled and reordered, servers crash
before and after they have saved, members come and go. Thousands of seeds take seconds here, so this is the first net; the simulated
world (test_raft.py beside it) is the one that has the real files in it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

from raft import consensus
from raft.consensus import Consensus, NotLeader, NotNow, Role, Timing
from raft.invariants import Invariants, Violated
from raft.log import Diverged, Entry, Log
from raft.messages import Append, AppendReply, Vote, VoteReply, decode, encode

STEPS = 2000
TIMING = Timing(election=1.0, heartbeat=0.2, catch_up=5.0)


@pytest.fixture(autouse=True)
def own_randomness() -> Iterator[None]:
    state, batch = random.getstate(), consensus.BATCH
    yield
    random.setstate(state)
    consensus.BATCH = batch


class Cluster:
    """Servers, their disks, and the messages under way."""

    def __init__(self, seed: int, kind: type[Consensus] = Consensus, size: int = 3) -> None:
        random.seed(seed)
        self.chance = random.Random(seed)
        consensus.BATCH = self.chance.choice([1, 2, 64])  # what goes wrong between two messages needs two messages
        self.kind = kind
        # Each seed has its own weather: what is found by many changes of the members is not found by many crashes of leaders.
        self.loss = self.chance.choice([0.0, 0.1, 0.3])
        self.delay = self.chance.choice([0.0, 0.3, 0.8])
        self.crashes = self.chance.choice([0.0005, 0.003, 0.01])
        self.early_deaths = self.chance.choice([1, 10, 50])
        self.cuts = self.chance.choice([0.0, 0.003, 0.02])
        self.changes = self.chance.choice([0.0, 0.1, 0.4])
        self.now = 0.0
        self.names = "abcde"
        first = {name: f"{name}:1" for name in self.names[:size]}
        self.disks: dict[str, tuple[int, str | None, list[Entry]]] = {
            name: (0, None, [Entry(0, "members", first)] if name in first else []) for name in self.names
        }
        self.nodes: dict[str, Consensus] = {}
        self.network: list[tuple[str, bytes]] = []
        self.blocked: set[tuple[str, str]] = set()
        self.down: dict[str, float] = {}  # until when
        self.invariants = Invariants()
        self.proposed = 0
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        term, vote, entries = self.disks[name]
        self.invariants.restarted(name)
        self.nodes[name] = self.kind(name, term, vote, Log(entries), TIMING, self.now)

    def turn(self, name: str, *messages: Any) -> None:
        """One turn of a server; it may crash before it has saved, before it has said anything, or right after."""
        node = self.nodes[name]
        if self.down.get(name, 0.0) > self.now:
            return
        node.now = self.now
        was = node.role
        replies = []
        for message in messages:
            if isinstance(message, Append):
                replies.append((message.leader, node.on_append(message)))
            elif isinstance(message, Vote):
                replies.append((message.candidate, node.on_vote(message)))
            elif isinstance(message, AppendReply):
                node.on_append_reply(message)
            elif isinstance(message, VoteReply):
                node.on_vote_reply(message)
        node.tick()
        node.flush()
        fate = self.chance.random()
        risk = self.crashes
        # The moments that matter: somebody has become leader, or has voted.
        if node.role is not was or any(isinstance(reply, VoteReply) and reply.granted for _, reply in replies):
            risk *= self.early_deaths
        elif node.role is Role.LEADER:
            risk *= 2
        if fate < risk:
            self.crash(name)
            return
        batch = node.unsaved()
        if batch is not None:
            entries = self.disks[name][2]
            if batch.first:
                entries = entries[: batch.first - 1] + batch.entries
            self.disks[name] = batch.term, batch.vote, entries
            node.saved()
        self.invariants.look(node)
        if fate < 2 * risk:
            self.crash(name)
            return
        for to, message in replies + node.outbox:
            if self.chance.random() >= self.loss and (name, to) not in self.blocked:
                self.network.append((to, encode(message)))
        node.outbox.clear()
        if fate < 3 * risk:
            self.crash(name)

    def crash(self, name: str) -> None:
        self.down[name] = self.now + self.chance.choice([0.0, 2.0, 5.0])
        self.start(name)

    def cut(self) -> None:
        """Another state of the network: whole, some directions cut, or in two parts."""
        chance, names = self.chance, self.names
        pairs = [(a, b) for a in names for b in names]
        part = chance.sample(names, chance.randrange(1, 3))
        self.blocked = chance.choice(
            [
                set(),
                set(),
                {pair for pair in pairs if chance.random() < 0.3},
                {(a, b) for a, b in pairs if (a in part) != (b in part)},
            ]
        )

    def step(self) -> None:
        chance = self.chance
        if chance.random() < self.cuts:
            self.cut()
        dice = chance.random()
        if dice < 0.8 and self.network:
            index = chance.randrange(len(self.network)) if chance.random() < self.delay else 0
            to, data = self.network[index]
            if chance.random() > 0.1:  # else it will come once more
                del self.network[index]
            self.turn(to, decode(data[5:]))
            return
        self.now += chance.random() * 0.15
        name = chance.choice(self.names)
        dice = chance.random()
        if dice < 0.4:
            try:
                self.proposed += 1
                self.nodes[name].propose("command", [1, self.proposed, "put", "x", str(self.proposed), None])
            except NotLeader:
                pass
        elif dice < 0.4 + self.changes:
            try:
                if chance.random() < 0.5:
                    self.nodes[name].add_member(other := chance.choice(self.names), f"{other}:1")
                else:
                    self.nodes[name].remove_member(chance.choice(self.names))
            except (NotLeader, NotNow, ValueError):
                pass
        self.turn(name)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()


def test_the_rules_hold() -> None:
    committed = elected = 0
    for seed in range(60):
        cluster = Cluster(seed, size=1 + seed % 5)
        cluster.run(STEPS)
        committed += len(cluster.invariants.committed)
        elected += len(cluster.invariants.leaders)
    # Something happened at all, in most of them.
    assert committed > 60 * 40
    assert elected > 60 * 3


class ForgetsItsVote(Consensus):
    """The vote is not on the disk when it is said."""

    def unsaved(self) -> Any:
        batch = super().unsaved()
        return batch and batch._replace(vote=None)


class CountsReplicas(Consensus):
    """Commits entries of earlier terms by counting replicas."""

    def _may_commit(self, index: int) -> bool:
        return True


class CutsAlways(Consensus):
    """Takes the leader's word for the whole log, though it may be an old word."""

    def on_append(self, asked: Append) -> AppendReply:
        if asked.term >= self.term and self.log.matches(asked.previous, asked.previous_term):
            self.log.cut(asked.previous + 1)
        return super().on_append(asked)


# From seed 0 on they are found within 100 (``CutsAlways``) to 1000 seeds, in 1 to 15 seconds; so the search begins near the first find.
@pytest.mark.parametrize(("kind", "first"), [(ForgetsItsVote, 660), (CountsReplicas, 390), (CutsAlways, 0)])
def test_broken_rules_are_found(kind: type[Consensus], first: int) -> None:
    for seed in range(first, first + 400):
        try:
            Cluster(seed, kind, size=3 + seed % 3).run(STEPS)
        except (Violated, Diverged, AssertionError):
            return
    pytest.fail(f"not found in 400 seeds from {first} on")


class ChangesAtOnce(Consensus):
    """A new leader changes the members before it has committed anything: the flaw in the first description of the algorithm."""

    def _check_may_change(self) -> None:
        if self.learner is not None or self.log.members_index > self.commit:
            raise NotNow("another change is under way")


class Stage(Cluster):
    """Four servers that do what the script says, and nothing by chance."""

    def __init__(self, kind: type[Consensus]) -> None:
        super().__init__(0, kind, size=4)
        self.loss = self.crashes = 0.0

    def deliver(self, among: str) -> None:
        """All that is under way among these servers, until nothing is; what others say or should hear is lost."""
        while self.network:
            to, data = self.network.pop(0)
            message: Any = decode(data[5:])
            if to in among and message[1] in among:  # who says it
                self.turn(to, message)

    def elect(self, name: str, voters: str) -> Consensus:
        """Let ``name`` lead by these votes; they hear nothing else of it."""
        self.nodes[name]._campaign(pre=False)
        votes = self.nodes[name]
        self.turn(name)
        for voter in voters:
            self.turn(voter, Vote(votes.term, name, votes.log.last, votes.log.last_term, False))
            self.turn(name, VoteReply(self.nodes[voter].term, voter, votes.term, False, self.nodes[voter].vote == name))
        self.network.clear()
        return votes


def change_members_in_two_terms(kind: type[Consensus]) -> None:
    """Of four, ``a`` adds ``e`` and only ``e`` hears it; ``b`` removes ``a``, and only ``c`` hears it; then ``a`` comes back."""
    stage = Stage(kind)
    a = stage.elect("a", "bcd")
    for _ in range(2):  # its beginning is committed, and all know it
        stage.now += 0.3
        stage.turn("a")
        stage.deliver("abcd")
    a.propose("members", {**a.log.members, "e": "e:1"})
    a._follow_members()
    stage.now += 0.3
    stage.turn("a")
    stage.deliver("ae")
    assert "e" in stage.nodes["e"].log.members
    b = stage.elect("b", "cd")
    b.remove_member("a")
    stage.turn("b")
    stage.now += 0.3
    stage.turn("b")
    stage.deliver("bc")
    assert stage.nodes["c"].log.members == {name: f"{name}:1" for name in "bcd"}
    assert b.commit == b.log.last
    for _ in range(2):  # in its first new term "d" has voted already
        a = stage.elect("a", "de")
    assert a.role is Role.LEADER
    stage.now += 0.3
    stage.turn("a")
    stage.deliver("ade")


def test_members_may_not_change_before_an_entry_of_the_term_is_committed() -> None:
    """Ongaro, "bug in single-server membership changes" (raft-dev, 10 July 2015)."""
    with pytest.raises(Violated, match="leader completeness|state machine safety"):
        change_members_in_two_terms(ChangesAtOnce)
    with pytest.raises(NotNow, match="has committed nothing yet"):
        change_members_in_two_terms(Consensus)
