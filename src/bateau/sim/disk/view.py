"""A process's view of its host's disk: its current directory and umask, and what its paths and descriptors mean."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import outside
from .file import OpenFile, OutsideFile, directory_of, opened
from .inode import Directory, File, Inode, Link
from .tree import FOLLOW, LAST, NEVER, check_length, fail, regular

if TYPE_CHECKING:
    from ..fds import SimFile
    from ..process import Process
    from ..world import World
    from .disk import Disk

HOME = "/home"
UMASK = 0o022


class View:
    """See the module's head. One per process, made when it first asks; after a crash a new process starts at home again."""

    __slots__ = ("cwd", "disk", "process", "random", "umask")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.disk: Disk = process.host.disk
        names = self.disk.names
        home = names.root.entries.get(HOME[1:])
        self.cwd: Directory = home if isinstance(home, Directory) else names.root
        self.umask = UMASK
        # What latencies are drawn from: each process has its own, so that one more operation of it doesn't move the others.
        self.random = process.world.random(f"disk {process.name}")

    # -- what arguments mean -----------------------------------------------------------------------------------------------

    def start(self, dir_fd: int | None) -> Directory:
        """Where relative paths begin. Raises ``OSError`` for a descriptor that is no directory."""
        return self.cwd if dir_fd is None else directory_of(self.process.fds.get(dir_fd))

    def file(self, fd: int) -> SimFile:
        """What a descriptor refers to. Raises ``OSError`` (EBADF)."""
        return self.process.fds.get(fd)

    def node(self, fd: int) -> Inode:
        """The inode that a descriptor refers to. Raises ``OSError`` (EBADF, EINVAL where it is not of a disk)."""
        file = self.file(fd)
        node = getattr(file, "node", None)
        if not isinstance(node, Inode):
            fail(errno.EINVAL)
        return node

    def absolute(self, path: str, dir_fd: int | None = None) -> str:
        """A path from the root; "" where its beginning was removed."""
        if path.startswith("/"):
            return path
        try:
            return os.path.join(self.disk.names.path_of(self.start(dir_fd)), path)
        except OSError:
            return ""

    def seen_outside(self, path: str, dir_fd: int | None = None) -> str:
        """Where a path leads on the real machine, if that is to be seen, else ""."""
        full = self.absolute(path, dir_fd)
        return full if full and outside.is_seen(full) else ""

    # -- opening -----------------------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int, dir_fd: int | None = None) -> SimFile:
        """As the system call. Takes no time. Raises ``OSError``."""
        disk = self.disk
        if disk.trouble.told:
            disk.trouble.check("open", path)
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            return self._open_unnamed(path, flags, mode, dir_fd)
        try:
            node = self._node_to_open(path, flags, mode, dir_fd)
        except FileNotFoundError:
            real = self.seen_outside(path, dir_fd)
            if not real:
                raise
            return self._open_outside(path, real, flags)
        file = opened(self.process, disk, node, path, flags)
        if flags & os.O_TRUNC and isinstance(node, File) and node.size:
            node.truncate(0)
        return file

    def _node_to_open(self, path: str, flags: int, mode: int, dir_fd: int | None) -> Inode:
        names = self.disk.names
        exclusive = flags & os.O_CREAT and flags & os.O_EXCL
        links = NEVER if exclusive else LAST if flags & os.O_NOFOLLOW else FOLLOW
        if flags & os.O_CREAT:
            found = names.locate(self.start(dir_fd), path, NEVER)[2]
            if path.endswith("/") or (links == FOLLOW and isinstance(found, Link) and found.target.endswith("/")):
                fail(errno.EISDIR)
        directory, name, node = names.locate(self.start(dir_fd), path, links)
        if node is not None:
            if exclusive:
                fail(errno.EEXIST)
            self._check_kind(node, flags)
            wanted = (4, 2, 6, 6)[flags & 3] | (2 if flags & os.O_TRUNC else 0)
            if not node.allows(wanted):
                fail(errno.EACCES)
            return node
        if not flags & os.O_CREAT:
            fail(errno.ENOENT)
        if self.disk.used >= self.disk.capacity:
            fail(errno.ENOSPC)
        check_length(name)
        made = File(self.disk, mode & ~self.umask)
        names.enter(directory, name, made, f"create {path}")
        return made

    @staticmethod
    def _check_kind(node: Inode, flags: int) -> None:
        """Raise ``OSError`` where the flags are not for what is there."""
        if isinstance(node, Directory):
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                fail(errno.EISDIR)
        elif flags & os.O_DIRECTORY:
            fail(errno.ENOTDIR)
        elif isinstance(node, Link):  # it is found only with O_NOFOLLOW
            fail(errno.ELOOP)

    def _open_unnamed(self, path: str, flags: int, mode: int, dir_fd: int | None) -> SimFile:
        """A file that never has a name."""
        directory = self.disk.names.find(self.start(dir_fd), path)
        if not isinstance(directory, Directory):
            fail(errno.ENOTDIR)
        if not flags & (os.O_WRONLY | os.O_RDWR):
            fail(errno.EINVAL)
        if not directory.allows(3):
            fail(errno.EACCES)
        return OpenFile(self.process, self.disk, File(self.disk, mode & ~self.umask), path, flags)

    def _open_outside(self, path: str, real: str, flags: int) -> SimFile:
        """Read what the real machine has there. Raises ``OSError`` (EROFS) for writing."""
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            fail(errno.EROFS)
        data, status = outside.content(real)
        if flags & os.O_DIRECTORY:
            fail(errno.ENOTDIR)
        return OutsideFile(self.process, path, data, status)

    # -- other things that need more than the tree -------------------------------------------------------------------------

    def truncate(self, path: str, size: int) -> None:
        """As the system call. Raises ``OSError``."""
        if size < 0:
            fail(errno.EINVAL)
        node = regular(self.disk.names.find(self.cwd, path))
        if not node.allows(2):
            fail(errno.EACCES)
        node.truncate(size)

    def may_change(self, node: Inode) -> None:
        """Only its owner changes its mode and times. Raises ``OSError`` (EPERM)."""
        if self.disk.uid not in {0, node.uid}:
            fail(errno.EPERM)


def view_of(world: World) -> View:
    """The view of the running process. What runs no more (a killed process, a world that has ended) gets no further."""
    thread = world.thread
    process = thread.process
    if process.dead or world.over or thread.pending is not None:
        world.before_call(thread)
    view: View | None = process.parts.get("files")
    if view is None:
        view = process.parts["files"] = View(process)
    return view


# ``os.fspath``: text or bytes of a path argument. Raises ``TypeError`` for what is no path.
plain: Callable[[Any], Any] = os.fspath


def text_of(path: Any) -> str:
    """A path argument as text. Raises ``TypeError`` for what is no path, ``ValueError`` for what can't be one."""
    text = path if type(path) is str else os.fsdecode(path)
    if "\0" in text:
        raise ValueError("embedded null byte")
    return text
