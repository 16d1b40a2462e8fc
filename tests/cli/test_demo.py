"""The demo: proven on a real tree on every runtime, honest when it is interrupted, when pages break, when the server dies."""

from __future__ import annotations

import functools
import http.server
import os
import re
import signal
import socket
import ssl
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from support.processes import interrupt

BATEAU = str(Path(sysconfig.get_path("scripts")) / "bateau")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names that need quoting, an index page, empty and large files, nesting, and what both sides leave out."""
    root = tmp_path_factory.mktemp("tree")
    for n in range(60):
        folder = root / f"folder {n % 7}" / "deep & <odd>"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"fil\u00e9 #{n}?.txt").write_bytes(os.urandom(n * 997))
    (root / "with index").mkdir()
    (root / "with index" / "index.html").write_text("<a href='hidden.txt'>")
    (root / "with index" / "hidden.txt").write_text("reached by the link on the index page")
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.pyc").write_bytes(b"x")
    (root / "empty").write_bytes(b"")
    return root


def demo(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BATEAU, "demo", *args], capture_output=True, text=True, timeout=110)


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """Each is listed by the thread that made it, while that lives."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def wait_for_progress(process: subprocess.Popen[str]) -> None:
    """Until the progress line says that the crawl is going on, however long the machine takes to come so far."""
    assert process.stderr is not None
    seen: list[str] = []
    while not seen or " in flight, " not in seen[-1]:
        seen.append(process.stderr.readline())
        assert seen[-1], ("it ended before it began", seen, process.wait(10))


@pytest.mark.parametrize("runtime", ["native", "asyncio", "uvloop", "trio"])
def test_proven_on_a_real_tree(tree: Path, runtime: str) -> None:
    out = demo("--root", str(tree), "--runtime", runtime, "--quiet", "--workers", "5")
    assert out.returncode == 0, out.stdout + out.stderr
    assert "PROVEN: 63 files; all files and hashes equal the disk's" in out.stdout
    most = re.search(r"at most (\d+) in flight \(bound: 5\)", out.stdout)
    assert most is not None
    assert 1 < int(most[1]) <= 5


def test_all_runtimes_side_by_side(tree: Path) -> None:
    out = demo("--root", str(tree), "--all", "--quiet")
    assert out.returncode == 0, out.stdout + out.stderr
    assert "the same result on each" in out.stdout
    assert len(re.findall(r"^(?:native|asyncio|uvloop|trio) .* proven [0-9a-f]{16}$", out.stdout, re.M)) == 4


def test_progress_is_shown(tree: Path) -> None:
    out = demo("--limit", "300", "--workers", "1")
    assert "crawling on runtime" in out.stderr
    assert "300 pages" in out.stdout


