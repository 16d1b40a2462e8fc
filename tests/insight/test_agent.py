"""The agent: what it answers, to whom, and what a client can't do to the program."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import random
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bateau
from bateau import insight
from bateau.insight import InsightError, NoAgent, connect
from bateau.insight import agent as agent_module
from bateau.insight import peer as peer_module
from bateau.insight.protocol import MOST_REQUEST, Decoder, ProtocolError, is_not_private, pack, sweep

pytestmark = pytest.mark.real_os("real sockets, and another thread looks at the program")


@pytest.fixture
def agent(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    agent = insight.init(port=0, token="secret")
    yield agent
    agent.close()


async def elsewhere(fn, *args):
    return await bateau.thread.run(fn, *args)


async def parked(*tasks):
    while not all(task.waiting is not None for task in tasks):
        await bateau.yield_now()


def test_only_its_user_can_open_it(agent):
    assert stat.S_IMODE(os.stat(agent.path).st_mode) == 0o600
    directory = os.path.dirname(agent.path)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    os.chmod(directory, 0o755)
    assert "open to others" in is_not_private(directory)
    os.chmod(directory, 0o700)
    agent.close()
    assert not os.path.exists(agent.path)
    with pytest.raises(NoAgent, match="has no agent"):
        connect(os.getpid())


def test_sockets_of_killed_processes_are_swept(tmp_path):
    names = [f"{2**22 + 1}.sock", f"{os.getpid()}.sock", "mine.txt", "x.sock", f"{10**30}.sock"]
    for name in names:
        (tmp_path / name).write_text("")
    sweep(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_one_agent_for_a_process(agent):
    assert insight.init() is agent
    agent.close()
    with pytest.raises(ValueError, match="a way in"):
        insight.init(unix=False)


def test_it_shows_and_controls_a_program(agent, entry):
    async def main():
        lock = bateau.sync.Lock(name="db")
        async with lock, bateau.scope() as scope:
            waiter = scope.spawn(lock.acquire, name="waiter")
            native = isinstance(waiter.host_task, type(None)) or entry.family != "trio"
            async with bateau.scope(name="inner") as inner:
                stopped = inner.spawn(stoppable, name="stoppable")
                await parked(waiter, stopped)
                seen = await elsewhere(ask, waiter.id, native)
            with pytest.raises(bateau.TaskCancelled):
                await waiter
        return seen

    async def stoppable():
        while not bateau.stopping():
            await bateau.time.sleep(0.001)

    def ask(number, native):
        with connect(os.getpid()) as client:
            client.ping()
            snapshot = client.read()
            text = client.text()
            client.wake(number)
            assert insight.from_json(client.json()).process.pid == os.getpid()
            inner = next(scope.id for scope in snapshot.scopes if scope.name == "inner")
            client.stop(inner)
            client.cancel(number, "because")
            with pytest.raises(InsightError, match="no task 99999999"):
                client.cancel(99999999)
            with pytest.raises(InsightError, match="no scope 5"):
                client.stop(5)
        return client.hello, snapshot, text

    hello, snapshot, text = entry.run(main)
    assert hello["pid"] == os.getpid()
    assert {"waiter", "stoppable"} <= {task.name for task in snapshot.tasks}
    assert "task 'waiter'" in text
    assert "lock 'db'" in text


@pytest.mark.parametrize("way", ["path", "port"])
def test_an_agent_that_rests_after_a_large_snapshot_is_waited_for(agent, way):
    """Its pace is no silence: a dump soon after another was told that something held the interpreter."""
    # It has to greet in that time, also on a machine that stands still for a moment.
    with connect(timeout=1.0, token="secret", **{way: getattr(agent, way)}) as client:
        agent._free_at = time.monotonic() + 1.4
        assert f"process {os.getpid()}" in client.text()
        agent._free_at = time.monotonic() + 1.4
        assert client.read().process.pid == os.getpid()


def test_it_answers_while_the_loop_is_blocked(agent):
    async def main():
        async with bateau.scope() as scope:
            scope.spawn(bateau.sync.Event().wait, name="waiter")
            await bateau.yield_now()
            await bateau.yield_now()
            found = []
            thread = threading.Thread(target=lambda: found.append(connect(os.getpid())))
            thread.start()
            thread.join()  # the loop stands still from here
            with found[0] as client:
                thread = threading.Thread(target=lambda: found.append(client.read()))
                thread.start()
                thread.join()
            scope.cancel()
        return found[1]

    snapshot = bateau.run(main, runtime="native")
    states = {task.name: task.state for task in snapshot.tasks}
    assert states["waiter"] == "waiting"
    assert states["main"] == "running"
    main_task = next(task for task in snapshot.tasks if task.name == "main")
    assert snapshot.runtimes[0].running == main_task.id
    assert snapshot.at(next(thread.stack for thread in snapshot.threads if thread.runtime)).file.endswith(
        ("threading.py", __file__)
    )


def test_control_of_a_blocked_loop_says_so(agent, monkeypatch):
    monkeypatch.setattr(peer_module, "LOOP_PATIENCE", 0.05)

    async def main():
        async with bateau.scope() as scope:
            task = scope.spawn(bateau.sync.Event().wait)
            await parked(task)
            with connect(os.getpid()) as client, pytest.raises(InsightError, match="blocked"):
                client.cancel(task.id)
            await bateau.yield_now()
            scope.cancel()

    bateau.run(main, runtime="native")


def test_asyncios_own_task_can_be_cancelled(agent):
    async def main():
        task = asyncio.create_task(asyncio.sleep(1000), name="plain")
        await asyncio.sleep(0)

        def ask():
            with connect(os.getpid()) as client:
                number = next(task.id for task in client.read().tasks if task.name == "plain")
                with pytest.raises(InsightError, match="woken by hand"):
                    client.wake(number)
                client.cancel(number)

        await asyncio.to_thread(ask)
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(main())


def test_subscription(agent):
    with connect(os.getpid()) as client:
        snapshots = client.subscribe(0.1)
        first, second = next(snapshots), next(snapshots)
        snapshots.close()
    assert second.taken_at > first.taken_at
    with connect(os.getpid()) as client, pytest.raises(InsightError, match="every"):
        next(client.subscribe(0.001))


def test_a_port_needs_the_token(agent):
    with connect(port=agent.port, token="secret") as client:
        client.ping()
    for token in ("wrong", None, ""):
        with pytest.raises(InsightError, match="token is wrong"):
            connect(port=agent.port, token=token)
    raw = socket.create_connection(("127.0.0.1", agent.port))
    raw.sendall(pack({"id": 1, "do": "snapshot"}))
    answer = raw.makefile("rb").read()
    raw.close()
    assert b"say hello first" in answer
    assert b"result" not in answer
    assert agent.port not in (0, None)


def test_an_agent_that_only_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    agent = insight.init(control=False)
    try:
        with connect(os.getpid()) as client:
            assert client.hello["control"] is False
            with pytest.raises(InsightError, match="only shows"):
                client.cancel(1)
    finally:
        agent.close()


def raw_connection(agent):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(agent.path)  # waits where the backlog is full
    connection.settimeout(20)
    return connection


def gone(connection):
    """Whether the agent has hung up, once it has said what it had to."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_who_does_not_speak_is_thrown_out(agent, monkeypatch):
    monkeypatch.setattr(peer_module, "PATIENCE", 0.05)
    silent, partial = raw_connection(agent), raw_connection(agent)
    partial.sendall(b"\0\0\0\x20{")
    for connection in (silent, partial):
        assert gone(connection)
        connection.close()


