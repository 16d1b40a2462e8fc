"""The same chain gives the same results on every executor; errors, order, bounds, leaving."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from typing import Any

import pytest

import bateau
from bateau.iter import Moved, ParIter
from bateau.iter.par import Executor, Outcome, Work, tasks
from support.entries import Entry, on_each_mechanism
from support.par_functions import (
    add,
    below,
    fail_at_seven,
    half_if_even,
    is_even,
    nothing,
    several,
    several_later,
    square,
    square_later,
)
from support.waiting import until

EXECUTORS = ("tasks", "threads")


@pytest.fixture(params=EXECUTORS)
def on(request: pytest.FixtureRequest) -> Executor:
    """The executors that cost nothing to start; the others have files of their own."""
    return {"tasks": bateau.iter.tasks, "threads": bateau.iter.threads}[request.param](3)  # type: ignore[no-any-return, operator]


async def check_everything(on: Executor, *, chunk: int | None = None, n: int = 60) -> None:
    """Every step and every end against plain Python."""
    items = range(n)

    def par(ordered: bool = True) -> ParIter[int]:
        return bateau.iter(items).par(on=on, ordered=ordered, chunk=chunk)

    assert await par().map(square).collect() == [x * x for x in items]
    assert sorted(await par(False).map(square).collect()) == [x * x for x in items]
    assert await par().map(square_later).filter(is_even).collect() == [x * x for x in items if x % 2 == 0]
    assert await par().filter_map(half_if_even).collect() == [x // 2 for x in items if x % 2 == 0]
    assert await par().flat_map(several).map(square).collect() == [y * y for x in items for y in range(x % 4)]
    assert await par().flat_map(several_later).collect() == [y for x in items for y in range(x % 4)]
    assert await par().inspect(nothing).count() == n
    assert await par().filter(is_even).sum() == sum(range(0, n, 2))
    assert await par().reduce(add) == sum(items)
    assert await par().fold(int, add, add) == sum(items)
    assert await par().min() == 0
    assert await par().max() == n - 1
    assert await par().map(square).find(functools.partial(below, 1)) == 0
    assert await par().any(functools.partial(below, 1))
    assert not await par().any(functools.partial(below, 0))
    assert await par().all(functools.partial(below, n))
    assert not await par().all(functools.partial(below, n - 1))
    await par().for_each(nothing)
    assert [x async for x in par().map(square)] == [x * x for x in items]


def test_every_step_and_end(entry: Entry, on: Executor) -> None:
    entry.run(lambda: check_everything(on))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing(on: Executor, chunk: int) -> None:
    bateau.run(lambda: check_everything(on, chunk=chunk), runtime="native")


def test_empty(entry: Entry, on: Executor) -> None:
    async def main() -> None:
        def par() -> ParIter[int]:
            return bateau.iter(list[int]()).par(on=on)

        assert await par().map(square).collect() == []
        assert await par().count() == 0
        assert await par().sum() == 0
        assert await par().sum(5) == 5
        assert await par().fold(list, add, add) == []
        assert await par().reduce(add, 3) == 3
        assert await par().find(is_even) is None
        assert await par().all()
        assert not await par().any()
        with pytest.raises(TypeError, match="reduce"):
            await par().reduce(add)
        with pytest.raises(ValueError, match="default="):
            await par().min()
        assert await par().max(default=-1) == -1

    entry.run(main)


def test_an_error_in_its_place_and_on(entry: Entry, on: Executor) -> None:
    async def main() -> None:
        it = bateau.iter(range(20)).par(on=on, chunk=4).map(fail_at_seven).iter()
        got: list[Any] = []
        async with it:
            while True:
                try:
                    got.append(await it.next())
                except StopAsyncIteration:
                    break
                except LookupError as error:
                    (note,) = error.__notes__
                    assert note.startswith(f"item 7 of par(3, on={on!r}).map(fail_at_seven), in .map(): 7")
                    got.append("failed")
        assert got == [*range(7), "failed", *range(8, 20)]

    entry.run(main)


def test_the_first_error_ends_an_end(entry: Entry, on: Executor) -> None:
    async def main() -> None:
        for end in (lambda it: it.collect(), lambda it: it.sum(), lambda it: it.for_each(nothing)):
            with pytest.raises(LookupError, match="seven is missing"):
                await end(bateau.iter(range(50)).par(on=on).map(fail_at_seven))

    entry.run(main)


def test_many_errors_at_once_are_the_first_of_them(entry: Entry) -> None:
    """Threads go on after the first error has ended the rest: what fails there then is no news, and no group."""

    def refuse(x: int) -> None:
        time.sleep(0.001 * (x % 3))
        raise LookupError(x)

    def complain(_: object) -> None:
        raise LookupError("progress")

    async def main() -> None:
        for _ in range(4):
            with pytest.raises(LookupError, match="0"):
                await bateau.iter(range(20)).par(4, on=bateau.iter.threads(), chunk=2).map(refuse).collect()
            with pytest.raises(LookupError, match="progress"):
                it = bateau.iter(range(20)).par(4, on=bateau.iter.threads(), chunk=1, progress=complain)
                await it.inspect(lambda x: time.sleep(0.001 * (x % 3))).collect()

    entry.run(main)


def test_errors_of_the_source_keep_their_place(entry: Entry, on: Executor) -> None:
    async def main() -> None:
        it = bateau.iter(range(10)).map(fail_at_seven).par(on=on, chunk=3).map(square).iter()
        got: list[Any] = []
        async with it:
            while (item := await catching(it)) is not None:
                got.append(item)
        assert got == [x * x for x in range(7)] + ["failed", 64, 81]

    async def catching(it: Any) -> Any:
        try:
            return await it.next(None)
        except LookupError:
            return "failed"

    entry.run(main)


class Gauge:
    """How many calls are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = self.calls = 0
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        with self.lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize("ordered", [True, False])
def test_tasks_have_n_in_flight_and_claim_n(entry: Entry, ordered: bool) -> None:
    async def main() -> None:
        gauge, claimed, taken = Gauge(), 0, 0

        def source() -> Any:
            nonlocal claimed
            for x in range(50):
                claimed += 1
                assert claimed - taken <= 4
                yield x

        async def work(x: int) -> int:
            with gauge:
                await bateau.time.sleep(0.001)
            return x

        async with bateau.iter(source).par(4, ordered=ordered).map(work).iter() as it:
            async for _ in it:
                taken += 1
        assert gauge.most == 4
        assert taken == 50

    entry.run(main)


