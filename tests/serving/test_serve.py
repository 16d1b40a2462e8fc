"""``bateau.serve`` with real processes: workers that are killed, stopped and replaced while clients are being served."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from bateau.serving.supervisor import _Slot, _Worker

pytestmark = pytest.mark.real_os("it starts processes, and sends them signals")

LONG = 60.0  # seconds nobody waits out

APP = """
import os
import bateau

VERSION = "one"

async def handle(stream):
    '''Answers each line with the worker's number and version; a line of two words waits before.'''
    reader = bateau.io.BufReader(stream)
    while line := await reader.readline():
        if b" " in line:
            await stream.write(b"begun\\n")
            while not bateau.stopping():
                await bateau.time.sleep(0.005)
            await bateau.time.sleep(0.05)
        await stream.write(b"%d %s %s\\n" % (os.getpid(), VERSION.encode(), line.strip()))

async def stuck(stream):
    await stream.write(b"begun\\n")
    await bateau.time.sleep_forever()

def broken():
    raise RuntimeError("no such thing")
"""


class Server:
    """A ``bateau serve`` in a process of its own."""

    def __init__(self, folder, *options, target="app:handle", bind="127.0.0.1:0"):
        self.folder = folder
        app = folder / "app.py"
        if not app.exists():
            app.write_text(APP)
        command = [sys.executable, "-B", "-m", "bateau.cli", "serve", target, "--bind", bind, *options]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.first = self.process.stdout.readline().strip()
        self.address = self.first.removeprefix("serving on ")
        self.errors = []
        self.listener = threading.Thread(target=lambda: self.errors.extend(self.process.stderr))
        self.listener.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LONG)
        self.listener.join(LONG)
        self.process.stdout.close()
        self.process.stderr.close()

    def end(self, signum=signal.SIGTERM):
        """Ask it to stop; its exit status and what it said."""
        self.process.send_signal(signum)
        status = self.process.wait(LONG)
        self.listener.join(LONG)
        return status, "".join(self.errors)

    def client(self):
        return Client(self.address)

    def ask(self, line="x"):
        """One question on a connection of its own."""
        with self.client() as client:
            return client.ask(line)

    def workers(self, count):
        """The numbers of the workers, once so many different ones have answered."""
        found = set()
        until = time.monotonic() + LONG
        while len(found) < count and time.monotonic() < until:
            found.add(int(self.ask()[0]))
        assert len(found) == count
        return found


class Client:
    def __init__(self, address):
        if address.startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(address)
        else:
            host, _, port = address.rpartition(":")
            self.sock = socket.create_connection((host, int(port)), timeout=LONG)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.file.close()
        self.sock.close()

    def send(self, line):
        self.sock.sendall(line.encode() + b"\n")

    def line(self):
        return self.file.readline().decode().split()

    def ask(self, line):
        self.send(line)
        return self.line()


@pytest.mark.parametrize("runtime", ["native", "asyncio", "trio", "uvloop"])
def test_sigterm_loses_no_request(tmp_path, runtime):
    with Server(tmp_path, "--workers", "2", "--runtime", runtime) as server, contextlib.ExitStack() as stack:
        server.workers(2)
        clients = [stack.enter_context(server.client()) for _ in range(12)]
        for number, client in enumerate(clients):
            client.send(f"slow {number}")
        assert [client.line() for client in clients] == [["begun"]] * 12
        server.process.send_signal(signal.SIGTERM)
        for number, client in enumerate(clients):
            assert client.line()[1:] == ["one", "slow", str(number)]
            client.sock.shutdown(socket.SHUT_WR)
        assert server.process.wait(LONG) == 0
        with pytest.raises(ConnectionRefusedError):
            server.client()


def test_a_killed_worker_takes_nobody_elses_connection(tmp_path):
    with Server(tmp_path, "--workers", "3", "--max-restarts", "5") as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(30)]
        homes = [int(client.ask("who")[0]) for client in clients]
        victim = homes[0]
        answered = []
        stop = threading.Event()

        def load():  # new connections all the while, one at a time
            while not stop.is_set():
                try:
                    answered.append(server.ask("load"))
                except ConnectionResetError:
                    answered.append([])

        thread = threading.Thread(target=load)
        thread.start()
        os.kill(victim, signal.SIGKILL)
        for client, home in zip(clients, homes, strict=True):
            if home == victim:
                with contextlib.suppress(ConnectionResetError):
                    assert client.file.readline() == b""
            else:
                assert client.ask("there") == [str(home), "one", "there"]
        after = server.workers(3)
        stop.set()
        thread.join(LONG)
        assert victim not in after
        assert len(after & set(homes)) == 2
        # None was refused, none waited for nobody: at most the one that the victim had in its hands was lost.
        assert answered.count([]) <= 1
        for client, home in zip(clients, homes, strict=True):
            if home != victim:
                client.sock.shutdown(socket.SHUT_WR)
        _, said = server.end()
    assert f"(process {victim}) was killed by SIGKILL; starting another" in said


def test_sighup_replaces_the_workers_with_new_code(tmp_path):
    with Server(tmp_path, "--workers", "2") as server, server.client() as old:
        before = server.workers(2)
        assert old.ask("x")[1] == "one"
        (tmp_path / "app.py").write_text(APP.replace('"one"', '"two"'))
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + LONG
        answers = []
        while sum(answer[1] == "two" for answer in answers[-20:]) < 20 and time.monotonic() < until:
            answers.append(server.ask())
        assert [] not in answers  # no connection was refused or dropped meanwhile
        assert old.ask("x")[1] == "one"  # a connection stays where it is until its end
        old.sock.shutdown(socket.SHUT_WR)
        assert not server.workers(2) & before
        status, said = server.end()
    assert (status, "replacing 2 workers" in said) == (0, True)


def test_a_broken_successor_leaves_the_old_ones_in_place(tmp_path):
    with Server(tmp_path, "--workers", "2") as server:
        before = server.workers(2)
        (tmp_path / "app.py").write_text("raise SyntaxError('no')")
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + LONG
        while not any("given up" in line for line in server.errors) and time.monotonic() < until:
            time.sleep(0.01)
        assert server.workers(2) == before
        status, said = server.end()
    assert status == 0
    assert "rolling restart given up" in said


def test_what_outlasts_the_grace_is_cancelled(tmp_path):
    with Server(tmp_path, "--workers", "1", "--grace", "0.1", target="app:stuck") as server, server.client() as client:
        assert client.line() == ["begun"]
        status, said = server.end()
        assert (status, client.line()) == (0, [])
    assert "were cancelled" in said


def test_a_second_sigterm_does_not_wait_for_the_grace(tmp_path):
    with Server(tmp_path, "--workers", "1", "--grace", "1000", target="app:stuck") as server, server.client() as client:
        assert client.line() == ["begun"]
        server.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + LONG
        while time.monotonic() < until:  # until the first one has closed the door
            try:
                server.client().__exit__()
            except ConnectionRefusedError:
                break
            time.sleep(0.005)
        status, _ = server.end()
        assert (status, client.line()) == (0, [])


def test_workers_end_when_their_supervisor_is_killed(tmp_path):
    with Server(tmp_path, "--workers", "2") as server:
        workers = server.workers(2)
        server.process.kill()
        server.process.wait(LONG)
        until = time.monotonic() + LONG
        while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < until:
            with contextlib.suppress(OSError):
                os.waitpid(-1, os.WNOHANG)
            if all(_is_over(pid) for pid in workers):
                break
            time.sleep(0.01)
        assert all(_is_over(pid) for pid in workers)
        with pytest.raises(ConnectionRefusedError):
            server.client()


def test_a_worker_that_somebody_else_has_reaped_is_sent_nothing():
    """An error here would end the supervisor in the middle of its end, and leave the other workers behind."""
    worker = subprocess.Popen([sys.executable, "-c", "pass"])
    worker.wait()
    _Worker(worker.pid, _Slot(1, []), -1).tell(signal.SIGTERM)


def _is_over(pid):
    """Whether it has ended (it may be a zombie where nobody reaps orphans)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_worker_that_keeps_dying_ends_it_all(tmp_path):
    (tmp_path / "app.py").write_text("import os\nasync def handle(stream):\n    os._exit(3)\n")
    with Server(tmp_path, "--workers", "1", "--max-restarts", "2") as server:
        for _ in range(3):
            with contextlib.suppress(OSError), server.client() as client:
                client.file.read()
        status = server.process.wait(LONG)
        server.listener.join(LONG)
    assert status == 1
    assert "ended with status 3; it has been restarted 2 times within 60 s; giving up" in "".join(server.errors)


