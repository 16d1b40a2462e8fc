"""Small random programs over bateau's primitives, each with what must hold: explored by ``test_explored.py`` and ``scripts/explore_laws.py``.

A program draws its shape from ``random`` (the world's generator, decided by the seed) and leaves order and early yields to the strategy. Timeouts
of a few milliseconds stand around its waits, so that they are cancelled at every possible moment. What it asserts are the laws, not a schedule.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import bateau
from bateau import sync
from bateau import time as vtime
from bateau.channel import broadcast, channel, oneshot, watch


async def pause() -> None:
    """Now and then a task is elsewhere for a while."""
    kind = random.randrange(4)
    if kind == 0:
        await vtime.sleep(0)
    elif kind == 1:
        await vtime.sleep(random.randrange(5) / 1000)
    elif kind == 2:
        await bateau.checkpoint()


def soon_or_late() -> float:
    """Seconds of a timeout: one that comes in the middle of things, or one that never does."""
    return random.choice([0.001, 0.003, 3600])


class Inside:
    """How many are inside, and never more than allowed."""

    def __init__(self, most: int) -> None:
        self.now = 0
        self.most = most

    async def stay(self) -> None:
        self.now += 1
        assert self.now <= self.most, f"{self.now} inside, {self.most} allowed"
        try:
            await pause()
        finally:
            self.now -= 1


async def crowd(work: Callable[[], Awaitable[None]], tasks: int = 4, rounds: int = 3) -> None:
    """Several tasks that work now and then, under timeouts."""

    async def one() -> None:
        for _ in range(rounds):
            await pause()
            with bateau.move_on_after(soon_or_late()):
                await work()

    async with bateau.scope(name="crowd") as scope:
        for n in range(tasks):
            scope.spawn(one, name=f"worker {n}")


# -- sync ----------------------------------------------------------------------------------------------------------------------


async def lock() -> None:
    mutex, inside = sync.Lock(), Inside(1)

    async def work() -> None:
        async with mutex:
            await inside.stay()

    await crowd(work)
    assert not mutex.locked()


async def lock_is_fifo() -> None:
    """Who began to wait first has it first (law 12); who gave up is out of the line."""
    mutex = sync.Lock()
    order: list[Any] = []

    async def work() -> None:
        with bateau.move_on_after(random.choice([0.004, 0.008, 3600])):
            await mutex.acquire()
            order.append(bateau.current_task())
            mutex.release()

    async with bateau.scope() as scope:
        async with mutex:
            for _ in range(5):
                scope.spawn(work)
                await vtime.sleep(0.001)
            await vtime.sleep(random.randrange(6) / 1000)
            line = [op.task for op in mutex.waiters()]
    waited = [task for task in order if task in line]
    assert waited == [task for task in line if task in waited], "somebody overtook"
    assert not mutex.locked()


async def semaphore() -> None:
    size = random.randint(1, 3)
    places, inside = sync.Semaphore(size), Inside(size)

    async def work() -> None:
        async with places:
            await inside.stay()

    await crowd(work, tasks=5)
    for _ in range(size):
        assert places.try_acquire()  # none was lost


async def limiter() -> None:
    size = random.randint(1, 3)
    places, inside = sync.Limiter(size), Inside(size)

    async def work() -> None:
        async with places:
            await inside.stay()

    await crowd(work, tasks=5)


async def rwlock() -> None:
    both, readers, writers = sync.RWLock(), Inside(99), Inside(1)

    async def work() -> None:
        if random.random() < 0.5:
            async with both.read():
                assert not writers.now
                await readers.stay()
        else:
            async with both.write():
                assert not readers.now
                await writers.stay()

    await crowd(work, tasks=5)
    assert both.try_acquire_write()


async def condition() -> None:
    """A bounded buffer by hand: nothing lost, nobody asleep for ever, whoever gives up meanwhile."""
    changed = sync.Condition()
    buffer: list[int] = []
    taken: list[int] = []
    count = 6

    async def produce(first: int) -> None:
        for n in range(first, count, 2):
            await pause()
            async with changed:
                while len(buffer) >= 2:
                    await changed.wait()
                buffer.append(n)
                changed.notify_all()

    async def consume() -> None:
        while len(taken) < count:
            with bateau.move_on_after(soon_or_late()):
                async with changed:
                    while not buffer and len(taken) < count:
                        await changed.wait()
                    if buffer:
                        taken.append(buffer.pop(0))
                    changed.notify_all()
            await pause()

    async with bateau.scope() as scope:
        scope.spawn(produce, 0)
        scope.spawn(produce, 1)
        scope.spawn(consume)
        scope.spawn(consume)
    assert sorted(taken) == list(range(count))


async def notify_wakes_one_for_one() -> None:
    """As many as were notified go on, though some waiters give up just then: their notification goes to another."""
    changed = sync.Condition()
    tokens = 0

    async def wait() -> bool:
        nonlocal tokens
        with bateau.move_on_after(random.choice([0.003, 3600])) as limit:
            async with changed:
                while not tokens:
                    await changed.wait()
                tokens -= 1
        return not limit.cancelled_caught

    async with bateau.scope() as scope:
        waiters = [scope.spawn(wait) for _ in range(4)]
        while not all(waiter.ended for waiter in waiters):
            await vtime.sleep(0.002)
            async with changed:
                tokens += 1
                changed.notify()
    assert tokens >= 0


async def event_and_barrier() -> None:
    event, barrier = sync.Event(), sync.Barrier(3)
    arrived: list[int] = []

    async def work(n: int) -> None:
        await pause()
        await barrier.wait()
        arrived.append(n)
        await pause()
        if n == 0:
            event.set()
        await event.wait()

    async with bateau.scope() as scope:
        for n in range(3):
            scope.spawn(work, n)
    assert sorted(arrived) == [0, 1, 2]


async def oncemap() -> None:
    """A value is made once, whoever of those who wait for it gives up."""
    made: list[int] = []

    async def make(key: int) -> int:
        made.append(key)
        await pause()
        return key * 10

    async with bateau.scope() as scope:
        values = sync.OnceMap(scope, make)

        async def patient() -> None:
            await pause()
            key = random.randrange(2)
            assert await values.get(key) == key * 10

        async def hasty() -> None:
            with bateau.move_on_after(0.001):
                await patient()

        for _ in range(3):
            scope.spawn(patient)
            scope.spawn(hasty)
    assert len(made) == len({*made})


# -- channels ------------------------------------------------------------------------------------------------------------------


async def channel_loses_nothing() -> None:
    """What was sent is received, once; what a cancelled send did not send is not."""
    tx, rx = channel[tuple[int, int]](random.randint(0, 2))
    sent: list[tuple[int, int]] = []
    received: list[tuple[int, int]] = []

    async def produce(n: int, mine: Any) -> None:
        async with mine:
            for item in range(4):
                await pause()
                with bateau.move_on_after(soon_or_late()):
                    await mine.send((n, item))
                    sent.append((n, item))

    async def consume(mine: Any) -> None:
        async with mine:
            while True:
                try:
                    with bateau.move_on_after(soon_or_late()):
                        received.append(await mine.recv())
                except bateau.EndOfStream:
                    return
                await pause()

    async with bateau.scope() as scope:
        for n in range(2):
            scope.spawn(produce, n, tx.clone())
        for _ in range(2):
            scope.spawn(consume, rx.clone())
        tx.close()
        rx.close()
    assert sorted(received) == sorted(sent)
    for n in range(2):
        assert [item for who, item in sent if who == n] == sorted(item for who, item in sent if who == n)


async def channel_keeps_order() -> None:
    """One sender and one receiver: in order, whatever is given up meanwhile (laws 9 and 11)."""
    tx, rx = channel[int](random.randint(0, 3))
    sent: list[int] = []
    received: list[int] = []

    async def produce() -> None:
        async with tx:
            for n in range(8):
                with bateau.move_on_after(soon_or_late()):
                    await tx.send(n)
                    sent.append(n)
                await pause()

    async def consume() -> None:
        async with rx:
            while True:
                try:
                    with bateau.move_on_after(soon_or_late()):
                        received.append(await rx.recv())
                except bateau.EndOfStream:
                    return
                await pause()

    async with bateau.scope() as scope:
        scope.spawn(produce)
        scope.spawn(consume)
    assert received == sent


async def broadcast_reaches_everyone() -> None:
    tx, rx = broadcast[int](16)
    seen: list[list[int]] = [[], []]

    async def listen(mine: Any, into: list[int]) -> None:
        async with mine:
            while True:
                try:
                    with bateau.move_on_after(soon_or_late()):
                        into.append(await mine.recv())
                except bateau.EndOfStream:
                    return

    async with bateau.scope() as scope:
        scope.spawn(listen, rx.clone(), seen[0])
        scope.spawn(listen, rx, seen[1])
        async with tx:
            for n in range(6):
                await tx.send(n)
                await pause()
    assert seen == [list(range(6))] * 2


async def watch_shows_the_last() -> None:
    tx, rx = watch(0)
    seen: list[int] = []

    async def look() -> None:
        async with rx:
            while rx.get() < 5:
                with bateau.move_on_after(soon_or_late()):
                    seen.append(await rx.changed())

    async with bateau.scope() as scope:
        scope.spawn(look)
        async with tx:
            for n in range(1, 6):
                await pause()
                tx.send(n)
            await vtime.sleep(1)
    assert seen == sorted(set(seen))


async def oneshot_is_told() -> None:
    tx, rx = oneshot[int]()

    async def answer() -> None:
        await pause()
        tx.send(7)

    async with bateau.scope() as scope:
        scope.spawn(answer)
        while True:
            with bateau.move_on_after(soon_or_late()):
                assert await rx == 7
                break


async def select_keeps_its_arms() -> None:
    """Items of two channels through one select with timeouts around it: none lost, each channel in order (S29)."""
    ends = [channel[int](random.randint(0, 1)) for _ in range(2)]
    received: list[list[int]] = [[], []]

    async def produce(n: int) -> None:
        async with ends[n][0] as tx:
            for item in range(5):
                await pause()
                await tx.send(item)

    async with bateau.scope() as scope:
        for n in range(2):
            scope.spawn(produce, n)
        async with ends[0][1], ends[1][1], bateau.Select() as select:
            for n in range(2):
                select.insert(n, ends[n][1].recv)
            while len(select):
                with bateau.move_on_after(soon_or_late()):
                    try:
                        event = await select.next()
                    except bateau.EndOfStream:
                        break
                    received[event.name].append(event.value)
    assert received == [list(range(5))] * 2


# -- scopes --------------------------------------------------------------------------------------------------------------------


async def scopes_hold_their_children() -> None:
    """A tree of scopes with timeouts, failures and stops at random: nobody outlives their scope, every entry has its exit (laws 1, 2)."""
    alive: set[int] = set()
    numbers = iter(range(1000))

    async def node(depth: int) -> None:
        number = next(numbers)
        alive.add(number)
        inner: set[int] = set()
        try:
            await pause()
            if depth:
                before = set(alive)
                with bateau.move_on_after(soon_or_late()):
                    try:
                        async with bateau.scope() as scope:
                            for _ in range(random.randint(1, 3)):
                                scope.spawn(node, depth - 1)
                            await pause()
                            if random.random() < 0.2:
                                scope.cancel("enough")
                    except* KeyError:
                        pass
                inner = alive - before
            if random.random() < 0.2:
                raise KeyError(number)
        finally:
            async with bateau.cleanup(5):
                await vtime.sleep(0.001)
                alive.discard(number)
        del inner

    try:
        async with bateau.scope() as scope:
            for _ in range(3):
                scope.spawn(node, 2)
    except* KeyError:
        pass
    assert not alive


def ignore(name: object, value: object) -> None:
    """Of a loser that had finished as well."""


async def races_end_their_losers() -> None:
    running = 0

    async def runner(n: int) -> int:
        nonlocal running
        running += 1
        try:
            await pause()
            await vtime.sleep(random.randrange(4) / 1000)
            return n
        finally:
            async with bateau.cleanup(5):
                await vtime.sleep(0.0005)
                running -= 1

    for _ in range(3):
        with bateau.move_on_after(soon_or_late()):
            await bateau.race(runner(0), runner(1), runner(2), on_loser=ignore)
        assert running == 0
        with bateau.move_on_after(soon_or_late()):
            assert await bateau.join([runner(3), runner(4)]) == [3, 4]
        assert running == 0


async def shields_hold() -> None:
    """What stands in a shield, or in a cleanup within its budget, is done, whenever the cancellation comes."""
    begun = done = 0

    async def careful() -> None:
        nonlocal begun, done
        try:
            await pause()
        finally:
            async with bateau.cleanup(10):
                begun += 1
                await vtime.sleep(0.002)
                await pause()
                done += 1

    with bateau.move_on_after(soon_or_late()):
        async with bateau.scope() as scope:
            for _ in range(3):
                scope.spawn(careful)
            await pause()
            scope.cancel()
    assert begun == done


# -- iterators -----------------------------------------------------------------------------------------------------------------


async def buffered_keeps_order_and_bound() -> None:
    size = random.randint(1, 3)
    inside = Inside(size)

    async def work(n: int) -> int:
        await inside.stay()
        return n

    ordered = random.random() < 0.5
    chain = bateau.iter(range(8)).map(work)
    got: list[int] = []
    async with chain.buffered(size) if ordered else chain.buffered_unordered(size) as items:
        ended = False
        while not ended:
            with bateau.move_on_after(soon_or_late()):
                item = await items.next(None)
                ended = item is None
                if item is not None:
                    got.append(item)
    assert (got if ordered else sorted(got)) == list(range(8))
    assert inside.now == 0


async def merge_loses_nothing() -> None:
    @bateau.generator
    async def numbers(first: int) -> Any:
        for n in range(first, first + 4):
            await pause()
            yield n

    got: list[int] = []
    async with numbers(0).merge(numbers(10)) as items:
        ended = False
        while not ended:
            with bateau.move_on_after(soon_or_late()):
                item = await items.next(None)
                ended = item is None
                if item is not None:
                    got.append(item)
    assert sorted(got) == [0, 1, 2, 3, 10, 11, 12, 13]
    assert [n for n in got if n < 10] == [0, 1, 2, 3]


async def generators_close() -> None:
    """Left at any moment, a generator has been closed when the block is left (S05)."""
    opened = 0

    @bateau.generator
    async def rows() -> Any:
        nonlocal opened
        opened += 1
        try:
            for n in range(5):
                await pause()
                yield n
        finally:
            async with bateau.cleanup(5):
                await vtime.sleep(0.001)
                opened -= 1

    for _ in range(3):
        with bateau.move_on_after(soon_or_late()):
            async with rows() as items:
                async for n in items:
                    await pause()
                    if n == random.randrange(6):
                        break
        assert opened == 0


PROGRAMS = (
    lock, lock_is_fifo, semaphore, limiter, rwlock, condition, notify_wakes_one_for_one, event_and_barrier, oncemap,
    channel_loses_nothing, channel_keeps_order, broadcast_reaches_everyone, watch_shows_the_last, oneshot_is_told,
    select_keeps_its_arms, scopes_hold_their_children, races_end_their_losers, shields_hold,
    buffered_keeps_order_and_bound, merge_loses_nothing, generators_close,
)  # fmt: skip
