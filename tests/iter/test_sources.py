"""Where pipelines begin: from functions, by polling, from callbacks on any thread, from channels and generators."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import bateau
from bateau.channel import channel
from bateau.iter import Moved, Overflowed, Push
from support.entries import Entry


def native(main: Any) -> Any:
    return bateau.run(main, runtime="native")


async def until(condition: Callable[[], object]) -> None:
    with bateau.fail_after(10):
        while not condition():
            await bateau.time.sleep(0.001)


# -- bateau.iter(...) --------------------------------------------------------------------------------------------------


def test_what_can_be_iterated(entry: Entry) -> None:
    class Readings:
        """A foreign async iterator."""

        def __init__(self) -> None:
            self.left = 2

        def __aiter__(self) -> Readings:
            return self

        async def __anext__(self) -> int:
            await bateau.checkpoint()
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    async def generate() -> AsyncIterator[int]:
        yield 1
        await bateau.checkpoint()
        yield 2

    def plain() -> Iterator[int]:
        yield 3

    async def main() -> None:
        tx, rx = channel[int](4)
        with tx:
            for n in range(3):
                await tx.send(n)
        assert await bateau.iter(rx).collect() == [0, 1, 2]
        for source, expected in [
            (Readings(), [1, 0]),
            (generate, [1, 2]),
            (generate(), [1, 2]),
            (plain, [3]),
            (plain(), [3]),
            (range(2), [0, 1]),
            ({"a": 1}, ["a"]),
            (lambda: bateau.iter([5]), [5]),
        ]:
            assert await bateau.iter(source).collect() == expected
        for made in (Readings(), generate, plain):
            assert [item async for item in bateau.iter(made)] == await bateau.iter(
                Readings() if isinstance(made, Readings) else made
            ).collect()
        it = bateau.iter([1])
        assert bateau.iter(it) is it
        await it.aclose()

    entry.run(main)


def test_what_can_not_be_iterated() -> None:
    async def fetch() -> None: ...

    for bad in (3, None, object()):
        with pytest.raises(TypeError, match="bateau.iter takes an iterable, an async iterable or a generator function"):
            bateau.iter(bad)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a coroutine: await it first"):
        bateau.iter(fetch())  # type: ignore[call-overload]


def test_nothing_runs_until_it_is_driven() -> None:
    calls: list[Any] = []

    async def main() -> None:
        def note(*args: Any) -> None:
            calls.append(args)

        made = [
            bateau.iter.from_fn(note),
            bateau.iter.unfold(1, note),
            bateau.iter.from_poll(note),
            bateau.iter.from_callback(note),
            bateau.iter.interval(1),
        ]
        for it in made:
            it.map(note)
        await bateau.yield_now()
        assert calls == []

    native(main)


def test_a_receiver_loses_nothing_to_a_timeout(entry: Entry) -> None:
    async def main() -> None:
        tx, rx = channel[int](4)
        it = bateau.iter(rx).map(lambda x: x * 2)
        for n in range(5):
            with bateau.move_on_after(0):
                await it.next()
            await tx.send(n)
            assert await it.next() == 2 * n
        tx.close()
        assert await it.next(None) is None
        rx.close()

    entry.run(main)


def test_an_iterable_that_fails_has_ended() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    async def main() -> None:
        it = bateau.iter(broken)
        assert await it.next() == 1
        with pytest.raises(OSError, match="gone"):
            await it.next()
        assert await it.next(None) is None

    native(main)


# -- from_fn, unfold, simple ones --------------------------------------------------------------------------------------


def test_from_fn(entry: Entry) -> None:
    async def main() -> None:
        items = iter(range(5))

        async def slow() -> int:
            await bateau.checkpoint()
            try:
                return next(items)
            except StopIteration:
                raise StopAsyncIteration from None

        assert await bateau.iter.from_fn(slow).collect() == [0, 1, 2, 3, 4]
        assert await bateau.iter.from_fn(iter([1, 2]).__next__).collect() == [1, 2]
        assert await bateau.iter.from_fn(iter([b"a", b"b", b"", b"c"]).__next__, until=b"").collect() == [b"a", b"b"]
        assert await bateau.iter.from_fn(iter([1, None]).__next__, until=None).collect() == [1]
        assert [x async for x in bateau.iter.from_fn(iter([1, 2]).__next__)] == [1, 2]

    entry.run(main)


def test_from_fn_goes_on_after_an_error() -> None:
    outcomes = iter([1, OSError("once"), 2])

    def read() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def main() -> None:
        it = bateau.iter.from_fn(read)
        assert await it.next() == 1
        with pytest.raises(OSError, match="once"):
            await it.next()
        assert await it.next() == 2
        assert await it.next(None) is None

    native(main)


def test_unfold(entry: Entry) -> None:
    pages: dict[str, tuple[list[int], str]] = {"first": ([1, 2], "second"), "second": ([3], "")}
    failed: list[str] = []

    async def fetch(url: str) -> tuple[list[int], str] | None:
        await bateau.checkpoint()
        if url == "second" and not failed:
            failed.append(url)
            raise OSError("try again")
        return pages[url] if url else None

    async def main() -> None:
        it = bateau.iter.unfold("first", fetch)
        assert await it.next() == [1, 2]
        with pytest.raises(OSError, match="try again"):
            await it.next()
        assert await it.next() == [3]  # the same state again
        assert await it.next(None) is None
        powers = bateau.iter.unfold(1, lambda n: (n, n * 2) if n < 20 else None)
        assert await powers.flat_map(lambda n: [n]).collect() == [1, 2, 4, 8, 16]
        with pytest.raises(TypeError, match=r"must return \(item, next state\), or None at the end; not 3"):
            await bateau.iter.unfold(0, lambda n: 3).collect()  # type: ignore[arg-type,return-value]

    entry.run(main)


def test_the_simple_ones() -> None:
    async def main() -> None:
        assert await bateau.iter.once(3).collect() == [3]
        assert await bateau.iter.empty().collect() == []
        assert await bateau.iter.repeat("a", 2).collect() == ["a", "a"]
        assert await bateau.iter.repeat("a", 0).collect() == []
        assert await bateau.iter.repeat("a").take(3).collect() == ["a"] * 3

    async def fetch() -> int:
        return 1

    native(main)
    with pytest.raises(TypeError, match="not a coroutine"):
        bateau.iter.once(fetch())
    with pytest.raises(ValueError, match="times"):
        bateau.iter.repeat(1, -1)
    for method in ("from_fn", "from_poll", "from_callback"):
        with pytest.raises(TypeError, match="needs a function"):
            getattr(bateau.iter, method)(3)


def test_interval(entry: Entry) -> None:
    async def main() -> None:
        start = bateau.now()
        ticks = await bateau.iter.interval(0.01).take(3).collect()
        assert bateau.now() - start >= 0.018  # some loops' timers count whole milliseconds
        assert [tick.index for tick in ticks] == [0, 1, 2]
        async with bateau.scope() as scope:
            seen: list[int] = []

            async def ticking() -> int:
                return await bateau.iter.interval(10).inspect(lambda tick: seen.append(tick.index)).count()

            task = scope.spawn(ticking)
            await until(lambda: seen)
            scope.stop()
            assert await task == 1

    entry.run(main)


# -- from_poll ---------------------------------------------------------------------------------------------------------


class Device:
    """Something that can only be asked; it has an item at each of these times."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)
        self.polls: list[float] = []
        self.start: float | None = None

    def poll(self) -> float | None:
        now = bateau.now()
        if self.start is None:
            self.start = now
        self.polls.append(now - self.start)
        if not self.times:
            raise StopIteration
        if now - self.start >= self.times[0]:
            return self.times.pop(0)
        return None


