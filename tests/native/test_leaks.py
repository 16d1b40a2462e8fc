"""Each thing the C twin does, done ten thousand times: no reference and no object is left over."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

import bateau
import bateau.time
from bateau import insight
from bateau.channel import channel
from bateau.kernel import twin
from bateau.sync import AbandonedLock, Condition, Event, Lock, OwnershipError, Semaphore

pytestmark = pytest.mark.skipif(twin.native is None, reason="the kernel is pure here")

ROUNDS = 10_000
# What the interpreter itself may keep meanwhile: free lists, caches, the counters' own integers.
SLACK = 400


async def nothing() -> None:
    """Ends at once."""


async def yielding():
    await bateau.yield_now()
    await bateau.checkpoint()


async def spawning():
    async with bateau.scope() as scope:
        scope.spawn(nothing)
        scope.spawn(yielding, name="named")


async def joining():
    async with bateau.scope() as scope:
        assert await scope.spawn(answer) == 42


async def answer() -> int:
    return 42


async def failing():
    async def fail():
        raise ValueError

    try:
        async with bateau.scope() as scope:
            scope.spawn(fail)
    except* ValueError:
        pass


async def cancelling():
    async with bateau.scope() as scope:
        scope.spawn(bateau.time.sleep, 100)
        await bateau.yield_now()
        scope.cancel()


async def timing():
    with bateau.timeout(100):
        await bateau.yield_now()
    with bateau.move_on_after(100), bateau.shield():
        await bateau.checkpoint()


async def expiring():
    with bateau.move_on_after(0):
        await bateau.time.sleep(1)
    try:
        with bateau.timeout(0):
            await bateau.checkpoint()
    except TimeoutError:
        pass


async def sleeping():
    await bateau.time.sleep(1e-9)
    await bateau.time.sleep(0)


async def sending():
    tx, rx = channel(1)
    await tx.send(1)
    assert await rx.recv() == 1
    async with bateau.scope() as scope:
        scope.spawn(rx.recv)
        await bateau.yield_now()
        await tx.send(2)
    async with bateau.scope() as scope:
        scope.spawn(rx.recv)
        await bateau.yield_now()
        scope.cancel()
    tx.close()
    async for _ in rx:
        pass
    rx.close()


async def event():
    flag = Event()
    flag.set()
    assert await flag.wait() is True and flag.is_set()
    flag.clear()
    async with bateau.scope() as scope:
        scope.spawn(flag.wait)
        await bateau.yield_now()
        flag.set()
    flag.clear()
    async with bateau.scope() as scope:
        scope.spawn(flag.wait)
        await bateau.yield_now()
        scope.cancel()


async def lock():
    lock = Lock()
    async with lock:
        pass
    assert await lock.acquire() is True
    lock.release()
    with pytest.raises(OwnershipError):
        lock.release()


async def contended_lock():
    lock = Lock()

    async def contend():
        async with lock:
            await bateau.yield_now()

    async with bateau.scope() as scope:
        for _ in range(3):
            scope.spawn(contend)
        await bateau.yield_now()
        scope.spawn(contend).cancel()
    async with bateau.scope() as scope:
        scope.spawn(lock.acquire)  # which never releases it
        await bateau.yield_now()
        with pytest.raises(AbandonedLock):
            await lock.acquire()


async def semaphore():
    permits = Semaphore(2)
    async with permits:
        await permits.acquire()
        async with bateau.scope() as scope:
            scope.spawn(permits.acquire)
            scope.spawn(permits.acquire)
            await bateau.yield_now()
            permits.release(2)
    permits.release()


async def condition():
    changed = Condition()

    async def waiting():
        async with changed:
            await changed.wait()

    async with bateau.scope() as scope:
        for _ in range(3):
            scope.spawn(waiting)
        await bateau.yield_now()
        async with changed:
            changed.notify()
            changed.notify_all()
    async with bateau.scope() as scope:
        scope.spawn(waiting)
        await bateau.yield_now()
        scope.cancel()
    with pytest.raises(OwnershipError):
        await changed.wait()


async def throwing():
    """An exception thrown into an operation where it is suspended; a coroutine closed there."""
    wait = bateau.yield_now().__await__()
    assert next(wait) is None
    with pytest.raises(KeyError):
        wait.throw(KeyError("here"))
    done = bateau.yield_now().__await__()
    next(done)
    done.close()


async def misusing():
    once = bateau.yield_now()
    await once
    try:
        await once
    except RuntimeError:
        pass
    try:
        (await bateau.time.sleep(-1))
    except ValueError:
        pass


CASES = [
    yielding, spawning, joining, failing, cancelling, timing, expiring, sleeping, sending, throwing, misusing,
    event, lock, contended_lock, semaphore, condition,
]  # fmt: skip
SLOW = {failing, cancelling, sending, expiring, joining, event, contended_lock, semaphore, condition}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_nothing_is_left_over(case):
    rounds = ROUNDS // 5 if case in SLOW else ROUNDS

    async def main():
        async def some(n):
            for _ in range(n):
                await case()

        await some(200)
        gc.collect()
        refs, blocks = sys.getrefcount(None), sys.getallocatedblocks()
        await some(rounds)
        gc.collect()
        more = sys.getallocatedblocks() - blocks
        assert more < SLACK, f"{more} blocks of memory left over by {rounds} rounds"
        if sys.version_info < (3, 12):  # from there on None's count does not change
            more = abs(sys.getrefcount(None) - refs)
            assert more < SLACK, f"None's references differ by {more} after {rounds} rounds"

    bateau.run(main)


def test_an_engine_that_ends_with_parked_tasks_is_freed():
    """Tasks that are alive are out of the collector's lists; an engine that closes puts them back."""
    import weakref

    class Mark:
        """Can be referred to weakly."""

    found = []

    async def program():
        mark = Mark()
        found.append(weakref.ref(mark))

        async def hold(it):
            await bateau.time.sleep(1000)
            return it

        async with bateau.scope() as scope:
            scope.spawn(hold, mark)
            await bateau.yield_now()
            del mark
            raise SystemExit

    for _ in range(3):
        with pytest.raises(SystemExit):
            bateau.run(program)
    gc.collect()
    assert [ref() for ref in found] == [None] * 3


def test_a_run_leaves_nothing_of_its_engine():
    """Operations that are part of cycles (the arms of a select, what a traceback's frames hold) are the collector's to find."""
    engines = []

    async def arms(receiver, event):
        async with bateau.Select({"item": receiver.recv, "done": event.wait}) as select:
            async for _ in select:
                pass

    async def main():
        engines.append(weakref.ref(bateau.current_task().host))
        event = bateau.sync.Event()
        sender, receiver = bateau.channel.channel(2)
        async with sender, receiver, bateau.scope() as scope:
            scope.spawn(arms, receiver, event)
            scope.spawn(bateau.time.sleep, 1000)
            await sender.send(1)
            for _ in range(5):
                await bateau.yield_now()
            insight.snapshot()
            scope.cancel()

    async def plain():
        event = bateau.sync.Event()
        sender, receiver = bateau.channel.channel(2)
        async with sender, receiver, bateau.scope() as scope:
            for _ in range(3):
                scope.spawn(event.wait)
                scope.spawn(receiver.recv)
                scope.spawn(bateau.time.sleep, 0.001)
            for _ in range(3):
                await sender.send(1)
            await bateau.yield_now()
            event.set()

    bateau.run(plain, runtime="native")
    gc.collect()
    gc.freeze()  # as programs do once they have started: with it go the operations that stand ready to be used again
    bateau.run(main, runtime="native")
    gc.collect()
    assert engines[0]() is None
