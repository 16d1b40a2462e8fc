"""The listening sockets of a served address: made once, by the supervisor, before there is any worker."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from types import TracebackType

from ..net._errors import format_address
from ..net._uri import parse
from ..net.unix import _bind, _is_abstract, _unlinker

_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


class Opened:
    """The sockets of every worker. Invariant: each is closed once, by ``close``, in this process and in the child by itself."""

    def __init__(self) -> None:
        # For each worker: one socket per address. A shared one (Unix) is in all of them.
        self.by_worker: list[list[socket.socket]] = []
        self.addresses: list[str] = []
        self._at_end: list[Callable[[], object]] = []

    def close(self) -> None:
        """Close them here; those of the workers stay open."""
        for socks in self.by_worker:
            for sock in socks:
                sock.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
        for call in self._at_end:
            call()


def open_all(targets: Sequence[str], workers: int, backlog: int) -> Opened:
    """Listen on all of ``targets`` for each of ``workers``. Raises ``OSError`` that names the address, ``ValueError`` for no address."""
    if not targets:
        raise ValueError("bind needs at least one address, such as '127.0.0.1:8000'")
    opened = Opened()
    opened.by_worker = [[] for _ in range(workers)]
    try:
        for target in targets:
            kind, address = parse(target if target.startswith(("tcp:", "unix:")) else f"tcp:{target}")
            if kind == "unix":
                _open_unix(opened, address, backlog)
            else:
                _open_tcp(opened, address[0], address[1], backlog)
    except BaseException:
        opened.__exit__(None, None, None)
        raise
    return opened


def _open_unix(opened: Opened, address: str | bytes, backlog: int) -> None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    for socks in opened.by_worker:
        socks.append(sock)
    _bind(sock, address, None)
    if not _is_abstract(address):
        opened._at_end.append(_unlinker(address))
    sock.listen(backlog)
    opened.addresses.append(format_address(socket.AF_UNIX, sock.getsockname()))


def _open_tcp(opened: Opened, host: str, port: int, backlog: int) -> None:
    flags = socket.AI_PASSIVE
    rows = dict.fromkeys(socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags))
    failure: OSError | None = None
    found = 0
    for family, _, _, _, address in rows:
        wanted = (address[0], port, *address[2:])
        try:
            # Without SO_REUSEPORT first: with it, two servers of one user would share a port and neither would know.
            probe = _listening(family, wanted, None, share=False)
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                raise OSError(error.errno, f"can't listen on {format_address(0, wanted)}: {error.strerror}") from error
            failure = error
            continue
        port = probe.getsockname()[1]
        probe.close()
        wanted = (address[0], port, *address[2:])
        for socks in opened.by_worker:
            socks.append(_listening(family, wanted, backlog, share=True))
        opened.addresses.append(format_address(0, opened.by_worker[0][-1].getsockname()))
        found += 1
    if not found:
        assert failure is not None
        raise OSError(failure.errno, f"can't listen on {host}:{port}: {failure.strerror}") from failure


def _listening(family: int, address: tuple[object, ...], backlog: int | None, *, share: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        if backlog is not None:
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock
