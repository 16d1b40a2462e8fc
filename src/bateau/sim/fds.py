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

from .errors import NotSimulated

if TYPE_CHECKING:
    from .process import Process
    from .thread import SimThread
    from .world import World

FIRST_FD = 1_000_000

IN, OUT, ERR, HUP, RDHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP, select.EPOLLRDHUP
# What epoll reports whether it was asked for or not.
ALWAYS = ERR | HUP
EDGE, ONE_SHOT = select.EPOLLET, select.EPOLLONESHOT
# The bits of an interest that are no readiness.
PRIVATE = EDGE | ONE_SHOT | select.EPOLLEXCLUSIVE | getattr(select, "EPOLLWAKEUP", 1 << 29)


# What was asked of the system once.
_words: dict[int, str] = {}


def failure(code: int) -> OSError:
    """The ``OSError`` (of the right subclass) for an errno, with the system's own words."""
    words = _words.get(code)
    if words is None:
        words = _words[code] = os.strerror(code)
    return OSError(code, words)


class SimFile:
    """Base of everything that a simulated descriptor can refer to.

    Invariants: ``refs`` counts the descriptors that refer to it; ``closed`` once there is none. ``watchers`` are the pollers that
    have it registered; each is told of every change of ``mask()`` that adds to it.

    The calls below ``describe`` are what ``doors.descriptors`` makes of ``os.read(fd, n)`` and its kin: a kind overrides what it
    has, the rest fails as Linux does. ``read`` and ``write`` never wait for readiness: they raise ``BlockingIOError``, and the
    door blocks (``wait``) if ``blocking`` is set. (A disk may let time pass in them: that is no waiting for readiness.)
    """

    kind = "file"
    # Whether epoll takes it; regular files and directories are refused (EPERM), poll and select call them ready.
    pollable = True

    def __init__(self, process: Process) -> None:
        self.world: World = process.world
        self.process = process
        self.refs = 0
        self.blocking = True
        self.closed = False
        # For ``st_ino``; given when it is first asked for.
        self._number = 0
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

    def dropped(self) -> None:
        """The last descriptor was closed (or its process died). Subclasses tell the other side."""

    def describe(self) -> str:
        """For explanations."""
        return self.kind

    # -- system calls on a descriptor of it ------------------------------------------------------------------------------
    # Where a kind of file has no such thing, the answer is Linux's for a pipe: no position, nothing to sync.

    def read(self, size: int) -> bytes:
        """As ``os.read``: at most ``size`` bytes, empty at the end; raises ``BlockingIOError`` where there is nothing yet."""
        raise failure(errno.EINVAL)

    def write(self, data: Any) -> int:
        """As ``os.write``: how many bytes of ``data`` (bytes-like) were taken; raises ``BlockingIOError`` where none fit now."""
        raise failure(errno.EINVAL)

    def pread(self, size: int, offset: int) -> bytes:
        """``read`` at a position of its own."""
        raise failure(errno.ESPIPE)

    def pwrite(self, data: Any, offset: int) -> int:
        """``write`` at a position of its own."""
        raise failure(errno.ESPIPE)

    def seek(self, offset: int, whence: int) -> int:
        """Move the position (``whence`` as ``os.SEEK_*``); where it is then."""
        raise failure(errno.ESPIPE)

    def truncate(self, size: int) -> None:
        """Cut or extend to ``size`` bytes."""
        raise failure(errno.EINVAL)

    def sync(self, data_only: bool = False) -> None:
        """As ``fsync`` (or ``fdatasync``)."""
        raise failure(errno.EINVAL)

    def stat(self) -> os.stat_result:
        """As ``fstat``: without a name, of ``mode()``."""
        if not self._number:
            parts = self.process.host.parts
            self._number = parts["numbers"] = parts.get("numbers", 0) + 1
        return os.stat_result((self.mode(), self._number, 0, 1, 0, 0, 0, 0, 0, 0))

    def mode(self) -> int:
        """Kind and permissions, as in ``st_mode``: a FIFO's, unless the kind says otherwise."""
        return 0o010600

    def chmod(self, mode: int) -> None:
        """As ``fchmod``."""
        raise failure(errno.EINVAL)

    def isatty(self) -> bool:
        """As ``os.isatty``."""
        return False

    def control(self, command: int, value: Any) -> Any:
        """As ``fcntl.fcntl`` and ``fcntl.ioctl``, for what only this kind has."""
        raise failure(errno.ENOTTY)


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
            raise failure(errno.EMFILE)
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
            raise failure(errno.EBADF)
        return file

    def replace(self, fd: int, file: SimFile) -> None:
        """Let ``fd`` refer to ``file``, whatever it referred to before (``dup2``)."""
        if not FIRST_FD <= fd < FIRST_FD + self.limit:
            raise failure(errno.EBADF)
        if fd in self.files:
            self.close(fd)
        while self._next <= fd:
            heapq.heappush(self._free, self._next)
            self._next += 1
        self._free.remove(fd)
        heapq.heapify(self._free)
        self.files[fd] = file
        file.refs += 1

    def close(self, fd: int) -> None:
        """Free the number; with the last reference the file itself goes. Raises ``OSError`` (EBADF)."""
        file = self.get(fd)
        del self.files[fd]
        heapq.heappush(self._free, fd)
        for watcher in tuple(file.watchers):
            if watcher.process is self.process:
                watcher.forget(file, fd)
        release(file)

    def close_all(self) -> None:
        """The process has ended."""
        for fd in tuple(self.files):
            self.close(fd)


