"""The writer in Python and the one in C: the same program leaves the same file, as far as a clock and addresses allow."""

from __future__ import annotations

import gc
import re
import struct
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau import insight
from bateau.insight.postmortem import death, text
from bateau.insight.postmortem.report import End
from bateau.insight.recorder import layout, reading, recording
from bateau.insight.recorder.hot import lasting
from support.entries import KERNEL, Entry

try:
    from bateau._native import Ring
except ImportError:
    Ring = None

both = pytest.mark.parametrize(
    "pure",
    [True, pytest.param(False, marks=pytest.mark.skipif(Ring is None, reason="no writer in C"))],
    ids=["pure", "native"],
)
pytestmark = pytest.mark.real_os("it maps real files")


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda pure: monkeypatch.setenv("BATEAU_PURE", str(int(pure)))


async def program(count: int = 3) -> None:
    lock = bateau.sync.Lock(name="db")

    async def worker() -> None:
        async with lock:
            await bateau.time.sleep(0)
            await bateau.yield_now()

    async def fails() -> None:
        async with lock:
            raise ValueError("as told")

    async with bateau.scope() as scope:
        for _ in range(count):
            scope.spawn(worker)
        scope.spawn(worker, name="named")
    try:
        async with bateau.scope() as scope:
            scope.spawn(fails)
            scope.spawn(bateau.time.sleep, 1000, name="bystander")
    except ExceptionGroup:
        pass
    for _ in range(300):  # more than one turn's worth of steps: nobody waits when the loop looks outside
        await bateau.yield_now()
    recording.note("nearly done")


def record(folder: Path, fn: Any = program, **sizes: int) -> reading.RingFile:
    with recording.record(folder, keep=True, fatal=False, **sizes) as found:
        bateau.run(fn, runtime="native")
    gc.collect()
    [path] = found.directory.glob("*.ring")
    return reading.read_ring(path)


def plain(ring: reading.RingFile) -> list[tuple[Any, ...]]:
    """The records without times and numbers that differ between two runs."""
    first = min(record.task for record in ring.records if record.task)
    found: list[tuple[Any, ...]] = []
    for one in ring.records:
        words: list[Any] = (
            [re.sub(r"-\d+", "", ring.text(one.a))]
            if one.kind in (layout.SPAWN, layout.PARK, layout.CANCEL, layout.NOTE)
            else [one.a]
        )
        if one.kind == layout.WAKE and one.a:
            words = [one.a - first]
        if one.kind == layout.END:
            words.append(ring.text(one.b))
        stack = (
            ring.stack(one.b)
            if one.kind in (layout.SPAWN, layout.PARK)
            else one.b
            if one.kind == layout.CANCEL
            else None
        )
        found.append((layout.KINDS[one.kind], one.task and one.task - first, *words, stack))
    return found


@pytest.mark.skipif(Ring is None, reason="no writer in C")
def test_the_same_program_leaves_the_same_records(tmp_path: Path, choose: Any) -> None:
    found: list[reading.RingFile] = []
    for pure in (True, False):
        choose(pure)
        found.append(record(tmp_path / str(pure)))
    assert plain(found[0]) == plain(found[1])
    kinds = {layout.KINDS[one.kind] for one in found[0].records}
    assert kinds == set(layout.KINDS[1:]), "the program makes every kind of event"
    assert found[0].hot[layout.HOT_HEAD] == found[1].hot[layout.HOT_HEAD] == found[0].records[-1].number
    assert [one.number for one in found[0].records] == [one.number for one in found[1].records]
    slots = [
        [
            (
                ring.task_name(slot.id).rstrip("0123456789"), slot.state, slot.flags, slot.outcome, ring.text(slot.operation), ring.text(slot.kind),
                ring.text(slot.label), ring.text(slot.reason), ring.stack(slot.site), bool(slot.address), bool(slot.holder),
            )
            for slot in ring.slots.values()
        ]
        for ring in found
    ]  # fmt: skip
    assert slots[0] == slots[1]


