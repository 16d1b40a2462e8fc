"""Tasks with nothing rare about them are read in C: the document is the same as without that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bateau.insight.memory import asyncio_tasks, bateau_tasks, read_process
from bateau.insight.memory.cache import native_part
from bateau.insight.schema import to_data

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or native_part("PlainTasks") is None, reason="needs Linux, and the native part"
)

BATEAU = """
import asyncio, time
import bateau
from bateau import sync
from bateau.channel import channel

async def step(n, event):
    if n % 4 == 0: await event.wait()
    elif n % 4 == 1: await bateau.time.sleep(3600)
    elif n % 4 == 2: await asyncio.sleep(3600)
    else: await bateau.time.sleep(float("inf"))
async def work(n, event): await step(n, event)
async def late(n): pass
async def stubborn():
    with bateau.shield(): await bateau.time.sleep(3600)
async def nested(n, event, lock):
    async with bateau.scope() as scope:
        scope.spawn(work, n, event)
        async with lock: await work(n, event)
async def reads(receiver):
    async with receiver:
        async for _ in receiver: pass

async def main():
    event, lock = sync.Event(), sync.Lock(name="the lock")
    sender, receiver = channel(2)
    async with bateau.scope() as scope:
        for n in range(400):
            scope.spawn(work, n, event)
            scope.spawn(work, n, event, name=f"named {n}" if n % 3 else None)
            if n % 10 == 0:
                scope.spawn(nested, n, event, lock)
        for _ in range(20): scope.spawn(bateau.time.sleep, 3600)
        scope.spawn(event.wait)
        scope.spawn(reads, receiver)
        scope.spawn(stubborn).cancel("because")
        await bateau.time.sleep(0.05)
        kept = [scope.spawn(late, n) for n in range(20)]
        print("ready", flush=True)
        time.sleep(1000)

bateau.run(main)
"""
ASYNCIO = """
import asyncio, time

async def step(n, event, lock, queue, future):
    if n % 5 == 0: await event.wait()
    elif n % 5 == 1: await asyncio.sleep(3600)
    elif n % 5 == 2: await queue.get()
    elif n % 5 == 3: await future
    else:
        async with lock: await asyncio.sleep(3600)
async def work(n, *others): await step(n, *others)
async def late(): pass

async def main():
    others = asyncio.Event(), asyncio.Lock(), asyncio.Queue(), asyncio.get_running_loop().create_future()
    kept = []
    for n in range(400):
        kept.append(asyncio.create_task(work(n, *others)))
        kept.append(asyncio.create_task(work(n, *others), name=f"named {n}" if n % 3 else "n\\u00e4med"))
    both = asyncio.gather(kept[1], kept[11])
    kept.append(asyncio.create_task(asyncio.wait_for(kept[5], 3600)))
    kept.append(asyncio.create_task(asyncio.wait(kept[:4])))
    await asyncio.sleep(0.05)
    kept += [asyncio.create_task(late()) for _ in range(20)]
    for one in kept[40:60]: one.cancel()
    print("ready", flush=True)
    time.sleep(1000)

asyncio.run(main())
"""


@pytest.fixture(params=["bateau", "asyncio"])
def process(request: pytest.FixtureRequest) -> Iterator[int]:
    """A program that stands still."""
    source = ASYNCIO if request.param == "asyncio" else BATEAU
    pure = "1" if request.param == "bateau on the pure kernel" else ""
    program = subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, env={**os.environ, "BATEAU_PURE": pure}
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        yield program.pid
    finally:
        program.kill()
        program.communicate()


def document(pid: int) -> dict[str, Any]:
    """What is read, without what is of the moment."""
    data = to_data(read_process(pid))
    for name in ("took", "taken_at", "exact"):
        data.pop(name, None)
    return data


# The reader is the native one; what it reads need not be laid out as that.
@pytest.mark.parametrize("process", ["bateau", "bateau on the pure kernel", "asyncio"], indirect=True)
def test_the_document_is_the_same(process: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)  # what is left of a timer depends on it
    quick = document(process)
    for module in (bateau_tasks, asyncio_tasks):
        monkeypatch.setattr(module, "native_part", lambda name: None, raising=False)
    slow = document(process)
    assert len(quick["tasks"]) > 800
    assert "gaps" not in quick
    for table in quick:
        assert quick[table] == slow[table], table
    assert json.dumps(quick) == json.dumps(slow)  # in the same order


@pytest.mark.parametrize("process", ["bateau", "bateau on the pure kernel"], indirect=True)
def test_what_is_no_async_function_is_named_after_what_was_spawned(process: int) -> None:
    names = [task.name.rpartition("-")[0] for task in read_process(process).tasks]
    assert names.count("sleep") == 20
    assert names.count("Event.wait") == 1
    assert "_awaiting" not in names


def test_most_are_read_in_c(process: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would say nothing."""
    read: list[tuple[Any, ...]] = []
    for module, name in ((bateau_tasks.BateauTasks, "_task"), (asyncio_tasks.AsyncioTasks, "_read")):
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, _plain=plain: (read.append(args), _plain(*args))[1])
    found = read_process(process)
    assert len(found.tasks) > 800
    assert len(read) < len(found.tasks)
    slowly = {args[2][10] for args in read if isinstance(args[0], bateau_tasks.BateauTasks)}
    sleepers = {task.id for task in found.tasks if task.name.startswith("sleep-")}  # spawned as `bateau.time.sleep`
    assert len(slowly & sleepers) <= 1
    for wait in (task.waits for task in found.tasks if task.waits is not None):  # 3.13.0 may look for them elsewhere
        assert {name: getattr(wait, name) for name in vars(wait)} == vars(wait)
