"""A program that gets stuck in the way it is told to, and says beforehand what is true of its tasks.

    python stuck.py HOW

``regex``: C code that holds the GIL. ``own_channel``: a handler that sends to the channel which only itself receives from.
``two_channels``: two handlers that each send to the other before they receive, in a server that still accepts. ``callback``: a thread of a
C library completes a future, off the loop. The last line it prints is JSON: by name each task's id, what it waits on, the line it is at.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import re
import sys
from pathlib import Path
from typing import Any

import bateau
from bateau import insight
from support.dying import holds, parked, truth, wants

LINES = Path(__file__).read_text().splitlines()


def line_of(mark: str) -> int:
    """The line that ends with that comment."""
    return next(number for number, line in enumerate(LINES, 1) if line.endswith(f"# {mark}"))


def tell(root: Any, **more: Any) -> None:
    print(json.dumps({"tasks": json.loads(truth(root)), **more}), flush=True)


async def explodes(scope: Any) -> None:
    await bateau.time.sleep(0.02)
    tell(scope, line=line_of("here"))
    re.match(r"(a+)+$", "a" * 60 + "b")  # here


async def regex() -> None:
    lock = bateau.sync.Lock(name="db")
    async with bateau.scope(name="work") as scope:
        await parked(scope.spawn(holds, lock, name="holder"))
        await parked(scope.spawn(wants, lock, name="first"))
        scope.spawn(explodes, scope, name="culprit")


async def echo(stream: Any) -> None:
    async with stream:
        await stream.write(await stream.read(100))


async def serve(listener: Any, scope: Any) -> None:
    async for stream in listener:
        scope.spawn(echo, stream)


async def handler(mine: Any, other: Any) -> None:
    async for _ in mine:
        for number in range(5):
            await other.send(number)


async def own_channel(scope: Any) -> list[Any]:
    tx, rx = bateau.channel.channel(2, name="C")
    await tx.send(0)
    return [scope.spawn(handler, rx, tx, name="handler")]


async def two_channels(scope: Any) -> list[Any]:
    a_tx, a_rx = bateau.channel.channel(2, name="A")
    b_tx, b_rx = bateau.channel.channel(2, name="B")
    await a_tx.send(0)
    await b_tx.send(0)
    return [scope.spawn(handler, a_rx, b_tx, name="alice"), scope.spawn(handler, b_rx, a_tx, name="bob")]


async def in_a_server(start: Any) -> None:
    async with bateau.scope(name="server") as scope:
        listener = scope.own(await bateau.net.listen_tcp("127.0.0.1", 0))
        scope.spawn(serve, listener, scope, name="accepting")
        stuck = await start(scope)
        while not all(task.waiting is not None and task.waiting.describe().startswith("send") for task in stuck):
            await bateau.time.sleep(0.001)
        tell(scope, port=listener.port)


async def callback() -> None:
    libc = ctypes.CDLL(None)

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def completes(_: Any) -> None:
        libc.usleep(100_000)  # until the loop sleeps
        future.set_result("done")  # on a thread that is not the loop's, against the rules
        print(json.dumps({"line": line_of("awaited")}), flush=True)

    future = asyncio.get_running_loop().create_future()
    thread = ctypes.c_ulong()
    libc.pthread_create(ctypes.byref(thread), None, completes, None)
    await future  # awaited


def main() -> Any:
    how = sys.argv[1]
    insight.watch(every=0.05, deadlock=0.1, lost_wakeup=0.1)  # sharper than what `bateau run` has begun
    if how in ("regex", "callback"):
        return bateau.run({"regex": regex, "callback": callback}[how])
    return bateau.run(in_a_server, {"own_channel": own_channel, "two_channels": two_channels}[how])


if __name__ == "__main__":
    main()
