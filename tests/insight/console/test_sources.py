"""What the console follows: real processes, with an agent and without, by pid, socket and port; and the command in a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from bateau.insight.client import NoAgent
from bateau.insight.console.child import Child
from bateau.insight.console.sources import AgentSource, ReaderSource, find_source
from bateau.insight.model import InsightError, ReadError
from support.waiting import wait_until

PROGRAM = """
import bateau, sys
from bateau import insight, sync

async def worker():
    while not bateau.stopping():
        await bateau.time.sleep(0.01)

async def stubborn():
    while True:
        try:
            await bateau.time.sleep(1000)
        finally:
            print("stubborn was cancelled", flush=True)

async def waiter(event):
    await event.wait()

async def main():
    event = sync.Event(name="never")
    print("ready", flush=True)
    async with bateau.scope(name="top") as top:
        async with bateau.scope(name="workers") as scope:
            scope.spawn(worker, name="worker")
            top.spawn(stubborn, name="stubborn")
            top.spawn(waiter, event, name="waiter")
        print("the workers have stopped", flush=True)
"""


class Program:
    def __init__(self, start):
        text = textwrap.dedent(PROGRAM) + start + "\nbateau.run(main, runtime='native')\n"
        self.process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def until(self, line):
        seen = []
        while True:
            found = self.process.stdout.readline()
            assert found, seen
            seen.append(found.strip())
            if found.strip().startswith(line):
                return found.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.stdout.close()
        self.process.wait()


def tasks(source):
    return {task.name: task for task in source.read().tasks}


def test_an_agent_counts_and_acts():
    with Program("insight.init()") as program:
        program.until("ready")
        source = wait_until(lambda: find_source(str(program.pid)))
        assert isinstance(source, AgentSource)
        assert source.acts
        worker = wait_until(lambda: (one := tasks(source)["worker"]).stats.get("wakes", 0) > 3 and one)
        assert worker.stats["busy"] > 0
        assert source.act("wake", tasks(source)["waiter"].id) == "it was woken"
        assert tasks(source)["waiter"].state == "waiting"  # spurious wakes are harmless
        assert source.act("cancel", tasks(source)["stubborn"].id) == "it is being cancelled"
        program.until("stubborn was cancelled")
        with pytest.raises(InsightError, match="no task 987654"):
            source.act("cancel", 987654)
        scope = next(one.id for one in source.read().scopes if one.name == "workers")
        assert "cancelled" in source.act("stop", scope)
        program.until("the workers have stopped")
        program.process.kill()
        program.process.wait()
        with pytest.raises(NoAgent):
            source.read()
        source.close()
        source.close()


def test_a_port_with_a_token(monkeypatch):
    with Program("print('port', insight.init(port=0, unix=False, token='sesame').port, flush=True)") as program:
        port = program.until("port").split()[1]
        program.until("ready")
        monkeypatch.setenv("BATEAU_INSIGHT_TOKEN", "sesame")
        source = find_source(f":{port}")
        assert "waiter" in tasks(source)
        source.close()
        monkeypatch.setenv("BATEAU_INSIGHT_TOKEN", "guess")
        with pytest.raises(InsightError, match="token"):
            find_source(f"localhost:{port}")
        with pytest.raises(ReadError, match="ssh -L"):
            find_source(f"example.org:{port}")


def test_a_process_nobody_prepared():
    with Program("") as program:
        program.until("ready")
        source = find_source(str(program.pid))
        assert isinstance(source, ReaderSource)
        wait_until(lambda: {"worker", "stubborn", "waiter"} <= tasks(source).keys())
        with pytest.raises(InsightError, match="can only be looked at"):
            source.act("cancel", 1)


def test_in_a_terminal():
    pytest.importorskip("textual")
    with Program("insight.init()") as program:
        program.until("ready")
        command = ["-m", "bateau.cli", "console", "--interval", "0.2", str(program.pid)]
        status, _ = in_terminal(command, b"stubborn", b"q")
        assert status == 0


def in_terminal(command, until_seen, keys):
    """Run a command in a terminal of its own, press keys when something has been shown; its status, and all that was shown."""
    child, terminal = pty.fork()
    if not child:
        os.environ.update(TERM="xterm-256color", COLUMNS="140", LINES="40")
        os.execv(sys.executable, [sys.executable, *command])
    seen = b""
    end = time.monotonic() + 60
    try:
        while until_seen not in seen:
            assert time.monotonic() < end, seen
            seen += os.read(terminal, 65536)
        os.write(terminal, keys)
        try:
            while more := os.read(terminal, 65536):
                seen += more
        except OSError:  # the terminal has closed: the command has ended
            pass
    finally:
        os.close(terminal)
        if time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), seen


def test_run_console(tmp_path):
    """The program's output and status are the command's; Ctrl-C goes to the program when the console is left."""
    app = tmp_path / "app.py"
    app.write_text(
        textwrap.dedent(
            """
            import bateau, sys

            async def nap():
                while not bateau.stopping():
                    await bateau.time.sleep(0.01)

            async def main():
                print("these words are the program's", sys.argv[1:], flush=True)
                try:
                    async with bateau.scope() as scope:
                        scope.spawn(nap, name="sleeping-beauty")
                finally:
                    print("it could clean up", flush=True)

            bateau.run(main)
            """
        )
    )
    command = ["-m", "bateau.cli", "run", "--console", "--no-record", str(app), "one", "--two"]
    status, seen = in_terminal(command, b"sleeping-beauty", b"8q")
    assert b"these words are the program's ['one', '--two']" in seen
    assert b"it could clean up" in seen
    assert status == 0, seen[-2000:]


def test_run_console_of_a_program_that_does_not_start(tmp_path):
    app = tmp_path / "app.py"
    app.write_text("import sys; print('nothing to do'); sys.exit(7)")
    status, seen = in_terminal(["-m", "bateau.cli", "run", "--console", str(app)], b"status 7", b"q")
    assert status == 7, seen
    assert b"nothing to do" in seen


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["1:2:x"], "is no process id, no socket, no port"),
        (["--interval", "0", "1"], "--interval is in seconds, from 0.05"),
        (["--directory", "/nowhere/at/all", "1"], "is no directory"),
        (["1"], "it needs a terminal"),
    ],
)
def test_what_it_refuses(arguments, said):
    command = [sys.executable, "-m", "bateau.cli", "console", *arguments]
    if "no process id" in said:
        command = [sys.executable, "-c", "from bateau.insight.console.sources import find_source as f; f('1:2:x')"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert re.search(re.escape(said), done.stderr), done.stderr


ENDED = """
import bateau, os, sys

