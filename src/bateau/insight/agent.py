"""The agent: a thread of the program's own process that answers what tools ask, also while the loop is blocked.

It listens on a Unix socket that only the program's user can open (a directory of mode 0700, the socket 0600, and the peer's user
checked), and, if asked, on a port of the loopback interface, where each client must first show a token.

What a client can cost the program is bounded. There are at most ``MOST_CLIENTS``; each has at most one answer under way, and none of
its requests is read before that is sent; requests are at most 64 KiB; who does not read, or does not finish what it sends, is thrown
out. Snapshots take at most a fifth of the time: after one that took a second of this thread's time the next begins four seconds
later. All sockets are non-blocking, and the program's threads never wait for this one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .model import InsightError
from .peer import Peer
from .protocol import make_directory, sweep

MOST_CLIENTS = 16
# The share of one thread's time that snapshots may take is 1 / (1 + REST).
REST = 4.0

_agent: Agent | None = None
_lock = threading.Lock()


def init(*, port: int | None = None, token: str | None = None, unix: bool = True, control: bool = True) -> Agent:
    """Start this process's agent, or return the one that runs. For tools: ``bateau dump PID``, ``bateau console PID``.

    ``port``: listen on this port of 127.0.0.1 as well (0: one that is free, see ``Agent.port``); its clients need ``token`` (by
    default the environment's ``BATEAU_INSIGHT_TOKEN``, else a random one, see ``Agent.token``). ``unix=False``: no Unix socket.
    ``control=False``: clients may look, and not cancel, stop or wake anything. Costs one thread, which sleeps until somebody asks.
    A forked child has no agent until it calls this itself. Raises ``InsightError`` if no private place for the socket can be found,
    ``OSError`` if the port is taken, ``ValueError`` for an agent with neither.
    """
    global _agent
    with _lock:
        if _agent is not None and _agent.is_alive():
            if port is not None and _agent.port is None:
                raise InsightError(
                    "the agent of this process runs already, without a port; give the port to the first init()"
                )
            return _agent
        _agent = Agent(port=port, token=token, unix=unix, control=control)
        return _agent


def running() -> Agent | None:
    """This process's agent, if it runs."""
    return _agent if _agent is not None and _agent.is_alive() else None


class Agent:
    """See the module's head. Made by ``init``; ``close`` ends it, and the end of the process does."""

    def __init__(self, *, port: int | None, token: str | None, unix: bool, control: bool) -> None:
        if port is None and not unix:
            raise ValueError("an agent needs a Unix socket or a port: init(unix=False) alone leaves nobody a way in")
        self.control = control
        self.path: str | None = None
        self.port: int | None = None
        self.token = token or os.environ.get("BATEAU_INSIGHT_TOKEN") or secrets.token_urlsafe(24)
        self._pid = os.getpid()
        self._ended = False
        self.selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Held to write to the pipe and to close it: between the two its number may become somebody else's, who would be sent our byte.
        self._waking = threading.Lock()
        self.selector.register(self._wake_in, selectors.EVENT_READ, self._woken)
        self._listeners: list[socket.socket] = []
        # What other threads have for this one to do.
        self._inbox: deque[Callable[[], None]] = deque()
        self.clients: dict[int, Peer] = {}
        # Clients that wait for a snapshot, and what to do with it.
        self._wanted: deque[tuple[Peer, Callable[[], None]]] = deque()
        self._free_at = 0.0
        self._reader: Any = None
        try:
            if unix:
                self._listen_unix()
            if port is not None:
                self._listen_port(port)
        except BaseException:  # an interrupt as well: nobody else has what was opened so far
            self._close_all()
            raise
        self._thread = threading.Thread(target=self._run, name="bateau-insight", daemon=True)
        self._thread.start()

    # -- listening -------------------------------------------------------------------------------------------------------

    def _listen_unix(self) -> None:
        directory = make_directory()
        sweep(directory)
        path = os.path.join(directory, f"{self._pid}.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of a process that died and had our number: the directory is ours alone
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listeners.append(listener)
        listener.bind(path)
        self.path = path
        os.chmod(path, 0o600)
        self._listen(listener, trusted=True)

    def _listen_port(self, port: int) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listeners.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        self.port = listener.getsockname()[1]
        self._listen(listener, trusted=False)

    def _listen(self, listener: socket.socket, *, trusted: bool) -> None:
        listener.listen(16)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener, trusted))

    def _accept(self, listener: socket.socket, trusted: bool) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # it has gone again, or we are out of descriptors: the next one may succeed
        if len(self.clients) >= MOST_CLIENTS or (trusted and not _is_ours(connection)):
            connection.close()
            return
        connection.setblocking(False)
        client = Peer(self, connection, trusted)
        self.clients[connection.fileno()] = client
        self.selector.register(connection, selectors.EVENT_READ, client.on_event)

    # -- the thread ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ended:
                events = self.selector.select(self._timeout())
                for key, _ in events:
                    if not self._ended:
                        key.data()
                while self._inbox:
                    self._inbox.popleft()()
                self._look_after()
        finally:
            self._close_all()

    def _timeout(self) -> float | None:
        now = time.monotonic()
        times = [client.until() for client in self.clients.values()]
        if self._wanted:
            times.append(self._free_at)
        nearest = min((each for each in times if each is not None), default=None)
        return None if nearest is None else max(0.0, nearest - now)

    def _look_after(self) -> None:
        """Throw out who is too slow, ask again for who subscribed, take one snapshot that is due."""
        now = time.monotonic()
        for client in tuple(self.clients.values()):
            client.tick(now)
        if self._wanted and now >= self._free_at:
            client, make = self._wanted.popleft()
            if not client.closed:
                before = time.thread_time()
                client.guarded(make)
                self._free_at = time.monotonic() + REST * (time.thread_time() - before)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_in, 4096)

    def call(self, fn: Callable[[], None]) -> None:
        """From any thread: have ``fn`` called on the agent's."""
        self._inbox.append(fn)
        with self._waking, contextlib.suppress(BlockingIOError):  # full means awake already
            if self._wake_out >= 0:
                os.write(self._wake_out, b"x")

    def want(self, client: Peer, make: Callable[[], None]) -> None:
        """Take a snapshot when it is due."""
        self._wanted.append((client, make))

    @property
    def reader(self) -> Any:
        """The reader, which remembers what it saw last."""
        if self._reader is None:
            from .collect import LiveReader

            self._reader = LiveReader()
        return self._reader

    # -- the end ---------------------------------------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Whether it runs in this very process: a forked child has only its copy."""
        return self._pid == os.getpid() and not self._ended

    def close(self) -> None:
        """End the agent: its thread, its clients, its socket file. Idempotent; from any thread but its own."""
        if not self.is_alive():
            return
        self._ended = True
        self.call(_nothing)
        self._thread.join()

    def _close_all(self) -> None:
        self._ended = True
        for client in tuple(self.clients.values()):
            client.close()
        for listener in self._listeners:
            listener.close()
        self.selector.close()
        with self._waking:
            for fd in (self._wake_in, self._wake_out):
                os.close(fd)
            self._wake_in = self._wake_out = -1
        if self.path is not None and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def forget(self) -> None:
        """In a forked child: give back the parent's descriptors, and leave its socket file alone."""
        self._ended = True
        self._waking = threading.Lock()  # the parent's may have been held by a thread that is not here
        if self._wake_in == -1:
            return  # it was closed before: its descriptors' numbers are somebody else's by now
        for client in tuple(self.clients.values()):
            client.connection.close()
        for listener in self._listeners:
            listener.close()
        with contextlib.suppress(OSError, ValueError, KeyError):
            self.selector.close()
        for fd in (self._wake_in, self._wake_out):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._wake_in = self._wake_out = -1


def _nothing() -> None:
    """To wake the thread."""


def _in_child() -> None:
    global _agent, _lock
    _lock = threading.Lock()  # the parent's may have been held by a thread that is not here
    if _agent is not None:
        agent, _agent = _agent, None
        agent.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _at_exit() -> None:
    if _agent is not None:
        _agent.close()


atexit.register(_at_exit)


def _is_ours(connection: socket.socket) -> bool:
    """Whether the peer is the program's own user, or root. The file's mode says so already, where the system heeds it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", data)
    return uid in (os.getuid(), os.geteuid(), 0)
