"""Another process's memory, decoded in C: whatever it holds, what is found is what a few lines of Python find in the same bytes.

The memory is hostile: structures cut off by the end of a chunk, links that lead to themselves, into the middle of others and nowhere, lengths
that are lies. Under the address sanitizer (``make test-asan``) a byte read beside a chunk ends the process.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from bateau.kernel import twin

pytestmark = pytest.mark.skipif(twin.native is None, reason="the decoder in C was not built")
native: Any = twin.native

SHIFT = 12
SIZE = 1 << SHIFT
LAST = (1 << 64) - 1
# Where the made-up generators have their parts, and how far the head reaches that is looked at.
STATE, CODE, INSTRUCTION, LOCALS = 24, 32, 40, 48
HEAD = INSTRUCTION + 8
GENERATOR, OTHER_GENERATOR, END, FUTURE, WRAPPER, STRANGER, TEXT = 1, 2, 3, 4, 5, 6, 7
ROLES = {END: "end", FUTURE: "future", WRAPPER: "wrapper"}
LONGEST = 64  # as in memory.c


class Path:
    """A place in a chain: what may come after it."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.after: dict[tuple[int, int, int, int], Path] = {}


class Found(tuple[Any, ...]):
    """What a chain is found to be."""

    __slots__ = ()


class Chunks(dict[int, Any]):
    """Those that are there; some are cut short, some are no bytes."""

    def __missing__(self, number: int) -> bytes:
        return b""


