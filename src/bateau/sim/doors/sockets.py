"""Doors of ``socket``: on a thread of a world, a ``socket.socket`` has a ``Handle`` instead of a real descriptor.

``socket.socket`` stays the class it is, and its instances are instances of it, so that nobody can tell them apart. While worlds are
open, the methods that it has from ``_socket`` ask first whether the instance is simulated; what Python's ``socket.py`` does above them
(``accept``, ``makefile``, ``dup``, ``sendfile``, context managers) is shared.

The handle stands in the instance's one slot for bookkeeping, ``_io_refs``, and counts what is counted there.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from ..errors import NotSimulated
from ..fds import FIRST_FD, failure
from ..net.addresses import AF_INET, AF_INET6, AF_UNIX
from ..net.socketfile import SocketFile
from ..net.tcp import TcpSocket
from ..net.udp import UdpSocket
from ..thread import here
from . import door, real, stand_in
from .handles import DEFAULT_TIMEOUT, Handle

if TYPE_CHECKING:
    from ..process import Process
    from ..world import World

Real = socket.socket
_STREAM, _DGRAM = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM)
_FLAG_BITS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


# -- making them -------------------------------------------------------------------------------------------------------


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


def _make(world: World, family: int, type: int, proto: int) -> Handle:
    world.before_call(world.thread)
    process = world.thread.process
    family = AF_INET if family == -1 else int(family)
    type = _STREAM if type == -1 else int(type)
    proto = 0 if proto == -1 else proto
    file = new_file(process, family, type & ~_FLAG_BITS, proto)
    seconds = 0.0 if type & socket.SOCK_NONBLOCK else process.parts.get(DEFAULT_TIMEOUT)
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
    seconds = process.parts.get(DEFAULT_TIMEOUT) if file.blocking else 0.0
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
    "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "sendall", "sendmsg", "sendto", "setblocking",
    "setsockopt", "settimeout", "shutdown",
):  # fmt: skip
    _method(_name, getattr(Handle, _name))
_method("_accept", Handle.accept)


def _recv_and_send() -> None:
    """As ``_method`` does it, for what is called most: without packing and unpacking of arguments."""
    outside_recv, outside_send = Real.recv, Real.send
    inside_recv, inside_send = Handle.recv, Handle.send

    @wraps(outside_recv)
    def recv(self: Any, bufsize: int, flags: int = 0, /) -> Any:
        handle = self._io_refs
        if handle.__class__ is Handle:
            return inside_recv(handle, bufsize, flags)
        return outside_recv(self, bufsize, flags)

    @wraps(outside_send)
    def send(self: Any, data: Any, flags: int = 0, /) -> Any:
        handle = self._io_refs
        if handle.__class__ is Handle:
            return inside_send(handle, data, flags)
        return outside_send(self, data, flags)

    stand_in("socket:socket", "recv", recv)
    stand_in("socket:socket", "send", send)


_recv_and_send()
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
            end.blocking = not kind & socket.SOCK_NONBLOCK and process.parts.get(DEFAULT_TIMEOUT) is None
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
    world.thread.process.parts[DEFAULT_TIMEOUT] = None if timeout is None else float(timeout)


@door("socket", "getdefaulttimeout")
def getdefaulttimeout(world: World) -> float | None:
    found: float | None = world.thread.process.parts.get(DEFAULT_TIMEOUT)
    return found