@both
def test_what_is_recorded(tmp_path: Path, choose: Any, pure: bool) -> None:
    choose(pure)
    ring = record(tmp_path)
    assert ring.closed and ring.damaged == []
    assert ring.records[0].number == 1
    for one, following in pairwise(ring.records):
        assert following.number == one.number + (2 if one.a or one.b else 1)
    times = [one.time for one in ring.records]
    assert times == sorted(times)
    [named] = [slot for slot in ring.slots.values() if ring.task_name(slot.id) == "named"]
    mine = [one for one in ring.records if one.task == named.id]
    assert [layout.KINDS[one.kind] for one in mine][:3] == ["spawn", "step", "park"]
    assert mine[-1].kind == layout.END and mine[-1].a == layout.RETURNED
    stack = ring.stack(mine[2].b)
    assert stack[0].function.endswith("worker"), "outermost first"
    assert Path(stack[0].file) == Path(__file__) and stack[0].line > 0
    ends = {ring.text(one.b) for one in ring.records if one.kind == layout.END}
    assert {"ValueError"} < ends
    [note] = [one for one in ring.records if one.kind == layout.NOTE]
    assert ring.text(note.a) == "nearly done"


@pytest.mark.skipif(
    Ring is None or KERNEL == "pure", reason="the writer in C shares readings under the kernel in C alone"
)
def test_steps_in_a_row_share_a_reading_of_the_clock_but_no_long_one_is_taken_for_the_next(
    tmp_path: Path, choose: Any
) -> None:
    ticks: list[int] = []

    def tick() -> float:
        return time.clock_gettime(6)  # CLOCK_MONOTONIC_COARSE, for which Python has no name

    async def main() -> None:
        for number in range(1000):
            if number % 250 == 249:  # a step that lasts from one tick of the coarse clock to the next
                began = tick()
                while tick() == began:
                    pass
                ticks.append(time.monotonic_ns())
            await bateau.yield_now()

    choose(False)
    times = [one.time for one in record(tmp_path, main).records if one.kind == layout.STEP]
    assert times == sorted(times)
    runs = Counter(times)
    assert 1 < max(runs.values()) <= 16
    for moment in ticks:
        [at] = [before for before, after in pairwise(sorted(runs)) if before < moment <= after]
        assert at < moment, "the step after it has a time of its own"
    assert [sum(one < moment for one in times) for moment in ticks] == [250, 500, 750, 1000]


@both
def test_a_reader_knows_which_times_are_shared(tmp_path: Path, choose: Any, pure: bool) -> None:
    seen: list[tuple[int, bool]] = []
    told: list[str] = []
    sizes = {"records": 256, "tasks": 32, "texts": 4096}

    async def main() -> None:
        for _ in range(100):
            for _ in range(3):
                await bateau.yield_now()
            [path] = found.directory.glob("*.ring")
            ring = reading.read_ring(path)
            last, before = ring.records[-1], ring.records[-2]
            assert death.running_at_end(ring) == last
            words = struct.pack("<4Q", *ring.hot[:4])
            step = lasting(words, last.task, rides=False)
            assert step is not None and step.at_most == (ring.later(last) > 0 and step.seconds < 1)
            seen.append((ring.later(last), before.kind == layout.STEP and last.time == before.time))
            if seen[-1][1] or pure:
                break
        recorded = reading.read_recording(found.directory)
        when = death.last_sign(recorded)
        for how, by, at in (("gone", "the recorder", when), ("signal", "the supervisor", when + 3)):
            end = End(how, "it ended", at, by)
            told.extend(line for line in text.tell_end(death.report_of(recorded, end=end)) if "main" in line)

    choose(pure)
    with recording.record(tmp_path, keep=True, fatal=False, **sizes) as found:
        bateau.run(main, runtime="native")
    assert all(later == (layout.LATER if shared else 0) for later, shared in seen)
    shares = not pure and KERNEL != "pure"  # the kernel in Python wakes whoever yields, which has a reading of its own
    assert any(shared for _, shared in seen) == shares, "a reading was shared, by the writer that does so"
    assert told[0].endswith("was running")
    assert told[1].endswith(f"was running, for 3 s{'' if not shares else ' (or up to 10 ms less)'}")


