"""What all that can be acquired and released has in common: order, and that no cancellation leaves a trace or loses a permit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import bateau
from bateau import sync
from bateau.kernel.operation import Operation
from support.entries import Entry, on_native
from support.waiting import until


@dataclass(frozen=True)
class Kind:
    """One way to hold something alone. `acquire` and `release` are the waiting and the releasing call."""

    name: str
    make: Callable[[Any], Any]
    acquire: Callable[[Any], Operation[bool]] = lambda it: it.acquire()
    release: Callable[[Any], None] = lambda it: it.release()
    try_acquire: Callable[[Any], bool] = lambda it: it.try_acquire()

    def waiting(self, it: Any) -> int:
        return len(tuple(it.waiters()))


KINDS = [
    Kind("lock", lambda flavour: sync.Lock(flavour=flavour)),
    Kind("semaphore", lambda flavour: sync.BoundedSemaphore(1, flavour=flavour)),
    Kind("limiter", lambda flavour: sync.Limiter(1, flavour=flavour)),
    Kind(
        "writer",
        lambda flavour: sync.RWLock(flavour=flavour),
        lambda it: it.acquire_write(),
        lambda it: it.release_write(),
        lambda it: it.try_acquire_write(),
    ),
    Kind(
        "condition",
        lambda flavour: sync.Condition(flavour=flavour).lock,
    ),
    Kind(
        "lock ticket",
        lambda flavour: sync.Lock(flavour=flavour),
        lambda it: it.ticket().acquire(),
    ),
    Kind(
        "semaphore ticket",
        lambda flavour: sync.BoundedSemaphore(1, flavour=flavour),
        lambda it: it.ticket().acquire(),
    ),
]

kinds = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


@pytest.mark.law(12)
@kinds
@flavours
def test_first_come_first_served(entry: Entry, kind: Kind, flavour: str) -> None:
    async def main() -> None:
        it = kind.make(flavour)
        order: list[int] = []

        async def wants(number: int) -> None:
            assert await kind.acquire(it) is True
            order.append(number)
            await bateau.yield_now()
            kind.release(it)

        await kind.acquire(it)
        async with bateau.scope() as scope:
            for number in range(5):
                scope.spawn(wants, number)
                await until(lambda number=number: kind.waiting(it) == number + 1)
            kind.release(it)
            # It has been handed over: nobody can barge in, though no waiter has run yet.
            assert not kind.try_acquire(it)
        assert order == [0, 1, 2, 3, 4]
        assert kind.try_acquire(it)
        kind.release(it)

    entry.run(main)


@pytest.mark.law(11)
@kinds
@flavours
def test_a_cancelled_wait_leaves_no_trace(entry: Entry, kind: Kind, flavour: str) -> None:
    async def main() -> None:
        it = kind.make(flavour)
        got: list[int] = []

        async def wants(number: int) -> None:
            await kind.acquire(it)
            got.append(number)
            kind.release(it)

        await kind.acquire(it)
        async with bateau.scope() as scope:
            tasks = []
            for number in range(3):
                tasks.append(scope.spawn(wants, number))
                await until(lambda number=number: kind.waiting(it) == number + 1)
            tasks[1].cancel("not needed")
            assert kind.waiting(it) == 2
            with pytest.raises(bateau.TaskCancelled):
                await tasks[1]
            kind.release(it)
        assert got == [0, 2]
        assert kind.try_acquire(it)
        kind.release(it)

    entry.run(main)


@pytest.mark.law(11)
@kinds
@flavours
def test_cancelled_when_woken_but_not_stepped(entry: Entry, kind: Kind, flavour: str) -> None:
    """The grant counts: the waiter has it, is cancelled at its next wait, and gives it back as any holder does."""

    async def main() -> None:
        it = kind.make(flavour)
        log: list[str] = []

        async def wants() -> None:
            await kind.acquire(it)
            try:
                log.append("has it")
                await bateau.yield_now()
                log.append("not reached")
            finally:
                kind.release(it)

        await kind.acquire(it)
        async with bateau.scope() as scope:
            task = scope.spawn(wants)
            await until(lambda: kind.waiting(it) == 1)
            kind.release(it)
            task.cancel("too late for this one")
            with pytest.raises(bateau.TaskCancelled):
                await task
        assert log == ["has it"]
        assert kind.try_acquire(it)
        kind.release(it)

    entry.run(main)


@kinds
@flavours
def test_a_timeout_ends_the_wait(entry: Entry, kind: Kind, flavour: str) -> None:
    async def main() -> None:
        it = kind.make(flavour)

        async def impatient() -> bool:
            with bateau.move_on_after(0.005) as scope:
                await kind.acquire(it)
            return scope.cancelled_caught

        await kind.acquire(it)
        async with bateau.scope() as scope:
            assert await scope.spawn(impatient)
            assert kind.waiting(it) == 0
            kind.release(it)
            assert not await scope.spawn(impatient_and_tidy, kind, it)
        assert kind.try_acquire(it)
        kind.release(it)

    entry.run(main)


async def impatient_and_tidy(kind: Kind, it: Any) -> bool:
    with bateau.move_on_after(10) as scope:
        await kind.acquire(it)
        kind.release(it)
    return scope.cancelled_caught


@kinds
@flavours
def test_a_cancelled_scope_acquires_nothing(entry: Entry, kind: Kind, flavour: str) -> None:
    """Level-triggered: free or not, the operation raises and has had no effect."""

    async def main() -> None:
        it = kind.make(flavour)
        with bateau.move_on_after(None) as scope:
            scope.cancel("before")
            await kind.acquire(it)
        assert scope.cancelled_caught
        assert kind.try_acquire(it)
        kind.release(it)

    entry.run(main)


@on_native
@kinds
@flavours
def test_a_closed_coroutine_gives_the_permit_back(entry: Entry, kind: Kind, flavour: str) -> None:
    """Granted, but the coroutine that waited is closed before it could learn of it."""

    async def main() -> None:
        it = kind.make(flavour)

        async def holder(done: sync.Event) -> None:
            await kind.acquire(it)
            await done.wait()
            kind.release(it)

        async with bateau.scope() as scope:
            done = sync.Event()
            task = scope.spawn(holder, done)
            await until(lambda: done.statistics().tasks_waiting)
            wait = kind.acquire(it).__await__()
            next(wait)  # parked, in the name of this task
            done.set()
            await task
            assert bateau.current_task() in it.holders()
            wait.close()
            assert kind.try_acquire(it)
            kind.release(it)

    entry.run(main)


@kinds
@flavours
def test_select_takes_one_and_leaves_the_other(entry: Entry, kind: Kind, flavour: str) -> None:
    """Of two arms only the chosen one has its effect."""
    select = pytest.importorskip("bateau.selecting").select

    async def main() -> None:
        busy, free = kind.make(flavour), kind.make(flavour)

        async def chooser() -> None:
            chosen = await select(busy=kind.acquire(busy), free=kind.acquire(free))
            assert chosen.name == "free"
            assert kind.waiting(busy) == 0
            kind.release(free)

        await kind.acquire(busy)
        async with bateau.scope() as scope:
            scope.spawn(chooser)
        kind.release(busy)
        for it in (busy, free):
            assert kind.try_acquire(it)
            kind.release(it)

    entry.run(main)


@kinds
def test_local_is_at_home_in_one_runtime(runtime: Any, kind: Kind) -> None:
    """From another runtime or thread: an error that names both sides and the fix (law 15)."""

    async def make() -> Any:
        it = kind.make("local")
        await kind.acquire(it)
        return it

    it = runtime.run(make)

    async def misuse() -> None:
        with pytest.raises(bateau.WrongRuntime, match="flavour='shared'"):
            await kind.acquire(it)

    runtime.run(misuse)


@kinds
def test_local_is_at_home_on_one_thread(runtime: Any, kind: Kind) -> None:
    import threading

    async def main() -> list[BaseException]:
        it = kind.make("local")
        await kind.acquire(it)
        raised: list[BaseException] = []

        def misuse() -> None:
            for call in (kind.release, kind.try_acquire):
                try:
                    call(it)
                except BaseException as error:
                    raised.append(error)

        thread = threading.Thread(target=misuse)
        thread.start()
        thread.join()
        kind.release(it)
        return raised

    raised = runtime.run(main)
    assert [type(error) for error in raised] == [bateau.WrongRuntime] * 2
    assert "is local to runtime" in str(raised[0])


def test_flavour_by_context() -> None:
    assert sync.Lock().flavour == "shared"

    async def main() -> None:
        assert sync.Lock().flavour == "local"
        assert sync.Lock(flavour="shared").flavour == "shared"

    bateau.run(main)
    with pytest.raises(ValueError, match="flavour must be"):
        sync.Lock(flavour="both")  # type: ignore[arg-type]


def test_an_operation_not_awaited_is_loud() -> None:
    async def main() -> None:
        lock = sync.Lock(name="db")
        with pytest.warns(RuntimeWarning, match=r"acquire of lock 'db'.* was never awaited"):
            lock.acquire()

    bateau.run(main)


@kinds
def test_awaiting_twice_is_an_error(entry: Entry, kind: Kind) -> None:
    async def main() -> None:
        it = kind.make(None)
        acquire = kind.acquire(it)
        await acquire
        with pytest.raises(RuntimeError, match="single-use"):
            await acquire
        kind.release(it)

    entry.run(main)


BLOCKS = [
    pytest.param(lambda: sync.Lock(), id="lock"),
    pytest.param(lambda: sync.Semaphore(1), id="semaphore"),
    pytest.param(lambda: sync.Limiter(1), id="limiter"),
    pytest.param(lambda: sync.Condition(), id="condition"),
    pytest.param(lambda: sync.RWLock().read(), id="reader"),
    pytest.param(lambda: sync.RWLock().write(), id="writer"),
]


@pytest.mark.law(5)
@pytest.mark.parametrize("make", BLOCKS)
def test_entering_a_free_block_is_a_cancellation_check(entry: Entry, make: Callable[[], Any]) -> None:
    async def main() -> None:
        block = make()
        with bateau.move_on_after(None) as scope:
            scope.cancel("before")
            async with block:
                raise AssertionError("not reached")
        assert scope.cancelled_caught
        async with block as value:
            assert value is True

    entry.run(main)


@pytest.mark.law(13)
@pytest.mark.parametrize("make", BLOCKS)
def test_entering_free_blocks_lets_others_run(entry: Entry, make: Callable[[], Any]) -> None:
    async def main() -> None:
        block = make()
        ran: list[bool] = []

        async def other() -> None:
            ran.append(True)

        async with bateau.scope() as scope:
            scope.spawn(other)
            for _ in range(1000):
                async with block:
                    if ran:
                        break
            assert ran

    entry.run(main)


@pytest.mark.law(16)
@kinds
@flavours
def test_who_waits_holds_and_could_help(entry: Entry, kind: Kind, flavour: str) -> None:
    async def main() -> None:
        it = kind.make(flavour)
        me = bateau.current_task()

        async def wants() -> None:
            await kind.acquire(it)
            kind.release(it)

        await kind.acquire(it)
        async with bateau.scope() as scope:
            task = scope.spawn(wants)
            await until(lambda: kind.waiting(it) == 1)
            (operation,) = it.waiters()
            assert operation.task is task
            assert task.waiting is operation
            assert operation.resource is it
            assert tuple(it.holders()) == (me,)
            knows_owner = not isinstance(it, sync.Semaphore) or flavour == "local"
            assert it.satisfiers() == ((me,) if knows_owner else "outside")
            assert "1 waiting" in operation.describe()
            assert "acquire" in operation.describe()
            kind.release(it)

    entry.run(main)
