"""For how long tasks had waited: until the end where somebody saw it, else until the last sign of life, which need be no event."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

import bateau
from bateau import insight
from bateau.insight.postmortem import death, text
from bateau.insight.postmortem.report import End, Report
from bateau.insight.recorder import layout, reading, recording

# A hang is not waited for: what the hot word says is as good.
HANG = 100.0


@pytest.fixture
def hung(tmp_path: Path) -> tuple[reading.Recorded, float]:
    """What a program had written down when one of its tasks waited and another one ran, and when its last event was."""
    copy = tmp_path / "copy.recording"

    async def stuck(event: bateau.sync.Event) -> None:
        await event.wait()

    async def main() -> None:
        event = bateau.sync.Event(name="go")
        async with bateau.scope() as scope:
            scope.spawn(stuck, event, name="stuck")
            await bateau.time.sleep(0.01)
            found.alive()
            shutil.copytree(found.directory, copy)
            scope.cancel()

    with recording.record(tmp_path, fatal=False, records=16, tasks=16, texts=4096) as found:
        bateau.run(main, runtime="native")
    [path] = copy.glob("*.ring")
    seen = reading.read_ring(path)
    assert seen.hot[layout.HOT_ALIVE] > seen.last_time()
    return reading.read_recording(copy), death.last_event(reading.read_recording(copy))


def told_of_stuck(report: Report) -> str:
    [line] = [line for line in text.tell(report).splitlines() if line.startswith("  'stuck' ")]
    return line


def alive_at(recorded: reading.Recorded, when: float) -> None:
    """Its watcher saw it alive then (seconds since the epoch)."""
    [ring] = recorded.rings
    hot = list(ring.hot)
    hot[layout.HOT_ALIVE] = int(when * 1e9) - ring.header.wall + ring.header.monotonic
    ring.hot = tuple(hot)


def test_until_the_watcher_saw_the_process_alive_last_as_the_least(
    hung: tuple[reading.Recorded, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, last = hung
    now = time.time() + 2 * HANG
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(death, "is_alive", lambda folder: False)
    alive_at(recorded, last + HANG)
    report = death.report_of(recorded)
    assert report.end.at == pytest.approx(last + HANG)
    assert told_of_stuck(report).startswith("  'stuck' had waited for at least 1m40s: wait on event 'go'")
    assert "task 'main' was running, for at least 1m40s since" in "\n".join(text.tell_end(report))
    assert report.timeline, "the time before the last event is told, not that before the kill, in which nothing was"


def test_until_the_end_that_a_supervisor_saw(hung: tuple[reading.Recorded, float]) -> None:
    recorded, last = hung
    report = death.report_of(recorded, end=End("signal", "killed by SIGKILL", last + HANG, "the supervisor", signal=9))
    assert told_of_stuck(report).startswith("  'stuck' had waited for 1m40s: ")


def test_a_hot_word_that_makes_no_sense_is_no_sign_of_life(hung: tuple[reading.Recorded, float]) -> None:
    recorded, last = hung
    for when in (0.0, time.time() + 1e6):
        alive_at(recorded, when)
        assert death.last_sign(recorded) == last


def test_the_watcher_writes_it_down(tmp_path: Path) -> None:
    async def main() -> float:
        [path] = found.directory.glob("*.ring")
        with bateau.fail_after(20):
            while not reading.read_ring(path).hot[layout.HOT_ALIVE]:
                await bateau.time.sleep(0.01)
        return death.last_sign(reading.read_recording(found.directory))

    with recording.record(tmp_path, fatal=False, records=16, tasks=16, texts=4096) as found, insight.watch():
        assert bateau.run(main, runtime="native") <= time.time()
