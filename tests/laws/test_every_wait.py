"""Law 16: every wait is on a named resource that knows its waiters, its holders and who could satisfy it.

One table holds every waiting call of the public library. Each is parked for real, then asked. A second test goes over all the
classes of operations that the library has and finds those that the table forgot.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import re
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

import bateau
from bateau import channel, io, net, subprocess, sync, thread, time
from bateau.io.fd import FdWatch
from bateau.kernel.operation import Operation
from bateau.runtimes import registry
from support.entries import Entry
from support.modules import importable
from support.waiting import until

Names = list[str] | Literal["outside"]
ANYBODY: Any = None  # depends on who has used it so far; not checked


@dataclass
class Case:
    """A wait of the task `waiter`, and what it must answer."""

    wait: Callable[[], Awaitable[Any]]
    describe: str  # a regular expression for the operation's own line
    satisfiers: Names = "outside"
    holders: list[str] = field(default_factory=list)
    # Clocks and the like have too many waiters to keep a list of their own.
    knows_waiters: bool = True


Setup = Callable[["World"], Awaitable[Case]]
TABLE: dict[str, Setup] = {}


def case(fn: Setup) -> Setup:
    TABLE[fn.__name__] = fn
    return fn


class World:
    """What a case is made in: `holder` tasks that sit on things, and things that are closed at the end."""

    def __init__(self, scope: bateau.Scope, stack: AsyncExitStack) -> None:
        self.scope = scope
        self.stack = stack

    async def task(self, fn: Callable[[], Awaitable[Any]], name: str = "holder") -> bateau.Task[Any]:
        """A task that does `fn` and then stays."""
        done = False

        async def stay() -> None:
            nonlocal done
            await fn()
            done = True
            await time.sleep_forever()

        task = self.scope.spawn(stay, name=name)
        await until(lambda: done)
        return task

    async def open(self, manager: Any) -> Any:
        return await self.stack.enter_async_context(manager)


# -- time ------------------------------------------------------------------------------------------------------------------


@case
async def sleep(world: World) -> Case:
    return Case(lambda: time.sleep(60), r"^sleep of 60 s", knows_waiters=False)


@case
async def sleep_until(world: World) -> Case:
    return Case(lambda: time.sleep_until(bateau.now() + 60), r"sleep", knows_waiters=False)


@case
async def sleep_forever(world: World) -> Case:
    return Case(time.sleep_forever, r"^sleep_forever", satisfiers=[], knows_waiters=False)


@case
async def interval(world: World) -> Case:
    ticks = time.interval(60, start=bateau.now() + 60)
    return Case(lambda: ticks.tick(), r"interval.*60", knows_waiters=False)


# -- tasks -----------------------------------------------------------------------------------------------------------------


async def nothing() -> None:
    await bateau.checkpoint()


@case
async def join_task(world: World) -> Case:
    other = await world.task(nothing, "other")

    async def wait() -> None:
        await other

    return Case(wait, r"task 'other'", ["other"])


@case
async def scope_end(world: World) -> Case:
    async def wait() -> None:
        async with bateau.scope(name="inner") as scope:
            scope.spawn(time.sleep_forever, name="child")

    return Case(wait, r"scope 'inner'", ["child"])


@case
async def start(world: World) -> Case:
    async def slow(*, task_status: bateau.Starting[int]) -> None:
        await time.sleep_forever()

    async def wait() -> None:
        async with bateau.scope(name="inner") as scope:
            await scope.start(slow, name="server")

    return Case(wait, r"^wait for the start of task 'server'", ["server"])


@case
async def token(world: World) -> Case:
    found = bateau.token(name="shutdown")
    return Case(lambda: found.wait(), r"token 'shutdown'")


@case
async def scope_limit(world: World) -> Case:
    """A full scope keeps its children waiting, not whoever spawns."""

    async def wait() -> None:
        async with bateau.scope(name="inner", limit=1) as scope:
            scope.spawn(time.sleep_forever, name="first")
            scope.spawn(nothing, name="second")

    return Case(wait, r"scope 'inner'", ["first", "second"])


@case
async def cross_task(world: World) -> Case:
    rt = registry.get("native")
    other = type(rt)()
    begun, end = threading.Event(), threading.Event()

    async def main() -> None:
        async with bateau.scope() as scope:
            begun.set()
            await thread.run(end.wait)
            scope.cancel()

    worker = threading.Thread(target=other.run, args=(main,))
    worker.start()
    world.stack.callback(worker.join)
    world.stack.callback(end.set)
    await until(begun.is_set)
    cross = other.spawn(time.sleep_forever, name="far")
    world.stack.callback(cross.cancel)
    return Case(lambda: cross, r"^await of task of another runtime 'far'")


# -- sync ------------------------------------------------------------------------------------------------------------------


@case
async def lock(world: World) -> Case:
    it = sync.Lock(name="it")
    await world.task(it.acquire)
    return Case(it.acquire, r"lock 'it'.*held by", ["holder"], ["holder"])


@case
async def lock_ticket(world: World) -> Case:
    it = sync.Lock(name="it")
    await world.task(it.acquire)
    ticket = it.ticket()
    world.stack.callback(ticket.close)
    return Case(ticket.acquire, r"lock 'it'", ["holder"], ["holder"])


@case
async def semaphore(world: World) -> Case:
    it = sync.Semaphore(1, name="it")
    await world.task(it.acquire)
    return Case(it.acquire, r"semaphore 'it'", ["holder"], ["holder"])


@case
async def rwlock_read(world: World) -> Case:
    it = sync.RWLock(name="it")
    await world.task(it.acquire_write)
    return Case(it.acquire_read, r"'it'", ["holder"], ["holder"])


@case
async def rwlock_write(world: World) -> Case:
    it = sync.RWLock(name="it")
    await world.task(it.acquire_read)
    return Case(it.acquire_write, r"'it'", ["holder"], ["holder"])


@case
async def limiter(world: World) -> Case:
    it = sync.Limiter(1, name="it")
    await world.task(it.acquire)
    return Case(it.acquire, r"limiter 'it'", ["holder"], ["holder"])


@case
async def condition(world: World) -> Case:
    it = sync.Condition(name="it")

    async def wait() -> None:
        async with it:
            await it.wait()

    return Case(wait, r"condition 'it'", [])


@case
async def condition_reacquire(world: World) -> Case:
    """Notified, and waiting for the lock again."""
    it = sync.Condition(name="it")
    waiting = False

    async def wait() -> None:
        nonlocal waiting
        async with it:
            waiting = True
            await it.wait()

    async def notify() -> None:
        await until(lambda: waiting)
        async with it:
            it.notify()
            await time.sleep_forever()

    world.scope.spawn(notify, name="holder")
    return Case(wait, r"'it'", ["holder"], ["holder"])


@case
async def event(world: World) -> Case:
    return Case(sync.Event(name="it").wait, r"event 'it'", [])


@case
async def barrier(world: World) -> Case:
    return Case(sync.Barrier(2, name="it").wait, r"barrier 'it' \(1/2", [])


@case
async def notify(world: World) -> Case:
    return Case(sync.Notify(name="it").wait, r"notify 'it'", [])


@case
async def once_set(world: World) -> Case:
    return Case(sync.Once(name="it").wait, r"once 'it'", [])


@case
async def once_run(world: World) -> Case:
    it = sync.Once[None](name="it")
    world.scope.spawn(it.run, time.sleep_forever, name="holder")
    await bateau.yield_now()
    await bateau.yield_now()
    return Case(lambda: it.run(time.sleep_forever), r"once 'it'", ["holder"], ["holder"])


@case
async def once_map(world: World) -> Case:
    async def compute(key: str) -> None:
        await time.sleep_forever()

    it = sync.OnceMap(world.scope, compute, name="it")
    return Case(lambda: it.get("key"), r"^get of 'key' from once map 'it'", ["it['key']"], ["it['key']"])


# -- channels --------------------------------------------------------------------------------------------------------------


@case
async def send(world: World) -> Case:
    tx, rx = channel.channel[int](1, name="it")
    world.stack.callback(rx.close)
    world.stack.callback(tx.close)
    await tx.send(1)
    await world.task(lambda: rx.recv(), "reader")
    await tx.send(2)
    return Case(lambda: tx.send(3), r"channel 'it' \(1/1", ["reader"])


@case
async def receive(world: World) -> Case:
    tx, rx = channel.channel[int](2, name="it")
    world.stack.callback(rx.close)
    world.stack.callback(tx.close)
    await world.task(lambda: tx.send(1), "writer")
    await rx.recv()
    return Case(lambda: rx.recv(), r"channel 'it' \(0/2", ["writer"])


@case
async def oneshot(world: World) -> Case:
    tx, rx = channel.oneshot[int](name="it")
    world.stack.callback(tx.close)
    world.stack.callback(rx.close)
    return Case(lambda: rx.recv(), r"oneshot.* 'it'", ANYBODY)


@case
async def broadcast_send(world: World) -> Case:
    tx, rx = channel.broadcast[int](1, name="it", lag="wait")
    world.stack.callback(tx.close)
    world.stack.callback(rx.close)
    await tx.send(1)
    return Case(lambda: tx.send(2), r"broadcast.* 'it'", ANYBODY)


@case
async def broadcast_receive(world: World) -> Case:
    tx, rx = channel.broadcast[int](1, name="it")
    world.stack.callback(tx.close)
    world.stack.callback(rx.close)
    return Case(lambda: rx.recv(), r"broadcast.* 'it'", ANYBODY)


@case
async def watch_changed(world: World) -> Case:
    tx, rx = channel.watch(0, name="it")
    world.stack.callback(tx.close)
    world.stack.callback(rx.close)
    return Case(lambda: rx.changed(), r"watch.* 'it'", ANYBODY)


@case
async def watch_next(world: World) -> Case:
    tx, rx = channel.watch(0, name="it")
    world.stack.callback(tx.close)
    world.stack.callback(rx.close)

    async def wait() -> None:
        async for _ in rx:
            pass

    return Case(wait, r"watch.* 'it'", ANYBODY)


@case
async def watch_for(world: World) -> Case:
    tx, rx = channel.watch(0, name="it")
    world.stack.callback(tx.close)
    world.stack.callback(rx.close)
    return Case(lambda: rx.wait_for(bool), r"watch.* 'it'", ANYBODY)


# -- select ----------------------------------------------------------------------------------------------------------------


@case
async def select(world: World) -> Case:
    tx, rx = channel.channel[int](1, name="it")
    world.stack.callback(rx.close)
    world.stack.callback(tx.close)

    async def wait() -> None:
        async with bateau.select(item=rx.recv(), limit=time.sleep(60)) as arms:
            async for _ in arms:
                pass

    return Case(wait, r"(?s)select.*item.*limit")


# -- streams ---------------------------------------------------------------------------------------------------------------


@case
async def pipe_read(world: World) -> Case:
    a, _b = io.duplex(8, name="it")
    return Case(lambda: a.read(1), r"^read of duplex pipe 'it b->a'", ANYBODY)


@case
async def pipe_write(world: World) -> Case:
    a, _b = io.duplex(8, name="it")
    return Case(lambda: a.write(b"x" * 100), r"^write of 100 bytes to duplex pipe 'it a->b'", ANYBODY)


@case
async def pipe_ready(world: World) -> Case:
    a, _b = io.duplex(8, name="it")
    return Case(lambda: a.ready(io.READ), r"^readiness of duplex pipe 'it b->a'", ANYBODY)


@case
async def half_write(world: World) -> Case:
    """A cloned sender waits for the one that is writing."""
    a, _b = io.duplex(8, name="it")
    _reader, writer = io.split(a)
    clone = writer.clone()
    world.scope.spawn(writer.write, b"x" * 100, name="holder")
    await bateau.yield_now()
    await bateau.yield_now()
    await bateau.yield_now()
    return Case(
        lambda: clone.write(b"y"),
        r"^wait for a turn at the sending half of duplex stream 'it a'",
        ["holder"],
        ["holder"],
    )


async def connected(world: World) -> tuple[Any, Any]:
    listener = await world.open(await net.listen_tcp("127.0.0.1", 0))
    client = await world.open(await net.connect_tcp("127.0.0.1", listener.port))
    server = await world.open(await listener.accept())
    return client, server


@case
async def tcp_read(world: World) -> Case:
    client, _server = await connected(world)
    return Case(lambda: client.read(1), r"read.*127\.0\.0\.1")


@case
async def tcp_write(world: World) -> Case:
    client, _server = await connected(world)
    return Case(lambda: client.write(bytes(50_000_000)), r"(write|send).*127\.0\.0\.1")


@case
async def tcp_ready(world: World) -> Case:
    client, _server = await connected(world)
    return Case(lambda: client.ready(io.READ), r"127\.0\.0\.1")


@case
async def tcp_accept(world: World) -> Case:
    listener = await world.open(await net.listen_tcp("127.0.0.1", 0))
    return Case(lambda: listener.accept(), r"accept.*127\.0\.0\.1")


@case
async def tcp_next_connection(world: World) -> Case:
    listener = await world.open(await net.listen_tcp("127.0.0.1", 0))

    async def wait() -> None:
        async for _ in listener:
            pass

    return Case(wait, r"accept.*127\.0\.0\.1")


@case
async def udp_receive(world: World) -> Case:
    udp = await world.open(await net.udp(("127.0.0.1", 0)))
    return Case(lambda: udp.recvfrom(), r"127\.0\.0\.1")


async def crowded(world: World) -> int:
    """The port of a server whose backlog is full: it answers nobody."""
    plain = socket.socket()
    world.stack.callback(plain.close)
    plain.bind(("127.0.0.1", 0))
    plain.listen(0)
    fill = [socket.socket() for _ in range(4)]
    for one in fill:
        world.stack.callback(one.close)
        one.setblocking(False)
        one.connect_ex(plain.getsockname())
    await time.sleep(0.02)
    return int(plain.getsockname()[1])


@case
async def tcp_connect(world: World) -> Case:
    port = await crowded(world)

    async def wait() -> None:
        stream = await net.connect_tcp("127.0.0.1", port)
        stream.close()

    return Case(wait, r"connection to 127\.0\.0\.1:\d+")


@case
async def tcp_connect_from_an_address(world: World) -> Case:
    port = await crowded(world)

    async def wait() -> None:
        stream = await net.connect_tcp("127.0.0.1", port, local_address="127.0.0.1")
        stream.close()

    return Case(wait, r"connection to 127\.0\.0\.1:\d+")


@case
async def fd_ready(world: World) -> Case:
    a, b = socket.socketpair()
    world.stack.callback(a.close)
    world.stack.callback(b.close)
    watch = FdWatch(a.fileno())
    world.stack.callback(watch.close)
    return Case(lambda: watch.readable(), r"readability of fd \d+")


# -- outside ---------------------------------------------------------------------------------------------------------------


@case
async def worker_thread(world: World) -> Case:
    end = threading.Event()
    world.stack.callback(end.set)

    def work() -> None:
        end.wait()

    async def wait() -> None:
        await thread.run(work, abandon_on_cancel=True)

    return Case(wait, r"thread.*work|work.*thread")


@case
async def future(world: World) -> Case:
    inner: concurrent.futures.Future[int] = concurrent.futures.Future()
    return Case(lambda: thread.wrap_future(inner).wait(), r"future")


@case
async def callback(world: World) -> Case:
    it = thread.CallbackFuture[int](name="it")
    return Case(lambda: it.wait(), rf"await of callback future 'it' \(made at {__file__}:\d+\)")


@case
async def signals(world: World) -> Case:
    stream = await world.open(bateau.signal.open(signal.SIGUSR2))
    return Case(lambda: stream.wait(), r"SIGUSR2")


async def sleeper(world: World) -> subprocess.Process:
    process: subprocess.Process = await world.open(
        subprocess.open_process(["sleep", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    world.stack.callback(process.kill)
    return process


@case
async def process_exit(world: World) -> Case:
    process = await sleeper(world)
    return Case(lambda: process.wait(), r"process.*sleep")


@case
async def process_read(world: World) -> Case:
    process = await sleeper(world)
    assert process.stdout is not None
    out = process.stdout
    return Case(lambda: out.read(1), r"stdout")


@case
async def process_write(world: World) -> Case:
    process = await sleeper(world)
    assert process.stdin is not None
    into = process.stdin
    return Case(lambda: into.write(bytes(10_000_000)), r"stdin")


# -- the same in other forms -------------------------------------------------------------------------------------------------


def iterating(source: Any) -> Callable[[], Awaitable[Any]]:
    async def wait() -> None:
        async for _ in source:
            pass

    return wait


@case
async def receive_loop(world: World) -> Case:
    tx, rx = channel.channel[int](2, name="it")
    world.stack.callback(rx.close)
    world.stack.callback(tx.close)
    return Case(iterating(rx), r"channel 'it' \(0/2", ANYBODY)


@case
async def broadcast_loop(world: World) -> Case:
    tx, rx = channel.broadcast[int](1, name="it")
    world.stack.callback(tx.close)
    world.stack.callback(rx.close)
    return Case(iterating(rx), r"broadcast 'it'", ANYBODY)


@case
async def signals_loop(world: World) -> Case:
    return Case(iterating(await world.open(bateau.signal.open(signal.SIGUSR2))), r"SIGUSR2")


@case
async def semaphore_ticket(world: World) -> Case:
    it = sync.Semaphore(1, name="it")
    await world.task(it.acquire)
    ticket = it.ticket()
    world.stack.callback(ticket.close)
    return Case(ticket.acquire, r"semaphore 'it'", ["holder"], ["holder"])


@case
async def tcp_readinto(world: World) -> Case:
    client, _server = await connected(world)
    return Case(lambda: client.readinto(bytearray(1)), r"read.*127\.0\.0\.1")


@case
async def udp_loop(world: World) -> Case:
    return Case(iterating(await world.open(await net.udp(("127.0.0.1", 0)))), r"127\.0\.0\.1")


@case
async def udp_receive_from_one(world: World) -> Case:
    udp = await world.open(await net.udp(("127.0.0.1", 0), ("127.0.0.1", 9)))
    return Case(lambda: udp.recv(), r"127\.0\.0\.1")


# -- the tests -------------------------------------------------------------------------------------------------------------


def named(tasks: Iterable[bateau.Task[Any]]) -> list[str]:
    return sorted(task.name for task in tasks)


async def parked(setup: Setup) -> Operation[Any]:
    """Park the case's wait, check what it answers, and end it."""
    async with AsyncExitStack() as stack, bateau.scope() as scope:
        case = await setup(World(scope, stack))

        async def wait() -> None:
            await case.wait()

        task = scope.spawn(wait, name="waiter")
        with bateau.timeout(10):
            while True:
                await time.sleep(0.002)
                op = task.waiting
                as_told = op is not None and re.search(case.describe, op.describe())
                if op is not None and as_told and case.holders == named(op.resource.holders()):
                    break
                assert not task.ended, task.outcome()
        satisfiers = op.resource.satisfiers()
        if case.satisfiers is not None:
            assert (satisfiers if isinstance(satisfiers, str) else named(satisfiers)) == case.satisfiers
        assert named(op.resource.holders()) == case.holders
        assert op.resource.describe()
        assert " object at " not in op.describe()
        if case.knows_waiters:
            assert op in list(op.resource.waiters())
        scope.cancel()
    return op


