"""What goes wrong with a disk: by script (``Disk.fail``), and by the probabilities of the world's ``Faults``."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from .inode import ONLY_SIZE, Change, File, Inode
from .tree import NameChange, fail

if TYPE_CHECKING:
    from .disk import Disk


class Told:
    """A failure by script: of the next ``times`` operations of that name (on that path)."""

    __slots__ = ("error", "operation", "path", "times")

    def __init__(self, operation: str, error: int, path: str | None, times: int) -> None:
        self.operation = operation
        self.error = error
        self.path = path
        self.times = times


class Trouble:
    """The faults of one disk. Asked before an operation takes place: it raises, or says how much of it takes place."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.world = disk.world
        self.told: list[Told] = []
        self._random = disk.world.random(f"disk faults {disk.host.name}")

    def happens(self, fault: str, p: float, text: str) -> bool:
        """Whether a fault of the world's ``Faults`` happens now; it is told in the story."""
        host = self.disk.host.name
        if p <= 0 or not self.world.chance(f"{fault} {host}", p):
            return False
        self.world.trace("fault", text, host=host, actor=host)
        return True

    def check(self, operation: str, path: str) -> None:
        """Raise what was told by script for this operation."""
        for told in self.told:
            if told.operation == operation and (told.path is None or told.path == path):
                told.times -= 1
                if told.times <= 0:
                    self.told.remove(told)
                host = self.disk.host.name
                text = f"{operation} {path} fails: {os.strerror(told.error)}"
                self.world.trace("fault", text, host=host, actor=host)
                fail(told.error)

    def read(self, path: str, node: File, offset: int, size: int) -> int:
        """Before ``size`` bytes are read: how many will be. Raises ``OSError`` (EIO)."""
        self.check("read", path)
        faults = self.world.faults
        if self.happens("io_error", faults.io_error, f"reading {path} fails"):
            fail(errno.EIO)
        if self.disk.crashes and self.happens("corrupt", faults.corrupt, f"a bit of {path} has flipped"):
            end = min(offset + size, len(node.safe))
            if offset < end:
                node.flip(self._random.randrange(offset, end), self._random.randrange(8))
        if size > 1 and self.happens("short_read", faults.short_read, f"a read of {path} is short"):
            size = self._random.randrange(1, size)
        return size

    def write(self, path: str, size: int) -> int:
        """Before ``size`` bytes are written: how many will be. Raises ``OSError`` (EIO, ENOSPC)."""
        self.check("write", path)
        faults = self.world.faults
        if self.happens("io_error", faults.io_error, f"writing {path} fails"):
            fail(errno.EIO)
        if self.happens("disk_full", faults.disk_full, f"the disk is full for {path}"):
            fail(errno.ENOSPC)
        if size > 1 and self.happens("short_write", faults.short_write, f"a write to {path} is short"):
            size = self._random.randrange(1, size)
        return size

    def sync(self, path: str, node: Inode) -> None:
        """Before what is pending of ``node`` becomes safe. Raises ``OSError`` (EIO); what was pending is then given up."""
        try:
            self.check("fsync", path)
            if self.happens("io_error", self.world.faults.io_error, f"fsync of {path} fails"):
                fail(errno.EIO)
        except OSError:
            if isinstance(node, File):
                node.fail_sync()
            raise

    # -- a power cut -------------------------------------------------------------------------------------------------------

    def fate(self, path: str, change: Change, count: int) -> int:
        """How many of a pending change's blocks had reached the drive."""
        offset, chunk = change
        faults, host = self.world.faults, self.disk.host.name
        text = f"the cut of {path} to {offset}" if chunk is None else f"{len(chunk)} bytes at {offset} of {path}"
        if self.happens("unsynced_lost", faults.unsynced_lost, f"the power cut loses {text}"):
            return 0
        if chunk is not None and self.happens("unsynced_torn", faults.unsynced_torn, f"the power cut tears {text}"):
            # Turned by a random number, so that strategies that never choose still see each kind of tear.
            turn = self.world.random(f"torn {host}").randrange(count)
            return (self.world.choose(f"torn {host}", count) + turn) % count or ONLY_SIZE
        return count

    def lost(self, change: NameChange) -> bool:
        """Whether a pending change of names had not reached the drive."""
        return self.happens("unsynced_lost", self.world.faults.unsynced_lost, f"the power cut loses: {change.text}")
