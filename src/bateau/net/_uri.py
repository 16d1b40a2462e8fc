"""One argument for any transport: ``tcp:host:port`` and ``unix:/path``; and the adoption of sockets made elsewhere."""

from __future__ import annotations

import os
import socket
from typing import Any

from ._errors import check_port
from ._listener import DEFAULT_BACKLOG, Listener
from ._stream import SocketStream
from ._tcp import connect_tcp, listen_tcp
from ._udp import UdpSocket
from .unix import UnixStream, check_path
from .unix import connect as connect_unix
from .unix import listen as listen_unix

_FORMS = "'tcp:host:port', 'tcp:[::1]:port', 'unix:/path' or 'unix:@abstract-name'"


async def connect(target: str, **options: Any) -> SocketStream:
    """Connect to ``"tcp:host:port"`` or ``"unix:/path"``, so that the transport is one argument.

    An IPv6 address stands in brackets (``tcp:[::1]:80``), an abstract Unix name after an ``@``. ``options`` go to ``connect_tcp``.
    A cancellation point; raises ``ValueError`` for any other text, else like ``connect_tcp`` and ``unix.connect``.
    """
    kind, address = parse(target)
    if kind == "unix":
        if options:
            raise TypeError(f"a Unix socket takes no options, but {', '.join(sorted(options))} was given")
        return await connect_unix(address)
    return await connect_tcp(*address, **options)


async def listen(target: str, *, backlog: int = DEFAULT_BACKLOG, limit: int | None = None, **options: Any) -> Listener:
    """Listen on ``"tcp:host:port"`` (``tcp::port`` for every address of the machine) or ``"unix:/path"``.

    ``options`` go to ``listen_tcp`` or ``unix.listen``. A cancellation point; raises ``ValueError`` for any other text.
    """
    kind, address = parse(target)
    if kind == "unix":
        return await listen_unix(address, backlog=backlog, limit=limit, **options)
    host, port = address
    return await listen_tcp(host or None, port, backlog=backlog, limit=limit, **options)


def parse(target: Any) -> tuple[str, Any]:
    """``("tcp", (host, port))`` or ``("unix", path)``. Raises ``ValueError`` or ``TypeError`` that name the forms."""
    if not isinstance(target, str):
        raise TypeError(f"the address must be a string like {_FORMS}, not {type(target).__name__}")
    kind, colon, rest = target.partition(":")
    if kind == "unix" and rest:
        if rest.startswith("//"):
            rest = "/" + rest.lstrip("/")
        return "unix", check_path("\0" + rest[1:] if rest.startswith("@") else rest)
    if kind == "tcp" and colon:
        host, colon, port = rest.removeprefix("//").rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{target!r}: an IPv6 address stands in brackets, as in 'tcp:[::1]:80'")
        if colon and port:
            return "tcp", (host, check_port(port))
    raise ValueError(f"{target!r} is not an address; it must be {_FORMS}")


def from_socket(sock: socket.socket, *, limit: int | None = None) -> SocketStream | Listener | UdpSocket:
    """Adopt a socket made elsewhere: a connected stream, a listening one, or UDP. It is made non-blocking.

    The result owns it from now on; ``sock`` itself is detached (closed, as far as its old holder can tell), because two
    owners of one descriptor end in one of them closing a stranger's. ``limit`` is for listeners, as in ``listen_tcp``.
    Not a cancellation point. Raises ``TypeError`` for what is no plain socket, ``ValueError`` for one that is closed or neither
    connected nor listening.
    """
    if type(sock) is not socket.socket:
        hint = "; wrap a plain stream with bateau.ssl" if type(sock).__name__ == "SSLSocket" else ""
        raise TypeError(f"from_socket needs a socket.socket, not {type(sock).__name__}{hint}")
    if sock.fileno() < 0:
        raise ValueError("this socket is closed (or was detached); give an open one")
    if sock.type == socket.SOCK_DGRAM and sock.family in (socket.AF_INET, socket.AF_INET6):
        return UdpSocket(_moved(sock))
    if sock.type != socket.SOCK_STREAM:
        raise TypeError(f"from_socket takes stream sockets and UDP, not {sock!r}")
    stream_type = UnixStream if sock.family == socket.AF_UNIX else SocketStream
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return Listener([_moved(sock)], stream_type=stream_type, limit=limit)
    try:
        sock.getpeername()
    except OSError as error:
        raise ValueError(f"this socket is neither connected nor listening ({error.strerror})") from error
    return stream_type(_moved(sock))


def _moved(sock: socket.socket) -> socket.socket:
    """The same descriptor under a new owner."""
    family, kind, proto = sock.family, sock.type, sock.proto
    fd = sock.detach()
    try:
        return socket.socket(family, kind, proto, fileno=fd)
    except BaseException:
        os.close(fd)
        raise
