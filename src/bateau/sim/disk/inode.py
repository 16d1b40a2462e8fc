"""What a simulated disk is made of: files, directories, symbolic links, devices; and what of a file's content survives a power cut.

The model of content is a page cache over a drive that writes blocks of ``BLOCK`` bytes whole. What a program writes is in the cache,
where every program sees it, and is *pending* until ``fsync``. At a power cut each pending change has a fate: it had reached the
drive, it had not, or only its first blocks had. Two things tie fates together, as they do on real file systems: a block is written
as it stands, so with a later change of a block its earlier changes are there too; and a file is cut (``truncate``) before anything that
was done to it afterwards. A file grows only by data that arrived (as with ext4's ordered mode), except that a torn change may leave its
size behind and zeros as its data, which ext4 and XFS are known for.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .disk import Disk
    from .locks import Locks

# What a drive writes whole or not at all.
BLOCK = 512
# What programs are told: the size of a page.
PAGE = 4096
# A file's holes are kept as zeros; one that is larger than this is more likely a mistake than a program.
LARGEST_HOLE = 1 << 28

# So many changes of a file are pending at most: then the older half is safe, as a kernel writes out what was dirty for long.
MOST_PENDING = 8192

# One change of a file's content: (offset, what was written there), or (size, None) for a cut to that size.
Change = tuple[int, bytes | None]
# How many of a change's first blocks had reached the drive: all of them, or ONLY_SIZE.
Fate = Callable[[Change, int], int]
ONLY_SIZE = -1


class Inode:
    """A file of any kind, whatever its names are. ``nlink`` counts its names, ``opened`` the open files that refer to it.

    Invariant: of a disk's inodes, those with ``nlink`` above 0 are the ones that can be reached from its root.
    """

    __slots__ = ("atime", "ctime", "disk", "gid", "locks", "mode", "mtime", "nlink", "number", "opened", "uid")
    format = 0

    def __init__(self, disk: Disk, mode: int) -> None:
        self.disk = disk
        self.number = disk.next_number()
        self.mode = self.format | (mode & 0o7777)
        self.uid = disk.uid
        self.gid = disk.gid
        self.nlink = 0
        self.opened = 0
        # Nanoseconds since 1970 on the host's clock.
        self.atime = self.mtime = self.ctime = disk.clock_ns()
        self.locks: Locks | None = None

    @property
    def length(self) -> int:
        """Its size in bytes, as ``stat`` tells it."""
        return 0

    @property
    def rdev(self) -> int:
        """Which device it is."""
        return 0

    def links(self) -> int:
        """``st_nlink``."""
        return self.nlink

    def used(self) -> int:
        """Bytes of the disk that its content takes."""
        return 0

    def stat(self) -> os.stat_result:
        """As ``os.stat``."""
        atime, mtime, ctime = self.atime, self.mtime, self.ctime
        blocks = (self.used() + PAGE - 1) // PAGE * (PAGE // 512)
        return os.stat_result(
            (
                self.mode, self.number, self.disk.number, self.links(), self.uid, self.gid, self.length,
                atime // 1_000_000_000, mtime // 1_000_000_000, ctime // 1_000_000_000,  # what its items are
                atime / 1e9, mtime / 1e9, ctime / 1e9, atime, mtime, ctime, PAGE, blocks, self.rdev,
            )
        )  # fmt: skip

    def allows(self, wanted: int) -> bool:
        """Whether the disk's user may do that: the sum of 4 (read), 2 (write), 1 (execute, or search a directory)."""
        disk = self.disk
        if disk.uid == 0:
            return not wanted & 1 or bool(self.mode & 0o111) or stat.S_ISDIR(self.mode)
        shift = 6 if disk.uid == self.uid else 3 if disk.gid == self.gid else 0
        return (self.mode >> shift) & wanted == wanted

    def changed(self) -> None:
        """Its metadata has changed now."""
        self.ctime = self.disk.clock_ns()

    def written(self) -> None:
        """Its content has changed now."""
        self.mtime = self.ctime = self.disk.clock_ns()


