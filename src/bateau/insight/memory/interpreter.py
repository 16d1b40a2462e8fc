"""Finding CPython in a process: the runtime, its interpreters, their threads and modules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from .cache import Memory
from .elf import ElfFile
from .errors import Fault, NotPython, UnsupportedVersion
from .frames import Frames, Step
from .layout import Layout, layout_for, with_asyncio_table
from .objects import Objects
from .source import Mapping, MemorySource

_RUNTIME, _VERSION = "_PyRuntime", "Py_Version"
# Interpreters and threads are linked lists in memory that changes: they end somewhere.
MAX_INTERPRETERS, MAX_THREADS = 256, 20_000


@dataclass(frozen=True, slots=True)
class ThreadState:
    """One Python thread. ``complete``: its stack was read down to the outermost frame."""

    address: int
    ident: int
    native_id: int
    stack: list[Step]
    complete: bool
    holds_gil: bool


@dataclass(slots=True)
class Python:
    """An interpreter's structures, found and understood."""

    memory: Memory
    layout: Layout
    runtime: int
    objects: Objects
    frames: Frames
    version: str

    def interpreters(self) -> Iterator[int]:
        """Addresses of the interpreter states, the newest first."""
        seen: set[int] = set()
        here = self.memory.word(self.runtime + self.layout.runtime_interpreters)
        while here and here not in seen and len(seen) < MAX_INTERPRETERS:
            seen.add(here)
            yield here
            here = self.memory.word(here + self.layout.interpreter_next)

    def modules(self, interpreter: int) -> dict[str, int]:
        """``sys.modules``: names to addresses."""
        table = self.memory.word(interpreter + self.layout.interpreter_modules)
        return self.objects.named(table, 100_000) if table else {}

    def module_dict(self, module: int) -> dict[str, int]:
        """The names of a module."""
        if not self.objects.is_a(module, "module"):
            raise Fault(f"no module at {module:#x}")
        return self.objects.named(self.memory.word(module + 16), 100_000)

    def thread_addresses(self, interpreter: int) -> Iterator[int]:
        """Addresses of the thread states of an interpreter."""
        seen: set[int] = set()
        here = self.memory.word(interpreter + self.layout.interpreter_threads)
        while here and here not in seen and len(seen) < MAX_THREADS:
            seen.add(here)
            yield here
            here = self.memory.word(here + self.layout.thread_next)

    def threads(self, interpreter: int) -> Iterator[ThreadState]:
        """The threads of an interpreter, with their stacks. Ends early where the list is torn."""
        holder = self._gil_holder(interpreter)
        for address in self.thread_addresses(interpreter):
            try:
                yield self._thread(address, address == holder)
            except Fault:
                continue

    def _thread(self, address: int, holds_gil: bool) -> ThreadState:
        memory, layout = self.memory, self.layout
        frame_at = address if layout.thread_cframe is None else memory.word(address + layout.thread_cframe)
        frame = memory.word(frame_at + layout.thread_frame) if frame_at else 0
        stack, complete = self.frames.stack(frame)
        ident = memory.word(address + layout.thread_ident)
        return ThreadState(address, ident, memory.word(address + layout.thread_native_id), stack, complete, holds_gil)

    def _gil_holder(self, interpreter: int) -> int:
        """The thread state that has the GIL, or 0."""
        try:
            layout = self.layout
            gil = self.memory.word(interpreter + layout.gil) if layout.gil_in_interpreter else self.runtime + layout.gil
            return self.memory.word(gil + 8) if self.memory.int32(gil + 16) > 0 else 0
        except Fault:
            return 0


def find_python(source: MemorySource) -> Python:
    """The interpreter of a process. Raises ``NotPython``, ``UnsupportedVersion``, and what the source raises."""
    mappings = source.mappings()
    memory = Memory(source)
    for mapping in _candidates(mappings):
        found = _addresses(source, mapping)
        if found is None:
            continue
        runtime, version_at = found
        try:
            version_hex = memory.word(version_at) if version_at else None
            layout = layout_for(memory, runtime, version_hex)
            if layout.version >= (3, 14):
                layout = _with_asyncio(source, mappings, memory, layout)
        except Fault as fault:
            raise NotPython(
                f"process {source.pid} has CPython's symbols, but its state can't be read: {fault}"
            ) from None
        number = version_hex if version_hex is not None else memory.word(runtime + 8)
        version = f"{number >> 24 & 255}.{number >> 16 & 255}.{number >> 8 & 255}"
        objects = Objects(memory, layout)
        return Python(memory, layout, runtime, objects, Frames(objects), version)
    raise _no_python(source, mappings)


def _no_python(source: MemorySource, mappings: list[Mapping]) -> NotPython | UnsupportedVersion:
    names = {os.path.basename(mapping.path) for mapping in mappings if mapping.path.startswith("/")}
    python = sorted(name for name in names if "python" in name and ".so" in name or name.startswith("python"))
    if python:
        return UnsupportedVersion(
            f"process {source.pid} runs {python[0]}, whose symbols were not found: it is older than CPython 3.7, or built without them"
        )
    return NotPython(f"process {source.pid} is no CPython program: none of its files has the symbol {_RUNTIME}")


def _files(mappings: list[Mapping]) -> list[Mapping]:
    """The first mapping of each file, in which its headers are."""
    found: dict[str, Mapping] = {}
    for mapping in mappings:
        if mapping.path.startswith("/") and not mapping.path.startswith(("/dev/", "/memfd:", "/SYSV")):
            found.setdefault(mapping.path, mapping)
    return list(found.values())


def _candidates(mappings: list[Mapping]) -> list[Mapping]:
    """Files that may have the runtime, the likely ones first: libpython, an executable called python, then the rest."""

    def rank(mapping: Mapping) -> int:
        name = os.path.basename(mapping.path)
        return 0 if name.startswith("libpython") else 1 if name.startswith("python") else 2

    executable = {mapping.path for mapping in mappings if "x" in mapping.permissions}
    return sorted((mapping for mapping in _files(mappings) if mapping.path in executable), key=rank)


def _open(source: MemorySource, mapping: Mapping) -> ElfFile | None:
    try:
        with source.open_mapped(mapping) as file:
            return ElfFile(file)
    except (OSError, NotPython, ValueError):
        return None


def _addresses(source: MemorySource, mapping: Mapping) -> tuple[int, int] | None:
    """Where the runtime and the version number lie, if this file has them."""
    elf = _open(source, mapping)
    if elf is None:
        return None
    try:
        symbols = elf.symbols((_RUNTIME, _VERSION))
        runtime = symbols.get(_RUNTIME)
        if runtime is None:
            section = elf.section(".PyRuntime")  # from 3.13 on, also where the symbols were stripped
            runtime = section[0] if section is not None else None
        if runtime is None:
            return None
        bias = elf.bias(mapping.start, mapping.offset)
        version = symbols.get(_VERSION)
        return runtime + bias, version + bias if version is not None else 0
    except NotPython:
        return None
    finally:
        elf.close()


def _with_asyncio(source: MemorySource, mappings: list[Mapping], memory: Memory, layout: Layout) -> Layout:
    """The layout with what ``_asyncio`` says of itself: in a library of its own, or built into the interpreter."""
    for mapping in _files(mappings):
        name = os.path.basename(mapping.path)
        if name.startswith(("_asyncio", "python", "libpython")):
            elf = _open(source, mapping)
            if elf is not None:
                try:
                    section = elf.section(".AsyncioDebug")
                    if section is not None:
                        return with_asyncio_table(layout, memory, section[0] + elf.bias(mapping.start, mapping.offset))
                finally:
                    elf.close()
    return layout