def test_threads_have_n_chunks_in_flight_and_n_ready(entry: Entry) -> None:
    async def main() -> None:
        gauge, claimed = Gauge(), 0
        both = threading.Barrier(2, timeout=60)

        def source() -> Any:
            nonlocal claimed
            for x in range(100):
                claimed += 1
                yield x

        def work(x: int) -> int:
            with gauge:
                if x in (0, 3):
                    both.wait()  # the first two chunks are under way at once
                time.sleep(0.002)
            return x

        async with bateau.iter(source).par(2, on=bateau.iter.threads(), chunk=3).map(work).iter() as it:
            assert await it.next() == 0
            while gauge.calls < 12:
                await bateau.time.sleep(0.005)
            # The consumer does not ask: what may be done ahead has been done, and no more. The chunk of what it took counts.
            await bateau.time.sleep(0.02)
            assert gauge.calls == claimed == 12
        assert gauge.most == 2
        assert gauge.now == 0

    entry.run(main)


@on_each_mechanism
def test_the_bound_counts_items_to_the_last_of_each_chunk(entry: Entry, on: Executor) -> None:
    """Items that have left the source and were not taken, by a consumer that waits now and then: never more, and so many."""

    async def most_of(ordered: bool, chunk: int, bound: int) -> int:
        claimed = taken = most = 0

        def source() -> Any:
            nonlocal claimed, most
            for x in range(40):
                claimed += 1
                most = max(most, claimed - taken)
                yield x

        async for x in bateau.iter(source).par(2, on=on, ordered=ordered, chunk=chunk).map(square_later).iter():
            taken += 1
            if taken == 21:  # the last of a chunk: what may be claimed ahead is going to be
                await until(lambda: most >= bound)
            if x % 10 == 0:
                await bateau.time.sleep(0.003)
        assert taken == 40
        return most

    async def main() -> None:
        kept = 1 if "tasks" in repr(on) else 2
        for ordered in (True, False):
            for chunk in (1, 3):
                bound = 2 * kept * chunk
                assert await most_of(ordered, chunk, bound) == bound

    entry.run(main)


