"""S40, S35: a library that imports only bateau, on every runtime, and client and server on different ones against each other."""

from __future__ import annotations

import ast
import asyncio
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bateau
from support.entries import ENTRIES, Entry, require
from support.waiting import until

HOME = Path(__file__).parents[2] / "examples" / "line_protocol"


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    sys.path.insert(0, str(HOME))
    yield
    sys.path.remove(str(HOME))
    sys.modules.pop("line_protocol", None)


def library() -> Any:
    import line_protocol

    return line_protocol


async def upper(text: str) -> str:
    await bateau.time.sleep(0.001)
    return text.upper()


async def fail(text: str) -> str:
    raise ValueError(f"no {text}")


class Gate:
    """A handler that waits until it is let through, and tells how many wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self.asked: set[str] = set()
        self.event = bateau.sync.Event()

    async def __call__(self, text: str) -> str:
        self.waiting += 1
        self.asked.add(text)
        try:
            await self.event.wait()
        finally:
            self.waiting -= 1
        return text


async def talk(address: str, n: int) -> list[str]:
    """What a client does, in its own scope."""
    async with bateau.scope() as scope:
        client = await library().connect(scope, address)
        return await bateau.join([client.ask("upper", f"word {k}") for k in range(n)])


def test_it_imports_only_bateau() -> None:
    tree = ast.parse((HOME / "line_protocol.py").read_text())
    roots: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    assert roots == {"__future__", "bateau", "collections", "typing"}


def test_in_one_program(entry: Any) -> None:
    async def main() -> None:
        lib = library()
        listener = await bateau.net.listen_tcp("127.0.0.1", 0)
        async with bateau.scope() as scope:
            scope.spawn(lib.serve, {"upper": upper, "fail": fail}, listener)
            address = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
            assert await talk(address, 50) == [f"WORD {k}" for k in range(50)]
            async with bateau.scope() as inner:
                client = await lib.connect(inner, address)
                with pytest.raises(lib.RequestFailed, match="ValueError: no way"):
                    await client.ask("fail", "way")
                with pytest.raises(lib.RequestFailed, match="unknown verb 'nope'"):
                    await client.ask("nope")
                with pytest.raises(ValueError, match="one line"):
                    await client.ask("upper", "two\nlines")
                assert await client.ask("upper", "still here") == "STILL HERE"
            scope.stop()

    entry.run(main)


def test_tcp_to_unix_is_one_argument_and_the_stream_can_be_traced(entry: Any, tmp_path: Path) -> None:
    """S35."""

    async def main() -> None:
        lib = library()
        events: list[Any] = []
        address = f"unix:{tmp_path / 'socket'}"
        listener = await bateau.net.listen(address)
        async with bateau.scope() as scope:
            scope.spawn(lib.serve, {"upper": upper}, listener)
            async with bateau.scope() as inner:
                client = await lib.connect(inner, address, trace=events.append)
                assert await client.ask("upper", "unix") == "UNIX"
            scope.stop()
        assert any(b"1 upper unix\n" in (event.data or b"") for event in events)

    entry.run(main)


@pytest.mark.law(1)
def test_a_cancelled_requester_leaves_the_driver_alone(entry: Any) -> None:
    """S35: the driver belongs to a scope, not to whoever asked first."""

    async def main() -> None:
        lib = library()
        gate = Gate()
        listener = await bateau.net.listen_tcp("127.0.0.1", 0)
        async with bateau.scope() as scope:
            scope.spawn(lib.serve, {"upper": upper, "gate": gate}, listener)
            async with bateau.scope() as inner:
                client = await lib.connect(inner, f"tcp:127.0.0.1:{listener.getsockname()[1]}")
                with pytest.raises(TimeoutError):
                    await client.ask("gate", "first", timeout=0.02)
                async with bateau.scope() as asking:
                    patient = asking.spawn(client.ask, "gate", "patient")
                    hasty = asking.spawn(client.ask, "gate", "hasty")
                    await until(
                        lambda: gate.asked >= {"patient", "hasty"}
                    )  # the first may have been too late to be sent at all
                    hasty.cancel("changed its mind")
                    assert await client.ask("upper", "meanwhile") == "MEANWHILE"
                    gate.event.set()
                assert patient.outcome().unwrap() == "patient"
                assert hasty.outcome().cancelled
                assert await client.ask("upper", "after") == "AFTER"
            scope.stop()

    entry.run(main)


def test_a_lost_connection_fails_all_who_wait(entry: Any) -> None:
    async def main() -> None:
        lib = library()
        gate = Gate()
        listener = await bateau.net.listen_tcp("127.0.0.1", 0)
        async with bateau.scope() as scope:
            serving = scope.spawn(lib.serve, {"gate": gate}, listener)
            async with bateau.scope(policy=bateau.Collect()) as asking:
                client = await lib.connect(asking, f"tcp:127.0.0.1:{listener.getsockname()[1]}")
                tasks = [asking.spawn(client.ask, "gate", str(n)) for n in range(3)]
                await until(lambda: gate.waiting == 3)
                serving.cancel()
            assert all(isinstance(task.outcome().error, lib.ConnectionLost) for task in tasks)

    entry.run(main)


@pytest.mark.law(6)
def test_asked_to_stop_it_answers_what_it_has_read(entry: Any) -> None:
    async def main() -> str:
        lib = library()
        gate = Gate()
        listener = await bateau.net.listen_tcp("127.0.0.1", 0)
        async with bateau.scope() as asking:
            async with bateau.scope() as scope:
                scope.spawn(lib.serve, {"gate": gate}, listener)
                client = await lib.connect(asking, f"tcp:127.0.0.1:{listener.getsockname()[1]}")
                task = asking.spawn(client.ask, "gate", "in flight")
                await until(lambda: gate.waiting)
                scope.stop()
                await bateau.yield_now()
                gate.event.set()
            return await task

    assert entry.run(main) == "in flight"


def test_one_connection_is_worked_on_within_its_bound(entry: Any) -> None:
    async def main() -> None:
        lib = library()
        gate = Gate()
        listener = await bateau.net.listen_tcp("127.0.0.1", 0)
        async with bateau.scope() as scope:
            scope.spawn(_serve_within, lib, gate, listener)
            async with bateau.scope() as asking:
                client = await lib.connect(asking, f"tcp:127.0.0.1:{listener.getsockname()[1]}")
                tasks = [asking.spawn(client.ask, "gate", str(n)) for n in range(10)]
                await until(lambda: gate.waiting == 3)
                await bateau.time.sleep(0.02)
                assert gate.waiting == 3
                gate.event.set()
            assert [task.outcome().unwrap() for task in tasks] == [str(n) for n in range(10)]
            scope.stop()

    entry.run(main)


async def _serve_within(lib: Any, gate: Gate, listener: bateau.net.Listener) -> None:
    await lib.serve({"gate": gate}, listener, at_once=3)


@contextmanager
def served_by(name: str) -> Iterator[str]:
    """A server on a thread of its own, on the runtime and way in called ``name``; gives its address."""
    way = Entry(name)
    require(way.runtime)
    ready = threading.Event()
    found: list[Any] = []

    async def main() -> None:
        listener = await bateau.net.listen_tcp("127.0.0.1", 0)
        async with bateau.scope() as scope:
            found.extend([listener.getsockname()[1], scope.token])
            scope.spawn(library().serve, {"upper": upper}, listener)
            ready.set()

    thread = threading.Thread(target=way.run, args=(main,))
    thread.start()
    try:
        assert ready.wait(20)
        yield f"tcp:127.0.0.1:{found[0]}"
    finally:
        if found:
            found[1].stop()
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("server", ENTRIES)
def test_client_and_server_on_different_runtimes(entry: Any, server: str) -> None:
    """S40."""
    with served_by(server) as address:
        assert entry.run(talk, address, 20) == [f"WORD {k}" for k in range(20)]


def test_plain_asyncio_and_plain_trio_programs() -> None:
    """The two programs beside the library, as processes: asyncio serves, trio asks."""
    server = subprocess.Popen(
        [sys.executable, "-W", "error", HOME / "server_on_asyncio.py"], stdout=subprocess.PIPE, text=True, cwd=HOME
    )
    assert server.stdout is not None
    with server, server.stdout:
        try:
            port = server.stdout.readline().strip()
            assert re.fullmatch(r"\d+", port)
            client = [sys.executable, "-W", "error", HOME / "client_on_trio.py", port, "one", "two", "three"]
            asked = subprocess.run(client, capture_output=True, text=True, timeout=30, cwd=HOME, check=True)
            assert asked.stdout.split() == ["ONE", "TWO", "THREE"]
            assert asked.stderr == ""
            server.send_signal(signal.SIGTERM)
            assert server.stdout.read() == "bye\n"
            assert server.wait(20) == 0
        finally:
            server.kill()


def test_in_a_plain_asyncio_program_under_asyncios_timeout() -> None:
    async def main(address: str) -> str:
        async with bateau.scope() as scope:
            client = await library().connect(scope, address)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await client.ask("upper", "too late")
            return await asyncio.wait_for(client.ask("upper", "in time"), 10)

    with served_by("owned:native") as address:
        assert asyncio.run(main(address)) == "IN TIME"
