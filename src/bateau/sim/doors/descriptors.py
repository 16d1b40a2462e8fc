"""Doors of ``os`` and ``fcntl`` for descriptors of any kind: numbers from ``FIRST_FD`` on are the process's own, others are real.

What a number stands for is a ``SimFile``, whose methods do what the system calls of these names do without ever waiting for
readiness; the waiting is done here. (What only files of a disk have is in ``files``.)
"""

from __future__ import annotations

import errno
import fcntl as fcntl_module
import os
import posix  # whose functions are always the real ones: doors are put in ``os``
import resource as resource_module
import struct
import termios
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import NotSimulated
from ..fds import ERR, FIRST_FD, OUT, SimFile, check_simulated, failure
from . import door

if TYPE_CHECKING:
    from ..process import Process
    from ..world import World

T = TypeVar("T")

_real_getrlimit = resource_module.getrlimit
# How many descriptors a simulated process may ask to have.
MOST_FILES = 1_048_576
_real_fcntl: Any = fcntl_module.fcntl
_real_ioctl: Any = fcntl_module.ioctl


def file_of(world: World, fd: int) -> SimFile:
    """What ``fd`` refers to in the running process. Raises ``OSError`` (EBADF)."""
    thread = world.thread
    world.before_call(thread)
    return thread.process.fds.get(fd)


def patiently(file: SimFile, what: str, attempt: Callable[..., T], *args: Any) -> T:
    """``attempt(*args)``; where it would block, and the file is blocking, again after each change of the file."""
    while True:
        try:
            return attempt(*args)
        except BlockingIOError:
            if not file.blocking:
                file.world.network.would_block()
                raise
        file.wait(f"{what} {file.describe()}")
        if file.closed:
            raise failure(errno.EBADF)


# -- reading and writing -----------------------------------------------------------------------------------------------


@door("os", "read")
def read(world: World, fd: int, length: int, /) -> bytes:
    if fd < FIRST_FD:
        return posix.read(fd, length)
    if length < 0:
        raise failure(errno.EINVAL)
    file = file_of(world, fd)
    return patiently(file, "read from", file.read, length)


@door("os", "write")
def write(world: World, fd: int, data: Any, /) -> int:
    if fd < FIRST_FD:
        return posix.write(fd, data)
    file = file_of(world, fd)
    with memoryview(data) as view:
        written = patiently(file, "write to", file.write, data)
        if written < view.nbytes and file.blocking and file.pollable:
            with view.cast("B") as flat:
                while written < len(flat):
                    written += patiently(file, "write to", file.write, flat[written:])
    return written


@door("os", "readv")
def readv(world: World, fd: int, buffers: Sequence[Any], /) -> int:
    if fd < FIRST_FD:
        return posix.readv(fd, buffers)
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    data = memoryview(read(world, fd, sum(map(len, views))))
    total = len(data)
    for view in views:
        part = data[: len(view)]
        view[: len(part)] = part
        data = data[len(part) :]
    return total


@door("os", "writev")
def writev(world: World, fd: int, buffers: Sequence[Any], /) -> int:
    if fd < FIRST_FD:
        return posix.writev(fd, buffers)
    return write(world, fd, b"".join(memoryview(buffer).cast("B") for buffer in buffers))


@door("os", "splice")
def splice(
    world: World,
    src: int,
    dst: int,
    count: int,
    offset_src: int | None = None,
    offset_dst: int | None = None,
    flags: int = 0,
) -> int:
    if src < FIRST_FD and dst < FIRST_FD:
        return posix.splice(src, dst, count, offset_src, offset_dst, flags)
    check_simulated(src)
    check_simulated(dst)
    source, target = file_of(world, src), file_of(world, dst)
    if source.kind != "pipe" and target.kind != "pipe":
        raise failure(errno.EINVAL)
    if target.kind == "pipe":
        # No more than fits: what is taken out of the source can't be put back.
        while not target.mask() & (OUT | ERR):
            if not target.blocking:
                raise failure(errno.EAGAIN)
            target.wait(f"splice to {target.describe()}")
        count = min(count, 4096)
    if offset_src is None:
        data = patiently(source, "splice from", source.read, count)
    else:
        data = source.pread(count, offset_src)
    if offset_dst is not None:
        return target.pwrite(data, offset_dst)
    return write(world, dst, data)


