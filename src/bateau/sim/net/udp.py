"""UDP sockets: datagrams that may be lost, doubled and overtaken on their way."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from ..fds import ERR, HUP, IN, OUT, RDHUP, SimFile, failure
from .addresses import BROADCAST, Endpoint, is_any, is_multicast, to_python
from .inet import InetFile
from .socketfile import PEEK, TRUNC, Received

if TYPE_CHECKING:
    from ..host import SimHost
    from ..process import Process
    from .links import Link

MAX_DATAGRAM = 65_507
# What a datagram takes of the receive buffer besides its bytes, so that many empty ones fill it too.
OVERHEAD = 512
_MEMBERSHIP = {
    (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP): True,
    (socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP): False,
    (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP): True,
    (socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP): False,
}


class UdpSocket(InetFile):
    """A UDP socket. Invariant: ``held`` is what ``datagrams`` take of the receive buffer; what does not fit is dropped."""

    kind = "udp"

    def __init__(self, process: Process, family: int, proto: int = 0) -> None:
        super().__init__(process, family, socket.SOCK_DGRAM, proto)
        self.datagrams: deque[tuple[bytes, Endpoint]] = deque()
        self.held = 0
        self.no_receive = self.no_send = False
        # Whether the address it sends from was given, or chosen by ``connect``.
        self._bound = False

    def mask(self) -> int:
        mask = OUT
        if self.datagrams:
            mask |= IN
        if self.no_receive:
            mask |= IN | RDHUP | (HUP if self.no_send else 0)
        if self.error:
            mask |= ERR
        return mask

    def describe(self) -> str:
        return f"UDP {self.host.name}:{self.local.port if self.local is not None else 0}"

    # -- names -----------------------------------------------------------------------------------------------------------

    def bind(self, address: Any) -> None:
        if self.local is not None:
            raise failure(errno.EINVAL)
        self.local = self.stack.bind_udp(self, address)
        self.bound_to(self.local)
        self._bound = True

    def connect(self, address: Any) -> None:
        if address is None:  # AF_UNSPEC: talk to anybody again
            self.remote = None
            return
        remote: Endpoint = address
        if is_any(remote.ip):
            remote = Endpoint("::1" if ":" in remote.ip else "127.0.0.1", remote.port)
        source = remote.ip if is_multicast(remote.ip) else self.stack.source_for(remote.ip)
        self._autobind()
        assert self.local is not None
        if is_any(self.local.ip) or not self._bound:
            self.local = Endpoint(source, self.local.port)
        self.remote = remote

    def _autobind(self) -> None:
        if self.local is None:
            self.local = self.stack.bind_udp(self, self.any_endpoint())

    def getpeername(self) -> Any:
        if self.remote is None:
            raise failure(errno.ENOTCONN)
        return to_python(self.family, self.remote)

    # -- sending ---------------------------------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0, address: Any = None, rights: list[SimFile] | None = None) -> int:
        self._autobind()
        if self.no_send:
            raise failure(errno.EPIPE)
        to: Endpoint | None = address if address is not None else self.remote
        if to is None:
            raise failure(errno.EDESTADDRREQ)
        payload = bytes(data)
        if len(payload) > MAX_DATAGRAM:
            raise failure(errno.EMSGSIZE)
        if to.port == 0:
            raise failure(errno.EINVAL)
        if self.remote is not None:
            self.take_error()
        self._send_to(payload, to)
        return len(payload)

    def _send_to(self, payload: bytes, to: Endpoint) -> None:
        network = self.stack.network
        if to.ip == BROADCAST:
            if not self.option(socket.SOL_SOCKET, socket.SO_BROADCAST):
                raise failure(errno.EACCES)
            hosts: list[SimHost] = list(self.world.hosts.values())
        elif is_multicast(to.ip):
            hosts = [host for host in self.world.hosts.values() if to.ip in network.stack(host).groups]
        else:
            if is_any(to.ip):
                to = Endpoint("::1" if ":" in to.ip else "127.0.0.1", to.port)
            found = network.reach(self.host, to.ip)
            hosts = [found] if found is not None else []
        source = self._source(to)
        for host in hosts:
            if host is self.host:
                self._deliver(host, payload, source, to)
            else:
                self._travel(network.link(self.host, host), payload, source, to)

    def _source(self, to: Endpoint) -> Endpoint:
        assert self.local is not None
        if not is_any(self.local.ip):
            return self.local
        if to.ip == BROADCAST or is_multicast(to.ip):
            own = [ip for ip in self.stack.network.addresses_of(self.host) if (":" in ip) == (":" in to.ip)]
            if not own:
                raise failure(errno.ENETUNREACH)
            return Endpoint(own[0], self.local.port)
        return Endpoint(self.stack.source_for(to.ip), self.local.port)

    def _travel(self, link: Link, payload: bytes, source: Endpoint, to: Endpoint) -> None:
        world = self.world
        delay = link.delay(len(payload) + 28)
        what = f"a datagram of {len(payload)} bytes from {link.src.name} to {link.dst.name}"
        if link.cut:
            return
        ask = link.probability
        if ask("loss") > 0 and link.happens("loss", f"{what} is lost"):
            return
        if ask("reorder") > 0 and link.happens("reorder", f"{what} comes late"):
            delay += link.random.uniform(1, 5) * link.quality.latency.most
        world.after(delay, self._arrive, link, payload, source, to)
        if ask("duplicate") > 0 and link.happens("duplicate", f"{what} comes twice"):
            world.after(delay + link.delay(), self._arrive, link, payload, source, to)

    def _arrive(self, link: Link, payload: bytes, source: Endpoint, to: Endpoint) -> None:
        if link.works:
            self._deliver(link.dst, payload, source, to)

    def _deliver(self, host: SimHost, payload: bytes, source: Endpoint, to: Endpoint) -> None:
        stack = self.stack.network.stack(host)
        if to.ip == BROADCAST or is_multicast(to.ip):
            for sock in stack.group_receivers(to):
                sock.arrived(payload, source)
            return
        receiver = stack.receiver(to, source)
        if receiver is not None:
            receiver.arrived(payload, source)
        elif host is self.host:
            self._nobody_there(to)
        else:
            back = self.stack.network.link(host, self.host)
            if not back.cut:
                self.world.after(back.delay(), self._nobody_there, to)

    def _nobody_there(self, to: Endpoint) -> None:
        """The other host says that nobody has that port; only a connected socket is told."""
        if self.remote == to and not self.closed:
            self.error = errno.ECONNREFUSED
            self.changed()

    # -- receiving -------------------------------------------------------------------------------------------------------

    def arrived(self, payload: bytes, source: Endpoint) -> None:
        """A datagram for this socket."""
        if self.no_receive:
            return
        if self.held + len(payload) > self.receive_buffer:
            text = f"{self.describe()} is full: a datagram of {len(payload)} bytes is dropped"
            self.world.trace("net", text, host=self.host.name, actor=self.process.name)
            return
        self.held += len(payload) + OVERHEAD
        self.datagrams.append((payload, source))
        self.changed()

    def receive_message(self, size: int, flags: int = 0) -> Received:
        self.take_error()
        if not self.datagrams:
            if self.no_receive and self.blocking:  # one that does not wait looks no further
                return b"", [], 0, None
            raise failure(errno.EAGAIN)
        payload, source = self.datagrams[0]
        if not flags & PEEK:
            self.datagrams.popleft()
            self.held -= len(payload) + OVERHEAD
        told = TRUNC if len(payload) > size else 0
        return payload[:size], [], told, to_python(self.family, source)

    def waiting(self) -> int:
        return len(self.datagrams[0][0]) if self.datagrams else 0

    # -- groups ----------------------------------------------------------------------------------------------------------

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        join = _MEMBERSHIP.get((level, name))
        if join is None:
            super().setsockopt(level, name, value)
            return
        size = 4 if level == socket.IPPROTO_IP else 16
        if isinstance(value, int) or len(value) < size:
            raise failure(errno.EINVAL)
        group = socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, value[:size])
        if not is_multicast(group):
            raise failure(errno.EINVAL)
        if join:
            self.stack.join(self, group)
        else:
            self.stack.leave_group(self, group)

    # -- the end ---------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        if self.remote is None:
            raise failure(errno.ENOTCONN)
        self.no_receive = self.no_receive or how != socket.SHUT_WR
        self.no_send = self.no_send or how != socket.SHUT_RD
        self.changed()

    def dropped(self) -> None:
        self.datagrams.clear()
        if self.local is not None:
            self.stack.leave_udp(self, self.local.port)
        self.stack.leave_groups(self)

    def protocol(self) -> int:
        return socket.IPPROTO_UDP
