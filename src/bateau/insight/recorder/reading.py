"""Reading recorder files: of a process that is dead, of one that runs, and of one whose file was damaged.

What is given back was written: each record and slot carries a checksum, each text too. What does not fit is left out and counted.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from ..model import ReadError
from . import layout as at
from .files import FATAL_NAME, RING_SUFFIX, SUFFIX

_HOT = Struct(f"<{at.HOT_COUNT}Q")


class Record(NamedTuple):
    """One event. ``number``: of its first unit, from 1 on and then anew after ``LAPS`` times round the ring. ``time``: nanoseconds of the
    recorded machine's monotonic clock. ``a``, ``b``: see ``layout``.
    """

    number: int
    time: int
    kind: int
    task: int
    a: int
    b: int


class Slot(NamedTuple):
    """A task as it was last seen. Texts are places in the file's texts."""

    id: int
    state: int
    flags: int
    outcome: int
    since: int
    spawned: int
    parent: int
    address: int
    number: int
    holder: int
    name: int
    site: int
    stack: int
    operation: int
    kind: int
    label: int
    reason: int


class Place(NamedTuple):
    """A line of a stack."""

    file: str
    function: str
    line: int


@dataclass
class RingFile:
    """One thread's file. ``records``: oldest first. ``slots``: of the tasks that lived, and of some that had ended. ``damaged``: what
    was left out, in words.
    """

    path: Path
    header: at.Header
    hot: tuple[int, ...]
    records: list[Record]
    slots: dict[int, Slot]
    damaged: list[str]
    _texts: bytes

    @property
    def closed(self) -> bool:
        """Whether the recording was closed in order."""
        return self.hot[at.HOT_STATE] == at.CLOSED

    @property
    def rides(self) -> bool:
        """Whether another library's loop drove this thread, so that steps are seen only where a task begins or goes on after a wait."""
        return bool(self.header.flags & at.RIDES)

    @property
    def name(self) -> str:
        """The loop and its thread, as they were called."""
        return _words(self.header.name)

    def wall(self, time: int) -> float:
        """A time of a record as seconds since the epoch."""
        return (self.header.wall + time - self.header.monotonic) / 1e9

    def last_time(self) -> int:
        """The time of the last event (of the opening, if there was none)."""
        newest = max((slot.since for slot in self.slots.values()), default=0)
        return max(newest, self.records[-1].time if self.records else 0, self.header.monotonic)

    def later(self, step: Record) -> int:
        """By how many nanoseconds a step may have begun after its time: the writer need not read the clock for each of a row of them."""
        place = self.records.index(step)
        before = self.records[place - 1] if place else None
        if before is None:
            return 0 if step.number == 1 else at.LATER
        follows = 0 < step.number - before.number <= 2  # else what came between was lost
        return at.LATER if not follows or (before.kind == at.STEP and before.time == step.time) else 0

    # -- texts -----------------------------------------------------------------------------------------------------------------

    def _entry(self, place: int, kind: int) -> bytes | None:
        """The content of a text; None where there is none of that kind, or it was damaged."""
        start = place * 8
        if place <= 0 or start + 8 > len(self._texts):
            return None
        head, crc = at.TEXT.unpack_from(self._texts, start)
        content = self._texts[start + 8 : start + 8 + (head & 0xFFFFFF)]
        if head >> 24 != kind or len(content) != head & 0xFFFFFF:
            return None
        return content if zlib.crc32(content, zlib.crc32(head.to_bytes(4, "little"))) == crc else None

    def text(self, place: int) -> str:
        """The words at a place; "" where there are none."""
        content = self._entry(place, at.WORDS)
        return content.decode("utf-8", "replace") if content is not None else ""

    def stack(self, place: int) -> list[Place]:
        """A stack, outermost frame first; empty where it is not known."""
        content = self._entry(place, at.STACK)
        if content is None:
            return []
        frames: list[Place] = []
        for index in range(0, len(content) - 3, 4):
            frame = self._entry(int.from_bytes(content[index : index + 4], "little"), at.FRAME)
            if frame is None or len(frame) != at.FRAME_ENTRY.size:
                frames.append(Place("?", "?", 0))
                continue
            file, function, line, _ = at.FRAME_ENTRY.unpack(frame)
            frames.append(Place(self.text(file) or "?", self.text(function), line))
        return frames[::-1]

    def task_name(self, task: int) -> str:
        """What a task was called; its number, if that is all that is known."""
        slot = self.slots.get(task)
        name = self.text(slot.name) if slot is not None else self._spawned_names().get(task, "")
        if not name:
            return f"task {task}"
        return f"{name}-{task}" if slot is None or slot.flags & at.AUTO_NAME else name

    def _spawned_names(self) -> dict[int, str]:
        found: dict[int, str] | None = self.__dict__.get("_names")
        if found is None:
            found = {record.task: self.text(record.a) for record in self.records if record.kind == at.SPAWN}
            self.__dict__["_names"] = found
        return found


