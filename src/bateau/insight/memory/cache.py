"""One look at an address space: what was read once is not read again, so that a snapshot sees each byte at one moment.

Memory is fetched in large chunks, for a system call per object would cost more than decoding it. A chunk is held with a
margin of what follows it, so that a structure across the border is still found in one piece.
"""

from __future__ import annotations

import os
import struct
from importlib import import_module
from struct import Struct
from typing import Any

from .errors import Fault
from .source import MemorySource

SHIFT = 18
CHUNK = 1 << SHIFT
MASK = CHUNK - 1
MARGIN = 4096
PAGE = 4096
# A process may hold more than the reader should: what a snapshot has cached is bounded.
BUDGET = 4 << 30
# User space ends here on x86-64 and on most arm64 kernels; nothing lives in the first page.
LOWEST, HIGHEST = PAGE, 1 << 48

WORD = Struct("<Q")
HALF = Struct("<i")


def native_part(name: str) -> Any:
    """A class of the C module; None where it was not built, or ``BATEAU_PURE`` is 1."""
    if os.environ.get("BATEAU_PURE") == "1":
        return None
    try:
        return getattr(import_module("bateau._native"), name, None)
    except ImportError:
        return None


class Chunks(dict[int, bytes]):
    """Chunk number to bytes. A chunk that is not mapped as a whole is empty: its pages are read one by one."""

    def __init__(self, source: MemorySource) -> None:
        super().__init__()
        self.source = source
        self.held = 0

    def __missing__(self, number: int) -> bytes:
        base = number << SHIFT
        data = b""
        if 0 <= base < HIGHEST and self.held < BUDGET:
            data = self.source.read(base, CHUNK + MARGIN)
            if len(data) < CHUNK + MARGIN:
                data = self.source.read(base, CHUNK)
            if len(data) < CHUNK:
                data = b""
            self.held += len(data)
        self[number] = data
        return data


class Memory:
    """Cached, bounds-checked reading. Every method raises ``Fault`` for what is not there."""

    def __init__(self, source: MemorySource) -> None:
        self.source = source
        self.chunks = Chunks(source)
        self._pages: dict[int, bytes] = {}
        # The C form of this, for who reads very much; None where it was not built, or ``BATEAU_PURE`` is 1.
        self.window: Any = None
        native = native_part("Window")
        if native is not None:
            self.window = native(self.chunks, SHIFT, self._slow_word)
            self.__dict__["word"] = self.window.word

    def unchanged(self) -> bool:
        """Whether everything that was cached still reads the same: nothing moved while it was being looked at."""
        for number, before in self.chunks.items():
            if before and self.source.read(number << SHIFT, len(before)) != before:
                return False
        return all(self.source.read(number * PAGE, PAGE) == before for number, before in self._pages.items())

    def unpack(self, layout: Struct, address: int) -> tuple[Any, ...]:
        """The fields of a structure."""
        try:
            return layout.unpack_from(self.chunks[address >> SHIFT], address & MASK)
        except struct.error:
            return layout.unpack(self.read(address, layout.size))

    def word(self, address: int) -> int:
        """A pointer, or an unsigned 64-bit number."""
        found: int
        try:
            (found,) = WORD.unpack_from(self.chunks[address >> SHIFT], address & MASK)
        except struct.error:
            found = self._slow_word(address)
        return found

    def _slow_word(self, address: int) -> int:
        """A word across the border of what is mapped as a whole, or of nothing."""
        found: int
        (found,) = WORD.unpack(self.read(address, 8))
        return found

    def int32(self, address: int) -> int:
        """A signed 32-bit number."""
        found: int = self.unpack(HALF, address)[0]
        return found

    def byte(self, address: int) -> int:
        """One byte, unsigned."""
        return self.read(address, 1)[0]

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        start = address & MASK
        if size <= MARGIN:
            found = self.chunks[address >> SHIFT][start : start + size]
            if len(found) == size:
                return found
        if size < 0 or not LOWEST <= address < HIGHEST:
            raise Fault(f"{size} bytes at {address:#x}")
        if size >= PAGE:  # arrays and tables: used once, not worth caching
            found = self.source.read(address, size)
            if len(found) != size:
                raise Fault(f"{size} bytes at {address:#x}")
            return found
        first = address // PAGE
        data = b"".join(self._page(number) for number in range(first, (address + size - 1) // PAGE + 1))
        start = address - first * PAGE
        found = data[start : start + size]
        if len(found) != size:
            raise Fault(f"{size} bytes at {address:#x}")
        return found

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """``count`` pointers in a row."""
        if not 0 <= count < 1 << 28:
            raise Fault(f"{count} pointers at {address:#x}")
        return Struct(f"<{count}Q").unpack(self.read(address, 8 * count))

    def cstring(self, address: int, limit: int = 256) -> str:
        """A NUL-terminated string of at most ``limit`` bytes."""
        found = b""
        while len(found) < limit:
            try:
                piece = self.read(address + len(found), 32)
            except Fault:  # it may end right before the end of what is mapped
                piece = self.read(address + len(found), 1)
            end = piece.find(b"\0")
            if end >= 0:
                return (found + piece[:end]).decode("utf-8", "backslashreplace")
            found += piece
        raise Fault(f"no end of the string at {address:#x}")

    def _page(self, number: int) -> bytes:
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = self.source.read(number * PAGE, PAGE)
            if len(page) < PAGE:
                raise Fault(f"page {number * PAGE:#x} is not mapped")
        return page
