"""A runtime of one's own, in a page: bateau's engine over plain ``select.select``.

Nothing of bateau is edited. ``pyproject.toml`` beside this file registers it under the entry-point group
``bateau.runtimes``; after ``pip install .`` it is one of the names that ``bateau runtimes`` lists, and
``bateau.testing.conformance.check_runtime("toy")`` proves it.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from bateau.kernel.engine import Engine
from bateau.runtimes.base import Runtime
from bateau.runtimes.engine_session import EngineSession


class SelectDriver:
    """What the engine needs of the world outside: a clock, a poll, and a wake from other threads."""

    now = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}
        self.writers: dict[int, Callable[[], None]] = {}
        self.receiver, self.sender = socket.socketpair()
        self.receiver.setblocking(False)
        self.sender.setblocking(False)

    def wake(self) -> None:
        try:
            self.sender.send(b"!")
        except BlockingIOError:
            pass  # full of wakes already
        except OSError:
            pass  # closed: there is nobody to wake

    def poll(self, timeout: float | None) -> None:
        readable, writable, _ = select.select([self.receiver, *self.readers], [*self.writers], [], timeout)
        if self.receiver in readable:
            self.receiver.recv(4096)
        for table, ready in ((self.readers, readable), (self.writers, writable)):
            for fd in ready:
                if fd in table:
                    table[fd]()

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()


class ToyEngine(Engine):
    """The engine with descriptors. Everything else (tasks, scopes, cancellation, timers) is inherited."""

    def __init__(self) -> None:
        self.io = SelectDriver()
        super().__init__(self.io)
        self.name = "toy"

    def add_reader(self, fd: int, fn: Callable[[], None]) -> None:
        self.io.readers[fd] = fn

    def remove_reader(self, fd: int) -> None:
        self.io.readers.pop(fd, None)

    def add_writer(self, fd: int, fn: Callable[[], None]) -> None:
        self.io.writers[fd] = fn

    def remove_writer(self, fd: int) -> None:
        self.io.writers.pop(fd, None)

    def outside_waits(self) -> list[str]:
        return super().outside_waits() + [f"fd {fd}" for fd in (*self.io.readers, *self.io.writers)]

    def close(self) -> None:
        super().close()
        self.io.close()


class ToyRuntime(Runtime):
    """A toy: bateau's engine over select.select."""

    name = "toy"
    features = frozenset({"fds", "deadlock_detection", "nested_block_on"})

    def open(self) -> EngineSession:
        return EngineSession(ToyEngine())
