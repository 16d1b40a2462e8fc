"""The leak check finds each kind of leak and leaves clean tests alone: a check nobody has seen fail is not one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LEAKS = {
    "descriptor": ("kept.append(os.open('/dev/null', 0))", r"left behind descriptor \d+: /dev/null"),
    "lost_descriptor": ("os.close(opened_before)", r"descriptor \d+ was closed, and was not the test's to close"),
    "thread": ("threading.Thread(target=ended.wait, name='stray', daemon=True).start()", r"left behind thread 'stray'"),
    "child": ("kept.append(subprocess.Popen(['sleep', '5']))", r"left behind child process \d+: sleep 5"),
    "zombie": ("os.spawnlp(os.P_NOWAIT, 'true', 'true')", r"left behind child process \d+: (zombie|true)"),
    "directory": ("os.chdir('/')", r"left behind the working directory /$"),
    "environment": ("os.environ['STRAY'] = 'x'", r"left behind the environment variable STRAY='x', which was None"),
    "unclosed": ("socket.socket()", r"ResourceWarning: unclosed <socket"),
    "unraisable": ("Angry()", r"ZeroDivisionError"),
    "warning": ("warnings.warn('old', DeprecationWarning)", r"DeprecationWarning: old"),
    "thread_error": ("t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", r"Exception in thread"),
    "coroutine": ("never()", r"coroutine 'never' was never awaited"),
    "unretrieved": (
        "asyncio.run(forgets())",
        r"asyncio logged: Task exception was never retrieved(?s:.){0,300}ZeroDivisionError",
    ),
}

HEAD = """\
import asyncio, os, pytest, socket, subprocess, threading, time, warnings
kept = []
ended = threading.Event()
opened_before = os.open("/dev/zero", 0)
class Angry:
    def __del__(self): 1 / 0
async def never(): pass
async def fails(): 1 / 0
async def forgets():
    asyncio.create_task(fails())
    await asyncio.sleep(0.01)
"""

CLEAN = {
    "plain": "pass",
    "closed": "s = socket.socket(); s.close()",
    "ends_soon": "threading.Thread(target=time.sleep, args=(0.1,)).start()",
    "loop": "asyncio.run(asyncio.sleep(0))",
    "idle_pool": "threading.Thread(target=ended.wait, name='bateau-worker-1', daemon=True).start()",
    "cycle": "loop = asyncio.new_event_loop(); loop.me = loop; loop.close()",
}


def run_pytest(directory: Path, text: str, *options: str) -> str:
    """Run a test file in a process of its own under this suite's settings and fixtures; give what pytest printed."""
    (directory / "test_sample.py").write_text(text)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            ROOT / "pyproject.toml",
            "-p",
            "conftest",
            "-p",
            "no:cacheprovider",
            *options,
            directory,
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path]),
            "BATEAU_TEST_SETTLE": "0.3",
        },
    )
    return done.stdout + done.stderr


def as_tests(bodies: dict[str, str]) -> str:
    return HEAD + "".join(f"def test_{name}():\n    {body}\n" for name, body in bodies.items())


def test_each_leak_is_told_with_its_test(tmp_path: Path) -> None:
    printed = run_pytest(tmp_path, as_tests({name: body for name, (body, _) in LEAKS.items()}))
    for name, (_, told) in LEAKS.items():
        assert re.search(rf"^(ERROR|FAILED) .*test_{name}\b", printed, re.MULTILINE), f"{name} passed:\n{printed}"
        assert re.search(told, printed, re.MULTILINE), f"{name}: no {told!r} in:\n{printed}"


def test_clean_tests_pass(tmp_path: Path) -> None:
    printed = run_pytest(tmp_path, as_tests(CLEAN))
    assert f"{len(CLEAN)} passed" in printed, printed
    assert not re.search("failed|error", printed), printed


def test_a_marked_test_may_leak(tmp_path: Path) -> None:
    text = HEAD + "@pytest.mark.no_leak_check('on purpose')\ndef test_marked():\n    " + LEAKS["descriptor"][0] + "\n"
    assert "1 passed" in run_pytest(tmp_path, text)


@pytest.mark.parametrize(("law", "count"), [("3", 1), ("4", 2)])
def test_one_law_can_be_run_alone(tmp_path: Path, law: str, count: int) -> None:
    text = "import pytest\n" + "".join(
        f"@pytest.mark.law({numbers})\ndef test_{number}(): pass\n" for number, numbers in enumerate(("3, 4", "4", "5"))
    )
    printed = run_pytest(tmp_path, text, "--law", law)
    assert f"{count} passed" in printed, printed