def test_from_poll_finds_what_comes(entry: Entry) -> None:
    async def main() -> None:
        device = Device(0, 0, 0, 0.05, 0.05, 0.1)
        assert await bateau.iter.from_poll(device.poll, min=0.002, max=0.02).collect() == [0, 0, 0, 0.05, 0.05, 0.1]
        assert len(device.polls) < 0.1 / 0.002 + 8

    entry.run(main)


def test_from_poll_asks_at_once_while_items_come_and_backs_off_in_a_silence() -> None:
    async def main() -> None:
        device = Device(*[0] * 50, 0.4)
        assert await bateau.iter.from_poll(device.poll, min=0.001, max=0.03).count() == 51
        assert device.polls[49] < 0.2  # nothing was slept between the first fifty
        silence = device.polls[50:-1]
        waits = [after - before for before, after in itertools.pairwise(silence)]
        # Never longer than `max` lasts too long on a slow machine; but as many polls as `min` allows would be 400.
        assert all(wait >= 0.0009 for wait in waits[:-1])
        assert len(silence) < 100
        assert max(waits) >= 0.02

    native(main)


def test_five_devices_on_one_thread(entry: Entry) -> None:
    async def main() -> None:
        devices = [Device(*(0.01 * k for k in range(5))) for _ in range(5)]
        async with bateau.scope() as scope:
            tasks = [scope.spawn(bateau.iter.from_poll(device.poll, max=0.01).count) for device in devices]
        assert [await task for task in tasks] == [5] * 5

    entry.run(main)