@dataclass
class Recorded:
    """What a process left: its threads' files, and the text that the interpreter wrote when a signal killed it."""

    folder: Path
    rings: list[RingFile]
    fatal: str
    damaged: list[str]


def read_ring(path: Path) -> RingFile:
    """Read one file. Raises ``ReadError``, which says why, if it is none or of another version."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ReadError(f"can't read {path}: {error.strerror or error}") from None
    header = _header(path, raw)
    hot = _HOT.unpack_from(raw, at.HOT_AT)
    damaged: list[str] = []
    end = header.texts_at + header.texts_size
    if len(raw) < end:
        damaged.append(f"{path.name} was cut: {len(raw)} of {end} bytes are there")
    records = _records(header, raw, damaged, path.name)
    slots = _slots(header, raw, damaged, path.name)
    for index, what in ((at.HOT_LOST_TASKS, "tasks"), (at.HOT_LOST_TEXTS, "names or stacks")):
        if hot[index]:
            damaged.append(
                f"{path.name}: there was no room for {hot[index]} {what}; see `tasks=` and `texts=` of record()"
            )
    return RingFile(path, header, hot, records, slots, damaged, raw[header.texts_at : end])


def _header(path: Path, raw: bytes) -> at.Header:
    if len(raw) < at.HEADER_SIZE or raw[:8] != at.MAGIC:
        raise ReadError(f"{path} is not a recorder file (it does not begin with {at.MAGIC.decode()})")
    header = at.Header(*at.HEADER.unpack_from(raw))
    if header.version != at.VERSION:
        raise ReadError(
            f"{path} is a recorder file of version {header.version}, and this bateau reads version {at.VERSION}; "
            "use the bateau that wrote it, or a newer one"
        )
    if zlib.crc32(raw[: at.CRC_AT]) != int.from_bytes(raw[at.CRC_AT : at.CRC_AT + 4], "little"):
        raise ReadError(f"the header of {path} is damaged: nothing in it can be trusted")
    parts = header.ring_at, header.tasks_at, header.texts_at
    ring, tasks = header.ring_count * at.UNIT.size, header.task_count * at.SLOT_SIZE
    sizes = header.unit_size, header.slot_size
    if (
        parts != (at.HEADER_SIZE, at.HEADER_SIZE + ring, at.HEADER_SIZE + ring + tasks)
        or sizes != (at.UNIT.size, at.SLOT_SIZE)
        or header.ring_count.bit_count() != 1
    ):
        raise ReadError(f"the header of {path} contradicts itself: nothing in it can be trusted")
    return header


def _records(header: at.Header, raw: bytes, damaged: list[str], name: str) -> list[Record]:
    units = _units(header, raw, damaged, name)
    found: list[Record] = []
    torn = 0
    for place, (number, x, y, tag) in enumerate(units):
        kind = tag >> 28
        if kind == at.TAIL:
            continue  # it came with the unit before it; without that it is what a newer record has left of an old one
        if not tag & at.LONG:
            found.append(Record(number, x, kind, y, 0, 0))
            continue
        following, rest, upper, end = units[place + 1] if place + 1 < len(units) else (0, 0, 0, 0)
        if following == number % (at.LAPS * header.ring_count) + 1 and end >> 28 == at.TAIL:
            found.append(Record(number, x, kind, y | upper << 32, rest & 0xFFFFFFFF, rest >> 32))
        else:
            torn += 1
    if torn:
        damaged.append(f"{name}: {torn} record{'s' * (torn != 1)} without the second half, and left out")
    return found


def _units(header: at.Header, raw: bytes, damaged: list[str], name: str) -> list[tuple[int, int, int, int]]:
    """Number, contents and tag of the units that were written whole, oldest first."""
    count = header.ring_count
    ring = raw[header.ring_at : header.ring_at + count * at.UNIT.size]
    ring = ring[: len(ring) // at.UNIT.size * at.UNIT.size]
    seed = header.seed
    found: list[tuple[int, int, int, int]] = []
    torn = 0
    for index, (x, y, tag) in enumerate(at.UNIT.iter_unpack(ring)):
        number = at.unit_number(seed, index, count, x, y, tag)
        if number:
            found.append((number, x, y, tag))
        else:
            torn += bool(tag or x or y)  # a place that was never written is no loss
    if torn:
        damaged.append(f"{name}: {torn} record{'s' * (torn != 1)} torn or damaged, and left out")
    if found:  # numbers begin anew
        whole = at.LAPS * count
        first = found[0][0]
        found.sort(key=lambda unit: (unit[0] - first + whole // 2) % whole)
    return found


def _slots(header: at.Header, raw: bytes, damaged: list[str], name: str) -> dict[int, Slot]:
    found: dict[int, Slot] = {}
    torn = 0
    size = at.SLOT_SIZE
    table = raw[header.tasks_at : header.tasks_at + header.task_count * size]
    table = table[: len(table) // size * size]
    words = memoryview(table).cast("Q")
    ids = words[at.IDENTITY_AT // 8 :: size // 8].tolist()
    for index, task in enumerate(ids):
        if not task:
            continue
        slot = _slot(header.seed, table[index * size : (index + 1) * size])
        if slot is None:
            torn += 1
            continue
        other = found.get(slot.id)
        if other is None or other.state == at.ENDED:  # a task that was started again has left its first slot behind
            found[slot.id] = slot
    if torn:
        damaged.append(
            f"{name}: the entr{'ies' if torn != 1 else 'y'} of {torn} task{'s' * (torn != 1)} torn or damaged, and left out"
        )
    return found


def _slot(seed: int, raw: bytes) -> Slot | None:
    """A slot of which every part was written whole; else None."""
    since, holder, state, check = at.STATE.unpack_from(raw)
    address, number, stack, operation, kind, label, wait, _ = at.WAIT.unpack_from(raw, at.WAIT_AT)
    task, spawned, parent, name, site, reason, flags, identity = at.IDENTITY.unpack_from(raw, at.IDENTITY_AT)
    if (
        at.state_check(seed, since, holder, state, wait, identity) != check
        or at.wait_check(seed, raw[at.WAIT_AT :]) != wait
        or at.identity_check(seed, raw[at.IDENTITY_AT :]) != identity
    ):
        return None
    outcome, state = state >> at.OUTCOME_SHIFT, state & (1 << at.OUTCOME_SHIFT) - 1
    return Slot(
        task, state, flags, outcome, since, spawned, parent, address, number, holder, name, site, stack, operation, kind, label, reason
    )  # fmt: skip


def find_recording(path: Path) -> Path:
    """The folder of a recording, given that folder or a file in it. Raises ``ReadError`` for anything else."""
    if path.is_dir():
        folder = path
    elif path.name.endswith(RING_SUFFIX) or path.name == FATAL_NAME:
        folder = path.parent
    elif path.exists():
        raise ReadError(
            f"{path} is neither a recording (a folder *{SUFFIX}, or a file in it) nor a crash report (*.json)"
        )
    else:
        raise ReadError(f"there is no {path}; `bateau postmortem` without a file lists what is there")
    return folder


def read_recording(path: Path) -> Recorded:
    """Read what a process left. Raises ``ReadError`` where there is nothing, or nothing that can be read."""
    folder = find_recording(path)
    rings: list[RingFile] = []
    damaged: list[str] = []
    paths = sorted(folder.glob(f"*{RING_SUFFIX}"))
    for ring in paths:
        try:
            rings.append(read_ring(ring))
        except ReadError as error:
            damaged.append(str(error))
    if paths and not rings:
        raise ReadError("; ".join(damaged))
    try:
        fatal = (folder / FATAL_NAME).read_text(errors="replace")
    except OSError:
        fatal = ""
    if not paths and not fatal:
        raise ReadError(f"{folder} has no recorder file: the process ran no task while it was recorded")
    for found in rings:
        damaged.extend(found.damaged)
    return Recorded(folder, rings, fatal, damaged)


def _words(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")


def argv_of(header: at.Header) -> tuple[str, ...]:
    """The command line of the process."""
    return tuple(_words(header.argv).split("\0"))
