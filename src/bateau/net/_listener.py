"""Listeners: accepting connections with a limit, through shortages, until asked to stop; and ``serve`` on top."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..io.fd import FdsOperation
from ..kernel.errors import Closed, Stopped, WouldBlock, user_site
from ..kernel.flow import checkpoint
from ..kernel.hazard import report
from ..kernel.operation import DONE, Operation
from ..kernel.resource import OUTSIDE, Resource, WaitQueue
from ..kernel.scope import Scope
from ..kernel.twin import AcceptFields, ListenerFields, NextConnectionFields, keep, native, slots, twinned
from ._errors import Address, format_address
from ._socket import SocketWatch, close_in_home, real_number
from ._stream import SocketStream

if TYPE_CHECKING:
    from ..kernel.host import Host, Timer

S = TypeVar("S", bound=SocketStream)

DEFAULT_BACKLOG = 1024

# Seconds until an accept that lacked descriptors or memory is tried again, if no connection of ours is closed before.
SHORTAGE_PAUSE = 0.1

# The connection ended before it was accepted, or the network had a fault that is not the listener's (see accept(2)).
_NEXT_PLEASE = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ETIMEDOUT,
        getattr(errno, "ENONET", errno.EPROTO),
    }
)
# For `socket.socket`: it need not be asked to make a descriptor non-blocking that is so already.
NON_BLOCKING = getattr(socket, "SOCK_NONBLOCK", 0)
_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def _makers(stream_type: Any) -> tuple[Any, ...]:
    """What runs when it is called."""
    return stream_type.__class__, stream_type.__new__, stream_type.__init__


_OUR_MAKERS = _makers(SocketStream)


@twinned("__anext__", "accept")
class Listener(ListenerFields, Resource):
    """One or more listening sockets (one per address). Made by ``listen_tcp``, ``unix.listen`` or ``from_socket``.

    ``async for stream in listener`` gives the connections, and ends when its scope is asked to stop or the listener is closed.
    With ``limit`` set, at most that many accepted streams are open at once; further ones wait in the kernel's backlog.

    Invariants: ``_open`` counts the accepted streams that are not closed. An accept waits either in ``_for_slot`` (full), or for
    its timer (shortage), or on the sockets.
    """

    __slots__ = (
        *slots(
            "__weakref__",
            "_closed",
            "_first",
            "_nodelay",
            "_open",
            "_sides",
            "_starved",
            "_stream_type",
            "_watches",
            "limit",
        ),
        "_family",
        "_for_slot",
        "_on_close",
        "_short",
        "_site",
        "_socks",
    )
    kind = "listener"

    def __init__(
        self,
        socks: Sequence[socket.socket],
        *,
        stream_type: type[SocketStream],
        limit: int | None = None,
        nodelay: bool = False,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._closed = True  # until there is something to close
        given: Any = limit  # users are not type-checked
        if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
            raise ValueError(f"limit must be a whole number of connections, 1 or more, or None, not {limit!r}")
        for sock in socks:
            sock.setblocking(False)
        self.limit = limit
        self._family: int = socks[0].family
        self._socks = tuple(socks)
        self._watches = tuple(SocketWatch(sock, "listener") for sock in socks)
        self._sides = tuple(watch.reading for watch in self._watches)
        self._stream_type = stream_type
        self._nodelay = nodelay
        self._on_close = on_close
        self._open = 0
        self._first = 0
        self._for_slot = WaitQueue()
        self._short: dict[Accept, None] = {}
        self._starved = False
        self._site = user_site(sys._getframe(1))
        if native is not None:
            # What the twin may make by itself: streams of our classes from sockets of Python's own.
            self._plain = all(map(real_number, socks)) and _makers(stream_type) == _OUR_MAKERS
            self._kinds = tuple((sock.family, sock.type | NON_BLOCKING, sock.proto) for sock in socks)
        self._closed = False

    # -- accepting -----------------------------------------------------------------------------------------------------

    def accept(self) -> Accept:
        """Await it: the next connection, as a stream. Several tasks may accept at once.

        When the process lacks descriptors or memory it reports that once and waits instead of failing or spinning. A
        cancellation point; cancelled, no connection is lost. Raises ``Stopped`` when its scope is asked to stop, ``Closed``
        when the listener is closed.
        """
        return Accept(self)

    def try_accept(self) -> SocketStream:
        """A connection that waits already. Never waits: raises ``WouldBlock`` if there is none, or the ``limit`` is reached.

        Not a cancellation point. Raises ``Closed`` when the listener is closed.
        """
        op = Accept(self)
        op.state = DONE  # it is no wait
        if not op.poll():
            raise WouldBlock(f"no connection waits at {self.describe()}; use `await accept()`")
        stream: SocketStream = op.value
        return stream

    def __aiter__(self) -> Listener:
        return self

    def __anext__(self) -> NextConnection:
        return NextConnection(self)

    @property
    def open_count(self) -> int:
        """How many of the accepted connections are open."""
        return self._open

    def _stream_closed(self) -> None:
        self._open -= 1
        if self._short:
            self._short.popitem()[0].try_again()
        # All of them: one that is woken may be given up before it tries, and then the place must not be lost to the others.
        for op in self._for_slot:
            if op.claim():
                op.fire()

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop listening, without suspending; accepted connections stay open, waiting accepts raise ``Closed``. Idempotent."""
        if self._closed:
            return
        name = self.describe()
        for watch in self._watches:
            watch.close()
        self._closed = True
        failed: OSError | None = None
        for sock in self._socks:
            try:
                sock.close()
            except OSError as error:
                failed = error  # told when all is done that has to be done
        while (op := self._for_slot.pop()) is not None:
            op.fail(Closed(f"{name} is closed"))
        for accept in tuple(self._short):
            if accept.claim():
                accept.fail(Closed(f"{name} is closed"))
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()
        if failed is not None:
            raise OSError(failed.errno, f"{failed.strerror}: a socket of {name} was closed behind bateau's back")

    def aclose(self) -> Awaitable[None]:
        """``close``, then a cancellation check."""
        self.close()
        return checkpoint()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            report("dropped_without_close", f"{self.describe()} was dropped without being closed", self._site)
            for watch, sock in zip(self._watches, self._socks, strict=True):
                close_in_home(watch, sock, None)
            if self._on_close is not None:
                self._on_close()

    # -- names and options ---------------------------------------------------------------------------------------------

    def getsockname(self) -> Address:
        """The (first) address listened on, as Python's socket gives it. Raises ``Closed`` once closed."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[Address]:
        """Every address listened on. Raises ``Closed`` once closed."""
        self._check_open()
        return [sock.getsockname() for sock in self._socks]

    @property
    def port(self) -> int:
        """The port listened on (for TCP). Raises ``Closed`` once closed, ``AttributeError`` for a Unix socket."""
        if self._family == socket.AF_UNIX:
            raise AttributeError(f"{self.describe()} has no port; see getsockname()")
        found: int = self.getsockname()[1]
        return found

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As Python's ``socket.setsockopt``, on every socket of this listener."""
        self._check_open()
        for sock in self._socks:
            sock.setsockopt(level, option, value)

    def fileno(self) -> int:
        """The descriptor of the (first) socket, -1 once closed."""
        return self._socks[0].fileno()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"{self.describe()} is closed; open a new one")

    # -- as a resource -------------------------------------------------------------------------------------------------

    def check_home(self, host: Host) -> None:
        for watch in self._watches:
            watch.check_home(host)

    def waiters(self) -> Iterable[Operation[Any]]:
        found: list[Operation[Any]] = [*self._for_slot, *self._short]
        for watch in self._watches:
            found.extend(watch.waiters())
        return tuple(dict.fromkeys(found))

    def satisfiers(self) -> Any:
        return OUTSIDE

    def describe(self) -> str:
        names = ", ".join(watch.names()[0] or "?" for watch in self._watches)
        full = f" ({self._open}/{self.limit} open)" if self.limit is not None else ""
        return f"listener {names}{full}"

    def __repr__(self) -> str:
        return f"<{self.describe()}{' (closed)' if self._closed else ''}>"


