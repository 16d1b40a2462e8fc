"""Doors of ``select``: ``epoll``, ``poll`` and ``select`` over simulated descriptors, and the selectors that took them by name.

A wait blocks the simulated thread, and its timeout is virtual. One that finds nothing and may not wait lets the other threads
run, and counts as a step, so that a program that polls in a loop does not stop the world.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..fds import ALWAYS, ERR, HUP, IN, OUT, Poller, SimFile, check_simulated, failure
from ..thread import Killed, here
from . import door, stand_in
from .burying import lay_to_rest

if TYPE_CHECKING:
    from ..process import Process
    from ..world import World

_RealEpoll: Any = select.epoll
_RealPoll: Any = select.poll
_RealSelect: Any = select.select

_NVAL = select.POLLNVAL
_RDNORM, _WRNORM = select.POLLRDNORM, select.POLLWRNORM
# What makes a descriptor readable or writable for ``select``.
_READABLE, _WRITABLE = IN | HUP | ERR, OUT | ERR


def full(mask: int) -> int:
    """A mask with the names that System V has for the same."""
    return mask | (_RDNORM if mask & IN else 0) | (_WRNORM if mask & OUT else 0)


def number_of(thing: Any) -> int:
    """The descriptor of an integer or of something with ``fileno()``."""
    if isinstance(thing, int):
        fd = thing
    else:
        ask = getattr(thing, "fileno", None)
        if ask is None:
            raise TypeError("argument must be an int, or have a fileno() method.")
        fd = ask()
        if not isinstance(fd, int):
            raise TypeError("fileno() returned a non-integer")
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return fd


# -- epoll -------------------------------------------------------------------------------------------------------------


class EpollFile(SimFile):
    """What an epoll descriptor refers to: a file that is readable when one of the files it watches is ready."""

    kind = "epoll"

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.watched = _Watched(self)

    def mask(self) -> int:
        return IN if self.watched.has_ready() else 0

    def dropped(self) -> None:
        self.watched.close()

    def mode(self) -> int:
        return 0o600


class _Watched(Poller):
    """The set inside an epoll object, which tells the file it belongs to."""

    def __init__(self, file: EpollFile) -> None:
        super().__init__(file.process)
        self._file = file

    def became_ready(self) -> None:
        self._file.changed()


class SimEpoll:
    """A simulated ``select.epoll``."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._file = EpollFile(process)
        self._fd = process.fds.add(self._file)

    def _open(self) -> EpollFile:
        if self._fd < 0:
            raise ValueError("I/O operation on closed epoll object")
        if self._process.dead or self._file.world.closed:
            raise failure(errno.EBADF)
        return self._file

    def register(self, fd: Any, eventmask: int = IN | OUT | select.EPOLLPRI) -> None:
        """As the real one's."""
        self._open().watched.register(number_of(fd), eventmask)

    def modify(self, fd: Any, eventmask: int) -> None:
        """As the real one's."""
        self._check(fd).watched.modify(number_of(fd), eventmask)

    def unregister(self, fd: Any) -> None:
        """As the real one's."""
        self._check(fd).watched.unregister(number_of(fd))

    def _check(self, fd: Any) -> EpollFile:
        file = self._open()  # the dead have no descriptors any more
        self._process.fds.get(number_of(fd))
        return file

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """As the real one's: (fd, event mask) pairs."""
        try:
            return self._poll(timeout, maxevents)
        except Killed:
            lay_to_rest(self._file.world)
            raise

    def _poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        world = self._file.world
        world.before_call(world.thread)
        file = self._open()
        if maxevents == 0 or maxevents < -1:
            raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
        world.thread_stepped()
        forever = timeout is None or timeout < 0
        clock = self._process.host.clock
        deadline = None if forever else clock.world_time_after(timeout or 0)
        collect = file.watched.collect
        found = collect(maxevents)
        if found or timeout == 0:
            world.pass_on()
            return self._ordered(found or collect(maxevents))
        while not found and file.wait("poll", deadline):
            if self._fd < 0:
                return []
            found = collect(maxevents)
        return self._ordered(found)

    def _ordered(self, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """In which order events are told is the system's choice."""
        if len(found) > 1:
            first = self._file.world.choose(f"events {self._process.name}", len(found))
            if first:
                found = [found[first], *found[:first], *found[first + 1 :]]
        return [(fd, _expanded(self._file, fd, mask)) for fd, mask in found]

    def close(self) -> None:
        """As the real one's."""
        fd, self._fd = self._fd, -1
        fds = self._process.fds
        if fd >= 0 and fds.files.get(fd) is self._file:
            fds.close(fd)

    def __del__(self) -> None:
        if not self._process.dead and not self._file.world.over:
            self.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._fd < 0

    def fileno(self) -> int:
        """Its own descriptor."""
        if self._fd < 0:
            raise ValueError("I/O operation on closed epoll object")
        return self._fd

    def __enter__(self) -> SimEpoll:
        self._open()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def _expanded(file: EpollFile, fd: int, mask: int) -> int:
    entry = file.watched.registered.get(fd)
    return mask if entry is None else full(mask) & (entry[1] | mask)


class _EpollMeta(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, SimEpoll | _RealEpoll)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, SimEpoll | _RealEpoll)


