"""What a simulated socket object knows and does: the methods that ``_socket`` has in C, with their waiting in the world."""

from __future__ import annotations

import array
import errno
import socket
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import NotSimulated
from ..fds import SimFile, failure, release
from ..net.addresses import AF_UNIX
from ..net.socketfile import CTRUNC, DONTWAIT, PEEK, WAITALL, SocketFile, flat
from ..net.tcp import CONNECTING, TcpSocket
from ..thread import here
from .names import endpoint

if TYPE_CHECKING:
    from ..process import Process

T = TypeVar("T")

_STREAM = int(socket.SOCK_STREAM)
# The place of the default timeout in ``process.parts``.
DEFAULT_TIMEOUT = "default timeout"
_INTEGER = array.array("i").itemsize


class Handle:
    """What a simulated socket object knows. See the head of ``sockets``.

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
        process, file = self.process, self.file
        if file is None or process.dead or self.world.over or (self.seconds != 0 and len(process.threads) > 1):
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
        process, file = self.process, self.file
        if file is None or process.dead or self.world.over or (self.seconds != 0 and len(process.threads) > 1):
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
        found.blocking = self.process.parts.get(DEFAULT_TIMEOUT) is None
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
