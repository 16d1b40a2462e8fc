"""Raft's rules, as a state machine in which nothing waits: messages go in, messages come out, and the clock is told to it.

After Diego Ongaro, "Consensus: Bridging Theory and Practice" (2014); sections in brackets. What is here: elections with randomised
timeouts and pre-votes [3.4, 9.6], replication [3.5], the rule by which entries of earlier terms are committed [3.6.2], single-server
membership changes with a learner that catches up first [4], reads without the log by read-index [6.4], and a leader that steps
down when it hears from no majority [6.2].

Theory of operation. ``node.py`` runs turns. A turn is:

    1. ``now`` is set; what has come in is handed over (``on_vote``, ``on_append``, ``propose``...); ``tick``, ``flush``
    2. ``unsaved()`` is written to the disk and synced; ``saved()``
    3. the answers and the ``outbox`` are sent; entries up to ``commit`` are applied

So whatever a message says is on the sender's disk when it is sent: nothing has to be remembered about what may be said already.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from .log import Entry, Log
from .messages import Append, AppendReply, Message, Vote, VoteReply
from .storage import Batch

# Entries in one message. Commands are small (see node.py), so this bounds messages well below what a receiver accepts.
BATCH = 64


class Role(Enum):
    """What a node is in its term."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"  # asks whether an election would have a chance
    CANDIDATE = "candidate"
    LEADER = "leader"


class Timing(NamedTuple):
    """Seconds. A follower waits for ``election`` to twice as long before it acts; a leader speaks every ``heartbeat``.

    ``catch_up`` is how long a new server may take to get the log before its addition is given up.
    """

    election: float = 0.3
    heartbeat: float = 0.06
    catch_up: float = 10.0


class NotLeader(Exception):
    """Only the leader can do that; ``self.leader`` of the node may know who it is."""


class NotNow(Exception):
    """It can't be done at the moment, and may be possible soon."""


class Progress:
    """What a leader knows of a peer.

    Invariants: its log agrees with ours up to ``match``; ``match < next``; entries from ``next`` on are sent next. ``round`` is the
    highest round it has answered, ``heard`` when it last answered anything. ``asked``: a message to it is on its way.
    """

    __slots__ = ("asked", "heard", "match", "next", "round")

    def __init__(self, next: int, now: float) -> None:
        self.next = next
        self.match = 0
        self.round = 0
        self.heard = now
        self.asked = False


class Learner(NamedTuple):
    """A server that gets the log before it becomes a member."""

    id: str
    address: str
    give_up: float


class Read(NamedTuple):
    """A question to the state machine: it may be answered when round ``round`` of term ``term`` was answered by a majority, from a
    state that has applied the entries up to ``needs``.
    """

    term: int
    round: int
    needs: int


class Consensus:
    """One node's part in Raft.

    Invariants: ``term`` never decreases; ``vote`` changes only from None, or with the term; ``commit`` never decreases; entries up to
    ``commit`` never change. ``progress`` is empty unless this is the leader, and has then all peers. ``synced`` is the last index that
    is on this node's disk. ``round`` never decreases, not even from one term to the next.
    """

    def __init__(self, id: str, term: int, vote: str | None, log: Log, timing: Timing, now: float) -> None:
        self.id = id
        self.term = term
        self.vote = vote
        self.log = log
        self.timing = timing
        self.now = now
        self.synced = log.last
        self.commit = 0
        self.role = Role.FOLLOWER
        self.leader: str | None = None
        self.outbox: list[tuple[str, Message]] = []
        self.progress: dict[str, Progress] = {}
        self.learner: Learner | None = None
        self.round = 0
        self._round_wanted = False
        self._votes: set[str] = set()
        self._saved = (term, vote)
        self._heard_leader = -math.inf
        self._heartbeat_at = math.inf
        self._term_begins = 0  # a leader's: the index of the entry that began its term
        self._wait_for_leader()

    # -- who is who --------------------------------------------------------------------------------------------------------

    @property
    def peers(self) -> dict[str, str]:
        """Whom this node talks to, id to address: the members and the learner, without itself."""
        peers = dict(self.log.members)
        if self.learner is not None:
            peers[self.learner.id] = self.learner.address
        peers.pop(self.id, None)
        return peers

    def is_majority(self, ids: Iterable[str]) -> bool:
        """Whether ``ids`` are more than half of the members, not counting those that are none."""
        members = self.log.members
        return 2 * sum(one in members for one in set(ids)) > len(members)

    def _may_lead(self) -> bool:
        """A member may; so may one whose removal is not committed, because perhaps nobody else has all entries [4.2.2]."""
        log = self.log
        return self.id in log.members or (log.members_index > self.commit and self.id in log.previous_members)

    # -- time --------------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When ``tick`` has something to do, unless something comes in before; ``inf``: never."""
        if self.role is Role.LEADER:
            return self._heartbeat_at
        return self._election_at if self._may_lead() else math.inf

    def tick(self) -> None:
        """Do what is due."""
        if self.role is Role.LEADER:
            if not self.is_majority(self._heard_lately()):
                self._become_follower(None)  # it may be cut off: clients should look for another one [6.2]
            elif self.now >= self._heartbeat_at:
                self._begin_round()
        elif self.now >= self._election_at and self._may_lead():
            self._campaign(pre=True)

    def _wait_for_leader(self) -> None:
        self._election_at = self.now + random.uniform(1, 2) * self.timing.election

    def _heard_lately(self) -> list[str]:
        since = self.now - 2 * self.timing.election
        return [self.id, *(peer for peer, progress in self.progress.items() if progress.heard >= since)]

    # -- terms and roles ---------------------------------------------------------------------------------------------------

    def _see_term(self, term: int) -> None:
        """Somebody has a higher term: this one is over."""
        if term > self.term:
            self.term = term
            self.vote = None
            self._become_follower(None)

    def _become_follower(self, leader: str | None) -> None:
        if self.role is Role.LEADER:
            self._wait_for_leader()
        self.role = Role.FOLLOWER
        self.leader = leader
        self.progress = {}
        self.learner = None

    def _become_leader(self) -> None:
        self.role = Role.LEADER
        self.leader = self.id
        self.progress = {}
        self._follow_members()
        # The entries of earlier terms can only be committed together with one of ours, so there must be one [3.6.2, 6.4].
        self._term_begins = self.log.append(Entry(self.term, "noop"))
        self._begin_round()

    # -- elections ---------------------------------------------------------------------------------------------------------

    def _campaign(self, pre: bool) -> None:
        if not pre:
            self.term += 1
            self.vote = self.id
        self.role = Role.PRE_CANDIDATE if pre else Role.CANDIDATE
        self.leader = None
        self._votes = set()
        self._wait_for_leader()
        asked = Vote(self._wanted_term(), self.id, self.log.last, self.log.last_term, pre)
        for peer in self.peers:
            self.outbox.append((peer, asked))
        self._count_vote(self.id)

    def _wanted_term(self) -> int:
        """The term that this candidate asks votes for."""
        return self.term + 1 if self.role is Role.PRE_CANDIDATE else self.term

    def _count_vote(self, voter: str) -> None:
        self._votes.add(voter)
        if self.is_majority(self._votes):
            if self.role is Role.PRE_CANDIDATE:
                self._campaign(pre=False)
            else:
                self._become_leader()

    def on_vote(self, asked: Vote) -> VoteReply:
        """A candidate asks for a vote."""
        complete = (asked.last_term, asked.last_index) >= (self.log.last_term, self.log.last)
        if asked.pre:
            granted = asked.term > self.term and complete and not self._has_leader()
        else:
            self._see_term(asked.term)
            granted = asked.term == self.term and complete and self.vote in (None, asked.candidate)
            if granted:
                self.vote = asked.candidate
                self._wait_for_leader()
        return VoteReply(self.term, self.id, asked.term, asked.pre, granted)

    def _has_leader(self) -> bool:
        """Whether there is a leader as far as this node knows: a server that hears nothing must not end its term [4.2.3]."""
        return self.role is Role.LEADER or self.now < self._heard_leader + self.timing.election

    def on_vote_reply(self, reply: VoteReply) -> None:
        """A voter has answered."""
        self._see_term(reply.term)
        asking = Role.PRE_CANDIDATE if reply.pre else Role.CANDIDATE
        if reply.granted and self.role is asking and reply.asked == self._wanted_term():
            self._count_vote(reply.voter)

    # -- replication: the follower -----------------------------------------------------------------------------------------

    def on_append(self, asked: Append) -> AppendReply:
        """A leader sends entries, or a heartbeat."""
        self._see_term(asked.term)
        log = self.log
        if asked.term < self.term:
            return AppendReply(self.term, self.id, asked.term, asked.round, False, 0)
        if self.role is Role.LEADER:
            raise AssertionError(f"{asked.leader} and {self.id} both lead in term {self.term}")
        self._become_follower(asked.leader)
        self._heard_leader = self.now
        self._wait_for_leader()
        if not log.matches(asked.previous, asked.previous_term):
            # All entries of the term that stands there may be wrong; the leader will ask about the one before them.
            index = log.last + 1 if asked.previous > log.last else log.first_of_term_at(asked.previous)
            return AppendReply(self.term, self.id, asked.term, asked.round, False, index)
        log.merge(asked.previous, asked.entries, self.commit)
        agreed = asked.previous + len(asked.entries)
        self.commit = max(self.commit, min(asked.commit, agreed))  # what stands behind may be somebody else's
        return AppendReply(self.term, self.id, asked.term, asked.round, True, agreed)

    # -- replication: the leader -------------------------------------------------------------------------------------------

    def propose(self, kind: str, body: object) -> int:
        """Append an entry to the log; returns its index. It counts when ``commit`` has reached it with this term. Raises ``NotLeader``."""
        self._check_leader()
        return self.log.append(Entry(self.term, kind, body))

    def _check_leader(self) -> None:
        if self.role is not Role.LEADER:
            raise NotLeader

    def _begin_round(self) -> None:
        """A heartbeat for everybody, with the entries that they have not acknowledged."""
        self.round += 1
        self._round_wanted = False
        self._heartbeat_at = self.now + self.timing.heartbeat
        for peer, progress in self.progress.items():
            self._send_entries(peer, progress)

    def _send_entries(self, peer: str, progress: Progress) -> None:
        previous = progress.next - 1
        entries = self.log.slice(progress.next, BATCH)
        progress.asked = True
        message = Append(self.term, self.id, previous, self.log.term_at(previous), entries, self.commit, self.round)
        self.outbox.append((peer, message))

    def flush(self) -> None:
        """The end of a turn: send what became possible in it."""
        if self.role is not Role.LEADER:
            return
        self._look_at_learner()
        if self._round_wanted:
            self._begin_round()
        for peer, progress in self.progress.items():
            # One message to each is enough: the answer brings the next batch, and the heartbeat repeats what was lost.
            if not progress.asked and progress.next <= self.log.last:
                self._send_entries(peer, progress)

    def on_append_reply(self, reply: AppendReply) -> None:
        """A follower has answered."""
        self._see_term(reply.term)
        progress = self.progress.get(reply.follower)
        if progress is None or reply.asked != self.term:
            return  # the answer to a question of an earlier term says nothing about this one
        progress.heard = self.now
        progress.asked = False
        progress.round = max(progress.round, reply.round)
        if reply.ok:
            progress.match = max(progress.match, reply.place)
            progress.next = max(progress.next, progress.match + 1)
            self._advance_commit()
        else:
            progress.next = max(progress.match + 1, min(progress.next - 1, reply.place))

    def _advance_commit(self) -> None:
        """Commit what a majority has on its disks."""
        members = self.log.members
        if self.role is not Role.LEADER or not members:
            return
        has = {peer: progress.match for peer, progress in self.progress.items()}
        has[self.id] = self.synced
        index = sorted((has.get(member, 0) for member in members), reverse=True)[len(members) // 2]
        if index > self.commit and self._may_commit(index):
            self.commit = index
            if self.commit >= self.log.members_index and self.id not in members:
                self._begin_round()  # so that the others know
                self._become_follower(None)  # it was removed, and that is done [4.2.2]

    def _may_commit(self, index: int) -> bool:
        """An entry of an earlier term may be on a majority's disks and still be replaced, unless one of ours follows it [3.6.2]."""
        return self.log.term_at(index) == self.term

    # -- the disk ----------------------------------------------------------------------------------------------------------

    def unsaved(self) -> Batch | None:
        """What has to be on the disk before anything is sent; None if nothing has changed."""
        first = self.log.changed_from
        if first is None and self._saved == (self.term, self.vote):
            return None
        return Batch(self.term, self.vote, first or 0, self.log.slice(first) if first is not None else [])

    def saved(self) -> None:
        """What ``unsaved`` gave is on the disk."""
        self._saved = self.term, self.vote
        self.log.mark_saved()
        self.synced = self.log.last
        self._advance_commit()

    # -- reads -------------------------------------------------------------------------------------------------------------

    def read(self) -> Read:
        """Begin a read that sees everything that was committed before now [6.4]. Raises ``NotLeader``."""
        self._check_leader()
        self._round_wanted = True
        # A new leader's ``commit`` may lag behind what its predecessor has committed; not beyond the beginning of its own term.
        return Read(self.term, self.round + 1, max(self.commit, self._term_begins))

    def may_answer(self, read: Read) -> bool:
        """Whether nobody else can have led when ``read`` began. Raises ``NotLeader`` if that will never be known."""
        if self.role is not Role.LEADER or self.term != read.term:
            raise NotLeader
        answered = [peer for peer, progress in self.progress.items() if progress.round >= read.round]
        return self.round >= read.round and self.is_majority([self.id, *answered])

    # -- members -----------------------------------------------------------------------------------------------------------

    def add_member(self, id: str, address: str) -> None:
        """Make a server a member: it gets the log as a learner, then the change is appended.

        Raises ``NotLeader``, ``NotNow``, and ``ValueError`` for a member that has another address.

        It is done when ``log.members`` has it and ``commit`` has reached ``log.members_index``.
        """
        self._check_leader()
        if self.log.members.get(id) == address or (self.learner is not None and self.learner[:2] == (id, address)):
            return
        self._check_may_change()
        if id in self.log.members:
            raise ValueError(f"{id} is a member with another address: remove it first")
        self.learner = Learner(id, address, self.now + self.timing.catch_up)
        self._follow_members()

    def remove_member(self, id: str) -> None:
        """Remove a server from the members. It is done when ``commit`` has reached the change.

        Raises ``NotLeader``, ``NotNow``, and ``ValueError`` for the last member.
        """
        self._check_leader()
        if id not in self.log.members:
            return
        self._check_may_change()
        if len(self.log.members) == 1:
            raise ValueError("it is the last member, and a cluster needs one")
        self._change_members({one: address for one, address in self.log.members.items() if one != id})

    def _check_may_change(self) -> None:
        """One change at a time, so that the majorities before and after it overlap [4.1]; and none before an entry of this term is
        committed, because until then the change of an earlier leader may still come back (the fix of 2015).
        """
        if self.learner is not None or self.log.members_index > self.commit:
            raise NotNow("another change of the members is under way")
        if self.commit < self._term_begins:
            raise NotNow("this leader is new, and has committed nothing yet")

    def _look_at_learner(self) -> None:
        learner = self.learner
        if learner is None:
            return
        if self.progress[learner.id].match >= self.commit:
            self.learner = None
            self._change_members({**self.log.members, learner.id: learner.address})
        elif self.now >= learner.give_up:
            self.learner = None
            self._follow_members()

    def _change_members(self, members: dict[str, str]) -> None:
        self.propose("members", members)
        self._follow_members()

    def _follow_members(self) -> None:
        """A leader's: keep ``progress`` of exactly the peers."""
        peers = self.peers
        self.progress = {peer: self.progress.get(peer) or Progress(self.log.last + 1, self.now) for peer in peers}
