"""Replay tokens: a run as one word to copy from a report into a test or a command line.

A token holds the seed, the non-zero answers, and what they depend on: the Python and the bateau that made it, and a digest of the
options of the world. Layout, before it is made printable::

    1 byte      version of this format
    4 bytes     CRC-32 of all that follows
    1 byte      0: what follows is as it is; 1: it is compressed (raw deflate), which long ones are
    ...         Python's major and minor version, a digest of the options (4 bytes), the version of bateau, the name of the scenario,
                the options as text (both may be empty), the seed, then for each stream its name and its answers as
                (answer, distance to the previous question) pairs

Numbers are varints (seven bits a byte, the highest bit: more follow).
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from .options import from_text, of_the_world, to_text
from .shrinking import entries_of
from .strategy.base import Choices

if TYPE_CHECKING:
    from .running import Run

PREFIX = "sim-"
FORMAT = 2
NO_OPTIONS = b"\0\0\0\0"


def _own_version() -> str:
    from .. import __version__

    return __version__


class TokenError(ValueError):
    """A replay token can't be read, or does not belong to this run; the message says which and what to do."""


@dataclass(frozen=True)
class Token:
    """What a replay token holds."""

    seed: int
    choices: Choices
    # (major, minor) of the Python that made it, the version of bateau, and a digest of the world's options.
    python: tuple[int, int] = field(default_factory=lambda: (sys.version_info[0], sys.version_info[1]))
    bateau: str = field(default_factory=_own_version)
    options: bytes = NO_OPTIONS
    # ``file.py:function`` of the scenario, and the options as text, where they can be written.
    target: str = ""
    options_text: str = ""

    def encode(self) -> str:
        """The token as one word of letters, digits, ``-`` and ``_``."""
        body = bytearray(self.python)
        body += self.options
        _put_text(body, self.bateau)
        _put_text(body, self.target)
        _put_text(body, self.options_text)
        _put_number(body, self.seed * 2 if self.seed >= 0 else -self.seed * 2 - 1)
        at = 0
        stream = None
        for name, index, answer in entries_of(self.choices):
            if name != stream:
                if stream is not None:
                    _put_number(body, 0)  # no answer is 0: the end of a stream
                _put_text(body, name)
                stream, at = name, 0
            _put_number(body, answer)
            _put_number(body, index - at)
            at = index
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = deflate.compress(bytes(body)) + deflate.flush()
        content = b"\1" + packed if len(packed) < len(body) else b"\0" + bytes(body)
        raw = bytes([FORMAT]) + zlib.crc32(content).to_bytes(4, "big") + content
        return PREFIX + base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")

    def world_options(self) -> dict[str, Any]:
        """The options that the token brings along; empty if they could not be written into it. Raises ``TokenError`` if they can't be read."""
        try:
            return from_text(self.options_text)
        except (TypeError, ValueError) as error:
            raise _damaged(f"its options can't be read: {error}") from None

    def mismatches(self, options: Mapping[str, Any] | None = None) -> list[str]:
        """What is different here from where it was made, in sentences: the run may then be another one. Empty if nothing is.

        ``options`` are those of the world that is to replay it; None: they are not compared.
        """
        found: list[str] = []
        here = (sys.version_info[0], sys.version_info[1])
        if self.python != here:
            made, now = ("{}.{}".format(*version) for version in (self.python, here))
            found.append(f"the token was made on Python {made} and this is {now}: replay it there")
        if self.bateau != _own_version():
            found.append(f"the token was made by bateau {self.bateau} and this is {_own_version()}")
        if options is not None and self.options != options_digest(options):
            found.append(
                "the token was made with other options of the world (faults, latency, limits): replay it with the same ones"
            )
        return found

    def other_scenario(self, run: Run) -> list[str]:
        """A sentence if ``run`` is of another scenario by its file or its name; none where either is not known.

        The answers alone do not tell: any program asks for a few of the same streams.
        """
        made, now = (re.split(r"[/\\]", target)[-1] for target in (self.target, run.target))
        return [f"it was made of {self.target}, and this is {run.target}"] if made and now and made != now else []

    def astray(self, run: Run) -> str:
        """What to say of a run that has ``strayed``."""
        return (
            f"the run went another way than the token records ({'; '.join(run.strayed)}): it is the token of another scenario, or the "
            "program has changed since. Explore again for a token of the program as it is now"
        )

    def require(self, options: Mapping[str, Any] | None = None) -> None:
        """Raise ``TokenError`` if there are ``mismatches``."""
        if found := self.mismatches(options):
            raise TokenError("; ".join(found))