def test_a_difference_is_found(tree: Path) -> None:
    """The proof is one: what changes on the disk during the crawl is told."""
    code = (
        "import sys; from bateau.cli import main\n"
        "from bateau.cli.demo import disk\n"
        "real = disk.expected\n"
        "disk.expected = lambda root: {**real(root), '/empty': 'other', '/only%20on%20disk': '0'}\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    import sys

    out = subprocess.run(
        [sys.executable, "-c", code, "demo", "--root", str(tree), "-q"], capture_output=True, text=True, timeout=60
    )
    assert out.returncode == 1
    assert "DIFFERENT from the disk" in out.stdout
    assert "other content: /empty" in out.stdout
    assert "missing: /only%20on%20disk" in out.stdout


@contextmanager
def slow_site(pages: int, delay: float) -> Iterator[tuple[str, threading.Event]]:
    """A server of our own making: a listing, then pages that take their time; it dies when the event is set."""
    dies = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    workers: list[threading.Thread] = []

    def answer(conn: socket.socket) -> None:
        with conn:
            conn.settimeout(5)
            try:
                request = conn.recv(65536)
                if not request:
                    return
                path = request.split()[1].decode()
                if path == "/":
                    body = "".join(f"<a href='{n}'>" for n in range(pages)).encode()
                else:
                    dies.wait(delay)
                    body = path.encode()
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
                conn.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            except OSError:
                return

    def serve() -> None:
        while not dies.is_set():
            try:
                conn, _ = server.accept()
            except TimeoutError:
                continue
            worker = threading.Thread(target=answer, args=(conn,))
            worker.start()
            workers.append(worker)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/", dies
    finally:
        dies.set()
        thread.join()
        server.close()
        for worker in workers:
            worker.join()


@pytest.mark.parametrize("runtime", ["native", "asyncio", "trio"])
def test_ctrl_c_still_reports(runtime: str) -> None:
    with slow_site(400, 0.05) as (url, _):
        process = subprocess.Popen(
            [BATEAU, "demo", "--url", url, "--runtime", runtime, "--workers", "4"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_progress(process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "PARTIAL: interrupted" in stdout
    pages, unvisited = (
        re.search(r"^(\d+) pages", stdout, re.M),
        re.search(r"(\d+) known pages were not visited", stdout),
    )
    assert pages is not None
    assert unvisited is not None
    assert int(pages[1]) + int(unvisited[1]) == 401
    assert "broken" not in stdout  # what was in flight has been finished, not cut


def test_ctrl_c_twice_cancels_and_still_reports() -> None:
    with slow_site(50, 30) as (url, _):
        process = subprocess.Popen(
            [BATEAU, "demo", "--url", url, "--workers", "4"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for_progress(process)
        interrupt(process)
        time.sleep(
            1.0
        )  # Python has to see it: it does not tell when it has, and the second counts as the first until then
        assert process.poll() is None  # stopping waits for what is in flight
        interrupt(process)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "PARTIAL: interrupted" in stdout


def test_a_server_that_dies_is_reported() -> None:
    with slow_site(2000, 0.02) as (url, dies):
        process = subprocess.Popen(
            [BATEAU, "demo", "--url", url, "--workers", "4"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_progress(process)
        dies.set()
        # Its socket stays open and accepts nothing: connections wait in the backlog, then time out or are refused.
        process.send_signal(0)
        stdout = ""
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert "pages failed in a row" in stdout
    assert "broken: and" in stdout


def test_a_page_that_stalls_fails_alone() -> None:
    with slow_site(3, 30) as (url, _):
        out = demo("--url", url, "--timeout", "0.5", "-q")
    assert out.returncode == 1
    assert "4 pages" in out.stdout
    assert out.stdout.count("timeout of 0.5 s passed") == 3


def test_killing_the_web_server_is_told(tree: Path) -> None:
    process = subprocess.Popen(
        [BATEAU, "demo", "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_progress(process)
    (server,) = children_of(process)
    os.kill(server, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert "PARTIAL" in stdout
    assert "every file read equals the disk's" in stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--url", "ftp://x/"], "need a URL of the form http[s]://"),
        (["--workers", "0"], "--workers must be 1 or more"),
        (["--limit", "0"], "--limit must be 1 or more"),
        (["--timeout", "0"], "--timeout must be more than 0 seconds"),
        (["--timeout", "nan"], "--timeout must be more than 0 seconds"),
        (["--runtime", "warp"], "unknown runtime"),
        (["--root", "/nonexistent"], "nonexistent"),
    ],
)
def test_bad_input(args: list[str], message: str) -> None:
    out = demo(*args)
    assert out.returncode == 2
    assert message in out.stderr
    assert "Traceback" not in out.stderr


@pytest.mark.parametrize("runtime", ["native", "trio"])
def test_terminated_it_reports_and_takes_the_web_server_along(runtime: str) -> None:
    """As a service manager, a container or `timeout` ends it."""
    process = subprocess.Popen(
        [BATEAU, "demo", "--workers", "2", "-r", runtime], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_progress(process)
    children = children_of(process)
    process.terminate()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "PARTIAL: interrupted" in stdout
    assert "every file read equals the disk's" in stdout
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_limit_proves_no_more_than_what_was_read(tree: Path) -> None:
    out = demo("--root", str(tree), "--limit", "5", "-q")
    assert out.returncode == 0, out.stderr
    assert "every file read equals the disk's" in out.stdout
    assert "all files" not in out.stdout


def test_https(tree: Path, tmp_path: Path) -> None:
    """Against Python's own server in TLS, with a certificate made here and trusted by way of OpenSSL's own variable."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tree / "with index"))
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"https://localhost:{server.server_address[1]}/"
        trusting = {**os.environ, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        out = subprocess.run(
            [BATEAU, "demo", "--url", url, "-q"], capture_output=True, text=True, timeout=60, env=trusting
        )
        assert (out.returncode, out.stdout.count("broken")) == (0, 0), out.stdout + out.stderr
        assert "2 pages" in out.stdout  # the index page, and what it links to
        distrusting = demo("--url", url, "-q")
        assert distrusting.returncode == 1
        assert "certificate verify failed" in distrusting.stdout
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is not the server's."""
