"""Connected stream sockets.

Every call tries its system call first and parks only when that would block; nothing is buffered here, so what a peer does
not read, and what this side does not read, stays in the kernel's bounded buffers.

Theory of operation. A ``SocketStream`` owns its socket: its ``close`` is the only one, and comes after the watch's. At most one
operation per direction is *parked* at a time; it stands in ``_reader`` or ``_writer`` from its first wait to its end, also between
a wake and the next attempt, so that nobody can overtake it. Operations that succeed at once never stand there.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar

from ..io.abc import DEFAULT_SIZE, READ, WRITE, AsyncStream
from ..io.fd import FdOperation, FdsOperation, Side
from ..kernel.current import current_task_or_none
from ..kernel.errors import Broken, Busy, Closed, WouldBlock
from ..kernel.operation import ABORTED, FIRED, NEW, PARKED
from ..kernel.twin import (
    SocketStreamFields,
    StreamOperationFields,
    StreamReadFields,
    StreamReadIntoFields,
    StreamWriteFields,
    keep,
    slots,
    twinned,
)
from ._errors import check_count, translated
from ._socket import SocketOwner

if TYPE_CHECKING:
    from ..io.abc import ReadableBuffer, WritableBuffer
    from ._sendfile import Wrapping

T = TypeVar("T")


@twinned("read", "readinto", "recv", "sendall", "write")
class SocketStream(SocketStreamFields, SocketOwner, AsyncStream):
    """A connected TCP (or any stream) socket. Made by ``connect_tcp``, a ``Listener`` or ``from_socket``.

    See ``bateau.io.AsyncStream`` for what every stream promises.
    """

    __slots__ = slots("_broken", "_eof_sent", "_reader", "_writer")
    _kind = "TCP stream"

    def __init__(self, sock: socket.socket, *, on_close: Callable[[], None] | None = None) -> None:
        super().__init__(sock, on_close=on_close)
        self._broken: Broken | None = None
        self._eof_sent = False
        # The parked operation of each direction; see the module's head.
        self._reader: FdOperation[Any] | None = None
        self._writer: FdOperation[Any] | None = None

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, n: int = DEFAULT_SIZE, /) -> StreamRead:
        """See ``AsyncRead.read``. With data at hand it costs one system call and does not suspend."""
        return StreamRead(self, n)

    def recv(self, n: int = DEFAULT_SIZE, /) -> StreamRead:
        """``read`` under the name it has in Python's socket module."""
        return StreamRead(self, n)

    def readinto(self, buffer: WritableBuffer, /) -> StreamReadInto:
        """See ``AsyncRead.readinto``. The kernel writes into ``buffer`` itself; nothing touches it once this has ended."""
        with memoryview(buffer) as view:
            if view.readonly:
                raise TypeError(f"readinto needs a writable buffer, not {type(buffer).__name__}; use a bytearray")
        return StreamReadInto(self, buffer)

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        check_count(n)
        self._check_free(self._reader, None, "read")
        try:
            return self._sock.recv(n)
        except (BlockingIOError, InterruptedError):
            raise WouldBlock(f"{self._describe()} has nothing to read now; use `await read(n)`") from None
        except OSError as error:
            raise self._translated(error) from error

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, data: ReadableBuffer, /) -> StreamWrite:
        """See ``AsyncWrite.write``. Returns once the kernel has taken over all of ``data``."""
        return StreamWrite(self, data)

    def sendall(self, data: ReadableBuffer, /) -> StreamWrite:
        """``write`` under the name it has in Python's socket module."""
        return StreamWrite(self, data)

    def try_write(self, data: ReadableBuffer, /) -> int:
        if self._eof_sent or self._broken is not None or self._watch.closed:
            self._check_writable()
        if self._writer is not None:
            self._check_free(self._writer, None, "write")
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            raise WouldBlock(f"{self._describe()} takes nothing now; use `await write(data)`") from None
        except OSError as error:
            raise self._translated(error) from error

    def write_eof(self) -> _WriteEof:
        return _WriteEof(self)

    def sendfile(self, file: IO[bytes] | Wrapping, offset: int = 0, count: int | None = None) -> FdOperation[int]:
        """Await it: send ``count`` bytes (None: all) of ``file`` from ``offset`` on; returns how many that were.

        As Python's ``socket.sendfile``: ``file`` is a regular file opened in binary mode, by ``open`` or by ``fs.open``, and stands
        after the last byte sent when this ends, however it ends. The kernel copies, so what is not in its page cache is read from the disk meanwhile. A
        cancellation point; cancelled in the middle, the stream is broken as after a cancelled ``write``. Raises ``TypeError`` for
        what has no such descriptor, ``ValueError`` for negative numbers, else like ``write``.
        """
        from ._sendfile import SendFile

        return SendFile(self, file, offset, count)

    def ready(self, directions: int = READ, /) -> _StreamReady:
        if directions not in (READ, WRITE, READ | WRITE):
            raise ValueError(f"directions must be READ, WRITE or READ | WRITE, not {directions!r}")
        return _StreamReady(self, directions)

    # -- shared by the operations ---------------------------------------------------------------------------------------

    def _check_writable(self, sent: int = 0) -> None:
        """Raise the reason why nothing can be sent any more, if there is one. ``sent``: bytes of this write that had gone out."""
        if self._watch.closed:
            raise self._watch.closed_error()
        if self._eof_sent:
            raise Closed(f"{self._describe()}: write_eof was called; nothing can be sent after the end")
        broken = self._broken
        if broken is not None:
            # A reader may have met the loss first: of what went out it knew nothing.
            text = f"{broken} ({sent} bytes of this write had gone out)" if sent else str(broken)
            again = Broken(text, sent=sent or broken.sent)
            again.errno = broken.errno
            raise again

    def _check_free(self, other: FdOperation[Any] | None, op: FdOperation[Any] | None, verb: str) -> None:
        """Raise ``Busy`` if ``other``, which is not ``op``, is in the middle of a wait in this direction."""
        if other is None or other is op:
            return
        if other.state is not PARKED and (other.state is not FIRED or other.watcher is not None):
            return  # it was given up in a way that told nobody: a select that chose another arm
        task = current_task_or_none()
        mine = f"task {task.name!r}" if task is not None else "code outside any task"
        theirs = f"task {other.task.name!r}" if other.task is not None else "another task"
        raise Busy(
            f"{mine} can't {verb} {self._describe()}: {theirs} is in the middle of it; "
            f"one task at a time may {verb}: use a lock, or one task that does it for all"
        )

    def _translated(self, error: OSError, sent: int | None = None) -> OSError:
        found = translated(error, self._describe(), closed=self._sock.fileno() < 0, sent=sent)
        if isinstance(found, Broken) and self._broken is None:
            self._broken = found
        return found


