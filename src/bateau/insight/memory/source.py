"""Where bytes come from: the interface that a live process and a core file share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Mapping:
    """One stretch of the address space: ``start <= address < end``; ``offset`` is where it lies in the file at ``path``."""

    start: int
    end: int
    permissions: str
    offset: int
    path: str


class MemorySource(Protocol):
    """An address space that can be read and nothing else.

    ``live``: it is a process's own, so its clock is ours. ``stopped``: it runs no further, by a signal or a debugger. ``arguments`` and
    ``executable``: of the program, as far as is known.
    """

    pid: int
    live: bool
    stopped: bool
    arguments: tuple[str, ...]
    executable: str

    def mappings(self) -> list[Mapping]:
        """What is mapped, lowest first."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """At most ``size`` bytes from ``address`` on: fewer, down to none, where the memory ends before.

        Raises ``ProcessEnded`` and ``PermissionError``.
        """
        ...

    def open_mapped(self, mapping: Mapping) -> BinaryIO:
        """The file behind a mapping, as the process sees it. Raises ``OSError``."""
        ...