# -- numbers -----------------------------------------------------------------------------------------------------------


@door("os", "close")
def close(world: World, fd: int) -> None:
    if fd < FIRST_FD:
        posix.close(fd)
        return
    thread = world.thread
    world.before_call(thread)
    thread.process.fds.close(fd)


@door("os", "closerange")
def closerange(world: World, fd_low: int, fd_high: int, /) -> None:
    fds = world.thread.process.fds
    for fd in [fd for fd in fds.files if fd_low <= fd < fd_high]:
        fds.close(fd)
    if fd_low < FIRST_FD:
        posix.closerange(fd_low, min(fd_high, FIRST_FD))


@door("os", "dup")
def dup(world: World, fd: int, /) -> int:
    if fd < FIRST_FD:
        return posix.dup(fd)
    return world.thread.process.fds.add(file_of(world, fd))


@door("os", "dup2")
def dup2(world: World, fd: int, fd2: int, inheritable: bool = True) -> int:
    if fd < FIRST_FD and fd2 < FIRST_FD:
        return posix.dup2(fd, fd2, inheritable)
    file = file_of(world, fd)
    if fd != fd2:
        world.thread.process.fds.replace(fd2, file)
    return fd2


def _number(process: Process, *files: SimFile) -> tuple[int, ...]:
    """Numbers for all of them, or for none."""
    found: list[int] = []
    try:
        for file in files:
            found.append(process.fds.add(file))  # noqa: PERF401  # one by one: they are closed if the next fails
    except OSError:
        for fd in found:
            process.fds.close(fd)
        raise
    return tuple(found)


@door("os", "pipe")
def pipe(world: World) -> tuple[int, ...]:
    return pipe2(world, 0)


@door("os", "pipe2")
def pipe2(world: World, flags: int, /) -> tuple[int, ...]:
    from ..net.pipes import pipe as new_pipe

    world.before_call(world.thread)
    process = world.thread.process
    ends = new_pipe(process)
    for end in ends:
        end.blocking = not flags & os.O_NONBLOCK
    return _number(process, *ends)


@door("os", "eventfd")
def eventfd(world: World, initval: int, flags: int = os.EFD_CLOEXEC) -> int:
    from ..net.pipes import EventFile

    world.before_call(world.thread)
    process = world.thread.process
    file = EventFile(process, initval, semaphore=bool(flags & os.EFD_SEMAPHORE))
    file.blocking = not flags & os.EFD_NONBLOCK
    return process.fds.add(file)


def _event(world: World, fd: int) -> Any:
    from ..net.pipes import EventFile

    file = file_of(world, fd)
    if not isinstance(file, EventFile):
        raise failure(errno.EINVAL)
    return file


@door("os", "eventfd_read")
def eventfd_read(world: World, fd: int) -> int:
    if fd < FIRST_FD:
        return posix.eventfd_read(fd)
    file = _event(world, fd)
    found: int = patiently(file, "read from", file.take)
    return found


@door("os", "eventfd_write")
def eventfd_write(world: World, fd: int, value: int) -> None:
    if fd < FIRST_FD:
        posix.eventfd_write(fd, value)
        return
    file = _event(world, fd)
    patiently(file, "write to", file.add, value)


# -- flags -------------------------------------------------------------------------------------------------------------


@door("os", "set_blocking")
def set_blocking(world: World, fd: int, blocking: bool, /) -> None:
    if fd < FIRST_FD:
        posix.set_blocking(fd, blocking)
    else:
        file_of(world, fd).blocking = bool(blocking)


@door("os", "get_blocking")
def get_blocking(world: World, fd: int, /) -> bool:
    return posix.get_blocking(fd) if fd < FIRST_FD else file_of(world, fd).blocking