def test_who_does_not_read_is_thrown_out_and_nobody_else_waits(agent, monkeypatch):
    monkeypatch.setattr(peer_module, "PATIENCE", 0.2)
    remove = insight.extend("large", lambda: "x" * 4_000_000)
    try:
        slow = raw_connection(agent)
        slow.sendall(pack({"id": 1, "do": "hello", "protocol": 1}) + pack({"id": 2, "do": "snapshot"}) * 5)
        with connect(os.getpid()) as client:
            for _ in range(3):
                client.ping()
        while agent.clients:  # without a word from the client
            time.sleep(0.01)
        slow.close()
    finally:
        remove()


def test_what_waits_to_be_sent_is_bounded(agent):
    """A client that asks a thousand times and reads nothing has one answer under way, and its requests stay in its own socket."""
    remove = insight.extend("large", lambda: "x" * 3_000_000)
    try:
        greedy = raw_connection(agent)
        greedy.sendall(pack({"id": 1, "do": "hello", "protocol": 1}))
        assert b"pid" in greedy.recv(65536)
        greedy.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in range(100_000):
                greedy.send(pack({"id": 2, "do": "snapshot"}))
        (peer,) = agent.clients.values()
        while not peer._out:
            time.sleep(0.01)
        assert len(peer._out) < 4_000_000
        assert len(peer._decoder._data) <= 2 * MOST_REQUEST
        greedy.close()
    finally:
        remove()


