"""Python's own raw file object over a simulated open file: what ``open`` wraps in its buffered and text layers.

It is an ``io.FileIO`` to ``isinstance``, and overrides everything of it: there never is a real descriptor.
"""

from __future__ import annotations

import _io
import io
import os
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from ..doors import descriptors
from ..thread import Killed, here
from .file import OpenFile
from .inode import Directory

if TYPE_CHECKING:
    from ..fds import SimFile
    from ..process import Process

# What a buffered file of ``open`` holds, as with a real file: the block size that ``stat`` tells.
BUFFER_SIZE = 4096


class SimFileIO(_io.FileIO):
    """See the module's head.

    Invariant: ``_fd`` is a number of ``_process`` until it is closed, then -1. It belongs to that process: when the process is dead, or its
    world has ended, closing and flushing it (which Python does with what it drops) are without effect, all else is an error.
    """

    _blksize = BUFFER_SIZE

    def __new__(cls, *_args: Any, **_kwargs: Any) -> SimFileIO:
        return _io.FileIO.__new__(cls)

    def __init__(self, process: Process, fd: int, name: Any, flags: int, closefd: bool) -> None:
        # Not FileIO's: that would open something.
        self._process = process
        self._fd = fd
        self._file: SimFile = process.fds.get(fd)
        self._closefd = closefd
        access = flags & 3
        self._reads = access != os.O_WRONLY
        self._writes = access != os.O_RDONLY
        self._appends = bool(flags & os.O_APPEND)
        self._creates = bool(flags & os.O_EXCL)
        self.name = name

    # -- state -------------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        # A file of the dead is no longer open anywhere, and nobody has forgotten to close it.
        return self._fd < 0 or self._is_ghost()

    @property
    def closefd(self) -> bool:
        return self._closefd

    @property
    def mode(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]  # typeshed has an attribute
        if self._creates:
            return "xb+" if self._reads else "xb"
        if self._appends:
            return "ab+" if self._reads else "ab"
        return ("rb+" if self._writes else "rb") if self._reads else "wb"

    def fileno(self) -> int:
        self._check_open()
        return self._fd

    def readable(self) -> bool:
        self._check_open()
        return self._reads

    def writable(self) -> bool:
        self._check_open()
        return self._writes

    def seekable(self) -> bool:
        self._check_open()
        try:
            self._file.seek(0, os.SEEK_CUR)
        except OSError:
            return False
        return True

    def isatty(self) -> bool:
        self._check_open()
        return False

    def _isatty_open_only(self) -> bool:
        return False

    def is_directory(self) -> bool:
        """Whether it is one, which ``open`` refuses."""
        return isinstance(self._file, OpenFile) and isinstance(self._file.node, Directory)

    # -- what it does ------------------------------------------------------------------------------------------------------

    def read(self, size: int | None = -1, /) -> Any:
        self._check_reads()
        if size is None or size < 0:
            return self.readall()
        return self._take(size)

    def _take(self, size: int) -> bytes | None:
        """As the system call; None where there is nothing yet, and the file is not to be waited for."""
        file = self._file
        if not file.pollable:
            return file.read(size)
        try:
            return descriptors.read(file.world, self._fd, size)
        except BlockingIOError:
            return None

    def readall(self) -> Any:
        self._check_reads()
        parts: list[bytes] = []
        while True:
            part = self._take(self._rest())
            if part is None:
                return b"".join(parts) or None
            if not part:
                return b"".join(parts)
            parts.append(part)

    def _rest(self) -> int:
        """How much to ask for at once when all is wanted."""
        size: Any = getattr(self._file, "size", None)
        if size is None:
            return 65536
        rest: int = size() - self._file.seek(0, os.SEEK_CUR)
        return max(rest, 0) + 1

    def readinto(self, buffer: Any, /) -> Any:
        self._check_reads()
        view = memoryview(buffer).cast("B")
        data = self._take(len(view))
        if data is None:
            return None
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any, /) -> Any:
        if self._is_ghost():
            return memoryview(data).nbytes
        self._check_open()
        if not self._writes:
            raise io.UnsupportedOperation("File not open for writing")
        self._check_alive()
        file = self._file
        if not file.pollable:
            return file.write(data)
        try:
            return descriptors.write(file.world, self._fd, data)
        except BlockingIOError:
            return None

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if self._is_ghost():
            return 0
        self._check_open()
        self._check_alive()
        position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    def truncate(self, size: int | None = None, /) -> int:
        self._check_open()
        if not self._writes:
            raise io.UnsupportedOperation("File not open for writing")
        self._check_alive()
        if size is None:
            size = self.tell()
        self._file.truncate(size)
        return size

    # -- the end -----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, ghost = self._fd, self._is_ghost()
        try:
            if not ghost and self._closefd and self.__dict__.get("_finalizing"):
                self._dealloc_warn(self)
        finally:
            self._fd = -1
            # A number may be another file's by now, if it was closed under this object: Python's real files have that danger, too.
            if self._closefd and not ghost:
                self._process.fds.close(fd)

    def _dealloc_warn(self, source: Any) -> None:
        if self._fd >= 0 and self._closefd and not self._is_ghost():
            warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    def __enter__(self) -> SimFileIO:
        self._check_open()
        return self

    def __repr__(self) -> str:
        if self.closed:
            return "<_io.FileIO [closed]>"
        return f"<_io.FileIO name={self.name!r} mode={self.mode!r} closefd={self._closefd}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    # -- who may -----------------------------------------------------------------------------------------------------------

    def _is_ghost(self) -> bool:
        process = self._process
        return process.dead or process.world.over

    def _check_open(self) -> None:
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")

    def _check_reads(self) -> None:
        self._check_open()
        if not self._reads:
            raise io.UnsupportedOperation("File not open for reading")
        self._check_alive()

    def _check_alive(self) -> None:
        world = here.world
        if world is None or world is not self._process.world:
            raise RuntimeError(
                f"{self!r} is a file of a simulated world, and this thread is not of it (or it has ended): read it inside, or by "
                "host.disk.read()"
            )
        if self._is_ghost():
            world.before_call(world.thread)
            raise Killed


# What programs print.
SimFileIO.__name__ = SimFileIO.__qualname__ = "FileIO"
