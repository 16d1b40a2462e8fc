"""The layers below: ELF files, line tables, objects. The process that is read here is this one, whose objects are at hand."""

from __future__ import annotations

import asyncio
import collections
import ctypes
import gc
import json
import math
import os
import sys
import types
from struct import Struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bateau.insight.memory.cache import Memory
from bateau.insight.memory.elf import ElfFile
from bateau.insight.memory.errors import Fault, MemoryReadError, UnsupportedVersion
from bateau.insight.memory.frames import Frames, read_line_table
from bateau.insight.memory.interpreter import Python, find_python
from bateau.insight.memory.layout import COOKIE, layout_for
from bateau.insight.memory.objects import Objects
from bateau.insight.memory.process import ProcessMemory
from bateau.insight.memory.source import Mapping
from bateau.kernel import twin


def own() -> Python:
    """This process, read afresh: nothing of it is cached."""
    try:
        return find_python(ProcessMemory(os.getpid()))
    except UnsupportedVersion as error:
        pytest.skip(str(error))


def test_the_runtime_is_where_ctypes_says() -> None:
    python = own()
    assert python.runtime == ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
    assert python.layout.version == sys.version_info[:2]
    assert python.version == ".".join(map(str, sys.version_info[:3]))


def test_a_symbol_whose_name_ends_another_ones(tmp_path: Any) -> None:
    source = tmp_path / "x.c"
    source.write_text("int other_wanted = 1; int wanted = 2; int spare(void) { return wanted; }")
    library = tmp_path / "x.so"
    import shutil
    import subprocess

    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    with library.open("rb") as file:
        elf = ElfFile(file)
    try:
        symbols = elf.symbols(["wanted", "other_wanted", "absent"])
        assert set(symbols) == {"wanted", "other_wanted"} and len(set(symbols.values())) == 2
        assert elf.section(".dynsym") is not None and elf.section(".nothing") is None
    finally:
        elf.close()


class Slotted:
    __slots__ = ("first", "second")


class Plain:
    def __init__(self) -> None:
        self.first = "one"
        self.second = 2


class Child(Plain):
    pass


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=12)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=40)
    ),
    max_leaves=20,
)


