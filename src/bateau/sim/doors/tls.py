"""Blocking TLS (``ssl.SSLContext.wrap_socket``) over a simulated socket: OpenSSL works in memory, and its bytes go through the socket.

Put in place when the first ``SSLSocket`` is made in a world. OpenSSL's own randomness and its clock (by which it judges whether
certificates are valid) are the machine's: what it says is the same in each run, the bytes it says it with are not.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from . import at_shutting
from .handles import Handle
from .sockets import handle_of

T = TypeVar("T")

_CHUNK = 65_536


class SimTls:
    """What ``SSLSocket._sslobj`` is, for a simulated socket: the object of OpenSSL over two buffers, and who carries their bytes.

    Invariant: ``unsent`` is what OpenSSL has said and the socket has not taken; nothing else is sent before it.
    """

    def __init__(self, sock: Any, handle: Handle, inner: Any, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._sock = sock
        self._handle = handle
        self._inner = inner
        self._incoming = incoming
        self._outgoing = outgoing
        self._unsent = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def context(self) -> Any:
        """The context, which may be changed during the handshake."""
        return self._inner.context

    @context.setter
    def context(self, value: Any) -> None:
        self._inner.context = value

    @property
    def session(self) -> Any:
        """The session, to be taken up again by another connection."""
        return self._inner.session

    @session.setter
    def session(self, value: Any) -> None:
        self._inner.session = value

    # -- carrying bytes --------------------------------------------------------------------------------------------------

    def _carry(self, what: str, call: Callable[..., T], *args: Any) -> T:
        """``call(*args)``, with as much receiving in between as it needs, and sending what it said."""
        self._flush(what)
        while True:
            try:
                result = call(*args)
            except ssl.SSLWantReadError:
                self._flush(what)
                self._receive(what)
                continue
            except ssl.SSLError:
                self._flush_quietly()  # the alert that tells the other side why
                raise
            self._flush_what_fits(what)
            return result

    def _receive(self, what: str) -> None:
        try:
            data = self._handle.recv(_CHUNK)
        except BlockingIOError:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)") from None
        except TimeoutError:
            raise TimeoutError(f"{what} operation timed out") from None
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self, what: str) -> None:
        self._unsent += self._outgoing.read()
        while self._unsent:
            try:
                sent = self._handle.send(self._unsent)
            except BlockingIOError:
                raise ssl.SSLWantWriteError(
                    ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)"
                ) from None
            except TimeoutError:
                raise TimeoutError(f"{what} operation timed out") from None
            self._unsent = self._unsent[sent:]

    def _flush_what_fits(self, what: str) -> None:
        """After a success: what does not fit now is sent by the next call."""
        try:
            self._flush(what)
        except ssl.SSLWantWriteError:
            return

    def _flush_quietly(self) -> None:
        try:
            self._flush("The write")
        except OSError:
            return

    # -- what ``SSLSocket`` calls ----------------------------------------------------------------------------------------

    def do_handshake(self) -> None:
        """As OpenSSL's."""
        self._carry("_ssl.c: The handshake", self._inner.do_handshake)

    def read(self, size: int = 1024, buffer: Any = None) -> Any:
        """As OpenSSL's."""
        args = (size,) if buffer is None else (size, buffer)
        return self._carry("The read", self._inner.read, *args)

    def write(self, data: Any) -> int:
        """As OpenSSL's."""
        return int(self._carry("The write", self._inner.write, data))

    def shutdown(self) -> Any:
        """As OpenSSL's: gives the socket back."""
        self._carry("The shutdown", self._inner.shutdown)
        return self._sock

    def verify_client_post_handshake(self) -> None:
        """As OpenSSL's."""
        self._carry("The write", self._inner.verify_client_post_handshake)


_context: Any = ssl.SSLContext
_real: Any = _context._wrap_socket


def _wrap_socket(
    context: Any,
    sock: Any,
    server_side: bool,
    server_hostname: str | None = None,
    *,
    owner: Any = None,
    session: Any = None,
) -> Any:
    handle = handle_of(sock)
    if handle is None:
        return _real(context, sock, server_side, server_hostname, owner=owner, session=session)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    inner = context._wrap_bio(incoming, outgoing, server_side, server_hostname, owner=owner, session=session)
    return SimTls(sock, handle, inner, incoming, outgoing)


_in_place = False


def put_in_place() -> None:
    """From now on, until the doors are shut, contexts wrap simulated sockets too."""
    global _in_place
    if not _in_place:
        _in_place = True
        context: Any = ssl.SSLContext
        context._wrap_socket = _wrap_socket


def _take_out() -> None:
    global _in_place
    if _in_place:
        _in_place = False
        context: Any = ssl.SSLContext
        del context._wrap_socket


at_shutting(_take_out)
