"""As much of ELF as it takes to find a symbol or a section of a mapped file in memory."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO

from .errors import NotPython

_HEADER = Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = Struct("<IIQQQQQQ")
_SECTION = Struct("<IIQQQQIIQQ")
_SYMBOL = Struct("<IBBHQQ")
_PT_LOAD = 1
_SYMTAB, _DYNSYM = 2, 11


@dataclass(frozen=True, slots=True)
class _Section:
    name: int
    kind: int
    address: int
    offset: int
    size: int
    link: int


class ElfFile:
    """A 64-bit little-endian ELF file. Raises ``NotPython`` for anything else: no interpreter we know lives in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self._parse()
        except (struct.error, IndexError) as error:
            raise NotPython(f"a damaged ELF file: {error}") from None

    def close(self) -> None:
        """Unmap the file."""
        self._data.close()

    def _parse(self) -> None:
        data = self._data
        if data[:6] != b"\x7fELF\x02\x01":
            raise NotPython("not a 64-bit little-endian ELF file")
        header = _HEADER.unpack_from(data)
        self.position_independent = header[1] == 3
        program_offset, section_offset = header[5], header[6]
        program_count, section_count, names_index = header[10], header[12], header[13]
        programs = [_PROGRAM.unpack_from(data, program_offset + i * header[9]) for i in range(program_count)]
        # file offset, address, size in the file
        self.loads = [(p[2], p[3], p[5]) for p in programs if p[0] == _PT_LOAD]
        sections = [_SECTION.unpack_from(data, section_offset + i * header[11]) for i in range(section_count)]
        self._sections: list[_Section] = [_Section(s[0], s[1], s[3], s[4], s[5], s[6]) for s in sections]
        self._names: _Section | None = self._sections[names_index] if self._sections else None

    def section(self, name: str) -> tuple[int, int] | None:
        """Address (before relocation) and size of the section called ``name``."""
        if self._names is not None:
            for section in self._sections:
                if self._string(self._names, section.name) == name.encode():
                    return section.address, section.size
        return None

    def symbols(self, names: Iterable[str]) -> dict[str, int]:
        """Addresses (before relocation) of those of ``names`` that are defined here."""
        wanted = {name.encode() for name in names}
        found: dict[str, int] = {}
        for kind in (_DYNSYM, _SYMTAB):
            for table in self._sections:
                if table.kind == kind and wanted:
                    self._search(table, wanted, found)
        return found

    def _search(self, table: _Section, wanted: set[bytes], found: dict[str, int]) -> None:
        strings = self._sections[table.link]
        text = self._data[strings.offset : strings.offset + strings.size]
        places: dict[int, bytes] = {}
        for name in wanted:
            # A name may stand at the end of a longer one: every place where it ends in a NUL counts.
            start = text.find(name + b"\0")
            while start >= 0:
                places[start] = name
                start = text.find(name + b"\0", start + 1)
        if not places:
            return
        raw = self._data[table.offset : table.offset + table.size - table.size % _SYMBOL.size]
        for name_at, _, _, index, value, _ in _SYMBOL.iter_unpack(raw):
            if name_at in places and index:
                found[places[name_at].decode()] = value
                wanted.discard(places[name_at])

    def _string(self, table: _Section, offset: int) -> bytes:
        start = table.offset + offset
        return self._data[start : self._data.find(b"\0", start)]

    def bias(self, mapped_at: int, file_offset: int) -> int:
        """What to add to this file's addresses, given that ``file_offset`` of it is mapped at ``mapped_at``."""
        if not self.position_independent:
            return 0
        for offset, address, size in self.loads:
            if offset - offset % 4096 <= file_offset < offset + size:
                return int(mapped_at - (address - offset + file_offset))
        raise NotPython("the mapping is of no loadable part of the file")