@door("os", "set_inheritable")
def set_inheritable(world: World, fd: int, inheritable: int, /) -> None:
    if fd < FIRST_FD:
        posix.set_inheritable(fd, bool(inheritable))
    else:
        _set_inheritable(world, fd, bool(inheritable))


def _set_inheritable(world: World, fd: int, inheritable: bool) -> None:
    """There is nobody to inherit it: simulated processes are not forked. It is kept to be asked for."""
    file_of(world, fd)
    kept: dict[int, SimFile] = world.thread.process.parts.setdefault("inheritable", {})
    if inheritable:
        kept[fd] = file_of(world, fd)
    else:
        kept.pop(fd, None)


def _is_inheritable(world: World, fd: int) -> bool:
    file = file_of(world, fd)
    return world.thread.process.parts.get("inheritable", {}).get(fd) is file


@door("os", "get_inheritable")
def get_inheritable(world: World, fd: int, /) -> bool:
    return posix.get_inheritable(fd) if fd < FIRST_FD else _is_inheritable(world, fd)


@door("os", "isatty")
def isatty(world: World, fd: int, /) -> bool:
    if fd < FIRST_FD:
        return posix.isatty(fd)
    file = world.thread.process.fds.files.get(fd)
    return file is not None and file.isatty()


@door("fcntl", "fcntl")
def fcntl(world: World, fd: Any, cmd: int, arg: Any = 0, /) -> Any:
    number = fd if isinstance(fd, int) else fd.fileno()
    if number < FIRST_FD:
        return _real_fcntl(fd, cmd, arg)
    file = file_of(world, number)
    if cmd == fcntl_module.F_GETFL:
        return os.O_RDWR | (0 if file.blocking else os.O_NONBLOCK)
    if cmd == fcntl_module.F_SETFL:
        file.blocking = not arg & os.O_NONBLOCK
        return 0
    if cmd == fcntl_module.F_GETFD:
        return 0 if _is_inheritable(world, number) else fcntl_module.FD_CLOEXEC
    if cmd == fcntl_module.F_SETFD:
        _set_inheritable(world, number, not arg & fcntl_module.FD_CLOEXEC)
        return 0
    if cmd in (fcntl_module.F_DUPFD, fcntl_module.F_DUPFD_CLOEXEC):
        return world.thread.process.fds.add(file)
    return file.control(cmd, arg)


@door("fcntl", "ioctl")
def ioctl(world: World, fd: Any, request: int, arg: Any = 0, mutate_flag: bool = True, /) -> Any:
    number = fd if isinstance(fd, int) else fd.fileno()
    if number < FIRST_FD:
        return _real_ioctl(fd, request, arg, mutate_flag)
    file = file_of(world, number)
    if request == termios.FIONBIO:
        value = arg if isinstance(arg, int) else int.from_bytes(bytes(arg)[:4], "little")
        file.blocking = not value
        return 0
    ask = getattr(file, "waiting", None)
    if request == termios.FIONREAD and ask is not None:
        answer = struct.pack("i", ask())
        if isinstance(arg, bytes):
            return answer + arg[4:]
        if isinstance(arg, int):
            raise failure(errno.EFAULT)
        memoryview(arg).cast("B")[:4] = answer
        return 0
    return file.control(request, arg)


# -- how many ----------------------------------------------------------------------------------------------------------


@door("resource", "getrlimit")
def getrlimit(world: World, resource: int, /) -> tuple[int, int]:
    if resource != resource_module.RLIMIT_NOFILE:
        return _real_getrlimit(resource)
    return world.thread.process.fds.limit, MOST_FILES


@door("resource", "setrlimit")
def setrlimit(world: World, resource: int, limits: tuple[int, int], /) -> None:
    if resource != resource_module.RLIMIT_NOFILE:
        raise NotSimulated(
            "of the limits of a process only RLIMIT_NOFILE is simulated; the others would be the machine's"
        )
    soft, hard = limits
    if soft == resource_module.RLIM_INFINITY or soft > min(hard, MOST_FILES):
        raise ValueError("current limit exceeds maximum limit")
    world.thread.process.fds.limit = soft
