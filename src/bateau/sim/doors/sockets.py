"""Doors of ``socket``: on a thread of a world, a ``socket.socket`` has a ``Handle`` instead of a real descriptor.

``socket.socket`` stays the class it is, and its instances are instances of it, so that nobody can tell them apart. While worlds are
open, the methods that it has from ``_socket`` ask first whether the instance is simulated; what Python's ``socket.py`` does above them
(``accept``, ``makefile``, ``dup``, ``sendfile``, context managers) is shared.

The handle stands in the instance's one slot for bookkeeping, ``_io_refs``, and counts what is counted there.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import warnings
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import NotSimulated
from ..fds import FIRST_FD, SimFile, failure, release
from ..net.addresses import AF_INET, AF_INET6, AF_UNIX
from ..net.socketfile import CTRUNC, DONTWAIT, PEEK, WAITALL, SocketFile, flat
from ..net.tcp import CONNECTING, TcpSocket
from ..net.udp import UdpSocket
from ..thread import here
from . import door, real, stand_in
from .names import endpoint

if TYPE_CHECKING:
    from ..process import Process
    from ..world import World

T = TypeVar("T")

Real = socket.socket
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


class Handle:
    """What a simulated socket object knows. See the module's head.

    Invariants: ``fd`` is its number in ``process``'s table, -1 once closed or detached; ``file`` is what that refers to, or None. ``seconds``
    is its timeout: None blocks, 0 never waits. ``files`` counts the file objects made of it, which keep it open.
    """

    __slots__ = ("fd", "file", "files", "number", "process", "seconds", "world")

    def __init__(self, process: Process, fd: int, file: SocketFile, number: int, seconds: float | None) -> None:
        self.process = process
        self.world = process.world
        self.fd = fd
        self.file: SocketFile | None = file
        self.files = 0
        self.number = number
        self.seconds = seconds

    def __del__(self) -> None:
        if self.fd >= 0 and not self.process.dead and not self.world.over:
            text = f"unclosed simulated socket {self.file.describe() if self.file is not None else ''} fd={self.fd}"
            warnings.warn(text, ResourceWarning, stacklevel=2)
            self.release()

    # -- the count that ``socket.py`` keeps in this place ----------------------------------------------------------------

    def __iadd__(self, count: int) -> Handle:
        self.files += count
        return self

    def __isub__(self, count: int) -> Handle:
        self.files -= count
        return self

    def __gt__(self, count: int) -> bool:
        return self.files > count

    def __le__(self, count: int) -> bool:
        return self.files <= count

    # -- what every call does first --------------------------------------------------------------------------------------

    def open_file(self) -> SocketFile:
        """What the descriptor refers to. Raises ``OSError`` (EBADF) where it is closed."""
        world = self.world
        if self.process.dead or world.over:
            if here.world is not world:
                raise NotSimulated("this socket belongs to a simulated world that has ended")
            world.before_call(world.thread)
        if self.seconds != 0 and len(self.process.threads) > 1:
            world.point()  # event loops, which never wait here, let the others run when they poll
        file = self.file
        if file is None:
            raise failure(errno.EBADF)
        return file

    def _known_file(self) -> SocketFile:
        """``_open_file`` for calls that only ask or set: cleanup may do so where the process is dead, and finds everything closed."""
        if self.file is None or self.process.dead or self.world.closed:
            raise failure(errno.EBADF)
        return self.file

    def _deadline(self) -> float | None:
        seconds = self.seconds
        return None if seconds is None else self.process.host.clock.world_time_after(seconds)

    def _call(self, what: str, attempt: Callable[..., T], *args: Any) -> T:
        """``attempt(*args)``, again after each change of the socket as long as it would block and the timeout allows it."""
        file = self.open_file()
        try:
            return attempt(*args)
        except BlockingIOError:
            self._must_wait(file)
        return self._again(what, file, self._deadline(), attempt, *args)

    def _must_wait(self, file: SocketFile) -> None:
        """In the handler of a call that would block: raises that again unless this socket waits."""
        seconds = self.seconds
        if seconds == 0 or (seconds is None and not file.blocking):
            self.world.network.would_block()
            raise  # noqa: PLE0704  # the caller's handler is active

    def _again(self, what: str, file: SocketFile, deadline: float | None, attempt: Callable[..., T], *args: Any) -> T:
        while True:
            if not file.wait(f"{what} {file.describe()}", deadline):
                raise TimeoutError("timed out")
            if self.file is not file:
                raise failure(errno.EBADF)
            try:
                return attempt(*args)
            except BlockingIOError:
                continue

    def _address(self, file: SocketFile, address: Any, what: str) -> Any:
        if file.family == AF_UNIX:
            from ..net.unixsocket import name_of

            return name_of(address)
        return endpoint(self.world, file.family, address, what)

    # -- receiving -------------------------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As a real socket's."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        file = self.open_file()
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
        file = self.open_file()
        flags = int(flags)
        if flags & DONTWAIT:
            return file.receive_message(size, flags)
        if flags & WAITALL and not flags & PEEK and file.type == _STREAM:
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
                    numbers.append(self.process.fds.add(file))
                except OSError:
                    told |= CTRUNC
                    break
            if lost:
                told |= CTRUNC
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
        file = self.open_file()
        if data.__class__ is not bytes:
            data = flat(data)
        if flags & DONTWAIT:
            return file.send(data, flags)
        try:
            sent = file.send(data, flags)
        except BlockingIOError:
            self._must_wait(file)
            sent = 0
        else:
            if sent == len(data) or self.seconds is not None or not file.blocking:
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
        file = self.open_file()
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
        file = self.open_file()
        view = flat(data)
        to = None if address is None or file.kind == "tcp" else self._address(file, address, "sendto")
        if flags & DONTWAIT:
            return file.send(view, flags, to)
        return self._call("sendto on", file.send, view, flags, to)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        """As a real socket's; of ancillary data there are descriptors (``SCM_RIGHTS``) on Unix sockets."""
        file = self.open_file()
        data = b"".join(flat(buffer) for buffer in buffers)
        rights = self._rights(ancdata)
        to = None if address is None or file.kind == "tcp" else self._address(file, address, "sendmsg")
        if rights:
            if flags & DONTWAIT:
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
            found.extend(self.process.fds.get(number) for number in numbers)
        return found

    # -- connecting ------------------------------------------------------------------------------------------------------

    def bind(self, address: Any, /) -> None:
        """As a real socket's."""
        file = self.open_file()
        file.bind(self._address(file, address, "bind"))

    def listen(self, backlog: int = 128, /) -> None:
        """As a real socket's."""
        self.open_file().listen(backlog)

    def accept(self) -> tuple[int, Any]:
        """As ``_socket``'s: a descriptor and an address."""
        file = self.open_file()
        found, address = self._call("accept on", file.accept)
        try:
            fd = self.process.fds.add(found)
        except OSError:
            file.unaccept(found)
            raise
        found.blocking = self.process.parts.get(_DEFAULT_TIMEOUT) is None
        return fd, address

    def connect(self, address: Any, /) -> None:
        """As a real socket's."""
        file = self.open_file()
        to = self._address(file, address, "connect")
        try:
            file.connect(to)
        except BlockingIOError as error:
            if error.errno != errno.EINPROGRESS and (file.kind == "tcp" or self.seconds is not None):
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
        if self.seconds is None:
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
        self.seconds = value

    def gettimeout(self) -> float | None:
        """As a real socket's."""
        return self.seconds

    def setblocking(self, flag: bool, /) -> None:
        """As a real socket's."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """As a real socket's."""
        return self.seconds != 0

    # -- the descriptor --------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Its number; -1 once closed."""
        return self.fd

    def detach(self) -> int:
        """As a real socket's."""
        fd, self.fd = self.fd, -1
        self.file = None
        return fd

    def release(self) -> None:
        """Close the descriptor, if the process still has it: of the dead, the system has closed everything."""
        fd, self.fd = self.fd, -1
        file, self.file = self.file, None
        fds = self.process.fds
        if fd >= 0 and fds.files.get(fd) is file:
            fds.close(fd)


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


