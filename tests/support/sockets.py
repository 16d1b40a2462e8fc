"""The other end of a connection, in plain blocking Python: threads and sockets with nothing of bateau's in them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

TIMEOUT = 20.0  # seconds; a peer that waits longer fails the test instead of hanging it


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


class Hanging:
    """An address that never answers: a listener whose backlog is full drops what comes."""

    def __enter__(self) -> Any:
        self.socks = [socket.socket()]
        listening = self.socks[0]
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listening.getsockname())
            self.socks.append(sock)
        return listening.getsockname()

    def __exit__(self, *_: object) -> None:
        for sock in self.socks:
            sock.close()


class Peer:
    """One blocking function on a thread of its own; `result()` joins it and gives its value or its error."""

    def __init__(self, fn: Callable[[], Any]) -> None:
        self._fn = fn
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="test peer")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._fn()
        except BaseException as error:
            self._error = error

    def join(self) -> None:
        self._thread.join(TIMEOUT)

    def result(self) -> Any:
        self.join()
        assert not self._thread.is_alive(), "the peer did not come to its end"
        if self._error is not None:
            raise self._error
        return self._value


@contextmanager
def serving(
    talk: Callable[[socket.socket], Any], *, family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0)
) -> Iterator[Any]:
    """A server that accepts one connection and runs `talk(sock)` on it, in a thread; gives its address."""
    listening = socket.socket(family, socket.SOCK_STREAM)
    with listening:
        listening.settimeout(TIMEOUT)
        listening.bind(address)
        listening.listen()

        def run() -> Any:
            sock, _ = listening.accept()
            with sock:
                sock.settimeout(TIMEOUT)
                return talk(sock)

        peer = Peer(run)
        try:
            yield listening.getsockname()
        except BaseException:
            listening.shutdown(socket.SHUT_RDWR)  # if it still waits for its client, none will come
            raise
        finally:
            peer.join()
        peer.result()


def calling(address: Any, talk: Callable[[socket.socket], Any]) -> Peer:
    """A client that connects to `address` (a tuple or a path) and runs `talk(sock)`, in a thread."""

    def run() -> Any:
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(address)
            return talk(sock)

    return Peer(run)


def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the other side's end."""
    parts: list[bytes] = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def free_port(host: str = "127.0.0.1", kind: int = socket.SOCK_STREAM) -> int:
    """A port where nobody listens (now)."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port
