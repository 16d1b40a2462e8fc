"""Programs that die in every way there is, read back and compared with what they said themselves just before."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bateau.insight.model import Snapshot, Task
from bateau.insight.postmortem import report, text
from bateau.insight.postmortem.command import read_report
from bateau.insight.recorder import files
from support.sanitizer import needs_plain_faults, needs_plain_memory

PROGRAM = Path(__file__).parents[2] / "support" / "dying.py"
LIMIT = 200 << 20

try:
    from bateau._native import Ring
except ImportError:
    Ring = None

pytestmark = pytest.mark.real_os("it kills processes")


class Run:
    """One program that has died: its truth, its end, what it left."""

    def __init__(self, folder: Path, how: str, *options: str, prepare: Any = None, pure: bool | None = None) -> None:
        environment = {**os.environ, "BATEAU_RECORDER_DIR": str(folder), "PYTHONFAULTHANDLER": ""}
        if pure is not None:
            environment["BATEAU_PURE"] = str(int(pure))
        self.folder = folder
        done = subprocess.run(
            [sys.executable, "-m", "bateau.cli", "run", *options, str(PROGRAM), how],
            capture_output=True, text=True, timeout=60, env=environment, preexec_fn=prepare,  # no threads here
        )  # fmt: skip
        self.status, self.stderr = done.returncode, done.stderr
        lines = done.stdout.splitlines()
        assert lines, done.stderr
        self.truth: dict[str, Any] = json.loads(lines[-1])

    def report(self) -> report.Report:
        [path] = self.folder.glob("*.crash.json")
        return read_report(path)

    def recording(self) -> report.Report:
        [path] = self.folder.glob("*.recording")
        return read_report(path)


def compare(found: Snapshot, truth: dict[str, Any], *, main: str = "main") -> None:
    """Every task of the truth, and no other, with what it waits on, where, and who spawned it."""
    tasks = {task.name: task for task in found.tasks if task.name != main}
    assert set(tasks) == set(truth)
    resources = {resource.id: resource for resource in found.resources}
    for name, true in truth.items():
        task = tasks[name]
        assert task.id == true["id"]
        assert (task.state == "running") == true["running"], name
        assert line_of(found, task.spawned) == true["spawned"], name
        if true["running"]:
            continue
        assert task.state == "waiting" and task.waits is not None, name
        at = found.at(task.stack)
        assert at is not None and (at.line, Path(at.file).name) == (true["line"], PROGRAM.name), name
        resource = resources[task.waits.resource or 0]
        assert resource.kind == true["kind"], name
        if true["kind"] == "task":
            assert repr(true["name"]) in resource.text
        else:
            assert resource.name == true["name"], name
        assert task.id in resource.waiters


def line_of(found: Snapshot, frame: int | None) -> int | None:
    place = found.frame(frame)
    return place.line if place is not None else None


def the(found: Snapshot, name: str) -> Task:
    [task] = [task for task in found.tasks if task.name == name]
    return task


@pytest.mark.parametrize("runtime", ["native", "asyncio", "trio"])
def test_kill_9_is_told_by_the_supervisor(tmp_path: Path, runtime: str) -> None:
    run = Run(tmp_path, "kill", "--supervise", "--runtime", runtime)
    assert run.status == 128 + signal.SIGKILL
    found = run.report()
    assert (found.end.how, found.end.signal, found.end.by) == ("signal", signal.SIGKILL, "the supervisor")
    assert "want of memory" not in found.end.text.replace("by somebody", "")
    compare(found.snapshot, run.truth, main="Task-1" if runtime == "asyncio" else "main")
    assert found.snapshot.gaps == ()
    [lock] = [one for one in found.snapshot.resources if one.kind == "lock"]
    assert lock.holders == (the(found.snapshot, "holder").id,)
    assert lock.waiters == (the(found.snapshot, "first").id, the(found.snapshot, "second").id)
    assert found.snapshot.runtimes[0].running == the(found.snapshot, "culprit").id
    last = found.timeline[-1]
    assert (last.kind, last.task) == ("step", the(found.snapshot, "culprit").id)
    assert not list(tmp_path.glob("*.recording")), "the report has all of it"
    assert "culprit" in run.stderr and found.cluster in run.stderr


@pytest.mark.parametrize(
    "pure", [True, pytest.param(False, marks=pytest.mark.skipif(Ring is None, reason="no writer in C"))]
)
def test_both_writers_leave_the_same(tmp_path: Path, pure: bool) -> None:
    run = Run(tmp_path, "kill", "--supervise", pure=pure)
    compare(run.report().snapshot, run.truth)


def test_kill_9_without_a_supervisor(tmp_path: Path) -> None:
    run = Run(tmp_path, "kill")
    assert run.status == -signal.SIGKILL
    found = run.recording()
    assert found.end.how == "gone"
    compare(found.snapshot, run.truth)
    told = subprocess.run(
        [sys.executable, "-m", "bateau.cli", "postmortem", *tmp_path.glob("*.recording")],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0
    assert "'first' waits" in told.stdout and "held by 'holder'" in told.stdout
    assert f"{PROGRAM}:{run.truth['first']['line']}" in told.stdout


@needs_plain_faults
def test_a_segmentation_fault(tmp_path: Path) -> None:
    run = Run(tmp_path, "segv", "--supervise")
    assert run.status == 128 + signal.SIGSEGV
    found = run.report()
    assert found.end.signal == signal.SIGSEGV
    compare(found.snapshot, run.truth)
    assert "in culprit" in found.fatal and "Segmentation fault" in found.fatal
    assert "the thread that died was in culprit" in run.stderr


def test_os_exit(tmp_path: Path) -> None:
    run = Run(tmp_path, "exit", "--supervise")
    assert run.status == 7
    found = run.report()
    assert (found.end.how, found.end.status) == ("exit", 7)
    compare(found.snapshot, run.truth)


def test_a_hang_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "BATEAU_RECORDER_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "bateau.cli", "run", "--supervise", str(PROGRAM), "hang"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        truth = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGQUIT)  # handed on to the program, which it kills
        assert process.wait(30) == 128 + signal.SIGQUIT
        said = process.stderr.read()
    [path] = tmp_path.glob("*.crash.json")
    found = read_report(path)
    compare(found.snapshot, truth)
    assert "task 'culprit' was running" in said


def test_a_supervisor_that_was_started_with_ended_children_ignored(tmp_path: Path) -> None:
    """Then the system reaps the child without a word, unless the supervisor says otherwise: it waited for ever."""
    ignore = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # noqa: E731
    run = Run(tmp_path, "kill", "--supervise", prepare=ignore)
    assert run.status == 128 + signal.SIGKILL
    compare(run.report().snapshot, run.truth)


def test_an_exception_is_told_with_the_locals_that_were_asked_for(tmp_path: Path) -> None:
    run = Run(tmp_path, "raise", "--locals", "request", "--locals", "pass*")
    assert run.status == 1
    assert "ValueError: for GET /" in run.stderr, "the traceback is shown as ever"
    found = run.report()
    assert found.end.how == "exception" and found.error is not None
    [member] = found.error.members
    assert (member.type, member.message) == ("ValueError", "for GET /, 7 characters")
    frame = member.frames[-1]
    assert (frame.function, Path(frame.file).name) == ("culprit", PROGRAM.name)
    assert frame.locals == {"request": "'GET /'", "password": "<redacted>"}
    assert "hunter2" not in report.to_json(found)
    assert any(event.kind == "end" and "ValueError" in event.text for event in found.timeline)
    assert not list(tmp_path.glob("*.recording"))


def test_no_locals_unless_asked_for(tmp_path: Path) -> None:
    found = Run(tmp_path, "raise").report()
    assert found.error is not None
    assert not any(frame.locals for frame in found.error.members[0].frames)


@needs_plain_memory
def test_memory_that_is_limited_by_rlimit_ends_in_a_report(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT * 3, LIMIT * 3))

    run = Run(tmp_path, "memory", prepare=limit)
    found = run.report()
    assert found.error is not None and found.error.members[0].type == "MemoryError"
    assert found.error.members[0].frames[-1].function == "culprit"


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group with so much memory, where this process may make one."""
    own = next(
        (line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line),
        None,
    )
    parent = Path(f"/sys/fs/cgroup/memory{own}") if own is not None else Path("/sys/fs/cgroup")
    if not parent.is_dir() and own is not None:
        parent = Path("/sys/fs/cgroup/memory")
    group = parent / f"bateau-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            (group / ("memory.limit_in_bytes" if own is not None else "memory.max")).write_text(str(limit))
        except OSError as error:
            pytest.skip(f"no memory limit can be set here: {error}")
        yield group
    finally:
        group.rmdir()


