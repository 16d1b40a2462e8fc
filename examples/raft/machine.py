"""The state machine that the log drives: a key-value store, and the sessions of its clients.

Theory of operation. A client that got no answer can't know whether its command was executed, so it asks again, perhaps another
server. Sessions make that harmless (Ongaro's thesis, section 6.3): a command carries its session and a number that grows with
each command of the session; the store keeps the last number and its result, and gives that result for the same number again
instead of executing it twice. A session is opened through the log, and its identity is its entry's index.

Every server applies the same entries in the same order, and nothing here depends on anything else: not on time, not on
randomness, not on the order of a set. So all servers have the same state at the same index.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

from .log import Entry

# Characters of a command's key and values together. A message carries up to 64 commands, and JSON may need six bytes for one character.
LONGEST = 8000

# How many sessions are remembered; opening one more forgets the one that was used least recently. Counted in entries and not in
# time, so that all servers forget the same one.
SESSIONS = 1000


class Command(NamedTuple):
    """A change of the store: ``operation`` "put", "delete", or "swap" (put ``value`` if the key has the value ``expected``)."""

    session: int
    number: int
    operation: str
    key: str
    value: str | None = None
    expected: str | None = None


class Expired(Exception):
    """The command's session is not known (any more), so nobody can tell whether the command was executed before."""


class Session:
    """What is remembered of a client: the number of its last command, and the result."""

    __slots__ = ("number", "result")

    def __init__(self) -> None:
        self.number = 0
        self.result: Any = None


class Machine:
    """The store.

    Invariant: all of this is a function of the entries 1 to ``applied``. ``digest`` is a checksum of them, so that two servers can be
    compared in a moment. ``_sessions`` is in order of use, the least recent first.
    """

    def __init__(self) -> None:
        self.applied = 0
        self.digest = 0
        self.values: dict[str, str] = {}
        self._sessions: dict[int, Session] = {}

    def apply(self, index: int, entry: Entry) -> Any:
        """Apply the entry at ``index``, the next one; returns its result. Raises ``Expired``, having applied nothing."""
        if index != self.applied + 1:
            raise AssertionError(f"entry {index} can't be applied after entry {self.applied}")
        self.applied = index
        self.digest = zlib.crc32(repr(entry).encode(), self.digest)
        if entry.kind == "session":
            return self._open(index)
        if entry.kind == "command":
            return self._once(Command(*entry.body))
        return None

    def _open(self, index: int) -> int:
        self._sessions[index] = Session()
        while len(self._sessions) > SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return index

    def _once(self, command: Command) -> Any:
        session = self._sessions.pop(command.session, None)
        if session is None:
            raise Expired(f"session {command.session} is not known any more: it was not used for too long")
        self._sessions[command.session] = session  # now the most recent one
        if command.number > session.number:
            session.number = command.number
            session.result = self._execute(command)
        # A lower number than the last is an old message, which overtook nobody: its client has gone on, and hears nothing of it.
        return session.result

    def _execute(self, command: Command) -> Any:
        key, value = command.key, command.value
        if command.operation == "delete":
            return self.values.pop(key, None) is not None
        if command.operation == "swap" and self.values.get(key) != command.expected:
            return False
        assert value is not None
        self.values[key] = value
        return True


def check_command(arguments: list[Any]) -> Command:
    """The command that a client's arguments are. Raises ``ValueError`` saying what is wrong: the log only takes what can be applied."""
    try:
        command = Command(*arguments)
    except TypeError:
        raise ValueError(f"a command has 4 to 6 fields ({', '.join(Command._fields)}), not {len(arguments)}") from None
    if type(command.session) is not int or type(command.number) is not int or command.number < 1:
        raise ValueError("a session is a number, and so is a command's number, from 1 on")
    if command.operation not in ("put", "delete", "swap"):
        raise ValueError(f"{command.operation!r} is no operation: use put, delete or swap")
    if type(command.key) is not str or type(command.expected) not in (str, type(None)):
        raise ValueError("a key is a string, and so is an expected value (or null: no value)")
    if command.operation != "delete" and type(command.value) is not str:
        raise ValueError("a value is a string")
    if len(command.key) + len(command.value or "") + len(command.expected or "") > LONGEST:
        raise ValueError(f"a command's key and values have at most {LONGEST} characters together")
    return command
