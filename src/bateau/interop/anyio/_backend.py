"""The backend that anyio calls: each method says which part of bateau does it."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from signal import Signals
from types import TracebackType
from typing import Any, TypeVar, cast

from anyio import CapacityLimiter as BaseCapacityLimiter
from anyio import abc
from anyio.abc._eventloop import AsyncBackend
from anyio.abc._tasks import get_callable_name  # pyright: ignore[reportUnknownVariableType]  # partly annotated

from ...kernel.cancellation import CancelScope as KernelScope
from ...kernel.current import current_host, current_task
from ...kernel.errors import Cancelled
from ...kernel.flow import yield_now
from ...net._resolve import _on_thread as resolve
from ...signal import SignalStream
from ...signal import open as open_signals
from ...time import sleep, sleep_forever
from . import processes, sockets, threads
from .descriptors import notify_closing, wait_ready
from .groups import TaskGroup, Turn
from .info import TaskInfo, running_tasks, wait_all_blocked
from .library import NAME, variable
from .runtimes import Options, chosen
from .scopes import CancelScope, effective_deadline
from .sync import CapacityLimiter, Event, Lock, Semaphore, check_cancelled_here
from .testing import TestRunner

T = TypeVar("T")


class BateauBackend(AsyncBackend):
    """anyio on bateau's own tasks. See ``anyio.abc`` for what each method promises."""

    # -- running ---------------------------------------------------------------------------------------------------------

    @classmethod
    def run(
        cls, func: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
    ) -> T:
        runtime = chosen(options)

        async def main() -> T:
            """The first Ctrl-C asks a bateau program to stop; one written for anyio has not heard of that, and is cancelled."""
            task = current_task()
            task.name = get_callable_name(func)
            program: Any = task.node
            variable.set(NAME)
            with KernelScope() as whole:
                program.token.on_stop(lambda: whole.cancel("Ctrl-C"))
                return await func(*args, **kwargs)
            raise KeyboardInterrupt

        return runtime.run(main)

    @classmethod
    def current_token(cls) -> object:
        return threads.token()

    @classmethod
    def current_time(cls) -> float:
        return current_host().now()

    @classmethod
    def cancelled_exception_class(cls) -> type[BaseException]:
        return Cancelled

    @classmethod
    async def checkpoint(cls) -> None:
        await check_cancelled_here()
        await yield_now()

    @classmethod
    async def checkpoint_if_cancelled(cls) -> None:
        await check_cancelled_here()

    @classmethod
    async def cancel_shielded_checkpoint(cls) -> None:
        await Turn()

    @classmethod
    async def sleep(cls, delay: float) -> None:
        if delay != math.inf:
            await sleep(delay)
            return
        # Ctrl-C or a signal may be what it sleeps for: on anyio's other backends that is no deadlock.
        release = current_host().hold("anyio.sleep_forever")
        try:
            await sleep_forever()
        finally:
            release()

    # -- scopes and groups -----------------------------------------------------------------------------------------------

    @classmethod
    def create_cancel_scope(cls, *, deadline: float = math.inf, shield: bool = False) -> CancelScope:
        return CancelScope(deadline=deadline, shield=shield)

    @classmethod
    def current_effective_deadline(cls) -> float:
        return effective_deadline()

    @classmethod
    def create_task_group(cls) -> TaskGroup:
        return TaskGroup()

    # -- primitives ------------------------------------------------------------------------------------------------------

    @classmethod
    def create_event(cls) -> Event:
        return Event()

    @classmethod
    def create_lock(cls, *, fast_acquire: bool) -> Lock:
        return Lock(fast_acquire=fast_acquire)

    @classmethod
    def create_semaphore(
        cls, initial_value: int, *, max_value: int | None = None, fast_acquire: bool = False
    ) -> Semaphore:
        return Semaphore(initial_value, max_value=max_value, fast_acquire=fast_acquire)

    @classmethod
    def create_capacity_limiter(cls, total_tokens: float) -> CapacityLimiter:
        return CapacityLimiter(total_tokens)

    # -- threads ---------------------------------------------------------------------------------------------------------

    @classmethod
    async def run_sync_in_worker_thread(
        cls,
        func: Callable[..., T],
        args: tuple[Any, ...],
        abandon_on_cancel: bool = False,
        limiter: BaseCapacityLimiter | None = None,
    ) -> T:
        return await threads.run_in_thread(cls, func, args, abandon_on_cancel, limiter)

    @classmethod
    def check_cancelled(cls) -> None:
        threads.check_cancelled()

    @classmethod
    def run_async_from_thread(
        cls, func: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...], token: object
    ) -> T:
        return threads.call_async(func, args, token)

    @classmethod
    def run_sync_from_thread(cls, func: Callable[..., T], args: tuple[Any, ...], token: object) -> T:
        return threads.call_sync(func, args, token)

    @classmethod
    def run_sync_soon(cls, func: Callable[..., object], args: tuple[Any, ...], token: object) -> None:
        threads.call_soon(func, args, token)

    @classmethod
    def current_default_thread_limiter(cls) -> CapacityLimiter:
        return threads.default_limiter()

    # -- processes and signals -------------------------------------------------------------------------------------------

    @classmethod
    async def open_process(cls, command: Any, **options: Any) -> abc.Process:
        return await processes.open_process(command, options)

    @classmethod
    def setup_process_pool_exit_at_shutdown(cls, workers: set[abc.Process]) -> None:
        processes.kill_at_shutdown(workers)

    @classmethod
    def open_signal_receiver(cls, *signals: Signals) -> AbstractContextManager[AsyncIterator[Signals]]:
        return _SignalReceiver(open_signals(*signals))

    # -- sockets ---------------------------------------------------------------------------------------------------------

    @classmethod
    async def connect_tcp(cls, host: str, port: int, local_address: Any = None) -> abc.SocketStream:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if local_address:
                sock.bind(local_address)
        except BaseException:
            sock.close()
            raise
        return await sockets.connect(sock, (host, port), sockets.SocketStream)

    @classmethod
    async def connect_unix(cls, path: str | bytes, kind: Any = socket.SOCK_STREAM) -> abc.UNIXSocketStream:
        return await sockets.connect(socket.socket(socket.AF_UNIX, kind), path, sockets.UNIXSocketStream)

    @classmethod
    def create_tcp_listener(cls, sock: socket.socket) -> abc.SocketListener:
        return sockets.TCPListener(sock)

    @classmethod
    def create_unix_listener(cls, sock: socket.socket) -> abc.SocketListener:
        return sockets.UNIXListener(sock)

    @classmethod
    async def create_udp_socket(
        cls, family: socket.AddressFamily, local_address: Any, remote_address: Any, reuse_port: bool
    ) -> abc.UDPSocket | abc.ConnectedUDPSocket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if local_address:
                sock.bind(local_address)
            if remote_address:
                sock.connect(remote_address)  # of a datagram socket: it only notes the address
                return sockets.ConnectedUDPSocket(sock)
            return sockets.UDPSocket(sock)
        except BaseException:
            sock.close()
            raise

    @classmethod
    async def create_unix_datagram_socket(cls, raw_socket: socket.socket, remote_path: str | bytes | None) -> Any:
        if remote_path:
            return await sockets.connect(raw_socket, remote_path, sockets.ConnectedUNIXDatagramSocket)
        return sockets.UNIXDatagramSocket(raw_socket)

    @classmethod
    async def getaddrinfo(
        cls,
        host: bytes | str | None,
        port: str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Sequence[Any]:
        return await resolve(lambda: socket.getaddrinfo(host, port, family, type, proto, flags))

    @classmethod
    async def getnameinfo(cls, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        return await resolve(lambda: socket.getnameinfo(sockaddr, flags))

    @classmethod
    async def wait_readable(cls, obj: Any) -> None:
        await wait_ready(obj, False)

    @classmethod
    async def wait_writable(cls, obj: Any) -> None:
        await wait_ready(obj, True)

    @classmethod
    def notify_closing(cls, obj: Any) -> None:
        notify_closing(obj)

    @classmethod
    async def wrap_listener_socket(cls, sock: socket.socket) -> abc.SocketListener:
        return sockets.UNIXListener(sock) if sock.family == socket.AF_UNIX else sockets.TCPListener(sock)

    @classmethod
    async def wrap_stream_socket(cls, sock: socket.socket) -> abc.SocketStream:
        return sockets.SocketStream(sock)

    @classmethod
    async def wrap_unix_stream_socket(cls, sock: socket.socket) -> abc.UNIXSocketStream:
        return sockets.UNIXSocketStream(sock)

    @classmethod
    async def wrap_udp_socket(cls, sock: socket.socket) -> abc.UDPSocket:
        return sockets.UDPSocket(sock)

    @classmethod
    async def wrap_connected_udp_socket(cls, sock: socket.socket) -> abc.ConnectedUDPSocket:
        return sockets.ConnectedUDPSocket(sock)

    @classmethod
    async def wrap_unix_datagram_socket(cls, sock: socket.socket) -> abc.UNIXDatagramSocket:
        return sockets.UNIXDatagramSocket(sock)

    @classmethod
    async def wrap_connected_unix_datagram_socket(cls, sock: socket.socket) -> abc.ConnectedUNIXDatagramSocket:
        return sockets.ConnectedUNIXDatagramSocket(sock)

    # -- looking ---------------------------------------------------------------------------------------------------------

    @classmethod
    def get_current_task(cls) -> TaskInfo:
        return TaskInfo(current_task())

    @classmethod
    def get_running_tasks(cls) -> Sequence[TaskInfo]:
        return [TaskInfo(task) for task in running_tasks(current_host())]

    @classmethod
    async def wait_all_tasks_blocked(cls) -> None:
        await wait_all_blocked()

    @classmethod
    def create_test_runner(cls, options: Options) -> TestRunner:
        return TestRunner(options)


class _SignalReceiver(AbstractContextManager["_SignalReceiver"]):
    """Bateau's signals under anyio's interface: a context manager that is its own iterator."""

    def __init__(self, stream: SignalStream) -> None:
        self._stream = stream

    def __enter__(self) -> _SignalReceiver:
        self._stream.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._stream.__exit__(exc_type, exc_val, exc_tb)

    def __aiter__(self) -> _SignalReceiver:
        return self

    async def __anext__(self) -> Signals:
        return await self._stream.wait()


# The name under which anyio looks in a backend's module.
backend_class = cast("type[AsyncBackend]", BateauBackend)
