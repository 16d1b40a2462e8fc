"""Doors of ``os`` for open files of a disk: positions, reading and writing at one, syncing, copying in the kernel; and what there is not.

(What any descriptor has, ``os.read`` and ``os.write`` among it, is in ``descriptors``.)
"""

from __future__ import annotations

import errno
import os
import posix  # whose functions are always the real ones: doors are put in ``os``
import stat as stat_module
from typing import TYPE_CHECKING, Any, NoReturn

from ..disk.file import OpenFile, Positioned
from ..disk.tree import fail
from ..disk.view import view_of
from ..errors import NotSimulated
from ..fds import FIRST_FD
from . import door
from .files import change, naming, simulated

if TYPE_CHECKING:
    from ..fds import SimFile
    from ..world import World


@door("os", "truncate")
def truncate(world: World, path: Any, length: int) -> None:
    if isinstance(path, int):
        with naming(path):
            ftruncate(world, path, length)
        return
    change(world, "truncate", path, lambda view, _, name: view.truncate(name, length))


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