@pytest.mark.law(16)
@pytest.mark.parametrize("name", TABLE)
def test_a_parked_wait_names_its_resource_and_who_could_end_it(entry: Entry, name: str) -> None:
    if entry.runtime == "sim" and name.startswith("process_"):
        pytest.skip("a simulated world has no child processes")

    async def main() -> None:
        await parked(TABLE[name])

    entry.run(main)


# Operations that a task is never seen parked in, or only in states that a test can't hold still. Each of the latter is the
# sibling of one that is in the table, and describes itself by the same base class.
NEVER_PARKED = {
    "Checkpoint": "it yields, but waits for nothing",
    "YieldNow": "it yields, but waits for nothing",
    "_FutureJoin": "a callback, not a task",
    "Passage": "on the pure kernel, which waits by Drain; on the native one it is in the table",
    "ShieldedJoin": "like Join, in a scope that is being left",
    "_Reacquire": "like the lock's own acquire, after a cancellation",
    "SendDatagram": "a datagram waits only while the card's queue is full",
    "_WriteEof": "behind a write that is parked, which is in the table",
    "SendFile": "like a write to a full socket",
    "SendFds": "like a write to a full socket",
    "RecvFds": "like a read",
    "_PlainWait": "the wait of a plain thread",
    "_ThreadWait": "the wait of a plain thread",
}


def operations() -> Iterator[type]:
    """Every class of operations in the library that is not the base of another."""
    for name in importable():
        if not name.endswith("__main__") and not name.startswith(("bateau.testing", "bateau.cli")):
            importlib.import_module(name)
    todo = [Operation]
    for kind in todo:
        below = kind.__subclasses__()
        todo.extend(below)
        # Those of pipelines, most of them waits of their background tasks, are in tests/iter/test_every_wait.py; on those of the anyio
        # backend anyio's own suite waits.
        elsewhere = kind.__module__.startswith(("bateau.iter.", "bateau.interop.anyio."))
        if not below and kind.__module__.startswith("bateau.") and not elsewhere:
            yield kind


@pytest.mark.law(16)
def test_the_table_forgets_no_operation() -> None:
    async def main() -> set[type]:
        seen: set[type] = set()
        for setup in TABLE.values():
            seen.update(type(await parked(setup)).__mro__)
        return seen

    seen = bateau.run(main, runtime="native")
    forgotten = {f"{kind.__module__}.{kind.__qualname__}" for kind in operations() if kind not in seen}
    assert {name for name in forgotten if name.rpartition(".")[2] not in NEVER_PARKED} == set()
