"""Lock: its owner, misuse, the owner's death, tickets, and what it tells."""

from __future__ import annotations

from typing import Any

import pytest

import bateau
from bateau import sync
from bateau.kernel import hazard
from support.entries import Entry, on_native
from support.waiting import until

flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


@flavours
def test_the_owner_is_known(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.Lock(name="db", flavour=flavour)
        me = bateau.current_task()
        assert not lock.locked()
        assert "lock 'db' (free)" in repr(lock)
        async with lock:
            assert lock.locked()
            assert lock.holders() == (me,)
            assert lock.statistics() == (True, me, 0)
            assert repr(lock) == f"<lock 'db' (held by task {me.name!r})>"
        assert lock.statistics() == (False, None, 0)

    entry.run(main)


@flavours
def test_release_by_another(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.Lock(name="db", flavour=flavour)
        with pytest.raises(sync.OwnershipError, match="it is not held"):
            lock.release()

        async def thief() -> None:
            with pytest.raises(sync.OwnershipError, match=r"task 'thief' can't release lock 'db': it is held by task"):
                lock.release()

        async with bateau.scope() as scope, lock:
            await scope.spawn(thief, name="thief")
            assert lock.locked()

    entry.run(main)


@flavours
def test_acquiring_again_is_an_error_instead_of_a_deadlock(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.Lock(name="db", flavour=flavour)
        async with lock:
            with pytest.raises(sync.OwnershipError, match="not re-entrant"):
                await lock.acquire()
            with pytest.raises(sync.OwnershipError, match="not re-entrant"):
                async with lock:
                    raise AssertionError("not reached")
            assert not lock.try_acquire()
        assert not lock.locked()

    entry.run(main)


@flavours
def test_exits_never_suspend(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.Lock(flavour=flavour)
        steps: list[str] = []

        async def other() -> None:
            steps.append("other")

        async with bateau.scope() as scope:
            scope.spawn(other)
            for _ in range(10):
                await_free = lock.try_acquire()
                assert await_free
                await lock.__aexit__(None, None, None)
            assert steps == []

    entry.run(main)


@flavours
def test_an_error_in_the_block_releases_and_passes(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.Lock(flavour=flavour)
        with pytest.raises(LookupError):
            async with lock:
                raise LookupError
        assert not lock.locked()

    entry.run(main)


@flavours
def test_a_task_that_ends_holding_it_is_named_to_who_waits_and_who_comes(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.Lock(name="db", flavour=flavour)
        go = sync.Event()

        async def forgetful() -> None:
            await lock.acquire()
            await go.wait()

        async def waiter() -> None:
            with pytest.raises(sync.AbandonedLock, match="task 'forgetful' ended while it held lock 'db'"):
                await lock.acquire()

        async with bateau.scope() as scope:
            scope.spawn(forgetful, name="forgetful")
            await until(lambda: go.statistics().tasks_waiting)
            scope.spawn(waiter)
            scope.spawn(waiter)
            await until(lambda: lock.statistics().tasks_waiting == 2)
            go.set()
        for call in (lock.acquire, lock.ticket().acquire):
            with pytest.raises(sync.AbandonedLock, match="forgetful"):
                await call()
        with pytest.raises(sync.AbandonedLock, match="forgetful"):
            lock.try_acquire()
        assert "which has ended" in repr(lock)

    entry.run(main)


@flavours
def test_an_owner_by_hand_over_that_ends_is_noticed(entry: Entry, flavour: Any) -> None:
    """The watch moves on with the ownership."""

    async def main() -> None:
        lock = sync.Lock(flavour=flavour)

        async def forgetful() -> None:
            await lock.acquire()

        async def waiter() -> None:
            with pytest.raises(sync.AbandonedLock, match="forgetful"):
                await lock.acquire()

        async with bateau.scope() as scope:
            async with lock:
                scope.spawn(forgetful, name="forgetful")
                await until(lambda: lock.statistics().tasks_waiting == 1)
                scope.spawn(waiter)
                await until(lambda: lock.statistics().tasks_waiting == 2)

    entry.run(main)


@pytest.mark.parametrize("entry", ["adopted:asyncio", "adopted:uvloop", "adopted:trio"], indirect=True)
@flavours
def test_a_foreign_task_that_ends_holding_it_is_noticed(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        lock = sync.Lock(name="db", flavour=flavour)
        go = sync.Event()

        async def forgetful() -> None:
            await lock.acquire()
            await go.wait()

        async def waiter() -> None:
            with pytest.raises(sync.AbandonedLock, match="ended while it held lock 'db'"):
                await lock.acquire()

        async def drive() -> None:
            await until(lambda: go.statistics().tasks_waiting)
            async with bateau.scope() as scope:
                scope.spawn(waiter)
                await until(lambda: lock.statistics().tasks_waiting == 1)
                go.set()

        if entry.family == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                nursery.start_soon(forgetful)
                await drive()
        else:
            import asyncio

            async with asyncio.TaskGroup() as group:
                group.create_task(forgetful())
                await drive()

    entry.run(main)


def test_watching_the_owner_leaves_nothing_on_it(entry: Entry) -> None:
    async def main() -> None:
        me = bateau.current_task()

        async def waiter(lock: sync.Lock) -> None:
            async with lock:
                pass

        async with bateau.scope() as scope:
            for _ in range(10):
                lock = sync.Lock()
                async with lock:
                    scope.spawn(waiter, lock)
                    await until(lambda lock=lock: lock.statistics().tasks_waiting)
        assert not me.at_end

    entry.run(main)


def test_a_with_without_async_says_what_to_write() -> None:
    with pytest.raises(TypeError, match="async with lock"), sync.Lock():
        pass


# -- tickets -------------------------------------------------------------------------------------------------------------


@pytest.mark.law(12)
@pytest.mark.parametrize("make", [sync.Lock, sync.Semaphore])
@flavours
def test_a_retried_ticket_keeps_its_place(entry: Entry, make: Any, flavour: Any) -> None:
    async def main() -> None:
        it = make(flavour=flavour)
        order: list[str] = []
        tries: list[str] = []

        async def patient(name: str) -> None:
            await it.acquire()
            order.append(name)
            it.release()

        async def retries(name: str, again: sync.Event) -> None:
            ticket = it.ticket()
            with bateau.move_on_after(0.001):
                await ticket
            tries.append(name)
            await again.wait()
            await ticket
            order.append(name)
            it.release()

        await it.acquire()
        async with bateau.scope() as scope:
            scope.spawn(patient, "first")
            await until(lambda: it.statistics().tasks_waiting == 1)
            again = sync.Event()
            for count, name in enumerate(("ticket a", "ticket b")):
                scope.spawn(retries, name, again)
                await until(lambda count=count: len(tries) == count + 1)
            scope.spawn(patient, "later")
            await until(lambda: it.statistics().tasks_waiting == 2)
            again.set()
            await until(lambda: it.statistics().tasks_waiting == 4)
            it.release()
        assert order == ["first", "ticket a", "ticket b", "later"]

    entry.run(main)


def test_an_idle_ticket_holds_up_nobody(entry: Entry) -> None:
    async def main() -> None:
        lock = sync.Lock()
        async with bateau.scope() as scope:

            async def other() -> None:
                async with lock:
                    pass

            with lock.ticket() as ticket:
                async with lock:
                    waits = scope.spawn(lambda: gives_up(ticket))
                    await waits
                    scope.spawn(other)
                    await until(lambda: lock.statistics().tasks_waiting == 1)
            await until(lambda: not lock.locked())
        with pytest.raises(RuntimeError, match="was closed"):
            await ticket

    async def gives_up(ticket: sync.Ticket) -> None:
        with bateau.move_on_after(0.001):
            await ticket

    entry.run(main)


def test_a_ticket_is_used_up_and_not_shared(entry: Entry) -> None:
    async def main() -> None:
        lock = sync.Lock(name="db")
        ticket = lock.ticket()
        assert ", place 1>" in repr(ticket)
        assert await ticket is True
        assert "used up" in repr(ticket)
        with pytest.raises(RuntimeError, match="take a new one"):
            await ticket
        second = lock.ticket()

        async def waits() -> None:
            await second
            lock.release()

        async with bateau.scope() as scope:
            scope.spawn(waits)
            await until(lambda: lock.statistics().tasks_waiting)
            with pytest.raises(RuntimeError, match="being awaited by another task"):
                await second
            lock.release()

    entry.run(main)


# -- what it tells -------------------------------------------------------------------------------------------------------


def test_patience_reports_holder_and_waiter(entry: Entry) -> None:
    """S12: a lock held over a wait is reported with holder, waiter and the line at which the holder waits."""

    async def main() -> list[hazard.Finding]:
        lock = sync.Lock(name="db", patience=0.005)
        found: list[hazard.Finding] = []
        remove = hazard.add_sink(found.append)

        async def slow_holder() -> None:
            async with lock:
                await until(lambda: found)

        async def waiter() -> None:
            async with lock:
                pass

        try:
            async with bateau.scope() as scope:
                scope.spawn(slow_holder, name="slow holder")
                await until(lock.locked)
                scope.spawn(waiter, name="waiter")
        finally:
            remove()
        return found

    found = entry.run(main)
    assert [finding.name for finding in found] == ["lock_held_long"]
    assert "task 'waiter' has waited 0.005 s for lock 'db', held by task 'slow holder'" in found[0].message
    assert found[0].filename == __file__
    if entry.owned:
        assert __file__ in found[0].message or "waiting.py" in found[0].message


def test_patience_says_nothing_of_short_waits(entry: Entry) -> None:
    async def main() -> None:
        lock = sync.Lock(patience=30)

        async def waiter() -> None:
            async with lock:
                pass

        async with bateau.scope() as scope, lock:
            scope.spawn(waiter)
            await until(lambda: lock.statistics().tasks_waiting)

    entry.run(main)
    with pytest.raises(ValueError, match="patience"):
        sync.Lock(patience=-1)


@on_native
@pytest.mark.law(17)
@flavours
def test_a_ring_of_locks_is_a_deadlock_with_names(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        a, b = sync.Lock(name="a", flavour=flavour), sync.Lock(name="b", flavour=flavour)
        both = sync.Barrier(2)

        async def takes(first: sync.Lock, second: sync.Lock) -> None:
            async with first:
                await both.wait()
                async with second:
                    pass

        async with bateau.scope() as scope:
            scope.spawn(takes, a, b, name="ab")
            scope.spawn(takes, b, a, name="ba")

    with pytest.raises(bateau.Deadlock) as raised:
        entry.run(main)
    text = str(raised.value)
    assert "a ring of waits: 'ab' -> 'ba' -> 'ab'" in text
    assert "acquire of lock 'b' (held by task 'ba', 1 waiting)" in text
