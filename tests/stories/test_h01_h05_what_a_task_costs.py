"""H01, H05 and S27: ten thousand connections on one machine; futures that cost nothing until they are used; bytes per task.

The figures are docs/performance.md's (`python -m benchmarks --only idle_memory,start_up`). Here is what must be true for them to mean something.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import tracemalloc
from typing import Any

import pytest

import bateau
from bateau.channel import channel
from bateau.kernel import twin
from support.entries import on_native

SERVED = """
import resource, sys
import bateau
from bateau import net

N = int(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

async def echo(stream):
    while data := await stream.read(100):
        await stream.write(data)

async def main():
    listener = await net.listen_tcp("127.0.0.1", 0, backlog=1000)
    async with bateau.scope() as scope:
        scope.spawn(net.serve, echo, listener, background=True)
        port = listener.getsockname()[1]
        clients = [client async for client in bateau.iter(range(N)).map(lambda _: net.connect_tcp("127.0.0.1", port)).buffered(50)]
        for number, client in enumerate(clients):  # all are held: each answers, the first as the last
            await client.write(b"%d" % number)
        for number, client in enumerate(clients):
            assert await client.read(100) == b"%d" % number
        print(len(clients), "held")
        for client in clients:
            await client.aclose()

bateau.run(main, runtime="native")
"""


@pytest.mark.real_os("thousands of sockets in a process of their own")
def test_h01_thousands_of_connections_are_held_by_one_process() -> None:
    """Both ends in one process, so half of what it may open; the benchmark of ten thousand has a client of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SERVED, "400"], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "400 held\n", done.stderr


def test_h05_nothing_runs_until_it_is_awaited_or_spawned(entry: Any) -> None:
    ran: list[str] = []

    async def work(name: str) -> str:
        ran.append(name)
        return name

    async def main() -> None:
        sender, receiver = channel(1)
        later = work("later")
        parked = receiver.recv()  # an operation: an object, which waits for nothing yet
        await bateau.yield_now()
        assert ran == []
        assert not receiver.statistics().waiting_receivers
        async with bateau.scope() as scope:
            handle = scope.spawn(work, "child")
            assert ran == [], "a child begins when its parent waits, and not in the middle of its step"
            assert await handle == "child"
        assert await later == "later"
        await sender.send(1)
        assert await parked == 1

    entry.run(main)
    assert ran == ["child", "later"]


@on_native
@pytest.mark.skipif(twin.native is None, reason="the pure kernel's tasks are larger")
@pytest.mark.parametrize("waits", ["sleep_forever", "recv", "lock"])
def test_s27_bytes_of_a_task(entry: Any, waits: str) -> None:
    """A waiting task is a coroutine, its context, the task and the operation: nothing else is kept per task."""
    count = 2000

    async def main() -> float:
        sender, receiver = channel(1)
        lock = bateau.sync.Lock()

        async def idle() -> None:
            if waits == "sleep_forever":
                await bateau.time.sleep_forever()
            elif waits == "recv":
                await receiver.recv()
            else:
                await lock.acquire()

        async with bateau.scope() as scope:
            await lock.acquire()
            scope.spawn(idle)
            await bateau.yield_now()
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(count):
                scope.spawn(idle)
            for _ in range(count // 100):
                await bateau.yield_now()
            gc.collect()
            after = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            lock.release()
            scope.cancel()
        sender.close()
        return (after - before) / count

    assert entry.run(main) < 1000  # asyncio is imported here: the face that each task shows to it is a tenth


def test_s27_a_small_program_imports_no_network() -> None:
    program = """
        import sys
        import bateau
        async def main():
            async with bateau.scope() as scope:
                scope.spawn(bateau.time.sleep, 0)
        bateau.run(main)
        print([name for name in ("asyncio", "trio", "socket", "ssl", "threading", "logging") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "[]\n", done.stderr
