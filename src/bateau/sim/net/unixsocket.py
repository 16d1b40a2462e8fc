"""Unix sockets: pairs, names on a host's disk and abstract ones, streams, datagrams, and descriptors sent along.

What is sent is there at once: nothing lies between two processes of one host. A message is (data, descriptors, sender).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from ..fds import ERR, HUP, IN, OUT, RDHUP, SimFile, failure, release
from .addresses import AF_UNIX
from .socketfile import PEEK, TRUNC, Received, SocketFile, flat

if TYPE_CHECKING:
    from ..process import Process
    from .stack import Stack

_STREAM, _DGRAM, _SEQPACKET = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM), int(socket.SOCK_SEQPACKET)
NEW, LISTENING, OPEN, ENDED = "new", "listening", "open", "ended"
# What a message takes of the sender's buffer besides its bytes, roughly as Linux counts it.
OVERHEAD = 768
# Datagrams that wait at a receiver before its senders have to wait: net.unix.max_dgram_qlen.
MOST_DATAGRAMS = 10


def name_of(address: Any) -> bytes:
    """Python's address of a Unix socket as the bytes that the system gets. Raises ``TypeError``, ``OSError``."""
    raw = os.fsencode(address) if isinstance(address, str) else bytes(flat(address))
    if len(raw) > 107 + (raw[:1] == b"\0"):
        raise OSError("AF_UNIX path too long")
    return raw if raw[:1] == b"\0" else raw.partition(b"\0")[0]


def shown(name: bytes | None) -> str | bytes:
    """A name as Python's socket shows it."""
    if not name:
        return ""
    return name if name[:1] == b"\0" else os.fsdecode(name)


def new_unix(process: Process, type: int, proto: int) -> UnixSocket:
    """A fresh Unix socket."""
    if proto not in (0, AF_UNIX):
        raise failure(errno.EPROTONOSUPPORT)
    if type in (_STREAM, _SEQPACKET):
        return UnixStreamSocket(process, type, proto)
    if type == _DGRAM:
        return UnixDatagramSocket(process, proto)
    raise failure(errno.ESOCKTNOSUPPORT)


def pair(process: Process, type: int, proto: int) -> tuple[UnixSocket, UnixSocket]:
    """Two connected ones, as ``socketpair``."""
    one, two = new_unix(process, type, proto), new_unix(process, type, proto)
    one.join(two)
    two.join(one)
    return one, two


class UnixSocket(SocketFile):
    """Base of both kinds.

    Invariants: ``name`` is what it is bound to, in its host's tables as long as it is open (names on disk outlive it, as files nobody
    answers at). ``held`` is what this socket has sent and nobody has received yet, against its send buffer.
    """

    kind = "unix"

    def __init__(self, process: Process, type: int, proto: int) -> None:
        super().__init__(process, AF_UNIX, type, 0)
        self.stack: Stack = self.world.network.stack(process.host)
        self.name: bytes | None = None
        self.peer: UnixSocket | None = None
        self.held = 0
        self.no_receive = self.no_send = False
        # Who made it: what the other end sees in SO_PEERCRED.
        self.credentials = (process.pid, 0, 0)
        self.permissions = 0o777

    def describe(self) -> str:
        return f"Unix socket {shown(self.name) or 'unnamed'!r}"

    def join(self, other: UnixSocket) -> None:
        """``other`` is its peer from now on."""
        self.peer = other

    def writable(self) -> bool:
        """Whether there is room worth waking a writer for."""
        return 4 * self.held <= self.send_buffer

    def received(self, cost: int) -> None:
        """The other side has taken something of what this one sent."""
        self.held -= cost
        if self.writable():
            self.changed()

    # -- names -----------------------------------------------------------------------------------------------------------

    def bind(self, address: Any) -> None:
        if self.name:
            raise failure(errno.EINVAL)
        self.name = self.stack.unix.bind(self, address)

    def getsockname(self) -> Any:
        return shown(self.name)

    def getpeername(self) -> Any:
        if self.peer is None:
            raise failure(errno.ENOTCONN)
        return shown(self.peer.name)

    def getsockopt(self, level: int, name: int) -> int | bytes:
        if level == socket.SOL_SOCKET and name == socket.SO_PEERCRED:
            peer = self.peer
            return struct.pack("3i", *(peer.credentials if peer is not None else (0, -1, -1)))
        return super().getsockopt(level, name)

    def chmod(self, mode: int) -> None:
        self.permissions = mode & 0o7777

    def mode(self) -> int:
        return 0o140000 | self.permissions

    # -- the end ---------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise failure(errno.EINVAL)
        reading, writing = how != socket.SHUT_WR, how != socket.SHUT_RD
        self.no_receive = self.no_receive or reading
        self.no_send = self.no_send or writing
        peer = self.peer
        if peer is not None and self.type != _DGRAM:
            peer.no_receive = peer.no_receive or writing
            peer.no_send = peer.no_send or reading
            peer.changed()
        self.changed()

    def dropped(self) -> None:
        if self.name:
            self.stack.unix.leave(self)