def test_out_of_memory(tmp_path: Path) -> None:
    with memory_group(LIMIT) as group:
        run = Run(
            tmp_path, "memory", "--supervise", prepare=lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
        )
        if run.status == 1:
            pytest.skip("the limit is not enforced here")
    assert run.status == 128 + signal.SIGKILL
    found = run.report()
    compare(found.snapshot, run.truth)
    assert "for want of memory" in found.end.text


def test_crashes_of_one_cause_have_one_cluster(tmp_path: Path) -> None:
    ways = [("kill", ()), ("kill", ("--runtime", "trio")), ("exit", ())]
    found = []
    for number, (how, options) in enumerate(ways):
        found.append(Run(tmp_path / str(number), how, "--supervise", *options).report().cluster)
    assert found[0] == found[1] != found[2]


def test_a_process_that_was_killed_and_not_waited_for_is_dead() -> None:
    """Its parent may take its time: until then the system still has an entry of it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        path = Path(f"app-{process.pid}-{files.started_at(process.pid)}.recording")
        assert files.is_alive(path)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not files.is_alive(path)


def test_a_task_that_never_waited_is_told_so_and_how_long_it_ran_is_a_lower_bound_where_nobody_saw_the_end(
    tmp_path: Path,
) -> None:
    """The recording's last event is long before the end of a task that computes: no figure may pretend to be the whole time, nor the
    time of that event to be the end's.
    """
    program = tmp_path / "spins.py"
    program.write_text(SPINS)
    for how, when, lasted in (
        ("--no-watch", "last sign of life ", r"(, for at least [0-9.]+ \S+)?"),
        ("--supervise", "", r", for [0-9.]+ \S+"),
    ):
        folder = tmp_path / how
        subprocess.run(
            [sys.executable, "-m", "bateau.cli", "run", how, str(program)],
            capture_output=True, timeout=60, env={**os.environ, "BATEAU_RECORDER_DIR": str(folder)},
        )  # fmt: skip
        [path] = [one for one in folder.iterdir() if one.name.endswith((".recording", ".crash.json"))]
        said = text.tell(read_report(path))
        assert re.search(rf"task 'spin' was running{lasted} since it began; it was spawned at .*spins\.py:12", said), (
            said
        )
        assert re.search(rf"^{when}\d{{4}}-\d\d-\d\d [0-9:.]+: ", said, re.MULTILINE), said


def test_a_cluster_says_what_distinguishes_it(tmp_path: Path) -> None:
    """Ends without an exception all have the same sentence: the task, the line or the error tells them apart."""
    program = tmp_path / "ends.py"
    program.write_text(ENDS)
    for how in ("first", "second", "third"):
        subprocess.run(
            [sys.executable, "-m", "bateau.cli", "run", str(program), how],
            capture_output=True, timeout=60, env={**os.environ, "BATEAU_RECORDER_DIR": str(tmp_path)},
        )  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-m", "bateau.cli", "postmortem", "--cluster", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert len(re.findall(r"^[0-9a-f]{12}  1 time: ", told, re.MULTILINE)) == 3, told
    assert re.search(r"^    'first' was running, last seen at .*ends\.py:7 in first$", told, re.MULTILINE), told
    assert re.search(r"^    'second' was running, last seen at .*ends\.py:12 in second$", told, re.MULTILINE), told
    assert re.search(r"^    ValueError in third at .*ends\.py:18$", told, re.MULTILINE), told


ENDS = """import os
import sys
import bateau


async def first():
    await bateau.time.sleep(0.01)
    os.kill(os.getpid(), 9)


async def second():
    await bateau.time.sleep(0.01)
    os.kill(os.getpid(), 9)


async def third():
    await bateau.time.sleep(0.01)
    raise ValueError("no luck")


async def main():
    async with bateau.scope() as scope:
        scope.spawn(globals()[sys.argv[1]], name=sys.argv[1])


bateau.run(main)
"""


SPINS = """import os
import bateau


async def spin():
    os.kill(os.getpid(), 9)  # it has not waited until then
    await bateau.time.sleep(1)


async def main():
    async with bateau.scope() as scope:
        scope.spawn(spin, name="spin")


bateau.run(main)
"""
