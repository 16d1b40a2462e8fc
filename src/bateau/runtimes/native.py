"""The native runtime: bateau's own loop. This is its pure form: the kernel's engine over epoll (or ``selectors``).

It is an asyncio event loop as well, from the moment asyncio is imported: see ``native_asyncio``.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time
from collections.abc import Callable, Coroutine, MutableMapping
from sys import modules
from typing import Any, TypeVar

from ..kernel.engine import Engine, SchedulingPolicy
from ..kernel.errors import Deadlock
from ..kernel.explain import explain_deadlock
from ..kernel.twin import ReactorFields, keep, native, twinned
from .base import Runtime
from .engine_session import EngineSession
from .forking import forked_error
from .native_bridge import asyncio_is_ready, asyncio_side, attach, is_simulated

T = TypeVar("T")

Table = MutableMapping[int, Callable[[], None]]

_READ = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP if hasattr(select, "epoll") else 0
_WRITE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR if hasattr(select, "epoll") else 0


# The machine's clock, also in a simulated world: what is noted by it decides nothing.
_monotonic_ns = time.monotonic_ns
# How epoll_ctl is called.
_ADD, _REMOVE, _CHANGE = 1, 2, 3

# How many events may come that concern nobody before the epoll set is made anew.
MOST_STRAYS = 100

# Seconds; epoll counts milliseconds in 32 bits, and a poll that ends early for nothing is harmless.
LONGEST_POLL = 86400.0


class _Eventfd:
    """A wake-up that is closed with its last reference, so that no thread in the middle of ``wake`` can write to a closed
    number, which might be a stranger's by then.
    """

    __slots__ = ("_close", "fd")

    def __init__(self) -> None:
        self._close = os.close  # the module may be gone when an interpreter ends
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __del__(self) -> None:
        fd = getattr(self, "fd", -1)
        if fd >= 0:
            self._close(fd)


@twinned("is_awaited", "poll", "_control")
class Reactor(ReactorFields):
    """The driver: fd readiness by epoll, a thread-safe wake by eventfd, the monotonic clock.

    Invariant: an fd is registered with epoll iff it is in ``_readers`` or ``_writers``; whoever closes an fd removes it
    here first (one owner closes, so that a reused number can never be mistaken for it). An fd that somebody else has closed is
    found out when its number is registered again, or removed: who waited for it is told then.
    """

    now = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._strays = 0
        # How many registrations there were, and which one is each fd's: what epoll said before that is of another one.
        self._registrations = 0
        self._since: dict[int, int] = {}
        # When the last poll ended (ns, the machine's monotonic clock): for who asks how long the step under way has lasted.
        self._polled = 0
        self._epoll = select.epoll()
        self._tell_twin()
        # None once closed. ``wake`` takes it first, and so keeps the descriptor open until it has written.
        self._eventfd: _Eventfd | None = _Eventfd()
        self._wake_fd = self._eventfd.fd
        self._control(_ADD, self._wake_fd, select.EPOLLIN)
        self._readers = self._table()
        self._writers = self._table()
        # The fd, and whether it is a writer, that was found awaited last.
        self._awaited: tuple[int, bool] | None = None

    def _tell_twin(self) -> None:
        """The twin makes its system calls on the epoll set itself, if that is open, and a real one (a simulated one has another class)."""
        if native is not None:
            epoll = self._epoll
            self._epoll_fd = -1 if epoll.closed or type(epoll).__module__ != "select" else epoll.fileno()

    def _table(self) -> Table:
        """What to call, by fd. The twin's has an array in it, for the numbers of a real system."""
        found: Table = {} if native is None or self._epoll_fd < 0 else native.FdTable()
        return found

    def wake(self) -> None:
        """From any thread: end a poll that blocks, or make the next one return at once."""
        eventfd = self._eventfd
        if eventfd is None:
            return  # closed: there is nobody to wake
        try:
            os.eventfd_write(eventfd.fd, 1)
        except BlockingIOError:
            return  # full means awake already

    def poll(self, timeout: float | None) -> None:
        """Wait at most ``timeout`` seconds (None: for ever) and call what is ready."""
        before = self._registrations
        since = self._since
        try:
            events = self._epoll.poll(-1 if timeout is None else min(timeout, LONGEST_POLL))
        except InterruptedError:
            return
        self._polled = _monotonic_ns()
        for fd, mask in events:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
                continue
            called = False
            # Asked before each call: the one before may have closed anything, and the number be another's by now.
            if mask & _READ and since.get(fd, 0) <= before and (reader := self._readers.get(fd)) is not None:
                called = True
                reader()
            if mask & _WRITE and since.get(fd, 0) <= before and (writer := self._writers.get(fd)) is not None:
                called = True
                writer()
            if not called:
                self._nobodys(fd)

    def watch(self, table: Table, fd: int, fn: Callable[[], None]) -> None:
        """Add or replace the callback of ``fd`` in ``table`` (readers or writers)."""
        known = fd in self._readers or fd in self._writers
        old = table.get(fd)
        table[fd] = fn
        try:
            if not known:
                self._control(_ADD, fd, self._mask(fd))
            elif old != fn:
                self._change(table, fd, fn, old)
        except BaseException:
            if old is None:
                table.pop(fd, None)
            raise

    def _change(self, table: Table, fd: int, fn: Callable[[], None], old: Callable[[], None] | None) -> None:
        """``fn`` joins or replaces what is registered for ``fd``, if that is the same fd still."""
        try:
            self._control(_CHANGE, fd, self._mask(fd))
        except FileNotFoundError:
            # epoll has forgotten it, so it was closed, and this is another one under the same number.
            other = self._writers if table is self._readers else self._readers
            beside = other.pop(fd, None)
            self._control(_ADD, fd, self._mask(fd))
            for stale in (old, beside):
                tell = getattr(getattr(stale, "__self__", None), "lost", None)  # of a side of ``bateau.io.fd``
                if tell is not None:
                    tell()

    def _control(self, op: int, fd: int, mask: int) -> None:
        """What epoll_ctl does."""
        if op == _ADD:
            self._epoll.register(fd, mask)
            self._registrations += 1
            self._since[fd] = self._registrations
        elif op == _CHANGE:
            self._epoll.modify(fd, mask)
        else:
            self._since.pop(fd, None)
            self._epoll.unregister(fd)

    def _nobodys(self, fd: int) -> None:
        """An event came that concerns nobody: mostly it was on its way while its registration was taken out.

        But an fd that was closed behind our back, of which a duplicate lives on, can't be taken out any more: its number says
        nothing to epoll, or means another. Its events would come for ever, so a new set takes the old one's place.
        """
        self._strays += 1
        if self._strays < MOST_STRAYS:
            return
        self._strays = 0
        old, self._epoll = self._epoll, select.epoll()
        self._tell_twin()
        old.close()
        self._control(_ADD, self._wake_fd, select.EPOLLIN)
        for known in {**self._readers, **self._writers}:
            try:
                self._control(_ADD, known, self._mask(known))
            except OSError:
                continue  # closed as well: there is nothing that could bring an event

    def unwatch(self, table: Table, fd: int) -> None:
        """Take ``fd`` out of ``table``."""
        if table.pop(fd, None) is None:
            return
        op = _CHANGE if fd in self._readers or fd in self._writers else _REMOVE
        try:
            self._control(op, fd, self._mask(fd))
        except OSError as error:
            # Closed behind our back, which took it out already.
            if error.errno not in (errno.ENOENT, errno.EBADF):
                raise

    def _mask(self, fd: int) -> int:
        return (select.EPOLLIN | select.EPOLLRDHUP if fd in self._readers else 0) | (
            select.EPOLLOUT if fd in self._writers else 0
        )

    def watched(self) -> list[int]:
        """The fds that may still bring something to somebody."""
        found = {fd for table in (self._readers, self._writers) for fd, fn in table.items() if not _is_idle(fn)}
        return sorted(found)

    def is_awaited(self, own: int) -> bool:
        """Whether an fd other than ``own`` may still bring something to somebody. The last answer is tried first."""
        last = self._awaited
        if last is not None:
            fn = (self._writers if last[1] else self._readers).get(last[0])
            if fn is not None and last[0] != own and not _is_idle(fn):
                return True
        self._awaited = self._find_awaited(own)
        return self._awaited is not None

    def _find_awaited(self, own: int) -> tuple[int, bool] | None:
        for writes in (False, True):
            for fd, fn in (self._writers if writes else self._readers).items():
                if fd != own and not _is_idle(fn):
                    return fd, writes
        return None

    def close(self) -> None:
        """Free the epoll set and the wake-up."""
        self._awaited = None
        # With the epoll set the registrations are gone: streams closed after the program's end find nothing to take out.
        self._readers.clear()
        self._writers.clear()
        self._epoll.close()
        self._tell_twin()
        self._eventfd = None
        self._wake_fd = -1


