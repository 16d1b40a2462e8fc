"""Descriptors sent along with data over a Unix socket (SCM_RIGHTS), without losing one."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable
from typing import Any

from ..kernel.operation import ABORTED
from ._errors import Truncated, check_count
from ._stream import SocketStream, StreamReading, StreamWrite

# The most descriptors the kernel takes in one message.
MAX_FDS = 253

_FD_SIZE = array.array("i").itemsize


class SendFds(StreamWrite):
    """``UnixStream.send_fds``: a write whose first byte carries the descriptors."""

    __slots__ = ("fds",)

    def __init__(self, stream: SocketStream, data: Any, fds: Iterable[int]) -> None:
        self.state = ABORTED  # until it is whole
        self.fds = array.array("i", fds)
        if len(self.fds) > MAX_FDS:
            raise ValueError(f"send_fds takes at most {MAX_FDS} descriptors at once, not {len(self.fds)}")
        super().__init__(stream, data)
        if not self.total:
            self.state = ABORTED
            raise ValueError("send_fds needs at least one byte of data: descriptors travel with a byte")

    def send_some(self) -> int:
        if self.sent or not self.fds:
            return super().send_some()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, self.fds)]
        return self.stream._sock.sendmsg([self.data], rights)


class RecvFds(StreamReading[tuple[bytes, list[int]]]):
    """``UnixStream.recv_fds``."""

    __slots__ = ("max_fds", "n")

    def __init__(self, stream: SocketStream, n: int, max_fds: int) -> None:
        self.state = ABORTED  # until it is whole
        self.n = check_count(n)
        self.max_fds = check_count(max_fds, "max_fds")
        if not n:
            raise ValueError("recv_fds needs room for at least one byte: descriptors travel with a byte")
        super().__init__(stream)

    def poll(self) -> bool:
        stream = self.stream
        stream._check_free(stream._reader, self, "read")
        space = socket.CMSG_LEN(self.max_fds * _FD_SIZE)
        try:
            data, messages, flags, _ = stream._sock.recvmsg(self.n, space, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.given_up()
            raise stream._translated(error) from error
        self.given_up()
        fds = _fds_in(messages)
        if flags & socket.MSG_CTRUNC:
            _close(fds)
            raise Truncated(
                f"{stream._describe()}: more than max_fds={self.max_fds} descriptors came with the data (or this process "
                "has no room for them); those received were closed",
                data=data,
                address=None,
            )
        self.value = data, fds
        return True

    def undo(self, value: tuple[bytes, list[int]]) -> None:
        _close(value[1])


def _fds_in(messages: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, payload in messages:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % _FD_SIZE])
    return list(fds)


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
