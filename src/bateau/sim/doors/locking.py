"""Doors of ``fcntl``'s file locks; and of what can't be simulated on files, which says so instead of touching the real machine."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..disk import locks
from ..disk.file import OpenFile
from ..disk.tree import fail
from ..errors import NotSimulated
from ..fds import FIRST_FD
from . import door, real
from .files import simulated
from .opening import guard

if TYPE_CHECKING:
    from ..world import World


def _number(fd: Any) -> int:
    return fd if isinstance(fd, int) else fd.fileno()


def _file(world: World, fd: int) -> OpenFile:
    file = simulated(world, fd)
    if not isinstance(file, OpenFile):
        fail(errno.EBADF)
    return file


@door("fcntl", "flock")
def flock(world: World, fd: Any, operation: int, /) -> None:
    number = _number(fd)
    if number < FIRST_FD:
        real("fcntl", "flock")(number, operation)
        return
    file, kind = _file(world, number), operation & ~fcntl.LOCK_NB
    if kind not in {fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN}:
        fail(errno.EINVAL)
    exclusive = None if kind == fcntl.LOCK_UN else kind == fcntl.LOCK_EX
    locks.flock(file, exclusive, waits=not operation & fcntl.LOCK_NB)


@door("fcntl", "lockf")
def lockf(world: World, fd: Any, cmd: int, len: int = 0, start: int = 0, whence: int = 0, /) -> None:
    number = _number(fd)
    if number < FIRST_FD:
        real("fcntl", "lockf")(number, cmd, len, start, whence)
        return
    kind = cmd & ~fcntl.LOCK_NB
    if kind not in {fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN}:
        raise ValueError("unrecognized lockf argument")
    exclusive = None if kind == fcntl.LOCK_UN else kind == fcntl.LOCK_EX
    _lock_range(_file(world, number), exclusive, not cmd & fcntl.LOCK_NB, len, start, whence)


@door("os", "lockf")
def os_lockf(world: World, fd: int, command: int, length: int, /) -> None:
    if fd < FIRST_FD:
        real("os", "lockf")(fd, command, length)
        return
    file = _file(world, fd)
    if command == os.F_TEST:
        first, last = _range(file, length, 0, os.SEEK_CUR)
        if locks.conflict(locks.locks_of(file.node), world.thread.process, first, last, True):
            fail(errno.EACCES)
        return
    _lock_range(file, None if command == os.F_ULOCK else True, command == os.F_LOCK, length, 0, os.SEEK_CUR)


def _lock_range(file: OpenFile, exclusive: bool | None, waits: bool, length: int, start: int, whence: int) -> None:
    if exclusive is not None and not (file.writable if exclusive else file.readable):
        fail(errno.EBADF)
    first, last = _range(file, length, start, whence)
    locks.lock_range(file, first, last, exclusive, waits=waits)


def _range(file: OpenFile, length: int, start: int, whence: int) -> tuple[int, int]:
    """From and to (exclusive), where a length of 0 means to the end and a negative one means before."""
    first = start + (0, file.position, file.size())[whence]
    last = locks.END if length == 0 else first + length
    if last < first:
        first, last = last, first
    if first < 0:
        fail(errno.EINVAL)
    return first, last


# -- what there is not -----------------------------------------------------------------------------------------------------


def _mmap(world: World, fileno: int, *_args: Any, **_kwargs: Any) -> None:
    if fileno >= FIRST_FD:
        raise NotSimulated("mmap of a simulated file is not simulated: read and write it, or use mmap.mmap(-1, size)")


guard("mmap", "mmap", mmap.mmap, _mmap)


def _real_files_only(module: str, attribute: str, what: str) -> None:
    """A library in C that opens files by itself: it would open real ones."""

    @door(module, attribute)
    def inside(world: World, path: Any = None, *args: Any, **kwargs: Any) -> Any:
        text = os.fsdecode(path) if path else ""
        if module == "_sqlite3" and (text == "" or ":memory:" in text or "mode=memory" in text):
            return real(module, attribute)(path, *args, **kwargs)
        raise NotSimulated(f"{what} opens real files, which simulated programs must not touch: {path!r}")


for _module, _attribute, _what in (
    ("_sqlite3", "connect", "sqlite3 (other than ':memory:')"),
    ("_gdbm", "open", "dbm.gnu"),
    ("_dbm", "open", "dbm.ndbm"),
    ("_posixshmem", "shm_open", "multiprocessing.shared_memory"),
):
    if find_spec(_module) is not None:
        _real_files_only(_module, _attribute, _what)