@pytest.mark.parametrize(
    ("target", "message"),
    [("app:missing", "names no function"), ("none:handle", "no module named 'none'")],
)
def test_a_worker_that_never_gets_ready_is_told_of_at_once(tmp_path, target, message):
    with Server(tmp_path, "--workers", "2", target=target) as server:
        assert server.process.wait(LONG) == 1
        server.listener.join(LONG)
    said = "".join(server.errors)
    assert message in said
    assert "before it was ready" in said


def test_a_port_in_use_is_an_error(tmp_path):
    with Server(tmp_path, "--workers", "1") as server:
        with Server(tmp_path, "--workers", "1", bind=server.address) as second:
            assert second.process.wait(LONG) == 1
            second.listener.join(LONG)
        assert f"can't listen on {server.address}" in "".join(second.errors)
        assert server.end()[0] == 0


def test_a_unix_socket_is_shared_and_removed(tmp_path):
    path = tmp_path / "sock"
    with Server(tmp_path, "--workers", "2", bind=f"unix:{path}") as server:
        assert server.ask("x")[1] == "one"
        assert server.end()[0] == 0
    assert not path.exists()


def test_in_one_line_with_a_lifespan(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""
import os
from contextlib import asynccontextmanager
import bateau

opened = []

@asynccontextmanager
async def lifespan():
    opened.append("db")
    yield
    os.write(1, b"closed\\n")

async def handle(stream):
    await stream.write(opened[0].encode() + b"\\n")

if __name__ == "__main__":
    bateau.serve(handle, bind="127.0.0.1:0", workers=2, lifespan=lifespan, on_ready=lambda found: print(*found, flush=True))
    print("over", flush=True)
""")
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as process:
        with Client(process.stdout.readline().strip()) as client:
            assert client.line() == ["db"]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read().split()
    assert (rest, process.returncode) == (["closed", "closed", "over"], 0)


def test_misuse():
    import bateau

    async def handle(stream): ...

    with pytest.raises(ValueError, match="workers must be"):
        bateau.serve(handle, workers=0)
    with pytest.raises(TypeError, match="async function of one stream"):
        bateau.serve("handle")
    with pytest.raises(ValueError, match="not an address"):
        bateau.serve(handle, bind="nowhere", workers=1)

    async def inside():
        bateau.serve(handle, bind="127.0.0.1:0", workers=1)

    with pytest.raises(bateau.NestedRun):
        bateau.run(inside)
    raised = []

    def in_a_thread():
        try:
            bateau.serve(handle, bind="127.0.0.1:0", workers=1)
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join(LONG)
    assert "main thread" in raised[0]
