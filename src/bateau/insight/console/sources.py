"""Where the console's snapshots come from: an agent, another process's memory, a file. One interface for all.

A source is read on a thread of the console's; nothing here knows of the screen.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from ..attaching import NotReached, attach
from ..client import Client, NoAgent, connect
from ..model import InsightError, Reader, ReadError, Snapshot, Want
from ..schema import from_json

T = TypeVar("T")
Verb = Literal["cancel", "stop", "wake"]
# Seconds that a scope has to come to its end when it is stopped by hand.
STOP_GRACE = 10.0


class Source(Protocol):
    """What the console shows. ``acts``: whether the program can be acted upon; ``live``: whether it changes."""

    name: str
    acts: bool
    live: bool

    def read(self, want: Want | None = None) -> Snapshot:
        """Take a snapshot; may block. Raises ``InsightError``."""
        ...

    def act(self, verb: Verb, number: int) -> str:
        """Cancel a task, stop a scope, wake a task; returns what was done, in words. Raises ``InsightError``."""
        ...

    def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


class ReaderSource:
    """Anything that can be read, and not acted upon."""

    acts = False

    def __init__(self, name: str, reader: Reader, *, live: bool = True) -> None:
        self.name = name
        self.live = live
        self._reader = reader

    def read(self, want: Want | None = None) -> Snapshot:
        """Take a snapshot."""
        return self._reader.read(want)

    def act(self, verb: Verb, number: int) -> str:
        """Not possible."""
        raise InsightError(
            f"{self.name} can only be looked at: to {verb} something, the program must run an agent (bateau.insight.init(), or bateau run)"
        )

    def close(self) -> None:
        """Nothing to let go of."""


class FileReader:
    """A snapshot in a file, as ``bateau dump --json`` writes it, or a core file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, want: Want | None = None) -> Snapshot:
        """Read the file. Raises ``ReadError`` where it can't be, ``SchemaError`` where it is neither."""
        try:
            with self._path.open("rb") as file:
                if file.peek(4)[:4] != b"\x7fELF":
                    return from_json(file.read())
        except OSError as error:
            raise ReadError(f"{self._path} can't be read: {error}") from error
        from ..memory import read_core

        return read_core(str(self._path), want)


class MemoryReader:
    """The memory of a process in which no agent answers. ``pid``: its number."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def read(self, want: Want | None = None) -> Snapshot:
        """Read it, without stopping it."""
        from ..memory import read_process

        return read_process(self._pid, want)


class AgentSource:
    """A program whose agent answers: it can be acted upon, and counts for us what its tasks do.

    A connection that breaks is made anew with the next snapshot, so that an agent that was slow once is not lost.
    """

    acts = True
    live = True

    def __init__(self, name: str, connect: Callable[[], Client]) -> None:
        self.name = name
        self._connect = connect
        # Snapshots and actions come from two threads.
        self._turn = threading.Lock()
        self._client: Client | None = connect()
        self._count()

    def read(self, want: Want | None = None) -> Snapshot:
        """Take a snapshot."""
        return self._with_client(lambda client: client.read(want))

    def act(self, verb: Verb, number: int) -> str:
        """Cancel, stop, wake."""

        def do(client: Client) -> str:
            if verb == "cancel":
                client.cancel(number, "cancelled from the console")
                return "it is being cancelled"
            if verb == "wake":
                client.wake(number)
                return "it was woken"
            client.stop(number, STOP_GRACE, "stopped from the console")
            return f"it was asked to stop; in {STOP_GRACE:g} s it is cancelled"

        return self._with_client(do)

    def close(self) -> None:
        """Hang up."""
        with self._turn:
            client, self._client = self._client, None
            if client is not None:
                client.close()

    def _count(self) -> None:
        assert self._client is not None
        with contextlib.suppress(InsightError):  # an older agent: then there are no counters to show
            self._client.count()

    def _with_client(self, do: Callable[[Client], T]) -> T:
        with self._turn:
            if self._client is None:
                self._client = self._connect()
                self._count()
            try:
                return do(self._client)
            except NoAgent:
                self._client.close()
                self._client = None
                raise


def find_source(target: str, *, attached: bool = False) -> Source:
    """What ``target`` means: a process id, the path of an agent's socket, ``host:port`` or ``:port``, or a file that ``bateau dump --json``
    wrote. A process without an agent is read from its memory; or, if it is to be ``attached``, given one.

    Raises ``InsightError``, which says what was tried.
    """
    path = Path(target)
    host, colon, port = target.rpartition(":")
    if target.isdecimal():
        return _attached(int(target)) if attached else _process(int(target))
    if path.is_socket():
        return AgentSource(path.name, partial(connect, path=target))
    if path.is_file():
        return ReaderSource(path.name, FileReader(path), live=False)
    if colon and port.isdecimal() and host in ("", "localhost", "127.0.0.1"):
        return AgentSource(f"port {port}", partial(connect, port=int(port)))
    if colon and port.isdecimal():
        raise ReadError(
            f"{target!r}: agents listen on the loopback interface only; forward the port (ssh -L {port}:127.0.0.1:{port} {host}) and use :{port}"
        )
    raise ReadError(
        f"{target!r} is no process id, no socket, no port (:9000) and no file; name one of these, such as the number that `ps` shows"
    )


def _process(pid: int) -> Source:
    if _is_gone(pid):
        raise ReadError(f"there is no process {pid}")
    try:
        return AgentSource(f"process {pid}", partial(_connect, pid))
    except NoAgent:
        return ReaderSource(f"process {pid} (read from its memory)", MemoryReader(pid))


def _attached(pid: int) -> Source:
    if _is_gone(pid):
        raise ReadError(f"there is no process {pid}")
    try:
        return AgentSource(f"process {pid}", partial(attach, pid))
    except NotReached:
        return ReaderSource(
            f"process {pid} (read from its memory: it does not come to start an agent)", MemoryReader(pid)
        )


def _connect(pid: int) -> Client:
    """Its agent, or why there is none (any more)."""
    try:
        return connect(pid)
    except NoAgent:
        if _is_gone(pid):
            raise ReadError(f"process {pid} has ended") from None
        raise


def _is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}") and os.path.exists("/proc/self")