def test_a_chunk_of_failures_and_of_nothing_is_released(entry: Entry, on: Executor) -> None:
    async def main() -> None:
        def refuse(x: int) -> int:
            raise LookupError(x)

        failed = 0
        async with bateau.iter(range(20)).par(1, on=on, chunk=3).map(refuse).iter() as it:
            for _ in range(20):
                with pytest.raises(LookupError):
                    await it.next()
                failed += 1
            assert await it.next(None) is None
        assert failed == 20
        assert await bateau.iter(range(20)).par(1, on=on, chunk=3).filter(functools.partial(below, 1)).collect() == [0]
        # A failure of the source is nobody's chunk, and a chunk may end with many results.
        async with bateau.iter(range(9)).map(fail_at_seven).par(1, on=on, chunk=1).flat_map(several).iter() as again:
            assert [await again.next() for _ in range(9)] == [y for x in range(7) for y in range(x % 4)]
            with pytest.raises(LookupError, match="seven"):
                await again.next()
            assert await again.next(None) is None

    entry.run(main)


def test_an_executor_with_more_workers_than_n_uses_n_of_them(entry: Entry) -> None:
    async def main() -> None:
        met = threading.Barrier(3, timeout=60)

        def work(x: int) -> int:
            with gauge:
                if x < 3:
                    met.wait()
                time.sleep(0.001)
            return x

        async def waiting(x: int) -> int:
            with gauge:
                async with bateau.timeout(60):
                    while x < 3 and gauge.most < 3:
                        await bateau.time.sleep(0.001)
                await bateau.time.sleep(0.001)
            return x

        def brief(x: int) -> int:
            with gauge:
                time.sleep(0.001)
            return x

        async with bateau.iter.threads(8) as pool:
            for on, fn in (
                (bateau.iter.tasks(8), waiting),
                (bateau.iter.threads(8), work),
                (bateau.iter.threads(8), waiting),
                (pool, work),
            ):
                for ordered in (True, False):
                    gauge = Gauge()
                    got = await bateau.iter(range(30)).par(3, on=on, ordered=ordered, chunk=1).map(fn).collect()
                    assert sorted(got) == list(range(30))
                    assert gauge.most == 3
            # Two pipelines at one pool have their n each.
            gauge = Gauge()
            pipelines = [bateau.iter(range(30)).par(2, on=pool, chunk=1).map(brief).collect() for _ in range(2)]
            assert await bateau.join(pipelines) == [list(range(30))] * 2
            assert gauge.most <= 4

    entry.run(main)


def test_break_and_cancel_end_the_work(entry: Entry, on: Executor) -> None:
    async def main() -> None:
        gauge = Gauge()
        waits = isinstance(on, type(bateau.iter.tasks()))

        async def work(x: int) -> int:
            with gauge:
                await bateau.time.sleep(0.001)
            return x

        def block(x: int) -> int:
            with gauge:
                time.sleep(0.001)
            return x

        fn: Any = work if waits else block
        async for x in bateau.iter(range(1000)).par(on=on, chunk=1).map(fn):
            if x == 5:
                break
        await bateau.checkpoint()
        assert gauge.now == 0
        calls = gauge.calls
        assert calls < 30
        with bateau.move_on_after(0.03) as limit:
            await bateau.iter(range(10000)).par(on=on, chunk=1).map(fn).collect()
        assert limit.cancelled_caught
        assert gauge.now == 0
        assert gauge.calls - calls < 1000

    entry.run(main)


