"""Buffers around any stream: ``BufReader``, ``BufWriter``, and ``BufStream``, which is both around one connection.

Cancellation loses nothing here because of one rule: bytes enter a buffer in the very step in which the layer below gave
them, and leave it in the very step in which they are returned (reading) or were taken by the layer below (writing).
Between those steps there is no await.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Any, NoReturn

from ..kernel.errors import EndOfStream, Unsupported, WouldBlock, user_site
from ..kernel.flow import checkpoint, passes
from ..kernel.hazard import report
from ..kernel.twin import BufReaderFields, BufWriterFields, keep, slots, twinned
from . import guard
from .abc import (
    DEFAULT_SIZE,
    READ,
    WRITE,
    AsyncBufRead,
    AsyncBufWrite,
    AsyncRead,
    AsyncStream,
    AsyncWrite,
    LimitExceeded,
    ReadableBuffer,
    WritableBuffer,
)

LINE_END = b"\n"

# What says that nothing can be written without a wait.
_REFUSED = (WouldBlock, Unsupported)


def _check_buffer_size(size: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f"a buffer's size must be a number of bytes, not {type(size).__name__}")
    if size < 1:
        raise ValueError(f"a buffer's size must be at least 1 byte, not {size!r}")
    return size


@twinned("read", "readexactly", "readline", "readuntil")
class BufReader(BufReaderFields, AsyncBufRead):
    """Reads ``raw`` in large pieces and hands them out as bytes, lines or records.

    ``size`` (bytes) bounds the buffer; only a ``readexactly``, ``readuntil`` or ``peek`` that asks for more lets it grow, up to
    what was asked for. Owns ``raw``: closing the one closes the other.
    """

    # Invariant: ``_data[_pos:]`` is what ``raw`` gave and no caller has got, in order. ``_data`` is mostly the bytes that ``raw``
    # gave, so that handing them out copies them once; a bytearray where a small piece was added to a large rest.
    #
    # What is at hand is given without taking the slot: nothing can come between two statements. Only who waits takes it.
    __slots__ = slots("__weakref__", "_data", "_pos", "_size", "_slot", "raw")

    def __init__(self, raw: AsyncRead, size: int = DEFAULT_SIZE) -> None:
        self.raw = raw
        self._size = _check_buffer_size(size)
        self._data: bytes | bytearray = b""
        self._pos = 0
        self._slot = guard.Slot(self, "read")

    @property
    def buffered(self) -> int:
        """How many bytes can be read without asking ``raw``."""
        return len(self._data) - self._pos

    def _take(self, n: int) -> bytes:
        """Hand out the next ``n`` bytes, or what there is."""
        pos = self._pos
        data = self._data[pos : pos + n]
        self._pos = pos + len(data)
        return data if type(data) is bytes else bytes(data)

    def _more(self, goal: int) -> Awaitable[bytes]:
        """Ask ``raw`` once, so that there will be at most ``goal`` bytes, or the buffer's size. Give the result to ``_add``."""
        have = len(self._data) - self._pos
        if not have:  # who waits for long keeps no memory
            self._drop()
        return self.raw.read(max(goal, self._size) - have)

    def _add(self, piece: bytes) -> bool:
        """Append what ``_more`` has brought. False at the end of the stream.

        No byte is copied more than a few times, however small the pieces: joining costs at most twice the new piece, and a
        bytearray grows in place.
        """
        data, pos = self._data, self._pos
        have = len(data) - pos
        if not piece:
            return False
        if not have:
            self._data = piece if type(piece) is bytes else bytes(piece)
        elif have <= len(piece):
            self._data = bytes(data[pos:]) + piece
        elif type(data) is bytearray:
            del data[:pos]
            data += piece
        else:
            data = bytearray(data[pos:])
            data += piece
            self._data = data
        self._pos = 0
        return True

    def _drop(self) -> None:
        self._data = b""
        self._pos = 0

    def adopt(self, other: BufReader) -> None:
        """Take over what ``other``, which nobody uses any more, has read ahead of the same source. Not a cancellation point."""
        self._data, self._pos = other._data, other._pos
        other._drop()

    async def read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        guard.check_size(n)
        if (self._pos < len(self._data) or not n) and self._slot.task is None and passes():
            return self._take(n)
        with self._slot:
            if self.buffered or not n:
                await checkpoint()
                return self._take(n)
            if n >= self._size:
                return await self.raw.read(n)  # nothing to gain from a copy
            self._add(await self._more(n))
            return self._take(n)

    async def readinto(self, buffer: WritableBuffer, /) -> int:
        with self._slot:
            if not self.buffered:
                return await self.raw.readinto(buffer)
            await checkpoint()
            with memoryview(buffer) as view, view.cast("B") as target:
                data = self._take(len(target))
                target[: len(data)] = data
                return len(data)

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        guard.check_size(n)
        self._slot.check()
        return self._take(n) if self.buffered else self.raw.try_read(n)

    async def ready(self, directions: int = READ, /) -> int:
        if directions & READ and self.buffered:
            await checkpoint()
            return READ
        return await self.raw.ready(directions)

    async def readexactly(self, n: int, /) -> bytes:
        pos = self._pos
        if type(n) is int and 0 <= n <= len(self._data) - pos and self._slot.task is None and passes():
            self._pos = end = pos + n
            data = self._data[pos:end]
            return data if type(data) is bytes else bytes(data)
        guard.check_size(n)
        with self._slot:
            if self.buffered >= n:
                await checkpoint()
            while self.buffered < n:
                if not self._add(await self._more(n)):
                    _too_short(self, n)
            return self._take(n)

    async def readuntil(self, separator: bytes = b"\n", limit: int | None = None) -> bytes:
        data = await self._until(separator, limit)
        if not data.endswith(separator):
            _without(data, separator)
        return data

    async def readline(self, limit: int | None = None) -> bytes:
        if limit is None and self._slot.task is None:  # the common case of ``_until``, without a second frame
            pos = self._pos
            end = self._data.find(b"\n", pos, pos + self._size) + 1
            if end and passes():
                self._pos = end
                data = self._data[pos:end]
                return data if type(data) is bytes else bytes(data)
        return await self._until(b"\n", limit)

    async def _until(self, separator: bytes, limit: int | None) -> bytes:
        """The bytes up to and with the separator, or all that was left at the end."""
        if not separator:
            raise ValueError("the separator must be at least one byte")
        bound = self._size if limit is None else guard.check_size(limit)
        width = len(separator)
        searched = 0  # no separator starts in this many bytes
        waited = False
        with self._slot:
            while True:
                data, pos = self._data, self._pos
                at = data.find(separator, pos + searched, pos + bound)
                if at >= 0:
                    if not waited and not passes():
                        await checkpoint()
                    return self._take(at + width - pos)
                have = len(data) - pos
                if have >= bound:
                    _over_limit(separator, bound)
                searched = max(0, have - width + 1)
                if not self._add(await self._more(bound)):
                    return self._take(have)
                waited = True

    async def peek(self, n: int = 1, /) -> bytes:
        guard.check_size(n)
        with self._slot:
            if self.buffered >= n:
                await checkpoint()
            while self.buffered < n and self._add(await self._more(n)):
                pass
            return bytes(self._data[self._pos : self._pos + n])

    async def some(self) -> bytes:
        """Everything buffered, at least one byte (``b""`` at the end), left in place until ``consume``: for ``copy``."""
        with self._slot:
            if self.buffered:
                await checkpoint()
            else:
                self._add(await self._more(1))
            return bytes(self._data[self._pos :])

    def consume(self, n: int) -> None:
        """Take the first ``n`` buffered bytes away. Not a cancellation point."""
        self._slot.check()
        self._pos = min(self._pos + n, len(self._data))

    def close(self) -> None:
        self._drop()
        self.raw.close()

    async def aclose(self) -> None:
        self._drop()
        await self.raw.aclose()

    @property
    def closed(self) -> bool:
        return self.raw.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.raw.get_extra_info(name, default)

    def describe(self) -> str:
        """For messages: what it reads from."""
        return f"BufReader of {guard.title(self.raw)}"

    def __repr__(self) -> str:
        return f"<{self.describe()} ({self.buffered}/{self._size} bytes)>"


