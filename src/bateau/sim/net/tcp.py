"""TCP sockets: listening, connecting, and the two ends of a connection."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from ..errors import NotSimulated
from ..fds import ERR, HUP, IN, OUT, RDHUP, SimFile, failure
from .addresses import BROADCAST, Endpoint, is_any, is_multicast, to_python
from .flow import GIVE_UP, Flow, RemoteFlow
from .handshake import Attempt
from .inet import InetFile
from .socketfile import OOB, PEEK, Received

if TYPE_CHECKING:
    from ..process import Process
    from .links import Link

# States, as far as they can be told apart from outside.
NEW, LISTENING, CONNECTING, OPEN, ENDED = "new", "listening", "connecting", "open", "ended"
MOST_BACKLOG = 4096  # net.core.somaxconn


class TcpSocket(InetFile):
    """A TCP socket.

    Invariants: ``out`` and ``peer`` are set iff it was connected once. ``eof``: the peer's FIN has arrived; ``no_receive`` and ``no_send`` are the
    shut-down sides. ``gone``: no descriptor refers to it any more. ``lost``: its host has crashed since. While LISTENING, ``children`` are
    the connections not accepted yet, ``half_open`` those whose handshake is under way; both count against ``backlog``.
    """

    kind = "tcp"

    def __init__(self, process: Process, family: int, proto: int = 0) -> None:
        super().__init__(process, family, socket.SOCK_STREAM, proto)
        self.receive_buffer = 131_072
        self.state = NEW
        self.received = bytearray()
        self.eof = self.no_receive = self.no_send = False
        self.fin_sent = self.fin_heard = self.active = False
        self.gone = self.lost = False
        self.out: Flow | None = None
        self.peer: TcpSocket | None = None
        self.backlog = 0
        # Whether the port was asked for by number: another one is given up with the listening.
        self._port_given = False
        self.children: deque[TcpSocket] = deque()
        self.half_open = 0
        self.parent: TcpSocket | None = None
        # Whether a connect that did not wait is still to be reported by the next one.
        self.to_report = False
        self._attempt: Attempt | None = None

    @property
    def listening(self) -> bool:
        """Whether connections may come in."""
        return self.state is LISTENING

    @property
    def deaf(self) -> bool:
        """Whether data that arrives meets nobody."""
        return self.gone or self.state is ENDED

    def mask(self) -> int:
        state = self.state
        if state is OPEN and not (self.no_receive or self.no_send or self.error):
            out = self.out
            assert out is not None
            # ``writable`` begins with this very question, for both kinds of flow: what is answered here costs no call.
            writable = 3 * out.used <= 2 * self.send_buffer or out.writable()
            return (IN if self.received else 0) | (OUT if writable else 0)
        if state is LISTENING:
            return IN if self.children else 0
        mask = 0
        if self.no_receive:
            mask = IN | RDHUP | (HUP if self.no_send else 0)
        if state is not CONNECTING:
            if self.received:
                mask |= IN
            if self.no_send or self.out is None or self.out.writable():
                mask |= OUT
        if state is NEW or state is ENDED:
            mask |= HUP
        if self.error:
            mask |= ERR
        return mask

    def describe(self) -> str:
        return f"TCP {self.label()}"

    def label(self) -> str:
        """The connection, or the address listened on, in words that are the same in each run."""
        here = f"{self.host.name}:{self.local.port}" if self.local is not None else self.host.name
        if self.remote is None:
            return here
        return f"{here} -> {self.remote_label()}"

    def remote_label(self) -> str:
        """The other end alone."""
        assert self.remote is not None
        host = self.stack.network.reach(self.host, self.remote.ip)
        return f"{host.name if host is not None else self.remote.ip}:{self.remote.port}"

    def _tell(self, text: str, end: TcpSocket) -> None:
        """For the story: what happens between hosts, which ``end`` is one end of."""
        if end.remote is not None and self.stack.network.reach(self.host, end.remote.ip) is not self.host:
            self.world.trace("net", text, host=self.host.name, actor=self.process.name)

    # -- names -----------------------------------------------------------------------------------------------------------

    def bind(self, address: Any) -> None:
        if self.local is not None or self.state is not NEW:
            raise failure(errno.EINVAL)
        self.local = self.stack.bind_tcp(self, address)
        self.bound_to(self.local)
        self._port_given = address.port != 0

    def getpeername(self) -> Any:
        if self.state is not OPEN or self.remote is None:
            raise failure(errno.ENOTCONN)
        return to_python(self.family, self.remote)

    # -- listening -------------------------------------------------------------------------------------------------------

    def is_listening(self) -> bool:
        return self.listening

    def listen(self, backlog: int) -> None:
        if self.state not in (NEW, LISTENING):
            raise failure(errno.EINVAL)
        if self.local is None:
            self.local = self.stack.bind_tcp(self, self.any_endpoint())
        elif self not in self.stack.tcp.get(self.local.port, ()):
            self.local = self.stack.bind_tcp(self, Endpoint(self.local.ip, 0))
        before, self.state = self.state, LISTENING
        try:
            self.stack.check_tcp(self, self.local)
        except OSError:
            self.state = before
            raise
        self.backlog = min(max(backlog, 0), MOST_BACKLOG)

    def accept(self) -> tuple[TcpSocket, Any]:
        if self.state is not LISTENING:
            raise failure(errno.EINVAL)
        if not self.children:
            raise failure(errno.EAGAIN)
        child = self.children.popleft()
        child.parent = None
        child.process = self.world.thread.process
        assert child.remote is not None
        self._tell(f"accepts {child.remote_label()}", child)
        return child, to_python(self.family, child.remote)

    def unaccept(self, child: Any) -> None:
        child.parent = self
        self.children.appendleft(child)

    def _stop_listening(self) -> None:
        self.state = NEW
        children, self.children = self.children, deque()
        for child in children:
            child.parent = None
            child.gone = True
            child._abort()

    # -- connecting ------------------------------------------------------------------------------------------------------

    def connect(self, address: Any) -> None:
        if self.state is CONNECTING:
            raise failure(errno.EALREADY)
        if self.to_report:
            if self.state is OPEN:
                self.to_report = False
                return
            self.connect_failed()
            self.take_error()
            raise failure(errno.ECONNABORTED)
        if self.state is not NEW:
            raise failure(errno.EISCONN)
        remote: Endpoint = address
        if is_any(remote.ip):
            remote = Endpoint("::1" if ":" in remote.ip else "127.0.0.1", remote.port)
        if remote.ip == BROADCAST or is_multicast(remote.ip):
            raise failure(errno.ENETUNREACH)
        self._name_for(remote)
        self.remote = remote
        self.state = CONNECTING
        self.to_report = True
        self.error = 0
        self._tell(f"connects to {self.remote_label()}", self)
        self._attempt = Attempt(self, remote)
        self._attempt.begin()
        raise failure(errno.EINPROGRESS)

    def connect_reported(self) -> None:
        """A connect was waited for to its end."""
        self.to_report = False
        if self.state is not OPEN:
            self.error = self.error or errno.ECONNABORTED
            self.connect_failed()

    def connect_failed(self) -> None:
        """A connect that was waited for has told its error: the socket may be used again."""
        self.to_report = False
        if self.state is ENDED:
            self.state = NEW
            self.remote = None
            self.no_receive = self.no_send = False

    def _name_for(self, remote: Endpoint) -> None:
        source = self.stack.source_for(remote.ip)
        if self.local is None:
            self.local = self.stack.bind_tcp(self, Endpoint(source, 0))
        elif is_any(self.local.ip):
            self.local = Endpoint(source, self.local.port)

    def join(self, child: TcpSocket, link: Link, back: Link) -> None:
        """The handshake is done, as seen from the end that asked for it: ``child`` is the other end."""
        now = self.world.now
        if link.local:
            self.out, child.out = Flow(self, child, link, back), Flow(child, self, back, link)
        else:
            self.out, child.out = RemoteFlow(self, child, link, back, now), RemoteFlow(child, self, back, link, now)
        self.peer, child.peer = child, self
        self.state = child.state = OPEN
        self._attempt = None
        self.stack.connections[self] = None
        child.stack.connections[child] = None
        self.changed()
        self.out.hello()

    # -- the accepting end -----------------------------------------------------------------------------------------------

    def is_full(self) -> bool:
        """Whether the backlog has no room for another connection."""
        return len(self.children) + self.half_open > self.backlog

    def new_child(self, client: TcpSocket) -> TcpSocket:
        """The other end of ``client``'s connection, to be."""
        child = TcpSocket(self.process, self.family, self.proto)
        child.inherit_options(self)
        assert client.remote is not None
        child.local, child.remote = client.remote, client.local
        child.parent = self
        self.half_open += 1
        self.stack.tcp.setdefault(child.local.port, {})[child] = None
        return child

    def abandon(self) -> None:
        """Its client never heard of it."""
        parent, self.parent = self.parent, None
        if parent is not None:
            parent.half_open -= 1
        self.gone = True
        self._end()

    def hello_arrived(self) -> None:
        """The handshake is done, as seen from the accepting end."""
        parent = self.parent
        if parent is None or self.state is not OPEN:
            return
        parent.half_open -= 1
        if parent.state is not LISTENING:
            self.parent = None
            self.gone = True
            self._abort()
            return
        parent.children.append(self)
        parent.changed()

    # -- sending and receiving -------------------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0, address: Any = None, rights: list[SimFile] | None = None) -> int:
        if flags & OOB:
            raise NotSimulated("urgent data (MSG_OOB) is not simulated")
        if self.error:
            self.take_error()
        if self.no_send:
            raise failure(errno.EPIPE)
        out = self.out
        if out is None or self.state is not OPEN:
            raise failure(errno.EAGAIN if self.state is CONNECTING else errno.EPIPE)
        if not len(data):
            return 0
        count = out.accept(data)
        if not count:
            raise failure(errno.EAGAIN)
        return count

    def receive(self, size: int, flags: int = 0) -> bytes:
        if flags & OOB:
            raise NotSimulated("urgent data (MSG_OOB) is not simulated")
        received = self.received
        if received:
            if size >= len(received) and not flags:
                data = bytes(received)
                received.clear()
            else:
                data = bytes(received[:size])
                if flags & PEEK:
                    return data
                del received[:size]
            peer = self.peer
            if peer is not None and peer.out is not None:
                peer.out.taken(len(data))
            return data
        if self.eof:
            return b""
        self.take_error()
        if self.no_receive:
            return b""
        if self.state is NEW or self.state is LISTENING or self.state is ENDED:
            raise failure(errno.ENOTCONN)
        raise failure(errno.EAGAIN)

    def receive_message(self, size: int, flags: int = 0) -> Received:
        return self.receive(size, flags), [], 0, None

    def waiting(self) -> int:
        if self.state is LISTENING:
            raise failure(errno.EINVAL)
        return len(self.received)

    # -- what arrives ----------------------------------------------------------------------------------------------------

    def data_arrived(self, data: bytes) -> None:
        """Bytes from the peer."""
        self.received += data
        self.changed()

    def fin_arrived(self) -> None:
        """The peer sends no more."""
        if self.state is OPEN and not self.eof:
            self.eof = self.no_receive = True
            self._end_if_done()
            self.changed()

    def fin_acknowledged(self) -> None:
        """The peer knows that this end sends no more."""
        self.fin_heard = True
        self._end_if_done()

    def reset_arrived(self) -> None:
        """The peer says that there is no such connection."""
        if self.state is OPEN:
            self.failed(errno.EPIPE if self.eof and not self.fin_sent else errno.ECONNRESET)

    def failed(self, error: int) -> None:
        """The connection, or the attempt to make one, is over."""
        if self.lost:
            return
        self._tell(f"{self.label()}: {errno.errorcode[error]}", self)
        self.error = error
        self._end()
        self.changed()

    def path_changed(self) -> None:
        """The peer may be out of reach now."""
        if self.out is not None:
            self.out.path_changed()

    # -- the end ---------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise failure(errno.EINVAL)
        if self.state is LISTENING:
            if how != socket.SHUT_WR:
                self._stop_listening()
                if self.local is not None and not self._port_given:
                    self.stack.leave_tcp(self, self.local.port)
                self.changed()
            return
        if self.state is not OPEN:
            raise failure(errno.ENOTCONN)
        if how != socket.SHUT_WR:
            self.no_receive = True
        if how != socket.SHUT_RD:
            self._finish()
        self.changed()

    def _finish(self) -> None:
        """Send no more."""
        if not self.no_send:
            self.no_send = self.fin_sent = True
            self.active = not self.eof
            assert self.out is not None
            self.out.finish()

    def dropped(self) -> None:
        self.gone = True
        if self.host.down or self.world.closed:
            self.lose()
        elif self.state is LISTENING:
            self._stop_listening()
            self._end()
        elif self.state is OPEN:
            if self.received or self.linger == (1, 0):
                self._abort()
            else:
                self._finish()
                self._end_if_done()
        else:
            self._end()

    def _abort(self) -> None:
        """Tell the peer that the connection is no more."""
        self.received.clear()
        if self.out is not None:
            self.out.reset()
        self._end()

    def discard(self) -> None:
        """Nobody uses it any more, and its peer has been told so."""
        if self.gone:
            self._end()

    def reset_both(self) -> None:
        """Something between the two ends resets the connection."""
        peer, out = self.peer, self.out
        if self.state is OPEN and peer is not None and out is not None:
            out.reset()
            self.reset_arrived()

    def lose(self) -> None:
        """Its host has crashed."""
        self.lost = self.gone = True
        self._end()
        self.state = ENDED

    def _end_if_done(self) -> None:
        """Both ends have sent all they had."""
        if self.eof and self.fin_sent and self.fin_heard and self.state is OPEN:
            if self.active and self.local is not None:
                self.stack.rest(self.local, self.reuse_address)
            self._end()

    def _end(self) -> None:
        """No connection any more."""
        was, self.state = self.state, ENDED if self.state is not NEW else NEW
        self.no_receive = self.no_send = was is not NEW or self.gone
        if self._attempt is not None:
            self._attempt.stop()
            self._attempt = None
        if self.out is not None and not self.out.dead:
            self.out.lose()
        self.stack.connections.pop(self, None)
        if self.local is not None and (self.gone or was is OPEN):
            self.stack.leave_tcp(self, self.local.port)

    # -- options ---------------------------------------------------------------------------------------------------------

    def protocol(self) -> int:
        return socket.IPPROTO_TCP

    def option_set(self, level: int, name: int) -> None:
        if name == socket.SO_KEEPALIVE and level == socket.SOL_SOCKET:
            self.path_changed()

    def keeps_alive(self) -> bool:
        """SO_KEEPALIVE."""
        return bool(self.option(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def keepalive(self) -> tuple[int, int, int]:
        """Seconds of silence before the first probe, seconds between two, and how many may stay unanswered."""
        return (
            self.option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            self.option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            self.option(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        )

    def user_timeout(self) -> float:
        """TCP_USER_TIMEOUT in seconds, 0 if it is not set."""
        return self.option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000

    def give_up_after(self) -> float:
        """Seconds for which the peer may stay silent to what was sent."""
        return self.user_timeout() or GIVE_UP
