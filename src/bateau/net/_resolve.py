"""Names to addresses and back: Python's ``getaddrinfo`` and ``getnameinfo``, on a worker thread where they may block."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from ..kernel.flow import checkpoint
from ._errors import Address, check_host, check_port, with_address

T = TypeVar("T")


class AddrInfo(NamedTuple):
    """One row of ``getaddrinfo``: what to give to ``socket.socket`` and to ``connect``."""

    family: int
    type: int
    proto: int
    canonname: str
    sockaddr: Address


async def getaddrinfo(
    host: str | bytes | None,
    port: int | str | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[AddrInfo]:
    """Python's ``socket.getaddrinfo``, with the same arguments and results, without blocking the program.

    IP addresses are answered at once, without a thread. A cancellation point; cancelled, the query's answer is dropped.
    Raises ``socket.gaierror`` (an ``OSError``) that names the host.
    """
    literal = _literal(host, port, family, type, proto, flags)
    if literal is not None:
        await checkpoint()
        return literal

    def ask() -> list[AddrInfo]:
        return _rows(socket.getaddrinfo(_ascii(host), port, family, type, proto, flags))

    try:
        return await _on_thread(ask)
    except OSError as error:
        what = _named(host) if port is None or isinstance(port, int) else f"{_named(host)}, service {port!r}"
        raise with_address(error, "can't resolve", what) from error
    except UnicodeError as error:
        raise ValueError(f"{host!r} is not a valid host name: {error}") from error


async def resolve(host: str, port: int | str = 0, *, family: int = 0, type: int = socket.SOCK_STREAM) -> list[AddrInfo]:
    """The addresses of ``host`` in the order the system prefers, each once; never an empty list.

    ``family`` narrows them (``socket.AF_INET``, ``AF_INET6``), ``type`` says what the socket is for. A cancellation point.
    Raises ``socket.gaierror`` (an ``OSError``) that names the host, ``ValueError`` or ``TypeError`` for what can't be a host or port.
    """
    host = check_host(host)
    port = check_port(port)
    rows = await getaddrinfo(host, port, family, type)
    return list(dict.fromkeys(rows))


async def getnameinfo(sockaddr: tuple[Any, ...], flags: int = 0) -> tuple[str, str]:
    """Python's ``socket.getnameinfo``: the host and service name of an address, without blocking the program.

    A cancellation point. Raises ``socket.gaierror``.
    """
    if not isinstance(sockaddr, tuple):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f"getnameinfo needs an address tuple (host, port), not {sockaddr!r}")
    if flags & socket.NI_NUMERICHOST and flags & socket.NI_NUMERICSERV:
        await checkpoint()
        return socket.getnameinfo(sockaddr, flags)
    return await _on_thread(lambda: socket.getnameinfo(sockaddr, flags))


def _literal(
    host: str | bytes | None, port: int | str | None, family: int, type: int, proto: int, flags: int
) -> list[AddrInfo] | None:
    """The answer if it needs no query: an IP address or the wildcard, and a numeric port. None otherwise."""
    if isinstance(port, str) and not port.isdecimal():
        return None
    try:
        name = _ascii(host)
        return _rows(
            socket.getaddrinfo(name, port, family, type, proto, flags | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
        )
    except (OSError, UnicodeError):
        return None


def _rows(found: list[Any]) -> list[AddrInfo]:
    return [AddrInfo(*row) for row in found]


def _ascii(host: str | bytes | None) -> str | bytes | None:
    """Plain names as bytes, which spares Python's IDNA codec (and its import) where there is nothing to encode."""
    return host.encode("ascii") if isinstance(host, str) and host.isascii() else host


def _named(host: str | bytes | None) -> str:
    return repr(host.decode("ascii", "replace") if isinstance(host, bytes) else host)


async def _on_thread(fn: Callable[[], T]) -> T:
    """``fn()`` on a worker thread. The C library can't be interrupted, so a cancelled caller leaves it behind."""
    from ..thread import run

    def call() -> tuple[T | None, BaseException | None]:
        # As a value, so that the error of a query that nobody waits for any more is not taken for a lost one.
        try:
            return fn(), None
        except Exception as error:
            return None, error

    value, error = await run(call, abandon_on_cancel=True)
    if error is not None:
        raise error
    return cast("T", value)
