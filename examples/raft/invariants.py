"""What must be true of all servers together, whatever happens: Raft's safety properties, as a check that looks on from outside.

    election safety        at most one leader in a term
    log matching           two logs that have an entry of the same index and term are the same up to there
    leader completeness    a leader has every entry that was committed in its term or before
    state machine safety   no two servers commit or apply different entries at the same index

``look`` at a server after each of its steps. It costs little, because it looks at what is new since the last time: log matching
follows by induction if every entry, known by its index and term, has one content and one predecessor in all logs and for all time.
"""

from __future__ import annotations

from .consensus import Consensus, Role
from .log import Entry
from .machine import Machine


class Violated(AssertionError):
    """A safety property does not hold."""


class _Seen:
    """A server as it was at the last look."""

    __slots__ = ("commit", "entries", "leads", "state")

    def __init__(self) -> None:
        self.state: object = None
        self.entries: list[Entry] = []
        self.commit = 0
        self.leads: tuple[int, int] = (0, 0)  # in which term, and how many committed entries it is known to have


class Invariants:
    """See the module's head. One for a whole run; a server that restarts is looked at as a new one (``restarted``)."""

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        # Entry and term of its predecessor, by index and term.
        self.entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        # From index 1 on: the entry, and the term of the server that was first to commit it.
        self.committed: list[tuple[Entry, int]] = []
        self.digests: dict[int, int] = {}
        self._seen: dict[str, _Seen] = {}

    def restarted(self, id: str) -> None:
        """What was in the server's memory is gone."""
        self._seen.pop(id, None)

    def look(self, consensus: Consensus, machine: Machine | None = None) -> None:
        """Check one server. Raises ``Violated``."""
        log = consensus.log
        applied = machine.applied if machine is not None else 0
        last = log[log.last] if log.last else None
        seen = self._seen.get(consensus.id)
        if seen is None:
            seen = self._seen[consensus.id] = _Seen()
        state = (consensus.role, consensus.term, consensus.commit, applied, log.last, id(last), len(self.committed))
        if state == seen.state:
            return
        self._look_at_log(consensus, seen)
        self._look_at_commit(consensus, seen)
        if consensus.role is Role.LEADER:
            self._look_at_leader(consensus, seen)
        if machine is not None and self.digests.setdefault(applied, machine.digest) != machine.digest:
            raise Violated(
                f"state machine safety: {consensus.id} has applied other entries up to {applied} than another server"
            )
        seen.state = (*state[:-1], len(self.committed))

    def _look_at_log(self, consensus: Consensus, seen: _Seen) -> None:
        entries = consensus.log.slice(1)
        first = min(len(entries), len(seen.entries))
        while first and entries[first - 1] is not seen.entries[first - 1]:
            first -= 1
        for index in range(first + 1, len(entries) + 1):
            entry = entries[index - 1]
            found = (entry, entries[index - 2].term if index > 1 else 0)
            known = self.entries.setdefault((index, entry.term), found)
            if known != found:
                raise Violated(
                    f"log matching: {consensus.id} has {found} (entry, term before it) at index {index}, elsewhere it is {known}"
                )
        seen.entries = entries

    def _look_at_commit(self, consensus: Consensus, seen: _Seen) -> None:
        if consensus.commit < seen.commit:
            raise Violated(f"{consensus.id} had committed {seen.commit} entries and now {consensus.commit}")
        for index in range(seen.commit + 1, consensus.commit + 1):
            entry = consensus.log[index]
            if index > len(self.committed):
                self.committed.append((entry, consensus.term))
            elif self.committed[index - 1][0] != entry:
                other = self.committed[index - 1][0]
                raise Violated(
                    f"state machine safety: {consensus.id} commits {entry} at index {index}, elsewhere it is {other}"
                )
        seen.commit = consensus.commit

    def _look_at_leader(self, consensus: Consensus, seen: _Seen) -> None:
        id, term, log = consensus.id, consensus.term, consensus.log
        if self.leaders.setdefault(term, id) != id:
            raise Violated(f"election safety: {id} and {self.leaders[term]} both lead in term {term}")
        known = seen.leads[1] if seen.leads[0] == term else 0
        for index in range(known + 1, len(self.committed) + 1):
            entry, committed_in = self.committed[index - 1]
            if committed_in <= term and (index > log.last or log[index] != entry):
                raise Violated(
                    f"leader completeness: {id} leads in term {term} without {entry}, committed at index {index} in term {committed_in}"
                )
        seen.leads = (term, len(self.committed))
