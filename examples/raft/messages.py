"""What nodes and clients tell each other, and how it goes over a stream.

Theory of operation. A frame is one byte of version, four bytes of length (big-endian), and that many bytes of JSON: a list of the
message's name and its fields. Whoever opens a connection asks on it, and the other side answers on it; nodes keep a connection
in each direction, so a node's questions and its answers to another node's questions never share a stream. Several questions may
be under way; nothing depends on the order of the answers, because each repeats what it answers: the term, the round or the number.

What comes in is checked field by field: a message is either well-formed or a ``ProtocolError``, which ends the connection.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

import bateau
from bateau.io import AsyncStream, BufReader

from .log import KINDS, Entry

VERSION = 1
HEAD = struct.Struct("!BI")
LONGEST = 4 << 20  # bytes; nobody has a reason to send a longer frame, so it is not read


class ProtocolError(ValueError):
    """What came over a connection is no message of this version of the protocol."""


# -- between nodes -------------------------------------------------------------------------------------------------------


class Hello(NamedTuple):
    """The first thing that a node says: who it is, and whom it means. An address may have changed hands."""

    sender: str
    receiver: str


class Vote(NamedTuple):
    """A candidate asks for a vote in ``term``. ``pre``: it only asks whether it would get one, and changes nothing."""

    term: int
    candidate: str
    last_index: int
    last_term: int
    pre: bool


class VoteReply(NamedTuple):
    """``term`` is the voter's own; ``asked`` is the term of the question."""

    term: int
    voter: str
    asked: int
    pre: bool
    granted: bool


class Append(NamedTuple):
    """A leader's entries (none: a heartbeat), to follow the entry at ``previous``, and how far it has committed.

    ``round`` counts the leader's heartbeats; the answer to one proves that the leader was still leader when it sent it.
    """

    term: int
    leader: str
    previous: int
    previous_term: int
    entries: list[Entry]
    commit: int
    round: int


class AppendReply(NamedTuple):
    """``term`` is the follower's own; ``asked`` and ``round`` are those of the question.

    ``ok``: the logs agree up to the entry at ``place``. Otherwise: they may agree before it.
    """

    term: int
    follower: str
    asked: int
    round: int
    ok: bool
    place: int


# -- between clients and nodes -------------------------------------------------------------------------------------------


class Ask(NamedTuple):
    """A client's question: see ``node.py`` for the verbs. ``number`` is the connection's, and comes back in the answer."""

    number: int
    verb: str
    arguments: list[Any]


class Answer(NamedTuple):
    """``status``: "ok"; "moved" (ask the leader, whose address is ``value``, empty if unknown); "again" (this time it could
    not be done, or it isn't known whether it was: ask again); "expired" (the session is not known any more); "error"
    (``value`` says what is wrong with the question).
    """

    number: int
    status: str
    value: Any


Message: TypeAlias = Hello | Vote | VoteReply | Append | AppendReply | Ask | Answer

# -- as bytes ------------------------------------------------------------------------------------------------------------

_to_json = json.JSONEncoder(separators=(",", ":")).encode


def _checker(hint: Any) -> Callable[[Any], Any]:
    """What turns a value as JSON gives it into one of the type ``hint``, or raises ``TypeError``."""
    if hint is Any:
        return lambda value: value
    if hint is Entry:
        return decode_entry
    if get_origin(hint) is list:
        item = _checker(get_args(hint)[0])
        return lambda value: [item(one) for one in _exactly(value, list)]
    if get_origin(hint) is UnionType:
        allowed = tuple(get_args(hint))
        return lambda value: _exactly(value, *allowed)
    return lambda value: _exactly(value, hint)


def _exactly(value: Any, *types: type) -> Any:
    if type(value) not in types:  # not isinstance: True is no number here
        names = " or ".join("null" if one is NoneType else one.__name__ for one in types)
        raise TypeError(f"{value!r} is no {names}")
    return value


def decode_entry(value: Any) -> Entry:
    """The entry that a JSON list is. Raises ``TypeError`` or ``ValueError``."""
    term, kind, body = _exactly(value, list)
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of entry")
    if kind == "members":
        for name, address in _exactly(body, dict).items():
            _exactly(name, str)
            _exactly(address, str)
    return Entry(_exactly(term, int), kind, body)


_TYPES: dict[str, tuple[Callable[..., Message], list[Callable[[Any], Any]]]] = {
    cls.__name__: (cls, [_checker(hint) for hint in get_type_hints(cls).values()])
    for cls in (Hello, Vote, VoteReply, Append, AppendReply, Ask, Answer)
}


def encode(message: Message) -> bytes:
    """``message`` as a frame. Raises ``ValueError`` if it is too long."""
    data = _to_json([type(message).__name__, *message]).encode()
    if len(data) > LONGEST:
        raise ValueError(f"this {type(message).__name__} has {len(data)} bytes, and at most {LONGEST} can be sent")
    return HEAD.pack(VERSION, len(data)) + data


def decode(data: bytes) -> Message:
    """The message in the frame's content. Raises ``ProtocolError``."""
    try:
        name, *fields = json.loads(data)
        make, checks = _TYPES[name]
        return make(*[check(field) for check, field in zip(checks, fields, strict=True)])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProtocolError(f"this is no message: {data[:80]!r}: {error!r}") from error


class Connection:
    """A stream of messages, which owns the byte stream under it. One task may receive while another sends."""

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream
        self._reader = BufReader(stream)

    async def send(self, *messages: Message) -> None:
        """Send ``messages``, in one piece. A cancellation point; cancelled half-way, the connection is of no use any more."""
        await self._stream.write(b"".join(map(encode, messages)))

    async def receive(self) -> Message | None:
        """The next message; None at the end. A cancellation point; cancelled, nothing is lost.

        Raises ``ProtocolError`` for anything else, ``OSError`` if the connection is lost.
        """
        if not await self._reader.peek():
            return None
        try:
            version, length = HEAD.unpack(await self._reader.peek(HEAD.size))
            if version != VERSION:
                raise ProtocolError(f"the other side speaks version {version}, this side version {VERSION}")
            if length > LONGEST:
                raise ProtocolError(f"a message of {length} bytes is announced; at most {LONGEST} are read")
            frame = await self._reader.readexactly(HEAD.size + length)
        except (bateau.EndOfStream, struct.error) as error:
            raise ProtocolError("the connection ended in the middle of a message") from error
        return decode(frame[HEAD.size :])

    def close(self) -> None:
        """Close the stream at once."""
        self._stream.close()

    async def aclose(self) -> None:
        """Close the stream. A cancellation point; it is closed in any case."""
        await self._stream.aclose()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
