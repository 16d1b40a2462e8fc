"""One host's end of the network: which of its ports and names are taken, and by whom."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeVar

from ..fds import failure
from .addresses import ANY4, ANY6, Endpoint, is_any, is_loopback, is_multicast, is_v6

if TYPE_CHECKING:
    from ..host import SimHost
    from .network import Network
    from .tcp import TcpSocket
    from .udp import UdpSocket
    from .unixnames import UnixNames

T = TypeVar("T")

FIRST_FREE_PORT, LAST_FREE_PORT = 32768, 60999
# Seconds for which the side that closed first keeps its port, so that what is still on its way finds nobody new.
TIME_WAIT = 60.0


class Past:
    """A connection that has ended on this host's initiative: until ``until`` its port is not quite free."""

    __slots__ = ("ip", "reuse", "until")

    def __init__(self, ip: str, reuse: bool, until: float) -> None:
        self.ip = ip
        self.reuse = reuse
        self.until = until


class Stack:
    """What the kernel of one host knows about its network.

    Invariants: ``tcp`` and ``udp`` hold every socket that has a port, under it. ``connections`` holds every end of a TCP connection that
    may still be told something. ``past`` holds what is in TIME_WAIT, by port; what is over is sorted out when asked.
    """

    def __init__(self, network: Network, host: SimHost) -> None:
        self.network = network
        self.world = network.world
        self.host = host
        self.tcp: dict[int, dict[TcpSocket, None]] = {}
        self.udp: dict[int, dict[UdpSocket, None]] = {}
        self.connections: dict[TcpSocket, None] = {}
        self.past: dict[int, list[Past]] = {}
        # Who has joined which group.
        self.groups: dict[str, dict[UdpSocket, None]] = {}
        self._unix: UnixNames | None = None
        self._next_port = FIRST_FREE_PORT
        self._turn = 0

    @property
    def unix(self) -> UnixNames:
        """The names of Unix sockets here."""
        if self._unix is None:
            from .unixnames import UnixNames

            self._unix = UnixNames(self)
        return self._unix

    # -- addresses -------------------------------------------------------------------------------------------------------

    def has_address(self, ip: str) -> bool:
        """Whether a socket of this host may be bound to ``ip``."""
        return is_any(ip) or is_loopback(ip) or ip in self.network.addresses_of(self.host)

    def source_for(self, ip: str) -> str:
        """The address of this host that what goes to ``ip`` comes from. Raises ``OSError`` (ENETUNREACH)."""
        own = self.network.addresses_of(self.host)
        if is_loopback(ip) or ip in own:
            return "127.0.0.1" if ip.startswith("127.") else ip
        for found in own:
            if is_v6(found) == is_v6(ip):
                return found
        raise failure(errno.ENETUNREACH)

    # -- ports -----------------------------------------------------------------------------------------------------------

    def bind_tcp(self, sock: TcpSocket, endpoint: Endpoint) -> Endpoint:
        """Give ``sock`` the port (0: a free one). Raises ``OSError`` (EADDRINUSE, EADDRNOTAVAIL)."""
        ip, port = endpoint
        if not self.has_address(ip):
            raise failure(errno.EADDRNOTAVAIL)
        if port == 0:
            port = self._free_port(self.tcp)
        else:
            self.check_tcp(sock, Endpoint(ip, port))
        self.tcp.setdefault(port, {})[sock] = None
        return Endpoint(ip, port)

    def check_tcp(self, sock: TcpSocket, endpoint: Endpoint) -> None:
        """Raise ``OSError`` (EADDRINUSE) if another socket than ``sock`` is in its way."""
        ip, port = endpoint
        v6only = sock.v6only
        for other in self.tcp.get(port, ()):
            if other is sock or other.local is None or not overlap(ip, v6only, other.local.ip, other.v6only):
                continue
            if sock.reuse_port and other.reuse_port:
                continue
            if sock.reuse_address and other.reuse_address and not other.listening:
                continue
            raise failure(errno.EADDRINUSE)
        if sock.listening:
            return
        for past in self._past_of(port):
            if overlap(ip, v6only, past.ip, False) and not (sock.reuse_address and past.reuse) and not sock.reuse_port:
                raise failure(errno.EADDRINUSE)

    def bind_udp(self, sock: UdpSocket, endpoint: Endpoint) -> Endpoint:
        """As ``bind_tcp``."""
        ip, port = endpoint
        if not self.has_address(ip) and not is_multicast(ip) and ip != "255.255.255.255":
            raise failure(errno.EADDRNOTAVAIL)
        if port == 0:
            port = self._free_port(self.udp)
        for other in self.udp.get(port, ()):
            if other.local is None or not overlap(ip, sock.v6only, other.local.ip, other.v6only):
                continue
            if sock.reuse_port and other.reuse_port or sock.reuse_address and other.reuse_address:
                continue
            raise failure(errno.EADDRINUSE)
        self.udp.setdefault(port, {})[sock] = None
        return Endpoint(ip, port)

    def leave_tcp(self, sock: TcpSocket, port: int) -> None:
        """``sock`` has no port any more."""
        _leave(self.tcp, sock, port)

    def leave_udp(self, sock: UdpSocket, port: int) -> None:
        """As ``leave_tcp``."""
        _leave(self.udp, sock, port)

    def rest(self, endpoint: Endpoint, reuse: bool) -> None:
        """A connection of this port was ended from here."""
        self._past_of(endpoint.port).append(Past(endpoint.ip, reuse, self.world.now + TIME_WAIT))

    def _past_of(self, port: int) -> list[Past]:
        now = self.world.now
        found = self.past[port] = [past for past in self.past.get(port, ()) if past.until > now]
        return found

    def _free_port(self, table: dict[int, dict[TcpSocket, None]] | dict[int, dict[UdpSocket, None]]) -> int:
        for _ in range(LAST_FREE_PORT - FIRST_FREE_PORT + 1):
            port = self._next_port
            self._next_port = port + 1 if port < LAST_FREE_PORT else FIRST_FREE_PORT
            if port not in table:
                return port
        raise failure(errno.EADDRINUSE)

    # -- who gets what arrives -------------------------------------------------------------------------------------------

    def listener(self, to: Endpoint) -> TcpSocket | None:
        """The socket that listens for connections to ``to``; of several that share the port (SO_REUSEPORT) each in turn."""
        best: list[TcpSocket] = []
        score = 0
        for sock in self.tcp.get(to.port, ()):
            if sock.listening and sock.local is not None:
                fits = match(sock.local.ip, sock.v6only, to.ip)
                if fits > score:
                    best, score = [sock], fits
                elif fits and fits == score:
                    best.append(sock)
        if not best:
            return None
        self._turn += 1
        return best[self._turn % len(best)]

    def receiver(self, to: Endpoint, source: Endpoint) -> UdpSocket | None:
        """The socket that gets a datagram; the last that was bound, where several could."""
        best: UdpSocket | None = None
        score = 0
        for sock in self.udp.get(to.port, ()):
            assert sock.local is not None
            fits = match(sock.local.ip, sock.v6only, to.ip)
            if sock.remote is not None:
                fits = fits + 2 if fits and sock.remote == source else 0
            if fits and fits >= score:
                best, score = sock, fits
        return best

    def group_receivers(self, to: Endpoint) -> list[UdpSocket]:
        """The sockets that get what was sent to a group, or to everybody."""
        joined = self.groups.get(to.ip)
        return [
            sock
            for sock in self.udp.get(to.port, ())
            if (joined is None or sock in joined) and sock.local is not None and sock.local.ip in (to.ip, ANY4, ANY6)
        ]

    def join(self, sock: UdpSocket, group: str) -> None:
        """``sock`` gets what is sent to ``group`` from now on."""
        members = self.groups.setdefault(group, {})
        if sock in members:
            raise failure(errno.EADDRINUSE)
        members[sock] = None

    def leave_group(self, sock: UdpSocket, group: str) -> None:
        """Undo ``join``."""
        members = self.groups.get(group, {})
        if sock not in members:
            raise failure(errno.EADDRNOTAVAIL)
        del members[sock]
        if not members:
            del self.groups[group]

    def leave_groups(self, sock: UdpSocket) -> None:
        """``sock`` is closed."""
        for group in [group for group, members in self.groups.items() if sock in members]:
            self.leave_group(sock, group)

    # -- trouble ---------------------------------------------------------------------------------------------------------

    def path_changed(self) -> None:
        """Something that this host could reach may be out of reach now."""
        for end in tuple(self.connections):
            end.path_changed()

    def reset_connections(self, other: SimHost) -> int:
        """Reset every connection with ``other``; how many there were."""
        ends = [end for end in self.connections if end.peer is not None and end.peer.host is other]
        for end in ends:
            end.reset_both()
        return len(ends)

    def crashed(self) -> None:
        """The host has lost power: it knows nothing any more, and tells nobody."""
        ends = tuple(dict.fromkeys((*self.connections, *(sock for holders in self.tcp.values() for sock in holders))))
        for end in ends:
            end.lose()
        self.connections.clear()
        self.tcp.clear()
        self.udp.clear()
        self.groups.clear()
        self.past.clear()
        if self._unix is not None:
            self._unix.clear()
        for end in ends:
            if end.peer is not None:
                end.peer.path_changed()


def _leave(table: dict[int, dict[T, None]], sock: T, port: int) -> None:
    holders = table.get(port)
    if holders is not None:
        holders.pop(sock, None)
        if not holders:
            del table[port]


def overlap(ip: str, v6only: bool, other: str, other_v6only: bool) -> bool:
    """Whether two sockets on one port, bound to these, would both be meant by some address."""
    if ip == other:
        return True
    if ip == ANY6:
        return is_v6(other) or not v6only
    if other == ANY6:
        return is_v6(ip) or not other_v6only
    if ip == ANY4:
        return not is_v6(other)
    return other == ANY4 and not is_v6(ip)


def match(bound: str, v6only: bool, ip: str) -> int:
    """How well a socket bound to ``bound`` fits what was sent to ``ip``: 0 not at all, the more the better."""
    if bound == ip:
        return 3
    if bound == ANY4:
        return 0 if is_v6(ip) else 2
    if bound == ANY6:
        return 1 if is_v6(ip) or not v6only else 0
    return 0
