"""Entries, and the log as a node has it in memory.

Theory of operation. Indices begin at 1; before the first entry there is an imaginary one with index 0 and term 0, so that "the entry
before" always exists. The cluster's members are entries of the log as well, and the newest one in the log is in force, committed
or not (Ongaro's thesis, section 4.1); cutting the log's end off brings the one before it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# What an entry can be. "noop" begins a leader's term, "members" maps each member's id to its address, "session" opens a client's
# session, "command" is a ``machine.Command``.
KINDS = ("noop", "members", "session", "command")

NO_MEMBERS: dict[str, str] = {}


class Entry(NamedTuple):
    """One entry: the term of the leader that made it, what it is, and its content as JSON knows it."""

    term: int
    kind: str
    body: Any = None


class Diverged(RuntimeError):
    """Two logs differ where Raft promises that they can't. Somebody's data is damaged, or the rules were broken: stop."""


class Log:
    """A node's log.

    Invariants: terms never decrease along the log; ``_members_at`` has the indices of the entries of kind "members", in order;
    ``changed_from`` is the lowest index that changed since ``mark_saved``, or None.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: list[Entry] = []
        self._members_at: list[int] = []
        self.changed_from: int | None = None
        for entry in entries:
            self.append(entry)
        self.mark_saved()

    # -- looking -----------------------------------------------------------------------------------------------------------

    @property
    def last(self) -> int:
        """The index of the last entry; 0 if there is none."""
        return len(self._entries)

    @property
    def last_term(self) -> int:
        """The term of the last entry; 0 if there is none."""
        return self._entries[-1].term if self._entries else 0

    def __getitem__(self, index: int) -> Entry:
        if not 1 <= index <= len(self._entries):
            raise IndexError(f"the log has entries 1 to {self.last}, so not {index}")
        return self._entries[index - 1]

    def term_at(self, index: int) -> int:
        """The term of the entry at ``index``, which may be 0: the imaginary one."""
        return self[index].term if index else 0

    def matches(self, index: int, term: int) -> bool:
        """Whether there is an entry of ``term`` at ``index``. If so, all before it are those of the asking leader, too."""
        return index <= self.last and self.term_at(index) == term

    def slice(self, first: int, count: int | None = None) -> list[Entry]:
        """The entries from ``first`` on, at most ``count``."""
        begin = first - 1
        return self._entries[begin : None if count is None else begin + count]

    def first_of_term_at(self, index: int) -> int:
        """The index of the first entry that has the term of the one at ``index``: how far back a mismatch may reach."""
        term = self.term_at(index)
        while index > 1 and self._entries[index - 2].term == term:
            index -= 1
        return index

    # -- the members -------------------------------------------------------------------------------------------------------

    @property
    def members_index(self) -> int:
        """Where the members in force stand; 0 if the log says nothing of members."""
        return self._members_at[-1] if self._members_at else 0

    @property
    def members(self) -> dict[str, str]:
        """The members in force, id to address. Don't change it."""
        found: dict[str, str] = self[self.members_index].body if self._members_at else NO_MEMBERS
        return found

    @property
    def previous_members(self) -> dict[str, str]:
        """The members before the last change."""
        found: dict[str, str] = self[self._members_at[-2]].body if len(self._members_at) > 1 else NO_MEMBERS
        return found

    # -- changing ----------------------------------------------------------------------------------------------------------

    def append(self, entry: Entry) -> int:
        """Put ``entry`` at the end; returns its index."""
        if entry.term < self.last_term:
            raise Diverged(f"an entry of term {entry.term} can't follow one of term {self.last_term}")
        self._entries.append(entry)
        index = len(self._entries)
        if entry.kind == "members":
            self._members_at.append(index)
        self._changed(index)
        return index

    def cut(self, first: int) -> None:
        """Take the entries from ``first`` on away."""
        del self._entries[first - 1 :]
        while self._members_at and self._members_at[-1] >= first:
            self._members_at.pop()
        self._changed(first)

    def merge(self, previous: int, entries: Sequence[Entry], committed: int) -> None:
        """Take over a leader's ``entries``, which follow the entry at ``previous``, where the logs are known to agree.

        Only what contradicts them is cut off: they may be an old message, and what stands behind them may be newer than it and
        acknowledged already. Raises ``Diverged`` if they contradict one of the first ``committed`` entries.
        """
        for index, entry in enumerate(entries, previous + 1):
            if index <= self.last:
                mine = self[index]
                if mine == entry:
                    continue
                if mine.term == entry.term or index <= committed:
                    what = "is committed" if index <= committed else "has the same term"
                    raise Diverged(f"entry {index} is {mine} here and {entry} at the leader, though it {what}")
                self.cut(index)
            self.append(entry)

    # -- saving ------------------------------------------------------------------------------------------------------------

    def _changed(self, index: int) -> None:
        if self.changed_from is None or index < self.changed_from:
            self.changed_from = index

    def mark_saved(self) -> None:
        """All that is here is on the disk."""
        self.changed_from = None

    def __repr__(self) -> str:
        return f"<log of {self.last} entries, the last of term {self.last_term}>"
