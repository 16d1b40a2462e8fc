"""The stories that these primitives end well, by their numbers."""

from __future__ import annotations

import threading

import pytest

import bateau
from bateau import sync
from bateau.kernel import hazard
from support.entries import Entry
from support.waiting import until


def test_s12_async_locks_holder_and_waiter_are_told(entry: Entry) -> None:
    """A lock held over I/O serialises those who need it: who holds it, who waits and since which line is told."""

    async def main() -> tuple[list[hazard.Finding], str]:
        lock = sync.Lock(name="connection", patience=0.01)
        found: list[hazard.Finding] = []
        remove = hazard.add_sink(found.append)
        seen = ""

        async def slow_query() -> None:
            nonlocal seen
            async with lock:
                await until(lambda: found)
                seen = repr(lock)

        async def quick_query() -> None:
            async with lock:
                pass

        try:
            async with bateau.scope() as scope:
                scope.spawn(slow_query, name="slow query")
                await until(lock.locked)
                waiter = scope.spawn(quick_query, name="quick query")
                await until(lambda: waiter.waiting)
                assert waiter.waiting is not None
                assert [task.name for task in waiter.waiting.resource.holders()] == ["slow query"]
        finally:
            remove()
        return found, seen

    found, seen = entry.run(main)
    (finding,) = found
    assert finding.name == "lock_held_long"
    assert "'quick query'" in finding.message
    assert "'slow query'" in finding.message
    assert seen == "<lock 'connection' (held by task 'slow query', 1 waiting)>"


class Cache:
    """A library's class that knows nothing of runtimes and threads: one source for both."""

    def __init__(self) -> None:
        self.lock = sync.Lock()
        self.hits = 0

    async def hit(self) -> None:
        async with self.lock:
            hits = self.hits
            await bateau.yield_now()
            self.hits = hits + 1


def test_s22_single_threaded_optimisation_one_source(entry: Entry) -> None:
    """Made inside a program it takes no lock; made outside it is safe for several runtimes at once. The code is the same."""

    async def hits(cache: Cache) -> None:
        async with bateau.scope() as scope:
            for _ in range(50):
                scope.spawn(cache.hit)

    async def inside() -> Cache:
        cache = Cache()
        await hits(cache)
        return cache

    local = entry.run(inside)
    assert (local.lock.flavour, local.lock.mutex, local.hits) == ("local", None, 50)

    shared = Cache()
    thread = threading.Thread(target=bateau.run, args=(hits, shared))
    thread.start()
    entry.run(hits, shared)
    thread.join()
    assert (shared.lock.flavour, shared.hits) == ("shared", 100)

    async def elsewhere() -> None:
        with pytest.raises(bateau.WrongRuntime, match="make it with flavour='shared'"):
            await local.hit()

    entry.run(elsewhere)


@pytest.mark.law(12)
def test_s33_polls_a_mutex_an_acquire_that_keeps_its_ticket(entry: Entry) -> None:
    """Trying with a short timeout, again and again, starves beside those who wait; with a ticket it is served in its turn."""

    async def main() -> list[str]:
        lock = sync.Lock()
        order: list[str] = []
        rounds = 0

        async def greedy(name: str) -> None:
            nonlocal rounds
            for _ in range(5):
                async with lock:
                    order.append(name)
                    rounds += 1
                    await bateau.yield_now()

        async def polls() -> None:
            with lock.ticket() as ticket:
                with bateau.move_on_after(0):  # gives up at once
                    await ticket
                drawn.set()
                # It comes back when it would long have been overtaken by whoever came later.
                await until(lambda: rounds >= 2)
                await ticket
                order.append("poller")
                lock.release()

        drawn = sync.Event()
        async with bateau.scope() as scope:
            async with lock:
                scope.spawn(polls)
                await drawn.wait()
                for name in "abcdefghij":
                    scope.spawn(greedy, name)
                await until(lambda: lock.statistics().tasks_waiting == 10)
        return order

    order = entry.run(main)
    # Before it come two rounds, the one that goes on while it comes back, and the one granted in that very moment;
    # at the end of the queue it would have waited for ten.
    assert order.index("poller") <= 4
    assert len(order) == 51


def test_s33_a_set_once_cell(entry: Entry) -> None:
    async def main() -> None:
        answer: sync.Once[int] = sync.Once()

        async def reads() -> int:
            return await answer.wait()

        async with bateau.scope() as scope:
            tasks = [scope.spawn(reads) for _ in range(3)]
            answer.set(42)
            assert [await task for task in tasks] == [42] * 3
        with pytest.raises(RuntimeError, match="only once"):
            answer.set(43)

    entry.run(main)


def test_s38_cell_borrowing_no_lost_update(entry: Entry) -> None:
    """Read, wait, write loses updates. A cell refuses it at the wait; done in one step, none is lost."""

    async def main() -> None:
        unguarded = [0]
        guarded = sync.Cell(0, name="balance")
        refused: list[str] = []

        async def lossy() -> None:
            balance = unguarded[0]
            await bateau.yield_now()
            unguarded[0] = balance + 1

        async def same_with_a_cell() -> None:
            try:
                with guarded.borrow_mut() as balance:
                    before = balance.value
                    await bateau.yield_now()
                    balance.value = before + 1
            except sync.BorrowError as error:
                refused.append(str(error))

        async def in_one_step() -> None:
            await bateau.yield_now()
            guarded.update(lambda balance: balance + 1)

        async with bateau.scope() as scope:
            for _ in range(10):
                scope.spawn(lossy)
                scope.spawn(same_with_a_cell)
                scope.spawn(in_one_step)
        assert unguarded[0] < 10
        assert len(refused) == 10
        assert "test_stories.py" in refused[0]
        with guarded.borrow() as balance:
            assert balance == 10

    entry.run(main)
