"""Reads that need not wait: what stands in the page cache is taken on the runtime's own thread, without a hop to another.

Linux can be asked for what it has in memory and nothing else (``preadv2`` with ``RWF_NOWAIT``), so a read of a regular file is
tried that way first. Only where the disk is needed, or where the file system can't be asked (tmpfs, network), does a worker
thread read. A hop costs some 50 us, such a read 2 to 4 us.

``NowFile`` stands below Python's own ``BufferedReader``, which goes on to do the buffering. In the middle of a ``read`` the
latter is left by an exception (``NotNow``), and the position is put back.

The C twin (``_native/file.c``) asks by itself in the common case, and only while ``os.preadv`` is Python's own: who puts another in its
place (the simulator does) means these reads, too.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import stat
from typing import IO, TYPE_CHECKING, Any

from ..kernel.twin import NowFileFields, keep, native, twinned

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# The flag, or 0 where the system has none.
NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
# No more than this is read at once on the runtime's thread: copying it takes some 20 us, in which nobody else runs.
MOST = 131072
# Python's own.
OPEN = io.open


class NotNow(Exception):
    """It would have to wait for the disk, or would hold the thread for too long."""


class CannotAsk(NotNow):
    """The file system does not know how, or something is wrong: then the ordinary read says what."""


@twinned("read", "readall", "readinto")
class NowFile(NowFileFields, io.FileIO):
    """A regular file opened for reading that raises ``NotNow``, while ``trying``, instead of waiting for the disk.

    Invariant: ``left`` is what this attempt may still read. ``can`` turns False when the file system turns out not to know how.
    """

    trying = False
    can = True
    left = 0

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As ``FileIO.readinto``; raises ``NotNow`` while ``trying``."""
        if not self.trying:
            return io.FileIO.readinto(self, buffer)  # the base beside it has the twin's, which comes back here
        if self.left <= 0:
            raise NotNow
        view = memoryview(buffer)
        view = view.cast("B")
        n = self._preadv(view[: self.left])
        self.left -= n
        return n

    def readall(self) -> bytes:
        """As ``FileIO.readall``; raises ``NotNow`` while ``trying``."""
        if not self.trying:
            return io.FileIO.readall(self)
        size = os.fstat(self.fileno()).st_size - self.tell()
        if not 0 <= size < self.left:
            raise NotNow
        data = bytearray(size + 1)  # one more than there should be: that it stays empty is how the end is seen
        n = self._preadv(data)
        if n != size:
            raise NotNow  # not all of it is there, or the file grows: reading again is a thread's business
        del data[n:]
        return bytes(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """As ``FileIO.read``; raises ``NotNow`` while ``trying``."""
        if not self.trying:
            return io.FileIO.read(self, -1 if size is None else size)
        if size is None or size < 0:
            return self.readall()
        if size > self.left:
            raise NotNow
        data = bytearray(size)
        del data[self._preadv(data) :]
        return bytes(data)

    def _preadv(self, buffer: Any) -> int:
        try:
            n = os.preadv(self.fileno(), [buffer], -1, NOWAIT)  # -1: at the file's own position, which moves on
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self.can = False  # see CannotAsk
            raise NotNow from None
        if n < len(buffer) and self.tell() < os.fstat(self.fileno()).st_size:
            raise NotNow  # this much was there, and the rest is on the disk
        return n

    def __repr__(self) -> str:
        return f"<bateau.fs file {self.name!r}{' closed' if self.closed else ''}>"


def prepared(file: IO[Any], buffering: int) -> IO[Any]:
    """``file``, just opened with ``buffering``, or in its place one that reads the same and can be asked for what is there now.

    That is done for regular files opened by path for reading alone in binary mode; the descriptor then has another number.
    """
    raw: Any = getattr(file, "raw", file)
    if not NOWAIT or type(raw) is not io.FileIO or raw.mode != "rb" or not raw.closefd:
        return file
    if (file is not raw and type(file) is not io.BufferedReader) or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return file
    try:
        descriptor = os.dup(raw.fileno())
    except OSError:  # too many are open: one that waits for a thread is better than none
        return file
    mine = NowFile(descriptor, "rb")
    mine.name = raw.name
    buffered = file is not raw
    file.close()
    return io.BufferedReader(mine, _size(mine, buffering)) if buffered else mine


def now_file(file: IO[Any]) -> NowFile | None:
    """What can be asked below ``file``, if anything can."""
    raw = getattr(file, "raw", file)
    return raw if isinstance(raw, NowFile) else None


def positional(file: IO[Any]) -> bool:
    """Whether reading and writing at a position touches nothing of ``file`` but its descriptor: there is no buffer to be written first."""
    raw: Any = getattr(file, "raw", None) if type(file) is io.BufferedReader else file
    return type(raw) in (NowFile, io.FileIO)


def pread_now(fd: int, size: int, offset: int) -> bytes:
    """Up to ``size`` bytes at ``offset``, as ``os.pread`` would; raises ``NotNow`` where that might wait, ``CannotAsk`` if it always would."""
    if not NOWAIT or size > MOST or size < 0 or offset < 0:
        raise NotNow
    data = bytearray(size)
    try:
        n = os.preadv(fd, [data], offset, NOWAIT)
        # Less than was asked for is the end of the file only if nothing follows; else the rest is on the disk.
        if 0 < n < size and os.preadv(fd, [bytearray(1)], offset + n, NOWAIT):
            raise NotNow
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise NotNow from None
        raise CannotAsk from None
    del data[n:]
    return bytes(data)


def content_now(path: Any) -> bytes | None:
    """The whole of a small file that stands in memory; None where a thread has to read it."""
    return None


def open_now(path: Any, buffering: int) -> IO[Any] | None:
    """What ``open(path, "rb", buffering)`` gives, where nothing has to be waited for; else None, and a thread has to open it."""
    if buffering == 1 or buffering < -1 or not (io.open is builtins.open is OPEN):
        return None  # wrong in itself; or who has put another in the place of Python's means this, too
    descriptor = descriptor_now(path)
    if descriptor is None:
        return None
    raw = NowFile(descriptor, "rb")
    raw.name = os.fspath(path)
    return raw if buffering == 0 else io.BufferedReader(raw, _size(raw, buffering))


def _size(raw: io.FileIO, buffering: int) -> int:
    """The buffer's size, as ``open`` chooses it."""
    block: int = getattr(raw, "_blksize", 0)
    return buffering if buffering > 1 else max(block, io.DEFAULT_BUFFER_SIZE)


def descriptor_now(path: Any) -> int | None:
    """A regular file opened for reading, if that needs no wait."""
    return None


if native is not None and NOWAIT:
    import posix

    # What the twin looks at before it asks, and what it calls of Python's files.
    keep(names_of_os=os.__dict__, preadv=posix.preadv, fileio_fileno=io.FileIO.fileno)
    native.know("BufferedReader", io.BufferedReader)
    if not TYPE_CHECKING:
        content_now = native.content_of
        descriptor_now = native.descriptor_of
