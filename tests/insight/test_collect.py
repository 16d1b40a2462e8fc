"""Snapshots of real programs, on every way in, compared with what the programs know of themselves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import types
from dataclasses import replace

import pytest

import bateau
from bateau import insight
from bateau.insight import LiveReader, collect, collect_kernel, from_json, to_json
from bateau.insight.explain import explain
from bateau.insight.waitgraph import find_knots, find_timed
from support.entries import on_asyncio_family, on_native, on_trio

pytestmark = pytest.mark.real_os("another thread looks at the running program")


async def parked(*tasks):
    while not all(task.waiting is not None for task in tasks):
        await bateau.yield_now()


async def look(reader=None, want=None):
    """A snapshot taken on another thread, while the loop runs."""
    snapshot = await bateau.thread.run((reader or LiveReader()).read, want)
    assert snapshot.gaps == ()
    assert from_json(to_json(snapshot)) == snapshot
    return snapshot


def named(snapshot, name):
    return next(task for task in snapshot.tasks if task.name == name)


async def take(first, second, meet):
    async with first:
        meet.append(1)
        while len(meet) < 2:
            await bateau.yield_now()
        async with second:
            pass


@pytest.mark.law(16)
def test_two_locks_in_two_orders(entry):
    async def main():
        left, right, meet = bateau.sync.Lock(name="left"), bateau.sync.Lock(name="right"), []
        async with bateau.scope(name="both") as scope:
            a = scope.spawn(take, left, right, meet, name="a")
            b = scope.spawn(take, right, left, meet, name="b")
            await parked(a, b)
            snapshot = await look()
            scope.cancel()
        return snapshot

    snapshot = entry.run(main)
    (knot,) = find_knots(snapshot)
    assert knot.exact
    assert {task.name for task in snapshot.tasks if task.id in knot.ring} == {"a", "b"}
    assert {resource.name for resource in snapshot.resources if resource.id in knot.resources} == {"left", "right"}
    a = named(snapshot, "a")
    assert a.state == "waiting"
    assert a.waits.operation == "acquire of lock 'right' (held by task 'b', 1 waiting)"
    frame = snapshot.at(a.stack)
    assert (frame.file, frame.function) == (__file__, "take")
    assert snapshot.frame(a.spawned).file == __file__
    assert next(scope.name for scope in snapshot.scopes if scope.id == a.scope) == "both"
    text = explain(snapshot)
    assert "DEADLOCK: 2 tasks wait for each other" in text
    assert "the ring: 'a' -> lock 'right' -> 'b' -> lock 'left' -> 'a'" in text


@pytest.mark.law(16)
def test_select_timer_offload_note_and_gauge(entry):
    """One of each kind of thing, with what is said of it."""
    release = threading.Event()

    async def arms(receiver, event):
        async with bateau.Select({"item": receiver.recv, "done": event.wait}) as select:
            async for _ in select:
                insight.note("took one", number=1)

    async def main():
        event = bateau.sync.Event(name="done")
        sender, receiver = bateau.channel.channel(2, name="jobs")
        remove = insight.gauge("connections", lambda: 7)
        try:
            async with bateau.scope() as scope:
                select = scope.spawn(arms, receiver, event, name="select")
                sleeper = scope.spawn(bateau.time.sleep, 1000, name="sleeper")
                job = scope.spawn_blocking(release.wait, name="job")
                await sender.send(1)
                while receiver.statistics().items or not insight.snapshot().tasks:
                    await bateau.yield_now()
                await parked(select, sleeper, job)
                snapshot = await look()
                scope.cancel()
                release.set()
        finally:
            remove()
        return snapshot

    snapshot = entry.run(main)
    select = named(snapshot, "select")
    assert [(arm.name, arm.state, arm.last) for arm in select.waits.arms] == [
        ("item", "waiting", True),
        ("done", "waiting", False),
    ]
    assert [event.text for event in select.events] == ["took one"]
    assert 900 < named(snapshot, "sleeper").waits.left < 1000
    assert "Event.wait" in next(
        offload.what for offload in snapshot.offloads if offload.task == named(snapshot, "job").id
    )
    assert snapshot.gauges == {"connections": 7.0}
    assert any(thread.name.startswith("bateau-worker") for thread in snapshot.threads)
    assert snapshot.runtimes[0].name == entry.runtime
    assert find_knots(snapshot) == ()


def test_waiting_since_at_least_the_last_look(entry):
    async def main():
        reader = LiveReader()
        async with bateau.scope() as scope:
            waiter = scope.spawn(bateau.sync.Event().wait, name="waiter")
            await parked(waiter)
            first = await look(reader)
            await bateau.time.sleep(0.05)
            second = await look(reader)
            scope.cancel()
        return first, second

    first, second = entry.run(main)
    assert named(first, "waiter").waits.waited is None
    assert named(second, "waiter").waits.waited >= 0.05
    assert named(second, "waiter").waits.at_least


def test_on_its_own_thread_a_snapshot_is_exact(entry):
    async def main():
        return insight.snapshot()

    snapshot = entry.run(main)
    assert snapshot.exact
    assert [task.state for task in snapshot.tasks] == ["running"]


def test_memory_and_context_on_request(entry):
    from contextvars import ContextVar

    variable = ContextVar("request")

    async def main():
        variable.set("GET /")
        async with bateau.scope() as scope:
            waiter = scope.spawn(bateau.sync.Event().wait, name="waiter")
            await parked(waiter)
            snapshot = await look(want=insight.Want(memory=True, context=True))
            scope.cancel()
        return snapshot

    waiter = named(entry.run(main), "waiter")
    assert waiter.memory > 100
    assert waiter.context["request"] == "'GET /'"


@on_native
def test_while_everything_moves(entry):
    """Ten thousand steps, scopes and wakes while another thread looks again and again: no reader fails, no writer notices."""
    stop = threading.Event()
    found = []

    def keep_looking():
        reader = LiveReader()
        while not stop.is_set():
            found.append(reader.read())

    async def hop(sender, receiver):
        async with bateau.scope() as inner:
            inner.spawn(bateau.yield_now)
            await sender.send(1)
            await receiver.recv()

    async def main():
        thread = threading.Thread(target=keep_looking)
        thread.start()
        try:
            sender, receiver = bateau.channel.channel(3)
            for _ in range(60):
                async with bateau.scope() as scope:
                    for _ in range(20):
                        scope.spawn(hop, sender, receiver)
        finally:
            stop.set()
            await bateau.thread.run(thread.join)

    entry.run(main)
    assert found
    for snapshot in found:
        assert snapshot.gaps == ()
        assert not any(knot.exact for knot in find_knots(snapshot))


@on_asyncio_family
def test_asyncios_own_tasks(entry):
    """What plain asyncio code waits on, beside bateau's tasks."""

    async def take_aio(first, second, meet):
        async with first:
            meet.append(1)
            while len(meet) < 2:
                await asyncio.sleep(0)
            async with second:
                pass

    async def on(future):
        await future

    async def main():
        left, right, meet = asyncio.Lock(), asyncio.Lock(), []
        queue = asyncio.Queue(1)
        future = asyncio.get_running_loop().create_future()
        coros = {
            "a": take_aio(left, right, meet),
            "b": take_aio(right, left, meet),
            "getter": queue.get(),
            "sleeper": asyncio.sleep(500),
            "timed": asyncio.wait_for(asyncio.Event().wait(), 500),
            "future": on(future),
        }
        tasks = [asyncio.create_task(coro, name=name) for name, coro in coros.items()]
        tasks.append(asyncio.create_task(asyncio.wait([tasks[0]]), name="waits"))
        for _ in range(20):
            await asyncio.sleep(0)
        snapshot = await look()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return snapshot

    snapshot = entry.run(main)
    a, b = named(snapshot, "a"), named(snapshot, "b")
    assert a.library == "asyncio"
    (knot,) = find_knots(snapshot)
    assert knot.exact is False
    assert set(knot.ring) == {a.id, b.id}
    assert named(snapshot, "waits").id in knot.behind
    assert "acquire of asyncio Lock" in a.waits.operation
    assert snapshot.at(a.stack).function.endswith("take_aio")
    assert "get of asyncio Queue" in named(snapshot, "getter").waits.operation
    assert 400 < named(snapshot, "sleeper").waits.left <= 501  # uvloop rounds
    assert 400 < named(snapshot, "timed").waits.left <= 501  # uvloop rounds
    resources = {resource.id: resource for resource in snapshot.resources}
    assert resources[named(snapshot, "future").waits.resource].freed_by == "unknown"