def test_too_many_clients(agent, monkeypatch):
    monkeypatch.setattr(agent_module, "MOST_CLIENTS", 2)
    with connect(os.getpid()), connect(os.getpid()):
        with pytest.raises(NoAgent):
            connect(os.getpid())
    while agent.clients:
        time.sleep(0.01)
    connect(os.getpid()).close()


def test_thousands_of_requests_at_once(agent):
    """Pipelined: answered in order, without recursion."""
    connection = raw_connection(agent)
    requests = [pack({"id": 0, "do": "hello", "protocol": 1})] + [pack({"id": n, "do": "ping"}) for n in range(1, 3000)]
    threading.Thread(target=connection.sendall, args=(b"".join(requests),)).start()
    decoder, seen = Decoder(1 << 20), []
    while len(seen) < 3000:
        decoder.feed(connection.recv(65536))
        while (message := decoder.next()) is not None:
            assert message["ok"]
            seen.append(message["id"])
    connection.close()
    assert seen == list(range(3000))


BAD = [
    b"", b"\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 3) + b"abc",
    struct.pack(">I", 2) + b"[]", pack({}), pack({"id": "1", "do": "hello"}), pack({"id": -1, "do": "hello"}),
    pack({"id": 1 << 60, "do": "hello"}), pack({"id": 1, "do": 7}), pack({"id": 1, "do": "hello", "protocol": 99}),
    pack({"id": 1, "do": "snapshot"}), struct.pack(">I", 60000) + b"[" * 60000,
]  # fmt: skip
ARGUMENTS = [None, True, -1, 0, 1.5, 1 << 70, "x", "x" * 2000, [], {}, {"memory": 1}, float("1e300")]


@pytest.mark.parametrize("data", BAD)
def test_nonsense_is_refused(agent, data):
    connection = raw_connection(agent)
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    answer = connection.makefile("rb").read()
    connection.close()
    assert b'"ok":true' not in answer
    connect(os.getpid()).close()


@pytest.mark.parametrize("do", ["snapshot", "text", "subscribe", "cancel", "stop", "wake", "nothing", "hello"])
@pytest.mark.parametrize("value", ARGUMENTS, ids=lambda value: repr(value)[:12])
def test_wrong_arguments_are_an_error_and_the_connection_goes_on(agent, do, value):
    arguments = dict.fromkeys(("want", "every", "task", "scope", "grace", "reason", "protocol"), value)
    connection = raw_connection(agent)
    connection.sendall(pack({"id": 1, "do": "hello", "protocol": 1}) + pack({**arguments, "id": 2, "do": do}))
    decoder, answers = Decoder(1 << 28), []
    while len(answers) < 2:
        data = connection.recv(1 << 16)
        assert data, "the agent hung up without a word"
        decoder.feed(data)
        while (message := decoder.next()) is not None:
            answers.append(message)
    connection.close()
    assert answers[1]["id"] == 2
    assert answers[1]["ok"] or answers[1]["error"]
    assert "failed" not in answers[1].get("error", "")
    connect(os.getpid()).close()


def test_a_thousand_random_messages(agent):
    chance = random.Random(7)
    good = [pack({"id": 1, "do": "hello", "protocol": 1}), pack({"id": 2, "do": "ping"}), pack({"id": 3, "do": "text"})]
    for _ in range(150):
        connection = raw_connection(agent)
        data = bytearray(b"".join(chance.choices(good, k=4)))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            connection.sendall(data)
        except OSError:
            pass  # thrown out in the middle
        connection.close()
    while agent.clients:
        time.sleep(0.01)
    with connect(os.getpid()) as client:
        client.ping()
    assert agent.is_alive()