class File(Inode):
    """A regular file.

    Invariants: ``data`` is what programs read; it may be shorter than ``size``, then the rest is zeros. ``safe`` and ``safe_size``
    are what is on the drive for certain. ``pending`` are the changes since the last sync, in order, and ``synced`` counts those that
    were before them. Unless ``stale``, ``safe`` with all of ``pending`` applied is ``data``.
    """

    __slots__ = ("data", "pending", "safe", "safe_size", "size", "stale", "synced")
    format = stat.S_IFREG

    def __init__(self, disk: Disk, mode: int) -> None:
        super().__init__(disk, mode)
        self.data = bytearray()
        self.size = 0
        self.safe = bytearray()
        self.safe_size = 0
        self.pending: list[Change] = []
        self.synced = 0
        # A sync has failed, so the drive may lack what nothing is pending for.
        self.stale = False

    @property
    def length(self) -> int:
        return self.size

    def used(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``."""
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        if self.atime <= self.mtime:  # as with ``relatime``: not at each reading
            self.atime = self.disk.clock_ns()
        if end - offset > 65536:
            found = bytes(memoryview(self.data)[offset:end])
        else:
            found = bytes(self.data[offset:end])
        return found if len(found) == end - offset else found + bytes(end - offset - len(found))

    def write(self, offset: int, chunk: bytes) -> None:
        """Put ``chunk`` there. Raises ``OSError`` (EFBIG) behind a hole that is too large to be kept."""
        if not chunk:
            return
        before = len(self.data)
        _put(self.data, offset, chunk)
        self.disk.used += len(self.data) - before
        self.size = max(self.size, offset + len(chunk))
        self.pending.append((offset, chunk))
        if len(self.pending) > MOST_PENDING:
            self.sync(self.synced + MOST_PENDING // 2)
        self.written()

    def truncate(self, size: int) -> None:
        """Cut or extend it to ``size`` bytes."""
        before = len(self.data)
        del self.data[size:]
        self.disk.used += len(self.data) - before
        self.size = size
        self.pending.append((size, None))
        self.written()

    # -- durability --------------------------------------------------------------------------------------------------------

    def changes(self) -> int:
        """How many changes there were since the start: what ``sync`` wants to know."""
        return self.synced + len(self.pending)

    def sync(self, upto: int | None = None) -> None:
        """What was changed is safe now; ``upto``: only the first so many changes (as ``changes()`` has counted)."""
        count = len(self.pending) if upto is None else max(0, upto - self.synced)
        for change in self.pending[:count]:
            self._make_safe(change)
        del self.pending[:count]
        self.synced += count

    def fail_sync(self) -> None:
        """A sync has failed. As on Linux, what was pending is given up: the next sync succeeds without it."""
        if self.pending:
            self.stale = True
            self.synced += len(self.pending)
            self.pending.clear()

    def crash(self, fate: Fate) -> None:
        """The power is cut: what is pending meets its fate, and the rest is what is left."""
        if self.pending:
            for change in _survivors(self.pending, fate):
                self._make_safe(change)
            self.synced += len(self.pending)
            self.pending.clear()
        elif not self.stale:
            return
        self.data[:] = self.safe
        self.size = self.safe_size
        self.stale = False

    def flip(self, offset: int, bit: int) -> None:
        """One bit of what is on the drive, and of what is read from it, changes."""
        for data in (self.data, self.safe):
            if offset < len(data):
                data[offset] ^= 1 << bit

    def _make_safe(self, change: Change) -> None:
        offset, chunk = change
        if chunk is None:
            del self.safe[offset:]
            self.safe_size = offset
            return
        end = offset + len(chunk)
        if chunk:  # else only the size has arrived
            _put(self.safe, offset, chunk)
            if self.stale:
                self._put_whole_blocks(offset, end)
        self.safe_size = max(self.safe_size, end)

    def _put_whole_blocks(self, offset: int, end: int) -> None:
        """A block is written as it stands: what a failed sync has left behind in these blocks arrives with the rest."""
        start, stop = offset // BLOCK * BLOCK, -(-end // BLOCK) * BLOCK
        _put(self.safe, start, bytes(self.data[start:offset]))
        _put(self.safe, end, bytes(self.data[end : min(stop, self.safe_size)]))


def _put(data: bytearray, offset: int, chunk: bytes) -> None:
    gap = offset - len(data)
    if gap == 0:
        data += chunk
        return
    if gap > 0:
        if not chunk:
            return
        if gap > LARGEST_HOLE:
            raise OSError(
                errno.EFBIG, f"{os.strerror(errno.EFBIG)} (holes of simulated files end at {LARGEST_HOLE} bytes)"
            )
        data.extend(bytes(gap))
    data[offset : offset + len(chunk)] = chunk


def blocks_of(change: Change) -> int:
    """How many blocks a change touches; a cut counts as one."""
    offset, chunk = change
    return 1 if chunk is None else (offset + len(chunk) - 1) // BLOCK - offset // BLOCK + 1


def _survivors(pending: list[Change], fate: Fate) -> list[Change]:
    """What reaches the drive, in order, in pieces. See the module's head for what ties fates together.

    A piece (end, b"") stands for a size that arrived without its data.
    """
    counts = [blocks_of(change) for change in pending]
    fates = [fate(change, count) for change, count in zip(pending, counts, strict=True)]
    # Backwards: the blocks that a later change brings along, and whether anything later has survived at all.
    brought: set[int] = set()
    later = False
    pieces: list[Change] = []
    for change, count, kept in zip(reversed(pending), reversed(counts), reversed(fates), strict=True):
        offset, chunk = change
        if chunk is None:
            if kept or later:
                later = True
                brought = {block for block in brought if block * BLOCK < offset}
                pieces.append(change)
            continue
        first = offset // BLOCK
        alive = [number for number in range(count) if number < kept or first + number in brought]
        if len(alive) == count:
            pieces.append(change)
        else:
            pieces += [_piece(offset, chunk, first + number) for number in reversed(alive)]
            if kept == ONLY_SIZE:
                pieces.append((offset + len(chunk), b""))
        brought.update(first + number for number in alive)
        later = later or bool(alive) or kept == ONLY_SIZE
    pieces.reverse()
    return pieces


def _piece(offset: int, chunk: bytes, block: int) -> Change:
    """What a change does to one block."""
    start = max(offset, block * BLOCK)
    return start, chunk[start - offset : (block + 1) * BLOCK - offset]


class Directory(Inode):
    """A directory.

    Invariants: ``entries`` is what programs see, ``safe`` what is on the drive for certain; the difference is in the disk's list of
    pending name changes. ``parent`` is the directory it is in (the root's is itself).
    """

    __slots__ = ("entries", "parent", "safe")
    format = stat.S_IFDIR

    def __init__(self, disk: Disk, mode: int, parent: Directory | None) -> None:
        super().__init__(disk, mode)
        self.parent = parent if parent is not None else self
        self.entries: dict[str, Inode] = {}
        self.safe: dict[str, Inode] = {}

    @property
    def length(self) -> int:
        return PAGE

    def used(self) -> int:
        return PAGE

    def links(self) -> int:
        if not self.nlink:
            return 0
        return 2 + sum(1 for node in self.entries.values() if isinstance(node, Directory))

    def contains(self, node: Inode) -> bool:
        """Whether ``node`` is it, or a directory below it."""
        while isinstance(node, Directory):
            if node is self:
                return True
            if node.parent is node:
                return False
            node = node.parent
        return False

    def names(self) -> Iterable[str]:
        """Its names in the order in which ``listdir`` gives them: as arbitrary as a real one, the same in each run with the seed."""
        return sorted(self.entries, key=self.disk.order_of)


class Link(Inode):
    """A symbolic link."""

    __slots__ = ("target",)
    format = stat.S_IFLNK

    def __init__(self, disk: Disk, target: str) -> None:
        super().__init__(disk, 0o777)
        self.target = target

    @property
    def length(self) -> int:
        return len(os.fsencode(self.target))


class Special(Inode):
    """A device or a Unix socket's name: ``kind`` says which ("null", "urandom", "socket"...)."""

    __slots__ = ("kind",)

    def __init__(self, disk: Disk, mode: int, kind: str) -> None:
        super().__init__(disk, mode)
        self.mode = (stat.S_IFSOCK if kind == "socket" else stat.S_IFCHR) | (mode & 0o7777)
        self.kind = kind

    @property
    def rdev(self) -> int:
        return {"null": 0x103, "zero": 0x105, "full": 0x107, "random": 0x108, "urandom": 0x109}.get(self.kind, 0)
