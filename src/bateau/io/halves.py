"""``split``: a stream as two halves with separate owners, the sending one cloneable, so that many tasks may send messages.

Theory of operation. The halves share one ``_Whole``, which counts who still uses what: the last sender's ``aclose`` ends the
sending direction (``write_eof``), the last half of all closes the stream. Senders take turns, first come first served, and
keep the turn for a whole message: frames never interleave.

A sender that is cancelled in mid-message must not take the connection away from the others, so its message is not torn: what
is left of it (``rest``) goes out before anything else does, carried by the next write, flush or close.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from ..kernel.cancellation import CancelScope
from ..kernel.errors import Unsupported, WouldBlock
from ..kernel.flow import checkpoint
from . import guard
from .abc import (
    DEFAULT_SIZE,
    READ,
    WRITE,
    AsyncBufWrite,
    AsyncRead,
    AsyncStream,
    AsyncWrite,
    ReadableBuffer,
    WritableBuffer,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class _Whole:
    """What the halves of one stream share. Invariant: ``rest`` is the unsent end of at most one message."""

    __slots__ = ("rest", "reading", "senders", "stream", "tries", "turn")

    def __init__(self, stream: AsyncWrite, reading: bool) -> None:
        self.stream = stream
        self.reading = reading
        self.senders = 1
        self.rest = b""
        self.tries = True  # until the stream says that it has no try_write
        self.turn = guard.Turn(f"the sending half of {guard.title(stream)}")

    async def send(self, data: memoryview) -> None:
        """Send ``data`` after what an earlier, cancelled message left. The caller has the turn."""
        if self.rest:
            await self.finish_rest()
        await checkpoint()
        sent = self.begin(data)
        while sent == 0 and len(data):
            await self.stream.ready(WRITE)  # cancelled here, nothing has gone out
            sent = self.begin(data)
        if sent is None:
            await self.stream.write(data)
            return
        self.rest = bytes(data[sent:])
        if self.rest or self.buffers_behind():
            await self.finish_rest()

    def begin(self, data: memoryview) -> int | None:
        """How much of ``data`` went out at once; None where the stream has no ``try_write``."""
        if not self.tries:
            return None
        try:
            return self.stream.try_write(data)
        except WouldBlock:
            return 0
        except Unsupported:
            self.tries = False
            return None

    async def finish_rest(self) -> None:
        """Send what is left of a message; cancelled, it stays what is left."""
        stream = self.stream
        while self.rest:
            try:
                sent = stream.try_write(self.rest)
                self.rest = self.rest[sent:]
            except WouldBlock:
                await stream.ready(WRITE)
        if self.buffers_behind():
            await stream.flush()

    def buffers_behind(self) -> bool:
        """Whether ``try_write`` may leave bytes that only ``flush`` sends (TLS). A ``BufWriter`` is flushed by its user."""
        stream = self.stream
        return type(stream).flush is not AsyncWrite.flush and not isinstance(stream, AsyncBufWrite)

    def unused(self) -> bool:
        return not self.reading and not self.senders

    def left(self) -> None:
        """A half was closed without ceremony."""
        if self.unused():
            self.stream.close()


class ReadHalf(AsyncRead):
    """The receiving half of ``split``. Closing it leaves the sending half open."""

    __slots__ = ("__weakref__", "_closed", "_slot", "_stream", "_wait", "_whole")

    def __init__(self, stream: AsyncStream, whole: _Whole) -> None:
        self._stream = stream
        self._whole = whole
        self._closed = False
        self._slot = guard.Slot(self, "read")
        self._wait: CancelScope | None = None

    async def _read(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self._check()
        with self._slot:
            # ``close`` cancels this scope: the stream below stays open, so it would not end the wait.
            wait = self._wait = CancelScope()
            try:
                with wait:
                    return await call()
            finally:
                self._wait = None
        raise guard.closed(self.describe())

    async def read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        self._check()
        self._slot.check()
        await checkpoint()
        try:
            return self._stream.try_read(n)
        except (WouldBlock, Unsupported):
            data: bytes = await self._read(lambda: self._stream.read(n))
            return data

    async def readinto(self, buffer: WritableBuffer, /) -> int:
        size: int = await self._read(lambda: self._stream.readinto(buffer))
        return size

    async def ready(self, directions: int = READ, /) -> int:
        if directions != READ:
            raise Unsupported("a read half can only wait for READ; ask the write half for WRITE")
        found: int = await self._read(lambda: self._stream.ready(READ))
        return found

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        self._check()
        self._slot.check()
        return self._stream.try_read(n)

    def _check(self) -> None:
        if self._closed:
            raise guard.closed(self.describe())

    def _leave(self) -> None:
        self._closed = True
        self._whole.reading = False
        if self._wait is not None:
            self._wait.cancel("the read half was closed")

    def close(self) -> None:
        if not self._closed:
            self._leave()
            self._whole.left()

    async def aclose(self) -> None:
        if not self._closed:
            self._leave()
            if self._whole.unused():
                await self._whole.stream.aclose()
                return
        await checkpoint()

    @property
    def closed(self) -> bool:
        return self._closed or self._whole.stream.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._whole.stream.get_extra_info(name, default)

    def describe(self) -> str:
        """For messages: what it is a half of."""
        return f"read half of {guard.title(self._whole.stream)}"


class WriteHalf(AsyncWrite):
    """The sending half of ``split``. ``clone()`` gives further senders; each ``write`` is one message, sent whole.

    A write that is cancelled while it waits for its turn or for room had no effect. Cancelled after its first byte, the message
    is completed by the next write, ``flush`` or ``aclose`` of any sender, so the stream stays in order for the others.
    (Where the stream below offers no ``try_write``, its own rule for torn writes holds instead.)
    """

    __slots__ = ("__weakref__", "_closed", "_whole")

    def __init__(self, whole: _Whole) -> None:
        self._whole = whole
        self._closed = False

    def clone(self) -> WriteHalf:
        """Another sender on the same stream, with an owner and an end of its own. Raises ``Closed`` after ``close``."""
        self._check()
        self._whole.senders += 1
        return WriteHalf(self._whole)

    def _check(self) -> None:
        if self._closed:
            raise guard.closed(self.describe())

    async def write(self, data: ReadableBuffer, /) -> None:
        self._check()
        turn = self._whole.turn
        with memoryview(data) as given, given.cast("B") as view:
            if not turn.try_acquire():
                await turn.acquire()
            try:
                self._check()
                await self._whole.send(view)
            finally:
                turn.release()

    def try_write(self, data: ReadableBuffer, /) -> int:
        self._check()
        whole = self._whole
        if whole.rest or not whole.turn.try_acquire():
            raise WouldBlock(
                f"another sender is in the middle of a message on {self.describe()}; use `await write(data)`"
            )
        try:
            return whole.stream.try_write(data)
        finally:
            whole.turn.release()

    async def flush(self) -> None:
        self._check()
        async with self._whole.turn:
            await self._whole.finish_rest()
            await self._whole.stream.flush()

    async def write_eof(self) -> None:
        """The same as ``aclose``: the sending direction ends with its last sender."""
        await self.aclose()

    async def ready(self, directions: int = WRITE, /) -> int:
        self._check()
        if directions != WRITE:
            raise Unsupported("a write half can only wait for WRITE; ask the read half for READ")
        async with self._whole.turn:
            return await self._whole.stream.ready(WRITE)

    def close(self) -> None:
        """Give up this sender, without a word to the other side: that is what ``aclose`` is for."""
        if not self._closed:
            self._closed = True
            self._whole.senders -= 1
            self._whole.left()

    async def aclose(self) -> None:
        """Give up this sender; the last one ends the sending direction. A cancellation point; it is closed in any case."""
        whole = self._whole
        if self._closed or whole.senders > 1:
            self.close()
            await checkpoint()
            return
        try:
            async with whole.turn:
                await whole.finish_rest()
                if whole.senders > 1:  # cloned while this one waited
                    return
                if whole.reading:
                    await whole.stream.write_eof()
                else:
                    await whole.stream.aclose()
        finally:
            self.close()

    @property
    def closed(self) -> bool:
        return self._closed or self._whole.stream.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._whole.stream.get_extra_info(name, default)

    def describe(self) -> str:
        """For messages: what it is a half of."""
        return f"write half of {guard.title(self._whole.stream)}"


def split(stream: AsyncStream) -> tuple[ReadHalf, WriteHalf]:
    """Give the two directions of ``stream`` to two owners; the stream itself is closed with its last half.

    The write half can be cloned, for many tasks that send messages over one connection. Don't use ``stream`` itself any more.
    """
    whole = _Whole(stream, True)
    return ReadHalf(stream, whole), WriteHalf(whole)


def sender_of(stream: AsyncWrite) -> WriteHalf:
    """The same for what can only be written to: a cloneable sender, whose last clone closes ``stream``."""
    return WriteHalf(_Whole(stream, False))
