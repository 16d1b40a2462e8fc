"""The native stream transport's once-in-a-lifetime half: start, errors, close, end. The hot half is ``StreamCore``, in C."""

from __future__ import annotations

import asyncio
import socket
import sys
import warnings
from asyncio import base_events, constants, futures, transports, trsock
from asyncio.log import logger
from collections.abc import Callable
from contextvars import Context
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import ref

_native: Any = import_module("bateau._native")
if not hasattr(_native, "make_stream_core"):
    raise ImportError(
        "bateau._native has no event loop: it was built without epoll, or from an older bateau (build it again)"
    )
# asyncio's private parts, which the stubs don't show.
_base: Any = base_events
_constants: Any = constants
_futures: Any = futures
_transports: Any = transports

if TYPE_CHECKING:

    class _StreamCore(asyncio.Transport):
        """The fields of the C half, and what this module uses of its methods."""

        _loop: Any
        _protocol: Any
        _sock: Any
        _extra: dict[str, Any]
        _server: Any
        _empty_waiter: Any
        _sock_fd: int
        _conn_lost: int
        _closing: bool
        _eof: bool
        _protocol_connected: bool
        _protocol_paused: bool
        _high_water: int
        _low_water: int
        _begin: Callable[[Any, Any, int, Any, Context | None], None]
        _start_reading: Callable[[], None]
        _stop_reading: Callable[[], None]
        _clear_queue: Callable[[], None]
        _flush: Callable[[], None]
        _maybe_pause_protocol: Callable[[], None]
        _drop: Callable[[], None]

else:
    # asyncio's sendfile wants a _FlowControlMixin; its fields and methods are hidden by the C half's.
    _StreamCore = _native.make_stream_core(_transports._FlowControlMixin, asyncio.BufferedProtocol)

# Since 3.13 a server knows its clients' transports; before, how many there are.
_SERVER_TAKES_TRANSPORT = sys.version_info >= (3, 13)


class _TransportSocket(trsock.TransportSocket):
    """What ``get_extra_info("socket")`` gives: who uses it finds sent what was written before."""

    __slots__ = ("_stream",)

    def __init__(self, sock: socket.socket, stream: StreamTransport) -> None:
        super().__init__(sock)
        self._stream = ref(stream)

    def _flush(self) -> None:
        stream = self._stream()
        if stream is not None:
            stream._flush()

    def fileno(self) -> int:
        self._flush()
        return super().fileno()

    def dup(self) -> socket.socket:
        self._flush()
        return super().dup()

    def setsockopt(self, *args: Any, **kwargs: Any) -> None:
        self._flush()
        super().setsockopt(*args, **kwargs)

    def shutdown(self, how: int) -> None:
        self._flush()
        super().shutdown(how)


