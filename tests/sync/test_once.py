"""Once and OnceMap: computed once under concurrency, failure and cancellation."""

from __future__ import annotations

from typing import Any

import pytest

import bateau
from bateau import sync
from bateau.kernel import hazard
from support.entries import Entry
from support.waiting import until

flavours = pytest.mark.parametrize("flavour", ["local", "shared"])


# -- Once ----------------------------------------------------------------------------------------------------------------


@flavours
def test_once_runs_once(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        once: sync.Once[int] = sync.Once(name="config", flavour=flavour)
        calls: list[int] = []
        assert once.get(None) is None
        with pytest.raises(LookupError, match=r"once 'config' .* has no value yet"):
            once.get()

        async def load(number: int) -> int:
            calls.append(number)
            await bateau.yield_now()
            return 42

        async with bateau.scope() as scope:
            tasks = [scope.spawn(once.run, load, number) for number in range(5)]
            assert [await task for task in tasks] == [42] * 5
        assert len(calls) == 1
        assert once.is_set()
        assert once.get() == once.get(0) == await once.wait() == await once.run(load, 9) == 42
        with pytest.raises(RuntimeError, match="only once"):
            once.set(1)

    entry.run(main)


@flavours
@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_the_next_takes_over(entry: Entry, flavour: Any, how: str) -> None:
    async def main() -> None:
        once: sync.Once[str] = sync.Once(flavour=flavour)
        started = sync.Event()
        go = sync.Event()

        async def first() -> str:
            started.set()
            await go.wait()
            raise LookupError("mine alone")

        async def second() -> str:
            await bateau.yield_now()
            return "second"

        async def runs_first() -> None:
            if how == "fails":
                with pytest.raises(LookupError, match="mine alone"):
                    await once.run(first)
            else:
                await once.run(first)

        async with bateau.scope() as scope:
            maker = scope.spawn(runs_first)
            await started.wait()
            only_waits = scope.spawn(lambda: waits(once))
            others = [scope.spawn(once.run, second) for _ in range(3)]
            await until(lambda: len(tuple(once.waiters())) == 4)
            assert once.holders() == (maker,)
            if how == "fails":
                go.set()
            else:
                maker.cancel("gives up")
            assert [await other for other in others] == ["second"] * 3
            assert await only_waits == "second"

    async def waits(once: sync.Once[str]) -> str:
        return await once.wait()

    entry.run(main)


@flavours
def test_taking_over_when_woken_but_not_stepped(entry: Entry, flavour: Any) -> None:
    """The one whose turn it became is cancelled before it knows: the turn goes on."""

    async def main() -> None:
        once: sync.Once[str] = sync.Once(flavour=flavour)
        ready = sync.Event()

        async def fails() -> str:
            ready.set()
            await until(lambda: len(tuple(once.waiters())) == 2)
            next_one.cancel("too late for this one")
            raise LookupError

        async def never() -> str:
            await bateau.yield_now()
            raise AssertionError("cancelled at its first wait")

        async def makes() -> str:
            return "made"

        async def maker() -> None:
            with pytest.raises(LookupError):
                await once.run(fails)

        async with bateau.scope() as scope:
            scope.spawn(maker)
            await ready.wait()
            next_one = scope.spawn(once.run, never)
            await until(lambda: len(tuple(once.waiters())) == 1)
            last = scope.spawn(once.run, makes)
            assert await last == "made"

    entry.run(main)


def test_asking_for_what_one_makes(entry: Entry) -> None:
    async def main() -> None:
        once: sync.Once[int] = sync.Once(name="config")

        async def asks() -> int:
            return await once.run(asks)

        with pytest.raises(sync.OwnershipError, match="makes the value of once 'config'"):
            await once.run(asks)
        with pytest.raises(TypeError, match="run needs an async function"):
            await once.run(42)  # type: ignore[arg-type]

        async def sets() -> int:
            with pytest.raises(RuntimeError, match="being made"):
                once.set(1)
            return 2

        assert await once.run(sets) == 2

    entry.run(main)


# -- OnceMap -------------------------------------------------------------------------------------------------------------


@flavours
def test_each_key_once(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        calls: list[str] = []

        async def fetch(key: str) -> str:
            calls.append(key)
            await bateau.yield_now()
            return key.upper()

        async with bateau.scope() as scope:
            cache = sync.OnceMap(scope, fetch, name="pages", flavour=flavour)

            async def asks(key: str) -> str:
                return await cache.get(key)

            tasks = [scope.spawn(asks, key) for key in "abcabcabc"]
            assert [await task for task in tasks] == list("ABCABCABC")
            assert sorted(calls) == ["a", "b", "c"]
            assert await cache.get("a") == "A"
            assert (len(cache), "a" in cache, sorted(cache), cache.peek("b"), cache.peek("x", 0)) == (
                3,
                True,
                ["a", "b", "c"],
                "B",
                0,
            )
            assert cache.statistics() == (3, 0, 0)
            cache["x"] = "set"
            assert await cache.get("x") == "set"
        assert sorted(calls) == ["a", "b", "c"]

    entry.run(main)


@flavours
def test_a_cancelled_requester_ends_nothing(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        calls: list[str] = []
        go = sync.Event()

        async def fetch(key: str) -> str:
            calls.append(key)
            await go.wait()
            return key.upper()

        async with bateau.scope() as scope:
            cache = sync.OnceMap(scope, fetch, flavour=flavour)

            async def asks() -> str:
                return await cache.get("a")

            first, second = scope.spawn(asks), scope.spawn(asks)
            await until(lambda: cache.statistics().tasks_waiting == 2 and calls)
            first.cancel("gives up")
            assert cache.statistics() == (0, 1, 1)
            go.set()
            assert await second == "A"

            # All give up: the result is not lost either.
            go.clear()
            with bateau.move_on_after(0.001) as impatient:
                await cache.get("b")
            assert impatient.cancelled_caught
            go.set()
            assert await cache.get("b") == "B"
        assert calls == ["a", "b"]

    entry.run(main)


@flavours
@pytest.mark.parametrize("cache_errors", [False, True])
def test_errors_go_to_who_waits(entry: Entry, flavour: Any, cache_errors: bool) -> None:
    async def main() -> None:
        calls: list[str] = []

        async def fetch(key: str) -> str:
            calls.append(key)
            await until(lambda: cache.statistics().tasks_waiting == 2 or len(calls) > 1)
            raise LookupError(key)

        async with bateau.scope() as scope:
            cache = sync.OnceMap(scope, fetch, cache_errors=cache_errors, flavour=flavour)

            async def asks() -> None:
                with pytest.raises(LookupError, match="a"):
                    await cache.get("a")

            for _ in range(2):
                scope.spawn(asks)
            await until(lambda: calls and not cache.statistics().computing)
            assert "a" not in cache
            await asks()
            assert len(calls) == (1 if cache_errors else 2)
            cache.discard("a")
            await asks()
            assert len(calls) == (2 if cache_errors else 3)

    entry.run(main)


@flavours
def test_an_error_that_nobody_waits_for_is_reported(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        found: list[hazard.Finding] = []
        remove = hazard.add_sink(found.append)
        go = sync.Event()

        async def fetch(key: str) -> str:
            await go.wait()
            raise LookupError(key)

        try:
            async with bateau.scope() as scope:
                cache = sync.OnceMap(scope, fetch, name="pages", flavour=flavour)
                with bateau.move_on_after(0.001):
                    await cache.get("a")
                go.set()
                await until(lambda: found)
        finally:
            remove()
        assert found[0].name == "unretrieved_error"
        assert "computation of 'a' in once map 'pages' failed" in found[0].message
        assert found[0].filename == __file__

    entry.run(main)


@flavours
@pytest.mark.parametrize("how", ["delete", "discard", "clear", "set"])
def test_eviction_while_it_is_computed(entry: Entry, flavour: Any, how: str) -> None:
    async def main() -> None:
        calls: list[str] = []
        go = sync.Event()

        async def fetch(key: str) -> int:
            calls.append(key)
            number = len(calls)
            await go.wait()
            return number

        async with bateau.scope() as scope:
            cache = sync.OnceMap(scope, fetch, flavour=flavour)

            async def asks() -> int:
                return await cache.get("a")

            before = scope.spawn(asks)
            await until(lambda: calls)
            if how == "delete":
                del cache["a"]
            elif how == "discard":
                cache.discard("a")
            elif how == "clear":
                cache.clear()
            else:
                cache["a"] = 100
            after = scope.spawn(asks)
            await until(lambda: how == "set" or len(calls) == 2)
            go.set()
            assert await before == 1
            assert await after == (100 if how == "set" else 2)
            assert cache.peek("a") == (100 if how == "set" else 2)
            del cache["a"]
            with pytest.raises(KeyError):
                del cache["a"]
            cache.discard("a")

    entry.run(main)


@flavours
def test_a_computation_that_asks_for_itself(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        async def fetch(key: str) -> str:
            return await cache.get({"a": "b", "b": "c", "c": "a"}[key])

        async with bateau.scope() as scope:
            cache = sync.OnceMap(scope, fetch, name="ring", flavour=flavour)
            with pytest.raises(RuntimeError, match="would wait for itself"):
                await cache.get("a")

    entry.run(main)


@flavours
def test_the_scope_of_the_computations_ends(entry: Entry, flavour: Any) -> None:
    async def main() -> None:
        started = sync.Event()

        async def fetch(key: str) -> str:
            started.set()
            await bateau.time.sleep(60)
            return key

        async def asks(cache: sync.OnceMap[str, str]) -> None:
            with pytest.raises(bateau.TaskCancelled, match=r"computation of 'a' .* was cancelled with its scope"):
                await cache.get("a")

        async with bateau.scope() as outer:
            async with bateau.scope() as scope:
                cache = sync.OnceMap(scope, fetch, flavour=flavour)
                outer.spawn(asks, cache)
                await started.wait()
        with pytest.raises(bateau.ScopeError, match=r"has ended|has not been entered"):
            await cache.get("b")

    entry.run(main)


def test_what_a_get_waits_for(entry: Entry) -> None:
    async def main() -> None:
        go = sync.Event()

        async def fetch(key: str) -> str:
            await go.wait()
            return key

        async with bateau.scope() as scope:
            cache = sync.OnceMap(scope, fetch, name="pages")

            async def asks() -> None:
                await cache.get("a")

            task = scope.spawn(asks)
            await until(lambda: go.statistics().tasks_waiting)
            assert task.waiting is not None
            (computing,) = task.waiting.resource.satisfiers()
            assert computing.name == "pages['a']"
            assert task.waiting.describe() == "get of 'a' from once map 'pages' (0 cached, 1 being computed)"
            assert cache.holders() == (computing,)
            assert len(tuple(cache.waiters())) == 1
            go.set()

    entry.run(main)
