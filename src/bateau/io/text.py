"""Text over byte streams: ``TextReader`` and ``TextWriter``, with the encodings, error handlers and newlines of ``open``."""

from __future__ import annotations

import codecs
from io import IncrementalNewlineDecoder
from typing import Any

from ..kernel.flow import checkpoint
from . import guard
from .abc import DEFAULT_SIZE, AsyncRead, AsyncResource, AsyncWrite, LimitExceeded

_NEWLINES = (None, "", "\n", "\r", "\r\n")


def _check_newline(newline: str | None) -> str | None:
    if newline not in _NEWLINES:
        raise ValueError(f"newline must be None, '', '\\n', '\\r' or '\\r\\n', not {newline!r}")
    return newline


class TextReader(AsyncResource):
    """Decodes what ``raw`` gives. Owns ``raw``. ``async for line in reader`` gives the lines.

    ``encoding``, ``errors`` and ``newline`` mean what they mean for ``open``; ``limit`` (characters) bounds a line.
    """

    # Invariant: ``_text`` from ``_at`` on is decoded and not handed out; bytes enter the decoder in the step in which ``raw`` gave them.
    __slots__ = ("__weakref__", "_at", "_decoder", "_ended", "_limit", "_newline", "_slot", "_text", "raw")

    def __init__(
        self,
        raw: AsyncRead,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | None = None,
        *,
        limit: int = 1 << 20,
    ) -> None:
        self._newline = _check_newline(newline)
        decoder: Any = codecs.getincrementaldecoder(encoding)(errors)
        if newline in (None, ""):
            decoder = IncrementalNewlineDecoder(decoder, translate=newline is None)
        self.raw = raw
        self._decoder = decoder
        self._limit = limit
        self._text = ""
        self._at = 0
        self._ended = False
        self._slot = guard.Slot(self, "read")

    async def _fill(self) -> bool:
        """Decode one more piece; False at the end."""
        if self._ended:
            return False
        data = await self.raw.read(DEFAULT_SIZE)
        self._text = self._text[self._at :] + self._decoder.decode(data, not data)
        self._at = 0
        self._ended = not data
        return not self._ended

    def _take(self, n: int) -> str:
        at = self._at
        self._at = min(at + n, len(self._text))
        return self._text[at : self._at]

    def _ahead(self) -> int:
        """How many characters wait."""
        return len(self._text) - self._at

    async def read(self, n: int = -1, /) -> str:
        """At most ``n`` characters and at least one, or everything to the end (-1); ``""`` at the end.

        A cancellation point; cancelled, nothing is lost. Raises ``UnicodeDecodeError`` as ``open``'s files do.
        """
        with self._slot:
            if self._ahead():
                await checkpoint()
            if n < 0:
                while await self._fill():
                    pass
                return self._take(self._ahead())
            while not self._ahead() and n and await self._fill():
                pass
            return self._take(n)

    async def readline(self) -> str:
        """The next line with its end; at the end what is left, then ``""``. A cancellation point; cancelled, nothing is lost.

        Raises ``LimitExceeded`` for a line longer than the limit; nothing was consumed.
        """
        with self._slot:
            searched = 0  # characters after ``_at`` in which no line ends
            waited = False
            while True:
                end = self._line_end(searched)
                if 0 <= end <= self._limit:
                    if not waited:
                        await checkpoint()
                    return self._take(end)
                if self._ahead() >= self._limit:
                    raise LimitExceeded(
                        f"a line is longer than the limit of {self._limit} characters", limit=self._limit
                    )
                searched = max(0, self._ahead() - 1)
                if not await self._fill() and self._line_end(searched) < 0:
                    return self._take(self._ahead())
                waited = True

    def _line_end(self, start: int) -> int:
        """How many characters the first line has with its end, or -1; it does not end before ``start``."""
        text, at = self._text, self._at
        start += at
        if self._newline == "":
            feed = text.find("\n", start)
            back = text.find("\r", start, feed if feed >= 0 else len(text))
            if back < 0:
                return feed + 1 - at if feed >= 0 else -1
            # The decoder never ends a piece between \r and \n.
            return back + (2 if back + 1 == feed else 1) - at
        newline = self._newline or "\n"
        found = text.find(newline, start)
        return found + len(newline) - at if found >= 0 else -1

    def __aiter__(self) -> TextReader:
        return self

    async def __anext__(self) -> str:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def close(self) -> None:
        self.raw.close()

    async def aclose(self) -> None:
        await self.raw.aclose()

    @property
    def closed(self) -> bool:
        return self.raw.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.raw.get_extra_info(name, default)

    def describe(self) -> str:
        """For messages: what it reads from."""
        return f"TextReader of {guard.title(self.raw)}"


class TextWriter(AsyncResource):
    """Encodes text for ``raw``, which it owns. Nothing is buffered here: put it over a ``BufWriter`` for small pieces.

    ``encoding`` and ``errors`` mean what they mean for ``open``; so does ``newline``, but None leaves line ends as they are on
    every system.
    """

    __slots__ = ("__weakref__", "_encoder", "_newline", "raw")

    def __init__(
        self, raw: AsyncWrite, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None
    ) -> None:
        self._newline = _check_newline(newline)
        self._encoder = codecs.getincrementalencoder(encoding)(errors)
        self.raw = raw

    async def write(self, text: str, /) -> int:
        """Send ``text``; returns its length. A cancellation point; see ``AsyncWrite.write``. Raises ``UnicodeEncodeError``."""
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"write() takes a str, not {type(text).__name__}; bytes go to the stream below")
        size = len(text)
        if self._newline in ("\r", "\r\n"):
            text = text.replace("\n", self._newline)
        await self.raw.write(self._encoder.encode(text))
        return size

    async def flush(self) -> None:
        """Send on what the streams below have buffered. A cancellation point."""
        await self.raw.flush()

    def close(self) -> None:
        self.raw.close()

    async def aclose(self) -> None:
        await self.raw.aclose()

    @property
    def closed(self) -> bool:
        return self.raw.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.raw.get_extra_info(name, default)

    def describe(self) -> str:
        """For messages: what it writes to."""
        return f"TextWriter of {guard.title(self.raw)}"