def decode(objects: Objects, address: int) -> Any:
    """The value at an address, by the reader's own decoders."""
    kind = objects.type_of(address).name
    if kind == "NoneType":
        return None
    if kind == "bool":
        return objects.is_true(address)
    if kind == "int":
        return objects.integer(address)
    if kind == "float":
        return objects.real(address)
    if kind == "str":
        return objects.string(address)
    if kind == "bytes":
        return objects.bytes_of(address)
    if kind == "list":
        return [decode(objects, item) for item in objects.list_items(address)]
    if kind == "tuple":
        return tuple(decode(objects, item) for item in objects.tuple_items(address))
    if kind == "frozenset":
        return frozenset(decode(objects, item) for item in objects.set_items(address))
    assert kind == "dict"
    return {decode(objects, key): decode(objects, value) for key, value in objects.dict_items(address)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_any_plain_value(value: Any) -> None:
    python = _Own.get()
    found = decode(python.objects, id(value))
    assert found == value and repr(type(found)) == repr(type(value))


class _Own:
    """One reading per example: memory must be read afresh, finding the interpreter need not."""

    python: Python | None = None

    @classmethod
    def get(cls) -> Python:
        if cls.python is None:
            cls.python = own()
        memory = Memory(cls.python.memory.source)
        objects = Objects(memory, cls.python.layout)
        cls.python = Python(memory, cls.python.layout, cls.python.runtime, objects, Frames(objects), cls.python.version)
        return cls.python


def test_attributes_wherever_they_are_kept() -> None:
    slotted, plain, child, opened = Slotted(), Plain(), Child(), Plain()
    slotted.first = "one"
    child.third = [1]  # type: ignore[attr-defined]
    for n in range(60):
        setattr(opened, f"extra{n}", n)
    names = opened.__dict__  # a dictionary of its own from here on
    queue = collections.deque(range(200))
    for _ in range(70):
        queue.popleft()
    error, shown = KeyError("x"), [1, "a", None, 2.5, True]
    objects = _Own.get().objects  # from here on it sees what was there
    assert objects.string(objects.attribute(id(slotted), "first")) == "one"
    assert objects.attribute(id(slotted), "second") == 0
    for thing in (plain, child, opened):
        assert objects.string(objects.attribute(id(thing), "first")) == "one"
        assert objects.attribute(id(thing), "second") == id(2)
        assert objects.attribute(id(thing), "absent") == 0
    assert objects.attribute(id(child), "third") == id(child.third)  # type: ignore[attr-defined]
    assert objects.attribute(id(opened), "extra59") == id(names["extra59"])
    assert objects.type_of(id(child)).name == f"{__name__}.Child"
    assert f"{__name__}.Plain" in objects.type_of(id(child)).names
    assert [objects.integer(item) for item in objects.deque_items(id(queue))] == list(queue)
    assert objects.is_a(id(error), "LookupError")
    assert objects.show(id(shown)) == "[1, 'a', None, 2.5, ...]"
    assert math.isinf(objects.real(id(math.inf)))


def test_lines_are_those_of_co_lines() -> None:
    codes = [
        value.__code__ for module in (asyncio.base_events, collections, json.decoder) for value in _functions(module)
    ]
    assert len(codes) > 50
    for code in codes:
        starts, lines = read_line_table(code.co_linetable, code.co_firstlineno)
        mine = dict(zip(starts, lines, strict=True))
        for start, _, line in code.co_lines():
            if line is not None and start in mine:
                assert mine[start] == line, (code, start)


def _functions(module: types.ModuleType) -> list[Any]:
    found = [value for value in vars(module).values() if isinstance(value, types.FunctionType)]
    for cls in [value for value in vars(module).values() if isinstance(value, type)]:
        found += [value for value in vars(cls).values() if isinstance(value, types.FunctionType)]
    return found


# -- garbage ----------------------------------------------------------------------------------------------------------------


class RandomMemory:
    """An address space of noise: words that are small numbers, wild pointers, and pointers to more noise."""

    pid = 0
    live = True
    arguments: tuple[str, ...] = ()
    executable = ""

    def __init__(self, data: bytes) -> None:
        self.data = data or b"\0"

    def mappings(self) -> list[Mapping]:
        return []

    def read(self, address: int, size: int) -> bytes:
        if address % 7 == 3:
            return b""
        start = address % len(self.data)
        repeated = self.data[start:] + self.data * (size // len(self.data) + 1)
        return repeated[:size]

    def open_mapped(self, mapping: Mapping) -> Any:
        raise OSError("nothing is mapped")


words = st.one_of(
    st.integers(0, 300),
    st.integers(0, (1 << 64) - 1),
    st.integers(0x10000, 0x20000).map(lambda n: n * 8),
    st.just(1 << 40),
    st.just((1 << 64) - 1),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(words, min_size=1, max_size=200), st.integers(0, 1 << 49), st.sampled_from([(3, 11), (3, 12)]))
def test_noise_is_a_fault_and_nothing_worse(content: list[int], address: int, version: tuple[int, int]) -> None:
    memory = Memory(RandomMemory(b"".join(Struct("<Q").pack(word) for word in content)))
    layout = layout_for(Memory(RandomMemory(b"\0" * 64)), 4096, version[0] << 24 | version[1] << 16)
    objects = Objects(memory, layout)
    frames = Frames(objects)
    for read in (
        lambda: objects.string(address),
        lambda: objects.integer(address),
        lambda: objects.bytes_of(address),
        lambda: objects.tuple_items(address, 100),
        lambda: objects.list_items(address, 100),
        lambda: objects.set_items(address, 100),
        lambda: list(objects.dict_items(address, 100)),
        lambda: objects.deque_items(address, 100),
        lambda: objects.type_of(address),
        lambda: objects.attribute(address, "name"),
        lambda: objects.show(address),
        lambda: frames.chain(address),
        lambda: frames.stack(address),
        lambda: frames.code(address),
    ):
        try:
            read()
        except (Fault, UnicodeDecodeError):
            continue


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1 << 31))
def test_any_bytes_are_some_line_table(table: bytes, first: int) -> None:
    starts, lines = read_line_table(table, first)
    assert len(starts) == len(lines) <= len(table)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_a_table_of_offsets_that_is_none(data: bytes) -> None:
    memory = Memory(RandomMemory(COOKIE + data + b"\0" * 2048))
    try:
        layout_for(memory, 1 << 20, None)
    except MemoryReadError:
        return


class Chunks:
    """Each fetched anew: nobody but the window keeps one."""

    def __getitem__(self, number: int) -> bytes:
        return (b"%d" % (number % 10)) * 4096


@pytest.mark.skipif(twin.native is None, reason="the C part is not in use")
def test_a_collection_in_the_middle_of_a_look_does_not_take_the_chunk_away() -> None:
    """Whose finaliser looks elsewhere through the same window, where the other chunk takes the place of this."""
    assert twin.native is not None
    window = twin.native.Window(Chunks(), 12, lambda _address: 0)
    record = twin.native.Record(window, tuple((8 * i, "Q") for i in range(8)))
    filled = []

    class Looking:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            window.word((1 + 4096) << 12)
            filled.extend(bytes([255]) * 4096 for _ in range(50))  # takes over what was freed

    expected = record.read(1 << 12, 0)
    before, read = gc.get_threshold(), record.read
    try:
        for _ in range(20):
            gc.disable()
            Looking()
            filled.clear()
            spare: list[object] = [[] for _ in range(200)]  # so that the next list is not one that was freed before
            gc.set_threshold(1)
            gc.enable()
            got = read(4096, 0)
            gc.set_threshold(*before)
            assert got == expected
            spare.clear()
    finally:
        gc.enable()
        gc.set_threshold(*before)
    gc.collect()
