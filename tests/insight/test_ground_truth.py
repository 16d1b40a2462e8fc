"""Programs that are stuck in ways that hide, read from outside, killed, read again, and compared with what they said themselves.

What dies of itself (``kill -9``, a segmentation fault, want of memory) is compared in postmortem/test_ends.py.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bateau import insight
from bateau.insight.explain import explain
from bateau.insight.memory import read_process
from bateau.insight.model import Snapshot
from bateau.insight.waitgraph import find_knots
from support.processes import environment

PROGRAM = Path(__file__).parents[1] / "support" / "stuck.py"
RUNTIMES = ("native", "asyncio", "trio")

pytestmark = pytest.mark.real_os("it reads and kills other processes")


class Child:
    """A program that has said what is true of it, and is stuck."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, said: dict[str, Any]) -> None:
        self.process, self.folder, self.said = process, folder, said

    def read(self, until: Any) -> Snapshot:
        """Its memory, again and again until ``until`` holds of what is read: the program has to get from its words to the deed."""
        end = time.monotonic() + 60
        while not until(snapshot := read_process(self.process.pid)):
            assert time.monotonic() < end, explain(snapshot)
        return snapshot

    def kill(self) -> insight.Report:
        """What its recording says after a kill -9."""
        self.process.kill()
        self.process.wait()
        [recording] = self.folder.glob("*.recording")
        return insight.read_report(recording)


@contextmanager
def stuck(how: str, folder: Path, *options: str) -> Iterator[Child]:
    surroundings = environment(BATEAU_RECORDER_DIR=str(folder), BATEAU_INSIGHT="0", PYTHONWARNINGS="ignore")
    command = [sys.executable, "-m", "bateau.cli", "run", *options, str(PROGRAM), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=surroundings) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, process.wait()
            yield Child(process, folder, json.loads(line))
        finally:
            process.kill()


def the(snapshot: Snapshot, name: str) -> Any:
    [task] = [task for task in snapshot.tasks if task.name == name]
    return task


def line_at(snapshot: Snapshot, task: Any) -> tuple[str, int] | None:
    frame = snapshot.at(task.stack)
    return (frame.file, frame.line) if frame is not None else None


def compare(snapshot: Snapshot, truth: dict[str, Any]) -> None:
    """Every task that waits, as it said itself: on what, by whom else awaited, at which line."""
    resources = {resource.id: resource for resource in snapshot.resources}
    for name, true in truth.items():
        if true["running"]:
            continue
        task = the(snapshot, name)
        assert task.id == true["id"]
        assert task.state == "waiting", name
        assert line_at(snapshot, task) is not None
        assert line_at(snapshot, task)[1] == true["line"], name
        resource = resources[task.waits.resource]
        assert resource.kind == true["kind"], name
        assert resource.name == true["name"] or true["name"] is None, name
        assert task.id in resource.waiters


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_c_code_that_holds_the_gil(tmp_path: Path, runtime: str) -> None:
    """A regular expression that explodes: no thread of the program can say anything any more, for as long as it takes."""
    with stuck("regex", tmp_path, "--runtime", runtime) as child:
        truth, line = child.said["tasks"], child.said["line"]
        snapshot = child.read(lambda seen: line_at(seen, the(seen, "culprit")) == (str(PROGRAM), line))
        assert the(snapshot, "culprit").state == "running"
        compare(snapshot, truth)
        [lock] = [one for one in snapshot.resources if one.kind == "lock"]
        assert lock.holders == (truth["holder"]["id"],)
        report = child.kill()
    compare(report.snapshot, truth)
    assert report.snapshot.runtimes[0].running == truth["culprit"]["id"]
    assert report.timeline[-1].task == truth["culprit"]["id"]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("how", "names"), [("own_channel", {"handler"}), ("two_channels", {"alice", "bob"})])
def test_stuck_handlers_in_a_server_that_still_accepts(tmp_path: Path, runtime: str, how: str, names: set[str]) -> None:
    """S37 and F04, F06: proven by what the memory shows, told by the watcher, and still told after a kill -9."""
    with stuck(how, tmp_path, "--runtime", runtime) as child:
        truth = child.said["tasks"]
        assert answers(child.said["port"])
        snapshot = child.read(lambda seen: bool(seen.findings))
        [knot] = find_knots(snapshot)
        assert knot.exact
        assert {task.name for task in snapshot.tasks if task.id in knot.ring} == names
        assert the(snapshot, "accepting").id not in (*knot.ring, *knot.behind)
        compare(snapshot, {name: truth[name] for name in names})
        assert [finding.hazard for finding in snapshot.findings] == ["deadlock"]
        assert answers(child.said["port"])
        report = child.kill()
    compare(report.snapshot, {name: truth[name] for name in names})
    [finding] = report.snapshot.findings
    frame = report.snapshot.frame(finding.site)
    assert finding.hazard == "deadlock" and frame is not None
    assert (frame.file, frame.line) in {(str(PROGRAM), truth[name]["line"]) for name in names}


def answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"hello")
        return connection.recv(100) == b"hello"


def test_a_future_that_a_c_library_completes(tmp_path: Path) -> None:
    """S42: the future is done, the task could run, and the loop, whom nobody woke, sleeps on."""
    with stuck("callback", tmp_path) as child:
        line = child.said["line"]
        snapshot = child.read(lambda seen: bool(seen.findings))
        [finding] = snapshot.findings
        frame = snapshot.frame(finding.site)
        assert finding.hazard == "lost_wakeup" and frame is not None
        assert (frame.file, frame.line) == (str(PROGRAM), line)
        assert line_at(snapshot, the(snapshot, "main")) == (str(PROGRAM), line)
        assert the(snapshot, "main").state == "ready"
        assert not select.select([child.process.stdout], [], [], 0)[0], "it went on"
        report = child.kill()
    assert [finding.hazard for finding in report.snapshot.findings] == ["lost_wakeup"]
