"""Open files: what a descriptor refers to that came from ``open``. Positions, access, faults and the time that the disk takes."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

from ..fds import IN, OUT, SimFile
from . import locks
from .inode import Directory, File, Inode, Special
from .tree import fail, regular

if TYPE_CHECKING:
    from ..process import Process
    from .disk import Disk

ACCESS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
SEEK_DATA, SEEK_HOLE = 3, 4


class Positioned(SimFile):
    """An open file with a position.

    Invariant: ``position`` is 0 or more.
    """

    kind = "disk file"
    pollable = False

    def __init__(self, process: Process, path: str, flags: int) -> None:
        super().__init__(process)
        self.path = path
        self.flags = flags
        access = flags & ACCESS
        self.readable = access != os.O_WRONLY
        self.writable = access != os.O_RDONLY
        self.position = 0

    def mask(self) -> int:
        return IN | OUT

    def size(self) -> int:
        """How long it is, in bytes."""
        raise NotImplementedError

    def seek(self, offset: int, whence: int) -> int:
        if whence == os.SEEK_CUR:
            offset += self.position
        elif whence == os.SEEK_END:
            offset += self.size()
        elif whence in {SEEK_DATA, SEEK_HOLE}:
            if not 0 <= offset < self.size():
                fail(errno.ENXIO)
            offset = self.size() if whence == SEEK_HOLE else offset
        elif whence != os.SEEK_SET:
            fail(errno.EINVAL)
        if offset < 0:
            fail(errno.EINVAL)
        self.position = offset
        return offset

    def describe(self) -> str:
        return f"{self.kind} {self.path}"


class OpenFile(Positioned):
    """An open file or directory of a simulated disk."""

    def __init__(self, process: Process, disk: Disk, node: Inode, path: str, flags: int) -> None:
        super().__init__(process, path, flags)
        self.disk = disk
        self.node = node
        self.syncs = bool(flags & (os.O_SYNC | os.O_DSYNC))
        node.opened += 1

    def size(self) -> int:
        return self.node.length

    # -- reading -----------------------------------------------------------------------------------------------------------

    def read(self, size: int) -> bytes:
        try:
            data = self._get(size, self.position)
            self.position += len(data)  # at once: threads that share it never get the same bytes
        finally:
            self.disk.pay("read", self.path)
        return data

    def pread(self, size: int, offset: int) -> bytes:
        try:
            return self._get(size, offset)
        finally:
            self.disk.pay("read", self.path)

    def _get(self, size: int, offset: int) -> bytes:
        if size < 0 or offset < 0:
            fail(errno.EINVAL)
        if not self.readable:
            fail(errno.EBADF)
        node, disk = regular(self.node), self.disk
        if disk.troubled():
            size = disk.trouble.read(self.path, node, offset, size)
        return node.read(offset, size)

    # -- writing -----------------------------------------------------------------------------------------------------------

    def write(self, data: Any) -> int:
        offset = self.node.length if self.flags & os.O_APPEND else self.position
        try:
            taken = self._put(bytes(data), offset)
            if taken:
                self.position = offset + taken
        finally:
            self.disk.pay("write", self.path)
        if self.syncs:
            self.sync()
        return taken

    def pwrite(self, data: Any, offset: int) -> int:
        if offset < 0:
            fail(errno.EINVAL)
        if self.flags & os.O_APPEND:  # as Linux has it, whatever POSIX says
            offset = self.node.length
        try:
            taken = self._put(bytes(data), offset)
        finally:
            self.disk.pay("write", self.path)
        if self.syncs:
            self.sync()
        return taken

    def _put(self, chunk: bytes, offset: int) -> int:
        if not self.writable:
            fail(errno.EBADF)
        node, disk = regular(self.node), self.disk
        size = len(chunk)
        if disk.troubled():
            size = disk.trouble.write(self.path, size)
        size = disk.room(node, offset, size)
        node.write(offset, chunk if size == len(chunk) else chunk[:size])
        if disk.world.detailed:
            disk.note(f"write {size} bytes at {offset} to {self.path}")
        return size

    def truncate(self, size: int) -> None:
        if size < 0 or not self.writable:
            fail(errno.EINVAL)
        self.disk.truncate(regular(self.node), size, self.path)

    def allocate(self, offset: int, size: int) -> None:
        """As ``posix_fallocate``: the space is there, and reads as zeros where nothing was."""
        if not self.writable:
            fail(errno.EBADF)
        if offset < 0 or size <= 0:
            fail(errno.EINVAL)
        node = regular(self.node)
        missing = offset + size - len(node.data)
        if missing > 0:
            if self.disk.room(node, len(node.data), missing) < missing:
                fail(errno.ENOSPC)
            before = node.size
            node.write(len(node.data), bytes(missing))
            node.size = max(before, offset + size)
        self.disk.pay("fallocate", self.path)

    # -- durability --------------------------------------------------------------------------------------------------------

    def sync(self, data_only: bool = False) -> None:
        """As ``fsync``: of a file its data and size, of a directory its names. It is safe when this returns."""
        disk, node = self.disk, self.node
        upto = node.changes() if isinstance(node, File) else None
        disk.pay_sync(self.path)
        if disk.world.detailed:
            disk.note(f"fsync {self.path}")
        if disk.troubled():
            disk.trouble.sync(self.path, node)
        disk.make_safe(node, upto)

    def stat(self) -> os.stat_result:
        return self.node.stat()

    def dropped(self) -> None:
        locks.forget(self, self.process)
        self.node.opened -= 1
        self.disk.names.free(self.node)


class OutsideFile(Positioned):
    """A file of the real machine that may be read: its content, as it was when it was opened."""

    kind = "real file"

    def __init__(self, process: Process, path: str, data: bytes, stat: os.stat_result) -> None:
        super().__init__(process, path, os.O_RDONLY)
        self.data = data
        self._stat = stat

    def size(self) -> int:
        return len(self.data)

    def read(self, size: int) -> bytes:
        data = self.pread(size, self.position)
        self.position += len(data)
        return data

    def pread(self, size: int, offset: int) -> bytes:
        if size < 0 or offset < 0:
            fail(errno.EINVAL)
        return self.data[offset : offset + size]

    def write(self, data: Any) -> int:
        fail(errno.EBADF)

    def pwrite(self, data: Any, offset: int) -> int:
        fail(errno.EBADF)

    def sync(self, data_only: bool = False) -> None:
        pass

    def stat(self) -> os.stat_result:
        return self._stat


class Device(SimFile):
    """An open device: ``/dev/null`` and its like."""

    kind = "device"
    pollable = False

    def __init__(self, process: Process, node: Special, path: str, flags: int) -> None:
        super().__init__(process)
        self.node = node
        self.path = path
        self.flags = flags
        self.readable = flags & ACCESS != os.O_WRONLY
        self.writable = flags & ACCESS != os.O_RDONLY

    def mask(self) -> int:
        return IN | OUT

    def read(self, size: int) -> bytes:
        if not self.readable:
            fail(errno.EBADF)
        kind = self.node.kind
        if kind in {"zero", "full"}:
            return bytes(size)
        if kind in {"random", "urandom"}:
            return self.world.random(f"urandom {self.process.name}").randbytes(size)
        return b""

    def write(self, data: Any) -> int:
        if not self.writable:
            fail(errno.EBADF)
        if self.node.kind == "full":
            fail(errno.ENOSPC)
        stream = {"stdout": sys.stdout, "stderr": sys.stderr}.get(self.node.kind)
        if stream is not None:
            stream.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)

    def pread(self, size: int, offset: int) -> bytes:
        return self.read(size)

    def pwrite(self, data: Any, offset: int) -> int:
        return self.write(data)

    def seek(self, offset: int, whence: int) -> int:
        return 0

    def stat(self) -> os.stat_result:
        return self.node.stat()


def opened(process: Process, disk: Disk, node: Inode, path: str, flags: int) -> SimFile:
    """An open file for ``node``."""
    if isinstance(node, Special):
        if node.kind == "socket":
            fail(errno.ENXIO)
        return Device(process, node, path, flags)
    return OpenFile(process, disk, node, path, flags)


def directory_of(file: SimFile) -> Directory:
    """The directory that an open file is. Raises ``OSError`` (ENOTDIR)."""
    node = file.node if isinstance(file, OpenFile) else None
    if not isinstance(node, Directory):
        fail(errno.ENOTDIR)
    return node