@both
def test_the_ring_is_bounded_and_the_living_are_kept(tmp_path: Path, choose: Any, pure: bool) -> None:
    choose(pure)

    async def main() -> None:
        async with bateau.scope() as scope:
            early = scope.spawn(bateau.time.sleep, 1000, name="early")
            await bateau.yield_now()
            for _ in range(200):
                await bateau.yield_now()
            early.cancel("enough")

    ring = record(tmp_path, main, records=64)
    assert 40 < len(ring.records) < 64 and ring.damaged == []
    assert ring.hot[layout.HOT_HEAD] > 200
    spawned = [one for one in ring.records if one.kind == layout.SPAWN]
    assert spawned == [], "long overwritten"
    [early] = [slot for slot in ring.slots.values() if ring.task_name(slot.id) == "early"]
    assert ring.text(early.operation) == "sleep" and ring.text(early.reason) == "enough"


@both
def test_more_tasks_than_slots_are_counted(tmp_path: Path, choose: Any, pure: bool) -> None:
    choose(pure)

    async def main() -> None:
        async with bateau.scope() as scope:
            for _ in range(50):
                scope.spawn(bateau.time.sleep, 0.001)

    ring = record(tmp_path, main, tasks=20)
    assert len(ring.slots) == 20
    assert ring.hot[layout.HOT_LOST_TASKS] >= 31
    assert any("no room for" in one for one in ring.damaged)


@both
def test_more_names_than_room(tmp_path: Path, choose: Any, pure: bool) -> None:
    choose(pure)

    async def main() -> None:
        async with bateau.scope() as scope:
            for number in range(500):
                scope.spawn(bateau.time.sleep, 0, name=f"a task with a rather long name, number {number}")

    ring = record(tmp_path, main, texts=8192)
    names = [ring.task_name(slot.id) for slot in ring.slots.values()]
    assert len(names) == 501
    assert "a task with a rather long name, number 0" in names
    assert any(name.startswith("sleep-") for name in names), "where there is no room, the function's name and a number"
    assert ring.hot[layout.HOT_LOST_TEXTS] > 0


@both
def test_slots_are_used_again(tmp_path: Path, choose: Any, pure: bool) -> None:
    choose(pure)

    async def nothing() -> None:
        return

    async def main() -> None:
        for _ in range(60):
            async with bateau.scope() as scope:
                for _ in range(20):
                    scope.spawn(nothing)

    ring = record(tmp_path, main)
    assert ring.hot[layout.HOT_SLOTS] < 400
    assert ring.hot[layout.HOT_LOST_TASKS] == 0


def test_on_every_way_in(entry: Entry, tmp_path: Path) -> None:
    """Tasks, waits and ends are recorded wherever a program runs, also inside a plain asyncio or trio program."""

    async def main() -> None:
        lock = bateau.sync.Lock(name="db")

        async def worker() -> None:
            async with lock:
                await bateau.time.sleep(0.001)

        async with bateau.scope() as scope:
            scope.spawn(worker, name="one")
            scope.spawn(worker, name="two")

    with recording.record(tmp_path, keep=True, fatal=False) as found:
        entry.run(main)
    gc.collect()
    [path] = found.directory.glob("*.ring")
    ring = reading.read_ring(path)
    by_name: dict[str, list[str]] = {}
    for one in ring.records:
        if one.task:
            what = layout.KINDS[one.kind]
            by_name.setdefault(ring.task_name(one.task), []).append(
                f"{what} {ring.text(one.a)}" if what == "park" else what
            )
    ways = sorted((by_name["one"], by_name["two"]), key=len)  # trio shuffles who comes first
    assert ways[0] == ["spawn", "step", "park sleep", "wake", "step", "end"]
    assert ways[1] == ["spawn", "step", "park acquire", "wake", "step", "park sleep", "wake", "step", "end"]


def test_tasks_that_ran_before_are_adopted(tmp_path: Path) -> None:
    async def waits() -> None:
        await bateau.time.sleep(1000)

    async def main() -> reading.RingFile:
        async with bateau.scope() as scope:
            scope.spawn(waits, name="older")
            await bateau.yield_now()
            with recording.record(tmp_path, keep=True, fatal=False) as found:
                await bateau.yield_now()
                [path] = found.directory.glob("*.ring")
                ring = reading.read_ring(path)
            scope.cancel("enough")
        return ring

    ring = bateau.run(main, runtime="native")
    [older] = [slot for slot in ring.slots.values() if ring.task_name(slot.id) == "older"]
    assert older.state == layout.WAITING and ring.text(older.operation) == "sleep"
    assert ring.stack(older.stack)[0].function.endswith("waits")


