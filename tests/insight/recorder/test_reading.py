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
    with recording.record(folder, keep=True, fatal=False, records=128, tasks=32, texts=4096) as found:
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


def test_every_single_bit_of_a_record_counts(tmp_path: Path, sample: bytes) -> None:
    true = read(tmp_path, sample)
    place = true.header.ring_at + 5 * layout.RECORD.size
    assert layout.record_is_sound(true.header.seed, sample[place : place + 32])
    for bit in range(256):
        raw = bytearray(sample[place : place + 32])
        raw[bit // 8] ^= 1 << bit % 8
        assert not layout.record_is_sound(true.header.seed, bytes(raw)), bit


def test_every_single_bit_of_a_slot_counts(tmp_path: Path, sample: bytes) -> None:
    true = read(tmp_path, sample)
    slot = sample[true.header.tasks_at : true.header.tasks_at + 96]
    for bit in range(768):
        raw = bytearray(slot)
        raw[bit // 8] ^= 1 << bit % 8
        assert layout.slot_check(true.header.seed, bytes(raw)) != int.from_bytes(raw[92:], "little"), bit


def test_a_record_of_another_file_is_none_here(tmp_path: Path, sample: bytes) -> None:
    with recording.record(tmp_path, keep=True, fatal=False, records=128, tasks=32, texts=4096) as found:
        bateau.run(program, runtime="native")
    [path] = found.directory.glob("*.ring")
    other = path.read_bytes()
    start, end = 4096, 4096 + 128 * 32
    mixed = read(tmp_path / "mixed", sample[:start] + other[start:end] + sample[end:])
    assert mixed.records == [] and any("torn or damaged" in one for one in mixed.damaged)


def test_the_torn_record_of_a_kill_is_left_out_and_counted(tmp_path: Path, sample: bytes) -> None:
    true = read(tmp_path, sample)
    raw = bytearray(sample)
    last = true.header.ring_at + (true.records[-1].number - 1) % true.header.ring_count * 32
    raw[last + 24 : last + 28] = bytes(4)  # the state between the first store and the last
    found = read(tmp_path, bytes(raw))
    assert found.records == true.records[:-1]
    assert any("1 record torn" in one for one in found.damaged)


def test_numbers_begin_anew(tmp_path: Path, sample: bytes) -> None:
    """Record 2**32 + 1 has the number 1 and comes last."""
    true = read(tmp_path, sample)
    raw = bytearray(sample)
    base = (1 << 32) - 10
    count = true.header.ring_count
    raw[4096 : 4096 + count * 32] = bytes(count * 32)
    for step in range(20):
        number = (base + step) & 0xFFFFFFFF
        if number == 0:
            continue
        time = 1000 + step
        who = 1 | layout.STEP << 56
        check = layout.record_check(true.header.seed, time, who, 0, 0, number)
        place = 4096 + ((base + step - 1) % count) * 32
        raw[place : place + 32] = layout.RECORD.pack(time, who, 0, 0, number, check)
    found = read(tmp_path, bytes(raw))
    assert [one.time for one in found.records] == [1000 + step for step in range(20) if step != 10]


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
        header._replace(record_size=0),
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
