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
