"""What every kind of bateau socket has: one owner of one descriptor, its names, its options, its end."""

from __future__ import annotations

import _socket
import errno
import socket
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from ..io.fd import FdWatch
from ..kernel.errors import user_site
from ..kernel.hazard import report
from ..kernel.twin import SocketOwnerFields, SocketWatchFields, keep, native, slots, twinned
from ._errors import Address, format_address

T = TypeVar("T")

# Python's own class, or nothing, if somebody had put another in its place before.
_PLAIN = socket.socket if socket.socket.__base__ is _socket.socket and socket.socket.__module__ == "socket" else None


def real_number(sock: socket.socket) -> int:
    """For the twin, which makes system calls by itself: the real descriptor of a plain socket, plus one; else 0.

    A subclass may do anything in its methods (also one that stands in the place of ``socket.socket``, to go through a proxy,
    say), and a simulated socket has a number that means nothing to the system: then its methods are called.
    """
    return _socket.socket.fileno(sock) + 1 if type(sock) is _PLAIN else 0


class SocketView:
    """A stream's socket, to look at and to set options on; only the stream itself reads, writes and closes it."""

    __slots__ = ("_sock",)
    _ALLOWED = frozenset("family type proto fileno getsockname getpeername getsockopt setsockopt".split())

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        if name in self._ALLOWED:
            return getattr(self._sock, name)
        raise AttributeError(f"{name!r} is not for use on a socket that a bateau stream owns; use the stream's methods")

    def __repr__(self) -> str:
        return f"<SocketView of {self._sock!r}>"


# Every open socket, so that none is closed by the collector (which takes what belongs together in any order) before its
# registrations are out: the number could be somebody else's by then.
_held: set[socket.socket] = set()


@twinned()
class SocketWatch(SocketWatchFields, FdWatch):
    """The watch of a socket, which knows what to call it."""

    __slots__ = slots("_names", "_sock", "_what")

    def __init__(self, sock: socket.socket, what: str) -> None:
        super().__init__(sock.fileno())
        self._sock = sock
        self._what = what
        self._names: tuple[str, str] | None = None
        _held.add(sock)

    def describe(self) -> str:
        here, there = self.names()
        return f"{self._what} {here} -> {there}" if there else f"{self._what} {here}"

    def names(self) -> tuple[str, str]:
        """Both addresses as text; kept by ``close``, because a closed socket has none any more, and once it is connected,
        because they don't change then.
        """
        if self._names is not None:
            return self._names
        sock = self._sock
        family = sock.family
        found: list[str] = []
        for ask in (sock.getsockname, sock.getpeername):
            try:
                found.append(format_address(family, ask()))
            except OSError:
                found.append("")
        names = found[0], found[1]
        if found[1]:
            self._names = names
        return names

    def close(self) -> None:
        if not self.closed:
            names = self.names()
            super().close()
            self._names = names
            _held.discard(self._sock)


keep(
    held_sockets=_held,
    socket_class=_PLAIN,
    socket_detach=_socket.socket.detach,
    names_of_socket=vars(socket),
    real_number=real_number,
    user_site=user_site,
)


class SocketOwner(SocketOwnerFields):
    """The base of streams, listeners and datagram sockets. It owns ``_sock``: nobody else closes it."""

    __slots__ = slots("__weakref__", "_family", "_on_close", "_site", "_sock", "_watch")
    _kind = "socket"

    def __init__(self, sock: socket.socket, *, on_close: Callable[[], None] | None = None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._family: int = sock.family
        self._on_close = on_close
        self._site = user_site(sys._getframe(2))
        self._watch = SocketWatch(sock, self._kind)
        if native is not None:
            self._number = real_number(sock)

    def close(self) -> None:
        """Close the socket now, without suspending; tasks that wait on it wake with ``Closed``. Idempotent.

        Data the kernel has taken over is still sent. Raises ``WrongRuntime`` from a foreign thread.
        """
        watch = self._watch
        if watch.closed:
            return
        watch.close()
        try:
            self._sock.close()
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            raise OSError(
                errno.EBADF,
                f"{self._describe()} was closed behind bateau's back (its descriptor was not valid any more): "
                "only the stream itself may close it, else the number can be another's when it does",
            ) from error
        finally:
            on_close, self._on_close = self._on_close, None
            if on_close is not None:
                on_close()

    @property
    def closed(self) -> bool:
        """Whether this side was closed."""
        return self._watch.closed

    def __del__(self) -> None:
        watch = getattr(self, "_watch", None)
        if watch is None or watch.closed:
            return
        report("dropped_without_close", f"{self._describe()} was dropped without being closed", self._site)
        close_in_home(self._watch, self._sock, self._on_close)

    # -- names and options ---------------------------------------------------------------------------------------------

    @property
    def family(self) -> int:
        """The address family: ``socket.AF_INET``, ``AF_INET6`` or ``AF_UNIX``."""
        return self._family

    def fileno(self) -> int:
        """The file descriptor, -1 once closed. Not to be closed, read or written by the caller."""
        return self._sock.fileno()

    def getsockname(self) -> Address:
        """This end's address, as Python's socket gives it. Raises ``Closed`` once closed."""
        return self._ask(self._sock.getsockname)

    def getpeername(self) -> Address:
        """The other end's address, as Python's socket gives it. Raises ``Closed`` once closed, ``OSError`` if not connected."""
        return self._ask(self._sock.getpeername)

    @property
    def peer(self) -> str:
        """The other end as text, for logs: ``127.0.0.1:49152``, ``[::1]:443``, a path, ``unnamed``. Also once closed."""
        return self._watch.names()[1]

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:
        """As Python's ``socket.getsockopt``: a number, or bytes if ``buflen`` is given."""
        if buflen:
            return self._ask(self._sock.getsockopt, level, option, buflen)
        return self._ask(self._sock.getsockopt, level, option)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As Python's ``socket.setsockopt``. Raises ``OSError`` for what the system refuses."""
        self._ask(self._sock.setsockopt, level, option, value)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"peername"``, ``"sockname"``, ``"socket"`` (a view without read, write and close), ``"fd"``, or ``default``."""
        if name == "socket":
            return SocketView(self._sock)
        if self._watch.closed or name not in ("fd", "peername", "sockname"):
            return default
        if name == "fd":
            return self._sock.fileno()
        try:
            return self._sock.getpeername() if name == "peername" else self._sock.getsockname()
        except OSError:
            return default

    def _ask(self, fn: Callable[..., T], *args: Any) -> T:
        if self._watch.closed:
            raise self._watch.closed_error()
        return fn(*args)

    def _describe(self) -> str:
        return self._watch.describe()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._describe()}{' (closed)' if self.closed else ''}>"


def close_in_home(watch: FdWatch, sock: socket.socket, on_close: Callable[[], None] | None) -> None:
    """Close what was dropped, on the thread where it was used: the collector may run anywhere."""

    def close() -> None:
        watch.close()
        sock.close()
        if on_close is not None:
            on_close()

    if not watch.must_close_elsewhere():
        close()
        return
    home = watch._home
    assert home is not None
    try:
        home.call_threadsafe(close)
    except RuntimeError:  # the program has ended, and its registrations with it
        _held.discard(sock)
        sock.close()
