"""The memory of a live process, by ``process_vm_readv``: the process is not stopped, and nothing is written to it."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Any, BinaryIO

from ..readers import state_of
from .errors import MemoryReadError, ProcessEnded, not_permitted
from .source import Mapping


class _Span(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _syscall() -> Any:
    if not sys.platform.startswith("linux"):
        raise MemoryReadError("the memory of another process can be read on Linux only")
    call = ctypes.CDLL(None, use_errno=True).process_vm_readv
    span = ctypes.POINTER(_Span)
    call.argtypes = (ctypes.c_int, span, ctypes.c_ulong, span, ctypes.c_ulong, ctypes.c_ulong)
    call.restype = ctypes.c_ssize_t
    return call


class ProcessMemory:
    """A ``MemorySource`` over a process id.

    Raises ``ProcessEnded`` where there is none, ``PermissionError`` (with what to do) where it may not be read.
    """

    live = True

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.arguments: tuple[str, ...] = ()
        self.executable = ""
        self._call = _syscall()
        self._buffer = ctypes.create_string_buffer(1 << 19)
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                state = state_of(file.read())
        except FileNotFoundError:
            raise ProcessEnded(f"there is no process {pid}") from None
        self.stopped = state in {b"T", b"t"}
        if state in {b"Z", b"X"}:
            raise ProcessEnded(f"process {pid} has ended (its parent has not collected it yet)")
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                self.arguments = tuple(os.fsdecode(part) for part in file.read().split(b"\0")[:-1])
            self.executable = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return  # not ours to read: the first reading of its memory says so

    def mappings(self) -> list[Mapping]:
        """What is mapped, lowest first. Raises ``ProcessEnded``, ``NotPermitted``."""
        found: list[Mapping] = []
        try:
            with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
                for line in file:
                    parts = line.rstrip("\n").split(None, 5)
                    start, _, end = parts[0].partition("-")
                    path = parts[5] if len(parts) > 5 else ""
                    found.append(Mapping(int(start, 16), int(end, 16), parts[1], int(parts[2], 16), path))
        except PermissionError:
            raise not_permitted(self.pid) from None
        except (FileNotFoundError, ProcessLookupError):
            raise ProcessEnded(f"process {self.pid} has ended") from None
        return found

    def read(self, address: int, size: int) -> bytes:
        """At most ``size`` bytes: fewer, down to none, where the memory ends before. Raises ``ProcessEnded``, ``NotPermitted``."""
        if size > len(self._buffer):  # kept: to clear a new one for each chunk takes as long as to read it
            self._buffer = ctypes.create_string_buffer(size)
        buffer = self._buffer
        local = _Span(ctypes.cast(buffer, ctypes.c_void_p), size)
        remote = _Span(address, size)
        count = self._call(self.pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
        if count >= 0:
            return ctypes.string_at(buffer, count)
        code = ctypes.get_errno()
        if code == errno.EFAULT:
            return b""
        if code == errno.ESRCH:
            raise ProcessEnded(f"process {self.pid} has ended")
        if code == errno.EPERM:
            raise not_permitted(self.pid)
        if code == errno.ENOSYS:
            raise MemoryReadError("this kernel has no process_vm_readv (or a seccomp filter forbids it)")
        raise OSError(code, os.strerror(code))

    def open_mapped(self, mapping: Mapping) -> BinaryIO:
        """The file behind a mapping. Raises ``OSError`` where it is gone."""
        # Through the process's own root, for containers; by the mapping itself where the file was replaced or deleted.
        path = mapping.path
        if not path.endswith(" (deleted)"):
            try:
                return open(f"/proc/{self.pid}/root{path}", "rb")
            except OSError:
                pass
        return open(f"/proc/{self.pid}/map_files/{mapping.start:x}-{mapping.end:x}", "rb")