async def nap():
    while not bateau.stopping():
        await bateau.time.sleep(0.01)

async def main():
    open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    async with bateau.scope() as scope:
        scope.spawn(nap, name="sleeping-beauty")
    open(sys.argv[1] + ".end", "w").write("in order")

bateau.run(main)
"""


@pytest.mark.parametrize("how", ["closed", "closed unheard", "SIGTERM", "SIGKILL"])
def test_the_program_ends_with_its_console(tmp_path, how):
    """As with `q`, however the console ended: the program was asked to stop, and could clean up."""
    if how == "SIGKILL" and sys.platform != "linux":
        pytest.skip("who kills the console is told to the program on Linux only")
    app, note = tmp_path / "app.py", tmp_path / "note"
    app.write_text(ENDED)
    child, terminal = pty.fork()
    if not child:
        # A suite under nohup ignores it, and hands that on.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if how == "closed unheard" else signal.SIG_DFL)
        os.environ.update(TERM="xterm-256color", COLUMNS="140", LINES="40")
        command = ["-m", "bateau.cli", "run", "--console", "--no-record", str(app), str(note)]
        os.execv(sys.executable, [sys.executable, *command])
    try:
        seen = b""
        while b"sleeping-beauty" not in seen:
            seen += os.read(terminal, 65536)
        pid = int(note.read_text())
        if how.startswith("SIG"):
            os.kill(child, getattr(signal, how))
            try:
                while os.read(terminal, 65536):
                    pass
            except OSError:
                pass  # the console has ended
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}") or _is_zombie(pid))
    assert (tmp_path / "note.end").read_text() == "in order"
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if how == "SIGKILL" else 0)


def test_a_supervised_program_in_the_console(tmp_path):
    """The console is its supervisor, so that a signal for the program comes once, and tells how it was killed."""
    app, note = tmp_path / "app.py", tmp_path / "note"
    app.write_text(ENDED)
    child, terminal = pty.fork()
    if not child:
        os.environ.update(TERM="xterm-256color", COLUMNS="140", LINES="40", BATEAU_RECORDER_DIR=str(tmp_path))
        command = ["-m", "bateau.cli", "run", "--console", "--supervise", str(app), str(note)]
        os.execv(sys.executable, [sys.executable, *command])
    try:
        seen = b""
        while b"sleeping-beauty" not in seen:
            seen += os.read(terminal, 65536)
        os.kill(int(note.read_text()), signal.SIGKILL)
        os.write(terminal, b"q")
        seen = b""
        try:
            while data := os.read(terminal, 65536):
                seen += data
        except OSError:
            pass  # the console has ended
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGKILL
    assert b"bateau: a crash report is in" in seen
    [report] = tmp_path.glob("*.crash.json")
    assert "killed by SIGKILL" in report.read_text()


def _is_zombie(pid):
    """Whether it has ended and waits for a parent, which in a container may be one that never asks."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


