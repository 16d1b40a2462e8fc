"""RWLock: readers together, writers alone, nobody starves, and the errors of misuse."""

from __future__ import annotations

from typing import Any

import pytest

import bateau
from bateau import sync
from support.entries import Entry
from support.waiting import until

flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


def waiting(lock: sync.RWLock) -> int:
    return len(tuple(lock.waiters()))


@flavours
def test_readers_together_writers_alone(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.RWLock(flavour=flavour)
        inside = {"read": 0, "write": 0}
        most = {"read": 0, "write": 0}

        async def visit(side: str) -> None:
            async with lock.read() if side == "read" else lock.write():
                inside[side] += 1
                most[side] = max(most[side], inside[side])
                assert not (inside["read"] and inside["write"])
                await bateau.yield_now()
                inside[side] -= 1

        async with bateau.scope() as scope:
            for _ in range(10):
                for side in ("read", "read", "write", "read"):
                    scope.spawn(visit, side)
        assert most["read"] > 1
        assert most["write"] == 1
        assert not lock.locked()

    entry.run(main)


@pytest.mark.law(12)
@flavours
def test_served_in_the_order_of_asking(entry: Entry, flavour: Any) -> None:
    """No reader overtakes a waiting writer; readers that stand together enter together."""

    async def main() -> None:
        lock = sync.RWLock(flavour=flavour)
        order: list[str] = []

        async def visit(name: str) -> None:
            async with lock.read() if name.startswith("r") else lock.write():
                order.append(name)
                await bateau.yield_now()
                order.append(name)

        async with bateau.scope() as scope:
            async with lock.read():
                for count, name in enumerate(("w1", "r1", "r2", "w2", "r3")):
                    scope.spawn(visit, name)
                    await until(lambda count=count: waiting(lock) == count + 1)
                assert not lock.try_acquire_read()
                assert lock.statistics()[2:] == (3, 2)
        assert order[:2] == ["w1", "w1"]
        assert sorted(order[2:6]) == ["r1", "r1", "r2", "r2"]
        assert order[2] != order[3]
        assert order[6:] == ["w2", "w2", "r3", "r3"]

    entry.run(main)


@flavours
def test_a_writer_that_gives_up_lets_the_readers_behind_it_in(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.RWLock(flavour=flavour)
        done = sync.Event()

        async def write() -> None:
            async with lock.write():
                raise AssertionError("never let in")

        async def read() -> None:
            async with lock.read():
                done.set()

        async with bateau.scope() as scope, lock.read():
            writer = scope.spawn(write)
            await until(lambda: waiting(lock) == 1)
            scope.spawn(read)
            await until(lambda: waiting(lock) == 2)
            writer.cancel("gives up")
            with bateau.timeout(20):
                await done.wait()

    entry.run(main)


@flavours
def test_misuse(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.RWLock(name="table", flavour=flavour)
        with pytest.raises(sync.OwnershipError, match="can't end reading of rwlock 'table'"):
            lock.release_read()
        with pytest.raises(sync.OwnershipError, match="can't end writing of rwlock 'table'"):
            lock.release_write()
        async with lock.read():
            for again in (lock.acquire_read, lock.acquire_write):
                with pytest.raises(sync.OwnershipError, match="a reader can't become a writer"):
                    await again()
            assert not lock.try_acquire_read()
            assert not lock.try_acquire_write()
            with pytest.raises(sync.OwnershipError, match="it is not writing"):
                lock.release_write()
        async with lock.write():
            for again in (lock.acquire_read, lock.acquire_write):
                with pytest.raises(sync.OwnershipError, match="would wait for itself"):
                    await again()
            assert "written by task" in repr(lock)
        assert lock.try_acquire_write()
        lock.release_write()
        assert lock.try_acquire_read()
        assert "read by task" in repr(lock)
        lock.release_read()
        assert "(free)" in repr(lock)

    entry.run(main)


@flavours
def test_a_dead_reader_keeps_out_writers_alone(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.RWLock(name="table", flavour=flavour)
        go = sync.Event()

        async def forgetful() -> None:
            await lock.acquire_read()
            await go.wait()

        async def write() -> None:
            with pytest.raises(sync.AbandonedLock, match="task 'forgetful' ended while it held rwlock 'table'"):
                await lock.acquire_write()

        async def read() -> None:
            async with lock.read():
                pass

        async with bateau.scope() as scope:
            scope.spawn(forgetful, name="forgetful")
            await until(lambda: go.statistics().tasks_waiting)
            scope.spawn(write)
            await until(lambda: waiting(lock) == 1)
            scope.spawn(read)
            await until(lambda: waiting(lock) == 2)
            go.set()
        async with lock.read():
            pass
        with pytest.raises(sync.AbandonedLock, match="forgetful"):
            await lock.acquire_write()
        with pytest.raises(sync.AbandonedLock, match="forgetful"):
            lock.try_acquire_write()

    entry.run(main)


@flavours
def test_a_dead_writer_keeps_out_everybody(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.RWLock(flavour=flavour)
        go = sync.Event()

        async def forgetful() -> None:
            await lock.acquire_write()
            await go.wait()

        async def read() -> None:
            with pytest.raises(sync.AbandonedLock, match="forgetful"):
                await lock.acquire_read()

        async with bateau.scope() as scope:
            scope.spawn(forgetful, name="forgetful")
            await until(lambda: go.statistics().tasks_waiting)
            scope.spawn(read)
            await until(lambda: waiting(lock) == 1)
            go.set()
        with pytest.raises(sync.AbandonedLock, match="forgetful"):
            lock.try_acquire_read()

    entry.run(main)


@flavours
def test_cancelled_reader_when_woken_but_not_stepped(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.RWLock(flavour=flavour)

        async def read() -> None:
            async with lock.read():
                await bateau.yield_now()
                raise AssertionError("cancelled before")

        async with bateau.scope() as scope:
            async with lock.write():
                task = scope.spawn(read)
                await until(lambda: waiting(lock) == 1)
            task.cancel("too late for this one")
        assert lock.try_acquire_write()
        lock.release_write()

    entry.run(main)


def test_waiting_ones_see_who_holds(entry: Entry) -> None:
    async def main() -> None:
        lock = sync.RWLock(name="table")
        me = bateau.current_task()

        async def write() -> None:
            async with lock.write():
                pass

        async with bateau.scope() as scope, lock.read():
            task = scope.spawn(write)
            await until(lambda: waiting(lock) == 1)
            assert task.waiting is not None
            assert tuple(task.waiting.resource.satisfiers()) == (me,)
            assert task.waiting.describe().startswith("acquire to write of rwlock 'table' (read by task")
            assert lock.statistics().readers == (me,)

    entry.run(main)