@given(st.lists(st.binary(max_size=40), max_size=8))
@settings(max_examples=200, deadline=None)
def test_the_decoder_takes_anything_in_any_pieces(pieces):
    def read(parts):
        decoder, found = Decoder(64), []
        for part in parts:
            decoder.feed(part)
            try:
                while (message := decoder.next()) is not None:
                    found.append(message)
            except ProtocolError:
                return [*found, "error"]
        return found

    whole = b"".join(pieces)
    assert read(pieces) == read([whole]) == read([whole[at : at + 1] for at in range(len(whole))])


def test_a_forked_child_leaves_the_parents_agent_alone(agent):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            from bateau.insight.agent import running

            os.write(write, b"none" if running() is None else b"some")
            agent.close()
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"none"
    os.close(read)
    assert os.path.exists(agent.path)
    with connect(os.getpid()) as client:
        client.ping()


PROGRAM = """
import bateau, sys
async def take(first, second, meet):
    async with first:
        meet.append(1)
        while len(meet) < 2:
            await bateau.yield_now()
        if len(meet) == 2 and first.name == "right":
            print("ready", flush=True)
        async with second:
            pass
async def main():
    left, right, meet = bateau.sync.Lock(name="left"), bateau.sync.Lock(name="right"), []
    async with bateau.scope() as scope:
        scope.spawn(take, left, right, meet, name="a")
        scope.spawn(take, right, left, meet, name="b")
        await bateau.thread.run(sys.stdin.read)
        scope.cancel()
"""


