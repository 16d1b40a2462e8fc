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
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..disk import outside
from ..disk.file import OpenFile, OutsideFile, Positioned
from ..disk.inode import Directory, Inode, Link
from ..disk.listing import Scan, entries_of
from ..disk.tree import FOLLOW, LAST, fail
from ..disk.view import View, plain, text_of, view_of
from ..errors import NotSimulated
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
def naming(fd: int) -> Generator[None]:
    """Errors name the descriptor that was given in the place of a path."""
    try:
        yield
    except OSError as error:
        error.filename = fd
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


@door("os", "truncate")
def truncate(world: World, path: Any, length: int) -> None:
    if isinstance(path, int):
        with naming(path):
            ftruncate(world, path, length)
        return
    change(world, "truncate", path, lambda view, _, name: view.truncate(name, length))


# -- descriptors -----------------------------------------------------------------------------------------------------------


@door("os", "ftruncate")
def ftruncate(world: World, fd: int, length: int) -> None:
    if fd < FIRST_FD:
        posix.ftruncate(fd, length)
    else:
        simulated(world, fd).truncate(length)


@door("os", "lseek")
def lseek(world: World, fd: int, position: int, whence: int, /) -> int:
    return posix.lseek(fd, position, whence) if fd < FIRST_FD else simulated(world, fd).seek(position, whence)


@door("os", "pread")
def pread(world: World, fd: int, length: int, offset: int, /) -> bytes:
    return posix.pread(fd, length, offset) if fd < FIRST_FD else simulated(world, fd).pread(length, offset)


@door("os", "pwrite")
def pwrite(world: World, fd: int, data: Any, offset: int, /) -> int:
    return posix.pwrite(fd, data, offset) if fd < FIRST_FD else simulated(world, fd).pwrite(data, offset)


@door("os", "preadv")
def preadv(world: World, fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:
    if fd < FIRST_FD:
        return posix.preadv(fd, buffers, offset, flags)
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    data = simulated(world, fd).pread(sum(map(len, views)), offset)
    return scatter(data, views)


def scatter(data: bytes, views: list[memoryview]) -> int:
    """Put ``data`` into the buffers, one after the other; its length."""
    at = 0
    for view in views:
        part = data[at : at + len(view)]
        view[: len(part)] = part
        at += len(part)
    return at


@door("os", "pwritev")
def pwritev(world: World, fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:
    if fd < FIRST_FD:
        return posix.pwritev(fd, buffers, offset, flags)
    return simulated(world, fd).pwrite(b"".join(map(bytes, buffers)), offset)


@door("os", "fsync")
def fsync(world: World, fd: Any) -> None:
    number = fd if isinstance(fd, int) else fd.fileno()
    if number < FIRST_FD:
        posix.fsync(number)
    else:
        simulated(world, number).sync()


@door("os", "fdatasync")
def fdatasync(world: World, fd: Any) -> None:
    number = fd if isinstance(fd, int) else fd.fileno()
    if number < FIRST_FD:
        posix.fdatasync(number)
    else:
        simulated(world, number).sync(data_only=True)


@door("os", "sync")
def sync(world: World) -> None:
    disk = view_of(world).disk
    disk.pay_sync("everything")
    disk.sync()


@door("os", "posix_fadvise")
def posix_fadvise(world: World, fd: int, offset: int, length: int, advice: int, /) -> None:
    if fd < FIRST_FD:
        posix.posix_fadvise(fd, offset, length, advice)
    else:
        simulated(world, fd)


@door("os", "posix_fallocate")
def posix_fallocate(world: World, fd: int, offset: int, length: int, /) -> None:
    if fd < FIRST_FD:
        posix.posix_fallocate(fd, offset, length)
        return
    file = simulated(world, fd)
    if not isinstance(file, OpenFile):
        fail(errno.ENODEV)
    file.allocate(offset, length)


@door("os", "sendfile")
def sendfile(world: World, out_fd: int, in_fd: int, offset: int | None, count: int, *_extra: Any, **_more: Any) -> int:
    if out_fd < FIRST_FD and in_fd < FIRST_FD:
        return posix.sendfile(out_fd, in_fd, offset, count)
    if in_fd >= FIRST_FD:
        _check_source(simulated(world, in_fd))
    if out_fd >= FIRST_FD:
        _check_target(simulated(world, out_fd))
    data = _take(world, in_fd, count, offset)
    if not data:
        return 0
    sent = posix.write(out_fd, data) if out_fd < FIRST_FD else simulated(world, out_fd).write(data)
    if offset is None:
        _skip(world, in_fd, sent)
    return sent


@door("os", "copy_file_range")
def copy_file_range(
    world: World, src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
) -> int:
    if src < FIRST_FD and dst < FIRST_FD:
        return posix.copy_file_range(src, dst, count, offset_src, offset_dst)
    if dst < FIRST_FD or src < FIRST_FD:
        fail(errno.EXDEV)
    target = simulated(world, dst)
    _check_source(simulated(world, src))
    _check_target(target)
    data = _take(world, src, count, offset_src)
    written = target.write(data) if offset_dst is None else target.pwrite(data, offset_dst)
    if offset_src is None:
        _skip(world, src, written)
    return written


def _check_source(file: SimFile) -> None:
    """It must be a file that is open for reading."""
    if not isinstance(file, Positioned):
        fail(errno.EINVAL)
    if not file.readable:
        fail(errno.EBADF)


def _check_target(file: SimFile) -> None:
    """Of a file of a disk it must be open for writing, and not for appending."""
    if isinstance(file, Positioned):
        if not file.writable:
            fail(errno.EBADF)
        if file.flags & os.O_APPEND:
            fail(errno.EINVAL)


def _take(world: World, fd: int, count: int, offset: int | None) -> bytes:
    """Read from a file without moving its position. At most 2 GiB, as Linux does."""
    count = min(count, 0x7FFFF000)
    if fd < FIRST_FD:
        return posix.pread(fd, count, posix.lseek(fd, 0, os.SEEK_CUR) if offset is None else offset)
    file = simulated(world, fd)
    if not isinstance(file, Positioned) or stat_module.S_ISDIR(file.stat().st_mode):
        fail(errno.EINVAL)
    return file.pread(min(count, max(0, file.size())), file.position if offset is None else offset)


def _skip(world: World, fd: int, count: int) -> None:
    if fd < FIRST_FD:
        posix.lseek(fd, count, os.SEEK_CUR)
    else:
        simulated(world, fd).seek(count, os.SEEK_CUR)


@door("os", "memfd_create")
def memfd_create(world: World, name: Any, flags: int = 0) -> int:
    view = view_of(world)
    file = view.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o777)
    return view.process.fds.add(file)


# -- what there is not -----------------------------------------------------------------------------------------------------


def _no_attributes(function: str) -> None:
    """A file system without extended attributes; who copies them (``shutil.copystat``) goes on without."""

    @door("os", function)
    def inside(world: World, path: Any = None, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), path if not isinstance(path, int) else None)


for _name in ("listxattr", "getxattr", "setxattr", "removexattr"):
    _no_attributes(_name)


def _not_simulated(function: str, instead: str) -> None:
    @door("os", function)
    def inside(world: World, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise NotSimulated(f"os.{function} is not simulated: {instead}")


for _name, _instead in {
    "chroot": "put the program's files where it looks for them, with host.disk.write()",
    "mkfifo": "use os.pipe() within a process, a socket between processes",
    "mknod": "use open() for files; /dev/null, /dev/zero, /dev/full and /dev/urandom are there",
}.items():
    _not_simulated(_name, _instead)
