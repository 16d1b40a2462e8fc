"""The interfaces of byte streams: what every stream, wrapper, file and pipe offers, on every runtime.

A small lattice. ``AsyncRead`` and ``AsyncWrite`` are one direction each, ``AsyncStream`` is both; ``AsyncBufRead`` and
``AsyncBufWrite`` are the same with a bounded buffer, and what a buffer makes possible. They are abstract classes: a
wrapper's author fills in the few abstract methods, gets the others, and proves the result with
``bateau.testing.streams.check_stream``.

What holds for all of them:

- Data goes out as it was asked for: ``write`` returns when all of it was taken over, by the layer below or by a
  buffer of fixed size. Nothing buffers without bound, so a slow reader slows its writer down.
- One reader and one writer at a time. A second one gets ``Busy``, which names both tasks.
- A cancelled read loses no byte: what has arrived stays readable. A cancelled write that had not begun did nothing; one
  that was torn breaks the stream, and the ``Broken`` of every later write says how much went out.
- ``close`` never suspends and may be called again; calls after it, and those waiting, raise ``Closed``.
- The end is ``b""`` from ``read``, as with Python's files and sockets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..kernel.errors import BateauError, Unsupported
from ..kernel.flow import checkpoint

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Buffer

    ReadableBuffer: TypeAlias = Buffer
    WritableBuffer: TypeAlias = bytearray | memoryview
else:
    ReadableBuffer = WritableBuffer = Any

# The directions, for ``ready``; add them to ask for both.
READ: Final = 1
WRITE: Final = 2

# How much ``read`` asks for, and how much a buffer holds, unless told otherwise, in bytes.
DEFAULT_SIZE: Final = 65536


class LimitExceeded(BateauError, ValueError):
    """A line or record is longer than the limit. ``limit`` is in bytes; nothing was consumed, so all of it stays readable."""

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class AsyncResource(ABC):
    """Something with an end: closed at once by ``close``, in good order by ``aclose`` or by leaving ``async with``."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Close now, without suspending; harmless when closed already.

        What a buffer still held is dropped and the other side may see an abrupt end; ``aclose`` is the orderly form.
        Tasks that wait on the stream get ``Closed``.
        """

    def aclose(self) -> Awaitable[None]:
        """Finish in good order (send what is buffered, say goodbye if the protocol has a word for it), then close.

        A cancellation point. In a cancelled scope it closes at once, then raises ``Cancelled``; however it ends, the stream
        is closed. Harmless when closed already.
        """
        self.close()
        return checkpoint()

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether this side was closed."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known about the transport under the name asyncio gives it, or ``default``.

        ``"peername"``, ``"sockname"``, ``"socket"`` for sockets; ``"ssl_object"``, ``"peercert"``, ``"cipher"`` for TLS;
        ``"fd"`` where there is a descriptor. A wrapper answers for itself, then asks what it wraps.
        """
        return default

    def describe(self) -> str:
        """What messages and tools call this stream; a wrapper names what it wraps."""
        return f"{type(self).__name__} at {id(self):#x}"

    def ready(self, directions: int = READ, /) -> Awaitable[int]:
        """Wait until ``try_read`` (``READ``) or ``try_write`` (``WRITE``) would not block; ``READ | WRITE`` waits for either.

        Returns those that are ready. The end of the stream counts as readable, an error as both. It may be wrong, as ``select()``
        may: ``try_read`` decides. A cancellation point without effect. Raises ``Closed``, and ``Busy`` while another
        task waits for the same direction.
        """
        raise Unsupported(
            f"{type(self).__name__} can't wait for readiness; use `await read(n)` and `await write(data)`"
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncRead(AsyncResource):
    """Bytes that come in. Abstract: ``read``, ``close``, ``closed``."""

    __slots__ = ()

    @abstractmethod
    def read(self, n: int = DEFAULT_SIZE, /) -> Awaitable[bytes]:
        """At least one byte and at most ``n``, as soon as there are any; ``b""`` at the end (or for ``n == 0``).

        A cancellation point; cancelled, it has taken nothing. Raises ``ValueError`` for a negative ``n``, ``Closed`` when
        this side was closed, ``Broken`` when the connection was lost, ``Busy`` while another task reads.
        """

    def readinto(self, buffer: WritableBuffer, /) -> Awaitable[int]:
        """Read into ``buffer`` (any writable bytes-like object): at least one byte, as much as there is and fits.

        Returns how many bytes were put there; 0 at the end, or for an empty buffer. Nothing touches the buffer after the call
        has returned or raised. A cancellation point; cancelled, it has taken nothing. Raises like ``read``.
        """
        return _read_into(self, buffer)

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        """Like ``read``, but never waits: raises ``WouldBlock`` where ``read`` would suspend. Not a cancellation point."""
        raise Unsupported(f"{type(self).__name__} can't read without waiting; use `await read(n)`")


class AsyncWrite(AsyncResource):
    """Bytes that go out. Abstract: ``write``, ``close``, ``closed``."""

    __slots__ = ()

    @abstractmethod
    def write(self, data: ReadableBuffer, /) -> Awaitable[None]:
        """Send all of ``data`` (bytes-like): returns once the layer below, or a bounded buffer, has taken over all of it.

        ``data`` is not touched afterwards. A cancellation point: cancelled before the first byte, it had no effect; cancelled
        later, the stream is broken, and the ``Broken`` that every later write raises tells in ``sent`` how much of it went
        out. Raises ``Closed`` after ``close`` or ``write_eof``, ``Broken`` when the other side is gone, ``Busy`` while
        another task writes, ``TypeError`` for what is not bytes-like.
        """

    def try_write(self, data: ReadableBuffer, /) -> int:
        """Send as much of ``data`` as goes without waiting and say how many bytes that was.

        Raises ``WouldBlock`` where not even one goes, otherwise like ``write``. Not a cancellation point.
        """
        raise Unsupported(f"{type(self).__name__} can't write without waiting; use `await write(data)`")

    def flush(self) -> Awaitable[None]:
        """Send on what is buffered here; returns once the layer below has taken over all of it.

        Without a buffer there is nothing to do. A cancellation point; cancelled, what was not sent stays in the buffer.
        """
        return checkpoint()

    def write_eof(self) -> Awaitable[None]:
        """Flush, then tell the other side that nothing more comes; reading goes on. Harmless the second time.

        A cancellation point; cancelled, the end has not been sent. Raises ``Unsupported`` where the transport can't close one
        direction alone.
        """
        raise Unsupported(f"{type(self).__name__} can't close its sending direction alone; use aclose()")


class AsyncStream(AsyncRead, AsyncWrite):
    """Both directions: a connection. One task may read while another writes."""

    __slots__ = ()


class AsyncBufRead(AsyncRead):
    """``AsyncRead`` with a bounded buffer, and so with lines, records and a look ahead.

    ``async for line in stream`` gives the lines, each with its end, as iterating over a Python file does.
    """

    __slots__ = ()

    @abstractmethod
    def readexactly(self, n: int, /) -> Awaitable[bytes]:
        """Exactly ``n`` bytes. A cancellation point; cancelled half-way, what has arrived stays readable.

        Raises ``EndOfStream`` if the end comes sooner; its ``partial`` holds what there was.
        """

    @abstractmethod
    def readuntil(self, separator: bytes = b"\n", limit: int | None = None) -> Awaitable[bytes]:
        """The bytes up to and with the next ``separator``.

        ``limit`` bounds the result's length in bytes, with the separator (None: what the buffer holds). A cancellation
        point; cancelled, what has arrived stays readable. Raises ``EndOfStream`` if the end comes first (``partial`` holds
        what there was), ``LimitExceeded`` if there is no separator within the limit (everything stays readable), ``ValueError``
        for an empty separator.
        """

    @abstractmethod
    def readline(self, limit: int | None = None) -> Awaitable[bytes]:
        r"""The next line with its ``b"\n"``; at the end what is left, then ``b""``.

        Raises ``LimitExceeded`` for a line longer than ``limit`` bytes. A cancellation point; cancelled, it consumed nothing.
        """

    @abstractmethod
    def peek(self, n: int = 1, /) -> Awaitable[bytes]:
        """The next ``n`` bytes, which stay readable; fewer only at the end. A cancellation point without effect.

        Raises ``ValueError`` if ``n`` is more than the buffer can hold.
        """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line


class AsyncBufWrite(AsyncWrite):
    """``AsyncWrite`` into a bounded buffer, which is sent when it is full, on ``flush``, ``write_eof`` and ``aclose``."""

    __slots__ = ()

    @property
    @abstractmethod
    def buffered(self) -> int:
        """How many bytes wait in the buffer."""


async def _read_into(stream: AsyncRead, buffer: WritableBuffer) -> int:
    """``readinto`` for streams that can only ``read``."""
    with memoryview(buffer) as view, view.cast("B") as target:
        data = await stream.read(len(target))
        target[: len(data)] = data
        return len(data)
