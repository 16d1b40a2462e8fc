"""Doors of ``socket``: ``socket.socket(...)`` on a thread of a world makes a ``SimSocket``, which has no real descriptor.

``socket.socket`` stays the class it is. Only its ``__new__`` asks for the world: there it gives an object of the subclass
``SimSocket`` (of a class derived from both, for subclasses of ``socket.socket`` such as ``ssl.SSLSocket``). So ``isinstance`` holds, whatever took
``socket.socket`` by name is served, and nothing changes outside a world.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import NotSimulated
from ..fds import FIRST_FD, SimFile, failure, release
from ..net.addresses import AF_INET, AF_INET6, AF_UNIX
from ..net.socketfile import SocketFile, flat
from ..net.tcp import CONNECTING, TcpSocket
from ..net.udp import UdpSocket
from ..thread import here
from . import door, stand_in
from .names import endpoint

if TYPE_CHECKING:
    from ..process import Process
    from ..world import World

T = TypeVar("T")

Real = socket.socket
_Base: Any = socket.socket.__mro__[1]  # _socket.socket
_STREAM, _DGRAM, _SEQPACKET = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM), int(socket.SOCK_SEQPACKET)
_FLAG_BITS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_DEFAULT_TIMEOUT = "default timeout"  # its place in ``process.parts``
_INTEGER = array.array("i").itemsize


def new_file(process: Process, family: int, type: int, proto: int) -> SocketFile:
    """A fresh simulated socket. Raises ``OSError`` as the system does, ``NotSimulated`` for families that the world has not."""
    if family in (AF_INET, AF_INET6):
        if type == _STREAM:
            if proto not in (0, socket.IPPROTO_TCP):
                raise failure(errno.EPROTONOSUPPORT)
            return TcpSocket(process, family, proto)
        if type == _DGRAM:
            if proto not in (0, socket.IPPROTO_UDP):
                raise failure(errno.EPROTONOSUPPORT)
            return UdpSocket(process, family, proto)
        raise NotSimulated(f"sockets of type {type} are not simulated on IP; use SOCK_STREAM or SOCK_DGRAM")
    if family == AF_UNIX:
        from ..net.unixsocket import new_unix

        return new_unix(process, type, proto)
    raise NotSimulated(f"address family {family} is not simulated; use AF_INET, AF_INET6 or AF_UNIX")


class SimSocket(Real):
    """A socket of a simulated process. See the module's head.

    Invariants: ``_fd`` is its number in ``_process``'s table, -1 once closed or detached; ``_file`` is what that refers to, or None.
    ``_seconds`` is its timeout: None blocks, 0 never waits.
    """

    __slots__ = ("_fd", "_file", "_number", "_process", "_seconds", "_world")

    _fd: int
    _file: SocketFile | None
    _number: int
    _process: Process
    _seconds: float | None
    _world: World

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        world = here.world
        if world is None:
            raise RuntimeError("a simulated socket can only be made on a thread of a simulated world")
        world.before_call(world.thread)
        process = world.thread.process
        if fileno is not None:
            self._wrap(process, fileno, proto)
            return
        family = AF_INET if family == -1 else int(family)
        type = _STREAM if type == -1 else int(type)
        file = new_file(process, family, type & ~_FLAG_BITS, 0 if proto == -1 else proto)
        self._take(process, process.fds.add(file), file)
        timeout = process.parts.get(_DEFAULT_TIMEOUT)
        self._seconds = 0.0 if type & socket.SOCK_NONBLOCK else timeout
        file.blocking = self._seconds is None

    def _wrap(self, process: Process, fileno: int, proto: int) -> None:
        if isinstance(fileno, float):
            raise TypeError("integer argument expected, got float")
        if fileno < 0:
            raise ValueError("negative file descriptor")
        if fileno < FIRST_FD:
            raise NotSimulated(
                f"descriptor {fileno} is a real one, made outside the simulated world; make the socket inside it"
            )
        file = process.fds.get(fileno)
        if not isinstance(file, SocketFile):
            raise failure(errno.ENOTSOCK)
        self._take(process, fileno, file)
        self._number = file.protocol() if proto == -1 else proto
        self._seconds = process.parts.get(_DEFAULT_TIMEOUT) if file.blocking else 0.0

    def _take(self, process: Process, fd: int, file: SocketFile) -> None:
        self._io_refs = 0
        self._closed = False
        self._process = process
        self._world = process.world
        self._fd = fd
        self._file = file
        self._number = file.proto
        self._seconds = None

    @classmethod
    def of(cls, process: Process, file: SocketFile) -> SimSocket:
        """The Python side of ``file``, in a new descriptor of ``process``."""
        fd = process.fds.add(file)
        found: SimSocket = _Base.__new__(cls)
        found._take(process, fd, file)
        return found

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd < 0:
            return
        process = self._process
        if process.dead or self._world.over:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self._release()

    # -- what every call does first --------------------------------------------------------------------------------------

    def _open_file(self) -> SocketFile:
        """What the descriptor refers to. Raises ``OSError`` (EBADF) where it is closed."""
        world = self._world
        if self._process.dead or world.over:
            if here.world is not world:
                raise NotSimulated("this socket belongs to a simulated world that has ended")
            world.before_call(world.thread)
        file = self._file
        if file is None:
            raise failure(errno.EBADF)
        return file

    def _known_file(self) -> SocketFile:
        """``_open_file`` for calls that only ask or set: cleanup may do so where the process is dead, and finds everything closed."""
        if self._file is None or self._process.dead or self._world.closed:
            raise failure(errno.EBADF)
        return self._file

    def _deadline(self) -> float | None:
        seconds = self._seconds
        return None if seconds is None else self._process.host.clock.world_time_after(seconds)

    def _call(self, what: str, attempt: Callable[..., T], *args: Any) -> T:
        """``attempt(*args)``, again after each change of the socket as long as it would block and the timeout allows it."""
        file = self._open_file()
        try:
            return attempt(*args)
        except BlockingIOError:
            self._must_wait(file)
        return self._again(what, file, self._deadline(), attempt, *args)

    def _must_wait(self, file: SocketFile) -> None:
        """In the handler of a call that would block: raises that again unless this socket waits."""
        seconds = self._seconds
        if seconds == 0 or (seconds is None and not file.blocking):
            self._world.thread_stepped()
            raise  # noqa: PLE0704  # the caller's handler is active

    def _again(self, what: str, file: SocketFile, deadline: float | None, attempt: Callable[..., T], *args: Any) -> T:
        while True:
            if not file.wait(f"{what} {file.describe()}", deadline):
                raise TimeoutError("timed out")
            if self._file is not file:
                raise failure(errno.EBADF)
            try:
                return attempt(*args)
            except BlockingIOError:
                continue

    def _address(self, file: SocketFile, address: Any, what: str) -> Any:
        if file.family == AF_UNIX:
            from ..net.unixsocket import name_of

            return name_of(address)
        return endpoint(self._world, file.family, address, what)

    # -- receiving -------------------------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As a real socket's."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        file = self._open_file()
        if bufsize == 0:
            return b""
        if flags:
            data: bytes = self._receive("recv on", bufsize, flags)[0]
            return data
        try:
            return file.receive(bufsize)
        except BlockingIOError:
            self._must_wait(file)
        return self._again("recv on", file, self._deadline(), file.receive, bufsize)

    def _receive(self, what: str, size: int, flags: int) -> Any:
        file = self._open_file()
        flags = int(flags)
        if flags & socket.MSG_DONTWAIT:
            return file.receive_message(size, flags)
        if flags & socket.MSG_WAITALL and not flags & socket.MSG_PEEK and file.type == _STREAM:
            return self._receive_all(what, file, size, flags), [], 0, None
        return self._call(what, file.receive_message, size, flags)

    def _receive_all(self, what: str, file: SocketFile, size: int, flags: int) -> bytes:
        parts: list[bytes] = []
        while size:
            try:
                part = self._call(what, file.receive, size, flags)
            except OSError:
                if not parts:
                    raise
                break
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As a real socket's."""
        with memoryview(buffer) as view, view.cast("B") as flat:
            size = _room(flat, nbytes, "recv_into")
            if not size:
                return 0
            data = self.recv(size, flags)
            flat[: len(data)] = data
            return len(data)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """As a real socket's."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        data, rights, _, address = self._receive("recvfrom on", bufsize, flags)
        _drop(rights)
        return data, address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As a real socket's."""
        with memoryview(buffer) as view, view.cast("B") as flat:
            size = _room(flat, nbytes, "recvfrom_into")
            data, address = self.recvfrom(size, flags)
            flat[: len(data)] = data
            return len(data), address

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        """As a real socket's; of ancillary data there are descriptors (``SCM_RIGHTS``) on Unix sockets."""
        if bufsize < 0:
            raise ValueError("negative buffer size in recvmsg()")
        data, rights, told, address = self._receive("recvmsg on", bufsize, flags)
        ancillary: list[Any] = []
        if rights:
            room = max(0, (ancbufsize - socket.CMSG_LEN(0)) // _INTEGER)
            kept, lost = rights[:room], rights[room:]
            numbers: list[int] = []
            for file in kept:
                try:
                    numbers.append(self._process.fds.add(file))
                except OSError:
                    told |= socket.MSG_CTRUNC
                    break
            if lost:
                told |= socket.MSG_CTRUNC
            if numbers:
                ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers).tobytes()))
            _drop(rights)
        return data, ancillary, told, address

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> tuple[int, list[Any], int, Any]:
        """As a real socket's."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data, ancillary, told, address = self.recvmsg(sum(map(len, views)), ancbufsize, flags)
        rest = memoryview(data)
        for view in views:
            part = rest[: len(view)]
            view[: len(part)] = part
            rest = rest[len(part) :]
        return len(data), ancillary, told, address

    # -- sending ---------------------------------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As a real socket's: blocking, all of it; else as much as fits now."""
        file = self._open_file()
        if data.__class__ is not bytes:
            data = flat(data)
        if flags & socket.MSG_DONTWAIT:
            return file.send(data, flags)
        try:
            sent = file.send(data, flags)
        except BlockingIOError:
            self._must_wait(file)
            sent = 0
        else:
            if sent == len(data) or self._seconds is not None or not file.blocking:
                return sent
        return self._send_rest(file, data, flags, sent)

    def _send_rest(self, file: SocketFile, data: Any, flags: int, sent: int) -> int:
        """A blocking send waits until everything is taken; one with a timeout only until something is."""
        deadline = self._deadline()
        view = memoryview(data)
        while sent < len(view):
            try:
                sent += self._again("send on", file, deadline, file.send, view[sent:], flags)
            except OSError:
                if not sent:
                    raise
                break
            if deadline is not None:
                break
        return sent

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As a real socket's."""
        view = flat(data)
        file = self._open_file()
        deadline = self._deadline()
        sent = 0
        while True:
            try:
                sent += file.send(view[sent:], flags)
            except BlockingIOError:
                self._must_wait(file)
                sent += self._again("sendall on", file, deadline, file.send, view[sent:], flags)
            if sent >= len(view):
                return

    def sendto(self, data: Any, *args: Any) -> int:
        """As a real socket's."""
        if not 1 <= len(args) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(args) + 1} given)")
        flags, address = (0, args[0]) if len(args) == 1 else args
        file = self._open_file()
        view = flat(data)
        to = None if address is None or file.kind == "tcp" else self._address(file, address, "sendto")
        if flags & socket.MSG_DONTWAIT:
            return file.send(view, flags, to)
        return self._call("sendto on", file.send, view, flags, to)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        """As a real socket's; of ancillary data there are descriptors (``SCM_RIGHTS``) on Unix sockets."""
        file = self._open_file()
        data = b"".join(flat(buffer) for buffer in buffers)
        rights = self._rights(ancdata)
        to = None if address is None or file.kind == "tcp" else self._address(file, address, "sendmsg")
        if rights:
            if flags & socket.MSG_DONTWAIT:
                return file.send(data, flags, to, rights)
            return self._call("sendmsg on", file.send, data, flags, to, rights)
        return self.send(data, flags) if to is None else self.sendto(data, flags, address)

    def _rights(self, ancdata: Any) -> list[SimFile]:
        found: list[SimFile] = []
        for level, kind, data in ancdata:
            if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
                raise NotSimulated("of ancillary data only descriptors (SCM_RIGHTS) are simulated")
            numbers = array.array("i")
            numbers.frombytes(bytes(data))
            found.extend(self._process.fds.get(number) for number in numbers)
        return found

    # -- connecting ------------------------------------------------------------------------------------------------------

    def bind(self, address: Any, /) -> None:
        """As a real socket's."""
        file = self._open_file()
        file.bind(self._address(file, address, "bind"))

    def listen(self, backlog: int = 128, /) -> None:
        """As a real socket's."""
        self._open_file().listen(backlog)

    def accept(self) -> tuple[SimSocket, Any]:
        """As a real socket's."""
        file = self._open_file()
        found, address = self._call("accept on", file.accept)
        try:
            sock = SimSocket.of(self._process, found)
        except OSError:
            file.unaccept(found)
            raise
        sock._number = self._number
        sock._seconds = self._process.parts.get(_DEFAULT_TIMEOUT)
        found.blocking = sock._seconds is None
        return sock, address

    def connect(self, address: Any, /) -> None:
        """As a real socket's."""
        file = self._open_file()
        to = self._address(file, address, "connect")
        try:
            file.connect(to)
        except BlockingIOError as error:
            if error.errno != errno.EINPROGRESS and (file.kind == "tcp" or self._seconds is not None):
                raise
            self._must_wait(file)
        else:
            return
        self._finish_connect(file, to)

    def _finish_connect(self, file: SocketFile, to: Any) -> None:
        deadline = self._deadline()
        if not isinstance(file, TcpSocket):
            self._again("connect of", file, deadline, file.connect, to)
            return
        while file.state is CONNECTING:
            if not file.wait(f"connect of {file.describe()}", deadline):
                raise TimeoutError("timed out")
        if self._seconds is None:
            file.connect_reported()
        file.take_error()

    def connect_ex(self, address: Any, /) -> int:
        """As a real socket's."""
        try:
            self.connect(address)
        except socket.gaierror:
            raise
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            return error.errno or 0
        return 0

    def shutdown(self, how: int, /) -> None:
        """As a real socket's."""
        self._known_file().shutdown(how)

    # -- names and options -----------------------------------------------------------------------------------------------

    def getsockname(self) -> Any:
        """As a real socket's."""
        return self._known_file().getsockname()

    def getpeername(self) -> Any:
        """As a real socket's."""
        return self._known_file().getpeername()

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None, /) -> None:
        """As a real socket's."""
        if value is not None and not isinstance(value, int):
            value = bytes(value)
        self._known_file().setsockopt(level, optname, b"" if value is None else value)

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        """As a real socket's."""
        found = self._known_file().getsockopt(level, optname)
        if isinstance(found, int):
            return found.to_bytes(4, "little", signed=True)[:buflen] if buflen else found
        return found[:buflen] if buflen else int.from_bytes(found[:4], "little", signed=True)

    @property
    def family(self) -> Any:
        """As a real socket's."""
        file = self._file
        return socket.AddressFamily(file.family) if file is not None else 0

    @property
    def type(self) -> Any:
        """As a real socket's."""
        file = self._file
        return socket.SocketKind(file.type) if file is not None else 0

    @property
    def proto(self) -> int:
        """As a real socket's."""
        return self._number

    # -- waiting ---------------------------------------------------------------------------------------------------------

    def settimeout(self, value: float | None, /) -> None:
        """As a real socket's."""
        if value is not None:
            given: Any = value
            if isinstance(given, str):
                raise TypeError("'str' object cannot be interpreted as an integer")
            value = float(value)
            if value < 0:
                raise ValueError("Timeout value out of range")
        self._known_file().blocking = value is None
        self._seconds = value

    def gettimeout(self) -> float | None:
        """As a real socket's."""
        return self._seconds

    @property
    def timeout(self) -> float | None:
        """As a real socket's."""
        return self._seconds

    def setblocking(self, flag: bool, /) -> None:
        """As a real socket's."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """As a real socket's."""
        return self._seconds != 0

    # -- the descriptor --------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Its number; -1 once closed."""
        return self._fd

    def dup(self) -> SimSocket:
        """As a real socket's."""
        file = self._open_file()
        found = type(self).of(self._process, file) if type(self) is SimSocket else SimSocket.of(self._process, file)
        found.settimeout(self._seconds)
        return found

    def detach(self) -> int:
        """As a real socket's."""
        self._closed = True
        fd, self._fd = self._fd, -1
        self._file = None
        return fd

    def _real_close(self) -> None:
        if self._fd >= 0:
            self._release()

    def _release(self) -> None:
        """Close the descriptor, if the process still has it: of the dead, the system has closed everything."""
        fd, self._fd = self._fd, -1
        file, self._file = self._file, None
        fds = self._process.fds
        if fds.files.get(fd) is file:
            fds.close(fd)

    def __getstate__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


