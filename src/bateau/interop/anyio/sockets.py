"""anyio's sockets: plain non-blocking sockets, tried first, and waited for on the running bateau loop."""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Callable, Collection
from io import IOBase
from typing import Any, NoReturn, TypeVar

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, abc
from anyio._core._sockets import convert_ipv6_sockaddr
from anyio._core._synchronization import ResourceGuard
from anyio.abc import IPSockAddrType, UDPPacketType, UNIXDatagramPacketType

from ...io.fd import FdWatch
from ...kernel.errors import Closed
from ...kernel.flow import yield_now
from .descriptors import Attempt, watch_socket

T = TypeVar("T")

_DATAGRAM = 65536
# What accept() says about a connection that is gone before it could be taken: the next one may be well.
_GONE = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH}
)


class _Socket:
    """What all have in common: one owner of the socket, which closes the watch first.

    Invariant: ``_closed`` is set before the socket is closed, so that whoever wakes up from the closing knows who it was.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._watch: FdWatch = watch_socket(sock)
        self._closed = False
        self._receive_guard = ResourceGuard("reading from")
        self._send_guard = ResourceGuard("writing to")

    @property
    def _raw_socket(self) -> socket.socket:
        return self._sock

    async def aclose(self) -> None:
        """See ``anyio.abc.AsyncResource.aclose``."""
        self._close()
        await yield_now()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watch.close()
            self._sock.close()

    async def _read(self, call: Callable[[], T]) -> T:
        with self._receive_guard:
            try:
                return await Attempt(self._watch, self._watch.reading, call)
            except (OSError, Closed) as error:
                self._failed(error)

    async def _write(self, call: Callable[[], T]) -> T:
        try:
            return await Attempt(self._watch, self._watch.writing, call)
        except (OSError, Closed) as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> NoReturn:
        if self._closed:
            raise ClosedResourceError from None
        if isinstance(error, Closed) or self._sock.fileno() < 0:
            raise BrokenResourceError from error
        raise BrokenResourceError from error


class SocketStream(_Socket, abc.SocketStream):
    """See ``anyio.abc.SocketStream``."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if max_bytes < 1:
            raise ValueError("max_bytes must be a positive integer")
        data = await self._read(lambda: self._sock.recv(max_bytes))
        if not data:
            raise EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        with self._send_guard:
            view = memoryview(item)
            if not view.nbytes:
                self._check_open()
                await yield_now()
            while view:
                sent = await self._write(lambda: self._sock.send(view))  # noqa: B023  # called before the next round
                view = view[sent:]

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedResourceError

    async def send_eof(self) -> None:
        self._check_open()
        with self._send_guard:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:  # the peer is gone already: there is nobody to tell
                    self._failed(error)
            await yield_now()


class UNIXSocketStream(SocketStream, abc.UNIXSocketStream):
    """See ``anyio.abc.UNIXSocketStream``."""

    async def receive_fds(self, msglen: int, maxfds: int) -> tuple[bytes, list[int]]:
        given: tuple[Any, Any] = (msglen, maxfds)  # users are not type-checked
        if not isinstance(given[0], int) or msglen < 0:
            raise ValueError("msglen must be a non-negative integer")
        if not isinstance(given[1], int) or maxfds < 1:
            raise ValueError("maxfds must be a positive integer")
        fds = array.array("i")
        room = socket.CMSG_LEN(maxfds * fds.itemsize)
        message, rows, _flags, _address = await self._read(lambda: self._sock.recvmsg(msglen, room))
        if not message and not rows:
            raise EndOfStream
        for level, kind, data in rows:
            if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
                raise RuntimeError(
                    f"Received unexpected ancillary data; message = {message!r}, "
                    f"cmsg_level = {level}, cmsg_type = {kind}"
                )
            fds.frombytes(data[: len(data) - (len(data) % fds.itemsize)])
        return message, list(fds)

    async def send_fds(self, message: bytes, fds: Collection[int | IOBase]) -> None:
        if not message:
            raise ValueError("message must not be empty")
        if not fds:
            raise ValueError("fds must not be empty")
        numbers = array.array("i", [fd if isinstance(fd, int) else fd.fileno() for fd in fds])
        rows: list[Any] = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
        with self._send_guard:
            view = memoryview(message)
            while view:
                sent = await self._write(lambda: self._sock.sendmsg([view], rows))  # noqa: B023  # called before the next round
                view = view[sent:]
                rows = []  # they went with the first byte