def encode(run: Run) -> str:
    """The replay token of a run."""
    digest, text = options_digest(run.options), to_text(run.options)
    return Token(run.seed, run.choices, options=digest, target=run.target, options_text=text).encode()


def decode(text: str) -> Token:
    """What a token holds. Whitespace in it (a terminal's line breaks) is ignored.

    Raises ``TokenError`` if it is not a token, is damaged, or was made by a version whose format is unknown here.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TokenError(f"a replay token is text that starts with {PREFIX!r}, not {text!r}")
    text = "".join(text.split())
    if not text.startswith(PREFIX):
        raise TokenError(f"a replay token starts with {PREFIX!r}, this one with {text[:12]!r}: copy it whole")
    word = text[len(PREFIX) :]
    try:
        if not re.fullmatch(r"[A-Za-z0-9_-]*", word):
            raise ValueError("it holds other characters than letters, digits, - and _")
        raw = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
    except (ValueError, binascii.Error) as error:
        raise _damaged(str(error)) from None
    if len(raw) < 6:
        raise _damaged("it is too short")
    if raw[0] != FORMAT:
        raise TokenError(
            f"this replay token is of format {raw[0]} and this bateau ({_own_version()}) reads format {FORMAT}: "
            "replay it with the version that made it, or explore again"
        )
    content = raw[5:]
    if zlib.crc32(content) != int.from_bytes(raw[1:5], "big"):
        raise _damaged("its checksum is wrong")
    return _parse(content)


def _parse(content: bytes) -> Token:
    # The checksum has held: what fails from here on was made so, by something else than ``encode``.
    try:
        body = zlib.decompress(content[1:], -15) if content[0] else content[1:]
        reader = _Reader(body)
        major, minor = reader.take(2)
        options = reader.take(4)
        bateau = reader.text()
        target = reader.text()
        options_text = reader.text()
        folded = reader.number()
        seed = -(folded + 1) // 2 if folded & 1 else folded // 2
        choices: Choices = {}
        while not reader.at_end():
            answers = choices.setdefault(reader.text(), {})
            index = 0
            while not reader.at_end() and (answer := reader.number()):
                index += reader.number()
                answers[index] = answer
    except (IndexError, ValueError, zlib.error) as error:
        raise _damaged(str(error)) from None
    return Token(seed, choices, (major, minor), bateau, options, target, options_text)


def options_digest(options: Mapping[str, Any]) -> bytes:
    """Four bytes that tell one set of options from another, the same in each process. Options that are None count as not
    given, where None is no value of theirs.
    """
    given = sorted((name, _canonical(value)) for name, value in of_the_world(options).items())
    return zlib.crc32(repr(given).encode("utf-8", "backslashreplace")).to_bytes(4, "big") if given else NO_OPTIONS


def _canonical(value: Any) -> str:
    """``repr`` without what differs between processes: addresses, and the order of sets."""
    if isinstance(value, set | frozenset | list | tuple):
        parts = [_canonical(each) for each in cast("Collection[Any]", value)]
        return repr(parts if isinstance(value, list | tuple) else sorted(parts))
    if isinstance(value, Mapping):
        mapping: Any = value  # pyright: ignore[reportUnknownVariableType]  # of whatever
        pairs: Any = mapping.items()
        return repr(sorted((_canonical(key), _canonical(each)) for key, each in pairs))
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _damaged(why: str) -> TokenError:
    return TokenError(f"this replay token is damaged ({why}): copy it whole, from {PREFIX!r} to its end")


def _put_number(body: bytearray, number: int) -> None:
    while number > 0x7F:
        body.append(number & 0x7F | 0x80)
        number >>= 7
    body.append(number)


def _put_text(body: bytearray, text: str) -> None:
    encoded = text.encode("utf-8", "surrogatepass")
    _put_number(body, len(encoded))
    body += encoded


class _Reader:
    """Takes a body apart, from its start to its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def at_end(self) -> bool:
        return self._at >= len(self._body)

    def take(self, count: int) -> bytes:
        found = self._body[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("it ends too early")
        self._at += count
        return found

    def number(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def text(self) -> str:
        return self.take(self.number()).decode("utf-8", "surrogatepass")