# -- making them -------------------------------------------------------------------------------------------------------


def _make(world: World, family: int, type: int, proto: int) -> Handle:
    world.before_call(world.thread)
    process = world.thread.process
    family = AF_INET if family == -1 else int(family)
    type = _STREAM if type == -1 else int(type)
    proto = 0 if proto == -1 else proto
    file = new_file(process, family, type & ~_FLAG_BITS, proto)
    seconds = 0.0 if type & socket.SOCK_NONBLOCK else process.parts.get(_DEFAULT_TIMEOUT)
    file.blocking = seconds is None
    return Handle(process, process.fds.add(file), file, proto, seconds)


def _adopt(world: World, fileno: Any, proto: int) -> Handle:
    """For a descriptor that is there already."""
    if isinstance(fileno, float):
        raise TypeError("integer argument expected, got float")
    if fileno < 0:
        raise ValueError("negative file descriptor")
    if fileno < FIRST_FD:
        raise NotSimulated(
            f"descriptor {fileno} is a real one, made outside the simulated world; make the socket inside it"
        )
    world.before_call(world.thread)
    process = world.thread.process
    file = process.fds.get(fileno)
    if not isinstance(file, SocketFile):
        raise failure(errno.ENOTSOCK)
    seconds = process.parts.get(_DEFAULT_TIMEOUT) if file.blocking else 0.0
    return Handle(process, fileno, file, file.protocol() if proto == -1 else proto, seconds)


