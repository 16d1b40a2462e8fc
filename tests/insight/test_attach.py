"""Giving an agent to a program that nobody prepared (``bateau dump --attach``), and what is said where that can't be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bateau
from bateau import insight
from bateau.insight import attaching
from bateau.insight.console.sources import AgentSource, ReaderSource, find_source
from support.waiting import wait_until

pytestmark = pytest.mark.real_os("another process is looked into")

newer = pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="sys.remote_exec is there from Python 3.14 on")
SOURCES = str(Path(bateau.__file__).parents[1])

ASYNCIO = """
import asyncio
async def waiter(event):
    await event.wait()
async def main():
    task = asyncio.create_task(waiter(asyncio.Event()), name="waiter")
    await asyncio.sleep(0)
    {then}
    await task
asyncio.run(main())
"""
IDLE = ASYNCIO.format(then="print('ready', flush=True)")
BUSY = ASYNCIO.format(then="print('ready', flush=True)\n    while True: pass")
# C code has the interpreter for ever.
HELD = "import re\nprint('ready', flush=True)\nre.match('(a+)+$', 'a' * 60 + 'b')"
TRIO = """
import trio
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever, name="waiter")
        print("ready", flush=True)
trio.run(main)
"""
# Tells from inside what has become of it.
TELLS = """
import asyncio, sys, threading
before = set(dir()), list(sys.path)
async def main():
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    assert "bateau-insight" in [thread.name for thread in threading.enumerate()]
    assert set(dir(sys.modules["__main__"])) - before[0] <= {"before", "main"}, dir()
    assert sys.path == before[1]
    sys.modules["bateau"].insight.init().close()
    print([thread.name for thread in threading.enumerate() if "bateau" in thread.name], flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return place


@contextmanager
def program(text: str, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run it where bateau is not on the path; ready when it says so."""
    where = {**os.environ, **environment}
    where.pop("PYTHONPATH", None)
    command = [sys.executable, *options, "-c", textwrap.dedent(text)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=where, cwd="/")
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
    finally:
        started.kill()
        started.communicate()


def dump(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bateau.cli", "dump", *arguments]
    where = {**os.environ, "PYTHONPATH": SOURCES, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=where)


# -- where it works --------------------------------------------------------------------------------------------------------


@newer
@pytest.mark.parametrize("kind", ["idle", "busy", "trio"])
def test_a_program_nobody_prepared_is_given_an_agent(kind: str, own_places: Path) -> None:
    """An idle loop waits in the system for ever, a busy one never looks: both are reached."""
    text = {"idle": IDLE, "busy": BUSY, "trio": TRIO}[kind]
    if kind == "trio":
        pytest.importorskip("trio")
    with program(text) as target:
        with insight.attach(target.pid, timeout=30) as client:
            snapshot = client.read()
            assert snapshot.source == "live"
            found = {task.name: task for task in snapshot.tasks}
            assert found["waiter"].state == "waiting"
            assert ("running" in {task.state for task in snapshot.tasks}) == (kind == "busy")
            if kind == "idle":
                client.cancel(found["waiter"].id)
                assert target.wait(30) == 1
        if kind == "busy":
            with insight.connect(target.pid) as client, insight.attach(target.pid) as again:  # there is one now
                assert again.hello["pid"] == client.hello["pid"] == target.pid
    assert list(own_places.iterdir()) == []


@newer
def test_what_it_leaves_in_the_program_can_be_ended_there() -> None:
    with program(TELLS) as target:
        insight.attach(target.pid, timeout=30).close()
        assert target.stdout is not None
        assert target.stdin is not None
        target.stdin.write("look\n")
        target.stdin.flush()
        assert target.stdout.readline() == "[]\n"


@newer
def test_from_the_command_line() -> None:
    with program(BUSY) as target:
        done = dump("--attach", "--timeout", "30", str(target.pid))
        assert (done.returncode, done.stderr) == (0, "")
        assert "read from inside" in done.stdout
        source = find_source(str(target.pid), attached=True)
        assert isinstance(source, AgentSource)
        source.close()


@newer
def test_a_main_thread_that_does_not_come_by_is_read_from_its_memory(own_places: Path) -> None:
    text = "import threading\nprint('ready', flush=True)\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()"
    with program(text) as target:
        done = dump("--attach", "--timeout", "0.4", str(target.pid))
        assert done.returncode == 0
        assert "has run no Python code for 0.4 s (it waits in the system" in done.stderr
        assert "reading its memory instead" in done.stderr
        assert "read from its memory" in done.stdout
        left = next(own_places.iterdir())  # or it would complain when it comes by after all
        assert "rmdir" in (left / "script.py").read_text()
    with program(IDLE) as target:
        insight.attach(target.pid, timeout=30).close()
        assert not left.exists()  # it was swept: its program has ended


@newer
def test_a_script_that_came_too_late_removes_itself(own_places: Path) -> None:
    text = "import time\nprint('ready', flush=True)\ntime.sleep(1.5)\nprint('awake', flush=True)\ninput()"
    with program(text) as target:
        with pytest.raises(attaching.NotReached):
            insight.attach(target.pid, timeout=0.2)
        assert target.stdout is not None
        assert target.stdout.readline() == "awake\n"
        wait_until(lambda: not list(own_places.iterdir()))
        assert target.poll() is None


@newer
def test_c_code_that_holds_the_interpreter_is_named() -> None:
    with program(HELD) as target:
        done = dump("--attach", "--timeout", "0.4", str(target.pid))
        assert "C code holds the interpreter" in done.stderr
        assert "read from its memory" in done.stdout
        source = find_source(str(target.pid), attached=False)
        assert isinstance(source, ReaderSource)


@newer
@pytest.mark.parametrize("how", ["environment", "option"])
def test_remote_debugging_that_is_switched_off(how: str) -> None:
    options = ["-X", "disable-remote-debug"] if how == "option" else []
    environment = {"PYTHON_DISABLE_REMOTE_DEBUG": "1"} if how == "environment" else {}
    with program(IDLE, *options, **environment) as target:
        with pytest.raises(insight.CannotAttach, match="PYTHON_DISABLE_REMOTE_DEBUG, -X disable-remote-debug"):
            insight.attach(target.pid)
        with pytest.raises(insight.CannotAttach):
            find_source(str(target.pid), attached=True)
        done = dump("--attach", str(target.pid), PYTHON_DISABLE_REMOTE_DEBUG="1")
        assert "remote debugging is switched off for this very Python" in done.stderr


@newer
def test_another_minor_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with program(IDLE) as target:
        monkeypatch.setattr(attaching.sys, "version_info", (3, 99, 1))
        with pytest.raises(
            insight.CannotAttach, match=r"runs Python 3\.\d+\.\d+, and this is 3\.99: run bateau with Python 3\."
        ):
            insight.attach(target.pid)
        monkeypatch.setattr(attaching, "FIRST", (3, 99))
        with pytest.raises(insight.CannotAttach, match="only 3.14 and newer can be given an agent"):
            insight.attach(target.pid)


@newer
def test_an_agent_that_can_not_start_says_why() -> None:
    text = f"import sys, types\nsys.modules['bateau'] = types.ModuleType('bateau')\n{IDLE}"
    with (
        program(text) as target,
        pytest.raises(insight.CannotAttach, match="ModuleNotFoundError: No module named 'bateau.insight'"),
    ):
        insight.attach(target.pid, timeout=30)


@newer
def test_somebody_elses_process() -> None:
    with program(IDLE) as target:
        # Root may look into anybody's: so ask as somebody else.
        code = (
            "import os, sys\nfrom bateau.insight import attaching, errors\nimport bateau.insight.memory.interpreter, "
            "bateau.insight.memory.process, bateau.insight.memory.errors\n"
            f"if os.getuid() == 0: os.setuid(65534); pid = {target.pid}\n"
            "else: pid = 1\n"
            "try: attaching.attach(pid)\n"
            "except attaching.CannotAttach as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": SOURCES}
        )
        assert "not permitted" in done.stdout, done.stderr


@newer
def test_a_stopped_process_is_not_waited_for() -> None:
    with program(IDLE) as target:
        os.kill(target.pid, signal.SIGSTOP)
        wait_until(lambda: attaching.is_stopped(target.pid))
        with pytest.raises(insight.CannotAttach, match="is stopped"):
            insight.attach(target.pid)


# -- everywhere --------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(hasattr(sys, "remote_exec"), reason="this Python can")
def test_an_older_python_says_what_is_needed() -> None:
    with program(IDLE) as target:
        with pytest.raises(insight.CannotAttach, match="needs Python 3.14 or newer there and here, and this is 3"):
            insight.attach(target.pid)
        done = dump("--attach", str(target.pid))
        assert done.returncode == 0
        assert "needs Python 3.14 or newer there and here" in done.stderr
        assert "reading its memory instead" in done.stderr
        assert "read from its memory" in done.stdout
        with pytest.raises(insight.CannotAttach, match="needs Python 3.14"):
            find_source(str(target.pid), attached=True)


def test_an_agent_that_runs_already_is_asked_whatever_the_version() -> None:
    agent = insight.init()
    try:
        with insight.attach(os.getpid()) as client:
            client.ping()
    finally:
        agent.close()


@pytest.mark.parametrize("arguments", [["--attach", "--port", "1"], ["--attach", "--from-memory", "1"]])
def test_what_is_refused(arguments: list[str]) -> None:
    done = dump(*arguments)
    assert done.returncode == 2
    assert "name its PID" in done.stderr
