"""The ends of pipes as byte streams, by readiness: no thread per pipe.

One operation per end at a time; it stands in ``_op`` from its first wait to its end, so that nobody overtakes it. Nothing is
buffered here. A ``PipeStream`` owns the file object it was given, and with it the descriptor: it closes the watch first, then that.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from errno import EIO
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ..io.abc import DEFAULT_SIZE, READ, WRITE, AsyncRead, AsyncWrite
from ..io.fd import FdOperation, FdWatch, Side
from ..io.guard import busy, check_size
from ..kernel.errors import Broken, WouldBlock
from ..kernel.flow import checkpoint
from ..kernel.operation import ABORTED, FIRED, NEW, PARKED

if TYPE_CHECKING:
    from ..io.abc import ReadableBuffer, WritableBuffer

T = TypeVar("T")


class _PipeEnd:
    """What both directions share."""

    def __init__(self, file: IO[bytes], label: str) -> None:
        self._file = file
        fd = file.fileno()
        os.set_blocking(fd, False)
        self._watch = FdWatch(fd, label=label)
        self._op: _PipeOperation[Any] | None = None

    def close(self) -> None:
        """Close this end now; a task that waits on it gets ``Closed``. Never suspends; harmless when closed."""
        if not self._watch.closed:
            self._watch.close()
            self._file.close()

    @property
    def closed(self) -> bool:
        """Whether this end was closed."""
        return self._watch.closed

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return -1 if self._watch.closed else self._watch.fd

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"fd"``, or ``default``."""
        return self.fileno() if name == "fd" else default

    def describe(self) -> str:
        """For messages: which pipe of which program."""
        return self._watch.describe()

    def _check(self, op: _PipeOperation[Any] | None, verb: str) -> None:
        """Raise ``Closed``, or ``Busy`` if another operation than ``op`` is in the middle of a wait."""
        if self._watch.closed:
            raise self._watch.closed_error()
        other = self._op
        if other is None or other is op:
            return
        if other.state is PARKED or (other.state is FIRED and other.watcher is None):
            raise busy(self.describe(), verb, other.task)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.describe()}{', closed' if self.closed else ''}>"


class PipeReader(_PipeEnd, AsyncRead):
    """The reading end of a pipe: a child's output."""

    def read(self, n: int = DEFAULT_SIZE, /) -> Awaitable[bytes]:
        return _Read(self, n)

    def readinto(self, buffer: WritableBuffer, /) -> Awaitable[int]:
        return super().readinto(buffer)

    def try_read(self, n: int = DEFAULT_SIZE, /) -> bytes:
        self._check(None, "read")
        try:
            return _read(self._watch.fd, check_size(n))
        except BlockingIOError:
            raise WouldBlock(f"{self.describe()} has nothing to read now; use `await read(n)`") from None

    def ready(self, directions: int = READ, /) -> Awaitable[int]:
        if directions != READ:
            raise ValueError(f"{self.describe()} can only be read: directions must be READ, not {directions!r}")
        return _ready(self, directions)


class PipeWriter(_PipeEnd, AsyncWrite):
    """The writing end of a pipe: a child's input. ``write_eof`` and ``close`` are the same here: the reader sees the end."""

    def __init__(self, file: IO[bytes], label: str) -> None:
        super().__init__(file, label)
        self._broken: Broken | None = None

    def write(self, data: ReadableBuffer, /) -> Awaitable[None]:
        return _Write(self, data)

    def try_write(self, data: ReadableBuffer, /) -> int:
        self._check_whole(None)
        try:
            return os.write(self._watch.fd, data)
        except BlockingIOError:
            raise WouldBlock(f"{self.describe()} takes nothing now; use `await write(data)`") from None
        except BrokenPipeError as error:
            raise self._gone(error, 0) from error

    def write_eof(self) -> Awaitable[None]:
        self.close()
        return checkpoint()

    def ready(self, directions: int = WRITE, /) -> Awaitable[int]:
        if directions != WRITE:
            raise ValueError(f"{self.describe()} can only be written: directions must be WRITE, not {directions!r}")
        return _ready(self, directions)

    def _check_whole(self, op: _PipeOperation[Any] | None) -> None:
        if self._broken is not None and not self._watch.closed:
            raise Broken(str(self._broken), sent=self._broken.sent)
        self._check(op, "write")

    def _gone(self, error: OSError, sent: int) -> Broken:
        self._broken = Broken(f"{self.describe()}: nobody reads it any more ({error.strerror})", sent=sent)
        self._broken.errno = error.errno
        return self._broken


async def _ready(end: PipeReader | PipeWriter, directions: int) -> int:
    await (end._watch.readable() if directions == READ else end._watch.writable())
    return directions


def _read(fd: int, n: int) -> bytes:
    try:
        return os.read(fd, n)
    except OSError as error:
        if error.errno == EIO:  # the other side of a pseudo-terminal is gone
            return b""
        raise


class _PipeOperation(FdOperation[T]):
    """What both directions share: the place in ``_op``."""

    __slots__ = ("end",)

    def __init__(self, end: Any, side: Side) -> None:
        super().__init__(end._watch, side)
        self.end = end

    def register(self) -> None:
        self.end._op = self
        self.side.add(self)

    def given_up(self) -> None:
        if self.end._op is self:
            self.end._op = None


class _Read(_PipeOperation[bytes]):
    __slots__ = ("n",)

    def __init__(self, end: PipeReader, n: int) -> None:
        super().__init__(end, end._watch.reading)
        self.state = ABORTED  # until it is whole: what is refused was not forgotten
        self.n = check_size(n)
        self.state = NEW

    def poll(self) -> bool:
        end: PipeReader = self.end
        end._check(self, "read")
        try:
            self.value = _read(end._watch.fd, self.n)
        except (BlockingIOError, InterruptedError):
            return False
        self.given_up()
        return True

    def describe(self) -> str:
        return f"read from {self.end.describe()}"


class _Write(_PipeOperation[None]):
    """Sends all; between two attempts ``sent`` bytes are out, and giving up then breaks the pipe (law 9)."""

    __slots__ = ("data", "sent")
    selectable = False  # it sends in pieces

    def __init__(self, end: PipeWriter, data: ReadableBuffer) -> None:
        super().__init__(end, end._watch.writing)
        self.state = ABORTED
        if isinstance(data, str):
            raise TypeError("write needs bytes, not str; use data.encode()")
        self.data = memoryview(data).cast("B")
        self.sent = 0
        self.state = NEW

    def poll(self) -> bool:
        end: PipeWriter = self.end
        end._check_whole(self)
        try:
            while self.sent < len(self.data):
                self.sent += os.write(end._watch.fd, self.data[self.sent :])
        except (BlockingIOError, InterruptedError):
            return False
        except BrokenPipeError as error:
            sent, self.sent = self.sent, len(self.data)  # told by this error: nothing is torn in silence
            self.given_up()
            raise end._gone(error, sent) from error
        self.given_up()
        return True

    def given_up(self) -> None:
        end: PipeWriter = self.end
        if 0 < self.sent < len(self.data) and end._broken is None and not end._watch.closed:
            end._broken = Broken(
                f"{end.describe()} is broken: a write was cancelled after {self.sent} of {len(self.data)} bytes had gone out",
                sent=self.sent,
            )
        super().given_up()

    def describe(self) -> str:
        return f"write to {self.end.describe()}"