def dump(*arguments, **options):
    command = [sys.executable, "-m", "bateau.cli", "dump", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_macros_are_found_where_one_stands_and_their_faults_told_in_a_line(tmp_path, capsys, monkeypatch):
    from bateau.cli.entry import main as command
    from bateau.insight.model import Process, Snapshot

    saved = tmp_path / "saved.json"
    saved.write_text(insight.to_json(Snapshot(0.0, Process(1))))
    (tmp_path / "my_macros_here.py").write_text("def good(s): return [len(s.tasks)]\ndef bad(s): return 1 / 0\n")
    (tmp_path / "my_macros_broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd())])

    def asked(name):
        status = command(["dump", "--file", str(saved), "--macro", name])
        return status, *capsys.readouterr()

    assert asked("my_macros_here:good") == (0, "[\n  0\n]\n", "")
    place = f"ZeroDivisionError: division by zero, at {tmp_path}"
    assert asked("my_macros_here:bad") == (
        1, "", f"bateau dump: macro 'my_macros_here:bad' failed: {place}/my_macros_here.py:2\n",
    )  # fmt: skip
    status, _, told = asked("my_macros_broken:good")
    assert status == 1
    assert told.endswith(f"importing my_macros_broken failed: {place}/my_macros_broken.py:1\n")
    installed = importlib.metadata.EntryPoint("broken", "my_macros_broken:good", "bateau.macros")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: importlib.metadata.EntryPoints([installed]))
    status, _, told = asked("broken")
    assert status == 1
    assert f"loading my_macros_broken:good failed: {place}" in told
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert asked("operator:truth")[:2] == (0, "true\n")


def test_bateau_run_and_bateau_dump(tmp_path):
    """The two commands together: a deadlocked program, told in each form."""
    (tmp_path / "app.py").write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, "-m", "bateau.cli", "run", str(tmp_path / "app.py") + ":main"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stdout.readline() == "ready\n"
        for _ in range(500):
            text = dump(program.pid).stdout
            if "DEADLOCK" in text:
                break
        assert "DEADLOCK: 2 tasks wait for each other" in text
        assert "read from inside" in text
        snapshot = insight.from_json(dump(program.pid, "--json").stdout)
        assert {"a", "b"} <= {task.name for task in snapshot.tasks}
        assert dump(program.pid, "--dot").stdout.startswith("digraph")
        assert dump(program.pid, "--mermaid").stdout.startswith("flowchart")
        assert "chain:" in dump(program.pid, "--task", "a").stdout
        saved = tmp_path / "snapshot.json"
        saved.write_text(dump(program.pid, "--json").stdout)
        assert "DEADLOCK" in dump("--file", saved).stdout
        assert dump("--file", saved, "--macro", "operator:attrgetter('x')").returncode == 1
        assert "has gone" in dump("--port", 1).stderr or "nobody answers" in dump("--port", 1).stderr
    finally:
        program.stdin.close()
        program.stdout.close()
        assert program.wait(30) == 0


SLEEPERS = """
import asyncio, sys
import bateau
from bateau import insight

async def foreign(): await asyncio.sleep(1000)

async def main():
    insight.init()
    async with bateau.scope() as scope:
        scope.spawn(foreign)
        scope.spawn(bateau.time.sleep, 1000)
        await bateau.time.sleep(0.01)
        print("ready", flush=True)
        await bateau.thread.run(sys.stdin.read)
        scope.cancel()
bateau.run(main)
"""


def test_a_stopped_process_is_read_from_its_memory_at_once():
    program = subprocess.Popen(
        [sys.executable, "-c", SLEEPERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout.readline() == "ready\n"
        inside = dump(program.pid).stdout
        os.kill(program.pid, signal.SIGSTOP)
        os.waitpid(program.pid, os.WUNTRACED)  # its state says so from here on
        # An agent that has to be waited for would be waited for longer than the dump may take.
        stopped = dump("--timeout", "1000", program.pid).stdout
        data = json.loads(dump("--timeout", "1000", "--json", program.pid).stdout)
    finally:
        os.kill(program.pid, signal.SIGCONT)
        program.stdin.close()
        program.stdout.close()
        assert program.wait(30) == 0
    assert "read from inside" in inside
    assert "STOPPED" not in inside
    assert "read from its memory" in stopped
    assert f"is STOPPED, by a signal or a debugger: nothing in it goes on until `kill -CONT {program.pid}`" in stopped
    assert data["process"]["stopped"] is True
    for text in (inside, stopped):  # both know the timer of asyncio's, on whichever loop
        assert re.search(r"asyncio\.sleep \(16m\d\ds left\)", text), text


def test_dump_of_what_is_not_there():
    assert "name one of PID" in dump().stderr
    assert "no process" in dump(2**22 + 1).stderr
    assert "no such file" in dump("--file", "/nowhere.json").stderr.lower()


def test_dumps_on_a_signal_and_every_so_often(tmp_path):
    """While a loop of Python code blocks, and without anybody asking."""
    code = """
import signal, sys, time, bateau
from bateau import insight
insight.dump_on(signal.SIGUSR1)
stop = insight.dump_every(0.05, sys.argv[1])
async def main():
    async with bateau.scope() as scope:
        scope.spawn(bateau.sync.Event().wait, name="waiter")
        await bateau.yield_now()
        await bateau.yield_now()
        print("ready", flush=True)
        while not sys.argv[2:]:
            time.sleep(0.01)
bateau.run(main)
"""
    path = tmp_path / "dumps.txt"
    program = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout.readline() == "ready\n"
        os.kill(program.pid, 10)
        lines = []
        while not any("task 'waiter'" in line for line in lines):
            lines.append(program.stderr.readline())
            assert lines[-1], "the program ended"
        while (
            not path.exists()
            or path.read_text().count("\nprocess ") < 1
            or "has waited for at least" not in path.read_text()
        ):
            time.sleep(0.02)
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
        program.stderr.close()
    assert "running now: 1 task" in path.read_text()
    assert "\n\nprocess " in path.read_text(), "an empty line stands between two"


def test_a_fork_after_the_agents_end_closes_nobodys_descriptors() -> None:
    """Their numbers have been given to others by then."""
    insight.init().close()
    pipes = [os.pipe() for _ in range(8)]
    pid = os.fork()
    if pid == 0:
        try:
            for _, writing in pipes:
                os.write(writing, b"x")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for both in pipes:
        for fd in both:
            os.close(fd)
