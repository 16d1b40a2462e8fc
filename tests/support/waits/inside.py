"""Waits on what is inside the program: clocks, tasks, primitives, channels."""

from __future__ import annotations

import threading

import bateau
from bateau import channel, sync, thread, time
from bateau.runtimes import registry
from support.waiting import until
from support.waits.table import ANYBODY, Case, World, case

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
