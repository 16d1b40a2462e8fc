"""Code, lines and suspended frames: from a coroutine down everything that it awaits.

The chain of one task is followed in a few reads per link. Where 100,000 tasks are suspended at the same few lines, each line is worked
out once: a link is the pair (code, instruction), and links are shared by all who stand there.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, NamedTuple

from .cache import MASK, SHIFT, native_part
from .errors import Fault
from .objects import FUNCTION_NAME, METHOD_FUNCTION, METHOD_SELF, WRAPPED, Objects

# A chain is cut here: a deep recursion of awaits is real, a ring of torn pointers is not.
MAX_DEPTH = 20_000
MAX_STACK = 20_000
_RESUME_AFTER_YIELD_FROM = 2
_SLOTS = 10
FREE_BITS = ~7  # from 3.14 on the low bits of a reference on the stack are marks

# What an awaitable is to the walk: something with a frame, something that only wraps another awaitable, or an end.
_WITH_FRAME = {"coroutine", "generator", "async_generator"}
_WRAPPERS = {"coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable", "cell"}
_FUTURES = {"_asyncio.FutureIter", "FutureIter"}
# How many fields are read of a link before the slots of its variables.
_HEAD = 5


@dataclass(slots=True)
class Code:
    """A code object: what is the same for all its frames."""

    address: int
    file: str
    name: str
    qualname: str
    first_line: int
    variables: tuple[str, ...]
    bytecode: int
    table: bytes
    _starts: list[int] | None = None
    _lines: list[int] = field(default_factory=list[int])

    def line(self, offset: int) -> int:
        """The line of the instruction at ``offset`` bytes; the first line where the table has none for it."""
        if self._starts is None:
            self._starts, self._lines = read_line_table(self.table, self.first_line)
        at = bisect_right(self._starts, offset) - 1
        return self._lines[at] if at >= 0 else self.first_line


def read_line_table(table: bytes, first_line: int) -> tuple[list[int], list[int]]:
    """Starts (in bytes of code) and lines of the runs of a location table (3.11 and later), which may be cut or damaged."""
    starts: list[int] = []
    lines: list[int] = []
    at, offset, line = 0, 0, first_line
    size = len(table)

    def number() -> int:
        nonlocal at
        value = shift = 0
        while at < size:
            byte = table[at]
            at += 1
            value |= (byte & 63) << shift
            shift += 6
            if not byte & 64 or shift > 60:
                break
        return value

    while at < size:
        head = table[at]
        at += 1
        kind = head >> 3 & 15
        shown: int | None = None
        if kind == 15:
            shown = first_line  # no line: the instruction is the compiler's own
        elif kind >= 13:
            delta = number()
            line += -(delta >> 1) if delta & 1 else delta >> 1
            if kind == 14:
                for _ in range(3):  # end line and columns
                    number()
        elif kind >= 10:
            line += kind - 10
            at += 2
        else:
            at += 1
        starts.append(offset)
        lines.append(line if shown is None else shown)
        offset += 2 * ((head & 7) + 1)
    return starts, lines


@dataclass(slots=True, eq=False)
class Link:
    """A place in the code where somebody is suspended (or runs), shared by all who are there.

    ``awaits``: a generator suspended there awaits something. ``index``: whoever lists the places keeps its number here (-1: none
    yet). ``exits``: the slots of the value stack, counted from the first variable, in which the exits of open ``with`` blocks are;
    None before anybody looked. The compiler decides that, so it is the same for all who are there.
    """

    code: Code
    line: int
    awaits: bool
    index: int = -1
    exits: tuple[int, ...] | None = None


class Step(NamedTuple):
    """One frame of one chain: the place, and where its variables are in memory."""

    link: Link
    frame: int


class Path:
    """A place in a chain of awaits and how one came there: the same object for all tasks that stand at the same lines.

    ``after`` has the places below, by what was read of the next link (type, state, code and instruction, which together say everything
    but the addresses). ``slot``: where in such a reading the awaited object is (0: the chain ends here). ``index``: whoever lists the
    stacks keeps its number here. Only the last place of a chain ever makes its ``links``: chains may be 20,000 deep.
    """

    __slots__ = ("_links", "after", "created", "depth", "index", "link", "outer", "running", "slot")

    def __init__(self, outer: Path | None, link: Link | None, slot: int) -> None:
        self.outer = outer
        self.link = link
        self.slot = slot
        self.depth: int = outer.depth + 1 if outer is not None else 0
        self.after: dict[tuple[int, ...], Path] = {}
        self.index = -1
        self.running = self.created = False
        self._links: list[Link] | None = None

    @property
    def links(self) -> list[Link]:
        """The places from the outermost one to this."""
        if self._links is None:
            found: list[Link] = []
            here: Path | None = self
            while here is not None and here.link is not None:
                found.append(here.link)
                here = here.outer
            self._links = found[::-1]
        return self._links


class Chain(NamedTuple):
    """What a coroutine awaits, outermost first; ``leaf`` is what the innermost frame awaits (0: nothing, it runs or is new).

    ``frames`` are the addresses of the variables of ``path.links``. ``partial``: memory gave out on the way.
    """

    path: Path
    frames: list[int]
    leaf: int
    partial: bool = False

    @property
    def links(self) -> list[Link]:
        """The places, outermost first."""
        return self.path.links

    @property
    def running(self) -> bool:
        """Whether the innermost coroutine is being resumed."""
        return self.path.running

    @property
    def created(self) -> bool:
        """Whether it never ran."""
        return self.path.created


class Frames:
    """Reads frames of one interpreter."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.memory = objects.memory
        self.layout = layout = objects.layout
        self._codes: dict[int, Code | None] = {}
        self._links: dict[tuple[int, int], Link | None] = {}
        # Where every chain begins: the place above all.
        self._root = Path(None, None, _HEAD)
        # Type addresses by what they are to the walk: "frame", "wrapper" (of a frame), "future" (a wrapper of one) or "end".
        self._roles: dict[int, str] = {}
        self._pointer_top = layout.version >= (3, 14)
        # One read per link: type, state, code, instruction, top of the stack, and the first slots, which are mostly all there are.
        frame = layout.generator_frame
        head = [
            (8, "Q"), (layout.generator_state, "b"), (frame + layout.frame_code, "Q"),
            (frame + layout.frame_instruction, "Q"), (frame + layout.frame_stacktop, "Q" if self._pointer_top else "i"),
        ]  # fmt: skip
        self._generator = struct_of(head)
        self._generator_and_slots = struct_of(
            [*head, *((frame + layout.frame_locals + 8 * slot, "Q") for slot in range(_SLOTS))]
        )
        self._locals = frame + layout.frame_locals
        executable = [
            (layout.frame_code, "Q"),
            (layout.frame_previous, "Q"),
            (layout.frame_instruction, "Q"),
            (layout.frame_owner, "b"),
        ]
        self._frame = struct_of(executable)
        # The C form of ``chain``, for chains through places that were met before; or None.
        self._fast: Any = None
        self.native: Any = None
        native = native_part("Chains")
        if native is not None and self.memory.window is not None:
            self.native = native(
                self.memory.window, self._root, self._roles, Chain, layout.generator_state, frame + layout.frame_code,
                frame + layout.frame_instruction, self._locals, self._pointer_top,
            )  # fmt: skip
            self._fast = self.native.of
        self._frame_order = sorted(range(4), key=lambda at: executable[at][0])

    # -- code ----------------------------------------------------------------------------------------------------------

    def code(self, address: int) -> Code | None:
        """The code object there, or None if it is something else (a frame of C's own)."""
        if address not in self._codes:
            self._codes[address] = None
            try:
                self._codes[address] = self._read_code(address)
            except (Fault, UnicodeDecodeError):
                pass
        return self._codes[address]

    def _read_code(self, address: int) -> Code | None:
        objects, memory, layout = self.objects, self.memory, self.layout
        if objects.type_of(address).name != "code":
            return None
        variables = tuple(
            objects.string(name, 256)
            for name in objects.tuple_items(memory.word(address + layout.code_localsplusnames), 4096)
        )
        return Code(
            address,
            objects.string(memory.word(address + layout.code_filename), 4096),
            objects.string(memory.word(address + layout.code_name), 1024),
            objects.string(memory.word(address + layout.code_qualname), 1024),
            memory.int32(address + layout.code_firstlineno),
            variables,
            address + layout.code_bytecode,
            objects.bytes_of(memory.word(address + layout.code_linetable), 1 << 22),
        )

    def link(self, code_at: int, instruction: int) -> Link | None:
        """The place of an instruction; None where there is no code."""
        key = (code_at, instruction)
        if key in self._links:
            return self._links[key]
        code = self.code(code_at & FREE_BITS)
        found = None
        if code is not None:
            offset = instruction - code.bytecode
            found = Link(code, code.line(offset), self._awaits(code, instruction))
        self._links[key] = found
        return found

    def _awaits(self, code: Code, instruction: int) -> bool:
        """Whether a generator suspended there is in an ``await`` or ``yield from``: what comes next then resumes one."""
        if self.layout.suspended_awaiting is not None:
            return True  # its state says so
        try:
            resume, argument = self.memory.read(instruction + 2, 2)
        except Fault:
            return False
        return resume != 0 and argument & 3 >= _RESUME_AFTER_YIELD_FROM

    # -- chains --------------------------------------------------------------------------------------------------------

    def chain(self, coroutine: int) -> Chain:
        """Everything that ``coroutine`` (a coroutine, generator, or wrapper of one) awaits."""
        if self._fast is not None:
            met: Chain | None = self._fast(coroutine)
            if met is not None:
                return met
        chunks, whole, locals_at, pointers = (
            self.memory.chunks,
            self._generator_and_slots.unpack_from,
            self._locals,
            self._pointer_top,
        )
        path = self._root
        frames: list[int] = []
        here = coroutine
        seen: set[int] | None = None
        wrappers = 0
        while here:
            try:
                try:
                    raw = whole(chunks[here >> SHIFT], here & MASK)
                except struct.error:  # near the end of what is mapped
                    raw = self.memory.unpack(self._generator, here)
                after = path.after.get(raw[:4])
                if after is None:
                    role = self._roles.get(raw[0]) or self._role(raw[0])
                    if role == "end":
                        return Chain(path, frames, here)
                    if role != "frame":
                        wrappers += 1
                        if wrappers > MAX_DEPTH:  # a torn one may wrap itself
                            return Chain(path, frames, 0, partial=True)
                        here = self.memory.word(here + WRAPPED)
                        if role == "future":
                            return Chain(path, frames, here)
                        continue
                    after = self._extend(path, raw, here + locals_at)
                    if after is None:
                        return Chain(path, frames, 0, partial=path.depth > 0 or raw[1] in self.layout.suspended)
                path = after
                frames.append(here + locals_at)
                slot = path.slot
                if not slot:
                    return Chain(path, frames, 0)
                if len(frames) > 64:  # a ring shows by then; a real chain this long is rare
                    seen = seen if seen is not None else set(frames[:-1])
                    if frames[-1] in seen or len(frames) > MAX_DEPTH:
                        return Chain(path, frames, 0, partial=True)
                    seen.add(frames[-1])
                here = raw[slot] if slot < len(raw) else self.memory.word(here + locals_at + 8 * (slot - _HEAD))
                if pointers:
                    here &= FREE_BITS
            except (Fault, UnicodeDecodeError):
                return Chain(path, frames, 0, partial=True)
        return Chain(path, frames, 0)

    def _extend(self, path: Path, raw: tuple[int, ...], variables: int) -> Path | None:
        """The place below ``path`` that was read as ``raw``, met for the first time; None where nothing can be made of it."""
        layout = self.layout
        kind, state, code, instruction, top = raw[:_HEAD]
        suspended = state in layout.suspended
        if not suspended and state not in (layout.created, layout.executing):
            return None  # it is over
        link = self.link(code, instruction)
        if link is None:
            return None
        slot = 0
        if suspended:
            is_coroutine = self.objects.type_at(kind).name == "coroutine"  # which always awaits; others may yield
            awaits = (
                state == layout.suspended_awaiting
                if layout.suspended_awaiting is not None
                else is_coroutine or link.awaits
            )
            if self._pointer_top:
                top = ((top - variables) >> 3) - (layout.awaited_slot - 1)
            if awaits and not 0 < top <= 100_000:
                return None
            slot = _HEAD + top - 1 if awaits else 0
        elif state == layout.created:
            link = self._first_line(link)
        found = path.after[raw[:4]] = Path(path, link, slot)
        found.running = state == layout.executing
        found.created = state == layout.created and path.depth == 0
        return found

    def _first_line(self, link: Link) -> Link:
        """The place of one that has not begun: the line of its ``def``."""
        key = (link.code.address, 0)
        found = self._links.get(key)
        if found is None:
            found = self._links[key] = Link(link.code, link.code.first_line, False)
        return found

    def _role(self, kind: int) -> str:
        info = self.objects.type_at(kind)
        name = info.name
        role = (
            "frame"
            if name in _WITH_FRAME
            else "wrapper"
            if name in _WRAPPERS
            else "future"
            if name in _FUTURES
            else "end"
        )
        self._roles[kind] = role
        return role

    # -- variables -----------------------------------------------------------------------------------------------------

    def variable(self, link: Link, frame: int, name: str) -> int:
        """The object that a frame's variable is bound to; 0 if it has no such variable, or it is unset."""
        try:
            index = link.code.variables.index(name)
        except ValueError:
            return 0
        try:
            value = self.memory.word(frame + 8 * index) & FREE_BITS
            if value and self.objects.type_of(value).name == "cell":
                value = self.memory.word(value + WRAPPED)
        except Fault:
            return 0
        return value

    def entered(self, link: Link, frame: int) -> list[int]:
        """What a frame's ``with`` and ``async with`` blocks are open on, outermost first: the objects whose exit it will call."""
        try:
            if link.exits is None:
                link.exits = tuple(self._exits(link, frame))
            return [value for slot in link.exits if (value := self._exit_of(frame, slot))]
        except Fault:
            return []

    def _exits(self, link: Link, frame: int) -> Iterator[int]:
        layout, memory = self.layout, self.memory
        top_at = frame - layout.frame_locals + layout.frame_stacktop
        top = (memory.word(top_at) - frame) // 8 if self._pointer_top else memory.int32(top_at)
        slots = len(link.code.variables)
        for slot in range(slots, min(top - 1, slots + 1000)):  # the last one is what it awaits
            if self._exit_of(frame, slot):
                yield slot

    def _exit_of(self, frame: int, slot: int) -> int:
        """The object whose exit method is in that slot; 0 if there is something else."""
        objects, memory = self.objects, self.memory
        try:
            value = memory.word(frame + 8 * slot) & FREE_BITS
            if not value:
                return 0
            kind = objects.type_of(value).name
            if kind == "method":
                function, owner = memory.word(value + METHOD_FUNCTION), memory.word(value + METHOD_SELF)
            elif kind == "function":  # from 3.14 on a function and its object stand in two slots
                function, owner = value, memory.word(frame + 8 * slot + 8) & FREE_BITS
            else:
                return 0
            name = objects.string(memory.word(function + FUNCTION_NAME), 16)
            return owner if name in ("__aexit__", "__exit__") else 0
        except (Fault, UnicodeDecodeError):
            return 0

    # -- threads -------------------------------------------------------------------------------------------------------

    def stack(self, frame: int) -> tuple[list[Step], bool]:
        """The running frames from ``frame`` outwards, outermost first; and whether the walk came to its end."""
        steps: list[Step] = []
        seen: set[int] = set()
        order, fields = self._frame_order, [0, 0, 0, 0]
        while frame:
            if frame in seen or len(steps) >= MAX_STACK:
                return steps[::-1], False
            seen.add(frame)
            try:
                raw = self.memory.unpack(self._frame, frame)
                for at, value in zip(order, raw, strict=True):
                    fields[at] = value
                code, previous, instruction, owner = fields
                # Frames of C's own (they mark an entry into the interpreter) have no Python code worth showing.
                link = self.link(code, instruction) if code and (owner < 3 or self.layout.version < (3, 12)) else None
            except Fault:
                return steps[::-1], False
            if link is not None and not link.code.name.startswith("<interpreter"):
                steps.append(Step(link, frame + self.layout.frame_locals))
            frame = previous
        return steps[::-1], True


def struct_of(wanted: list[tuple[int, str]]) -> Struct:
    """A structure of the fields ``(offset, format)``, and padding between them."""
    parts: list[str] = ["<"]
    end = 0
    for offset, kind in sorted(wanted):
        parts.append(f"{offset - end}x{kind}")
        end = offset + Struct(f"<{kind}").size
    return Struct("".join(parts))
