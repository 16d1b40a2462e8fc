"""Python's built-in objects, decoded from another process's memory.

Addresses are plain ints; ``0`` is C's NULL. Whatever is read may be torn, freed or garbage: lengths are checked before they are
believed, every walk is bounded, and what makes no sense is a ``Fault``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from .cache import Memory
from .errors import Fault
from .layout import Layout

# Of a type's flags.
_INLINE_VALUES, MANAGED_DICT, _HEAP_TYPE = 1 << 2, 1 << 4, 1 << 9
_LONG, _LIST, _TUPLE, _BYTES, _STR, _DICT = (1 << bit for bit in (24, 25, 26, 27, 28, 29))
TYPE_FLAG = 1 << 31

# PyObject and PyVarObject, PyTypeObject: the public part, which has not moved since 3.8.
_SIZE = 16
_TYPE = Struct("<24xQq")  # tp_name, tp_basicsize
_TYPE_REST = Struct("<168xQ")  # tp_flags
_TP_DICT, _TP_MRO = 264, 344
_LIST_ITEMS = 24
_BYTES_DATA = 32
_INTEGER = Struct("<8xQqI")  # type, size or tag, first digit
_FLOAT = Struct("<8xQd")
_DICT_HEAD = Struct("<16xq8xQQ")  # ma_used, ma_keys, ma_values
_KEYS_HEAD = Struct("<8xBBBx4xqq")  # dk_log2_size, dk_log2_index_bytes, dk_kind, dk_usable, dk_nentries
_KEYS_INDICES = 32
_SET_HEAD = Struct("<16xqqqQ")  # fill, used, mask, table
_STRING_HEAD = Struct("<16xq8xI")  # length, state
_STRING_WHOLE = Struct("<8xQq8xI")  # type, length, state
_MEMBER = Struct("<Qi4xq")  # PyMemberDef: name, type, offset
_DESCRIPTOR_MEMBER = 40
# Of PyMemberDef.type: Py_T_OBJECT_EX and its forerunner; short, int, long, char sized, their unsigned forms, bool, long long, ssize_t.
_OBJECT_MEMBERS = {6, 16}
_REAL_MEMBER = 4
_NUMBER_MEMBERS = {
    0: "h",
    1: "i",
    2: "q",
    8: "b",
    9: "B",
    10: "H",
    11: "I",
    12: "Q",
    14: "b",
    17: "q",
    18: "Q",
    19: "q",
}
WEAKREF_TARGET = 16
METHOD_FUNCTION, METHOD_SELF = 16, 24
FUNCTION_NAME = 32
# Everything that wraps one other object and nothing we want to know: cells, coroutine wrappers, asend and athrow, futures' iterators.
WRAPPED = 16
_DEQUE_HEAD = Struct("<16xqQQqq")  # size, leftblock, rightblock, leftindex, rightindex
_DEQUE_BLOCK = 64
_GENERAL, _UNICODE, _SPLIT = 0, 1, 2

MAX_TEXT = 1 << 16
MAX_ITEMS = 1 << 24


@dataclass(slots=True)
class TypeInfo:
    """What is known of one type: its full name, where its slots are, how its instances keep their attributes."""

    address: int
    name: str
    flags: int
    basic_size: int
    dict_offset: int
    bases: tuple[int, ...]
    slots: dict[str, int] = field(default_factory=dict[str, int])
    # Members that C keeps as numbers: how to read each.
    numbers: dict[str, Struct] = field(default_factory=dict[str, Struct])
    # And where those are that it keeps as a double.
    reals: dict[str, int] = field(default_factory=dict[str, int])
    keys: dict[str, int] | None = None
    names: frozenset[str] = frozenset()

    def has_own_dict(self) -> bool:
        """Whether its instances may have attributes of their own."""
        return bool(self.dict_offset or self.flags & MANAGED_DICT)


class Objects:
    """Decodes objects of one interpreter. Every method raises ``Fault`` where memory holds something else."""

    def __init__(self, memory: Memory, layout: Layout) -> None:
        self.memory = memory
        self.layout = layout
        self.types: dict[int, TypeInfo] = {}
        # The addresses of ``str`` and ``int`` themselves, once they were met.
        self._exact_str = self._exact_int = 0
        self._text: Any = memory.window.text if memory.window is not None else None
        # The addresses of None, True and False, once they were met: nothing else is at an address so often.
        self.none: int = 0
        self.true: int = 0
        self.false: int = 0

    # -- types ---------------------------------------------------------------------------------------------------------

    def type_of(self, address: int) -> TypeInfo:
        """The type of the object at ``address``."""
        kind = self.memory.word(address + 8)
        found = self.types.get(kind)
        return found if found is not None else self.type_at(kind)

    def type_at(self, address: int) -> TypeInfo:
        """The type object at ``address``."""
        found = self.types.get(address)
        if found is None:
            found = self._read_type(address)
            self.types[address] = found
            self._read_slots(found)
        return found

    def is_a(self, address: int, name: str) -> bool:
        """Whether the object's type, or one of its bases, is called ``name``."""
        return name in self.type_of(address).names

    def _read_type(self, address: int) -> TypeInfo:
        memory = self.memory
        name_at, basic_size = memory.unpack(_TYPE, address)
        (flags,) = memory.unpack(_TYPE_REST, address)
        name = memory.cstring(name_at)
        if not name or not 0 <= basic_size < 1 << 20:
            raise Fault(f"no type at {address:#x}")
        if flags & _HEAP_TYPE and "." not in name:
            qualname = self.string(memory.word(address + self.layout.type_cached_keys - 8))
            module = self.dict_get(memory.word(address + _TP_DICT), "__module__")
            name = f"{self.string(module)}.{qualname}" if module and self._is(module, _STR) else qualname
        info = TypeInfo(
            address, name, flags, basic_size, memory.unpack(Struct("<q"), address + self.layout.type_dictoffset)[0], ()
        )
        mro = memory.word(address + _TP_MRO)
        if mro:
            info.bases = self.tuple_items(mro, limit=64)
        return info

    def _read_slots(self, info: TypeInfo) -> None:
        """Names of all bases, and what their member descriptors say of where attributes lie."""
        names = {info.name}
        for base in reversed(info.bases):
            try:
                if base != info.address:
                    names.add(self._base_name(base))
                table = self.memory.word(base + _TP_DICT)
                for name, value in self.dict_items(table, limit=4096) if table else ():
                    self._slot(info, name, value)
            except Fault:
                continue  # a type that is being made or unmade: the others still count
        info.names = frozenset(names)

    def _base_name(self, base: int) -> str:
        found = self.types.get(base)
        return found.name if found is not None else self._read_type(base).name

    def _slot(self, info: TypeInfo, name: int, value: int) -> None:
        kind = self.memory.word(value + 8)
        if self.memory.cstring(self.memory.unpack(_TYPE, kind)[0]) != "member_descriptor":
            return
        _, member_type, offset = self.memory.unpack(_MEMBER, self.memory.word(value + _DESCRIPTOR_MEMBER))
        if not 0 < offset < 1 << 20:
            return
        if member_type in _OBJECT_MEMBERS:
            info.slots[self.string(name)] = offset
        elif member_type == _REAL_MEMBER:
            info.reals[self.string(name)] = offset
        elif member_type in _NUMBER_MEMBERS:
            info.numbers[self.string(name)] = Struct(f"<{offset}x{_NUMBER_MEMBERS[member_type]}")

    def _is(self, address: int, flag: int) -> bool:
        kind = self.memory.word(address + 8)
        return bool(self.memory.unpack(_TYPE_REST, kind)[0] & flag)

    # -- attributes ----------------------------------------------------------------------------------------------------

    def attribute(self, address: int, name: str) -> int:
        """The object that ``address`` has as attribute ``name``, in a slot or its dictionary; 0 if it has none."""
        info = self.type_of(address)
        offset = info.slots.get(name)
        if offset is not None:
            return self.memory.word(address + offset)
        table, values = self._storage(address, info)
        if values:
            index = self._cached_keys(info).get(name)
            return self.memory.word(values + 8 * index) if index is not None else 0
        return self.dict_get(table, name) if table else 0

    def number(self, address: int, name: str) -> int:
        """A whole number that ``address`` has as attribute ``name``: an ``int``, or a member of a C structure. 0 without one."""
        layout = self.type_of(address).numbers.get(name)
        if layout is not None:
            member: int = self.memory.unpack(layout, address)[0]
            return member
        value = self.attribute(address, name)
        return self.integer(value) if value else 0

    def truth(self, address: int, name: str) -> bool:
        """Whether ``address`` has True as attribute ``name``."""
        layout = self.type_of(address).numbers.get(name)
        if layout is not None:
            return bool(self.memory.unpack(layout, address)[0])
        return self.is_true(self.attribute(address, name))

    def class_attribute(self, info: TypeInfo, name: str) -> int:
        """What a type or the nearest of its bases has under ``name``; 0 if none has. Not for static types of the interpreter."""
        for base in info.bases:
            table = self.memory.word(base + _TP_DICT)
            found = self.dict_get(table, name) if table else 0
            if found:
                return found
        return 0

    def thread_local_dicts(self, address: int) -> list[int]:
        """The dictionaries that a ``threading.local`` keeps, one for each thread that has used it."""
        found: list[int] = []
        for offset in range(16, min(self.type_of(address).basic_size, 256), 8):
            table = self.memory.word(address + offset)
            try:
                if table and self._is(table, _DICT):
                    found += [value for _, value in self.dict_items(table, 100_000) if self._is(value, _DICT)]
            except Fault:
                continue
        return found

    def path(self, address: int, *names: str) -> int:
        """``attribute`` after ``attribute``; 0 as soon as one is missing or None, the last one included."""
        for name in names:
            address = self.attribute(address, name)
            if not address or self.is_none(address):
                return 0
        return address

    def dictionary_at(self, info: TypeInfo) -> int:
        """Where instances of a type written in C have the pointer to their dictionary, from their address; 0 without one."""
        return -24 if info.flags & MANAGED_DICT else max(info.dict_offset, 0)

    def _storage(self, address: int, info: TypeInfo) -> tuple[int, int]:
        """Where the attributes of an instance are: the address of its dictionary, or of its bare values."""
        memory = self.memory
        if info.flags & MANAGED_DICT:
            style = self.layout.instance_values
            word = memory.word(address - 24)
            if style == "pointers":
                values = memory.word(address - 32)
                return (word, 0) if not values else (0, values)
            if style == "tagged":
                return (0, word + 1) if word & 1 else (word, 0)
            if word or not info.flags & _INLINE_VALUES:
                return word, 0
            return 0, address + info.basic_size + 8
        if info.dict_offset > 0:
            return memory.word(address + info.dict_offset), 0
        return 0, 0

    def _cached_keys(self, info: TypeInfo) -> dict[str, int]:
        if info.keys is None:
            info.keys = {}
            keys = self.memory.word(info.address + self.layout.type_cached_keys)
            if keys:
                for index, (key, _) in enumerate(self._entries(keys)):
                    if key:
                        info.keys[self.string(key)] = index
        return info.keys

    # -- scalars -------------------------------------------------------------------------------------------------------

    def is_none(self, address: int) -> bool:
        """Whether it is None (a NULL is not)."""
        if address == self.none:
            return True
        if self.type_of(address).name != "NoneType":
            return False
        self.none = address
        return True

    def is_true(self, address: int) -> bool:
        """Whether it is the object True, whose address is learnt here."""
        if not address or address == self.false:
            return False
        if address != self.true:
            if self.type_of(address).name != "bool":
                return False
            if not self.integer(address):
                self.false = address
                return False
            self.true = address
        return True

    def string(self, address: int, limit: int = MAX_TEXT) -> str:
        """A ``str`` of at most ``limit`` characters; a longer one is cut."""
        memory, layout = self.memory, self.layout
        if self._text is not None:
            found: str | None = self._text(address, self._exact_str, layout.string_ascii_size)
            if found is not None:
                return found
        kind, length, state = memory.unpack(_STRING_WHOLE, address)
        if kind == self._exact_str and state & 0x60 == 0x60 and 0 <= length <= 256:  # nearly all are like this
            return str(memory.read(address + layout.string_ascii_size, length), "latin-1") if length else ""
        kind = state >> 2 & 7
        if not 0 <= length < 1 << 40 or kind not in (1, 2, 4) or not self._is(address, _STR):
            raise Fault(f"no string at {address:#x}")
        length = min(length, limit)
        if not state & 1 << 5:  # not compact: the characters are elsewhere
            data = memory.word(address + layout.string_compact_size)
        elif state & 1 << 6:
            data = address + layout.string_ascii_size
        else:
            data = address + layout.string_compact_size
        raw = memory.read(data, length * kind) if length else b""
        if memory.word(address + 8) != self._exact_str and self.type_of(address).name == "str":
            self._exact_str = memory.word(address + 8)
        if kind == 1:
            return raw.decode("latin-1")
        return raw.decode("utf-16-le" if kind == 2 else "utf-32-le", "surrogatepass" if kind == 2 else "replace")

    def bytes_of(self, address: int, limit: int = MAX_TEXT) -> bytes:
        """A ``bytes`` object of at most ``limit`` bytes; a longer one is a fault."""
        length = self.memory.word(address + _SIZE)
        if length > limit:
            raise Fault(f"bytes of length {length} at {address:#x}")
        return self.memory.read(address + _BYTES_DATA, length) if length else b""

    def integer(self, address: int) -> int:
        """An ``int`` of at most 1000 digits (of 30 bits)."""
        kind: int
        head: int
        digit: int
        kind, head, digit = self.memory.unpack(_INTEGER, address)
        if kind == self._exact_int and head == (8 if self.layout.tagged_integers else 1):  # one digit, as most have
            return digit & 0x3FFFFFFF
        (head,) = self.memory.unpack(Struct("<q"), address + _SIZE)
        if self.layout.tagged_integers:
            count, negative = head >> 3, head & 3 == 2
            if head & 3 == 1:
                return 0
        else:
            count, negative = abs(head), head < 0
        if not 0 <= count <= 1000 or not self._is(address, _LONG):
            raise Fault(f"no integer at {address:#x}")
        value = 0
        raw = self.memory.read(address + 24, 4 * count) if count else b""
        for index in range(count):
            value |= (int.from_bytes(raw[4 * index : 4 * index + 4], "little") & 0x3FFFFFFF) << 30 * index
        if kind != self._exact_int and self.type_of(address).name == "int":
            self._exact_int = kind
        return -value if negative else value

    def real(self, address: int) -> float:
        """A ``float``, or an ``int`` as one."""
        kind: int
        value: float
        kind, value = self.memory.unpack(_FLOAT, address)
        info = self.types.get(kind) or self.type_at(kind)
        if info.name == "float":
            return value
        if info.flags & _LONG:
            return float(self.integer(address))
        raise Fault(f"no number at {address:#x}")

    # -- containers ----------------------------------------------------------------------------------------------------

    def tuple_items(self, address: int, limit: int = MAX_ITEMS) -> tuple[int, ...]:
        """The items of a tuple, at most ``limit``."""
        if not self._is(address, _TUPLE):
            raise Fault(f"no tuple at {address:#x}")
        return self.memory.words(address + self.layout.tuple_items, min(self.memory.word(address + _SIZE), limit))

    def list_items(self, address: int, limit: int = MAX_ITEMS) -> tuple[int, ...]:
        """The items of a list, at most ``limit``."""
        count = min(self.memory.word(address + _SIZE), limit)
        if not self._is(address, _LIST):
            raise Fault(f"no list at {address:#x}")
        return self.memory.words(self.memory.word(address + _LIST_ITEMS), count) if count else ()

    def set_items(self, address: int, limit: int = MAX_ITEMS) -> list[int]:
        """The members of a set or frozenset, at most ``limit``, in the order of its table."""
        _, used, mask, table = self.memory.unpack(_SET_HEAD, address)
        if not 0 <= used <= mask + 1 <= limit * 8 or mask & (mask + 1) or "set" not in self.type_of(address).name:
            raise Fault(f"no set at {address:#x}")
        entries = memoryview(self.memory.read(table, (mask + 1) * 16)).cast("Q").tolist()
        # A key with a hash of -1 and nothing else is the mark of a removed entry; it is no object.
        return [key for key, code in zip(entries[::2], entries[1::2], strict=True) if key and code != (1 << 64) - 1][
            :limit
        ]

    def dict_items(self, address: int, limit: int = MAX_ITEMS) -> Iterator[tuple[int, int]]:
        """Keys and values of a dictionary, at most ``limit``, in order of insertion."""
        used, keys, values = self.memory.unpack(_DICT_HEAD, address)
        if not self._is(address, _DICT) or used < 0:
            raise Fault(f"no dictionary at {address:#x}")
        if not values:
            entries = self._entries(keys, limit)
        else:
            names = [key for key, _ in self._entries(keys, limit)]
            start = values + 8 if self.layout.instance_values == "inline" else values
            entries = list(zip(names, self.memory.words(start, len(names)), strict=True))
        return ((key, value) for key, value in entries if key and value)

    def dict_get(self, address: int, name: str) -> int:
        """The value under the string ``name``, or 0."""
        for key, value in self.dict_items(address):
            if self._is_text(key, name):
                return value
        return 0

    def dict_length(self, address: int) -> int:
        """How many entries a dictionary says it has."""
        return self.memory.unpack(_DICT_HEAD, address)[0]  # type: ignore[no-any-return]  # an int, by its format

    def named(self, address: int, limit: int = MAX_ITEMS) -> dict[str, int]:
        """A dictionary's entries under strings, by name."""
        return {self.string(key, 256): value for key, value in self.dict_items(address, limit) if self._is(key, _STR)}

    def deque_items(self, address: int, limit: int = 10_000) -> list[int]:
        """The items of a ``collections.deque``, at most ``limit``."""
        count, block, _, index, _ = self.memory.unpack(_DEQUE_HEAD, address)
        if not 0 <= index < _DEQUE_BLOCK or count < 0:
            raise Fault(f"no deque at {address:#x}")
        found: list[int] = []
        count = min(count, limit)
        while len(found) < count:
            words = self.memory.words(block, _DEQUE_BLOCK + 2)  # left link, items, right link
            found.extend(words[1 + index : 1 + min(_DEQUE_BLOCK, index + count - len(found))])
            block, index = words[-1], 0
        return found

    def length(self, address: int) -> int:
        """``ob_size``, for what has one, and the equivalent of dictionaries and sets; a fault if it is absurd."""
        info = self.type_of(address)
        if "set" in info.name:
            found = self.memory.unpack(_SET_HEAD, address)[1]
        else:
            found = self.memory.unpack(Struct("<16xq"), address)[0]
        if not 0 <= found < 1 << 40:
            raise Fault(f"length {found} at {address:#x}")
        return found  # type: ignore[no-any-return]  # an int, by both formats

    def _entries(self, keys: int, limit: int = MAX_ITEMS) -> list[tuple[int, int]]:
        """The entry table of a keys object: (key, value) pairs, zeros where something was removed."""
        log_size, log_index, kind, _, count = self.memory.unpack(_KEYS_HEAD, keys)
        if log_size > 40 or log_index > 43 or kind > 2 or not 0 <= count <= 1 << log_size:
            raise Fault(f"no dictionary keys at {keys:#x}")
        count = min(count, limit)
        if not count:
            return []
        start = keys + _KEYS_INDICES + (1 << log_index)
        width = 3 if kind == _GENERAL else 2
        raw = memoryview(self.memory.read(start, count * width * 8)).cast("Q").tolist()
        return list(zip(raw[width - 2 :: width], raw[width - 1 :: width], strict=True))

    def _is_text(self, address: int, text: str) -> bool:
        length, _ = self.memory.unpack(_STRING_HEAD, address)
        return length == len(text) and self._is(address, _STR) and self.string(address) == text

    # -- for people ----------------------------------------------------------------------------------------------------

    def show(self, address: int, depth: int = 1) -> str:
        """A short text for a value: like ``repr`` for simple ones, the type's name and address for the rest."""
        if not address:
            return "<unset>"
        try:
            info = self.type_of(address)
            if info.flags & _STR:
                return repr(self.string(address, 80))
            if info.name == "bool":
                return str(bool(self.integer(address)))
            if info.flags & _LONG:
                return str(self.integer(address))
            if info.name == "float":
                return repr(self.real(address))
            if info.name == "NoneType":
                return "None"
            if info.flags & _BYTES:
                return repr(self.bytes_of(address, 80))
            if info.flags & (_LIST | _TUPLE) and depth:
                items = self.list_items(address, 4) if info.flags & _LIST else self.tuple_items(address, 4)
                inner = ", ".join(self.show(item, depth - 1) for item in items)
                more = ", ..." if self.length(address) > len(items) else ""
                return f"[{inner}{more}]" if info.flags & _LIST else f"({inner}{more})"
        except (Fault, UnicodeDecodeError):
            return f"<unreadable at {address:#x}>"
        return f"<{info.name} at {address:#x}>"
