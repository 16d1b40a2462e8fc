"""What every simulated socket has: its family and type, its options, its pending error. No call here waits."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Any

from ..errors import NotSimulated
from ..fds import SimFile, failure

if TYPE_CHECKING:
    from ..process import Process

# Payload and ancillary descriptors and message flags and sender, as a receiving call gives them.
Received = tuple[bytes, "list[SimFile]", int, Any]

# As plain integers: those of ``socket`` are slow flags.
PEEK, OOB, DONTWAIT, WAITALL = map(int, (socket.MSG_PEEK, socket.MSG_OOB, socket.MSG_DONTWAIT, socket.MSG_WAITALL))
TRUNC, CTRUNC = int(socket.MSG_TRUNC), int(socket.MSG_CTRUNC)

_SOL, _TCP, _IP, _IP6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6

# Options that are kept and given back, and change nothing here: there is no Nagle, no queueing discipline, no hardware.
_KEPT: dict[tuple[int, int], int] = {
    (_SOL, socket.SO_REUSEADDR): 0,
    (_SOL, socket.SO_REUSEPORT): 0,
    (_SOL, socket.SO_KEEPALIVE): 0,
    (_SOL, socket.SO_BROADCAST): 0,
    (_SOL, socket.SO_DONTROUTE): 0,
    (_SOL, socket.SO_OOBINLINE): 0,
    (_SOL, socket.SO_PRIORITY): 0,
    (_SOL, socket.SO_MARK): 0,
    (_SOL, socket.SO_PASSCRED): 0,
    (_SOL, socket.SO_RCVLOWAT): 1,
    (_SOL, getattr(socket, "SO_BUSY_POLL", 46)): 0,
    (_SOL, socket.SO_INCOMING_CPU): 0,
    (_TCP, socket.TCP_NODELAY): 0,
    (_TCP, socket.TCP_CORK): 0,
    (_TCP, socket.TCP_QUICKACK): 1,
    (_TCP, socket.TCP_KEEPIDLE): 7200,
    (_TCP, socket.TCP_KEEPINTVL): 75,
    (_TCP, socket.TCP_KEEPCNT): 9,
    (_TCP, socket.TCP_SYNCNT): 6,
    (_TCP, socket.TCP_USER_TIMEOUT): 0,
    (_TCP, socket.TCP_DEFER_ACCEPT): 0,
    (_TCP, socket.TCP_FASTOPEN): 0,
    (_TCP, socket.TCP_MAXSEG): 65483,
    (_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", 25)): 0,
    (_TCP, socket.TCP_LINGER2): 60,
    (_IP, socket.IP_TOS): 0,
    (_IP, socket.IP_TTL): 64,
    (_IP, socket.IP_MULTICAST_TTL): 1,
    (_IP, socket.IP_MULTICAST_LOOP): 1,
    (_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)): 0,
    (_IP, 10): 1,  # IP_MTU_DISCOVER
    (_IP, 11): 0,  # IP_RECVERR
    (_IP6, socket.IPV6_V6ONLY): 0,
    (_IP6, socket.IPV6_UNICAST_HOPS): 64,
    (_IP6, socket.IPV6_MULTICAST_HOPS): 1,
    (_IP6, socket.IPV6_MULTICAST_LOOP): 1,
    (_IP6, socket.IPV6_TCLASS): 0,
    (_IP6, 23): 1,  # IPV6_MTU_DISCOVER
}
_BUFFERS = {socket.SO_SNDBUF: 4608, socket.SO_RCVBUF: 2304}
# What net.core.wmem_max and rmem_max are on most machines, doubled as Linux does.
_MOST_BUFFER = 2 * 212_992
_TIMEOUTS = (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)


def flat(data: Any) -> memoryview:
    """Any bytes-like object as bytes. Raises ``TypeError`` in the words of Python's own sockets."""
    try:
        return memoryview(data).cast("B")
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not {type(data).__name__!r}") from None


