"""UDP: datagrams, connected to one peer or not. A datagram is whole or it is an error, never silently cut."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, NoReturn, TypeVar, cast

from ..io.fd import FdOperation
from ..kernel.errors import Closed, Stopped
from ..kernel.flow import checkpoint
from ..kernel.operation import DONE
from ..kernel.twin import DatagramFields, UdpSocketFields, keep, slots, twinned
from ._errors import Address, Truncated, check_count, check_port, format_address, is_tuple, translated, with_address
from ._resolve import AddrInfo, resolve
from ._socket import SocketOwner

T = TypeVar("T")

MAX_DATAGRAM = 65535


@twinned("recv", "recvfrom", "send", "sendto")
class UdpSocket(UdpSocketFields, SocketOwner):
    """A UDP socket. Made by ``udp`` or ``from_socket``. Several tasks may send and receive: each call is one whole datagram.

    ``async for data, address in sock`` gives what arrives, and ends when the scope is asked to stop or the socket is closed.
    """

    __slots__ = ()
    _kind = "UDP socket"

    def recvfrom(self, n: int = MAX_DATAGRAM, /) -> ReceiveFrom:
        """Await it: the next datagram and the address of its sender.

        A cancellation point; cancelled, no datagram is lost. Raises ``Truncated`` if it was longer than ``n`` bytes, ``Closed``,
        ``ConnectionRefusedError`` on a connected socket whose peer has no such port.
        """
        return ReceiveFrom(self, check_count(n))

    def recv(self, n: int = MAX_DATAGRAM, /) -> ReceiveData:
        """Await it: the next datagram alone. See ``recvfrom``."""
        return ReceiveData(self, check_count(n))

    def send(self, data: Any, /) -> SendDatagram:
        """Await it: send one datagram to the peer this socket is connected to; returns its length in bytes.

        A cancellation point; cancelled, nothing was sent. Raises ``OSError`` for a datagram that is too large, or a peer that
        refused an earlier one; ``Closed``.
        """
        _check_bytes(data)
        return SendDatagram(self, data)

    def sendto(self, data: Any, address: tuple[str, int], /) -> SendDatagram:
        """Await it: send one datagram to ``address``, an IP address and a port. See ``send``.

        Raises ``ValueError`` for a host name: ``await net.resolve(host, port)`` gives addresses.
        """
        _check_bytes(data)
        return SendDatagram(self, data, self._checked(address))

    def try_recvfrom(self, n: int = MAX_DATAGRAM, /) -> tuple[bytes, Address] | None:
        """The next datagram and its sender if one is there, else None. Not a cancellation point. Raises like ``recvfrom``."""
        op = ReceiveFrom(self, check_count(n))
        op.state = DONE  # it is only used for its attempt, and never awaited
        if not op.poll():
            return None
        return cast("tuple[bytes, Address]", op.value)

    def aclose(self) -> Awaitable[None]:
        """``close``, then a cancellation check."""
        self.close()
        return checkpoint()

    async def __aenter__(self) -> UdpSocket:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> UdpSocket:
        return self

    async def __anext__(self) -> tuple[bytes, Address]:
        try:
            return await _ReceiveNext(self, MAX_DATAGRAM)
        except (Stopped, Closed):
            raise StopAsyncIteration from None

    def _checked(self, address: Any) -> Address:
        """``address`` if the system takes it as it is: Python would look a name up, and block everybody."""
        if not is_tuple(address) or not 2 <= len(address) <= 4:
            raise TypeError(f"address must be a tuple (host, port), not {address!r}")
        parts: tuple[Any, ...] = address
        host = parts[0]
        check_port(parts[1], names=False)
        if not isinstance(host, str):
            raise TypeError(f"the host of an address must be a string, not {type(host).__name__}")
        if host == "<broadcast>":
            return parts
        if _is_address(self._family, host):
            return parts
        six = self._family == socket.AF_INET6
        if _is_address(socket.AF_INET if six else socket.AF_INET6, host):
            here, there, other = ("IPv6", "IPv4", "0.0.0.0") if six else ("IPv4", "IPv6", "::")
            raise ValueError(
                f"this is an {here} socket, and {host!r} is an {there} address: send from an {there} socket, which "
                f"`await net.udp(({other!r}, 0))` makes"
            )
        raise ValueError(
            f"sendto needs an {'IPv6' if six else 'IPv4'} address on this socket, not {host!r}; "
            f"await net.resolve({host!r}, {parts[1]}, family=socket.AF_INET{'6' if six else ''}) gives the addresses of a name"
        )


def _is_address(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):  # ValueError: a NUL character
        return False
    return True


class Datagram(DatagramFields, FdOperation[T]):
    """What the operations of a UDP socket share. Several may wait in each direction."""

    __slots__ = slots("address", "data", "n", "owner")
    owner: UdpSocket

    def describe(self) -> str:
        return f"{'send' if self.side.write else 'receive'} on {self.owner._describe()}"


class _Receive(Datagram[T]):
    __slots__ = ()

    def __init__(self, owner: UdpSocket, n: int) -> None:
        super().__init__(owner._watch, owner._watch.reading)
        self.owner = owner
        self.n: int = n

    def poll(self) -> bool:
        owner = self.owner
        if owner._watch.closed:
            raise owner._watch.closed_error()
        try:
            data, address = owner._sock.recvfrom(self.n + 1)  # one byte more than may come
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.failed(error)
        if len(data) > self.n:
            self.truncated(data[: self.n], address)
        self.took(data, address)
        return True

    def took(self, data: bytes, address: Address) -> None:
        """The result of a datagram that has come."""
        self.value = data, address

    def failed(self, error: OSError) -> NoReturn:
        """The system call has failed."""
        raise _named(error, self.owner) from error

    def truncated(self, data: bytes, address: Address) -> NoReturn:
        """The datagram was longer than ``data``, which is the most that was asked for."""
        raise Truncated(
            f"a datagram from {format_address(self.owner.family, address)} was longer than the {self.n} bytes asked for; "
            "its rest is lost. Ask for more (the default takes any)",
            data=data,
            address=address,
        )


@twinned(final=True)
class ReceiveFrom(_Receive[tuple[bytes, Address]]):
    """``UdpSocket.recvfrom``."""

    __slots__ = ()


class _ReceiveNext(_Receive[tuple[bytes, Address]]):
    """The iterator's: it ends when the scope is asked to stop."""

    __slots__ = ()
    ends_on_stop = True


