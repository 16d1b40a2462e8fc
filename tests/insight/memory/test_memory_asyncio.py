"""asyncio's tasks of an unprepared process, compared with what the process said of itself."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from bateau.insight.memory import read_process
from bateau.insight.model import Snapshot, Task
from support.memory_children import child, interpreters, read_blocked

PROGRAM = """
import asyncio, types

async def deep(n):
    if n: return await deep(n - 1)
    await asyncio.sleep(1000)

async def source():
    await asyncio.sleep(1000)
    yield 1

async def consume():
    async for _ in source(): pass

@types.coroutine
def old():
    yield from asyncio.sleep(1000).__await__()

class Awaitable:
    def __await__(self): return deep(1).__await__()

async def through(awaitable): await awaitable

async def holds(lock):
    async with lock:
        await asyncio.Event().wait()

async def wants(lock):
    async with lock: pass

async def group():
    async with asyncio.TaskGroup() as g:
        g.create_task(asyncio.sleep(1000), name="in the group")

async def main():
    lock, queue, full = asyncio.Lock(), asyncio.Queue(), asyncio.Queue(1)
    full.put_nowait(1)
    future = asyncio.get_running_loop().create_future()
    tasks = [asyncio.create_task(coro, name=name) for name, coro in {
        "deep": deep(40), "consume": consume(), "old": through(old()), "through": through(Awaitable()),
        "holds": holds(lock), "wants": wants(lock), "wants too": wants(lock), "get": through(queue.get()),
        "put \\u00fc\\u4e2d\\U0001f600": through(full.put(2)), "future": through(future), "group": group(),
        "gather": through(asyncio.gather(deep(0), deep(1))), "wait": through(asyncio.wait([future])),
        "thread": through(asyncio.to_thread(time.sleep, 5)),
    }.items()]
    tasks.append(asyncio.create_task(through(tasks[0]), name="awaits deep"))
    for _ in range(5): await asyncio.sleep(0.001)
    tasks.append(asyncio.create_task(deep(0), name="new"))
    truth = {t.get_name(): chain(t.get_coro()) for t in asyncio.all_tasks() if t is not asyncio.current_task()}
    tell(chains=truth)
    block()

if sys.argv[1:] == ["uvloop"]:
    import uvloop
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner: runner.run(main())
else:
    asyncio.run(main())
"""


def by_name(snapshot: Snapshot) -> dict[str, Task]:
    return {task.name: task for task in snapshot.tasks}


def chain_of(snapshot: Snapshot, task: Task) -> list[list[Any]]:
    return [[frame.function, frame.line] for frame in snapshot.stack(task.stack)]


def check(snapshot: Snapshot, truth: dict[str, Any]) -> None:
    """Every task with its whole chain, the states, and what each waits on."""
    tasks = by_name(snapshot)
    read = {name: chain_of(snapshot, task) for name, task in tasks.items() if task.state != "running"}
    assert read == truth["chains"]
    running = [task for task in snapshot.tasks if task.state == "running"]
    assert [frame.function for frame in snapshot.stack(running[0].stack)] == ["main", "block"]
    assert tasks["new"].state == "new"
    for name, text in {
        "deep": "asyncio.sleep",
        "get": "get of asyncio Queue at",
        "put ü中😀": "put of asyncio Queue at",
        "wants": "acquire of asyncio Lock at",
        "holds": "wait of asyncio Event at",
        "future": "an asyncio future",
        "group": "leave an asyncio task group",
        "gather": "asyncio.gather",
        "wait": "asyncio.wait",
        "thread": "a worker thread",
        "awaits deep": "the end of task 'deep'",
    }.items():
        wait = tasks[name].waits
        assert wait is not None, name
        assert wait.operation.startswith(text), (name, wait.operation)
    assert tasks["in the group"].parent == tasks["group"].id


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_every_task_of_a_blocked_loop(loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with child(PROGRAM, *([loop] if loop == "uvloop" else [])) as (pid, truth):
        snapshot = read_blocked(pid)
        assert snapshot.gaps == ()
        check(snapshot, truth)
        assert [(runtime.name, runtime.library) for runtime in snapshot.runtimes] == [(loop, "asyncio")]
        assert snapshot.runtimes[0].thread == next(thread.id for thread in snapshot.threads if thread.runtime)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14", "3.15"])
def test_an_interpreter_of_another_version(version: str) -> None:
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip("the other tests are about this one")
    python = interpreters().get(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    with child(PROGRAM, python=python) as (pid, truth):
        snapshot = read_blocked(pid)
        assert snapshot.process.python.startswith(version)
        assert snapshot.gaps == ()
        check(snapshot, truth)


def test_who_holds_what_and_how_long_a_sleep_lasts() -> None:
    with child(PROGRAM) as (pid, _):
        snapshot = read_blocked(pid)
        tasks = by_name(snapshot)
        resources = {resource.id: resource for resource in snapshot.resources}
        wait = tasks["wants"].waits
        assert wait is not None and wait.resource is not None and wait.foreign
        lock = resources[wait.resource]
        assert lock.holders == lock.satisfiers == (tasks["holds"].id,)
        assert set(lock.waiters) == {tasks["wants"].id, tasks["wants too"].id}
        sleep = tasks["deep"].waits
        assert sleep is not None and sleep.left is not None and 0 < sleep.left < 1000
        put = tasks["put ü中😀"].waits
        assert put is not None and put.resource is not None
        assert (resources[put.resource].used, resources[put.resource].capacity) == (1, 1)
        awaits = tasks["awaits deep"].waits
        assert awaits is not None and awaits.resource is not None
        assert resources[awaits.resource].satisfiers == (tasks["deep"].id,)


def test_tasks_written_in_python_and_eager_ones() -> None:
    program = """
