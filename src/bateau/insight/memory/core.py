"""The memory of a process that is no more: a core file, as the kernel or ``gcore`` writes it.

A core holds what the process had changed; what it had only mapped (code, constants) is read from the files themselves, which must
still be there.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO

from .errors import MemoryReadError, NotPython
from .source import Mapping

_HEADER = Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = Struct("<IIQQQQQQ")
_NOTE = Struct("<III")
_FILE_HEAD, _FILE_ENTRY = Struct("<QQ"), Struct("<QQQ")
_PSINFO = Struct("<24xi12x16s80s")  # pid, name, arguments
_CORE, _PT_LOAD, _PT_NOTE = 4, 1, 4
_NT_PRPSINFO, _NT_FILE = 3, 0x46494C45


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of memory and where its bytes are in the core; ``size`` of them, which may be fewer than it had."""

    start: int
    offset: int
    size: int
    permissions: str


class CoreMemory:
    """A ``MemorySource`` over a core file. Raises ``MemoryReadError`` for what is none (of a 64-bit little-endian machine)."""

    live = False
    stopped = False

    def __init__(self, path: str) -> None:
        self.path = path
        self.pid = 0
        self.arguments: tuple[str, ...] = ()
        self.executable = ""
        self._files: list[Mapping] = []
        self._open: dict[str, BinaryIO | None] = {}
        try:
            with open(path, "rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise MemoryReadError(f"{path} can't be read: {error}") from error
        self._pieces: list[_Piece] = []
        self._parse()
        self._starts = [piece.start for piece in self._pieces]
        self._file_starts = [mapping.start for mapping in self._files]

    def close(self) -> None:
        """Close the core and the files it refers to."""
        for file in self._open.values():
            if file is not None:
                file.close()
        self._data.close()

    def _parse(self) -> None:
        data = self._data
        if len(data) < _HEADER.size or data[:6] != b"\x7fELF\x02\x01" or _HEADER.unpack_from(data)[1] != _CORE:
            raise MemoryReadError(f"{self.path} is no core file of a 64-bit little-endian machine")
        header = _HEADER.unpack_from(data)
        for index in range(header[10]):
            at = header[5] + index * header[9]
            if at + _PROGRAM.size > len(data):
                raise MemoryReadError(f"{self.path} is cut short")
            kind, flags, offset, address, _, size, _, _ = _PROGRAM.unpack_from(data, at)
            if kind == _PT_LOAD:
                size = max(min(size, len(data) - offset), 0)
                permissions = ("r" if flags & 4 else "-") + ("w" if flags & 2 else "-") + ("x" if flags & 1 else "-")
                self._pieces.append(_Piece(address, offset, size, permissions))
            elif kind == _PT_NOTE:
                self._notes(offset, size)
        self._pieces.sort(key=lambda piece: piece.start)
        self._files.sort(key=lambda mapping: mapping.start)

    def _notes(self, at: int, size: int) -> None:
        end = min(at + size, len(self._data))
        while at + _NOTE.size <= end:
            name_size, content_size, kind = _NOTE.unpack_from(self._data, at)
            at += _NOTE.size + (name_size + 3) // 4 * 4
            content = self._data[at : at + content_size]
            at += (content_size + 3) // 4 * 4
            if kind == _NT_PRPSINFO and len(content) >= _PSINFO.size:
                self.pid, name, arguments = _PSINFO.unpack_from(content)
                self.arguments = tuple(os.fsdecode(part) for part in arguments.split(b"\0")[0].split())
                self.executable = os.fsdecode(name.split(b"\0")[0])
            elif kind == _NT_FILE:
                self._mapped_files(content)

    def _mapped_files(self, content: bytes) -> None:
        if len(content) < _FILE_HEAD.size:
            return
        count, page = _FILE_HEAD.unpack_from(content)
        names_at = _FILE_HEAD.size + count * _FILE_ENTRY.size
        names = content[names_at:].split(b"\0")
        for index in range(min(count, len(names))):
            start, end, offset = _FILE_ENTRY.unpack_from(content, _FILE_HEAD.size + index * _FILE_ENTRY.size)
            self._files.append(Mapping(start, end, "r-x", offset * page, os.fsdecode(names[index])))

    # -- the source ----------------------------------------------------------------------------------------------------

    def mappings(self) -> list[Mapping]:
        """What is mapped, lowest first."""
        anonymous = [Mapping(p.start, p.start + p.size, p.permissions, 0, "") for p in self._pieces]
        return sorted([*self._files, *anonymous], key=lambda mapping: mapping.start)

    def read(self, address: int, size: int) -> bytes:
        """At most ``size`` bytes: fewer, down to none, where neither the core nor a mapped file has them."""
        found = b""
        while len(found) < size:
            piece = self._read_some(address + len(found), size - len(found))
            if not piece:
                break
            found += piece
        return found

    def _read_some(self, address: int, size: int) -> bytes:
        """What one piece of the core, or one file, has from there on."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0:
            piece = self._pieces[at]
            skip = address - piece.start
            if skip < piece.size:
                return self._data[piece.offset + skip : piece.offset + min(skip + size, piece.size)]
        at = bisect_right(self._file_starts, address) - 1
        if at < 0 or address >= self._files[at].end:
            return b""
        mapping = self._files[at]
        if at + 1 < len(self._file_starts):
            size = min(size, self._file_starts[at + 1] - address)
        following = bisect_right(self._starts, address)
        if following < len(self._starts):  # what the process had changed behind it is in the core
            size = min(size, self._starts[following] - address)
        size = min(size, mapping.end - address)
        file = self._file(mapping.path)
        return os.pread(file.fileno(), size, mapping.offset + address - mapping.start) if file is not None else b""

    def _file(self, path: str) -> BinaryIO | None:
        if path not in self._open:
            try:
                self._open[path] = open(path, "rb")  # noqa: SIM115  # kept for the reads to come; ``close`` closes it
            except OSError:
                self._open[path] = None
        return self._open[path]

    def open_mapped(self, mapping: Mapping) -> BinaryIO:
        """The file behind a mapping. Raises ``OSError`` where it is gone."""
        if not mapping.path.startswith("/"):
            raise NotPython("no file is mapped there")
        return open(mapping.path, "rb")