class UnixStreamSocket(UnixSocket):
    """``SOCK_STREAM`` and ``SOCK_SEQPACKET``: connected pairs. ``inbox`` is what has come and was not taken, with who sent it."""

    def __init__(self, process: Process, type: int, proto: int) -> None:
        super().__init__(process, type, proto)
        self.state = NEW
        self.inbox: deque[tuple[memoryview, list[SimFile], UnixStreamSocket]] = deque()
        self.children: deque[UnixStreamSocket] = deque()
        self.backlog = 0
        # The sockets whose connect found the backlog full: a blocking one looks again when there is room.
        self.waiting_clients: dict[UnixStreamSocket, None] = {}

    def mask(self) -> int:
        if self.state is LISTENING:
            return IN if self.children else 0
        mask = 0
        if self.error:
            mask |= ERR
        if self.no_receive:
            mask |= IN | RDHUP | (HUP if self.no_send else 0)
        if self.inbox:
            mask |= IN
        if self.state is NEW:
            mask |= HUP
        if self.writable():
            mask |= OUT
        return mask

    def join(self, other: UnixSocket) -> None:
        super().join(other)
        self.state = OPEN

    # -- connecting ------------------------------------------------------------------------------------------------------

    def is_listening(self) -> bool:
        return self.state is LISTENING

    def listen(self, backlog: int) -> None:
        if self.state not in (NEW, LISTENING) or not self.name:
            raise failure(errno.EINVAL)
        self.state = LISTENING
        self.backlog = min(max(backlog, 0), 4096)
        self.credentials = (self.world.thread.process.pid, 0, 0)

    def connect(self, address: Any) -> None:
        listener = self.stack.unix.find(address)
        if not isinstance(listener, UnixStreamSocket) or listener.type != self.type:
            raise failure(errno.EPROTOTYPE)
        if listener.state is not LISTENING or listener.no_receive:
            raise failure(errno.ECONNREFUSED)
        if len(listener.children) > listener.backlog:
            listener.waiting_clients[self] = None
            raise failure(errno.EAGAIN)
        if self.state is not NEW:
            raise failure(errno.EISCONN if self.state is OPEN else errno.EINVAL)
        child = UnixStreamSocket(listener.process, self.type, self.proto)
        child.name, child.credentials = listener.name, listener.credentials
        self.join(child)
        child.join(self)
        self.credentials = (self.world.thread.process.pid, 0, 0)
        listener.children.append(child)
        listener.changed()

    def accept(self) -> tuple[SocketFile, Any]:
        if self.state is not LISTENING or self.no_receive:
            raise failure(errno.EINVAL)
        if not self.children:
            raise failure(errno.EAGAIN)
        child = self.children.popleft()
        self._tell_clients()
        return child, shown(child.peer.name if child.peer is not None else None)

    def _tell_clients(self) -> None:
        clients = tuple(self.waiting_clients)
        self.waiting_clients.clear()
        for client in clients:
            client.changed()

    def unaccept(self, child: Any) -> None:
        self.children.appendleft(child)

    # -- sending and receiving -------------------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0, address: Any = None, rights: list[SimFile] | None = None) -> int:
        if address is not None and self.type == _STREAM:
            raise failure(errno.EISCONN if self.state is OPEN else errno.EOPNOTSUPP)
        peer = self.peer
        if self.no_send:
            raise failure(errno.EPIPE)
        if not isinstance(peer, UnixStreamSocket):
            raise failure(errno.ENOTCONN)
        if peer.closed:
            raise failure(errno.EPIPE)
        view = memoryview(data)
        if self.type == _SEQPACKET:
            if len(view) + OVERHEAD > self.send_buffer:
                raise failure(errno.EMSGSIZE)
            if self.held and self.held + len(view) + OVERHEAD > self.send_buffer:
                raise failure(errno.EAGAIN)
        elif not view:
            return 0
        else:
            room = self.send_buffer - self.held - OVERHEAD
            if room <= 0:
                raise failure(errno.EAGAIN)
            view = view[:room]
        for file in rights or ():
            file.refs += 1
        self.held += len(view) + OVERHEAD
        peer.inbox.append((memoryview(bytes(view)), list(rights or ()), self))
        peer.changed()
        return len(view)

    def receive_message(self, size: int, flags: int = 0) -> Received:
        if self.state is NEW or self.state is LISTENING:
            raise failure(errno.EINVAL if self.type == _STREAM else errno.ENOTCONN)
        if not self.inbox:
            self.take_error()
            if self.no_receive:
                return b"", [], 0, None
            raise failure(errno.EAGAIN)
        if self.type == _SEQPACKET:
            return self._take_packet(size, flags)
        return self._take_bytes(size, flags)

    def _take_packet(self, size: int, flags: int) -> Received:
        data, rights, sender = self.inbox[0]
        told = TRUNC if len(data) > size else 0
        name = shown(sender.name) or None
        if flags & PEEK:
            return bytes(data[:size]), _shared(rights), told, name
        self.inbox.popleft()
        sender.received(len(data) + OVERHEAD)
        return bytes(data[:size]), rights, told, name

    def _take_bytes(self, size: int, flags: int) -> Received:
        """Bytes of as many messages as it takes; descriptors come with the first byte they were sent with, and end a read."""
        if flags & PEEK:
            return self._peek(size)
        parts: list[memoryview] = []
        found: list[SimFile] = []
        inbox = self.inbox
        freed: dict[UnixStreamSocket, int] = {}
        while inbox and size:
            data, rights, sender = inbox[0]
            if rights and parts:
                break
            found = rights
            part = data[:size]
            parts.append(part)
            size -= len(part)
            if len(part) == len(data):
                inbox.popleft()
                freed[sender] = freed.get(sender, 0) + len(part) + OVERHEAD
            else:
                inbox[0] = (data[len(part) :], [], sender)
                freed[sender] = freed.get(sender, 0) + len(part)
            if rights:
                break
        for sender, cost in freed.items():
            sender.received(cost)
        name = self.peer.name if self.peer is not None else None
        return b"".join(parts), found, 0, shown(name) or None

    def _peek(self, size: int) -> Received:
        parts: list[memoryview] = []
        for data, rights, _ in self.inbox:
            if rights and parts:
                break
            parts.append(data)
            if rights or sum(map(len, parts)) >= size:
                break
        return b"".join(parts)[:size], _shared(self.inbox[0][1]), 0, None

    def waiting(self) -> int:
        return sum(len(data) for data, _, _ in self.inbox)

    # -- the end ---------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        super().shutdown(how)
        self._tell_clients()

    def dropped(self) -> None:
        super().dropped()
        unread = bool(self.inbox)
        _forget(self.inbox)
        children, self.children = self.children, deque()
        for child in children:
            child.closed = True
            child._leave_peer(True)
            _forget(child.inbox)
        self._tell_clients()
        self._leave_peer(unread)
        self.state = ENDED

    def _leave_peer(self, unread: bool) -> None:
        peer = self.peer
        if isinstance(peer, UnixStreamSocket) and not peer.closed:
            peer.no_receive = peer.no_send = True
            if unread:
                peer.error = errno.ECONNRESET
            peer.changed()