@both
def test_no_frame_or_task_is_kept(tmp_path: Path, choose: Any, pure: bool) -> None:
    choose(pure)
    import weakref

    class Thing:
        pass

    alive: list[Any] = []

    async def worker() -> None:
        thing = Thing()
        alive.append(weakref.ref(thing))
        await bateau.time.sleep(0)

    async def main() -> None:
        async with bateau.scope() as scope:
            task = scope.spawn(worker)
            alive.append(weakref.ref(task))
            del task

    with recording.record(tmp_path, fatal=False):
        bateau.run(main, runtime="native")
        gc.collect()
        assert [one() for one in alive] == [None, None]


@both
def test_a_snapshot_tells_how_long_the_recorded_have_waited(tmp_path: Path, choose: Any, pure: bool) -> None:
    """To the millisecond from its first look on, where without a recorder it only knows since when it has been looking."""
    choose(pure)

    async def main() -> tuple[list[Any], list[Any]]:
        async with bateau.scope() as scope:
            scope.spawn(bateau.time.sleep, 1000, name="older")
            await bateau.time.sleep(0.005)
            with recording.record(tmp_path, fatal=False):
                waits = scope.spawn(bateau.time.sleep, 1000, name="waits")
                scope.spawn(yields, name="yields")
                await bateau.time.sleep(0.02)
                seen = [task for task in insight.snapshot().tasks if task.name in ("waits", "yields", "older")]
            unseen = [task for task in insight.snapshot().tasks if task.name == waits.name]
            scope.cancel("enough")
        return seen, unseen

    async def yields() -> None:
        while True:
            await bateau.yield_now()

    seen, [unseen] = bateau.run(main, runtime="native")
    by_name = {task.name: task for task in seen}
    assert by_name["waits"].waits.waited >= 0.015 and not by_name["waits"].waits.at_least
    assert by_name["yields"].waits is None or by_name["yields"].waits.waited is None
    assert by_name["older"].waits.waited >= 0.015 and by_name["older"].waits.at_least, (
        "it waited before it was recorded"
    )
    assert unseen.waits.waited is None


@pytest.mark.parametrize("kind", ["pure", "chosen"])
def test_two_calls_in_one_line_are_one_stack(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "pure":
        monkeypatch.setattr(recording, "native_ring", lambda: None)

    async def nothing() -> None:
        return None

    async def main() -> None:
        async with bateau.scope() as scope:
            scope.spawn(nothing), scope.spawn(nothing)

    with recording.record(tmp_path, keep=True, fatal=False) as found:
        bateau.run(main, runtime="native")
    [path] = found.directory.glob("*.ring")
    ring = reading.read_ring(path)
    sites = {record.b for record in ring.records if record.kind == layout.SPAWN and ring.stack(record.b)[0].line}
    assert len(sites) == 1


@both
def test_names_that_can_not_be_looked_up(choose: Any, tmp_path: Path, pure: bool) -> None:
    """A name may be of a class of its own: it is recorded by its characters, also where there is no room left for texts."""

    class Name(str):
        __slots__ = ()

        def __hash__(self) -> int:
            raise RuntimeError("no hash")

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("not to be compared")

    async def names() -> None:
        async with bateau.scope() as scope:
            for word in ("first", "second", "first"):
                scope.spawn(bateau.yield_now, name=Name(word))
            for n in range(100):
                scope.spawn(bateau.yield_now, name=str(n) * 100)
            await bateau.yield_now()
            scope.spawn(bateau.yield_now, name=Name("no room"))

    choose(pure)
    ring = record(tmp_path, names, texts=4096)
    told = [ring.text(one.a) for one in ring.records if one.kind == layout.SPAWN]
    assert [word for word in told if word in ("first", "second")] == ["first", "second", "first"]
