"""trio's and bateau's tasks in an unprepared process, compared with what the process said of itself."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from bateau.insight.memory import read_process
from bateau.insight.memory.cache import native_part
from bateau.insight.model import Snapshot, Task
from support.memory_children import TRUTH, child, read_blocked

TRIO = """
import trio

async def holds(lock, event):
    async with lock: await event.wait()

async def wants(lock):
    async with lock: pass

async def send(channel):
    for n in range(10): await channel.send(n)

async def borrows(limiter):
    async with limiter: await trio.sleep_forever()

async def wants_token(limiter):
    async with limiter: pass

async def main():
    lock, event, limiter = trio.Lock(), trio.Event(), trio.CapacityLimiter(1)
    channel, _kept = trio.open_memory_channel(2)
    ours, _theirs = trio.socket.socketpair()
    async with trio.open_nursery() as nursery:
        for name, fn, *args in [("holds", holds, lock, event), ("borrows", borrows, limiter)]:
            nursery.start_soon(fn, *args, name=name)
        await trio.sleep(0.01)
        for name, fn, *args in [
            ("wants", wants, lock), ("send", send, channel), ("sleep", trio.sleep, 1000), ("token", wants_token, limiter),
            ("read", ours.recv, 10), ("thread", trio.to_thread.run_sync, time.sleep, 3), ("blocks", blocks),
        ]:
            nursery.start_soon(fn, *args, name=name)

async def blocks():
    await trio.sleep(0.05)
    me = trio.lowlevel.current_task()
    tasks = [t for t in me.parent_nursery.child_tasks if t is not me]
    tell(chains={t.name: chain(t.coro) for t in tasks})
    block()

trio.run(main)
"""

BATEAU = """
import bateau
from bateau import sync
from bateau.channel import channel
from bateau.kernel.explain import all_tasks

async def both(first, second, event):
    async with first:
        await bateau.time.sleep(0.01)
        await event.wait()
        async with second: pass

async def fill(sender):
    for n in range(10): await sender.send(n)

async def drain(receiver, event):
    await receiver.recv()
    await event.wait()

async def sleeps(): await bateau.time.sleep(1000)
async def joins(task): await task

async def blocks(scope):
    await bateau.time.sleep(0.1)
    names = {}
    for child in scope.children:
        if isinstance(child, bateau.Task) and child.name != "blocks":
            own = chain(child.coro) if child.coro is not None else []
            names[child.name] = [child.id, child.waiting.describe(), [link for link in own if link[0] in KNOWN]]
    tell(tasks=names)
    block()

KNOWN = ("both", "fill", "drain", "sleeps", "joins")

async def main():
    a, b = sync.Lock(name="A"), sync.Lock(name="B")
    event, never = sync.Event(), sync.Event(name="never")
    sender, receiver = channel(2, name="jobs")
    async with bateau.scope(name="outer") as scope:
        scope.spawn(both, a, b, event, name="a then b")
        scope.spawn(both, b, a, event, name="b then a")
        scope.spawn(fill, sender, name="fill")
        scope.spawn(drain, receiver, never, name="drain")
        task = scope.spawn(sleeps, name="sleeps")
        scope.spawn(joins, task, name="joins")
        await bateau.time.sleep(0.05)
        event.set()
        scope.spawn(blocks, scope, name="blocks", background=True)
        async with bateau.timeout(500):
            await bateau.time.sleep(400)

bateau.run(main, runtime=sys.argv[1])
"""


def site_of(program: str, text: str) -> int:
    """The line of the child's program that has ``text``."""
    lines = (TRUTH + program).splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def chains_of(snapshot: Snapshot, names: Any) -> dict[str, list[list[Any]]]:
    return {
        task.name: [[frame.function, frame.line] for frame in snapshot.stack(task.stack)]
        for task in snapshot.tasks
        if task.name in names
    }


def test_trio() -> None:
    """Also: trio's own helpers, which no program wrote, are left out."""
    pytest.importorskip("trio")
    with child(TRIO) as (pid, truth):
        snapshot = read_blocked(pid)
        assert snapshot.gaps == ()
        assert chains_of(snapshot, truth["chains"]) == truth["chains"]
        tasks = {task.name: task for task in snapshot.tasks}
        resources = {resource.id: resource for resource in snapshot.resources}

        def wait(name: str) -> Any:
            found = tasks[name].waits
            assert found is not None, name
            return found

        for name, text in {
            "holds": "wait of trio Event at",
            "wants": "acquire of trio Lock at",
            "send": "send of trio memory channel at",
            "sleep": "trio.sleep",
            "borrows": "trio.sleep_forever",
            "token": "acquire of trio CapacityLimiter at",
            "read": "descriptor ",
            "thread": "a worker thread",
            "__main__.main": "leave a trio nursery",
        }.items():
            assert wait(name).operation.startswith(text), (name, wait(name).operation)
        assert resources[wait("wants").resource].holders == (tasks["holds"].id,)
        assert resources[wait("token").resource].holders == (tasks["borrows"].id,)
        full = resources[wait("send").resource]
        assert (full.used, full.capacity) == (2, 2)
        assert 0 < wait("sleep").left < 1000
        nursery = resources[wait("__main__.main").resource]
        assert nursery.needs_all and set(nursery.satisfiers) == {
            task.id for task in snapshot.tasks if task.parent == tasks["__main__.main"].id
        }
        assert not [name for name in tasks if name.startswith("<")]
        assert {scope.task for scope in snapshot.scopes} <= {task.id for task in snapshot.tasks}
        assert tasks["blocks"].state == "running"
        assert snapshot.stack(tasks["blocks"].stack)[-1].function == "block"
        assert [runtime.library for runtime in snapshot.runtimes] == ["trio"]


