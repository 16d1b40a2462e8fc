"""How an agent and its clients talk: messages over a stream, and where the socket of a process is found.

A message is its length (4 bytes, big-endian) and as many bytes of JSON, an object. A request has ``id`` (a whole number of the client's
choice), ``do`` (what is asked) and arguments beside them; its answer has the same ``id``, and ``ok`` with ``result``, or not, with
``error``, a text that says what to do. ``docs/insight.md`` lists the requests.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
from collections.abc import Sequence
from typing import Any, cast

from .errors import InsightError

# A client and an agent of different versions don't talk. Requests may be added without a new one: unknown ones are refused.
PROTOCOL = 1

MOST_REQUEST = 64 * 1024
MOST_ANSWER = 1 << 30

_LENGTH = struct.Struct(">I")


class ProtocolError(InsightError):
    """What came is no message of this protocol."""


def pack(message: dict[str, Any]) -> bytes:
    """A message as bytes."""
    return pack_raw(json.dumps(message, separators=(",", ":")).encode())


def pack_raw(body: bytes) -> bytes:
    """A message whose JSON is there already."""
    return _LENGTH.pack(len(body)) + body


def pack_result(number: int, result: Sequence[bytes], *, push: bool = False) -> bytes:
    """A good answer, whose result is JSON already, in pieces: a snapshot is not taken apart to be sent, and put together but once."""
    head = f'{{"id":{number},"ok":true,' + ('"push":true,' if push else "") + '"result":'
    length = len(head) + sum(map(len, result)) + 1
    return b"".join((_LENGTH.pack(length), head.encode(), *result, b"}"))


class Decoder:
    """Takes bytes as they come, gives messages. Never keeps more than ``most`` bytes of one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """More has come."""
        self._data += data

    @property
    def partial(self) -> bool:
        """Whether the beginning of a message is there, and not its end."""
        return bool(self._data)

    def next(self) -> dict[str, Any] | None:
        """The next whole message; None if more must come. Raises ``ProtocolError`` for what can't be one."""
        data = self._data
        if len(data) < 4:
            return None
        (length,) = _LENGTH.unpack_from(data)
        if length > self._most:
            raise ProtocolError(f"a message of {length:,} bytes, where at most {self._most:,} are allowed")
        if len(data) < 4 + length:
            return None
        body = bytes(data[4 : 4 + length])
        del data[: 4 + length]
        return parse(body)


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """The object in a message. Raises ``ProtocolError``."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message that is not JSON: {error}") from None
    if type(message) is not dict:
        raise ProtocolError("a message that is not a JSON object")
    return cast("dict[str, Any]", message)


# -- where the socket is -------------------------------------------------------------------------------------------------


def directories(uid: int) -> list[str]:
    """Where agents of a user's processes have their sockets, the best place first."""
    found: list[str] = []
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and uid == os.getuid():
        found.append(os.path.join(runtime, "bateau"))
    found += [f"/run/user/{uid}/bateau", f"/tmp/bateau-{uid}"]  # a name that both sides can guess; see make_directory
    return list(dict.fromkeys(found))


def make_directory() -> str:
    """The directory for this process's socket: ours alone (mode 0700), made if need be.

    Raises ``InsightError`` if somebody else made what stands at every possible place: then nothing there can be trusted.
    """
    problems: list[str] = []
    for path in directories(os.getuid()):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass  # looked at below
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        problem = is_not_private(path)
        if problem is None:
            return path
        problems.append(f"{path}: {problem}")
    raise InsightError(
        f"there is no private directory for the agent's socket ({'; '.join(problems)}); set XDG_RUNTIME_DIR"
    )


def sweep(directory: str) -> None:
    """Remove the sockets of processes that were killed: nobody else does. The directory is ours alone."""
    for name in os.listdir(directory):
        number, dot, kind = name.partition(".")
        if not (dot and kind == "sock" and number.isdigit()):
            continue
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))
        except (PermissionError, OverflowError):
            continue  # somebody has that number


def is_not_private(path: str) -> str | None:
    """Why this directory may not hold our socket, or None if it may."""
    try:
        state = os.lstat(path)
    except OSError as error:
        return error.strerror
    if not stat.S_ISDIR(state.st_mode):
        return "is no directory"
    if state.st_uid != os.getuid():
        return f"belongs to user {state.st_uid}"
    if stat.S_IMODE(state.st_mode) & 0o077:
        return f"is open to others (mode {stat.S_IMODE(state.st_mode):o}); chmod 700 it"
    return None


def find_socket(pid: int) -> str | None:
    """The socket of a process's agent, or None if it has none."""
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        uid = os.getuid()
    for directory in directories(uid):
        path = os.path.join(directory, f"{pid}.sock")
        try:
            state = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISSOCK(state.st_mode) and state.st_uid in (uid, os.getuid()):
            return path
    return None
