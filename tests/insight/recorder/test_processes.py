"""Recordings of processes that fork, have several threads, or end in order: whose file is whose, and what is left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import bateau
from bateau import insight
from bateau.insight.recorder import files, layout, reading, recording
from bateau.kernel import hazard

pytestmark = pytest.mark.real_os("it forks, and maps real files")


async def program(name: str = "worker") -> None:
    async with bateau.scope() as scope:
        scope.spawn(bateau.time.sleep, 0, name=name)


def rings(folder: Path) -> list[reading.RingFile]:
    return [reading.read_ring(path) for path in sorted(folder.glob("*.ring"))]


def names(ring: reading.RingFile) -> set[str]:
    return {ring.task_name(slot.id) for slot in ring.slots.values()}


def test_nothing_is_left_by_a_process_that_ends_in_order(tmp_path: Path) -> None:
    with insight.record(tmp_path) as found:
        bateau.run(program, runtime="native")
        assert found.directory.is_dir() and insight.recording() is found
        assert stat.S_IMODE(found.directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in found.directory.iterdir()} == {0o600}
    assert list(tmp_path.iterdir()) == [] and insight.recording() is None
    found.close()  # again is harmless


def test_one_recording_at_a_time(tmp_path: Path) -> None:
    with insight.record(tmp_path, fatal=False), pytest.raises(RuntimeError, match="recorded already"):
        insight.record(tmp_path)


@pytest.mark.parametrize("sizes", [{"records": 0}, {"tasks": 1}, {"texts": 1 << 40}])
def test_sizes_that_make_no_sense(tmp_path: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sizes of a recording"):
        insight.record(tmp_path, **sizes)  # type: ignore[arg-type]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        insight.record(tmp_path / "file")
    assert insight.recording() is None


def test_nothing_is_observed_after_the_end(tmp_path: Path) -> None:
    async def main() -> bool:
        host = bateau.current_task().host
        with insight.record(tmp_path, fatal=False):
            assert host.instrument is not None
            await bateau.yield_now()
        await bateau.yield_now()
        return host.instrument is None

    assert bateau.run(main, runtime="native")


def test_each_thread_has_a_file(tmp_path: Path) -> None:
    barrier = threading.Barrier(2)

    async def main(name: str) -> None:
        barrier.wait(10)
        await program(name)

    with insight.record(tmp_path, keep=True, fatal=False) as found:
        threads = [threading.Thread(target=bateau.run, args=(main, name)) for name in ("left", "right")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found_rings = rings(found.directory)
    # A host of another test that still lives would have one, too: an empty one.
    assert sorted((mine for ring in found_rings if (mine := names(ring) & {"left", "right"})), key=str) == [
        {"left"},
        {"right"},
    ]
    assert all(ring.damaged == [] and ring.closed for ring in found_rings)


def test_a_forked_child_leaves_its_parents_files_alone(tmp_path: Path) -> None:
    with insight.record(tmp_path, keep=True, fatal=False) as found:
        bateau.run(program, "parent", runtime="native")
        before = [path.read_bytes() for path in sorted(found.directory.glob("*.ring"))]
        child = os.fork()
        if child == 0:
            status = 1
            try:
                bateau.run(program, "child", runtime="native")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert [path.read_bytes() for path in sorted(found.directory.glob("*.ring"))] == before
        bateau.run(program, "after", runtime="native")
    mine = set().union(*map(names, rings(found.directory)))
    assert mine >= {"parent", "after"} and "child" not in mine
    [other] = [path for path in tmp_path.glob("*.recording") if path != found.directory]
    assert f"-{child}-" in other.name
    theirs = set().union(*map(names, rings(other)))
    assert "child" in theirs and "parent" not in theirs


def test_a_child_that_runs_no_task_leaves_nothing(tmp_path: Path) -> None:
    with insight.record(tmp_path, fatal=False):
        bateau.run(program, runtime="native")
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert len(list(tmp_path.iterdir())) == 1


def test_a_program_forked_in_the_middle_of_a_step(tmp_path: Path) -> None:
    async def main() -> None:
        async with bateau.scope() as scope:
            scope.spawn(bateau.time.sleep, 0.05, name="sibling")
            await bateau.yield_now()
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)

    with insight.record(tmp_path, keep=True, fatal=False) as found:
        bateau.run(main, runtime="native")
    [ring] = rings(found.directory)
    assert ring.damaged == [] and "sibling" in names(ring)


def test_what_the_dead_have_left_goes_in_time(tmp_path: Path) -> None:
    now = time.time()
    for number in range(30):
        folder = tmp_path / f"app-{400_000_000 + number}-1.recording"
        folder.mkdir()
        (folder / "1.ring").write_bytes(b"")
        os.utime(folder, (now - number * 60, now - number * 60))
    old = tmp_path / "app-499999999-1.crash.json"
    old.write_text("{}")
    os.utime(old, (now - 8 * 86400, now - 8 * 86400))
    other = tmp_path / "notes.txt"
    other.write_text("not ours")
    alive = tmp_path / f"app-{os.getpid()}-{files.started_at()}.recording"
    alive.mkdir()
    os.utime(alive, (1, 1))
    files.prune(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert other.name in left and alive.name in left and old.name not in left
    assert [f"app-{400_000_000 + number}-1.recording" in left for number in range(30)] == [True] * 16 + [False] * 14


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATEAU_RECORDER_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert files.base_directory() == tmp_path / "bateau"
    (tmp_path / "bateau").chmod(0o755)
    with pytest.raises(PermissionError, match="only this user can read"):
        files.base_directory()


def test_a_live_file_can_be_read(tmp_path: Path) -> None:
    async def main() -> reading.RingFile:
        [path] = found.directory.glob("*.ring")
        return reading.read_ring(path)

    with insight.record(tmp_path, fatal=False) as found:
        ring = bateau.run(main, runtime="native")
    assert not ring.closed and ring.records[-1].kind == layout.STEP
    assert ring.hot[layout.HOT_TASK] == ring.records[-1].task


def test_notes(tmp_path: Path) -> None:
    async def main() -> None:
        recording.note("in a task")
        insight.note("of the program")
        hazard.report("self_wakes", "an example", ("app.py", 1))

    recording.note("nobody records: harmless")
    remove = hazard.add_sink(lambda _: None)
    with insight.record(tmp_path, keep=True, fatal=False) as found:
        bateau.run(main, runtime="native")
    remove()
    [ring] = rings(found.directory)
    notes = [ring.text(one.a) for one in ring.records if one.kind == layout.NOTE]
    assert notes == ["in a task", "of the program", "hazard self_wakes: an example [app.py:1]"]


def test_bateau_run_records_and_tidies_up(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "import bateau\nfrom bateau import insight\n"
        "async def main():\n    print(insight.recording().directory.name)\n"
        "bateau.run(main)\n"
    )
    environment = {**os.environ, "BATEAU_RECORDER_DIR": str(tmp_path / "left")}
    command = [sys.executable, "-m", "bateau.cli", "run", str(app)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("app-") and done.stdout.endswith(".recording\n")
    assert list((tmp_path / "left").iterdir()) == []
