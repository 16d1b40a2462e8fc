"""Reading what was damaged: never anything but the truth, or a clear error."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bateau
from bateau.insight.model import ReadError
from bateau.insight.postmortem import death, report, text
from bateau.insight.recorder import layout, reading, recording

pytestmark = pytest.mark.real_os("it maps real files")


async def program() -> None:
    lock = bateau.sync.Lock(name="db")

    async def worker() -> None:
        async with lock:
            await bateau.time.sleep(0)

    async with bateau.scope() as scope:
        for _ in range(20):
            scope.spawn(worker)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("sample")
    with recording.record(folder, keep=True, fatal=False, records=256, tasks=32, texts=4096) as found:
        bateau.run(program, runtime="native")
    [path] = found.directory.glob("*.ring")
    return path.read_bytes()


def read(folder: Path, raw: bytes) -> reading.RingFile:
    folder.mkdir(exist_ok=True)
    path = folder / "1.ring"
    path.write_bytes(raw)
    return reading.read_ring(path)


def check(folder: Path, true: reading.RingFile, raw: bytes) -> None:
    """What is read of a damaged file is a part of the truth, and all tools take it; or there is a clear error."""
    try:
        found = read(folder, raw)
    except ReadError:
        return
    assert set(found.records) <= set(true.records)
    assert [one.number for one in found.records] == sorted(one.number for one in found.records)
    for task, slot in found.slots.items():
        assert slot == true.slots[task]
        for place in (slot.name, slot.operation, slot.kind, slot.label, slot.reason):
            assert found.text(place) in ("", true.text(place))
        for place in (slot.stack, slot.site):
            for mine, theirs in zip(found.stack(place), true.stack(place), strict=False):
                assert mine == theirs or "?" in mine or mine.function == ""
    whole = death.report_of(reading.read_recording(folder))
    assert report.from_json(report.to_json(whole)) == whole
    assert text.tell(whole)


def test_a_sample_is_read(tmp_path: Path, sample: bytes) -> None:
    found = read(tmp_path, sample)
    assert found.damaged == [] and len(found.records) > 60 and len(found.slots) == 21


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bits(tmp_path_factory: pytest.TempPathFactory, sample: bytes, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    true = read(folder, sample)
    raw = bytearray(sample)
    for place in data.draw(st.lists(st.integers(0, len(raw) * 8 - 1), min_size=1, max_size=40)):
        raw[place // 8] ^= 1 << place % 8
    check(folder, true, bytes(raw))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 14000), st.integers(1, 4096))
def test_overwritten_parts(
    tmp_path_factory: pytest.TempPathFactory, sample: bytes, seed: int, start: int, size: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "overwritten"
    true = read(folder, sample)
    start %= len(sample)
    junk = random.Random(seed).randbytes(min(size, len(sample) - start))
    check(folder, true, sample[:start] + junk + sample[start + len(junk) :])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 14000))
def test_cut_files(tmp_path_factory: pytest.TempPathFactory, sample: bytes, size: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "cut"
    true = read(folder, sample)
    check(folder, true, sample[: size % len(sample)])


def test_every_single_bit_of_a_unit_counts(tmp_path: Path, sample: bytes) -> None:
    true = read(tmp_path, sample)
    seed, count = true.header.seed, true.header.ring_count
    for index in (2, 5):
        place = true.header.ring_at + index * layout.UNIT.size
        assert layout.unit_number(seed, index, count, *layout.UNIT.unpack_from(sample, place)) == index + 1
        for bit in range(128):
            raw = bytearray(sample[place : place + 16])
            raw[bit // 8] ^= 1 << bit % 8
            assert layout.unit_number(seed, index, count, *layout.UNIT.unpack(raw)) == 0, bit


def test_a_unit_is_none_elsewhere_in_the_ring(tmp_path: Path, sample: bytes) -> None:
    true = read(tmp_path, sample)
    raw = bytearray(sample)
    start = true.header.ring_at
    raw[start : start + 16], raw[start + 64 : start + 80] = sample[start + 64 : start + 80], sample[start : start + 16]
    found = read(tmp_path, bytes(raw))
    assert set(found.records) < set(true.records) and any("torn or damaged" in one for one in found.damaged)


def test_every_single_bit_of_a_slot_counts(tmp_path: Path, sample: bytes) -> None:
    true = read(tmp_path, sample)
    place = true.header.tasks_at
    slot = sample[place : place + layout.SLOT_SIZE]
    assert reading._slot(true.header.seed, slot) in true.slots.values()
    spare = {*range(60, 64), *range(108, 128)}
    for bit in range(len(slot) * 8):
        raw = bytearray(slot)
        raw[bit // 8] ^= 1 << bit % 8
        assert (reading._slot(true.header.seed, bytes(raw)) is None) == (bit // 8 not in spare), bit


def test_the_parts_of_a_slot_belong_together(tmp_path: Path, sample: bytes) -> None:
    """A state isn't read with what another task, or another wait of the same task, has left, whichever part a kill has stopped at."""
    true = read(tmp_path, sample)
    place = true.header.tasks_at
    slots = [sample[place + at : place + at + 128] for at in range(0, 20 * 128, 128)]
    first, other = next((a, b) for a in slots for b in slots if a[24:60] != b[24:60] and a != b)
    for start, end in ((0, 24), (24, 64), (64, 128)):
        mixed = first[:start] + other[start:end] + first[end:]
        assert reading._slot(true.header.seed, mixed) is None