class StreamTransport(_StreamCore):
    """A TCP or Unix stream connection of the native loop.

    Invariant: ``_conn_lost`` is not 0 iff ``_call_connection_lost`` is scheduled, or has run.
    """

    # `_calls`: the context that every call of the protocol is made in, since asyncio gives one (3.15); before, None: reads and
    # writes are made in that of the connection's start, the other calls in that of who causes them.
    __slots__ = ("__weakref__", "_calls")

    _start_tls_compatible = True
    _sendfile_compatible = _constants._SendfileMode.TRY_NATIVE
    max_size = 256 * 1024

    def __init__(
        self, loop: Any, sock: Any, protocol: Any, waiter: Any, extra: Any, server: Any, context: Context | None = None
    ) -> None:
        fd = sock.fileno()
        self._calls = context
        self._begin(loop, sock, fd, protocol, context)
        extra = {} if extra is None else extra
        extra["socket"] = _TransportSocket(sock, self)
        try:
            extra["sockname"] = sock.getsockname()
        except OSError:
            extra["sockname"] = None
        if "peername" not in extra:
            try:
                extra["peername"] = sock.getpeername()
            except OSError:
                extra["peername"] = None
        self._extra = extra
        if server is not None:
            self._server = server
            if _SERVER_TAKES_TRANSPORT:
                server._attach(self)
            else:
                server._attach()
        loop._transports[fd] = self
        _base._set_nodelay(sock)
        loop.call_soon(protocol.connection_made, self, context=context)
        loop.call_soon(self._start_reading, context=context)
        if waiter is not None:
            loop.call_soon(_futures._set_result_unless_cancelled, waiter, None, context=context)

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._sock is None:
            info.append("closed")
        elif self._closing:
            info.append("closing")
        info.append(f"fd={self._sock_fd}")
        loop = self._loop
        if loop is not None and not loop.is_closed():
            events = loop._core_registered(self._sock_fd)
            info.append(f"read={'polling' if events & 1 else 'idle'}")
            info.append(f"write=<{'polling' if events & 2 else 'idle'}, bufsize={self.get_write_buffer_size()}>")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        sock = self._sock
        if sock is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            sock.close()
            self._leave_server()

    def _leave_server(self) -> None:
        server = self._server
        if server is not None:
            self._server = None
            if _SERVER_TAKES_TRANSPORT:
                server._detach(self)
            else:
                server._detach()

    # -- flow control --------------------------------------------------------------------------------------------------

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_water = high
        self._low_water = low
        self._maybe_pause_protocol()

    def _flow_error(self, error: BaseException, message: str) -> None:
        """``pause_writing`` or ``resume_writing`` raised."""
        loop = self._loop
        if loop is None:
            return
        loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    # -- writing: what is rare -----------------------------------------------------------------------------------------

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._flush()
        if self._closing or self._eof:
            return
        self._eof = True
        if not self.get_write_buffer_size():
            self._sock.shutdown(socket.SHUT_WR)

    def _lost_write(self) -> None:
        """Something was written after the connection was lost."""
        if self._conn_lost >= _constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning("socket.send() raised exception.")
        self._conn_lost += 1

    def _drained(self) -> None:
        """Nothing waits to be sent any more; somebody has waited for that."""
        waiter = self._empty_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._closing:
            self._conn_lost += 1
            self._loop.call_soon(self._call_connection_lost, None, context=self._calls)
        elif self._eof:
            self._sock.shutdown(socket.SHUT_WR)

    def _make_empty_waiter(self) -> Any:
        if self._empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self._flush()
        waiter = self._empty_waiter = self._loop.create_future()
        if not self.get_write_buffer_size():
            waiter.set_result(None)
        return waiter

    def _reset_empty_waiter(self) -> None:
        self._empty_waiter = None

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._flush()
        if self._closing:
            return
        self._closing = True
        self._stop_reading()
        if not self.get_write_buffer_size():
            self._conn_lost += 1
            self._clear_queue()
            self._loop.call_soon(self._call_connection_lost, None, context=self._calls)

    def abort(self) -> None:
        self._force_close(None)

    def _fatal_error(self, error: BaseException, message: str = "Fatal error on transport") -> None:
        self._flush()  # a protocol's method that raised may have written why
        loop = self._loop
        if loop is not None:
            if not isinstance(error, OSError):
                loop.call_exception_handler(
                    {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
                )
            elif loop.get_debug():
                logger.debug("%r: %s", self, message, exc_info=error)
        self._force_close(error)
        waiter = self._empty_waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _force_close(self, error: BaseException | None) -> None:
        self._flush()  # what was written before is the kernel's to send; what it does not take is given up
        if self._conn_lost or self._loop is None:
            return
        self._clear_queue()
        if not self._closing:
            self._closing = True
            self._stop_reading()
        self._conn_lost += 1
        self._loop.call_soon(self._call_connection_lost, error, context=self._calls)

    def _call_connection_lost(self, error: BaseException | None) -> None:
        try:
            if self._protocol_connected:
                self._protocol.connection_lost(error)
        finally:
            self._stop_reading()
            self._clear_queue()  # both let go of the registration, before the number is given back
            try:
                self._sock.close()
            finally:  # a descriptor closed under us makes that fail: it is told, and the server gets its place back
                self._leave_server()
                self._drop()
                waiter = self._empty_waiter
                if waiter is not None and not waiter.done():
                    waiter.set_exception(ConnectionError("Connection is closed by peer"))
