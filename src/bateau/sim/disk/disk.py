"""The disk of a simulated host: what scenarios do with it, what it costs, and what a power cut does to it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING
from zlib import crc32

from ..faults import NONE, Latency
from ..given import latency
from ..thread import RUNNING
from .image import Image, copied
from .inode import PAGE, Directory, File, Inode, Link
from .tree import LAST, Tree, fail, regular
from .trouble import Told, Trouble

if TYPE_CHECKING:
    from ..host import SimHost

# How long one operation takes: mostly the cache and the system call.
LATENCY = Latency(0.000_01, 0.000_05, 0.001)
# How long it takes until what was written is safe.
SYNC_LATENCY = Latency(0.000_5, 0.002, 0.01)

_DEVICES = ("null", "zero", "full", "random", "urandom", "stdout", "stderr")


class Disk:
    """One host's disk (``host.disk``). Programs reach it through ``open``, ``os``, ``pathlib`` and everything on them.

    It survives ``host.crash()``: what was synced is there afterwards, and of the rest whatever the faults decide (``unsynced_lost``,
    ``unsynced_torn``; see the heads of ``inode`` and ``tree`` for what can come of it). A run without a strategy loses nothing.

    All methods are for scenarios and tests: they take no virtual time, meet no faults, and what they write is safe at once. Paths are
    absolute.

    Attributes that may be set at any time: ``capacity`` (bytes), ``latency`` and ``sync_latency`` (``Latency`` of an operation and of a
    sync; None: no time), ``journal`` (names survive in order, and any sync commits them all, as with ext4; else as POSIX says), ``uid``
    and ``gid`` (who its programs are; 0, as in a container, may do anything). The options ``disk_latency`` and ``sync_latency`` of a
    run set the two for every disk in it.
    """

    def __init__(self, host: SimHost) -> None:
        self.host = host
        self.world = host.world
        options = self.world.options
        taken, synced = options.get("disk_latency", LATENCY), options.get("sync_latency", SYNC_LATENCY)
        self.latency: Latency | None = None if taken is None else latency("disk_latency", taken)
        self.sync_latency: Latency | None = None if synced is None else latency("sync_latency", synced)
        self.capacity = 1 << 40
        self.journal = False
        self.uid = 0
        self.gid = 0
        # As ``st_dev``.
        self.number = 0x800 + host.number
        # Bytes taken, operations so far, power cuts so far.
        self.used = 0
        self.operations = 0
        self.crashes = 0
        self._numbers = 1
        self._salt = crc32(f"{self.world.seed}/{host.name}".encode())
        self.trouble = Trouble(self)
        self.names = Tree(self)
        self._format()

    def _format(self) -> None:
        names = self.names
        for path, mode in (("/tmp", 0o1777), ("/home", 0o755), ("/dev", 0o755)):
            names.mkdir(names.root, path, mode)
        for kind in _DEVICES:
            names.mknod(names.root, f"/dev/{kind}", 0o666, kind)
        names.sync()

    # -- for scenarios and tests -------------------------------------------------------------------------------------------

    def read(self, path: str | os.PathLike[str]) -> bytes:
        """What programs would read there. Raises ``OSError``."""
        node = self._file(path)
        return bytes(node.data) + bytes(node.size - len(node.data))

    def write(self, path: str | os.PathLike[str], data: bytes | str) -> None:
        """Put a file there (text as UTF-8), with the directories above it; all of it is safe at once. Raises ``OSError``."""
        name = os.fspath(path)
        self.mkdir(os.path.dirname(name))
        directory, last, node = self.names.locate(self.names.root, name)
        if node is None:
            node = File(self, 0o644)
            self.names.enter(directory, last, node, f"create {name}")
        self.names.sync(directory, last)
        file = regular(node)
        file.truncate(0)
        file.write(0, data.encode() if isinstance(data, str) else bytes(data))
        file.sync()

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Make a directory and those above it, where they don't exist; safe at once. Raises ``OSError``."""
        here = self.names.root
        for name in os.fspath(path).split("/"):
            if not name:
                continue
            node = self.names.locate(here, name)[2]
            if node is None:
                self.names.mkdir(here, name, 0o755)
                node = here.entries[name]
            self.names.sync(here, name)
            if not isinstance(node, Directory):
                fail(errno.ENOTDIR)
            here = node

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is something (a link that leads nowhere is nothing)."""
        try:
            self.names.find(self.names.root, os.fspath(path))
        except OSError:
            return False
        return True

    def tree(self, top: str = "/", *, safe: bool = False) -> dict[str, bytes | str | None]:
        """Everything below ``top`` by path, sorted: a file's content, "-> target" of a link, None for a directory.

        Without ``/dev``. ``safe=True``: what would be there if a power cut now lost all that it can.
        """
        found: dict[str, bytes | str | None] = {}
        below = top.rstrip("/") + "/"
        for path, node in self.names.walk(safe=safe):
            if not path.startswith(below) or path == "/" or path.startswith("/dev"):
                continue
            if isinstance(node, File):
                data, size = (node.safe, node.safe_size) if safe else (node.data, node.size)
                found[path] = bytes(data) + bytes(size - len(data))
            elif isinstance(node, Link):
                found[path] = f"-> {node.target}"
            else:
                found[path] = None
        return found

    def unsynced(self) -> list[str]:
        """What a power cut could lose now, in words: the pending changes of names, then of contents."""
        lines = [change.text for change in self.names.pending]
        for path, node in self.names.walk():
            if isinstance(node, File) and node.pending:
                lines.append(f"{len(node.pending)} changes of {path}")
        return lines

    def sync(self) -> None:
        """Everything is safe now, as after ``os.sync()``."""
        self.names.sync()
        for _, node in self.names.walk():
            if isinstance(node, File):
                node.sync()

    def corrupt(self, path: str | os.PathLike[str], offset: int, bit: int = 0) -> None:
        """Flip one bit of a file, on the drive and in what is read from now on. Raises ``OSError``, ``ValueError`` behind its end."""
        node = self._file(path)
        if not 0 <= offset < len(node.data):
            raise ValueError(f"{os.fspath(path)} has {len(node.data)} bytes: there is no byte {offset} to corrupt")
        node.flip(offset, bit)

    def fail(self, operation: str, error: int = errno.EIO, path: str | None = None, times: int = 1) -> None:
        """Let the next ``times`` operations of that name (on exactly that path, as the program gives it) fail with ``error``.

        Operations are named like their system calls: "open", "read", "write", "fsync", "truncate", "rename", "unlink", "mkdir",
        "rmdir", "link", "symlink", "stat", "listdir", "chmod", "utime"...
        """
        self.trouble.told.append(Told(operation, error, path, times))

    def snapshot(self) -> Image:
        """A copy of all that programs see now, for ``restore``, also of another host's disk."""
        return Image(self.names.root)

    def restore(self, image: Image) -> None:
        """Put back what a snapshot holds; all of it is safe. Files that are open stay what they were, without a name."""
        for _, node in self.names.walk():
            node.nlink = 0
        self.names.pending.clear()
        self.names.root = copied(image.root, self)
        self.names.root.nlink = 1
        self.names.sync()
        self.names.recount()

    def _file(self, path: str | os.PathLike[str]) -> File:
        return regular(self.names.find(self.names.root, os.fspath(path), LAST))

    # -- what happens to it ------------------------------------------------------------------------------------------------

    def crashed(self) -> None:
        """Its host has crashed: what was pending is there or not."""
        self.crashes += 1
        where = {node.number: path for path, node in self.names.walk(safe=True)}
        where.update({node.number: path for path, node in self.names.walk()})
        seen: dict[int, File] = {}
        for _, node in (*self.names.walk(), *self.names.walk(safe=True), *self._pending_nodes()):
            if isinstance(node, File):
                seen.setdefault(node.number, node)
        for number, file in sorted(seen.items()):
            path = where.get(number, "a file without a name")
            file.crash(lambda change, count, path=path: self.trouble.fate(path, change, count))  # type: ignore[misc]  # mypy can't infer a lambda with a default
        self.names.crash(self.trouble.lost, self.journal)
        self.names.recount()

    def _pending_nodes(self) -> list[tuple[str, Inode]]:
        """What only a pending change refers to: a file that was moved away, or will be back if its unlinking is lost."""
        return [(name, node) for change in self.names.pending for _, name, node in change.entries if node is not None]

    # -- for the parts of the disk -----------------------------------------------------------------------------------------

    def next_number(self) -> int:
        """A new inode's number."""
        self._numbers += 1
        return self._numbers

    def clock_ns(self) -> int:
        """Nanoseconds since 1970 on the host's clock."""
        return int(self.host.clock.wall() * 1e9)

    def order_of(self, name: str) -> tuple[int, str]:
        """Where a name comes in a listing."""
        return crc32(name.encode("utf-8", "surrogateescape"), self._salt), name

    def troubled(self) -> bool:
        """Whether anything may go wrong with an operation."""
        return self.world.faults is not NONE or bool(self.trouble.told)

    def room(self, node: File, offset: int, size: int) -> int:
        """How many of ``size`` bytes at ``offset`` there is space for. Raises ``OSError`` (ENOSPC) if for none."""
        lacking = self.used + max(0, offset + size - len(node.data)) - self.capacity
        if lacking <= 0:
            return size
        if lacking >= size > 0:
            fail(errno.ENOSPC)
        return max(0, size - lacking)

    def truncate(self, node: File, size: int, path: str) -> None:
        """Cut or extend a file."""
        try:
            if self.trouble.told:
                self.trouble.check("truncate", path)
            node.truncate(size)
            if self.world.detailed:
                self.note(f"truncate {path} to {size} bytes")
        finally:
            self.pay("truncate", path)

    def make_safe(self, node: Inode, upto: int | None = None) -> None:
        """As after ``fsync`` of it; of a file only its first ``upto`` changes."""
        if isinstance(node, File):
            node.sync(upto)
            if self.journal:
                self.names.sync()
        elif isinstance(node, Directory):
            self.names.sync(None if self.journal else node)

    def statvfs(self) -> os.statvfs_result:
        """As ``os.statvfs``."""
        blocks, free = self.capacity // PAGE, max(0, self.capacity - self.used) // PAGE
        return os.statvfs_result((PAGE, PAGE, blocks, free, free, 1 << 24, 1 << 23, 1 << 23, 0, 255, self.number))

    # -- time --------------------------------------------------------------------------------------------------------------

    def pay(self, operation: str, path: str) -> None:
        """An operation of the running thread has taken place: let it take its time, in which others run."""
        self.operations += 1
        self._spend(self.latency, operation, path)

    def pay_sync(self, path: str) -> None:
        """A sync is about to take place."""
        self.operations += 1
        self._spend(self.sync_latency, "fsync", path)

    def _spend(self, latency: Latency | None, operation: str, path: str) -> None:
        world = self.world
        thread = world.thread
        if (
            thread.state is not RUNNING
        ):  # the scheduler itself asks (an invariant that reads a file): no time passes in it
            return
        if latency is None:
            world.preempt()
            return
        view = thread.process.parts.get("files")
        random = view.random if view is not None else world.random(f"disk {thread.process.name}")
        world.block(f"{operation} {path}", world.now + latency.draw(random))

    def note(self, text: str) -> None:
        """Tell it in the story of a detailed run."""
        self.world.note("disk", text, host=self.host.name, actor=self.world.thread.process.name)

    def __repr__(self) -> str:
        return f"<Disk of {self.host.name!r}: {self.used} bytes in use>"