# What people see is a socket.
SimSocket.__name__ = SimSocket.__qualname__ = "socket"
SimSocket.__module__ = "socket"


def _room(flat: memoryview, nbytes: int, what: str) -> int:
    if nbytes < 0:
        raise ValueError(f"negative buffersize in {what}")
    if nbytes > len(flat):
        raise ValueError(
            "buffer too small for requested bytes"
            if what == "recv_into"
            else "nbytes is greater than the length of the buffer"
        )
    return nbytes or len(flat)


def _drop(rights: list[SimFile]) -> None:
    """The message that carried them has been taken apart."""
    for file in rights:
        release(file)


# -- the class itself --------------------------------------------------------------------------------------------------

_simulated: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()


def simulated(cls: type) -> type:
    """The simulated twin of a subclass of ``socket.socket``."""
    plain: Any = Real
    if cls is plain:
        return SimSocket
    found = _simulated.get(cls)
    if found is None:
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        found = _simulated[cls] = type(cls.__name__, (cls, SimSocket), names)
    return found


def _new(cls: Any, *_args: Any, **_kwargs: Any) -> Any:
    if here.world is not None and not issubclass(cls, SimSocket):
        cls = simulated(cls)
    return _Base.__new__(cls)


_real_init: Any = Real.__init__


def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    """A subclass may call ``socket.socket.__init__`` by this name."""
    (SimSocket.__init__ if isinstance(self, SimSocket) else _real_init)(self, *args, **kwargs)