@twinned(final=True)
class ReceiveData(_Receive[bytes]):
    """``UdpSocket.recv``."""

    __slots__ = ()

    def took(self, data: bytes, address: Address) -> None:
        self.value = data


@twinned(final=True)
class SendDatagram(Datagram[int]):
    """``UdpSocket.send`` and ``sendto``: ``address`` is None for the peer."""

    __slots__ = ()

    def __init__(self, owner: UdpSocket, data: Any, address: Address = None) -> None:
        super().__init__(owner._watch, owner._watch.writing)
        self.owner = owner
        self.data: Any = data
        self.address: Address = address

    def poll(self) -> bool:
        owner, address = self.owner, self.address
        if owner._watch.closed:
            raise owner._watch.closed_error()
        try:
            self.value = owner._sock.send(self.data) if address is None else owner._sock.sendto(self.data, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.failed(error)
        return True

    def failed(self, error: OSError) -> NoReturn:
        """The system call has failed."""
        if error.errno == errno.EMSGSIZE:
            size = len(memoryview(self.data).cast("B"))
            raise OSError(errno.EMSGSIZE, f"a datagram of {size} bytes is too large to send") from error
        if error.errno == errno.EDESTADDRREQ:
            raise OSError(
                errno.EDESTADDRREQ, "this UDP socket is not connected; use sendto(data, address) or udp(remote=...)"
            ) from error
        raise _named(error, self.owner) from error


_receive: Any = _Receive
keep(
    udp_receive_poll=_receive.poll,
    udp_receive_failed=_receive.failed,
    udp_truncated=_receive.truncated,
    udp_send_poll=SendDatagram.poll,
    udp_send_failed=SendDatagram.failed,
)


def _named(error: OSError, owner: SocketOwner) -> OSError:
    """A closed socket is told as such; a refusal stays what it is: UDP has no connection that could break."""
    if owner.closed:
        return translated(error, owner._describe(), closed=True)
    return error


def _check_bytes(data: Any) -> None:
    if isinstance(data, str):
        raise TypeError("a datagram is bytes, not str; use data.encode()")
    try:
        memoryview(data).release()
    except TypeError:
        raise TypeError(f"a datagram must be a bytes-like object, not {type(data).__name__}") from None


async def udp(
    local: tuple[str | None, int] | tuple[str | None, int, int, int] | None = None,
    remote: tuple[str, int] | tuple[str, int, int, int] | None = None,
    *,
    family: int = 0,
    reuse_port: bool = False,
    broadcast: bool = False,
) -> UdpSocket:
    """A UDP socket bound to ``local`` and connected to ``remote``, each a ``(host, port)`` tuple or None, or an
    address as ``getsockname`` and ``recvfrom`` give it (IPv6 has four parts).

    Names are resolved, the first address that works is taken. ``local=("", 0)`` or no ``local`` binds to any free port; with
    ``remote``, only that peer's datagrams arrive and ``send`` goes to it. ``family`` is needed only to choose IPv6 where there is no
    address to tell. A cancellation point; cancelled, nothing stays open. Raises ``OSError`` naming the address that can't be
    had, ``TypeError`` or ``ValueError`` for bad addresses.
    """
    remotes = await _rows(remote, family, "remote") if remote is not None else [None]
    last: OSError | None = None
    for row in remotes:
        wanted = row.family if row is not None else family
        locals_ = await _rows(local, wanted, "local") if local is not None else [None]
        for here in locals_:
            try:
                return _open(here, row, wanted, reuse_port=reuse_port, broadcast=broadcast)
            except OSError as error:
                last = error
    assert last is not None
    raise last


async def _rows(address: Any, family: int, what: str) -> list[AddrInfo]:
    if not is_tuple(address) or not 2 <= len(address) <= 4:
        raise TypeError(f"{what} must be a tuple (host, port), not {address!r}")
    host, port, *more = cast("tuple[Any, ...]", address)
    check_port(port)
    if more:  # the flow label and the scope of an IPv6 address, as getsockname() and recvfrom() give them
        if family not in (0, socket.AF_INET6):
            raise TypeError(f"{what} must be a tuple (host, port) for IPv4, not {address!r}")
        family = socket.AF_INET6
    if what == "local" and not host:
        host = "::" if family == socket.AF_INET6 else "0.0.0.0"
    rows = await resolve(host, port, family=family, type=socket.SOCK_DGRAM)
    return [row._replace(sockaddr=(*row.sockaddr[:2], *more, *row.sockaddr[2 + len(more) :])) for row in rows]


def _open(
    here: AddrInfo | None, there: AddrInfo | None, family: int, *, reuse_port: bool, broadcast: bool
) -> UdpSocket:
    if not family:
        family = here.family if here is not None else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    at: AddrInfo | None = None
    verb = "opening"
    try:
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        at, verb = here, "binding to"
        if here is not None:
            sock.bind(here.sockaddr)
        elif there is None:
            sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        at, verb = there, "connecting to"
        if there is not None:
            sock.connect(there.sockaddr)
        return UdpSocket(sock)
    except OSError as error:
        sock.close()
        if at is None:
            raise
        raise with_address(error, verb, format_address(at.family, at.sockaddr)) from error
    except BaseException:
        sock.close()
        raise