class _Epoll(metaclass=_EpollMeta):
    """What ``select.epoll`` is while worlds are open."""

    def __new__(cls, sizehint: int = -1, flags: int = 0) -> Any:
        world = here.world
        if world is None:
            return _RealEpoll(sizehint, flags)
        if sizehint != -1 and sizehint <= 0:
            raise ValueError("negative sizehint")
        world.before_call(world.thread)
        return SimEpoll(world.thread.process)

    @staticmethod
    def fromfd(fd: int, /) -> Any:
        """As the real one's."""
        world = here.world
        if world is None:
            return _RealEpoll.fromfd(fd)
        file = world.thread.process.fds.get(fd)
        if not isinstance(file, EpollFile):
            raise failure(errno.EINVAL)
        found = object.__new__(SimEpoll)
        found._process, found._file, found._fd = world.thread.process, file, fd
        return found


_Epoll.__name__ = _Epoll.__qualname__ = "epoll"


# -- poll --------------------------------------------------------------------------------------------------------------


def _look(process: Process, wanted: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is ready of (fd, interest) pairs; regular files always are."""
    found: list[tuple[int, int]] = []
    files = process.fds.files
    for fd, interest in wanted:
        file = files.get(fd)
        if file is None:
            check_simulated(fd)
            found.append((fd, _NVAL))
            continue
        mask = full(file.mask() if file.pollable else IN | OUT) & (interest | ALWAYS)
        if mask:
            found.append((fd, mask))
    return found


def wait_any(world: World, what: str, fds: Iterable[int], deadline: float | None) -> bool:
    """Block until one of the files changes; False if the deadline came first."""
    thread = world.thread
    known = thread.process.fds.files
    files = [known[fd] for fd in fds if fd in known]
    for file in files:
        file.blocked[thread] = None
    try:
        return world.block(what, deadline)
    finally:
        for file in files:
            file.blocked.pop(thread, None)


class SimPoll:
    """A simulated ``select.poll`` object."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = IN | OUT | select.POLLPRI) -> None:
        """As the real one's."""
        self._wanted[number_of(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int) -> None:
        """As the real one's."""
        number = number_of(fd)
        if number not in self._wanted:
            raise failure(errno.ENOENT)
        self._wanted[number] = eventmask

    def unregister(self, fd: Any) -> None:
        """As the real one's."""
        del self._wanted[number_of(fd)]

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """As the real one's; ``timeout`` in milliseconds."""
        world = here.world
        if world is None:
            raise RuntimeError("a simulated poll object is used outside its world")
        try:
            return self._poll(world, timeout)
        except Killed:
            lay_to_rest(world)
            raise

    def _poll(self, world: World, timeout: float | None) -> list[tuple[int, int]]:
        thread = world.thread
        process = thread.process
        if process.dead or world.over:
            world.before_call(thread)
        wanted = self._wanted
        found = _look(process, wanted.items())
        if found:
            return found
        world.thread_stepped()
        if timeout is not None and 0 <= timeout < 1:
            timeout = 0 if timeout == 0 else 1
        if timeout == 0:
            world.pass_on()
            return _look(process, wanted.items())
        forever = timeout is None or timeout < 0
        deadline = None if forever else process.host.clock.world_time_after((timeout or 0) / 1000)
        while not found and wait_any(world, "poll", wanted, deadline):
            found = _look(process, wanted.items())
        return found


def _poll() -> Any:
    """What ``select.poll`` is while worlds are open."""
    return _RealPoll() if here.world is None else SimPoll()


# -- select ------------------------------------------------------------------------------------------------------------


def _sorted_out(process: Process, reading: list[Any], writing: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    files = process.fds.files
    for thing in (*reading, *writing):
        if number_of(thing) not in files:
            check_simulated(number_of(thing))
            raise failure(errno.EBADF)

    def ready(things: list[Any], wanted: int) -> list[Any]:
        found: list[Any] = []
        for thing in things:
            file = files[number_of(thing)]
            if not file.pollable or file.mask() & wanted:
                found.append(thing)
        return found

    return ready(reading, _READABLE), ready(writing, _WRITABLE), []


@door("select", "select")
def select_(
    world: World, rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    thread = world.thread
    world.before_call(thread)
    process = thread.process
    reading, writing, watching = list(rlist), list(wlist), list(xlist)
    found = _sorted_out(process, reading, writing)
    if any(found):
        return found
    world.thread_stepped()
    if timeout == 0:
        world.pass_on()
        return _sorted_out(process, reading, writing)
    fds = [number_of(thing) for thing in (*reading, *writing, *watching)]
    deadline = None if timeout is None else process.host.clock.world_time_after(timeout)
    while not any(found) and wait_any(world, "select", fds, deadline):
        found = _sorted_out(process, reading, writing)
    return found


stand_in("select", "epoll", _Epoll)
stand_in("select", "poll", _poll)
# What the selectors took by name when they were imported.
stand_in("selectors:EpollSelector", "_selector_cls", _Epoll)
stand_in("selectors:PollSelector", "_selector_cls", staticmethod(_poll))


def _select_of_selector(*args: Any) -> Any:
    return select.select(*args)


stand_in("selectors:SelectSelector", "_select", staticmethod(_select_of_selector))