def test_a_cancelled_chunk_in_a_thread_ends_after_the_item_under_way(entry: Entry) -> None:
    async def main() -> None:
        calls = 0

        def work(x: int) -> int:
            nonlocal calls
            calls += 1
            time.sleep(0.02)
            return x

        async def cancel_once_begun() -> None:
            while not calls:
                await bateau.time.sleep(0.005)
            scope.cancel("enough")

        async with bateau.scope() as scope:
            scope.spawn(cancel_once_begun)
            await bateau.iter(range(500)).par(1, on=bateau.iter.threads(), chunk=500).map(work).collect()
        assert 1 <= calls < 100

    entry.run(main)


def test_what_cleanup_raises_in_work_that_is_given_up_is_raised(entry: Entry) -> None:
    """Nobody takes the outcome of a chunk that was cancelled: an error in it would be lost."""

    async def main() -> None:
        async def work(x: int) -> None:
            try:
                begun.set()
                await bateau.time.sleep(60)
            finally:
                raise LookupError("no way to clean up")

        for on in (bateau.iter.tasks(), bateau.iter.threads()):
            for chunk in (1, 2):
                begun = bateau.sync.Event()
                with pytest.raises(ExceptionGroup) as info:
                    async with bateau.scope() as scope:
                        scope.spawn(bateau.iter(range(4)).par(1, on=on, chunk=chunk).map(work).collect)
                        await begun.wait()
                        scope.cancel("enough")
                assert info.group_contains(LookupError, match="no way to clean up")

    entry.run(main)


def test_a_pool_outlives_what_was_submitted(entry: Entry) -> None:
    class Guarded:
        """Its ``submit`` has something to do with the pool when it is cancelled."""

        workers = 2

        def __init__(self) -> None:
            self.open = False
            self.ended = 0

        async def start(self, scope: bateau.Scope) -> Guarded:
            self.open = True
            scope.defer(self.shut)
            return self

        def shut(self) -> None:
            self.open = False

        async def submit(self, work: Work, items: list[Any]) -> Outcome:
            try:
                return await work.run(items)
            finally:
                with bateau.CancelScope(shield=True):
                    await bateau.time.sleep(0.005)
                assert self.open
                self.ended += 1

        async def close(self) -> None: ...

    async def main() -> None:
        async def late(x: int) -> int:
            await bateau.time.sleep(60 if x else 0)
            return x

        on = Guarded()
        async for _ in bateau.iter(range(9)).par(on=on, chunk=1).map(late):
            break
        await bateau.checkpoint()
        assert on.ended == 4
        assert not on.open

    entry.run(main)


def test_a_timed_out_next_loses_nothing(entry: Entry) -> None:
    async def main() -> None:
        async def slowly(x: int) -> int:
            await bateau.time.sleep(0.02 if x == 3 else 0)
            return x

        got: list[int] = []
        async with bateau.iter(range(8)).par(2).map(slowly).iter() as it:
            while len(got) < 8:
                with bateau.move_on_after(0.002):
                    got.append(await it.next())
        assert got == list(range(8))

    entry.run(main)


def test_a_fold_with_a_fixed_chunk_is_the_same_to_the_last_bit() -> None:
    floats = [0.1 * x**1.5 for x in range(1, 400)]

    async def main() -> set[float]:
        found: set[float] = set()
        for on in (bateau.iter.tasks(1), bateau.iter.tasks(7), bateau.iter.threads(3)):
            for _ in range(3):
                found.add(await bateau.iter(floats).par(on=on, chunk=32).sum(0.0))
                found.add(await bateau.iter(floats).par(on=on, chunk=32).fold(float, add, add))
        return found

    assert len(bateau.run(main, runtime="native")) == 1


def test_progress(entry: Entry, on: Executor) -> None:
    async def main() -> None:
        seen: list[Any] = []
        await bateau.iter(range(50)).par(on=on, chunk=8, progress=seen.append).map(nothing).collect()
        assert [p.chunks for p in seen] == list(range(1, 8))
        assert seen[-1].items == 50
        assert seen[-1].failed == 0
        assert all(a.items < b.items and a.seconds <= b.seconds for a, b in itertools.pairwise(seen))

    entry.run(main)