def a_chunk(chance: random.Random, places: list[int]) -> Any:
    """Words that are small numbers, kinds of things, links to ``places`` and noise; whole, cut off, or nothing."""
    words = []
    for _ in range(SIZE // 8):
        kind = chance.random()
        if kind < 0.35:
            words.append(chance.choice(places) + chance.choice((0, 0, 0, 0, 1, 7)))
        elif kind < 0.75:
            words.append(chance.randrange(8))
        elif kind < 0.9:
            words.append(chance.choice((0, LAST, LAST - 7, 1 << 63, chance.getrandbits(64), chance.getrandbits(16))))
        else:
            words.append(0x60 | chance.randrange(300) << 32)
    data = bytearray(struct.pack(f"<{len(words)}Q", *words))
    for place in places:  # things, where they do not run over the end
        at = place % SIZE
        if at + 64 <= SIZE and chance.random() < 0.8:
            kind = chance.choice(
                (GENERATOR, GENERATOR, GENERATOR, OTHER_GENERATOR, END, FUTURE, WRAPPER, STRANGER, TEXT)
            )
            inner = [place if chance.random() < 0.1 else chance.choice([*places, 0]) for _ in range(3)]
            struct.pack_into(
                "<8Q",
                data,
                at,
                1,
                kind,
                inner[0],
                chance.randrange(3),
                chance.randrange(3),
                chance.randrange(2),
                *inner[1:],
            )
    end = chance.choice((SIZE, SIZE, SIZE, SIZE + 64, chance.randrange(SIZE)))
    return chance.choice([bytes(data)[:end].ljust(min(end, SIZE + 64), b"\5")] * 20 + [b"", bytearray(data), None])


def paths(chance: random.Random) -> Path:
    """Places that lead to each other, in rings, too."""
    made = [Path(0)] + [Path(chance.choice((0, 5, 5, 5, 6, 7, 1, 100))) for _ in range(6)]
    for path in made:
        for _ in range(30):
            key = (
                chance.choice((GENERATOR, OTHER_GENERATOR)),
                chance.randrange(3),
                chance.randrange(3),
                chance.randrange(2),
            )
            path.after[key] = chance.choice(made[1:])
    return made[0]


class Model:
    """The same in Python, of the same bytes."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks

    def at(self, address: int, size: int) -> bytes | None:
        chunk = self.chunks[address >> SHIFT]
        start = address & SIZE - 1
        return chunk[start : start + size] if type(chunk) is bytes and start + size <= len(chunk) else None

    def word(self, address: int) -> int | None:
        found = self.at(address, 8) if 0 <= address <= LAST else self.at(0, 8)
        return struct.unpack("<Q", found)[0] if found is not None else None

    def text(self, address: int, kind: int, data: int) -> str | None:
        head = self.at(address, 36)
        if head is None or data < 36:
            return None
        _, its_kind, length, _, state = struct.unpack("<QQQQI", head)
        whole = self.at(address, data + length) if length <= 256 and state & 0x60 == 0x60 and its_kind == kind else None
        return whole[data:].decode("latin-1") if whole is not None else None

    def linked(self, node: int, after: int, most: int) -> list[int] | None:
        nodes: list[int] = []
        while node != 0 and len(nodes) < most:
            nodes.append(node)
            following = self.word(node + after & LAST)
            if following is None:
                return None
            node = following
        return nodes

    def chain(self, root: Path, here: int, pointers: bool) -> tuple[Any, ...] | None:
        path, frames = root, []
        for _ in range(LONGEST):
            if here == 0:
                break
            head = self.at(here, HEAD)
            if head is None:
                return None
            kind, state = struct.unpack_from("<Q", head, 8)[0], struct.unpack_from("<b", head, STATE)[0]
            code, instruction = struct.unpack_from("<QQ", head, CODE)
            following = path.after.get((kind, state, code, instruction))
            if following is None:
                role = ROLES.get(kind)
                if role is None:
                    return None
                if role == "end":
                    return path, frames, here, False
                inner = self.at(here, 24)
                assert inner is not None
                here = struct.unpack_from("<Q", inner, 16)[0]
                if role == "future":
                    return path, frames, here, False
                continue
            path = following
            frames.append(here + LOCALS & LAST)
            if path.slot == 0:
                return path, frames, 0, False
            inner = self.at(here + LOCALS + 8 * (path.slot - 5) & LAST, 8)
            if inner is None:
                return None
            here = struct.unpack("<Q", inner)[0]
            if pointers:
                here &= ~7
        return (path, frames, 0, False) if here == 0 else None


@pytest.mark.parametrize("seed", range(25))
def test_hostile_memory_is_read_as_python_reads_it(seed: int) -> None:
    chance = random.Random(seed)
    places = [chance.randrange(1, 8) * SIZE + chance.randrange(0, SIZE, 8) for _ in range(60)]
    # Some lie across the end of a chunk: in none of them whole.
    places += [chance.randrange(2, 8) * SIZE - chance.randrange(1, 64) for _ in range(8)]
    chunks = Chunks(
        (number, a_chunk(chance, [place for place in places if place >> SHIFT == number] or [8]))
        for number in range(1, 8)
    )
    model, root, pointers = Model(chunks), paths(chance), chance.random() < 0.5
    window = native.Window(chunks, SHIFT, lambda _address: None)
    chains = native.Chains(window, root, ROLES, Found, STATE, CODE, INSTRUCTION, LOCALS, pointers)
    kinds = [(chance.randrange(0, 200), chance.choice("bBhHiIqQ")) for _ in range(chance.randrange(1, 33))]
    record = native.Record(window, tuple(kinds))
    found = 0
    for _ in range(40):
        wild = [chance.getrandbits(64), chance.randrange(8 * SIZE), LAST - chance.randrange(64), chance.randrange(100)]
        for address in [*places, *wild]:
            assert window.word(address) == model.word(address)
            data = chance.choice((36, 40, 48, 0, -1, 35, SIZE, 1 << 62))
            assert window.text(address, TEXT, data) == model.text(address, TEXT, data)
            chain = chains.of(address)
            assert (tuple(chain) if chain is not None else None) == model.chain(root, address, pointers)
            found += chain is not None
            none = chance.choice(places)
            most, after = chance.choice((0, 3, 200)), chance.choice((0, 8, 16, 1 << 31))
            assert window.linked(address, after, most) == model.linked(address, after, most)
            some = [address, *chance.sample(places, 2)]
            words = [model.word(one + after & LAST) for one in some]
            assert window.words(some, after) == (words if None not in words else None)
            values = record.read(address, none)
            end = max(offset + struct.calcsize(kind) for offset, kind in kinds)
            whole = model.at(address, end)
            expected = (
                [struct.unpack_from(f"<{kind}", whole, offset)[0] for offset, kind in kinds]
                if whole is not None
                else None
            )
            if expected is not None:
                expected = [
                    0 if kind == "Q" and value == none else value
                    for value, (_, kind) in zip(expected, kinds, strict=True)
                ]
            assert values == expected
        # Chunks that take the places of others in the window, which then has to fetch those again.
        number = chance.randrange(1, 8) + (chance.randrange(1, 4) << 12)
        chunks.setdefault(number, a_chunk(chance, places[:60]))
        places.append(number * SIZE + chance.randrange(0, SIZE, 8))
    assert found


class Wait:
    """What a task waits on."""


class Step(Path):
    """A place as the readers of tasks know it."""

    index, running, created = 3, False, False


# Two coroutines, of which the first awaits the second and that an end; a task of bateau's that waits with an operation until a time; one of
# asyncio's; a string, a float, a future.
CORO, TASK, OPERATION, NUMBER, ASYNCIO_TASK, WAITER, NAME = (
    SIZE + at for at in (64, 1536, 2048, 2200, 2560, 2816, 1024)
)
THINGS = {
    64: (1, GENERATOR, 0, 0, 100, 200, SIZE + 256, SIZE + 1024),
    256: (1, GENERATOR, 0, 0, 300, 400, SIZE + 512),
    512: (1, END, 0, 5),
    1024: (1, TEXT, 5, 0, 0x60, int.from_bytes(b"hello", "little")),
    1536: (1, 77, 0, 5000, CORO, 0, 6000, TASK, 0, 0, 7000, OPERATION, 42, 3 | 1 << 40),
    2048: (1, 88, 9000, NUMBER, 1),
    2200: (1, 99, 0x4000000000000000),
    2560: (1, 66, 5000, 0, 0, WAITER, CORO, NAME),
    2816: (1, 55, 0, 0, 0),
}
ODD = (
    0,
    1,
    LAST,
    1 << 63,
    (1 << 63) - 1,
    0x7FF0000000000000,
    0x7FF8000000000000,
    0xFFF0000000000000,
    *(SIZE + at for at in THINGS),
)


@pytest.mark.parametrize("seed", range(20))
def test_tasks_of_damaged_memory_are_some_or_none(seed: int) -> None:
    """Words changed, the end cut off, and offsets that are lies, for the process says itself where its fields are: it is a task, or none."""
    chance, first, second = random.Random(seed), Step(5), Step(5)
    root = Step(0)
    root.after[GENERATOR, 0, 100, 200], first.after[GENERATOR, 0, 300, 400] = first, second
    layout = [*((16 + 8 * n, "Q") for n in range(10)), (96, "q"), (104, "i"), (108, "B"), (109, "B")]
    entered = waits = 0
    for _ in range(300):
        chunk = bytearray(SIZE)
        for at, words in THINGS.items():
            struct.pack_into(f"<{len(words)}Q", chunk, at, *words)
        for _ in range(chance.randrange(4)):
            at = chance.choice(list(THINGS))
            struct.pack_into(
                "<Q", chunk, at + 8 * chance.randrange(len(THINGS[at])), chance.choice((*ODD, chance.getrandbits(64)))
            )
        end = chance.choice((SIZE, SIZE, chance.choice(list(THINGS)) + chance.randrange(130)))
        its_layout = [(chance.randrange(4096) if chance.random() < 0.02 else at, kind) for at, kind in layout]
        state_at, text_at = chance.choice((32, 32, 0, 4, 12, 4096)), chance.choice((40, 40, 36, 4096))
        offsets = tuple(chance.randrange(4096) if chance.random() < 0.02 else at for at in (8, 16, 24, 32, 40, 48, 56))
        window = native.Window(Chunks({1: bytes(chunk[:end])}), SHIFT, lambda _address: None)
        chains = native.Chains(window, root, ROLES, Found, STATE, CODE, INSTRUCTION, LOCALS, False)
        tasks: dict[int, Any] = {}
        tables = (
            tasks, {}, {5000: (1 << 63) - 1}, {second: chance.choice(("work", None))}, {6000: 9}, {(7000, 3): 2}, {88: (16, chance.choice((24, -1, 4000)), 32)},
            {(88, 9000): ("words", 9000, True)}, {9000: []}, {5000: 1.5},
        )  # fmt: skip
        name_at = chance.choice((56, 56, 8, 4096))
        plain = native.PlainTasks(chains, 77, 0, 99, tuple(its_layout), tables, Wait, TEXT, text_at, name_at)
        fields = plain.task(TASK)
        entered += fields is not None
        waits += plain.wait(TASK, fields if fields is not None else {"id": 1})
        for words in ("w", None):
            its_tables = (
                tasks, {}, {66: 0}, {3: (0, words)}, {55: "future"}, {(SIZE + 512, "w"): Wait()}, {SIZE + 512: [], 1: []},
                {END: chance.choice((-24, 24, -4000))},
            )  # fmt: skip
            usual = native.UsualTasks(chains, TEXT, 99, text_at, state_at, 1.0, offsets, its_tables, Wait, str)
            entered += usual.task(ASYNCIO_TASK)
        for one in tasks.values():
            assert type(one["id"]) is int and type(one["name"]) is str and one["stack"] == 3
            left = vars(one["waits"]).get("left", 0.0) if "waits" in one else 0.0
            assert -1e12 < left < 1e12  # JSON has no infinity
    assert entered > 100 and waits > 30


def test_what_is_no_address_is_none() -> None:
    chunks = Chunks({0: bytes(range(256)) * 16})
    window = native.Window(chunks, SHIFT, lambda _address: "slow")
    assert (
        window.word(-1) == window.word(1 << 64) == window.word(0)
    )  # "below the first byte, or behind the last": nothing lives at 0
    assert window.word(LAST) == "slow"
    for wrong in ("x", None, 1.5, b"1"):
        with pytest.raises(TypeError):
            window.word(wrong)