def _too_short(reader: BufReader, n: int) -> NoReturn:
    partial = reader._take(n)
    raise EndOfStream(
        f"the stream ended after {len(partial)} of the {n} bytes asked for (they are in `partial`)", partial=partial
    )


def _without(data: bytes, separator: bytes) -> NoReturn:
    raise EndOfStream(
        f"the stream ended after {len(data)} bytes without {separator!r} (they are in `partial`)", partial=data
    )


def _over_limit(separator: bytes | None, bound: int) -> NoReturn:
    raise LimitExceeded(
        f"no {separator or LINE_END!r} within the limit of {bound} bytes; nothing was consumed: give a larger limit, or "
        "read() past it",
        limit=bound,
    )


keep(buffered_short=_too_short, buffered_no_separator=_without, buffered_limit=_over_limit, buffered_refused=_REFUSED)


@twinned("flush", "write")
class BufWriter(BufWriterFields, AsyncBufWrite):
    """Gathers small writes and hands them to ``raw`` in large pieces: when ``size`` bytes are full, and on ``flush``.

    Owns ``raw``: ``aclose`` flushes and closes it. A write that doesn't fit waits until the buffer is empty, so a slow
    reader on the other side slows the writer down. Cancelling it tears nothing where ``raw`` can ``try_write``.
    """

    # Invariants: ``len(_buffer) <= _size``; it holds what callers wrote and ``raw`` has not taken, in order. ``_open`` is
    # ``not (_closed or _eof)``. As in ``BufReader``, what can be done at once is done without the slot.
    __slots__ = slots(
        "__weakref__",
        "_buffer",
        "_closed",
        "_eof",
        "_flushes",
        "_open",
        "_site",
        "_size",
        "_slot",
        "_tries",
        "raw",
    )

    def __init__(self, raw: AsyncWrite, size: int = DEFAULT_SIZE) -> None:
        self._buffer = bytearray()  # first, for __del__
        self._size = _check_buffer_size(size)
        self.raw = raw
        self._closed = False
        self._eof = False
        self._open = True
        self._tries = True  # until raw says that it has no try_write
        self._flushes = type(raw).flush is not AsyncWrite.flush
        self._slot = guard.Slot(self, "write")
        self._site = user_site(sys._getframe(1))

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def _check_open(self) -> None:
        if self._closed:
            raise guard.closed(self.describe())
        if self._eof:
            raise guard.closed(f"the sending direction of {self.describe()}")

    async def write(self, data: ReadableBuffer, /) -> None:
        if (
            type(data) is bytes
            and len(self._buffer) + len(data) <= self._size
            and self._open
            and self._slot.task is None
            and passes()
        ):
            self._buffer += data
            return
        with memoryview(data) as given, given.cast("B") as view, self._slot:
            self._check_open()
            if len(self._buffer) + len(view) <= self._size:
                await checkpoint()
                self._buffer += view
                return
            await self._drain()
            if len(view) < self._size:
                self._buffer += view
            else:
                await self.raw.write(view)

    def try_write(self, data: ReadableBuffer, /) -> int:
        self._slot.check()
        self._check_open()
        with memoryview(data) as given, given.cast("B") as view:
            room = self._size - len(self._buffer)
            if not room:
                self._send_some()
                room = self._size - len(self._buffer)
            part = view[:room]
            self._buffer += part
            return len(part)

    async def ready(self, directions: int = WRITE, /) -> int:
        """As on any stream: writable while there is room in the buffer. Reading readiness is that of ``raw``."""
        if directions & WRITE and len(self._buffer) < self._size:
            await checkpoint()
            return WRITE
        return await self.raw.ready(directions)

    def _send_some(self) -> None:
        """Hand over what ``raw`` takes at once. Raises ``WouldBlock``, or ``Unsupported`` where it can't."""
        buffer = self._buffer
        sent = self.raw.try_write(buffer)
        if sent == len(buffer):
            buffer.clear()
        else:
            del buffer[:sent]

    async def _drain(self) -> None:
        """Hand over the whole buffer."""
        buffer = self._buffer
        raw = self.raw
        if not buffer or self._tries:  # trying is no cancellation check, so here is one
            await checkpoint()
        while buffer:
            if self._tries:
                try:
                    self._send_some()
                except WouldBlock:
                    await raw.ready(WRITE)
                except Unsupported:
                    self._tries = False
            else:
                # A cancelled write leaves our copy in place: untouched, it is sent later; torn, raw itself says Broken.
                await raw.write(bytes(buffer))
                buffer.clear()

    async def flush(self) -> None:
        if self._tries and not self._flushes and not self._closed and self._slot.task is None and passes():
            if self._buffer:
                try:
                    self._send_some()
                except _REFUSED:
                    pass  # seen to below
            if not self._buffer:
                return
        await self._flush_rest()

    async def _flush_rest(self) -> None:
        """``flush`` where that can't be done at once."""
        with self._slot:
            if self._closed:
                raise guard.closed(self.describe())
            await self._flush()

    async def _flush(self) -> None:
        await self._drain()
        if self._flushes:
            await self.raw.flush()

    async def write_eof(self) -> None:
        with self._slot:
            if self._closed:
                raise guard.closed(self.describe())
            await self._flush()
            await self.raw.write_eof()
            self._eof = True
            self._open = False

    def close(self) -> None:
        self._closed = True
        self._open = False
        self._buffer.clear()
        self.raw.close()

    async def aclose(self) -> None:
        if not self._closed:
            try:
                if not self._eof:
                    with self._slot:
                        await self._flush()
            except BaseException:  # cancelled, too: what could not be written must not keep it open
                self.close()
                raise
            self._closed = True
            self._open = False
        await self.raw.aclose()

    @property
    def closed(self) -> bool:
        return self._closed or self.raw.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.raw.get_extra_info(name, default)

    def describe(self) -> str:
        """For messages: what it writes to."""
        return f"BufWriter of {guard.title(self.raw)}"

    def __repr__(self) -> str:
        return f"<{self.describe()} ({len(self._buffer)}/{self._size} bytes)>"

    def __del__(self) -> None:
        if self._buffer and not self._closed:
            report(
                "dropped_without_close",
                f"{self.describe()} was dropped with {len(self._buffer)} bytes unsent; use `async with` or await aclose()",
                self._site,
            )


