"""examples/raft over real sockets and disks: in one program on each runtime, and as processes that are killed.

What it does in a world where everything goes wrong is in tests/sim/raft.
"""

# ruff: noqa: E402  # the examples are not on the path
from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import bateau
from support.entries import Runtime
from support.waiting import until

ROOT = Path(__file__).parents[2]
BATEAU = str(Path(sysconfig.get_path("scripts")) / "bateau")
RUNTIMES = ["native", "asyncio", "uvloop", "trio"]

sys.path.insert(0, str(ROOT / "examples"))

from raft import messages, storage
from raft.client import Client, Refused
from raft.consensus import Role, Timing
from raft.log import Diverged, Entry, Log
from raft.machine import SESSIONS, Expired, Machine, check_command
from raft.messages import Answer, Append, Ask, Hello, ProtocolError, VoteReply
from raft.node import Node
from raft.storage import Batch, Damaged, open_storage

# Long enough that a busy machine does not change leaders all the time. No test depends on how long anything takes.
TIMING = Timing(election=0.4, heartbeat=0.08)


def quiet_port() -> int:
    """A port that nobody uses, and that the system gives to nobody who asks for any: it is listened on later, and again after a crash."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


# -- the disk ------------------------------------------------------------------------------------------------------------

BATCHES = [
    Batch(1, None, 1, [Entry(0, "members", {"a": "a:1"})]),
    Batch(2, "b", 0, []),
    Batch(2, "b", 2, [Entry(1, "noop"), Entry(2, "command", [1, 1, "put", "key", "RAFT ü\n", None])]),
    Batch(3, None, 3, [Entry(3, "noop")]),
]


async def write(directory: Path, batches: list[Batch]) -> None:
    async with await open_storage(str(directory)) as file:
        for batch in batches:
            await file.save(batch)


def state(file: storage.Storage) -> tuple[int, str | None, list[Entry]]:
    return file.term, file.vote, file.log.slice(1)


def test_storage_remembers(runtime: Runtime, tmp_path: Path) -> None:
    async def main() -> None:
        await write(tmp_path / "a", BATCHES)
        async with await open_storage(str(tmp_path / "a")) as file:
            members, noop = BATCHES[0].entries[0], BATCHES[2].entries[0]
            assert state(file) == (3, None, [members, noop, Entry(3, "noop")])
            assert file.log.changed_from is None
            assert file.log.members == {"a": "a:1"}

    runtime.run(main)


def test_storage_cuts_off_a_torn_batch_and_goes_on(tmp_path: Path) -> None:
    """Torn at each byte, or with a page of zeros in the middle."""

    async def main() -> None:
        await write(tmp_path / "whole", BATCHES)
        await write(tmp_path / "short", BATCHES[:3])
        whole = (tmp_path / "whole" / "journal").read_bytes()
        kept = (tmp_path / "short" / "journal").read_bytes()
        assert whole.startswith(kept)
        torn = [whole[:end] for end in range(len(kept), len(whole))]
        torn += [whole[:at] + b"\0" * 8 + whole[at + 8 :] for at in range(len(kept), len(whole) - 8)]
        path = tmp_path / "torn" / "journal"
        path.parent.mkdir()
        for data in torn:
            path.write_bytes(data)
            async with await open_storage(str(path.parent)) as file:
                assert state(file)[:2] == (2, "b")
                assert path.read_bytes() == kept
                await file.save(BATCHES[3])
            assert path.read_bytes() == whole

    bateau.run(main)


def test_storage_refuses_what_has_lost_synced_data(tmp_path: Path) -> None:
    async def main() -> None:
        await write(tmp_path, BATCHES)
        path = tmp_path / "journal"
        whole = path.read_bytes()
        first = storage.batch_at(whole, storage.MAGIC.size)
        assert first is not None
        for at in range(storage.MAGIC.size, first[1]):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(Damaged, match="synced data was lost"):
                await open_storage(str(tmp_path))
        for beginning in (b"", whole[:10], b"something else entirely"):
            path.write_bytes(beginning)
            with pytest.raises(Damaged, match="no raft journal"):
                await open_storage(str(tmp_path))
        path.write_bytes(storage.MAGIC.pack(b"bateau-raft\0", 7))
        with pytest.raises(Damaged, match="version 7"):
            await open_storage(str(tmp_path))

    bateau.run(main)


def test_storage_is_of_no_use_after_a_failed_write(tmp_path: Path) -> None:
    async def main() -> None:
        async with await open_storage(str(tmp_path)) as file:
            await file.save(BATCHES[0])
            with bateau.move_on_after(0):
                await file.save(BATCHES[1])
            with pytest.raises(RuntimeError, match="open it again"):
                await file.save(BATCHES[1])

    bateau.run(main)


# -- the log and the machine -----------------------------------------------------------------------------------------------


def test_log_merges_without_losing_what_an_old_message_does_not_know() -> None:
    one, two, three = (Entry(1, "command", [1, n, "delete", "x"]) for n in (1, 2, 3))
    log = Log([one, two, three])
    log.merge(0, [one], 0)
    assert log.slice(1) == [one, two, three]
    assert log.changed_from is None
    log.merge(1, [Entry(2, "noop")], 1)
    assert log.slice(1) == [one, Entry(2, "noop")]
    assert log.changed_from == 2
    with pytest.raises(Diverged, match="is committed"):
        log.merge(0, [Entry(2, "noop")], 1)
    with pytest.raises(Diverged, match="has the same term"):
        log.merge(1, [Entry(2, "session")], 1)


def test_members_come_back_when_a_change_is_cut_off() -> None:
    log = Log([Entry(0, "members", {"a": "a:1"}), Entry(1, "members", {"a": "a:1", "b": "b:1"}), Entry(1, "noop")])
    assert log.members_index == 2
    assert log.previous_members == {"a": "a:1"}
    log.cut(2)
    assert log.members == {"a": "a:1"}
    assert log.previous_members == {}


def test_a_command_is_executed_once() -> None:
    machine = Machine()
    machine.apply(1, Entry(1, "session"))
    add = Entry(1, "command", [1, 1, "swap", "x", "1", None])
    assert machine.apply(2, add) is True
    assert machine.apply(3, Entry(1, "command", [1, 2, "put", "x", "2", None])) is True
    assert machine.apply(4, Entry(1, "command", [1, 2, "put", "x", "2", None])) is True
    machine.apply(5, add)  # late, from before the last one
    assert machine.values == {"x": "2"}
    with pytest.raises(Expired):
        machine.apply(6, Entry(1, "command", [99, 1, "put", "x", "3", None]))
    assert machine.applied == 6
    for index in range(7, 7 + SESSIONS):
        machine.apply(index, Entry(1, "session"))
    with pytest.raises(Expired):  # it was used least recently
        machine.apply(7 + SESSIONS, Entry(1, "command", [1, 3, "delete", "x", None, None]))


@pytest.mark.parametrize(
    "arguments",
    [[], [1, 1, "put"], [1, 0, "put", "x", "y"], [1, 1, "add", "x", "y"], [1, 1, "put", 3, "y"], [1, 1, "put", "x"],
     [1, 1, "swap", "x", "y", 3], ["1", 1, "delete", "x"], [True, 1, "delete", "x"], [1, 1, "put", "x", "y" * 8000]],
)  # fmt: skip
def test_commands_that_make_no_sense_are_refused(arguments: list[Any]) -> None:
    with pytest.raises(ValueError, match=" "):
        check_command(arguments)


# -- the wire ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        Hello("a", "b"),
        VoteReply(3, "b", 4, True, False),
        Append(1, "a", 0, 0, [Entry(0, "members", {"a": "ä:1"}), Entry(1, "noop")], 1, 7),
        Ask(1, "do", [1, 1, "put", "x", "\ud800", None]),
        Answer(1, "ok", {"x": [None, 1.5, True]}),
    ],
)
def test_messages_come_out_as_they_went_in(message: messages.Message) -> None:
    frame = messages.encode(message)
    assert messages.HEAD.unpack_from(frame) == (messages.VERSION, len(frame) - messages.HEAD.size)
    assert messages.decode(frame[messages.HEAD.size :]) == message


@pytest.mark.parametrize(
    "data",
    [b"", b"3", b"[]", b'["Hello"]', b'["Hello", "a", 3]', b'["Hi", 1]', b'["Hello", "a", "b", "c"]', b"[[]]", b"\xff", b"[" * 100_000,
     b'["Append", true, "a", 0, 0, [], 0, 0]', b'["Append", 1, "a", 0, 0, [[1, "x", 0]], 0, 0]', b'["Append", 1, "a", 0, 0, [3], 0, 0]',
     b'["Append", 1, "a", 0, 0, [[1, "members", {"a": 3}]], 0, 0]'],
)  # fmt: skip
def test_what_is_no_message_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="this is no message"):
        messages.decode(data)


# -- a cluster in one program --------------------------------------------------------------------------------------------


class Cluster:
    """Nodes on real sockets, each with a directory, that can be ended and started again."""

    def __init__(self, directory: Path, scope: bateau.Scope) -> None:
        self.directory = directory
        self.scope = scope
        self.addresses: dict[str, str] = {}
        self.nodes: dict[str, Node] = {}
        self.tasks: dict[str, bateau.Task[None]] = {}

    def address(self, name: str) -> str:
        return self.addresses.setdefault(name, f"127.0.0.1:{quiet_port()}")

    def start(self, name: str, *, members: dict[str, str] | None = None) -> None:
        node = self.nodes[name] = Node(name, self.address(name), str(self.directory / name), members, TIMING)
        self.tasks[name] = self.scope.spawn(node.run, name=f"node {name}", background=True)

    async def end(self, name: str) -> None:
        del self.nodes[name]
        task = self.tasks.pop(name)
        task.cancel("the test ends it")
        await until(lambda: task.ended)

    async def leader(self) -> str:
        """The one leader, once all that run agree on it."""
        found: list[Any] = []

        def agreed() -> bool:
            found[:] = [node.running and node.consensus.leader for node in self.nodes.values()]
            lead = [node.id for node in self.nodes.values() if node.running and node.consensus.role is Role.LEADER]
            return len(lead) == 1 and found == lead * len(self.nodes)

        await until(agreed)
        assert found[0] is not None
        return found[0]

    async def agree(self) -> None:
        """Wait until all that run have applied the same entries, up to the same one."""
        await until(lambda: len({(node.machine.applied, node.machine.digest) for node in self.nodes.values()}) == 1)


@asynccontextmanager
async def cluster(directory: Path, *names: str) -> AsyncIterator[Cluster]:
    async with bateau.scope(name="cluster") as scope:
        made = Cluster(directory, scope)
        members = {name: made.address(name) for name in names}
        for name in names:
            made.start(name, members=members)
        with bateau.timeout(60):
            yield made


def test_leader_ends_and_comes_back(runtime: Runtime, tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path, "a", "b", "c") as nodes:
            async with Client(list(nodes.addresses.values()), patience=0.5) as client:
                await client.put("x", "1")
                first = await nodes.leader()
                await nodes.end(first)
                await client.put("y", "2")
                assert await client.get("x") == "1"
                second = await nodes.leader()
                assert second != first
                nodes.start(first)
                assert await client.swap("x", "1", "3")
                assert not await client.swap("x", "1", "4")
                assert await client.delete("y")
                assert await client.get("y") is None
                await nodes.agree()
                assert nodes.nodes[first].machine.values == {"x": "3"}

    runtime.run(main)


def test_members_change_down_to_the_leader_itself(runtime: Runtime, tmp_path: Path) -> None:
    async def main() -> None:
        async with cluster(tmp_path, "a") as nodes:
            async with Client([nodes.address("a"), nodes.address("b"), nodes.address("c")], patience=0.5) as client:
                await client.put("x", "1")
                for name in ("b", "c"):
                    nodes.start(name)
                    await client.add_server(name, nodes.address(name))
                    await client.add_server(name, nodes.address(name))  # once more is no change
                await nodes.agree()
                assert set(nodes.nodes["b"].consensus.log.members) == {"a", "b", "c"}
                with pytest.raises(Refused, match="another address"):
                    await client.add_server("b", "127.0.0.1:1")
                await client.remove_server("a")
                await nodes.end("a")
                await client.put("x", "2")
                assert await nodes.leader() in ("b", "c")
                assert await client.get("x") == "2"

    runtime.run(main)


def test_every_change_happens_once(tmp_path: Path) -> None:
    """Tasks count a number up together, while leaders come and go."""

    async def count(servers: list[str], times: int) -> None:
        async with Client(servers, patience=0.3) as client:
            done = 0
            while done < times:
                value = await client.get("n")
                done += await client.swap("n", value, str(int(value or 0) + 1))

    async def main() -> None:
        async with cluster(tmp_path, "a", "b", "c") as nodes:
            servers = list(nodes.addresses.values())
            async with bateau.scope() as scope:
                for _ in range(4):
                    scope.spawn(count, servers, 10)
                for _ in range(2):
                    leader = await nodes.leader()
                    await nodes.end(leader)
                    await nodes.leader()
                    nodes.start(leader)
            async with Client(servers) as client:
                assert await client.get("n") == "40"

    bateau.run(main)


def test_strangers_are_refused_and_do_no_harm(tmp_path: Path) -> None:
    def hello(text: bytes) -> bytes:
        return messages.HEAD.pack(messages.VERSION, len(text)) + text

    async def refused(address: str, data: bytes) -> bytes:
        async with await bateau.net.connect("tcp:" + address) as stream:
            await stream.write(data)
            try:
                return await stream.read()
            except OSError:
                return b""  # there was more that it did not read

    async def main() -> None:
        async with cluster(tmp_path, "a") as nodes:
            address = nodes.address("a")
            async with Client([address]) as client:
                await client.put("x", "1")
                for data in (
                    b"GET / HTTP/1.1\r\n\r\n",
                    hello(b'["Hello", "b", "c"]'),
                    hello(b'["VoteReply", 1, "b", 1, false, true]'),
                    hello(b"no JSON"),
                    messages.HEAD.pack(messages.VERSION + 1, 2) + b"[]",
                    messages.HEAD.pack(messages.VERSION, 1 << 30),
                ):
                    assert await refused(address, data) == b""
                async with await bateau.net.connect("tcp:" + address) as stream:
                    connection = messages.Connection(stream)
                    for number, (verb, arguments) in enumerate(
                        [
                            ("do", [1]),
                            ("sing", []),
                            ("get", []),
                            ("get", [3]),
                            ("add", ["b"]),
                            ("add", ["b", "nowhere"]),
                            ("remove", ["a"]),
                        ]
                    ):
                        await connection.send(Ask(number, verb, arguments))
                        answer = await connection.receive()
                        assert isinstance(answer, Answer)
                        assert (answer.number, answer.status) == (number, "error"), answer
                with pytest.raises(Refused, match="at most 8000 characters"):
                    await client.put("x", "y" * 10_000)
                assert await client.get("x") == "1"
                assert (await client.status(address))["role"] == "leader"

    bateau.run(main)


# -- processes -----------------------------------------------------------------------------------------------------------


class Processes:
    """The server's program, three times."""

    def __init__(self, directory: Path, runtime: str) -> None:
        self.directory = directory
        self.runtime = runtime
        self.addresses = {name: f"127.0.0.1:{quiet_port()}" for name in "abc"}
        self.peers = ",".join(f"{name}={address}" for name, address in self.addresses.items())
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> None:
        self.processes[name] = process = subprocess.Popen(
            [BATEAU, "run", "--runtime", self.runtime, str(ROOT / "examples/raft/server.py"), "--id", name,
             "--peers", self.peers, "--data", str(self.directory / name), "--election", "0.4"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith(f"{name}: listening on {self.addresses[name]}"), line + process.stderr.read()

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
        process = self.processes.pop(name)
        process.send_signal(how)
        _, errors = process.communicate(timeout=30)
        return process.returncode, errors


@contextmanager
def processes(directory: Path, runtime: str) -> Iterator[Processes]:
    made = Processes(directory, runtime)
    try:
        for name in "abc":
            made.start(name)
        yield made
    finally:
        for process in made.processes.values():
            process.kill()
            process.communicate()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_processes_are_killed(runtime: str, tmp_path: Path) -> None:
    with processes(tmp_path, runtime) as servers:
        addresses = list(servers.addresses.values())

        async def leader(client: Client) -> str:
            while True:
                for address in addresses:
                    try:
                        found = await client.status(address)
                    except OSError:
                        continue
                    if found["role"] == "leader":
                        return str(found["id"])
                await bateau.time.sleep(0.05)

        async def agree(client: Client) -> None:
            while True:
                found = [await client.status(address) for address in addresses]
                if len({(one["applied"], one["digest"]) for one in found}) == 1 and found[0]["applied"] > 5:
                    return
                await bateau.time.sleep(0.05)

        async def main() -> None:
            with bateau.timeout(60):
                async with Client(addresses, patience=0.5) as client:
                    await client.put("x", "before")
                    killed = await leader(client)
                    servers.kill(killed)
                    await client.put("y", "after")
                    assert await client.get("x") == "before"
                    servers.start(killed)
                    await agree(client)
                    for name in "abc":  # all at once: what was acknowledged is on the disks
                        servers.kill(name)
                    for name in "abc":
                        servers.start(name)
                    assert await client.get("y") == "after"

        bateau.run(main)
        for name, how in (("a", signal.SIGTERM), ("b", signal.SIGINT)):
            assert servers.kill(name, how) == (0, "")


def test_the_client_program(tmp_path: Path) -> None:
    with processes(tmp_path, "native") as servers:
        command = [
            BATEAU,
            "run",
            str(ROOT / "examples/raft/client.py"),
            "--servers",
            ",".join(servers.addresses.values()),
        ]

        def ask(*words: str) -> str:
            done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)
            return (done.stdout + done.stderr).strip() + ("" if done.returncode == 0 else f" ({done.returncode})")

        assert ask("put", "x", "1") == ""
        assert ask("get", "x") == "1"
        assert ask("swap", "x", "1", "2") == "swapped"
        assert ask("swap", "x", "1", "2") == "it has another value"
        assert ask("delete", "x") == "deleted"
        assert ask("get", "x") == "(no value)"
        assert ask("add", "a", "127.0.0.1:1").endswith("remove it first (1)")
        status = ask("status").splitlines()
        assert [line.split(": ")[0] for line in status] == list(servers.addresses.values())
        assert sum("'role': 'leader'" in line for line in status) == 1
        for name in "abc":
            servers.kill(name)
        assert ask("--timeout", "1", "get", "x").endswith("(1)")


def test_a_server_says_why_it_does_not_start(tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [BATEAU, "run", str(ROOT / "examples/raft/server.py"), *words], capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stderr.strip().splitlines()[-1]

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, line = run("--id", "a", "--peers", f"a={address}", "--data", str(tmp_path / "a"))
        assert code == 1
        assert line.startswith("a: ")
        assert address in line
    assert run("--id", "a", "--peers", "b=127.0.0.1:1", "--data", str(tmp_path))[0] == 2
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "journal").write_bytes(b"")
    code, line = run("--id", "b", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "b"))
    assert (code, "no raft journal" in line) == (1, True), line