def test_a_record_of_another_file_is_none_here(tmp_path: Path, sample: bytes) -> None:
    with recording.record(tmp_path, keep=True, fatal=False, records=256, tasks=32, texts=4096) as found:
        bateau.run(program, runtime="native")
    [path] = found.directory.glob("*.ring")
    other = path.read_bytes()
    start, end = 4096, 4096 + 256 * 16
    mixed = read(tmp_path / "mixed", sample[:start] + other[start:end] + sample[end:])
    assert mixed.records == [] and any("torn or damaged" in one for one in mixed.damaged)


@pytest.mark.parametrize("units", [1, 2])
def test_the_torn_record_of_a_kill_is_left_out_and_counted(tmp_path: Path, sample: bytes, units: int) -> None:
    """A kill between the stores of a unit, and one between the units of a record."""
    true = read(tmp_path, sample)
    raw = bytearray(sample)
    last = [one for one in true.records if (one.a or one.b) == (units == 2) or units == 2 and (one.a or one.b)][-1]
    later = [one for one in true.records if one.number > last.number]
    place = true.header.ring_at + (last.number - 1) * 16
    for at in range(place if units == 1 else place + 16, true.header.ring_at + true.header.ring_count * 16, 16):
        raw[at + 8 : at + 16] = bytes(8)  # the state after the first store
    found = read(tmp_path, bytes(raw))
    assert found.records == [one for one in true.records if one.number < last.number]
    assert len(later) < 10 and any("left out" in one for one in found.damaged)


def test_numbers_begin_anew(tmp_path: Path, sample: bytes) -> None:
    """After eight times round the ring the numbers begin at 1, and what has them is newer."""
    true = read(tmp_path, sample)
    raw = bytearray(sample)
    count, seed = true.header.ring_count, true.header.seed
    raw[4096 : 4096 + count * 16] = bytes(count * 16)
    for step in range(20):
        whole = layout.LAPS * count - 10 + step
        tag = layout.unit_tag(seed, 1000 + step, 1, layout.STEP << 28, whole, count)
        place = 4096 + (whole - 1) % count * 16
        raw[place : place + 16] = layout.UNIT.pack(1000 + step, 1, tag)
    found = read(tmp_path, bytes(raw))
    assert [one.time for one in found.records] == [1000 + step for step in range(20)]
    assert [one.number for one in found.records] == [layout.LAPS * count - 10 + step for step in range(11)] + [
        *range(1, 10)
    ]


@pytest.mark.parametrize("raw", [b"", b"x", b"BATEAUFR", bytes(5000), b"BATEAUFR" + bytes(5000)])
def test_what_is_no_recording(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(ReadError):
        read(tmp_path, raw)


def test_another_version(tmp_path: Path, sample: bytes) -> None:
    with pytest.raises(ReadError, match="version 9"):
        read(tmp_path, sample[:8] + b"\x09\0\0\0" + sample[12:])


def test_headers_that_contradict_themselves(tmp_path: Path, sample: bytes) -> None:
    """A checksum protects from accidents, not from malice: sizes are checked as well."""
    header = layout.Header(*layout.HEADER.unpack_from(sample))
    for changed in (
        header._replace(ring_count=0),
        header._replace(ring_count=1 << 60),
        header._replace(ring_count=100),
        header._replace(tasks_at=0),
        header._replace(texts_at=1 << 62),
        header._replace(unit_size=0),
    ):
        with pytest.raises(ReadError, match="contradicts itself"):
            read(tmp_path, changed.packed() + sample[2048:])


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="there is no"):
        reading.read_recording(tmp_path / "nothing")
    with pytest.raises(ReadError, match="no recorder file"):
        reading.read_recording(tmp_path)
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(ReadError, match="neither a recording"):
        reading.read_recording(tmp_path / "text.txt")