def release(file: SimFile) -> None:
    """One descriptor less refers to ``file`` (or one message in flight that carries it)."""
    file.refs -= 1
    if file.refs == 0 and not file.closed:
        file.closed = True
        file.dropped()
        file.changed()


class Poller:
    """A set of descriptors of which the ready ones are asked for: inside epoll objects and our own reactor.

    Level-triggered, except where the interest says ``EPOLLET`` or ``EPOLLONESHOT``. Invariant: every registered file that is ready
    under its interest is in ``_hot`` (which may hold others, sorted out when asked); an edge-triggered one only until it was told.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        # fd -> (file, interest with what is always of interest)
        self.registered: dict[int, tuple[SimFile, int]] = {}
        self._fds: dict[SimFile, dict[int, None]] = {}
        self._hot: dict[int, None] = {}
        self.waiter: SimThread | None = None

    def register(self, fd: int, interest: int) -> None:
        """Watch ``fd`` for ``interest``. Raises ``FileExistsError`` where it is watched already, ``OSError`` where it can't be."""
        if fd in self.registered:
            raise failure(errno.EEXIST)
        check_simulated(fd)
        file = self.process.fds.get(fd)
        if not file.pollable:
            raise failure(errno.EPERM)
        interest |= ALWAYS
        self.registered[fd] = (file, interest)
        self._fds.setdefault(file, {})[fd] = None
        file.watchers[self] = None
        self._look(fd, file, interest)

    def modify(self, fd: int, interest: int) -> None:
        """Change what ``fd`` is watched for. Raises ``FileNotFoundError`` where it is not watched."""
        entry = self.registered.get(fd)
        if entry is None:
            raise failure(errno.ENOENT)
        interest |= ALWAYS
        self.registered[fd] = (entry[0], interest)
        self._look(fd, entry[0], interest)

    def unregister(self, fd: int) -> None:
        """Stop watching ``fd``. Raises ``FileNotFoundError`` where it is not watched."""
        entry = self.registered.pop(fd, None)
        if entry is None:
            raise failure(errno.ENOENT)
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
        fds = self._fds.get(file)
        if fds is not None:
            mask = file.mask()
            for fd in fds:
                if mask & self.registered[fd][1]:
                    self._hot[fd] = None
                    self.became_ready()

    def _look(self, fd: int, file: SimFile, interest: int) -> None:
        if file.mask() & interest:
            self._hot[fd] = None
            self.became_ready()

    def became_ready(self) -> None:
        """Something is ready: whoever waits goes on."""
        if self.waiter is not None:
            self.waiter.unblock()

    def collect(self, most: int = -1) -> list[tuple[int, int]]:
        """What is ready now: (fd, mask) pairs, at most ``most``; in the order in which they became ready."""
        found: list[tuple[int, int]] = []
        hot = self._hot
        for fd in tuple(hot):
            file, interest = self.registered[fd]
            mask = file.mask() & interest
            if not mask:
                del hot[fd]
                continue
            if len(found) == most:
                for told, _ in found:  # those that had to wait come first the next time
                    if told in hot:
                        del hot[told]
                        hot[told] = None
                break
            found.append((fd, mask))
            if interest & ONE_SHOT:
                self.registered[fd] = (file, interest & PRIVATE)
                del hot[fd]
            elif interest & EDGE:
                del hot[fd]
        return found

    def has_ready(self) -> bool:
        """Whether ``collect`` would give something."""
        for fd in tuple(self._hot):
            file, interest = self.registered[fd]
            if file.mask() & interest:
                return True
            del self._hot[fd]
        return False

    def wait(self, what: str, timeout: float | None, deadline: float | None = None) -> list[tuple[int, int]]:
        """``collect``, blocking the running thread at most ``timeout`` seconds (None: for ever) until there is something."""
        world = self.world
        if (self._hot and self.has_ready()) or (timeout is not None and timeout <= 0):
            world.pass_on()
            return self.collect() if self._hot else []
        ready: list[tuple[int, int]] = []
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


def check_simulated(fd: int) -> None:
    """Raise ``NotSimulated`` for a real descriptor: nothing in the world can wait for it."""
    if 0 <= fd < FIRST_FD:
        raise NotSimulated(
            f"descriptor {fd} is a real one, made outside the simulated world, which can't wait for it; make the socket or "
            "pipe inside the scenario (socket.socket, os.pipe), where it is simulated"
        )
