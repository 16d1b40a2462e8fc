"""Unix-domain sockets: paths, abstract names, stale files, socket pairs, and descriptors sent along with data.

A path is a ``str``, ``bytes`` or ``os.PathLike``; a name that starts with a NUL is Linux's abstract one and needs no file.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias, cast

from ..kernel.flow import checkpoint
from ..time import sleep
from ._errors import format_address, with_address
from ._fds import RecvFds, SendFds
from ._listener import DEFAULT_BACKLOG, Listener
from ._resolve import AddrInfo
from ._stream import SocketStream
from ._tcp import connect_one

StrPath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"


class Credentials(NamedTuple):
    """Who is at the other end of a Unix socket, as the kernel knows it: process, user and group number."""

    pid: int
    uid: int
    gid: int


class UnixStream(SocketStream):
    """A connected Unix stream socket: a ``SocketStream`` that can also carry file descriptors."""

    __slots__ = ()
    _kind = "Unix stream"

    def send_fds(self, data: Any, fds: Iterable[int]) -> SendFds:
        """Await it: send the descriptors ``fds`` along with the first byte of ``data``, then all the rest of ``data``.

        The receiver gets duplicates: the originals stay the caller's, to be closed once this has returned. ``data`` must not
        be empty. A cancellation point; cancelled in the middle, the stream is broken as after a cancelled ``write``.
        Raises ``ValueError`` for no data, ``OSError`` for a bad descriptor, else like ``write``.
        """
        return SendFds(self, data, fds)

    def recv_fds(self, n: int = 65536, max_fds: int = 16) -> RecvFds:
        """Await it: at most ``n`` bytes, and the descriptors that came with them (close-on-exec; the caller closes them).

        A cancellation point; cancelled, neither bytes nor descriptors are lost. If more than ``max_fds`` came, the ones received
        are closed and ``OSError`` is raised. At the end it gives ``(b"", [])``. Plain ``read`` drops descriptors.
        """
        return RecvFds(self, n, max_fds)

    def peer_credentials(self) -> Credentials:
        """Process, user and group of the peer at the time it connected. Raises ``Closed`` once closed."""
        layout = struct.Struct("3i")
        raw: bytes = self.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
        return Credentials(*layout.unpack(raw))


# -- connecting --------------------------------------------------------------------------------------------------------


async def connect(path: StrPath) -> UnixStream:
    """Connect to the Unix stream socket at ``path``.

    A cancellation point; cancelled, nothing stays open. Raises ``OSError`` that names the path: ``FileNotFoundError`` if there
    is none, ``ConnectionRefusedError`` if nobody listens there any more.
    """
    address = check_path(path)
    row = AddrInfo(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", address)
    pause = 0.001
    while True:
        try:
            return await connect_one(format_address(row.family, address), row, UnixStream, False)
        except BlockingIOError:
            # The listener's backlog is full. The kernel has no event for its having room again, so this has to ask.
            await sleep(pause)
        pause = min(pause * 2, 0.05)


def pair() -> tuple[UnixStream, UnixStream]:
    """Two connected Unix streams, as Python's ``socket.socketpair``. Not a cancellation point."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        return UnixStream(one), UnixStream(two)
    except BaseException:
        one.close()
        two.close()
        raise


# -- listening ---------------------------------------------------------------------------------------------------------


async def listen(
    path: StrPath,
    *,
    mode: int | None = None,
    unlink: bool = True,
    backlog: int = DEFAULT_BACKLOG,
    limit: int | None = None,
) -> Listener:
    """Listen on the Unix stream socket ``path``, which is made.

    A socket file that a dead server left behind is replaced; one where somebody still listens, or a file that is no socket, is
    ``OSError`` (``EADDRINUSE``). ``mode`` is the file's permissions (an int as for ``os.chmod``; None: by the umask), set before
    anybody can connect. ``unlink`` removes the file when the listener is closed, if it is still the one that was made. ``backlog`` and
    ``limit`` are as in ``listen_tcp``. A cancellation point; cancelled, nothing was made.
    """
    address = check_path(path)
    bits: Any = mode  # users are not type-checked
    if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 0 <= bits <= 0o7777):
        raise ValueError(f"mode must be permission bits such as 0o600, not {mode!r}")
    await checkpoint()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    on_close: Callable[[], None] | None = None
    try:
        _bind(sock, address, mode)
        if unlink and not _is_abstract(address):
            on_close = _unlinker(address)
        sock.listen(backlog)
        return Listener([sock], stream_type=UnixStream, limit=limit, on_close=on_close)
    except BaseException:
        sock.close()
        if on_close is not None:
            on_close()
        raise


def _bind(sock: socket.socket, address: str | bytes, mode: int | None) -> None:
    if mode is not None and not _is_abstract(address):
        os.fchmod(sock.fileno(), mode)  # the file is made with it, so there is no moment with more
    try:
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or _is_abstract(address) or not _is_stale(address):
                raise
            os.unlink(address)
            sock.bind(address)
    except OSError as error:
        raise with_address(error, "listening on", _shown(address)) from error
    if mode is not None and not _is_abstract(address):
        os.chmod(address, mode)  # the umask had its say above


def _is_stale(address: str | bytes) -> bool:
    """Whether ``address`` is a socket file where nobody listens."""
    if not stat.S_ISSOCK(os.lstat(address).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(address) == errno.ECONNREFUSED


def _unlinker(address: str | bytes) -> Callable[[], None]:
    """A function that removes the file at ``address``, if it is still the one that is there now."""
    path = os.path.abspath(address)
    made = os.lstat(path)

    def unlink() -> None:
        try:
            found = os.lstat(path)
            if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
                os.unlink(path)
        except FileNotFoundError:
            return

    return unlink


def check_path(path: Any) -> str | bytes:
    """``path`` as the socket module takes it; raises ``TypeError``, ``ValueError`` or ``OSError`` that say what is wrong."""
    address = cast("str | bytes", os.fspath(path))
    if not address:
        raise ValueError("the path of a Unix socket is empty")
    raw = os.fsencode(address)
    if b"\0" in raw[1:] and not _is_abstract(address):
        raise ValueError(f"the path {address!r} contains a NUL character")
    if len(raw) > 107:
        raise OSError(
            errno.ENAMETOOLONG,
            f"{os.strerror(errno.ENAMETOOLONG)}: a Unix socket's path has at most 107 bytes, this one {len(raw)}; "
            "use a shorter or a relative one",
            os.fsdecode(raw),
        )
    return address


def _is_abstract(address: str | bytes) -> bool:
    return address[:1] in ("\0", b"\0")


def _shown(address: str | bytes) -> str:
    text = os.fsdecode(address)
    return f"@{text[1:]}" if text.startswith("\0") else text