KILLED = """
import sys, threading, time
from bateau.insight.console.child import Child

child = Child([sys.executable, "-c", sys.argv[1], sys.argv[2]])
for _ in range(8):
    threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
print("started", flush=True)
time.sleep(100)
"""

COUNTS = """
import os, signal, sys, time
told = []
signal.signal(signal.SIGINT, lambda *_: told.append(1))
open(sys.argv[1], "w").close()
while not told:
    time.sleep(0.01)
time.sleep(0.3)
open(sys.argv[1] + ".new", "w").write(str(len(told)))
os.rename(sys.argv[1] + ".new", sys.argv[1] + ".told")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="who kills the console is told to the program on Linux only")
def test_a_program_is_interrupted_once_when_its_console_is_killed(tmp_path):
    """A second SIGINT would cancel what the first asked to end in order; PR_SET_PDEATHSIG sends one for each of the console's threads."""
    for turn in range(5):
        note, told = tmp_path / str(turn), tmp_path / f"{turn}.told"
        with subprocess.Popen([sys.executable, "-c", KILLED, COUNTS, str(note)], stdout=subprocess.PIPE) as console:
            assert console.stdout.readline() == b"started\n"
            wait_until(note.exists)
            console.kill()
        wait_until(told.exists)
        assert told.read_text() == "1"


def test_a_program_that_another_thread_has_seen_end_is_not_signalled():
    """Between the look whether it runs and the signal, a thread that asked for its status may have reaped it."""
    child = Child([sys.executable, "-c", "pass"])
    child.process.wait()
    looks = iter([None, None])
    child.process.poll = lambda: next(looks, 0)
    child.end()
    assert child.close() == 0


ENDED_EARLY = """
import threading, time
from bateau.cli.console import _ending
from bateau.insight.console.app import Console
from bateau.insight.console.sources import ReaderSource
from bateau.insight.collect import LiveReader

with _ending() as leave:
    app = Console([ReaderSource("this", LiveReader())])
    ending = threading.Thread(target=leave, args=(app,))
    ending.start()
    time.sleep(0.1)
    app.run(headless=True)
ending.join()
print("ended")
"""


def test_a_console_that_is_ended_before_it_has_begun_ends():
    done = subprocess.run([sys.executable, "-c", ENDED_EARLY], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
