"""The native loop: asyncio's selector loop, whose hot half is ``bateau._native.LoopCore``.

What is in C comes first in the method resolution order: scheduling, timers, readers and writers, the iteration itself. All the
rest (servers, name resolution, datagrams, pipes, subprocesses, signals, ``sock_*``, ``sendfile``, TLS) is asyncio's own, and
reaches the C half through the few private methods that asyncio's selector loop has for its own subclasses. Importing this
raises ``ImportError`` where the C part was not built.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from asyncio import base_events, constants, format_helpers, sslproto
from asyncio.log import logger
from collections.abc import Callable, Mapping
from contextvars import Context
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .native_transport import StreamTransport

_native: Any = import_module("bateau._native")
# asyncio's private parts, which the stubs don't show.
_base: Any = base_events
_format: Any = format_helpers
_ssl: Any = sslproto
_constants: Any = constants

_events: Any = asyncio.events

# Python 3.11's own makes a system call each time, for each wait of a queue, an event or a lock: a fifth of what that costs on
# our loop. From 3.12 on asyncio makes none either. If somebody else has replaced it, it stays as it is.
if sys.version_info < (3, 12) and _events._get_running_loop is getattr(_events, "_c__get_running_loop", None):
    _events._get_running_loop = _native.running_loop_getter(_events._get_running_loop)

if TYPE_CHECKING:

    class _LoopCore(asyncio.SelectorEventLoop):
        """What this module uses of the C half."""

        _core_future_type: Any

        def _core_registered(self, fd: Any) -> int: ...

        def _core_descriptors(self) -> list[int]: ...

        def _core_close(self) -> None: ...

else:
    _LoopCore = _native.LoopCore


class _Registrations(selectors.BaseSelector):
    """The reactor as asyncio's code and debuggers look at it: read-only, but for ``close``."""

    def __init__(self, loop: NativeEventLoop) -> None:
        self._loop = loop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise self._refusal()

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise self._refusal()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise self._refusal()

    @staticmethod
    def _refusal() -> RuntimeError:
        return RuntimeError(
            "bateau's loop polls by itself; use add_reader(), remove_reader(), add_writer(), remove_writer()"
        )

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        events = self._loop._core_registered(fileobj)
        if not events:
            raise KeyError(f"{fileobj!r} is not registered")
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        return selectors.SelectorKey(fileobj, fd, events, None)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {fd: self.get_key(fd) for fd in self._loop._core_descriptors()}

    def close(self) -> None:
        self._loop._core_close()


class NativeEventLoop(_LoopCore, asyncio.SelectorEventLoop):
    """asyncio's event loop with a native heart. Make it with ``new_event_loop``."""

    def __init__(self) -> None:
        self._core_future_type = asyncio.Future
        try:
            super().__init__(_Registrations(self))
        except BaseException:  # no descriptors left, say
            self._core_close()
            private: Any = self
            private._closed = True
            raise

    # -- transports ----------------------------------------------------------------------------------------------------

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: Any = None,
        server: Any = None,
        context: Context | None = None,
    ) -> StreamTransport:
        return StreamTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: Any = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = _constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = _constants.SSL_SHUTDOWN_TIMEOUT,
        context: Context | None = None,
    ) -> Any:
        over = _ssl.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        StreamTransport(self, rawsock, over, None, extra, server, context)
        return over._app_transport

    # -- what the C half calls -----------------------------------------------------------------------------------------

    def _callback_failed(self, handle: Any, error: BaseException) -> None:
        """A callback raised; asyncio's words."""
        source = _format._format_callback_source(handle._callback, handle._args)
        context = {"message": f"Exception in callback {source}", "exception": error, "handle": handle}
        if handle._source_traceback:
            context["source_traceback"] = handle._source_traceback
        self.call_exception_handler(context)

    def _handle_repr(self, handle: Any) -> str:
        info = [type(handle).__name__]
        if handle._cancelled:
            info.append("cancelled")
        if (when := getattr(handle, "_when", None)) is not None:
            info.append(f"when={when}")
        if handle._callback is not None:
            info.append(_format._format_callback_source(handle._callback, handle._args))
        if handle._source_traceback:
            frame = handle._source_traceback[-1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return f"<{' '.join(info)}>"

    # -- debug mode ----------------------------------------------------------------------------------------------------

    def _debug_check(self, callback: Callable[..., object], method: str) -> None:
        private: Any = self
        if method != "call_soon_threadsafe":
            private._check_thread()
        private._check_callback(callback, method)

    def _debug_handle(self, handle: Any) -> None:
        handle._source_traceback = _format.extract_stack(sys._getframe(1))

    def _debug_run(self, handle: Any) -> None:
        if handle._cancelled:
            return
        private: Any = self
        private._current_handle = handle
        try:
            began = self.time()
            handle._run()
            took = self.time() - began
            if took >= self.slow_callback_duration:
                logger.warning("Executing %s took %.3f seconds", _base._format_handle(handle), took)
        finally:
            private._current_handle = None
            # What the callback raised keeps this frame, as the one that called; it must not keep the callback in return.
            del handle