def handle_of(sock: Any) -> Handle | None:
    """The handle of a simulated socket; None for a real one."""
    found = getattr(sock, "_io_refs", None)
    return found if isinstance(found, Handle) else None


_real_init: Any = Real.__init__


def _init(self: Any, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None) -> None:
    world = here.world
    if world is None:
        _real_init(self, family, type, proto, fileno)
        return
    if self.__class__ is not Real and any(base.__module__ == "ssl" for base in self.__class__.__mro__):
        from .tls import put_in_place

        put_in_place()
    self._io_refs = _make(world, family, type, proto) if fileno is None else _adopt(world, fileno, proto)
    self._closed = False


# -- what the class does -----------------------------------------------------------------------------------------------


def _method(name: str, inside: Callable[..., Any]) -> None:
    """Let the method act on the handle of those that have one."""
    outside: Any = getattr(Real, name)

    @wraps(outside)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        handle = self._io_refs
        if handle.__class__ is Handle:
            return inside(handle, *args, **kwargs)
        return outside(self, *args, **kwargs)

    stand_in("socket:socket", name, method)


def _attribute(name: str, inside: Callable[[Handle], Any]) -> None:
    outside: Any = getattr(Real, name)

    def get(self: Any) -> Any:
        handle = self._io_refs
        if handle.__class__ is Handle:
            return inside(handle)
        return outside.__get__(self)

    stand_in("socket:socket", name, property(get))


for _name in (
    "bind", "connect", "connect_ex", "fileno", "getblocking", "getpeername", "getsockname", "getsockopt", "gettimeout", "listen",
    "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "send", "sendall", "sendmsg", "sendto", "setblocking",
    "setsockopt", "settimeout", "shutdown",
):  # fmt: skip
    _method(_name, getattr(Handle, _name))
_method("_accept", Handle.accept)
_method("_real_close", Handle.release)
stand_in("socket:socket", "__init__", _init)
_attribute("family", lambda handle: socket.AddressFamily(handle.file.family) if handle.file is not None else 0)
_attribute("type", lambda handle: socket.SocketKind(handle.file.type) if handle.file is not None else 0)
_attribute("proto", lambda handle: handle.number)
_attribute("timeout", lambda handle: handle.seconds)


def _detach(self: Any) -> int:
    handle = self._io_refs
    if handle.__class__ is not Handle:
        return int(real("socket:socket", "detach")(self))
    self._closed = True
    return int(handle.detach())


stand_in("socket:socket", "detach", _detach)


# -- functions ---------------------------------------------------------------------------------------------------------


@door("_socket", "socketpair")
def socketpair(world: World, family: int = AF_UNIX, type: int = _STREAM, proto: int = 0, /) -> tuple[Any, Any]:
    from ..net.unixsocket import pair

    world.before_call(world.thread)
    if family != AF_UNIX:
        raise failure(errno.EOPNOTSUPP)
    process = world.thread.process
    kind = int(type)
    ends = pair(process, kind & ~_FLAG_BITS, proto)
    found: list[Any] = []
    try:
        for end in ends:
            end.blocking = not kind & socket.SOCK_NONBLOCK and process.parts.get(_DEFAULT_TIMEOUT) is None
            found.append(Real(family, kind, proto, process.fds.add(end)))
    except OSError:
        for sock in found:
            sock.close()
        raise
    return found[0], found[1]


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