import asyncio

class Mine(asyncio.tasks._PyTask):
    pass

async def inner(): await asyncio.sleep(1000)
async def outer(): await inner()

async def main():
    loop = asyncio.get_running_loop()
    kept = [Mine(outer(), loop=loop, name="written in Python")]
    if sys.version_info >= (3, 12):
        kept.append(asyncio.eager_task_factory(loop, outer(), name="eager"))
    await asyncio.sleep(0.01)
    tell(chains={t.get_name(): chain(t.get_coro()) for t in kept})
    block()

asyncio.run(main())
"""
    with child(program) as (pid, truth):
        snapshot = read_blocked(pid)
        tasks = by_name(snapshot)
        for name, chain in truth["chains"].items():
            assert chain_of(snapshot, tasks[name]) == chain
            assert tasks[name].state == "waiting"


def test_while_a_regular_expression_holds_the_gil() -> None:
    program = """
import asyncio, re

def evil():
    re.match(r"(a+)+$", "a" * 60 + "b")

async def waits(): await asyncio.sleep(1000)
async def blocks(): evil()

async def main():
    kept = [asyncio.create_task(waits(), name="waits")]
    await asyncio.sleep(0.01)
    kept.append(asyncio.create_task(blocks(), name="blocks"))
    tell()
    await asyncio.sleep(1000)

asyncio.run(main())
"""
    with child(program) as (pid, _):
        deadline = time.monotonic() + 30
        while True:
            snapshot = read_process(pid)
            tasks = by_name(snapshot)
            if "blocks" in tasks and tasks["blocks"].state == "running":
                functions = [frame.function for frame in snapshot.stack(tasks["blocks"].stack)]
                if functions[:2] == ["blocks", "evil"] and "match" in functions:
                    break
            assert time.monotonic() < deadline
        assert tasks["waits"].state == "waiting"
        thread = snapshot.threads[0]
        assert [frame.function for frame in snapshot.stack(thread.stack)][-3:] == ["blocks", "evil", "match"]


def test_a_process_that_goes_on_meanwhile() -> None:
    program = """
import asyncio

async def leaf(n): await asyncio.sleep(0)
async def one(n):
    for _ in range(n % 7): await leaf(n)

async def main():
    tell()
    n = 0
    while True:
        n += 1
        await asyncio.gather(*(one(k) for k in range(50)), return_exceptions=True)

asyncio.run(main())
"""
    with child(program) as (pid, _):
        known = {"main", "one", "leaf", "sleep", "__sleep0"}
        seen = 0
        for _ in range(15):
            snapshot = read_process(pid)
            for task in snapshot.tasks:
                functions = {frame.function for frame in snapshot.stack(task.stack)}
                seen += bool(functions & known)
                assert task.state in ("new", "ready", "running", "waiting", "unknown")
        assert seen


def test_py_spy_sees_the_same_threads() -> None:
    import json
    import os
    import subprocess

    spy = os.path.join(os.path.dirname(sys.executable), "py-spy")
    if not os.path.exists(spy):
        pytest.skip("py-spy is not installed here")
    with child(PROGRAM) as (pid, _):
        answer = subprocess.run([spy, "dump", "--json", "--pid", str(pid)], capture_output=True, text=True, timeout=60)
        if answer.returncode:
            pytest.skip(f"py-spy could not read it: {answer.stderr}")
        theirs = {
            thread["os_thread_id"]: [frame["line"] for frame in reversed(thread["frames"])]
            for thread in json.loads(answer.stdout)
        }
        snapshot = read_blocked(pid)
        ours = {thread.native_id: [frame.line for frame in snapshot.stack(thread.stack)] for thread in snapshot.threads}
        assert ours == theirs
