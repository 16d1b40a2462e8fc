"""TCP: connecting by Happy Eyeballs, and listening.

A connection attempt is one operation on several non-blocking sockets and a timer, with no task per address: families take turns,
the next address is tried when the one before it has failed or kept us waiting, the first that answers wins, the rest is
closed (RFC 8305).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..io.abc import WRITE
from ..io.fd import FdOperation, FdsOperation, FdWatch
from ..kernel.cancellation import check_seconds
from ..kernel.operation import Operation
from ..kernel.resource import OUTSIDE, Resource
from ..kernel.twin import ConnectOneFields, keep, native, slots, twinned
from ._errors import check_host, check_port, format_address, with_address
from ._listener import DEFAULT_BACKLOG, NON_BLOCKING, Listener
from ._resolve import AddrInfo, getaddrinfo, resolve
from ._stream import SocketStream, poll_fd

if TYPE_CHECKING:
    from ..kernel.host import Host, Timer

# Seconds before the next address is tried beside one that has not answered (RFC 8305, section 8).
HAPPY_EYEBALLS_DELAY = 0.25

S = TypeVar("S", bound=SocketStream)

_UNIX = getattr(socket, "AF_UNIX", None)
_PENDING = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK, errno.EINTR})


async def connect_tcp(
    host: str,
    port: int | str,
    *,
    local_address: str | tuple[str, int] | None = None,
    happy_eyeballs_delay: float = HAPPY_EYEBALLS_DELAY,
    nodelay: bool = True,
    family: int = 0,
) -> SocketStream:
    """Connect to ``host`` (a name or an IP address) and ``port`` (a number or a service's name).

    A name with several addresses is tried by Happy Eyeballs: IPv6 and IPv4 in turn, the next one after
    ``happy_eyeballs_delay`` seconds or as soon as one fails. ``local_address`` is the IP address, or address and port, to connect
    from; ``nodelay`` sets ``TCP_NODELAY``; ``family`` (``socket.AF_INET``, ``AF_INET6``) narrows the addresses.

    A cancellation point; cancelled, every socket it opened is closed. Raises ``OSError`` (``ConnectionRefusedError``...) naming the
    address that failed, with an ``ExceptionGroup`` of all of them as its cause where there were several; ``socket.gaierror``
    if the name has none; ``TypeError`` or ``ValueError`` for what can't be a host, port or time.
    """
    if check_seconds(happy_eyeballs_delay, "happy_eyeballs_delay") is None:
        raise TypeError(
            "happy_eyeballs_delay must be a number of seconds; use float('inf') to try one address at a time"
        )
    rows = await resolve(host, port, family=family)
    if len(rows) == 1 and local_address is None:
        return await connect_one(f"{host}:{port}", rows[0], SocketStream, nodelay)
    rows = interleaved(rows)
    local = None if local_address is None else await _local_rows(local_address)
    sock = await Connect(f"{host}:{port}", rows, local, happy_eyeballs_delay)
    try:
        if nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return SocketStream(sock)
    except BaseException:
        sock.close()
        raise


async def _local_rows(local: str | tuple[str, int]) -> list[AddrInfo]:
    host, port = (local, 0) if isinstance(local, str) else local
    return await resolve(host, port)


def interleaved(rows: Iterable[AddrInfo]) -> list[AddrInfo]:
    """``rows`` with the families taking turns; within a family, and for the first, the resolver's order stays."""
    families: dict[int, list[AddrInfo]] = {}
    for row in rows:
        families.setdefault(row.family, []).append(row)
    mixed: list[AddrInfo] = []
    queues = list(families.values())
    for index in range(max(map(len, queues), default=0)):
        mixed.extend(queue[index] for queue in queues if index < len(queue))
    return mixed


class _Target(Resource):
    """What a connection attempt waits on."""

    __slots__ = ("name", "tries")
    kind = "connection"

    def __init__(self, name: str) -> None:
        self.name = name
        self.tries: list[_Try] = []  # those of the operation, in the same list: it waits at each of them

    def waiters(self) -> Iterable[Operation[Any]]:
        return dict.fromkeys(op for one in self.tries for op in one.watch.waiters())

    def satisfiers(self) -> Any:
        return OUTSIDE

    def describe(self) -> str:
        return f"connection to {self.name}"


class _Try:
    """One address being tried. It owns ``sock`` until ``take`` or ``close``."""

    __slots__ = ("address", "sock", "watch")

    def __init__(
        self, row: AddrInfo, local: Sequence[AddrInfo] | None, sock: socket.socket | None = None, *, tried: bool = False
    ) -> None:
        """``sock``: a fresh socket for it, if there is one; ``tried``: one that connects already."""
        self.address = format_address(row.family, row.sockaddr)
        self.sock = sock if sock is not None else socket.socket(row.family, row.type, row.proto)
        try:
            if not tried:
                self.sock.setblocking(False)
                if local is not None:
                    self._bind(row.family, local)
                code = self.sock.connect_ex(row.sockaddr)
                # Of a Unix socket, EAGAIN says that its listener has no room: nothing was begun.
                if code and (code not in _PENDING or row.family == _UNIX):
                    raise OSError(code, os.strerror(code))
            self.watch = FdWatch(self.sock.fileno(), label=f"connection to {self.address}")
        except BaseException:
            self.sock.close()
            raise

    def _bind(self, family: int, local: Sequence[AddrInfo]) -> None:
        for row in local:
            if row.family == family:
                self.sock.bind(row.sockaddr)
                return
        raise OSError(errno.EAFNOSUPPORT, "local_address is of another address family")

    def connected(self) -> bool:
        """Whether it stands; False while that is open. Raises ``OSError`` if it failed."""
        if not poll_fd(self.watch.fd, WRITE):
            return False
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        return True

    def take(self) -> socket.socket:
        self.watch.close()
        return self.sock

    def close(self) -> None:
        self.watch.close()
        self.sock.close()


class Connect(FdsOperation[socket.socket]):
    """Connect to the first of ``rows`` that answers; the value is its socket, which the caller owns."""

    __slots__ = ("delay", "due", "errors", "local", "next_at", "plan", "timer", "tries")
    selectable = False  # it has sockets of its own between two tries

    def __init__(self, name: str, rows: Sequence[AddrInfo], local: Sequence[AddrInfo] | None, delay: float) -> None:
        target = _Target(name)
        super().__init__(target, (_NOWHERE.writing,))
        self.plan = list(reversed(rows))  # what is still to be tried, the next one last
        self.local = local
        self.delay = delay
        self.tries = target.tries
        self.errors: list[OSError] = []
        self.due = False
        self.next_at = 0.0
        self.timer: Timer | None = None

    def poll(self) -> bool:
        while True:
            for one in tuple(self.tries):
                if self._looks_connected(one):
                    self.tries.remove(one)
                    self.given_up()
                    self.value = one.take()
                    return True
            if self.plan and (self.due or not self.tries):
                self._start_next()
            elif self.tries:
                self.sides = tuple(one.watch.writing for one in self.tries)
                self.side = self.sides[0]
                return False
            else:
                raise self._failure()

    def _looks_connected(self, one: _Try) -> bool:
        try:
            return one.connected()
        except OSError as error:
            self._failed(error, one.address)
            self.tries.remove(one)
            one.close()
            return False

    def _start_next(self) -> None:
        row = self.plan.pop()
        self.due = False
        assert self.task is not None
        self.next_at = self.task.host.now() + self.delay
        try:
            self.tries.append(_Try(row, self.local))
        except OSError as error:
            self._failed(error, format_address(row.family, row.sockaddr))

    def _failed(self, error: OSError, address: str) -> None:
        self.errors.append(with_address(error, "connecting to", address))
        self.due = True

    def _failure(self) -> OSError:
        errors, self.errors = self.errors, []
        if len(errors) == 1:
            return errors[0]
        target = self.resource.describe()
        text = f"{target} failed at all {len(errors)} addresses: " + "; ".join(str(error.strerror) for error in errors)
        codes = {error.errno for error in errors}
        code = codes.pop() if len(codes) == 1 else None
        failure = OSError(code, text) if code is not None else OSError(text)
        failure.__cause__ = ExceptionGroup(target, errors)
        return failure

    # -- waiting -------------------------------------------------------------------------------------------------------

    def waits_in(self, host: Host) -> bool:
        return not self.plan and len(self.sides) == 1 and getattr(host, "wait_fd", None) is not None

    def register(self) -> None:
        super().register()
        if self.plan and self.delay != float("inf"):
            assert self.task is not None
            self.timer = self.task.host.call_at(self.next_at, self._next_is_due)

    def _next_is_due(self) -> None:
        self.timer = None
        self.due = True
        if self.claim():
            self.fire()

    def _leave(self) -> None:
        super()._leave()
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()

    def given_up(self) -> None:
        tries = self.tries.copy()
        self.tries.clear()
        for one in tries:
            one.close()

    def undo(self, value: socket.socket) -> None:
        value.close()

    def describe(self) -> str:
        return self.resource.describe()


# The sides of a ``Connect`` before it has any.
_NOWHERE = FdWatch(0)


@twinned(final=True)
class ConnectOne(ConnectOneFields, FdOperation[Any]):
    """Connect to one address, ``row``; the value is its stream, of ``stream_type``.

    On loopback, and to a Unix socket, it does not wait. ``one`` is what it waits for elsewhere, and owns the socket meanwhile.
    """

    __slots__ = slots("nodelay", "one", "row", "stream_type")
    selectable = False  # it has a socket of its own between two tries
    resource: _Target

    def __init__(self, target: _Target, row: AddrInfo, stream_type: type[SocketStream], nodelay: bool) -> None:
        super().__init__(target, _NOWHERE.writing)
        self.row = row
        self.stream_type = stream_type
        self.nodelay = nodelay
        self.one: _Try | None = None

    def poll(self) -> bool:
        return self.begun(None, False) if self.one is None else self._is_answered(self.one)

    def begun(self, sock: socket.socket | None, tried: bool) -> bool:
        """The first attempt, or the rest of it."""
        try:
            one = self.one = _Try(self.row, None, sock, tried=tried)
        except OSError as error:
            self.failed(error)
        self.resource.tries.append(one)
        self.side = one.watch.writing
        return self._is_answered(one)

    def _is_answered(self, one: _Try) -> bool:
        try:
            if not one.connected():
                return False
        except OSError as error:
            self.failed(error)
        except BaseException:
            self.given_up()
            raise
        self.one = None
        self.resource.tries.clear()
        sock = one.take()
        try:
            if self.nodelay:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.value = self.stream_type(sock)
        except BaseException:
            sock.close()
            raise
        return True

    def failed(self, error: OSError) -> NoReturn:
        """It can't be connected to."""
        self.given_up()
        raise with_address(error, "connecting to", format_address(self.row.family, self.row.sockaddr)) from None

    def new_socket(self) -> socket.socket:
        """A socket that does not block."""
        row = self.row
        sock = socket.socket(row.family, row.type | NON_BLOCKING, row.proto)
        if not NON_BLOCKING:
            sock.setblocking(False)
        return sock

    def given_up(self) -> None:
        one, self.one = self.one, None
        if one is not None:
            self.resource.tries.clear()
            one.close()

    def undo(self, value: SocketStream) -> None:
        value.close()

    def describe(self) -> str:
        return self.resource.describe()


keep(
    connect_poll=ConnectOne.poll,
    connect_begun=ConnectOne.begun,
    connect_socket=ConnectOne.new_socket,
    connect_failed=ConnectOne.failed,
)


def connect_one(name: str, row: AddrInfo, stream_type: type[S], nodelay: bool) -> FdOperation[S]:
    """Await it: a stream of ``stream_type`` that is connected to ``row``; ``name`` is what messages call that.

    A cancellation point; cancelled, nothing stays open. Raises ``OSError`` that names the address.
    """
    target = _Target(name)
    if native is not None:
        found: FdOperation[S] = native.connect_one(target, _NOWHERE.writing, row, stream_type, nodelay)
        return found
    return ConnectOne(target, row, stream_type, nodelay)


async def listen_tcp(
    host: str | None,
    port: int | str,
    *,
    backlog: int = DEFAULT_BACKLOG,
    reuse_port: bool = False,
    limit: int | None = None,
    nodelay: bool = True,
    family: int = 0,
) -> Listener:
    """Listen on ``host`` and ``port``; ``host=None`` means every address of this machine, IPv4 and IPv6.

    Port 0 lets the system choose one, the same for every address (see ``Listener.port``). ``backlog`` is how many connections the
    kernel holds for us; ``reuse_port`` lets several processes share the port; ``limit`` is how many accepted connections
    may be open at once, the next ones wait in the backlog; ``nodelay`` sets ``TCP_NODELAY`` on accepted ones.

    A cancellation point; cancelled, nothing stays open. Raises ``OSError`` naming the address that can't be had, ``TypeError`` or
    ``ValueError`` for bad arguments.
    """
    if host is not None:
        check_host(host)
    port = check_port(port)
    rows = await getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    rows = list(dict.fromkeys(rows))
    socks = bind_all(rows, lambda row, number: _bind_listener(row, number, reuse_port))
    try:
        for sock in socks:
            sock.listen(backlog)
        return Listener(socks, stream_type=SocketStream, limit=limit, nodelay=nodelay)
    except BaseException:
        for sock in socks:
            sock.close()
        raise


def _bind_listener(row: AddrInfo, port: int, reuse_port: bool) -> socket.socket:
    sock = socket.socket(row.family, row.type, row.proto)
    try:
        if os.name == "posix":  # elsewhere it lets two servers share a port by accident
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if row.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((row.sockaddr[0], port, *row.sockaddr[2:]))
    except OSError as error:
        sock.close()
        address = format_address(row.family, (row.sockaddr[0], port))
        raise with_address(error, "listening on", address) from error
    return sock


def bind_all(rows: Sequence[AddrInfo], bind: Callable[[AddrInfo, int], socket.socket]) -> list[socket.socket]:
    """One bound socket per row, all on one port even where the system chooses it.

    A family that this machine has not is left out if another one works.
    """
    for attempt in range(8):
        socks: list[socket.socket] = []
        missing: OSError | None = None
        port = rows[0].sockaddr[1]
        chosen = port == 0
        try:
            for row in rows:
                try:
                    sock = bind(row, port)
                except OSError as error:
                    if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) or len(rows) == 1:
                        raise
                    missing = error
                    continue
                socks.append(sock)
                port = sock.getsockname()[1]
        except OSError as error:
            for sock in socks:
                sock.close()
            if chosen and socks and error.errno == errno.EADDRINUSE and attempt < 7:
                continue  # the port that was free for the first address is taken for another one
            raise
        if socks:
            return socks
        assert missing is not None
        raise missing
    raise AssertionError("unreachable: the last attempt raises")