@on_asyncio_family
@pytest.mark.parametrize("form", ["wait_for", "timeout"])
def test_a_ring_inside_asyncios_timeouts_is_no_deadlock(entry, form):
    async def timed(first, second, meet):
        if form == "wait_for":
            await asyncio.wait_for(take(first, second, meet), 500)
        async with asyncio.timeout(500):
            await take(first, second, meet)

    async def main():
        left, right, meet = bateau.sync.Lock(name="left"), bateau.sync.Lock(name="right"), []
        async with bateau.scope() as scope:
            scope.spawn(timed, left, right, meet, name="a")
            scope.spawn(timed, right, left, meet, name="b")
            for _ in range(100):
                await bateau.yield_now()
            snapshot = await look()
            scope.cancel()
        return snapshot

    snapshot = entry.run(main)
    assert find_knots(snapshot) == ()
    (knot,) = find_timed(snapshot)
    assert 400 < knot.until <= 501


@on_trio
def test_trios_own_tasks(entry):
    async def take_trio(first, second, meet):
        async with first:
            meet.append(1)
            while len(meet) < 2:
                await trio.sleep(0)
            async with second:
                pass

    async def main():
        left, right, meet = trio.Lock(), trio.Lock(), []
        send, receive = trio.open_memory_channel(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_trio, left, right, meet, name="a")
            nursery.start_soon(take_trio, right, left, meet, name="b")
            nursery.start_soon(receive.receive, name="receiver")
            nursery.start_soon(trio.sleep, 500, name="sleeper")
            nursery.start_soon(trio.Event().wait, name="event")
            for _ in range(20):
                await trio.sleep(0)
            snapshot = await look()
            nursery.cancel_scope.cancel()
        send.close()
        receive.close()
        return snapshot

    trio = pytest.importorskip("trio")
    snapshot = entry.run(main)
    a, b = named(snapshot, "a"), named(snapshot, "b")
    assert a.library == "trio"
    (knot,) = find_knots(snapshot)
    assert knot.exact  # trio's locks know their owner
    assert set(knot.ring) == {a.id, b.id}
    assert a.parent == named(snapshot, next(task.name for task in snapshot.tasks if task.id == a.parent)).id
    assert "receive" in named(snapshot, "receiver").waits.operation
    assert 400 < named(snapshot, "sleeper").waits.left <= 501  # uvloop rounds


