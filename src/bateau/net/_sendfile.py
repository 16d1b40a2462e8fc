"""``stream.sendfile``: a file's bytes go from the page cache to the socket without passing through Python."""

from __future__ import annotations

import os
import stat
from typing import IO, Any, Protocol

from ..kernel.errors import Broken
from ..kernel.operation import ABORTED
from ._errors import check_count
from ._stream import SocketStream, StreamWriting

# Bytes per system call; a socket's buffer takes less anyway, so this only bounds how long one call may read from a disk.
BLOCK = 1 << 20


class Wrapping(Protocol):
    """A file of ``bateau.fs``, opened in binary mode: what is needed of it."""

    @property
    def wrapped(self) -> IO[bytes]:
        """The sync file object behind it."""
        ...


class SendFile(StreamWriting[int]):
    """See ``SocketStream.sendfile``. Between two attempts ``sent`` bytes are out; giving up then breaks the stream."""

    __slots__ = ("count", "file", "offset", "sent")

    def __init__(self, stream: SocketStream, file: IO[bytes] | Wrapping, offset: int, count: int | None) -> None:
        self.state = ABORTED  # until it is whole
        given: Any = file
        # The own ``seek`` of such a file is awaited, and the end of a sendfile is where nothing can be.
        given = getattr(given, "wrapped", given)
        try:
            info = os.fstat(given.fileno())
        except (AttributeError, OSError, ValueError) as error:
            raise TypeError(f"sendfile needs an open file with a descriptor, not {given!r}; use write(data)") from error
        if not stat.S_ISREG(info.st_mode) or "b" not in str(getattr(given, "mode", "b")):
            raise TypeError("sendfile needs a regular file opened in binary mode ('rb')")
        self.offset = check_count(offset, "offset")
        rest = max(0, info.st_size - offset)
        self.count = rest if count is None else min(rest, check_count(count, "count"))
        self.file: IO[bytes] = given
        self.sent = 0
        super().__init__(stream)

    def poll(self) -> bool:
        stream = self.stream
        stream._check_free(stream._writer, self, "write")
        try:
            stream._check_writable(self.sent)
        except OSError:
            self._end()
            raise
        try:
            while self.sent < self.count:
                n = os.sendfile(
                    stream._sock.fileno(),
                    self.file.fileno(),
                    self.offset + self.sent,
                    min(BLOCK, self.count - self.sent),
                )
                if not n:
                    break  # the file became shorter meanwhile
                self.sent += n
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            found = stream._translated(error, self.sent)
            self._end()
            raise found from error
        self._end()
        self.value = self.sent
        return True

    def _end(self) -> None:
        """Leave the file where Python's ``socket.sendfile`` would, and the writer's place to the next."""
        self.file.seek(self.offset + self.sent)
        super().given_up()

    def given_up(self) -> None:
        stream = self.stream
        if 0 < self.sent < self.count and stream._broken is None and not stream._watch.closed:
            stream._broken = Broken(
                f"{stream._describe()} is broken: a sendfile was cancelled after {self.sent} of {self.count} bytes had gone "
                "out, so the other side can't tell where the next one begins; close it",
                sent=self.sent,
            )
        if not self.file.closed:
            self._end()
        else:
            super().given_up()

    def describe(self) -> str:
        return f"sendfile to {self.stream._describe()}"