class SocketFile(SimFile):
    """Base of the sockets. Calls raise ``BlockingIOError`` where Linux would wait: the doors do the waiting.

    Invariant: ``error`` is what SO_ERROR would tell (and take back): the errno of something that went wrong behind the caller's
    back, or 0.
    """

    kind = "socket"

    def __init__(self, process: Process, family: int, type: int, proto: int) -> None:
        super().__init__(process)
        self.host = process.host
        self.family = family
        self.type = int(type)
        self.proto = proto
        self.error = 0
        self.send_buffer: int = 212_992
        self.receive_buffer: int = 212_992
        self.linger: tuple[int, int] = (0, 0)
        self._options: dict[tuple[int, int], int] = {}

    # -- options ---------------------------------------------------------------------------------------------------------

    def option(self, level: int, name: int) -> int:
        """The value of a plain option."""
        return self._options.get((level, name), _KEPT[level, name])

    @property
    def reuse_address(self) -> bool:
        """SO_REUSEADDR."""
        return bool(self._options.get((_SOL, socket.SO_REUSEADDR)))

    @property
    def reuse_port(self) -> bool:
        """SO_REUSEPORT."""
        return bool(self._options.get((_SOL, socket.SO_REUSEPORT)))

    @property
    def v6only(self) -> bool:
        """IPV6_V6ONLY."""
        return bool(self._options.get((_IP6, socket.IPV6_V6ONLY)))

    def inherit_options(self, other: SocketFile) -> None:
        """What an accepted socket takes over from the listening one."""
        self._options.update(other._options)
        self.send_buffer, self.receive_buffer = other.send_buffer, other.receive_buffer
        self.linger = other.linger

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        """As the system call; ``value`` is a number or the bytes of a struct."""
        if level == _SOL and name == socket.SO_LINGER:
            self.linger = struct.unpack("ii", _as_bytes(value, 8))
            return
        if level == _SOL and name in _TIMEOUTS:
            raise NotSimulated("SO_RCVTIMEO and SO_SNDTIMEO are not simulated; use settimeout()")
        number = value if isinstance(value, int) else int.from_bytes(_as_bytes(value, 4)[:4], "little", signed=True)
        if level == _SOL and name in _BUFFERS:
            size = max(_BUFFERS[name], min(2 * number, _MOST_BUFFER))
            if name == socket.SO_SNDBUF:
                self.send_buffer = size
            else:
                self.receive_buffer = size
            self.changed()
            return
        self._check_option(level, name, errno.ENOPROTOOPT)
        if (level, name) in _FLAGS:
            number = int(bool(number))
        self._options[level, name] = number
        self.option_set(level, name)

    def option_set(self, level: int, name: int) -> None:
        """An option has a new value."""

    def getsockopt(self, level: int, name: int) -> int | bytes:
        """As the system call: a number, or the bytes of a struct."""
        if level == _SOL:
            if name == socket.SO_ERROR:
                error, self.error = self.error, 0
                return error
            if name == socket.SO_TYPE:
                return self.type
            if name == socket.SO_DOMAIN:
                return self.family
            if name == socket.SO_PROTOCOL:
                return self.protocol()
            if name == socket.SO_ACCEPTCONN:
                return int(self.is_listening())
            if name == socket.SO_LINGER:
                return struct.pack("ii", *self.linger)
            if name == socket.SO_SNDBUF:
                return self.send_buffer
            if name == socket.SO_RCVBUF:
                return self.receive_buffer
            if name in _TIMEOUTS:
                return bytes(16)
        self._check_option(level, name, errno.EOPNOTSUPP)
        return self.option(level, name)

    def _check_option(self, level: int, name: int, foreign: int) -> None:
        if self.family == socket.AF_UNIX and level != _SOL:
            raise failure(errno.EOPNOTSUPP)
        if (level == _TCP and self.kind != "tcp") or (level == _IP6 and self.family != socket.AF_INET6):
            raise failure(foreign)
        if (level, name) not in _KEPT:
            raise failure(errno.ENOPROTOOPT)

    def protocol(self) -> int:
        """SO_PROTOCOL."""
        return self.proto

    def is_listening(self) -> bool:
        """SO_ACCEPTCONN."""
        return False

    def take_error(self) -> None:
        """Raise the pending error, if there is one."""
        if self.error:
            error, self.error = self.error, 0
            raise failure(error)

    # -- system calls ----------------------------------------------------------------------------------------------------

    def bind(self, address: Any) -> None:
        """As the system call; the address is as Python's, names resolved."""
        raise failure(errno.EOPNOTSUPP)

    def listen(self, backlog: int) -> None:
        """As the system call."""
        raise failure(errno.EOPNOTSUPP)

    def accept(self) -> tuple[SocketFile, Any]:
        """As the system call."""
        raise failure(errno.EOPNOTSUPP)

    def unaccept(self, child: Any) -> None:
        """``accept`` could not be completed (there was no number for it): the connection waits again."""
        raise failure(errno.EOPNOTSUPP)

    def connect(self, address: Any) -> None:
        """As the system call: raises ``BlockingIOError`` (EINPROGRESS) where it takes time."""
        raise failure(errno.EOPNOTSUPP)

    def send(self, data: Any, flags: int = 0, address: Any = None, rights: list[SimFile] | None = None) -> int:
        """As ``sendmsg``: how many bytes of ``data`` (one flat buffer) were taken."""
        raise failure(errno.EOPNOTSUPP)

    def receive(self, size: int, flags: int = 0) -> bytes:
        """As ``recv``."""
        return self.receive_message(size, flags)[0]

    def receive_message(self, size: int, flags: int = 0) -> Received:
        """As ``recvmsg``."""
        raise failure(errno.EOPNOTSUPP)

    def shutdown(self, how: int) -> None:
        """As the system call."""
        raise failure(errno.ENOTCONN)

    def getsockname(self) -> Any:
        """As the system call."""
        raise failure(errno.EOPNOTSUPP)

    def getpeername(self) -> Any:
        """As the system call."""
        raise failure(errno.ENOTCONN)

    def waiting(self) -> int:
        """How many bytes the next call would find (FIONREAD)."""
        return 0

    def read(self, size: int) -> bytes:
        return self.receive(size)

    def write(self, data: Any) -> int:
        return self.send(data)

    def mode(self) -> int:
        return 0o140777


_FLAGS = frozenset(
    {
        (_SOL, socket.SO_REUSEADDR),
        (_SOL, socket.SO_REUSEPORT),
        (_SOL, socket.SO_KEEPALIVE),
        (_SOL, socket.SO_BROADCAST),
        (_SOL, socket.SO_DONTROUTE),
        (_SOL, socket.SO_OOBINLINE),
        (_SOL, socket.SO_PASSCRED),
        (_TCP, socket.TCP_NODELAY),
        (_TCP, socket.TCP_CORK),
        (_TCP, socket.TCP_QUICKACK),
        (_IP6, socket.IPV6_V6ONLY),
    }
)


def _as_bytes(value: int | bytes, size: int) -> bytes:
    if isinstance(value, int):
        value = value.to_bytes(4, "little", signed=True)
    if len(value) < size:
        raise failure(errno.EINVAL)
    return bytes(value[:size])