_rest: Any = BufWriter
keep(buffered_flush_rest=_rest._flush_rest)


class BufStream(AsyncBufRead, AsyncBufWrite, AsyncStream):
    """A connection with a buffer in each direction: ``reader`` and ``writer`` around one stream, which it owns.

    ``read_size`` and ``write_size`` bound the buffers, in bytes.
    """

    __slots__ = ("__weakref__", "raw", "reader", "writer")

    def __init__(self, raw: AsyncStream, read_size: int = DEFAULT_SIZE, write_size: int = DEFAULT_SIZE) -> None:
        self.raw = raw
        self.reader = BufReader(raw, read_size)
        self.writer = BufWriter(raw, write_size)

    def read(self, n: int = DEFAULT_SIZE, /) -> Awaitable[bytes]:
        return self.reader.read(n)

    def readinto(self, buffer: WritableBuffer, /) -> Awaitable[int]:
        return self.reader.readinto(buffer)

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        return self.reader.try_read(n)

    def readexactly(self, n: int, /) -> Awaitable[bytes]:
        return self.reader.readexactly(n)

    def readuntil(self, separator: bytes = b"\n", limit: int | None = None) -> Awaitable[bytes]:
        return self.reader.readuntil(separator, limit)

    def readline(self, limit: int | None = None) -> Awaitable[bytes]:
        return self.reader.readline(limit)

    def peek(self, n: int = 1, /) -> Awaitable[bytes]:
        return self.reader.peek(n)

    def write(self, data: ReadableBuffer, /) -> Awaitable[None]:
        return self.writer.write(data)

    def try_write(self, data: ReadableBuffer, /) -> int:
        return self.writer.try_write(data)

    async def ready(self, directions: int = READ, /) -> int:
        found = READ if directions & READ and self.reader.buffered else 0
        if directions & WRITE and self.writer.buffered < self.writer._size:
            found |= WRITE
        if found:
            await checkpoint()
            return found
        return await self.raw.ready(directions)

    def flush(self) -> Awaitable[None]:
        return self.writer.flush()

    def write_eof(self) -> Awaitable[None]:
        return self.writer.write_eof()

    @property
    def buffered(self) -> int:
        return self.writer.buffered

    def close(self) -> None:
        self.writer.close()
        self.reader.close()

    def aclose(self) -> Awaitable[None]:
        return self.writer.aclose()

    @property
    def closed(self) -> bool:
        return self.writer.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.raw.get_extra_info(name, default)

    def describe(self) -> str:
        """For messages: what is buffered."""
        return f"BufStream of {guard.title(self.raw)}"

    def __repr__(self) -> str:
        return f"<{self.describe()} ({self.reader.buffered} bytes in, {self.writer.buffered} bytes out)>"