class _Listener(_Socket, abc.SocketListener):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._accept_guard = ResourceGuard("accepting connections from")

    async def _accept(self) -> socket.socket:
        with self._accept_guard:
            try:
                return await Attempt(self._watch, self._watch.reading, self._take)
            except (OSError, Closed) as error:
                self._failed(error)

    def _take(self) -> socket.socket:
        while True:
            try:
                return self._sock.accept()[0]
            except OSError as error:
                if error.errno not in _GONE:
                    raise


class TCPListener(_Listener):
    """See ``anyio.abc.SocketListener``."""

    async def accept(self) -> abc.SocketStream:
        sock = await self._accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return SocketStream(sock)


class UNIXListener(_Listener):
    """See ``anyio.abc.SocketListener``."""

    async def accept(self) -> abc.SocketStream:
        return UNIXSocketStream(await self._accept())


class UDPSocket(_Socket, abc.UDPSocket):
    """See ``anyio.abc.UDPSocket``."""

    async def receive(self) -> tuple[bytes, IPSockAddrType]:
        data, address = await self._read(lambda: self._sock.recvfrom(_DATAGRAM))
        return data, convert_ipv6_sockaddr(address)

    async def send(self, item: UDPPacketType) -> None:
        with self._send_guard:
            await self._write(lambda: self._sock.sendto(*item))


class ConnectedUDPSocket(_Socket, abc.ConnectedUDPSocket):
    """See ``anyio.abc.ConnectedUDPSocket``."""

    async def receive(self) -> bytes:
        return await self._read(lambda: self._sock.recv(_DATAGRAM))

    async def send(self, item: bytes) -> None:
        with self._send_guard:
            await self._write(lambda: self._sock.send(item))


class UNIXDatagramSocket(_Socket, abc.UNIXDatagramSocket):
    """See ``anyio.abc.UNIXDatagramSocket``."""

    async def receive(self) -> UNIXDatagramPacketType:
        return await self._read(lambda: self._sock.recvfrom(_DATAGRAM))

    async def send(self, item: UNIXDatagramPacketType) -> None:
        with self._send_guard:
            await self._write(lambda: self._sock.sendto(*item))


class ConnectedUNIXDatagramSocket(_Socket, abc.ConnectedUNIXDatagramSocket):
    """See ``anyio.abc.ConnectedUNIXDatagramSocket``."""

    async def receive(self) -> bytes:
        return await self._read(lambda: self._sock.recv(_DATAGRAM))

    async def send(self, item: bytes) -> None:
        with self._send_guard:
            await self._write(lambda: self._sock.send(item))


# -- connecting --------------------------------------------------------------------------------------------------------


async def connect(sock: socket.socket, address: Any, wrap: Callable[[socket.socket], T]) -> T:
    """Connect a new socket and wrap it. Closed if that fails, or is cancelled. Raises ``OSError``."""
    watch: FdWatch | None = None
    try:
        sock.setblocking(False)
        watch = FdWatch(sock.fileno(), label=f"connect to {address!r}")
        started = False

        def attempt() -> None:
            nonlocal started
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if started else sock.connect_ex(address)
            if error == errno.EINPROGRESS or (error == errno.EAGAIN and sock.family == socket.AF_UNIX):
                started = error == errno.EINPROGRESS
                raise BlockingIOError
            if error:
                raise OSError(error, os.strerror(error))

        await Attempt(watch, watch.writing, attempt)
    except BaseException:
        if watch is not None:
            watch.close()
        sock.close()
        raise
    watch.close()
    return wrap(sock)