stand_in("socket:socket", "__new__", staticmethod(_new))
stand_in("socket:socket", "__init__", _init)


# -- functions ---------------------------------------------------------------------------------------------------------


@door("socket", "socketpair")
def socketpair(
    world: World, family: int | None = None, type: int = _STREAM, proto: int = 0
) -> tuple[SimSocket, SimSocket]:
    world.before_call(world.thread)
    if family is not None and family != AF_UNIX:
        raise failure(errno.EOPNOTSUPP)
    from ..net.unixsocket import pair

    process = world.thread.process
    kind = int(type)
    one, two = pair(process, kind & ~_FLAG_BITS, proto)
    first = SimSocket.of(process, one)
    try:
        second = SimSocket.of(process, two)
    except OSError:
        first.close()
        raise
    for sock in (first, second):
        sock.settimeout(0.0 if kind & socket.SOCK_NONBLOCK else process.parts.get(_DEFAULT_TIMEOUT))
    return first, second


@door("socket", "dup")
def dup(world: World, fd: int, /) -> int:
    return os.dup(fd)


@door("socket", "close")
def close(world: World, fd: int, /) -> None:
    os.close(fd)


@door("socket", "setdefaulttimeout")
def setdefaulttimeout(world: World, timeout: float | None, /) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError("Timeout value out of range")
    world.thread.process.parts[_DEFAULT_TIMEOUT] = None if timeout is None else float(timeout)


@door("socket", "getdefaulttimeout")
def getdefaulttimeout(world: World) -> float | None:
    found: float | None = world.thread.process.parts.get(_DEFAULT_TIMEOUT)
    return found