keep(reactor_find_awaited=Reactor._find_awaited)


def _is_idle(fn: Callable[[], None]) -> bool:
    """Whether the registration was only left in place: it is a side's of ``bateau.io.fd``, for which nobody waits."""
    return getattr(getattr(fn, "__self__", None), "waiters", None) == []


class NativeEngine(Engine):
    """The engine over the reactor."""

    name = "native"
    resumes_directly = native is not None

    def __init__(
        self,
        policy: SchedulingPolicy | None = None,
        choose: Callable[[int], int] | None = None,
        reactor: Reactor | None = None,
    ) -> None:
        self.reactor = reactor if reactor is not None else Reactor()
        super().__init__(self.reactor, policy=policy, choose=choose)
        # The turn in C calls ``_ended`` outside of every handler; the pure one while it handles the coroutine's StopIteration. That is
        # also the turn of a class with parts of its own.
        if native is None or not isinstance(self.ready, native.Deque):
            self.resumes_directly = False

    def add_reader(self, fd: int, fn: Callable[[], None]) -> None:
        self.reactor.watch(self.reactor._readers, fd, fn)

    def remove_reader(self, fd: int) -> None:
        self.reactor.unwatch(self.reactor._readers, fd)

    def add_writer(self, fd: int, fn: Callable[[], None]) -> None:
        self.reactor.watch(self.reactor._writers, fd, fn)

    def remove_writer(self, fd: int) -> None:
        self.reactor.unwatch(self.reactor._writers, fd)

    def outside_waits(self) -> list[str]:
        aio = self.aio
        own = aio.own_fd() if aio is not None else -1
        found = super().outside_waits() + [f"fd {fd}" for fd in self.reactor.watched() if fd != own]
        if aio is not None and aio.is_busy():
            found.append("asyncio")
        return found

    def is_stuck(self) -> bool:
        # Asked before each poll that no timer ends: mostly a thread or one fd that somebody waits for settles it.
        if self.holds or self.reactor.is_awaited(self.aio.own_fd() if self.aio is not None else -1):
            return False
        return super().is_stuck()

    def advance(self) -> None:
        if self.aio is None and "asyncio" in modules and asyncio_is_ready():  # imported by another thread
            attach(self)
        try:
            if self.aio is not None:
                self.aio.advance()
                return
            # ``Engine.advance`` written out: a connection that sends one message at a time comes by here for each.
            self.turn()
            main = self.main
            if (main is not None and main.ended) or self.aio is not None:
                return
            timeout = self.timeout()
            if timeout is None and not self.reactor.is_awaited(-1) and self.is_stuck():
                raise Deadlock(explain_deadlock(self.roots))
            self.reactor.poll(timeout)
        except Deadlock:
            raise
        except BaseException:
            # A signal's handler has raised, perhaps between two wakes: of a poll, or of those that let asyncio go first.
            self._after_interrupt()
            raise

    def asyncio_side(self) -> Any:
        """Make its asyncio side (an ``AsyncioSide``). Called once, when asyncio has been imported."""
        if native is not None and not is_simulated():
            from .native_asyncio_twin import NativeSide

            return NativeSide(self)
        from .native_asyncio import AsyncioSide

        return AsyncioSide(self)

    def forked(self) -> None:
        super().close()
        self.advance = _refuse_in_child  # type: ignore[method-assign]  # from here on only this instance refuses

    def close(self) -> None:
        super().close()
        if self.aio is not None:
            self.aio.close()
        self.reactor.close()


def _refuse_in_child() -> None:
    raise forked_error()


class NativeRuntime(Runtime):
    """The default on Linux. ``policy``: a scheduling policy instead of the FIFO."""

    name = "native"
    features = frozenset(
        {"asyncio", "deadlock_detection", "nested_block_on", "scheduling_policy", "fds", "fork"},
    )

    def __init__(self, policy: Callable[[], SchedulingPolicy] | None = None) -> None:
        super().__init__()
        self._policy = policy

    def unavailable(self) -> str | None:
        if not hasattr(select, "epoll") or not hasattr(os, "eventfd"):
            return f"needs epoll and eventfd, which {sys.platform} has not; use runtime='asyncio'"
        return None

    def open(self) -> EngineSession:
        engine = NativeEngine(self._policy() if self._policy is not None else None)
        engine.name = self.name
        return NativeSession(engine)


class NativeSession(EngineSession):
    """Adds the asyncio side while the session runs."""

    engine: NativeEngine

    def run(self, root: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with asyncio_side(self.engine):
            return super().run(root)

    def close(self) -> None:
        if self.engine._closed:
            return
        with asyncio_side(self.engine):
            super().close()