@twinned(final=True)
class Accept(AcceptFields, FdsOperation[SocketStream]):
    """``Listener.accept``."""

    __slots__ = slots("full", "listener", "short", "timer")
    ends_on_stop = True

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener, listener._sides)
        self.listener = listener
        self.full = False
        self.short = False
        self.timer: Timer | None = None

    def poll(self) -> bool:
        listener = self.listener
        listener._check_open()
        self.short = False
        self.full = listener.limit is not None and listener._open >= listener.limit
        if self.full:
            return False
        count = len(listener._socks)
        for offset in range(count):
            index = (listener._first + offset) % count
            sock = self._accept(listener._socks[index])
            if sock is not None:
                listener._first = (index + 1) % count  # one busy address must not starve the others
                listener._starved = False
                self.value = self._stream(sock)
                return True
            if self.short:
                return False
        return False

    def _accept(self, listening: socket.socket) -> socket.socket | None:
        """One connection, or None if there is none, or not enough memory or descriptors for one (``short``)."""
        while True:
            try:
                return listening.accept()[0]
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                if error.errno in _SHORTAGE:
                    self.short = True
                    self._report(error)
                    return None
                if error.errno not in _NEXT_PLEASE:
                    raise

    def _stream(self, sock: socket.socket) -> SocketStream:
        listener = self.listener
        try:
            if listener._nodelay:
                try:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                except OSError:
                    pass  # some systems refuse it on a connection that is gone again: its reader will be told that
            stream = listener._stream_type(sock, on_close=listener._stream_closed)
        except BaseException:
            sock.close()
            raise
        listener._open += 1
        return stream

    def _report(self, error: OSError) -> None:
        listener = self.listener
        if listener._starved:
            return  # once per shortage
        listener._starved = True
        report(
            "accept_starved",
            f"{listener.describe()} can't accept: {error.strerror}; it waits until descriptors or memory are free. "
            "Close connections sooner, set limit= on the listener, or raise `ulimit -n`",
            listener._site,
        )

    def waits_in(self, host: Host) -> bool:
        plain = len(self.sides) == 1 and not self.full and not self.short
        return plain and getattr(host, "wait_fd", None) is not None

    def register(self) -> None:
        listener = self.listener
        if self.full:
            listener._for_slot.add(self)
        elif self.short:
            assert self.task is not None
            host = self.task.host
            for side in self.sides:
                side.disarm()  # the connection that can't be accepted would make it ready again and again
            self.timer = host.call_at(host.now() + SHORTAGE_PAUSE, self.try_again)
            listener._short[self] = None
        else:
            super().register()

    def try_again(self) -> None:
        """The shortage may be over."""
        if self.claim():
            self.fire()

    def _leave(self) -> None:
        super()._leave()
        self.listener._for_slot.discard(self)
        self.listener._short.pop(self, None)
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()

    def undo(self, value: SocketStream) -> None:
        value.close()

    def describe(self) -> str:
        return f"accept on {self.listener.describe()}"


