"""Simulated file descriptors: what a number of a process stands for, and who waits for it to become ready.

A ``SimFile`` is what Unix calls an open file description: sockets, pipe ends, eventfds and pollers derive from it. Numbers start
at ``FIRST_FD``, so that no real descriptor is ever mistaken for one.
"""

from __future__ import annotations

import errno
import heapq
import os
import select
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .process import Process
    from .thread import SimThread
    from .world import World

FIRST_FD = 1_000_000

IN, OUT, ERR, HUP, RDHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP, select.EPOLLRDHUP
# What epoll reports whether it was asked for or not.
ALWAYS = ERR | HUP


class SimFile:
    """Base of everything that a simulated descriptor can refer to.

    Invariants: ``refs`` counts the descriptors that refer to it; ``closed`` once there is none. ``watchers`` are the pollers that
    have it registered; each is told of every change of ``mask()``.
    """

    kind = "file"

    def __init__(self, process: Process) -> None:
        self.world: World = process.world
        self.process = process
        self.refs = 0
        self.blocking = True
        self.closed = False
        self.watchers: dict[Poller, None] = {}
        # Threads blocked in a call on it: woken at each change, they look again.
        self.blocked: dict[SimThread, None] = {}

    def mask(self) -> int:
        """Which of IN, OUT, ERR, HUP, RDHUP hold now."""
        return 0

    def changed(self) -> None:
        """Something about it changed: tell who waits."""
        for watcher in self.watchers:
            watcher.notify(self)
        if self.blocked:
            blocked, self.blocked = self.blocked, {}
            for thread in blocked:
                thread.unblock()

    def wait(self, what: str, deadline: float | None = None) -> bool:
        """Block the running thread until the next change; False if the deadline (virtual time) came first."""
        thread = self.world.thread
        self.blocked[thread] = None
        try:
            return self.world.block(what, deadline)
        finally:
            self.blocked.pop(thread, None)

    # What the system calls of these names do with a descriptor that refers to it. Where a kind of file has no such thing, the
    # answer is Linux's for a pipe: no position, nothing to sync.

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; empty at the end. Blocks, or raises ``BlockingIOError`` if not ``blocking``."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def write(self, data: Any) -> int:
        """How many bytes of ``data`` (bytes-like) were taken. Blocks, or raises ``BlockingIOError`` if not ``blocking``."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def pread(self, size: int, offset: int) -> bytes:
        """``read`` at a position of its own."""
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))

    def pwrite(self, data: Any, offset: int) -> int:
        """``write`` at a position of its own."""
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))

    def seek(self, offset: int, whence: int) -> int:
        """Move the position (``whence`` as ``os.SEEK_*``); where it is then."""
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))

    def truncate(self, size: int) -> None:
        """Cut or extend to ``size`` bytes."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def sync(self, data_only: bool = False) -> None:
        """As ``fsync`` (or ``fdatasync``)."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def stat(self) -> os.stat_result:
        """As ``fstat``: a FIFO without a name, unless the kind says otherwise."""
        return os.stat_result((0o010600, 0, 0, 1, 0, 0, 0, 0, 0, 0))

    def dropped(self) -> None:
        """The last descriptor was closed (or its process died). Subclasses tell the other side."""

    def describe(self) -> str:
        """For explanations."""
        return self.kind


class FdTable:
    """The descriptors of one process. A new one gets the lowest free number, as POSIX says."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.files: dict[int, SimFile] = {}
        self._free: list[int] = []
        self._next = FIRST_FD
        # As RLIMIT_NOFILE.
        self.limit = 4096

    def add(self, file: SimFile) -> int:
        """Give ``file`` a number. Raises ``OSError`` (EMFILE) where the limit is reached."""
        if len(self.files) >= self.limit:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if self._free:
            fd = heapq.heappop(self._free)
        else:
            fd = self._next
            self._next += 1
        self.files[fd] = file
        file.refs += 1
        return fd

    def get(self, fd: int) -> SimFile:
        """What ``fd`` refers to. Raises ``OSError`` (EBADF)."""
        file = self.files.get(fd)
        if file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return file

    def close(self, fd: int) -> None:
        """Free the number; with the last reference the file itself goes. Raises ``OSError`` (EBADF)."""
        file = self.get(fd)
        del self.files[fd]
        heapq.heappush(self._free, fd)
        release(file, fd)

    def close_all(self) -> None:
        """The process has ended."""
        for fd in tuple(self.files):
            self.close(fd)