class StreamReading(StreamOperationFields, FdOperation[T]):
    """What the reading operations share: the reader's place."""

    __slots__ = slots("stream")

    def __init__(self, stream: SocketStream) -> None:
        super().__init__(stream._watch, stream._watch.reading)
        self.stream = stream

    def register(self) -> None:
        self.stream._reader = self
        self.side.add(self)

    def given_up(self) -> None:
        if self.stream._reader is self:
            self.stream._reader = None

    def describe(self) -> str:
        return f"read from {self.stream._describe()}"


@twinned(final=True)
class StreamRead(StreamReadFields, StreamReading[bytes]):
    __slots__ = slots("n")

    def __init__(self, stream: SocketStream, n: int) -> None:
        # The chain of ``super().__init__`` written out, here and in ``StreamWrite``: it costs as much as the system call.
        self.state = ABORTED  # until it is whole: what is refused was not forgotten
        self.n = n if type(n) is int and n >= 0 else check_count(n)
        self.stream = stream
        self.resource = watch = stream._watch
        self.side = watch.reading
        self.state = NEW
        self.value = self.error = self.task = self.watcher = None

    def poll(self) -> bool:
        stream = self.stream
        reader = stream._reader
        if reader is not None and reader is not self:
            stream._check_free(reader, self, "read")
        side = self.side
        if side.closed:
            raise stream._watch.closed_error()
        n = self.n
        if side.quiet and n:
            return False  # the last read took all there was, and no event came since
        try:
            data = stream._sock.recv(n)
        except (BlockingIOError, InterruptedError):
            side.drain()
            return False
        except OSError as error:
            self.failed(error)
        if data and len(data) < n:
            side.drain()
        if reader is not None:
            stream._reader = None
        self.value = data
        return True

    def failed(self, error: OSError) -> NoReturn:
        """The system call has failed."""
        self.given_up()
        raise self.stream._translated(error) from error


