"""Waiting for descriptors on behalf of anyio: sockets of its own, and the bare ones of ``wait_readable``.

A descriptor has one registration with the loop, so there is one ``FdWatch`` for each, found by number in ``run_vars``. That of a
socket lives as long as the socket; one made for a bare descriptor only as long as somebody waits, because nobody tells us when it
is closed (and its number becomes a stranger's).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from anyio import BusyResourceError, ClosedResourceError

from ...io.fd import FdOperation, FdWatch, Side
from ...kernel.current import current_host
from ...kernel.errors import Closed
from ...kernel.host import Host

T = TypeVar("T")

_WATCHES = object()


class Attempt(FdOperation[T]):
    """A non-blocking call, made until it does not block. A cancellation point; cancelled, it had no effect."""

    __slots__ = ("call",)

    def __init__(self, watch: FdWatch, side: Side, call: Callable[[], T]) -> None:
        super().__init__(watch, side)
        self.call = call

    def poll(self) -> bool:
        try:
            self.value = self.call()
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def describe(self) -> str:
        return f"{'write' if self.side.write else 'read'} on {self.resource.describe()}"


def _watches(host: Host) -> WeakValueDictionary[int, FdWatch]:
    found: WeakValueDictionary[int, FdWatch] = host.run_vars.setdefault(_WATCHES, WeakValueDictionary[int, FdWatch]())
    return found


def watch_socket(sock: socket.socket) -> FdWatch:
    """The watch of a socket that is ours from now on."""
    watch = FdWatch(sock.fileno(), label=f"anyio socket {sock.fileno()}")
    _watches(current_host())[sock.fileno()] = watch
    return watch


def _number(obj: Any) -> int:
    return obj if isinstance(obj, int) else int(obj.fileno())


async def wait_ready(obj: Any, write: bool) -> None:
    """Wait until the descriptor (or what has one) is ready. Raises anyio's errors for one that is busy or being closed."""
    fd = _number(obj)
    watches = _watches(current_host())
    watch = watches.get(fd)
    if watch is None or watch.closed:
        watch = watches[fd] = _BareWatch(fd)
    side = watch.writing if write else watch.reading
    if side.waiters:
        raise BusyResourceError("writing to" if write else "reading from")
    try:
        await (watch.writable() if write else watch.readable())
    except Closed:
        raise ClosedResourceError from None
    finally:
        if isinstance(watch, _BareWatch) and not watch.closed and not watch.waiters():
            watch.close()


class _BareWatch(FdWatch):
    """A watch that exists only while somebody waits."""

    __slots__ = ()


def notify_closing(obj: Any) -> None:
    """The descriptor is about to be closed: whoever waits for it in ``wait_ready`` is told."""
    watch = _watches(current_host()).get(_number(obj))
    if isinstance(watch, _BareWatch):
        watch.close()