def test_from_poll_with_its_own_nothing_async_errors_and_timeouts(entry: Entry) -> None:
    answers = iter([-1, 5, OSError("glitch"), -1, -1, None, -1, 7])

    async def poll() -> int | None:
        await bateau.checkpoint()
        try:
            answer = next(answers)
        except StopIteration:
            raise StopAsyncIteration from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> None:
        it = bateau.iter.from_poll(poll, min=0.005, max=0.01, nothing=-1)
        found: list[Any] = []
        late = 0
        while True:
            try:
                with bateau.move_on_after(0.002) as scope:
                    found.append(await it.next())
            except OSError as error:
                found.append(str(error))
            except StopAsyncIteration:
                break
            late += scope.cancelled_caught
        assert found == [5, "glitch", None, 7]
        assert late

    entry.run(main)


def test_from_poll_limits() -> None:
    for bad in ({"min": 0}, {"min": 2, "max": 1}, {"max": float("inf")}):
        with pytest.raises(ValueError, match="0 < min <= max"):
            bateau.iter.from_poll(lambda: None, **bad)
    with pytest.raises(TypeError, match="number of seconds for max"):
        bateau.iter.from_poll(lambda: None, max="1")  # type: ignore[arg-type]


# -- from_callback -----------------------------------------------------------------------------------------------------


class Library:
    """Calls back from a thread of its own, as C libraries do."""

    def __init__(self, *items: Any, end: Any = None) -> None:
        self.items = items
        self.end = end
        self.push: Push[Any] | None = None
        self.unregistered = 0
        self.accepted: list[bool] = []
        self.thread: threading.Thread | None = None
        self.stop = threading.Event()

    def register(self, push: Push[Any]) -> Callable[[], None]:
        self.push = push
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self.unregister

    def run(self) -> None:
        assert self.push is not None
        for item in self.items:
            self.accepted.append(self.push(item))
        if isinstance(self.end, Exception):
            self.push.fail(self.end)
        elif self.end == "end":
            self.push.end()

    def unregister(self) -> None:
        self.unregistered += 1
        assert self.thread is not None
        self.thread.join()


class Given:
    """A registration that keeps its `push` for the test to call."""

    def __init__(self) -> None:
        self.pushes: list[Push[Any]] = []
        self.registered = bateau.CancelScope()

    def register(self, push: Push[Any]) -> None:
        self.pushes.append(push)
        self.registered.cancel()

    async def push_of(self, it: Any) -> Push[Any]:
        """Drive `it` until it has registered."""
        with self.registered:
            await it.next()
        (push,) = self.pushes
        return push


def test_callbacks_from_a_foreign_thread(entry: Entry) -> None:
    async def main() -> None:
        library = Library(*range(2000), end="end")
        it = bateau.iter.from_callback(library.register, capacity=2000)
        assert await it.map(lambda x: x + 1).collect() == list(range(1, 2001))
        assert library.unregistered == 1
        assert all(library.accepted)
        assert library.push is not None
        assert not library.push(1)  # nobody listens any more, which is no error of a callback
        assert library.push.closed

    entry.run(main)


def test_each_push_wakes_a_parked_consumer(entry: Entry) -> None:
    """From another thread, one at a time: a lost wake-up would hang."""

    async def main() -> None:
        taken = threading.Semaphore(0)

        def register(push: Push[int]) -> Callable[[], None]:
            def run() -> None:
                for n in range(200):
                    push(n)
                    if not taken.acquire(timeout=10):
                        return
                push.end()

            thread = threading.Thread(target=run)
            thread.start()
            return thread.join

        seen = 0
        with bateau.fail_after(20):
            async for n in bateau.iter.from_callback(register, capacity=1):
                assert n == seen
                seen += 1
                taken.release()
        assert seen == 200

    entry.run(main)


def test_callbacks_from_the_loops_own_thread(entry: Entry) -> None:
    async def main() -> None:
        given: list[Push[str]] = []
        it = bateau.iter.from_callback(given.append)
        async with bateau.scope() as scope:
            first = scope.spawn(it.next)
            await until(lambda: given)
            (push,) = given
            assert push("a")
            assert await first == "a"
            assert push("b")
            assert push("c")
            assert push.end()
            assert not push.end()
            assert not push("d")
            assert [x async for x in it] == ["b", "c"]

    entry.run(main)


def test_what_a_callback_pushes_while_it_is_registered_is_taken() -> None:
    async def main() -> None:
        def register(push: Push[int]) -> None:
            push(1)
            push(2)
            push.end()

        assert await bateau.iter.from_callback(register).collect() == [1, 2]

    native(main)


def test_a_failure_comes_after_what_was_pushed_before_it(entry: Entry) -> None:
    async def main() -> None:
        it = bateau.iter.from_callback(Library(1, 2, end=OSError("unplugged")).register)
        found: list[Any] = []
        with pytest.raises(OSError, match="unplugged"):
            async for item in it:
                found.append(item)
        assert found == [1, 2]

    entry.run(main)