@twinned(final=True)
class StreamReadInto(StreamReadIntoFields, StreamReading[int]):
    """Holds no view of the buffer while it waits: that is taken for the length of an attempt."""

    __slots__ = slots("buffer")

    def __init__(self, stream: SocketStream, buffer: WritableBuffer) -> None:
        super().__init__(stream)
        self.buffer: WritableBuffer | None = buffer

    def poll(self) -> bool:
        stream = self.stream
        side = self.side
        stream._check_free(stream._reader, self, "read")
        if side.closed:
            self.given_up()
            raise stream._watch.closed_error()
        buffer = self.buffer
        assert buffer is not None
        try:
            size = memoryview(buffer).nbytes
            if side.quiet and size:
                return False  # the last read took all there was, and no event came since
            got = stream._sock.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            side.drain()
            return False
        except OSError as error:
            self.failed(error)
        except BaseException:  # the buffer was released while it was waited for
            self.given_up()
            raise
        if 0 < got < size:
            side.drain()
        self.value = got
        self.given_up()
        return True

    def failed(self, error: OSError) -> NoReturn:
        """The system call has failed."""
        self.given_up()
        raise self.stream._translated(error) from error

    def given_up(self) -> None:
        self.buffer = None  # nothing touches the caller's buffer from here on
        super().given_up()


class StreamWriting(StreamOperationFields, FdOperation[T]):
    """What the writing operations share: the writer's place."""

    __slots__ = slots("stream")
    selectable = False  # it sends in pieces

    def __init__(self, stream: SocketStream) -> None:
        super().__init__(stream._watch, stream._watch.writing)
        self.stream = stream

    def register(self) -> None:
        self.stream._writer = self
        self.side.add(self)

    def given_up(self) -> None:
        if self.stream._writer is self:
            self.stream._writer = None

    def describe(self) -> str:
        return f"write to {self.stream._describe()}"


@twinned(final=True)
class StreamWrite(StreamWriteFields, StreamWriting[None]):
    """Sends all; between two attempts ``sent`` bytes are out, and giving up then breaks the stream (law 9)."""

    __slots__ = slots("data", "sent", "total")

    def __init__(self, stream: SocketStream, data: ReadableBuffer) -> None:
        self.state = ABORTED
        if type(data) is bytes:
            self.data: Any = data
            self.total = len(data)
        else:
            self.data, self.total = _flat(data)
        self.sent = 0
        self.stream = stream
        self.resource = watch = stream._watch
        self.side = watch.writing
        self.state = NEW
        self.value = self.error = self.task = self.watcher = None

    def poll(self) -> bool:
        stream = self.stream
        if stream._broken is not None or stream._eof_sent or self.side.closed:
            self.given_up()
            stream._check_writable(self.sent)
            raise stream._watch.closed_error()
        writer = stream._writer
        if writer is not None and writer is not self:
            stream._check_free(writer, self, "write")
        total = self.total
        try:
            while self.sent < total:
                self.sent += self.send_some()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.failed(error)
        if writer is not None:
            stream._writer = None
        self.data = None
        return True

    def failed(self, error: OSError) -> NoReturn:
        """The system call has failed."""
        found = self.stream._translated(error, self.sent)
        self.sent = self.total  # told already
        self.given_up()
        raise found from error

    def send_some(self) -> int:
        """One attempt to send what is left; returns how many bytes went."""
        sent = self.sent
        return self.stream._sock.send(memoryview(self.data)[sent:] if sent else self.data)

    def given_up(self) -> None:
        stream = self.stream
        if 0 < self.sent < self.total and stream._broken is None and not stream._watch.closed:
            stream._broken = Broken(
                f"{stream._describe()} is broken: a write was cancelled after {self.sent} of {self.total} bytes had gone "
                "out, so the other side can't tell where the next one begins; close it",
                sent=self.sent,
            )
        self.data = None
        super().given_up()