def test_an_executor_of_ones_own(entry: Entry) -> None:
    class Counting:
        """Runs everything at once, in the calling task."""

        workers = 2

        def __init__(self) -> None:
            self.log: list[str] = []

        async def start(self, scope: bateau.Scope) -> Counting:
            self.log.append("start")
            return self

        async def submit(self, work: Work, items: list[Any]) -> Outcome:
            self.log.append(f"submit {len(items)}")
            return await work.run(items)

        async def close(self) -> None:
            self.log.append("close")

    async def main() -> None:
        on = Counting()
        assert await bateau.iter(range(9)).par(on=on, chunk=4).map(square_later).collect() == [x * x for x in range(9)]
        assert (on.log[0], on.log[-1]) == ("start", "close")
        assert sorted(on.log[1:-1]) == ["submit 1", "submit 4", "submit 4"]

    entry.run(main)


def test_an_executor_that_cannot_start(entry: Entry) -> None:
    class Broken:
        workers = 2

        async def start(self, scope: bateau.Scope) -> Any:
            raise OSError("no room")

    async def main() -> None:
        with pytest.raises(OSError, match="no room"):
            await bateau.iter(range(9)).par(on=Broken()).map(square).collect()

    entry.run(main)


def test_a_shared_pool(entry: Entry) -> None:
    async def main() -> None:
        recipe = bateau.iter.threads(2)
        async with recipe as pool:
            assert await bateau.iter(range(9)).par(on=pool).map(square).sum() == 204
            assert await bateau.iter(range(9)).par(on=pool).count() == 9
            with pytest.raises(bateau.ScopeError, match="entered already"):
                async with recipe:
                    pass
        with pytest.raises(bateau.ScopeError, match="has been left"):
            await bateau.iter(range(9)).par(on=pool).count()
        async with recipe as pool:
            assert await bateau.iter(range(9)).par(on=pool).count() == 9

    entry.run(main)


def test_computing_on_tasks_is_told(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "BUSY_SECONDS", 0.05)

    async def main() -> None:
        def compute(x: int) -> int:
            time.sleep(0.006)
            return x

        with pytest.warns(bateau.HazardWarning, match="never_waits: .map.*never waited.*processes") as found:
            await bateau.iter(range(15)).par(2).map(compute).collect()
        assert len(found) == 1
        assert found[0].filename == __file__

    entry.run(main)


def test_misuse() -> None:
    it = bateau.iter(range(3))
    with pytest.raises(TypeError, match=r"\.par\(\) needs a whole number for n, not '4'"):
        it.par("4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n of at least 1, not 0"):
        it.par(0)
    with pytest.raises(ValueError, match="chunk of at least 1"):
        it.par(chunk=0)
    with pytest.raises(TypeError, match="bateau.iter.tasks"):
        it.par(on="processes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="progress= to be a function"):
        it.par(progress=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="processes.. needs 1 or more workers, not 0"):
        bateau.iter.processes(0)
    with pytest.raises(TypeError, match="threads.. needs a whole number of workers, not 2.5"):
        bateau.iter.threads(2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="distributed.Client or None, not 3"):
        bateau.iter.dask(3)
    par = it.par(2)
    with pytest.raises(Moved, match="was moved into .par"):
        it.map(square)
    with pytest.raises(TypeError, match=r"\.map\(\) needs a function, not a int"):
        par.map(3)  # type: ignore[call-overload]
    mapped = par.map(square)
    with pytest.raises(Moved, match="was moved into .map"):
        par.filter(is_even)
    with pytest.raises(TypeError, match="async for"):
        for _ in mapped:
            pass
    with pytest.raises(TypeError, match="collect"):
        mapped.__await__()
    assert repr(mapped) == "<ParIter iter(range).par(2, on=tasks(2)).map(square)>"