@twinned("__await__", final=True)
class NextConnection(NextConnectionFields, Accept):
    """``async for stream in listener``: an accept that ends the loop where the listener ends, or its scope is asked to stop."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, SocketStream]:
        try:
            return (yield from super().__await__())
        except (Stopped, Closed):
            raise StopAsyncIteration from None


keep(accept_poll=Accept.poll, stopped=Stopped, closed=Closed)


# -- serving -----------------------------------------------------------------------------------------------------------

Handler = Callable[[Any], Awaitable[object]]
ErrorHandler = Callable[[Exception, SocketStream], object]


async def serve(handler: Handler, *listeners: Listener, on_error: ErrorHandler | None = None) -> None:
    """Run ``await handler(stream)`` in a task of its own for each connection; the stream is closed when it returns.

    A handler that fails ends its own connection only: ``on_error(error, stream)`` is told (by default the error is logged to
    ``bateau.net`` with its traceback). Asked to stop, it accepts no more and returns when the handlers have; cancelled, it cancels
    them. The listeners are closed when it ends. A cancellation point. Raises what ``on_error`` raises, in a group.
    """
    if not listeners:
        raise TypeError("serve needs at least one listener: await net.listen_tcp(host, port) makes one")
    if not callable(handler):
        raise TypeError(f"handler must be an async function of one stream, not {type(handler).__name__}")
    tell = on_error if on_error is not None else _log_error

    async def handle(stream: SocketStream) -> None:
        async with stream:
            try:
                await handler(stream)
            except Exception as error:
                tell(error, stream)

    async def accept_from(listener: Listener) -> None:
        async with listener:
            async for stream in listener:
                scope.spawn(handle, stream, name=f"connection {stream.peer}")

    try:
        async with Scope(name="serve") as scope:
            for listener in listeners:
                scope.spawn(accept_from, listener, name=f"accept on {format_address(0, listener.getsockname())}")
    finally:
        for listener in listeners:
            listener.close()


def _log_error(error: Exception, stream: SocketStream) -> None:
    import logging

    logging.getLogger("bateau.net").error("the handler of %r failed", stream, exc_info=error)
