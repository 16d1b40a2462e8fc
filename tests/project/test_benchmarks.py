"""The benchmarks run: every workload on every system, checking its own results, and their runner tells what it measured.

No figure is judged here. A system whose package is missing is skipped: `make env` installs them all for the default Python.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks import picture, programs, report, runner, targets
from benchmarks.runner import Cell, Outcome, Plan, Sample
from benchmarks.systems import NOTES, SYSTEMS, System
from benchmarks.worker import Result
from benchmarks.workloads import NAMES, load

ROOT = Path(__file__).parents[2]
ONE_SECOND = "http"
"""wrk knows no shorter load than a second, so it is run on one loop only."""

pytestmark = pytest.mark.skipif(programs.compiler() is None, reason="the loads are in C, for Linux")


@pytest.fixture(scope="module")
def compiled() -> Iterator[Path]:
    needed = (program for name in NAMES for case in load(name).cases for program in case.programs)
    with programs.compiled(needed) as directory:
        yield directory


def cells_of(system: System) -> list[Cell]:
    workloads = [load(name) for name in NAMES if name != ONE_SECOND or system.name == "bateau-loop"]
    every = [Cell(w, case, system) for w in workloads for case in w.cases if w.runs_on(case, system.family)]
    cells, _ = runner.runnable(every)
    return cells


def benchmarks(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=cwd, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


# -- every workload on every system --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_case_works(name: str, compiled: Path) -> None:
    system = SYSTEMS[name]
    if not (cells := cells_of(system)):
        pytest.skip(f"{name} can't run here: {runner.why_not(system)}")
    failures = runner.check(system, cells, runner.environment(compiled, None), timeout=100)
    assert not failures, "\n".join(failures.values())


def test_a_wrong_echo_is_noticed(compiled: Path) -> None:
    """The checks of the workloads are the loads': a server that changes one byte must not get a figure."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                data = bytearray(sock.recv(64))
                data[-1] ^= 1
                sock.sendall(data)
                sock.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        command = [str(compiled / "echo_client"), str(listener.getsockname()[1]), "1", "1", "64"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        thread.join()
    assert done.returncode == 1
    assert "an echo differs from what was sent" in done.stderr


# -- the command line ----------------------------------------------------------------------------------------------------------


def test_one_row_in_all_its_forms(tmp_path: Path) -> None:
    outputs = [tmp_path / name for name in ("rows.md", "rows.svg", "rows.json")]
    done = benchmarks(
        "--only", "switch/one_task", "--systems", "asyncio,bateau-pure,floor", "--rounds", "1", "--target", "0.01",
        *(part for path in outputs for part in ("--output", str(path))),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    markdown, svg, document = (path.read_text() for path in outputs)
    for page in (done.stdout, markdown, svg):
        assert "asyncio" in page
        assert "bateau-pure" in page
    ET.fromstring(svg)
    rows = json.loads(document)["rows"]
    assert [row["system"] for row in rows] == ["asyncio", "bateau-pure", "floor"]
    assert all(row["figure"] > 0 and row["unit"] == "ns" for row in rows)
    assert rows[0]["ratio"] == 1.0


def test_the_help_explains_every_workload_and_system() -> None:
    done = benchmarks("--help")
    assert done.returncode == 0
    for word in (*NAMES, *SYSTEMS, "examples:", "--targets", "benchmarks/README.md"):
        assert word in done.stdout
    assert set(NOTES) == set(SYSTEMS)


def test_an_unknown_case_names_the_known_ones() -> None:
    done = benchmarks("--only", "switch/two_tasks")
    assert done.returncode == 2
    assert "no workload or case switch/two_tasks; choose from switch/one_task" in done.stderr


def test_what_is_missing_is_said_in_a_line() -> None:
    absent = System("absent", "asyncio", SYSTEMS["asyncio"].start, ("no_such_loop",), hint="it never was")
    workload = load("switch")
    found, left_out = runner.runnable([Cell(workload, case, absent) for case in workload.cases])
    assert found == []
    assert len(left_out) == 1
    assert "absent: no module no_such_loop" in left_out[0]
    assert "(it never was)" in left_out[0]


def test_a_system_may_not_be_another_in_secret() -> None:
    """Whose tasks asyncio knows too pays for that: the bare native kernel is measured without it, or not at all."""
    script = (
        "import json, os; os.environ['BATEAU_BENCH_SYSTEM'] = ''; import asyncio\n"
        "from benchmarks import worker; print(json.dumps(worker.check('bateau-pure', [('switch', 'one_task')])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "BATEAU_PURE": "1"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "is to be measured without asyncio" in json.loads(done.stdout)["bateau-pure"]


def test_a_pure_kernel_is_not_taken_for_the_native_one() -> None:
    """A stale or missing build falls back to Python in silence, and every figure would still look like one."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "switch/one_task", "--systems", "bateau-native"], cwd=ROOT,
        env={**os.environ, "BATEAU_PURE": "1"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        "left out: bateau-native: the kernel in C is not in use here; it is pure Python: BATEAU_PURE=1" in done.stderr
    )


# -- targets -------------------------------------------------------------------------------------------------------------------


def test_targets_name_what_exists() -> None:
    for workload, case, system in targets.cells():
        assert load(workload).runs_on(load(workload).case(case), SYSTEMS[system].family), (workload, case, system)


def sample(key: runner.Key, number: int, cpu: float) -> Sample:
    return Sample(*key, number, Result(100, 1, 100, cpu, 0.0, cpu, 0, 0))


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        ((1.0, 1.0, 1.0), (16.0, 20.0, 17.0), "met"),
        ((1.0, 1.0, 1.0), (16.0, 14.0, 17.0), "met, rounds differ"),
        ((1.0, 1.0, 1.0), (14.0, 13.0, 14.9), "NOT MET"),
        ((), (14.0,), "not measured"),
    ],
)
def test_a_verdict(ours: tuple[float, ...], theirs: tuple[float, ...], word: str) -> None:
    workload = load("switch")
    plan = Plan(
        [Cell(workload, workload.case("one_task"), SYSTEMS[name]) for name in ("asyncio", "bateau-native")],
        rounds=3, target=0.1, quick=False, pin=False,
    )  # fmt: skip
    outcome = Outcome()
    for key, figures in ((plan.cells[0].key, theirs), (plan.cells[1].key, ours)):
        outcome.samples += [sample(key, number, cpu) for number, cpu in enumerate(figures)]
    verdicts = targets.judge(outcome, plan)
    (verdict,) = (v for v in verdicts if v.target.other[2] == "asyncio" and v.target.ours[2] == "bateau-native")
    assert verdict.word == word
    assert word in targets.text(verdicts)
    rows = report.summarise(outcome, plan, "asyncio")
    ET.fromstring(picture.svg(rows, "asyncio"))


def test_memory_is_not_taken_for_time() -> None:
    result = Result(1000, 1, 1000, 1.0, 0.0, 1.0, 512_000, 0)
    assert Sample("memory", "idle_task", "asyncio", 1, result).figure == 512
