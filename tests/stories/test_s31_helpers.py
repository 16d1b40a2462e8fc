"""S31: backports and helper packages, each subtly different. Here: all in one root, without a dependency."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

import bateau

SOURCE = Path(bateau.__file__).parents[1]

# What people install helper packages for: timeouts, groups, limits, queues with an end, retries of a stream, threads, TCP.
PROGRAM = """
import sys
import bateau
from bateau import channel, io, net, sync, thread, time

async def main():
    log = []
    async with bateau.scope(limit=3) as scope:
        tasks = [scope.spawn(work, n) for n in range(6)]
    log.append(sum(task.outcome().unwrap() for task in tasks))
    with bateau.move_on_after(0.01) as limit:
        await time.sleep(60)
    log.append(limit.cancelled_caught)
    log.append(await bateau.join([work(1), work(2)]))
    log.append((await bateau.race(work(7), time.sleep(60))).value)
    tx, rx = channel.channel[int](1)
    async with bateau.scope() as scope:
        scope.spawn(produce, tx)
        log.append([n async for n in rx])
    rx.close()
    limiter, lock = sync.Limiter(2), sync.RWLock()
    async with limiter, lock.read():
        log.append(await thread.run(sum, [1, 2, 3]))
    listener = await net.listen_tcp("127.0.0.1", 0)
    async with bateau.scope() as scope:
        scope.spawn(net.serve, echo, listener)
        async with await net.connect_tcp("127.0.0.1", listener.getsockname()[1]) as stream:
            await stream.write(b"hello")
            log.append(await stream.read(5))
        scope.cancel()
    print(log)
    assert not any(name.startswith(("trio", "anyio", "uvloop", "sniffio")) for name in sys.modules)

async def work(n):
    await time.sleep(0.001)
    return n

async def produce(tx):
    async with tx:
        for n in range(3):
            await tx.send(n)

async def echo(stream):
    while data := await stream.read():
        await stream.write(data)

bateau.run(main, runtime=sys.argv[1])
"""


def test_no_dependency() -> None:
    assert [one for one in requires("bateau") or () if "extra ==" not in one] == []


@pytest.mark.parametrize("runtime", ["native", "asyncio"])
def test_with_nothing_but_python(runtime: str) -> None:
    """No site-packages at all: what a program needs is in the one root."""
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", code, runtime], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout == "[15, True, [1, 2], 7, [0, 1, 2], 6, b'hello']\n"
