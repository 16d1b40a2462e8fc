"""The shared flavour: two runtimes in two threads, and plain threads, on one primitive at once. The outcome is always the same."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import bateau
from bateau import sync
from support.entries import RUNTIMES, require
from support.waiting import until

PAIRS = [*itertools.combinations(RUNTIMES, 2), ("native", "native")]
pairs = pytest.mark.parametrize("pair", PAIRS, ids="+".join)


def side_by_side(*calls: Callable[[], Any]) -> list[Any]:
    """Run each call in a thread of its own; their results, or the first error."""
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            results[index] = call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]
    return results


def programs(pair: tuple[str, str], main: Callable[..., Any], *args: Any) -> list[Callable[[], Any]]:
    for name in pair:
        require(name)
    return [lambda name=name: bateau.run(main, *args, runtime=name) for name in pair]


class Counter:
    """Loses updates unless it is guarded: it yields between reading and writing."""

    def __init__(self) -> None:
        self.value = 0

    async def add(self) -> None:
        value = self.value
        await bateau.yield_now()
        self.value = value + 1

    def add_in_thread(self) -> None:
        value = self.value
        time.sleep(0)
        self.value = value + 1


ROUNDS, TASKS = 15, 8


@pairs
@pytest.mark.parametrize(
    "make",
    [
        sync.Lock,
        lambda: sync.Semaphore(1),
        lambda: sync.Limiter(1),
        lambda: sync.RWLock(),
    ],
    ids=["lock", "semaphore", "limiter", "writer"],
)
def test_mutual_exclusion(pair: tuple[str, str], make: Any) -> None:
    guard = make()
    assert guard.flavour == "shared"
    counter = Counter()
    write = isinstance(guard, sync.RWLock)

    async def main() -> None:
        async def adds() -> None:
            for round_ in range(ROUNDS):
                if round_ % 3 == 2:  # some give up while they wait, some when it is theirs already
                    with bateau.move_on_after(0):
                        async with guard.write() if write else guard:
                            pass
                async with guard.write() if write else guard:
                    await counter.add()

        async with bateau.scope() as scope:
            for _ in range(TASKS):
                scope.spawn(adds)

    def in_thread() -> None:
        for _ in range(ROUNDS):
            sync.wait_in_thread(guard.acquire_write() if write else guard.acquire())
            counter.add_in_thread()
            (guard.release_write if write else guard.release)()

    side_by_side(*programs(pair, main), in_thread, in_thread)
    assert counter.value == ROUNDS * (2 * TASKS + 2)
    assert not tuple(guard.waiters())


@pairs
def test_condition(pair: tuple[str, str]) -> None:
    """A bounded buffer between two runtimes."""
    lock = sync.Lock()
    not_empty, not_full = sync.Condition(lock), sync.Condition(lock)
    buffer: list[int] = []

    async def produce() -> None:
        for number in range(200):
            async with lock:
                await not_full.wait_for(lambda: len(buffer) < 4)
                buffer.append(number)
                not_empty.notify()

    async def consume() -> list[int]:
        taken: list[int] = []
        while len(taken) < 200:
            async with lock:
                await not_empty.wait_for(lambda: bool(buffer))
                taken += buffer
                buffer.clear()
                not_full.notify_all()
        return taken

    first, second = pair
    require(first)
    require(second)
    _, taken = side_by_side(
        lambda: bateau.run(produce, runtime=first),
        lambda: bateau.run(consume, runtime=second),
    )
    assert taken == list(range(200))


@pairs
def test_event_notify_and_barrier(pair: tuple[str, str]) -> None:
    event, notify, barrier = sync.Event(), sync.Notify(), sync.Barrier(3)

    async def main() -> int:
        await event.wait()
        await notify.wait()
        for _ in range(20):
            await barrier.wait()
        return await barrier.wait()

    def in_thread() -> int:
        event.set()
        for _ in range(2):
            while not notify.statistics().tasks_waiting:
                time.sleep(0.001)
            notify.notify_one()
        for _ in range(20):
            sync.wait_in_thread(barrier.wait())
        return sync.wait_in_thread(barrier.wait(), 30)

    assert sorted(side_by_side(*programs(pair, main), in_thread)) == [0, 1, 2]


@pairs
def test_once(pair: tuple[str, str]) -> None:
    once: sync.Once[object] = sync.Once()
    made: list[object] = []

    async def make() -> object:
        await bateau.time.sleep(0.001)
        made.append(object())
        return made[-1]

    async def main() -> set[object]:
        async with bateau.scope() as scope:
            tasks = [scope.spawn(once.run, make) for _ in range(5)]
            with bateau.move_on_after(0):
                await once.run(make)
            return {await task for task in tasks}

    results = side_by_side(*programs(pair, main), lambda: {sync.wait_in_thread(once.wait(), 30)})
    # Whoever gave up at once made nothing, so there is one value.
    assert results == [{made[0]}] * 3
    assert len(made) == 1


@pairs
def test_oncemap(pair: tuple[str, str]) -> None:
    """The computations run in the one runtime, whose scope it is; both ask."""
    first, second = pair
    require(first)
    require(second)
    maps: list[sync.OnceMap[int, int]] = []
    there, done = threading.Event(), sync.Event()
    calls: list[int] = []

    async def square(key: int) -> int:
        calls.append(key)
        await bateau.yield_now()
        if key == 7:
            raise LookupError(key)
        return key * key

    async def ask() -> list[int]:
        async with bateau.scope() as scope:
            tasks = [scope.spawn(one, key) for key in [*range(7), *range(7)]]
            return [await task for task in tasks]

    async def one(key: int) -> int:
        return await maps[0].get(key)

    async def owner() -> list[int]:
        async with bateau.scope() as scope:
            maps.append(sync.OnceMap(scope, square, flavour="shared"))
            there.set()
            result = await ask()
            await done.wait()
            return result

    async def stranger() -> list[int]:
        try:
            result = await ask()
            with pytest.raises(LookupError):
                await one(7)
            return result
        finally:
            done.set()

    def later() -> list[int]:
        there.wait(30)
        return bateau.run(stranger, runtime=second)

    results = side_by_side(lambda: bateau.run(owner, runtime=first), later)
    assert results == [[key * key for key in [*range(7), *range(7)]]] * 2
    assert sorted(calls) == list(range(8))


@pairs
def test_a_dead_owner_is_told_across_runtimes(pair: tuple[str, str]) -> None:
    lock, go = sync.Lock(name="db"), sync.Event()

    async def forgetful() -> None:
        async def holder() -> None:
            await lock.acquire()
            await go.wait()

        async with bateau.scope() as scope:
            scope.spawn(holder, name="forgetful")

    async def waiter() -> None:
        await until(lambda: go.statistics().tasks_waiting)
        async with bateau.scope() as scope:
            task = scope.spawn(gets_none)
            await until(lambda: lock.statistics().tasks_waiting)
            go.set()
            await task

    async def gets_none() -> None:
        with pytest.raises(sync.AbandonedLock, match="task 'forgetful' ended while it held lock 'db'"):
            await lock.acquire()

    first, second = pair
    require(first)
    require(second)
    side_by_side(lambda: bateau.run(forgetful, runtime=first), lambda: bateau.run(waiter, runtime=second))


def test_a_wait_for_another_thread_is_no_deadlock() -> None:
    """Nothing but the shared event can end the wait, and only the other thread can set it."""
    event = sync.Event()

    async def main() -> str:
        await event.wait()
        return "set"

    def sets() -> None:
        while not event.statistics().tasks_waiting:
            time.sleep(0.001)
        time.sleep(0.02)
        event.set()

    assert side_by_side(lambda: bateau.run(main, runtime="native"), sets)[0] == "set"


def test_waiting_in_a_plain_thread() -> None:
    lock, event = sync.Lock(name="db"), sync.Event()
    assert sync.wait_in_thread(lock.acquire()) is True
    assert lock.statistics().owner == threading.get_ident()
    assert "held by thread 'MainThread'" in repr(lock)
    with pytest.raises(sync.OwnershipError, match="not re-entrant"):
        sync.wait_in_thread(lock.acquire())

    def other() -> None:
        with pytest.raises(TimeoutError, match=r"acquire of lock 'db'.*not within 0.01 s"):
            sync.wait_in_thread(lock.acquire(), timeout=0.01)
        assert not lock.try_acquire()
        with pytest.raises(sync.OwnershipError, match="can't release lock 'db': it is held by thread 'MainThread'"):
            lock.release()
        event.set()
        sync.wait_in_thread(lock.acquire())
        lock.release()

    def this() -> None:
        sync.wait_in_thread(event.wait(), 30)

    thread = threading.Thread(target=other)
    thread.start()
    this()
    lock.release()
    thread.join(30)
    assert lock.statistics() == (False, None, 0)
    with pytest.raises(ValueError, match="timeout must be 0 or more"):
        sync.wait_in_thread(event.wait(), timeout=-1)


def test_wait_in_thread_where_it_may_not() -> None:
    event = sync.Event()

    async def main() -> sync.Event:
        with pytest.raises(RuntimeError, match=r"would block runtime 'native'.*task 'main'.*use await instead"):
            sync.wait_in_thread(event.wait())
        return sync.Event()

    local = bateau.run(main, runtime="native")
    with pytest.raises(bateau.WrongRuntime, match=r"local to one runtime.*flavour='shared'"):
        sync.wait_in_thread(local.wait())
    with pytest.raises(TypeError, match="expected an operation"):
        sync.wait_in_thread(42)  # type: ignore[arg-type]


def test_a_program_and_a_thread_hand_a_lock_over_in_order() -> None:
    lock = sync.Lock()
    order: list[str] = []

    def thread() -> None:
        sync.wait_in_thread(lock.acquire(), 30)
        order.append("thread")
        lock.release()

    async def main() -> None:
        async def task(name: str) -> None:
            async with lock:
                order.append(name)

        async with bateau.scope() as scope:
            async with lock:
                scope.spawn(task, "first")
                await until(lambda: lock.statistics().tasks_waiting == 1)
                worker = threading.Thread(target=thread)
                worker.start()
                await until(lambda: lock.statistics().tasks_waiting == 2)
                scope.spawn(task, "last")
                await until(lambda: lock.statistics().tasks_waiting == 3)
        worker.join(30)

    bateau.run(main)
    assert order == ["first", "thread", "last"]
