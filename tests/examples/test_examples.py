"""Every example runs, on each runtime, and does what its heading says."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.processes import complaints

ROOT = Path(__file__).parents[2]
BATEAU = str(Path(sysconfig.get_path("scripts")) / "bateau")
RUNTIMES = ["native", "asyncio", "uvloop", "trio"]


@contextmanager
def running(example: str, *args: str, runtime: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The example as a process, and the port it says it listens on."""
    process = subprocess.Popen(
        [BATEAU, "run", "--runtime", runtime, str(ROOT / "examples" / example), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        heading = process.stdout.readline()
        assert heading.startswith("listening on 127.0.0.1:"), heading + process.stdout.read()
        yield process, int(heading.rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_h06_echo_tcp(runtime: str) -> None:
    with running("echo_tcp.py", "0", runtime=runtime) as (process, port):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"hello"
        process.send_signal(signal.SIGINT)  # asked to stop, it ends by itself
        assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_h06_echo_udp(runtime: str) -> None:
    with running("echo_udp.py", "0", runtime=runtime) as (process, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.sendto(b"hello", ("127.0.0.1", port))
            assert client.recvfrom(100)[0] == b"hello"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_h07_read_exactly(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATEAU_RUNTIME", runtime)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            conn, _ = server.accept()
            with conn:
                for _ in range(5):
                    conn.sendall(b"x" * 300)
                    time.sleep(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    out = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "read_exactly.py"), "127.0.0.1", str(server.getsockname()[1])],
        capture_output=True,
        text=True,
        timeout=60,
    )
    thread.join()
    server.close()
    assert out.stdout == "sync: 1024 bytes, async: 1024 bytes, equal: True\n", out.stderr


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_f03_url_explorer(runtime: str, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_text(name)
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        out = subprocess.run(
            [BATEAU, "run", "-r", runtime, "examples/url_explorer.py", f"http://127.0.0.1:{port}/", "5"],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
        server.kill()
    lines = out.stdout.splitlines()
    assert len(lines) == 5, out.stderr
    assert lines[0].endswith(f":{port}/")
    assert out.stderr == ""  # closed where the listener left, so nothing to report


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_s01_task_scheduler(runtime: str) -> None:
    with running("task_scheduler.py", "0", "2", runtime=runtime) as (process, port):
        began = time.monotonic()
        for n in range(2):
            assert ask(port, "POST", "/jobs", {"seconds": 1})[0] == 202, n  # the others meet busy workers
        low = ask(port, "POST", "/jobs", {"seconds": 0, "priority": -1})[1]["id"]
        high = ask(port, "POST", "/jobs", {"seconds": 0, "priority": 5})[1]["id"]
        late = ask(port, "POST", "/jobs", {"seconds": 60, "timeout": 0.05, "priority": 4})[1]["id"]
        met_busy_workers = time.monotonic() - began < 1  # else this machine stood still, and the order is anybody's
        assert ask(port, "GET", "/jobs/99")[0] == 404
        assert ask(port, "GET", "/jobs/x")[0] == 404
        assert ask(port, "POST", "/jobs", {"seconds": "soon"})[0] == 400
        assert ask(port, "POST", "/jobs", 3)[0] == 400
        assert ask(port, "GET", "/nowhere")[0] == 404
        deadline = time.monotonic() + 10
        while ask(port, "GET", "/")[1] != {"done": 4, "timed out": 1}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # A running job may finish after SIGTERM; a queued one is left, and told.
        began = time.monotonic()
        for _ in range(3):
            ask(port, "POST", "/jobs", {"seconds": 1})
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=15)
        took = time.monotonic() - began
    *reports, stopped = stdout.splitlines()
    ended = [report.split(";")[0] for report in reports if not report.startswith("quiet;")]
    # Of the last three the third begins when another has ended, a second later, if it was not told to stop before; then it ends in two.
    begun = stopped == "stopped; {'done': 7, 'timed out': 1}" and took >= 2
    assert begun or stopped == "stopped; {'done': 6, 'timed out': 1, 'queued': 1}"
    assert len(ended) == 7 + begun, stdout  # each is told, the last ones too, and nothing else is
    assert f"job {late} timed out" in ended
    if met_busy_workers:
        assert ended.index(f"job {high} done") < ended.index(f"job {low} done")
    assert process.returncode == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_s02_hanging_alarm(runtime: str) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "dev", str(ROOT / "examples/hanging_alarm.py")],
        env={**os.environ, "BATEAU_RUNTIME": runtime, "PYTHONWARNINGS": "ignore:nested_block_on"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    *same, inside = result.stdout.splitlines()
    assert same == ["script: 1 2 3", "script: 1 2 3", "worker thread of a program: 2"]
    assert inside.startswith("inside a program: 3" if runtime == "native" else "inside a program: refused at once")
    assert complaints(result.stderr) == ""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_s46_cameras(runtime: str) -> None:
    out = subprocess.run(
        [BATEAU, "run", "-r", runtime, str(ROOT / "examples/cameras/cameras.py"), "20"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    *cameras, last = out.stdout.splitlines()
    assert len(cameras) == 5, out.stderr
    assert all(" frames, " in line for line in cameras)
    assert last == "devices still open: 0"
    assert out.stderr == ""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_s05_follow_log(runtime: str, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("start\nerror 1\n")
    with subprocess.Popen(
        [BATEAU, "run", "-r", runtime, str(ROOT / "examples/follow_log.py"), str(log), "error", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("-- 1 at ")
        assert process.stdout.readline() == "error 1\n"
        with log.open("a") as file:
            for part in ("fine\n", "err", "or 2", "\nerror 3\n", "error 4\n"):
                file.write(part)
                file.flush()
                time.sleep(0.02)
        rest, errors = process.communicate(timeout=30)
    assert [line for line in rest.splitlines() if not line.startswith("--")] == ["error 2", "error 3"]
    assert errors == ""
    assert process.returncode == 0