@pytest.mark.parametrize("runtime", ["native", "asyncio", "uvloop", "trio"])
def test_bateau(runtime: str) -> None:
    """A deadlock of two tasks over two locks, in a program whose loop is blocked besides; on the kernel that this suite is run over."""
    if runtime in ("uvloop", "trio"):
        pytest.importorskip(runtime)
    with child(BATEAU, runtime) as (pid, truth):
        snapshot = read_blocked(pid)
        assert snapshot.gaps == ()
        for _ in range(200):
            if snapshot.exact:  # it sleeps in there: from then on nothing moves
                break
            snapshot = read_blocked(pid)
        assert snapshot.exact
        (home,) = [each for each in snapshot.runtimes if each.library == "bateau"]
        assert (home.name, home.owned) == (runtime, True)
        tasks = {task.name: task for task in snapshot.tasks if task.library == "bateau"}
        assert home.running == tasks["blocks"].id and {task.runtime for task in tasks.values()} == {home.id}
        resources = {resource.id: resource for resource in snapshot.resources}
        for name, (number, describe, chain) in truth["tasks"].items():
            task = tasks[name]
            assert (task.id, task.state) == (number, "waiting"), name
            assert task.waits is not None
            if describe.startswith(("acquire of lock", "await of")):
                assert task.waits.operation == describe
            stack = [[frame.function, frame.line] for frame in snapshot.stack(task.stack) if frame.whose == "user"]
            if chain:
                assert stack == chain

        def blocked_by(name: str) -> Any:
            wait = tasks[name].waits
            assert wait is not None and wait.resource is not None
            return resources[wait.resource]

        assert blocked_by("a then b").holders == (tasks["b then a"].id,)
        assert blocked_by("b then a").satisfiers == (tasks["a then b"].id,)
        full = blocked_by("fill")
        assert (full.name, full.used, full.capacity, full.satisfiers) == ("jobs", 2, 2, (tasks["drain"].id,))
        assert blocked_by("joins").satisfiers == (tasks["sleeps"].id,)
        sleeps = tasks["sleeps"].waits
        assert sleeps is not None and sleeps.left is not None and 0 < sleeps.left < 1000
        assert tasks["blocks"].state == "running" and tasks["blocks"].background
        assert snapshot.stack(tasks["blocks"].stack)[-1].function == "block"
        (outer,) = [scope for scope in snapshot.scopes if scope.name == "outer"]
        assert outer.children == 7 and tasks["fill"].scope == outer.id and tasks["fill"].parent == outer.task
        opened = snapshot.frame(outer.site)
        assert opened is not None and opened.line == site_of(BATEAU, "bateau.scope(")
        (timeout,) = [scope for scope in snapshot.scopes if scope.kind == "RaisingTimeout"]
        assert timeout.parent == outer.id and timeout.left is not None and 0 < timeout.left < 500
        site = snapshot.frame(tasks["fill"].spawned)
        assert site is not None and site.function == "main"


def _timeless(task: Task) -> Task:
    return replace(task, waits=task.waits and replace(task.waits, left=None), ran=task.ran and 0.0)


@pytest.mark.skipif(native_part("Window") is None, reason="nothing was compiled here")
@pytest.mark.parametrize("program", ["bateau", "trio", "asyncio"])
def test_what_is_read_in_c_is_what_python_reads(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Field by field, of a program that stands still; twice, because what C does the second time it has learnt from Python the first."""
    with child(TRIO) if program == "trio" else child(BATEAU, "native" if program == "bateau" else program) as (pid, _):
        read_blocked(pid)
        for _ in range(200):  # its other threads may still end what they do
            monkeypatch.setenv("BATEAU_PURE", "1")
            pure = read_process(pid)
            monkeypatch.setenv("BATEAU_PURE", "0")
            native = read_process(pid)
            if native.exact and pure.exact and len(native.threads) == len(pure.threads):
                break
        assert native.exact and pure.exact
        assert [*map(_timeless, native.tasks)] == [*map(_timeless, pure.tasks)]
        assert (native.frames, native.stacks, native.resources) == (pure.frames, pure.stacks, pure.resources)


ON_TRIO = """
import bateau

async def main():
    async with bateau.scope() as scope:
        scope.spawn(bateau.time.sleep, 1000, name="sleeper")
        scope.spawn(blocks, name="blocks")

async def blocks():
    await bateau.time.sleep(0.01)
    tell(ready=True)
    block()

bateau.run(main, runtime=sys.argv[1])
"""


@pytest.mark.parametrize("runtime", ["native", "trio"])
def test_tasks_that_no_program_wrote_are_not_shown_and_a_scope_says_where_it_is(runtime: str) -> None:
    with child(ON_TRIO, runtime) as (pid, _):
        snapshot = read_blocked(pid)
    assert sorted(task.name for task in snapshot.tasks) == ["blocks", "main", "sleeper"]
    assert len(snapshot.runtimes) == 1
    (main,) = [task for task in snapshot.tasks if task.name == "main"]
    assert main.waits is not None
    assert re.fullmatch(r"end of the children of scope \(<string>:\d+\)", main.waits.operation)