def test_plain_asyncio_without_bateau_at_all():
    """A program that never touched bateau: its tasks, from another thread."""
    ready = threading.Event()
    end = []

    async def inner():
        await asyncio.Event().wait()

    async def outer():
        await inner()

    async def program():
        task = asyncio.create_task(outer(), name="outer")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        end.extend((loop, stop))
        ready.set()
        await stop.wait()
        task.cancel()

    thread = threading.Thread(target=asyncio.run, args=(program(),))
    thread.start()
    ready.wait()
    snapshot = insight.snapshot()
    end[0].call_soon_threadsafe(end[1].set)
    thread.join()
    outer_task = named(snapshot, "outer")
    functions = [frame.function.rpartition(".")[2] for frame in snapshot.stack(outer_task.stack)]
    assert functions[:3] == ["outer", "inner", "wait"]
    assert snapshot.runtimes[0].library == "asyncio"
    assert snapshot.runtimes[0].thread == thread.ident


def test_bad_names_are_refused():
    with pytest.raises(ValueError, match="needs a name"):
        insight.gauge("", lambda: 1)
    with pytest.raises(TypeError, match="must be a function"):
        insight.extend("x", 3)
    remove = insight.extend("x", dict)
    with pytest.raises(ValueError, match="already"):
        insight.extend("x", dict)
    remove()