class UnixDatagramSocket(UnixSocket):
    """``SOCK_DGRAM``: messages to names, none lost: a full receiver makes its senders wait."""

    def __init__(self, process: Process, proto: int) -> None:
        super().__init__(process, _DGRAM, proto)
        self.inbox: deque[tuple[bytes, list[SimFile], UnixDatagramSocket]] = deque()
        # Senders that found it full.
        self.senders: dict[UnixDatagramSocket, None] = {}

    def mask(self) -> int:
        mask = ERR if self.error else 0
        if self.no_receive:
            mask |= IN | RDHUP | (HUP if self.no_send else 0)
        if self.inbox:
            mask |= IN
        if self.writable() and not self._meets_full():
            mask |= OUT
        return mask

    def _meets_full(self) -> bool:
        peer = self.peer
        if isinstance(peer, UnixDatagramSocket) and peer.peer is not self and peer.is_full() and not peer.closed:
            peer.senders[self] = None
            return True
        return False

    def is_full(self) -> bool:
        """Whether senders have to wait."""
        return len(self.inbox) > MOST_DATAGRAMS

    def connect(self, address: Any) -> None:
        if address == b"":
            self.peer = None
            return
        found = self.stack.unix.find(address)
        if not isinstance(found, UnixDatagramSocket):
            raise failure(errno.EPROTOTYPE)
        if found.peer is not None and found.peer is not self:
            raise failure(errno.EPERM)
        self.peer = found

    def send(self, data: Any, flags: int = 0, address: Any = None, rights: list[SimFile] | None = None) -> int:
        payload = bytes(data)
        if self.no_send:
            raise failure(errno.EPIPE)
        if len(payload) + OVERHEAD > self.send_buffer:
            raise failure(errno.EMSGSIZE)
        to = self._receiver(address)
        if to.no_receive:
            raise failure(errno.EPIPE)
        if self.held and self.held + len(payload) + OVERHEAD > self.send_buffer:
            raise failure(errno.EAGAIN)
        if to is not self and to.peer is not self and to.is_full():
            to.senders[self] = None
            raise failure(errno.EAGAIN)
        for file in rights or ():
            file.refs += 1
        self.held += len(payload) + OVERHEAD
        to.inbox.append((payload, list(rights or ()), self))
        to.changed()
        return len(payload)

    def _receiver(self, address: Any) -> UnixDatagramSocket:
        if address is not None:
            found = self.stack.unix.find(address)
            if not isinstance(found, UnixDatagramSocket):
                raise failure(errno.EPROTOTYPE)
            if found.peer is not None and found.peer is not self:
                raise failure(errno.EPERM)
            return found
        peer = self.peer
        if not isinstance(peer, UnixDatagramSocket):
            raise failure(errno.ENOTCONN)
        if peer.closed:
            self.peer = None
            raise failure(errno.ECONNREFUSED)
        return peer

    def receive_message(self, size: int, flags: int = 0) -> Received:
        self.take_error()
        if not self.inbox:
            if self.no_receive and self.blocking:  # one that does not wait looks no further
                return b"", [], 0, None
            raise failure(errno.EAGAIN)
        data, rights, sender = self.inbox[0]
        if flags & PEEK:
            rights = _shared(rights)
        else:
            self.inbox.popleft()
            sender.received(len(data) + OVERHEAD)
            self._tell_senders()
        told = TRUNC if len(data) > size else 0
        return data[:size], rights, told, shown(sender.name) or None

    def _tell_senders(self) -> None:
        if self.senders and not self.is_full():
            senders = tuple(self.senders)
            self.senders.clear()
            for sender in senders:
                sender.changed()

    def waiting(self) -> int:
        return len(self.inbox[0][0]) if self.inbox else 0

    def dropped(self) -> None:
        super().dropped()
        _forget(self.inbox)
        self._tell_senders()
        if self.peer is not None:
            self.peer.changed()


def _shared(rights: list[SimFile]) -> list[SimFile]:
    """The same descriptors, once more."""
    for file in rights:
        file.refs += 1
    return list(rights)


def _forget(inbox: Any) -> None:
    """What nobody will receive any more: descriptors in it are closed, its senders have room again."""
    while inbox:
        data, rights, sender = inbox.popleft()
        sender.held -= len(data) + OVERHEAD
        for file in rights:
            release(file)
