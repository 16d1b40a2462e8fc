"""Pipes and eventfds."""

from __future__ import annotations

import errno
import fcntl
from typing import TYPE_CHECKING, Any

from ..fds import ERR, HUP, IN, OUT, SimFile, failure

if TYPE_CHECKING:
    from ..process import Process

CAPACITY = 65_536
# Writes of at most so many bytes are whole or not at all.
ATOMIC = 4096
MOST_COUNT = 2**64 - 1


class PipeEnd(SimFile):
    """One end of a pipe. Invariant: both ends share ``data``, which never grows beyond the capacity."""

    kind = "pipe"

    def __init__(self, process: Process, data: bytearray, *, writes: bool) -> None:
        super().__init__(process)
        self.data = data
        self.writes = writes
        self.capacity = CAPACITY
        self.other: PipeEnd = self

    def describe(self) -> str:
        return f"the {'writing' if self.writes else 'reading'} end of a pipe"

    def mask(self) -> int:
        if self.writes:
            if self.other.closed:
                return OUT | ERR
            return OUT if self.capacity - len(self.data) >= ATOMIC else 0
        return (IN if self.data else 0) | (HUP if self.other.closed else 0)

    def read(self, size: int) -> bytes:
        if self.writes:
            raise failure(errno.EBADF)
        if not size:
            return b""
        data = self.data
        if not data:
            if self.other.closed:
                return b""
            raise failure(errno.EAGAIN)
        found = bytes(data[:size])
        del data[:size]
        self.other.changed()
        return found

    def write(self, data: Any) -> int:
        if not self.writes:
            raise failure(errno.EBADF)
        view = memoryview(data).cast("B")
        if not view:
            return 0
        if self.other.closed:
            raise failure(errno.EPIPE)
        room = self.capacity - len(self.data)
        if room <= 0 or (len(view) <= ATOMIC and room < len(view)):
            raise failure(errno.EAGAIN)
        part = view[:room]
        self.data.extend(part)
        self.other.changed()
        return len(part)

    def dropped(self) -> None:
        self.other.changed()

    def control(self, command: int, value: Any) -> Any:
        if command == fcntl.F_GETPIPE_SZ:
            return self.capacity
        if command == fcntl.F_SETPIPE_SZ:
            size = max(ATOMIC, 1 << (int(value) - 1).bit_length())
            if size < len(self.data):
                raise failure(errno.EBUSY)
            self.capacity = self.other.capacity = size
            return size
        return super().control(command, value)

    def waiting(self) -> int:
        """How many bytes are there (FIONREAD)."""
        return len(self.data)


def pipe(process: Process) -> tuple[PipeEnd, PipeEnd]:
    """The reading end and the writing end of a new pipe."""
    data = bytearray()
    reading, writing = PipeEnd(process, data, writes=False), PipeEnd(process, data, writes=True)
    reading.other, writing.other = writing, reading
    return reading, writing


class EventFile(SimFile):
    """An eventfd: a counter that can be waited for."""

    kind = "eventfd"

    def __init__(self, process: Process, count: int, *, semaphore: bool) -> None:
        super().__init__(process)
        self.count = count
        self.semaphore = semaphore

    def mask(self) -> int:
        return (IN if self.count else 0) | (OUT if self.count < MOST_COUNT - 1 else 0)

    def take(self) -> int:
        """As ``os.eventfd_read``."""
        if not self.count:
            raise failure(errno.EAGAIN)
        taken = 1 if self.semaphore else self.count
        self.count -= taken
        self.changed()
        return taken

    def add(self, value: int) -> None:
        """As ``os.eventfd_write``."""
        if self.count + value >= MOST_COUNT:
            raise failure(errno.EAGAIN)
        self.count += value
        self.changed()

    def read(self, size: int) -> bytes:
        if size < 8:
            raise failure(errno.EINVAL)
        return self.take().to_bytes(8, "little")

    def write(self, data: Any) -> int:
        raw = bytes(data)
        if len(raw) < 8:
            raise failure(errno.EINVAL)
        value = int.from_bytes(raw[:8], "little")
        if value == MOST_COUNT:
            raise failure(errno.EINVAL)
        self.add(value)
        return 8

    def mode(self) -> int:
        return 0o600