@pytest.mark.parametrize(
    ("overflow", "expected", "taken"),
    [
        ("error", [0, 1, ("lost", 3)], [True, True, False, False, False]),
        ("drop_newest", [0, 1], [True, True, False, False, False]),
        ("drop_oldest", [3, 4], [True] * 5),
    ],
)
def test_overflow(entry: Entry, overflow: Any, expected: Any, taken: list[bool]) -> None:
    async def main() -> None:
        given = Given()
        it = bateau.iter.from_callback(given.register, capacity=2, overflow=overflow)
        it = it.catch(Overflowed, lambda error, item: ("lost", error.lost))
        async with it:
            push = await given.push_of(it)
            assert [push(n) for n in range(5)] == taken
            assert push.dropped == 3
            assert [await it.next() for _ in expected] == expected
            # There is room again: what comes now is neither lost nor out of place.
            assert push(7)
            assert await it.next() == 7
            assert [push(n) for n in (8, 9)] == [True, True]
            assert [await it.next() for _ in range(2)] == [8, 9]

    entry.run(main)


def test_an_overflow_is_an_error_unless_told() -> None:
    async def main() -> None:
        def register(push: Push[int]) -> None:
            for n in range(4):  # the first of them is handed to the consumer, who waits for it
                push(n)

        it = bateau.iter.from_callback(register, capacity=2)
        assert [await it.next() for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Overflowed, match="more than the 2 items its inbox holds: 1 lost here") as caught:
            await it.next()
        assert caught.value.lost == 1
        await it.aclose()

    native(main)


def test_it_is_unregistered_however_it_is_left(entry: Entry) -> None:
    async def main() -> None:
        async def by_break(it: Any) -> None:
            async for _ in it:
                break
            del it

        async def by_take(it: Any) -> None:
            await it.take(1).collect()

        async def by_timeout(it: Any) -> None:
            with bateau.CancelScope() as scope:
                await it.inspect(lambda _: scope.cancel()).skip(5).collect()

        async def by_error(it: Any) -> None:
            with pytest.raises(KeyError):
                async for _ in it:
                    raise KeyError

        async def by_block(it: Any) -> None:
            async with it:
                await it.next()

        for way in (by_break, by_take, by_timeout, by_error, by_block):
            library = Library(1, 2)
            await way(bateau.iter.from_callback(library.register))
            await bateau.checkpoint()
            assert library.unregistered == 1, way
            assert library.push is not None
            assert library.push.closed

    entry.run(main)


def test_registering_may_wait(entry: Entry) -> None:
    log: list[str] = []

    async def register(push: Push[int]) -> Callable[[], Any]:
        await bateau.time.sleep(0.001)
        log.append("registered")
        push(1)

        async def unregister() -> None:
            await bateau.time.sleep(0.001)
            log.append("unregistered")

        return unregister

    async def main() -> None:
        assert await bateau.iter.from_callback(register).first() == 1
        assert log == ["registered", "unregistered"]

    entry.run(main)


def test_errors_of_registering_reach_the_consumer(entry: Entry) -> None:
    async def main() -> None:
        def refuse(push: Push[int]) -> None:
            raise OSError("no such device")

        with pytest.raises(OSError, match="no such device"):
            await bateau.iter.from_callback(refuse).collect()
        with pytest.raises(TypeError, match="must return a function that unregisters"):
            await bateau.iter.from_callback(lambda push: 3).collect()

        def register(push: Push[int]) -> Callable[[], None]:
            push(1)
            push.end()

            def unregister() -> None:
                raise OSError("stuck")

            return unregister

        with pytest.raises(BaseExceptionGroup) as caught:
            await bateau.iter.from_callback(register).collect()
        assert caught.group_contains(OSError, match="stuck")

    entry.run(main)


def test_bad_arguments_of_from_callback() -> None:
    with pytest.raises(ValueError, match="overflow='error' or"):
        bateau.iter.from_callback(print, overflow="wait")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="capacity of at least 1"):
        bateau.iter.from_callback(print, capacity=0)

    async def main() -> None:
        given = Given()
        async with bateau.iter.from_callback(given.register) as it:
            push = await given.push_of(it)
            with pytest.raises(TypeError, match="exception object"):
                push.fail("broken")  # type: ignore[arg-type]

    native(main)


def test_pushing_into_what_has_long_gone_is_harmless() -> None:
    async def main() -> Push[int]:
        given = Given()
        it = bateau.iter.from_callback(given.register)
        push = await given.push_of(it)
        await it.aclose()
        return push

    push = native(main)
    gc.collect()
    assert not push(1)
    assert not push.end()
    assert "closed" in repr(push) or "inbox" in repr(push)


def test_a_source_is_used_once() -> None:
    async def main() -> None:
        it = bateau.iter.from_fn(iter([1]).__next__)
        assert await it.collect() == [1]
        with pytest.raises(Moved):
            await it.collect()

    native(main)