keep(
    stream_read_poll=StreamRead.poll,
    stream_read_failed=StreamRead.failed,
    stream_readinto_poll=StreamReadInto.poll,
    stream_readinto_failed=StreamReadInto.failed,
    stream_write_poll=StreamWrite.poll,
    stream_write_failed=StreamWrite.failed,
)


def _flat(data: ReadableBuffer) -> tuple[memoryview, int]:
    """``data`` as a flat view of bytes, and its length. Raises ``TypeError`` for what is not bytes-like."""
    if isinstance(data, str):
        raise TypeError("write needs bytes, not str; use data.encode()")
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"write needs a bytes-like object, not {type(data).__name__}") from None
    if not view.c_contiguous:
        raise TypeError("write needs a contiguous buffer; copy it with bytes(data)")
    view = view.cast("B")
    return view, len(view)


class _WriteEof(StreamWriting[None]):
    __slots__ = ()

    def poll(self) -> bool:
        stream = self.stream
        stream._check_free(stream._writer, self, "write to")
        if stream._eof_sent and not stream._watch.closed:
            return True
        stream._check_writable()
        try:
            stream._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise stream._translated(error) from error
        stream._eof_sent = True
        return True


class _StreamReady(FdsOperation[int]):
    """``stream.ready``: readiness of one or both directions."""

    __slots__ = ("directions", "stream")

    def __init__(self, stream: SocketStream, directions: int) -> None:
        self.stream = stream
        self.directions = directions
        watch = stream._watch
        sides: list[Side] = []
        if directions & READ:
            sides.append(watch.reading)
        if directions & WRITE:
            sides.append(watch.writing)
        super().__init__(watch, tuple(sides))

    def poll(self) -> bool:
        stream = self.stream
        watch = stream._watch
        directions = self.directions
        if watch.closed:
            raise watch.closed_error()
        if directions & READ:
            stream._check_free(stream._reader, self, "wait to read from")
        if directions & WRITE:
            stream._check_free(stream._writer, self, "wait to write to")
        found = poll_fd(watch.fd, directions)
        if found:
            self.given_up()
        self.value = found
        return bool(found)

    def register(self) -> None:
        if self.directions & READ:
            self.stream._reader = self
        if self.directions & WRITE:
            self.stream._writer = self
        super().register()

    def given_up(self) -> None:
        stream = self.stream
        if stream._reader is self:
            stream._reader = None
        if stream._writer is self:
            stream._writer = None

    def describe(self) -> str:
        return f"readiness of {self.stream._describe()}"


def poll_fd(fd: int, directions: int) -> int:
    """Which of ``directions`` are ready now, without waiting. An error or hang-up counts as all of them."""
    poller = select.poll()
    mask = (select.POLLIN if directions & READ else 0) | (select.POLLOUT if directions & WRITE else 0)
    poller.register(fd, mask)
    for _fd, got in poller.poll(0):
        if got & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            return directions
        return (READ if got & select.POLLIN else 0) | (WRITE if got & select.POLLOUT else 0)
    return 0
