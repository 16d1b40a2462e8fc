"""The attempt to make a TCP connection: what goes to the other host and back until both ends have it, or it has failed.

The last part of it (the client's ACK) travels as the first segment of the new connection: ``flow.HELLO``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..timeline import Event
    from .addresses import Endpoint
    from .links import Link
    from .tcp import TcpSocket

# Seconds after the first SYN when it is sent again, and when nobody waits for the answer any more.
RETRIES, GIVE_UP = (1.0, 3.0, 7.0, 15.0, 31.0, 63.0), 127.0


class Attempt:
    """One per ``connect``, until it is decided. Invariant: ``event`` is the next thing to happen; ``child`` is the other end, between
    the arrival of the SYN there and that of the answer here.
    """

    __slots__ = ("child", "event", "number", "remote", "sock", "started", "world")

    def __init__(self, sock: TcpSocket, remote: Endpoint) -> None:
        self.sock = sock
        self.remote = remote
        self.world = sock.world
        self.started = sock.world.now
        self.number = 0
        self.event: Event | None = None
        self.child: TcpSocket | None = None

    def begin(self) -> None:
        """Ask for the connection for the first time. On the same host it is decided at once, unless the backlog is full."""
        sock = self.sock
        if sock.stack.network.reach(sock.host, self.remote.ip) is sock.host:
            self.ask_here()
        else:
            self.ask()

    def stop(self) -> None:
        """Nobody waits for it any more."""
        if self.event is not None:
            self.event.cancel()
        child, self.child = self.child, None
        if child is not None:
            child.abandon()

    def ask_here(self) -> None:
        """Within one host."""
        sock = self.sock
        listener = sock.stack.listener(self.remote)
        if listener is None:
            self._refused()
        elif listener.is_full():
            self._silence(self.ask_here)
        else:
            link = sock.stack.network.link(sock.host, sock.host)
            sock.join(listener.new_child(sock), link, link)

    def ask(self) -> None:
        """Send the SYN, perhaps again."""
        sock, world = self.sock, self.world
        network = sock.stack.network
        host = network.reach(sock.host, self.remote.ip)
        if host is None:
            self._silence(self.ask)
            return
        link = network.link(sock.host, host)
        tell = f"{sock.host.name} connects to {host.name}:{self.remote.port} in vain"
        if link.probability("refuse") > 0 and link.happens("refuse", tell):
            if not world.choose(f"silent {link.name}", 2):
                self.event = world.after(2 * link.delay(), self._refused)
            else:
                self.number = len(RETRIES)
                self._silence(self.ask)
        elif link.cut:
            self._silence(self.ask)
        else:
            self.event = world.after(link.delay(40), self._arrived, link)

    def _arrived(self, link: Link) -> None:
        """The SYN is there."""
        sock = self.sock
        network = sock.stack.network
        back = network.link(link.dst, link.src)
        if not link.works or back.cut:
            self._silence(self.ask)
            return
        listener = network.stack(link.dst).listener(self.remote)
        if listener is None:
            self.event = self.world.after(back.delay(40), self._refused)
        elif listener.is_full():
            self._silence(self.ask)
        else:
            self.child = listener.new_child(sock)
            self.event = self.world.after(back.delay(40), self._answered, link, back)

    def _answered(self, link: Link, back: Link) -> None:
        child, self.child = self.child, None
        assert child is not None
        if back.cut:
            child.abandon()
            self._silence(self.ask)
        else:
            self.sock.join(child, link, back)

    def _refused(self) -> None:
        self.sock.failed(errno.ECONNREFUSED)

    def _silence(self, again: Callable[[], None]) -> None:
        """It led nowhere, and nobody says so: try again when it is time."""
        limit = self.sock.user_timeout() or GIVE_UP
        number = self.number
        self.number += 1
        if number < len(RETRIES) and RETRIES[number] < limit:
            self.event = self.world.at(self.started + RETRIES[number], again)
        else:
            self.event = self.world.at(self.started + limit, self.sock.failed, errno.ETIMEDOUT)
