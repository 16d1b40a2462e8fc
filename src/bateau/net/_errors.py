"""The errors of sockets in bateau's words, and the judgement of addresses before the system sees them."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from ..kernel.errors import BateauError, Broken, Closed

# What "try again later" looks like.
WOULD_BLOCK = (BlockingIOError, InterruptedError)

# A system call that fails with one of these tells that the other side is gone.
_LOST = frozenset(
    {
        errno.ECONNRESET,
        errno.EPIPE,
        errno.ECONNABORTED,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENETRESET,
    }
)

Address = Any  # what Python's socket module calls an address: (host, port), (host, port, flow, scope), a path...


class Truncated(BateauError, OSError):
    """A datagram was longer than was asked for, and its rest is gone. ``data`` is what was kept, ``address`` its sender."""

    def __init__(self, message: str, *, data: bytes, address: Address) -> None:
        super().__init__(message)
        self.errno = errno.EMSGSIZE
        self.data = data
        self.address = address


def translated(error: OSError, what: str, *, closed: bool, sent: int | None = None) -> OSError:
    """The error to raise for ``error``, which a system call on ``what`` raised."""
    if closed:
        return Closed(f"{what} is closed; open a new one")
    if error.errno in _LOST:
        text = "" if not sent else f" after {sent} bytes of this write had gone out"
        broken = Broken(f"{what}: the connection was lost{text}: {_reason(error)}", sent=sent)
        broken.errno = error.errno
        return broken
    return error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def with_address(error: OSError, verb: str, address: str) -> OSError:
    """``error`` again, of the same class, with the address it is about in its message."""
    if isinstance(error, socket.gaierror):
        return socket.gaierror(error.errno, f"{verb} {address}: {_reason(error)}")
    if error.errno is None:
        return OSError(f"{verb} {address}: {error}")
    return OSError(error.errno, f"{_reason(error)} ({verb} {address})")


def check_port(port: Any, *, names: bool = True) -> int | str:
    """``port`` if it can be one; raises ``TypeError`` or ``ValueError`` that say what a port is."""
    if isinstance(port, str) and names:
        if port.isdecimal():
            port = int(port)
        elif port:
            return port
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be a number (or the name of a service), not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be between 0 and 65535, not {port}")
    return port


def check_host(host: Any) -> str:
    """``host`` if it can be one; raises ``TypeError`` or ``ValueError``."""
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii")
    if not isinstance(host, str):
        raise TypeError(f"host must be a name or an IP address (a string), not {type(host).__name__}")
    if not host:
        raise ValueError("host is empty; name one, or 'localhost' for this machine")
    if "\0" in host:
        raise ValueError(f"host {host!r} contains a NUL character")
    return host


def check_count(n: Any, what: str = "n") -> int:
    """``n`` if it is a count of bytes; raises ``TypeError`` or ``ValueError``."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{what} must be a number of bytes, not {type(n).__name__}")
    if n < 0:
        raise ValueError(f"{what} must be 0 or more bytes, not {n}; to read to the end, read until it gives b")
    return n


def is_tuple(value: Any) -> bool:
    """Whether it is a tuple, without telling the type checkers, who would then ask of what."""
    return isinstance(value, tuple)


def format_address(family: int, address: Address) -> str:
    """An address as people write it: ``127.0.0.1:80``, ``[::1]:80``, a path, ``@abstract``, ``unnamed``."""
    if family == socket.AF_INET6 and is_tuple(address):
        return f"[{address[0]}]:{address[1]}"
    if is_tuple(address):
        return ":".join(map(str, address))
    if isinstance(address, bytes):
        address = os.fsdecode(address)
    if isinstance(address, str):
        if not address:
            return "unnamed"
        return f"@{address[1:]}" if address.startswith("\0") else address
    return str(address)