def test_an_extension_that_fails_is_a_gap_and_no_more():
    removes = [insight.extend("bad", lambda: 1 // 0), insight.extend("good", lambda: {"a": 1})]
    try:
        snapshot = insight.snapshot()
    finally:
        for remove in removes:
            remove()
    assert snapshot.ext == {"good": {"a": 1}}
    assert any("extension 'bad' failed: ZeroDivisionError" in gap for gap in snapshot.gaps)


@pytest.mark.parametrize("deep", [1, 5, 200])
def test_stacks_are_the_same_read_in_c(deep, monkeypatch):
    """Through coroutines, generators, asynchronous generators and what only looks like them; without a frame object where it is C."""
    from bateau.insight.tables import Tables, native_stacks

    @types.coroutine
    def park():
        yield "parked"

    class Proxy:
        def __init__(self, coro):
            self.coro = coro

        @property
        def cr_frame(self):
            return self.coro.cr_frame

        @property
        def cr_await(self):
            return self.coro.cr_await

        def __await__(self):
            return self.coro.__await__()

    async def numbers():
        await park()
        yield 1

    async def through_a_generator():
        async for _ in numbers():
            pass

    async def down(left):
        await (down(left - 1) if left else park())

    async def wraps():
        await Proxy(down(2))

    async def ended():
        return

    for make in (lambda: down(deep), through_a_generator, wraps, ended):
        coro = make()
        stacks = []
        for step in range(2):
            for pure in ("1", "0"):
                monkeypatch.setenv("BATEAU_PURE", pure)
                tables = Tables()
                index = tables.stack_of(coro)
                stacks.append([tables.frames[at] for at in tables.stacks[index]] if index is not None else None)
            assert stacks[-1] == stacks[-2], make
            if step == 0:
                with contextlib.suppress(StopIteration):
                    coro.send(None)
        coro.close()
    monkeypatch.setenv("BATEAU_PURE", "0")
    reader = native_stacks()
    if reader is not None:
        coro = down(2)
        coro.send(None)
        assert reader.of(coro) == reader.of(coro) == 0 and len(reader.stacks) == 1
        assert [code.co_name for code, _ in reader.stacks[0]] == ["down", "down", "down", "park"]
        assert not [one for one in gc.get_referrers(down.__code__) if isinstance(one, types.FrameType)]
        coro.close()
        assert reader.of(coro) == -1 and reader.of(None) == -1 and reader.of(object()) == -1


@on_native
def test_many_tasks_that_wait_are_the_same_read_in_c(entry, monkeypatch):
    """More than are read at once: asleep, at an event, for a lock that somebody holds, with children, and dated at the second look."""

    async def at(event, lock, number):
        if number % 3 == 0:
            await bateau.time.sleep(1e6)
        elif number % 3 == 1:
            await event.wait()
        else:
            async with lock:
                await event.wait()

    async def above(event, lock):
        async with bateau.scope() as scope:
            for number in range(2400):
                scope.spawn(at, event, lock, number)
            await event.wait()

    async def main():
        async with bateau.scope() as scope:
            event, lock = bateau.sync.Event(), bateau.sync.Lock()
            below = [scope.spawn(above, event, lock), scope.spawn(at, event, lock, 0)]
            await parked(*below)
            for _ in range(3):
                await bateau.yield_now()
            found = []
            for pure in ("1", "0"):
                monkeypatch.setenv("BATEAU_PURE", pure)
                with monkeypatch.context() as patch:
                    if pure == "1":
                        patch.setattr(collect, "_dated", collect.dated_in_python)
                        patch.setattr(collect_kernel, "_unsteady", None)
                    reader = LiveReader()
                    found.append([reader.read(), reader.read()])
            scope.cancel()
        return found

    def timeless(task):
        wait = task.waits
        if wait is None:
            return replace(task, ran=None)
        assert wait.left is None or 9e5 < wait.left <= 1e6
        assert wait.waited is None or (wait.at_least and 0 <= wait.waited < 1000)
        return replace(task, waits=replace(wait, left=wait.left is not None, waited=wait.waited is not None))

    pure, native = entry.run(main)
    for one, other in zip(pure, native, strict=True):
        assert one.scopes == other.scopes
        assert [replace(each, held=()) for each in one.resources] == [
            replace(each, held=()) for each in other.resources
        ]
        assert list(map(timeless, one.tasks)) == list(map(timeless, other.tasks))
        assert len(other.tasks) == 2403 and not any(task.moved for task in other.tasks)
    assert sum(task.waits is not None and task.waits.at_least for task in native[1].tasks) == 2402


@on_native
def test_tasks_are_the_same_read_in_c(entry, monkeypatch):
    """Named and not, in scopes of their own, in the background, cancelled, with a priority, not begun: field by field."""

    async def inside():
        async with bateau.scope(name="inner"), bateau.move_on_after(1000):
            await bateau.time.sleep_forever()

    async def main():
        async with bateau.scope() as scope:
            tasks = [scope.spawn(inside), scope.spawn(inside, name="named"), scope.spawn(inside, background=True)]
            tasks += [scope.spawn(bateau.time.sleep_forever, priority=3), scope.spawn(bateau.sync.Event().wait)]
            await parked(*tasks)
            tasks[0].cancel("enough")
            scope.spawn(inside)
            found = []
            for pure in ("1", "0"):
                monkeypatch.setenv("BATEAU_PURE", pure)
                found.append(insight.snapshot())
            scope.cancel()
        return found

    pure, native = entry.run(main)
    assert pure.tasks == native.tasks and pure.frames == native.frames and pure.stacks == native.stacks
    assert len(native.tasks) == 7