def release(file: SimFile, fd: int) -> None:
    """One descriptor less refers to ``file``."""
    for watcher in tuple(file.watchers):
        watcher.forget(file, fd)
    file.refs -= 1
    if file.refs == 0 and not file.closed:
        file.closed = True
        file.dropped()
        file.changed()


class Poller:
    """A set of descriptors of which the ready ones are asked for, level-triggered: inside epoll objects and our own reactor.

    Invariant: every registered file that is ready under its interest is in ``_hot`` (which may hold others, sorted out when asked).
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        # fd -> (file, interest)
        self.registered: dict[int, tuple[SimFile, int]] = {}
        self._fds: dict[SimFile, dict[int, None]] = {}
        self._hot: dict[int, None] = {}
        self.waiter: SimThread | None = None

    def register(self, fd: int, interest: int) -> None:
        """Watch ``fd`` for ``interest``. Raises ``FileExistsError`` where it is watched already, ``OSError`` where it is no descriptor."""
        if fd in self.registered:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        file = self.process.fds.get(fd)
        self.registered[fd] = (file, interest)
        self._fds.setdefault(file, {})[fd] = None
        file.watchers[self] = None
        self._look(fd, file, interest)

    def modify(self, fd: int, interest: int) -> None:
        """Change what ``fd`` is watched for. Raises ``FileNotFoundError`` where it is not watched."""
        entry = self.registered.get(fd)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.registered[fd] = (entry[0], interest)
        self._look(fd, entry[0], interest)

    def unregister(self, fd: int) -> None:
        """Stop watching ``fd``. Raises ``FileNotFoundError`` where it is not watched."""
        entry = self.registered.pop(fd, None)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._hot.pop(fd, None)
        file = entry[0]
        fds = self._fds[file]
        del fds[fd]
        if not fds:
            del self._fds[file]
            del file.watchers[self]

    def forget(self, file: SimFile, fd: int) -> None:
        """``fd`` was closed: Linux takes it out by itself once nothing refers to the file any more."""
        if fd in self.registered and self.registered[fd][0] is file:
            self.unregister(fd)

    def notify(self, file: SimFile) -> None:
        """``file`` may be ready now."""
        for fd in self._fds.get(file, ()):
            self._look(fd, file, self.registered[fd][1])

    def _look(self, fd: int, file: SimFile, interest: int) -> None:
        if file.mask() & (interest | ALWAYS):
            self._hot[fd] = None
            self.became_ready()

    def became_ready(self) -> None:
        """Something is ready: whoever waits goes on."""
        if self.waiter is not None:
            self.waiter.unblock()

    def collect(self, most: int = -1) -> list[tuple[int, int]]:
        """What is ready now: (fd, mask) pairs, at most ``most``; in the order in which they became ready."""
        found: list[tuple[int, int]] = []
        for fd in tuple(self._hot):
            file, interest = self.registered[fd]
            mask = file.mask() & (interest | ALWAYS)
            if mask:
                if len(found) == most:
                    break
                found.append((fd, mask))
            else:
                del self._hot[fd]
        return found

    def wait(self, what: str, timeout: float | None, deadline: float | None = None) -> list[tuple[int, int]]:
        """``collect``, blocking the running thread at most ``timeout`` seconds (None: for ever) until there is something."""
        world = self.world
        ready = self.collect() if self._hot else []
        if ready or (timeout is not None and timeout <= 0):
            world.pass_on()
            return self.collect() if self._hot else []
        if deadline is None and timeout is not None:
            deadline = self.process.host.clock.world_time_after(timeout)
        world_thread = world.thread
        outer, self.waiter = self.waiter, world_thread
        try:
            while not ready and world.block(what, deadline):
                ready = self.collect()
                if not ready:
                    break  # woken by hand
        finally:
            self.waiter = outer
        return ready

    def close(self) -> None:
        """Stop watching everything."""
        for fd in tuple(self.registered):
            self.unregister(fd)
