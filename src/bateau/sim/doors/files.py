"""Doors of ``os``: everything that takes a path, or a descriptor of a file. They act on the disk of the calling process's host.

Where the disk has nothing, some places of the real machine are seen, read-only (``disk/outside.py``). Whatever takes place takes its time
afterwards, so that between looking and acting others can act.
"""

from __future__ import annotations

import errno
import os
import posix  # whose functions are always the real ones: doors are put in ``os``
import stat as stat_module
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ..disk import outside
from ..disk.file import OutsideFile
from ..disk.inode import Directory, Inode, Link
from ..disk.listing import Scan, entries_of
from ..disk.tree import FOLLOW, LAST, fail
from ..disk.view import View, plain, text_of, view_of
from ..fds import FIRST_FD
from . import door

if TYPE_CHECKING:
    from ..disk.tree import Tree
    from ..fds import SimFile
    from ..world import World

T = TypeVar("T")


def look(
    world: World,
    operation: str,
    path: Any,
    use: Callable[[Inode], T],
    really: Callable[[str], T],
    dir_fd: int | None = None,
    links: int = FOLLOW,
) -> T:
    """Ask about what a path leads to: ``use(node)``, or ``really(path)`` on the real machine. Takes its time afterwards."""
    view, name = view_of(world), text_of(path)
    disk = view.disk
    if dir_fd is not None and dir_fd < FIRST_FD and not name.startswith("/"):
        return really(os.path.join(_place_of(dir_fd), name))
    try:
        if disk.trouble.told:
            disk.trouble.check(operation, name)
        answer = use(disk.names.find(view.start(dir_fd), name, links))
    except OSError as error:
        if error.errno == errno.ENOENT and (real := seen(view, operation, name, dir_fd)):
            with naming(path):
                return really(real)
        error.filename = path
        if not outside.is_free(name):
            disk.pay(operation, name)
        raise
    disk.pay(operation, name)
    return answer


def _place_of(fd: int) -> str:
    """The path of a real directory that is open."""
    return posix.readlink(f"/proc/self/fd/{fd}")


def seen(view: View, operation: str, name: str, dir_fd: int | None) -> str:
    """Where the real thing is, if it is to be seen; of the directories above such places only that they are there."""
    real = view.seen_outside(name, dir_fd)
    if not real and operation in {"stat", "access"}:
        full = view.absolute(name, dir_fd)
        if full and outside.is_above(full):
            return full
    return real


def change(
    world: World,
    operation: str,
    path: Any,
    act: Callable[[View, Tree, str], T],
    dir_fd: int | None = None,
    path2: Any = None,
) -> T:
    """Change something at a path: ``act(view, names, name)``. Takes its time afterwards."""
    view, name = view_of(world), text_of(path)
    disk = view.disk
    if dir_fd is not None and dir_fd < FIRST_FD:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    try:
        if disk.trouble.told:
            disk.trouble.check(operation, name)
        answer = act(view, disk.names, name)
        if world.detailed:
            disk.note(f"{operation} {name}" if path2 is None else f"{operation} {name} to {text_of(path2)}")
    except OSError as error:
        if error.errno == errno.ENOENT and is_read_only(view, name, dir_fd):
            error = OSError(errno.EROFS, os.strerror(errno.EROFS))
        if operation != "utime" or sys.version_info >= (3, 13):  # before, it was the only one that didn't say where
            error.filename = path
        if path2 is not None:
            error.filename2 = path2
        disk.pay(operation, name)
        raise error from None
    disk.pay(operation, name)
    return answer


def is_read_only(view: View, name: str, dir_fd: int | None) -> bool:
    """Whether it, or where it would be, is to be seen on the real machine."""
    for path in (name, os.path.dirname(name.rstrip("/"))):
        real = view.seen_outside(path, dir_fd) if path else ""
        if real:
            try:
                posix.lstat(real)
            except OSError:
                continue
            return True
    return False


def simulated(world: World, fd: int) -> SimFile:
    """What a simulated descriptor refers to. Raises ``OSError`` (EBADF)."""
    return view_of(world).file(fd)


@contextmanager
def naming(given: Any) -> Generator[None]:
    """Errors name what the caller gave: a descriptor in the place of a path, or a path that was made absolute."""
    try:
        yield
    except OSError as error:
        error.filename = given
        raise


# -- opening ---------------------------------------------------------------------------------------------------------------


