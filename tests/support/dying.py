"""A program that says what each of its tasks is at, and then dies in the way it is told to: the ground truth of a post-mortem.

    python dying.py HOW [RUNTIME]

The last line it prints is JSON: for each task its name, what it waits on, the line it waits at, the line that spawned it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

import bateau
from bateau.kernel.explain import all_tasks, suspended_at


def truth(root: Any) -> str:
    """What the kernel itself says."""
    found: dict[str, Any] = {}
    for task in all_tasks([root]):
        if task.ended:
            continue
        me = task is bateau.current_task()
        site = None if me else suspended_at(task)
        op = task.waiting
        found[task.name] = {
            "id": task.id,
            "running": me,
            "line": site[1] if site is not None else None,
            "spawned": task.spawn_site[1] if task.scope is not None and task.scope.name != "program" else None,
            "kind": op.resource.kind if op is not None else None,
            "name": getattr(op.resource, "name", None) if op is not None else None,
        }
    return json.dumps(found)


async def parked(task: bateau.Task[Any]) -> None:
    while task.waiting is None:
        await bateau.yield_now()


async def holds(lock: bateau.sync.Lock) -> None:
    async with lock:
        await bateau.time.sleep(1000)


async def wants(lock: bateau.sync.Lock) -> None:
    async with lock:
        raise AssertionError("it was never free")


async def outer(event: bateau.sync.Event) -> None:
    await inner(event)


async def inner(event: bateau.sync.Event) -> None:
    await event.wait()


async def fills(channel: Any) -> None:
    await channel.send(1)
    await channel.send(2)


async def joins(task: bateau.Task[Any]) -> None:
    await task


async def reads(stream: Any) -> None:
    await stream.read(1)


async def yields() -> None:
    while True:
        await bateau.yield_now()
        await bateau.time.sleep(0.001)


async def culprit(how: str, root: Any) -> None:
    request, password = "GET /", "hunter2"
    await bateau.time.sleep(0.05)
    print(truth(root), flush=True)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "exit":
        os._exit(7)
    elif how == "raise":
        raise ValueError(f"for {request}, {len(password)} characters")
    elif how == "hang":
        signal.pause()
    elif how == "memory":
        hoard = []
        while True:
            hoard.append(bytearray(b"x") * (1 << 20))
    elif how == "wait":
        await bateau.time.sleep(1000)


async def main() -> None:
    lock = bateau.sync.Lock(name="db")
    event = bateau.sync.Event(name="started")
    sender, receiver = bateau.channel.channel(1, name="jobs")
    left, right = socket.socketpair()
    stream = bateau.net.from_socket(left)
    async with bateau.scope(name="work") as scope:
        holder = scope.spawn(holds, lock, name="holder")
        await parked(holder)  # trio starts tasks in any order
        await parked(scope.spawn(wants, lock, name="first"))
        await parked(scope.spawn(wants, lock, name="second"))
        scope.spawn(outer, event)
        scope.spawn(fills, sender)
        scope.spawn(joins, holder)
        scope.spawn(reads, stream)
        if "busy" in sys.argv:
            scope.spawn(yields)
        scope.spawn(culprit, sys.argv[1], scope, name="culprit")
        await bateau.time.sleep(2000)
    del receiver, right


if __name__ == "__main__":
    bateau.run(main)