def open_file(world: World, path: Any, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
    """``os.open`` of a path: a descriptor of the process. Raises ``OSError``."""
    view, name = view_of(world), text_of(path)
    disk = view.disk
    try:
        file = view.open(name, flags, mode, dir_fd)
    except OSError as error:
        error.filename = path
        if not outside.is_free(name):
            disk.pay("open", name)
        raise
    if not isinstance(file, OutsideFile):
        file.refs += 1  # nobody else's while the time passes
        try:
            if world.detailed and flags & 3:
                disk.note(f"open {name} for writing")
            disk.pay("open", name)
        finally:
            file.refs -= 1
    try:
        return view.process.fds.add(file)
    except OSError as error:
        file.dropped()
        error.filename = path
        raise


@door("os", "open")
def open_(world: World, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    if dir_fd is not None and dir_fd < FIRST_FD:
        return _open_really(os.path.join(_place_of(dir_fd), text_of(path)), path, flags)
    try:
        return open_file(world, path, flags, mode, dir_fd)
    except IsADirectoryError:
        real = view_of(world).seen_outside(text_of(path), dir_fd)
        if not real:
            raise
        return _open_really(real, path, flags)


def _open_really(real: str, path: Any, flags: int) -> int:
    """A real directory, or what is in it, to be read only."""
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    return posix.open(real, flags)


# -- asking ----------------------------------------------------------------------------------------------------------------


@door("os", "stat")
def stat(world: World, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
    if isinstance(path, int):
        with naming(path):
            return fstat(world, path)
    links = FOLLOW if follow_symlinks else LAST
    return look(
        world, "stat", path, Inode.stat, lambda real: posix.stat(real, follow_symlinks=follow_symlinks), dir_fd, links
    )


@door("os", "lstat")
def lstat(world: World, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
    return look(world, "stat", path, Inode.stat, posix.lstat, dir_fd, LAST)


@door("os", "fstat")
def fstat(world: World, fd: int) -> os.stat_result:
    return posix.fstat(fd) if fd < FIRST_FD else simulated(world, fd).stat()


@door("os", "access")
def access(
    world: World,
    path: Any,
    mode: int,
    *,
    dir_fd: int | None = None,
    effective_ids: bool = False,
    follow_symlinks: bool = True,
) -> bool:
    def really(real: str) -> bool:
        return not mode & os.W_OK and posix.access(real, mode, follow_symlinks=follow_symlinks)

    try:
        return look(
            world, "access", path, lambda node: node.allows(mode), really, dir_fd, FOLLOW if follow_symlinks else LAST
        )
    except OSError:
        return False


@door("os", "readlink")
def readlink(world: World, path: Any, *, dir_fd: int | None = None) -> Any:
    def use(node: Inode) -> Any:
        if not isinstance(node, Link):
            fail(errno.EINVAL)
        return node.target

    target: Any = look(world, "readlink", path, use, posix.readlink, dir_fd, LAST)
    return os.fsencode(target) if isinstance(plain(path), bytes) else target


@door("os", "listdir")
def listdir(world: World, path: Any = None) -> list[Any]:
    return [entry.name for entry in scandir(world, path)]


@door("os", "scandir")
def scandir(world: World, path: Any = None) -> Scan:
    given = "." if path is None else path
    if isinstance(given, int):
        if given < FIRST_FD:
            return Scan(list(posix.scandir(given)))
        with naming(given):
            node = view_of(world).node(given)
            if not isinstance(node, Directory):
                fail(errno.ENOTDIR)
            return Scan(entries_of(world, node, None, given))
    given = plain(given)
    binary = isinstance(given, bytes)
    view = view_of(world)

    def use(node: Inode) -> list[Any]:
        if not isinstance(node, Directory):
            fail(errno.ENOTDIR)
        if not node.allows(4):
            fail(errno.EACCES)
        return entries_of(world, node, given, None, view.seen_outside(text_of(given)))

    return Scan(
        look(world, "listdir", given, use, lambda real: list(posix.scandir(os.fsencode(real) if binary else real)))
    )


@door("os", "statvfs")
def statvfs(world: World, path: Any) -> os.statvfs_result:
    if isinstance(path, int):
        with naming(path):
            return fstatvfs(world, path)
    return look(world, "statvfs", path, lambda node: node.disk.statvfs(), posix.statvfs)


@door("os", "fstatvfs")
def fstatvfs(world: World, fd: int) -> os.statvfs_result:
    return posix.fstatvfs(fd) if fd < FIRST_FD else view_of(world).node(fd).disk.statvfs()


# -- the process's own -----------------------------------------------------------------------------------------------------


@door("os", "getcwd")
def getcwd(world: World) -> str:
    view = view_of(world)
    return view.disk.names.path_of(view.cwd)


@door("os", "getcwdb")
def getcwdb(world: World) -> bytes:
    return os.fsencode(getcwd(world))


@door("os", "chdir", "fchdir")
def chdir(world: World, path: Any) -> None:
    view = view_of(world)
    if isinstance(path, int):
        with naming(path):
            view.cwd = view.start(path)
        return

    def use(node: Inode) -> Directory:
        if not isinstance(node, Directory):
            fail(errno.ENOTDIR)
        if not node.allows(1):
            fail(errno.EACCES)
        return node

    def really(real: str) -> Directory:
        if not stat_module.S_ISDIR(posix.stat(real).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        view.disk.mkdir(real)
        return use(view.disk.names.find(view.disk.names.root, real))

    view.cwd = look(world, "chdir", path, use, really)


@door("os", "umask")
def umask(world: World, mask: int) -> int:
    view = view_of(world)
    before, view.umask = view.umask, mask & 0o777
    return before


@door("os", "getuid", "geteuid")
def getuid(world: World) -> int:
    return view_of(world).disk.uid


@door("os", "getgid", "getegid")
def getgid(world: World) -> int:
    return view_of(world).disk.gid


# -- changing names --------------------------------------------------------------------------------------------------------


@door("os", "mkdir")
def mkdir(world: World, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    def act(view: View, names: Tree, name: str) -> None:
        names.mkdir(view.start(dir_fd), name, mode & ~view.umask)

    change(world, "mkdir", path, act, dir_fd)


@door("os", "rmdir")
def rmdir(world: World, path: Any, *, dir_fd: int | None = None) -> None:
    change(world, "rmdir", path, lambda view, names, name: names.rmdir(view.start(dir_fd), name), dir_fd)


@door("os", "unlink", "remove")
def unlink(world: World, path: Any, *, dir_fd: int | None = None) -> None:
    change(world, "unlink", path, lambda view, names, name: names.unlink(view.start(dir_fd), name), dir_fd)


@door("os", "rename", "replace")
def rename(world: World, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
    target = text_of(dst)
    change(
        world,
        "rename",
        src,
        lambda view, names, name: names.rename(view.start(src_dir_fd), name, view.start(dst_dir_fd), target),
        src_dir_fd,
        dst,
    )


@door("os", "link")
def link(
    world: World,
    src: Any,
    dst: Any,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    target = text_of(dst)
    # As CPython on Linux has it: unless descriptors of directories are given, links are not followed.
    follow = follow_symlinks and (src_dir_fd is not None or dst_dir_fd is not None)

    def act(view: View, names: Tree, name: str) -> None:
        names.link(view.start(src_dir_fd), name, view.start(dst_dir_fd), target, follow=follow)

    change(world, "link", src, act, src_dir_fd, dst)


@door("os", "symlink")
def symlink(world: World, src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None) -> None:
    target, name = text_of(src), text_of(dst)
    change(world, "symlink", src, lambda view, names, _: names.symlink(view.start(dir_fd), target, name), dir_fd, dst)


# -- changing what is there ------------------------------------------------------------------------------------------------


def alter(
    world: World,
    operation: str,
    path: Any,
    act: Callable[[View, Inode], None],
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    """Change an inode's metadata, by path or descriptor."""
    if isinstance(path, int):
        view = view_of(world)
        if path < FIRST_FD:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        with naming(path):
            act(view, view.node(path))
        view.disk.pay(operation, str(path))
        return
    links = FOLLOW if follow_symlinks else LAST
    change(
        world,
        operation,
        path,
        lambda view, names, name: act(view, names.find(view.start(dir_fd), name, links)),
        dir_fd,
    )


@door("os", "chmod", "fchmod")
def chmod(world: World, path: Any, mode: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    def act(view: View, node: Inode) -> None:
        view.may_change(node)
        if isinstance(node, Link):
            fail(errno.EOPNOTSUPP)
        node.mode = stat_module.S_IFMT(node.mode) | (mode & 0o7777)
        node.changed()

    if isinstance(path, int) and path >= FIRST_FD:
        file = world.thread.process.fds.get(path)
        if not isinstance(getattr(file, "node", None), Inode):  # a socket, which has a mode before it has a name
            file.chmod(mode)
            return
    alter(world, "chmod", path, act, dir_fd, follow_symlinks)


@door("os", "chown", "fchown")
def chown(
    world: World, path: Any, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> None:
    def act(view: View, node: Inode) -> None:
        if view.disk.uid and (uid not in {-1, node.uid} or gid not in {-1, node.gid}):
            fail(errno.EPERM)
        node.uid = node.uid if uid == -1 else uid
        node.gid = node.gid if gid == -1 else gid
        node.changed()

    alter(world, "chown", path, act, dir_fd, follow_symlinks)


@door("os", "lchown")
def lchown(world: World, path: Any, uid: int, gid: int) -> None:
    chown(world, path, uid, gid, follow_symlinks=False)


@door("os", "utime")
def utime(
    world: World,
    path: Any,
    times: Any = None,
    *,
    ns: Any = None,
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    if times is not None and ns is not None:
        raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
    if times is not None:
        ns = tuple(_nanoseconds(seconds) for seconds in times)
    if ns is not None and len(ns) != 2:
        raise TypeError("utime: 'ns' must be a tuple of two ints")

    def act(view: View, node: Inode) -> None:
        if ns is None:
            if not node.allows(2):
                view.may_change(node)
            node.atime = node.mtime = view.disk.clock_ns()
        else:
            view.may_change(node)
            node.atime, node.mtime = ns
        node.changed()

    alter(world, "utime", path, act, dir_fd, follow_symlinks)


def _nanoseconds(seconds: float) -> int:
    if isinstance(seconds, int):
        return seconds * 1_000_000_000
    whole = int(seconds // 1)
    return whole * 1_000_000_000 + int((seconds - whole) * 1e9)
