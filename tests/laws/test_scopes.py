"""Laws 1 to 4 and what scopes promise beside them: children, handles, failures, policies, cleanup."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import bateau
from bateau import yield_now


@pytest.mark.law(1)
def test_block_ends_when_last_child_has_ended(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def child(n: int) -> None:
            for _ in range(n):
                await yield_now()
            log.append(f"child {n}")

        async with bateau.scope() as scope:
            scope.spawn(child, 5)
            scope.spawn(child, 2)
            log.append("body")
        log.append("after")
        return log

    assert entry.run(main) == ["body", "child 2", "child 5", "after"]


@pytest.mark.law(1)
def test_background_children_are_cancelled_when_the_others_have_ended(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def forever() -> None:
            try:
                await bateau.time.sleep_forever()
            except bateau.Cancelled as exc:
                log.append(exc.reason)
                raise

        async def work() -> None:
            await yield_now()
            log.append("worked")

        async with bateau.scope() as scope:
            scope.spawn(forever, background=True)
            scope.spawn(work)
        return log

    assert entry.run(main) == ["worked", "the scope's other work has ended"]


@pytest.mark.law(1)
def test_leaving_out_of_order_is_a_named_error(entry: Any) -> None:
    async def main() -> None:
        outer, inner = bateau.shield(), bateau.shield()
        outer.__enter__()
        inner.__enter__()
        try:
            with pytest.raises(bateau.ScopeError, match="reverse order"):
                outer.__exit__(None, None, None)
        finally:
            inner.__exit__(None, None, None)
        await yield_now()  # the tree is whole again

    entry.run(main)


@pytest.mark.law(1)
def test_leaving_from_another_task_is_a_named_error(entry: Any) -> None:
    async def main() -> None:
        block = bateau.move_on_after(60)
        entered = bateau.sync.Event()

        async def opens() -> None:
            block.__enter__()
            entered.set()
            with bateau.shield():
                pass

        async with bateau.scope() as scope:
            scope.spawn(opens)
            await entered.wait()
            with pytest.raises(bateau.ScopeError, match=r"entered by task .*opens.* and is being left by"):
                block.__exit__(None, None, None)

    entry.run(main)


@pytest.mark.law(1)
def test_spawn_into_a_scope_that_is_not_open(entry: Any) -> None:
    async def child() -> None: ...

    async def main() -> None:
        scope = bateau.scope(name="late")
        with pytest.raises(bateau.ScopeError, match="'late'.*not been entered"):
            scope.spawn(child)
        async with scope:
            pass
        with pytest.raises(bateau.ScopeError, match="not been entered|has ended"):
            scope.spawn(child)
        with pytest.raises(bateau.ScopeError):
            scope.spawn(child())  # the coroutine object is closed, not forgotten

    entry.run(main)


@pytest.mark.law(2)
def test_handles_give_values_errors_and_outcomes(entry: Any) -> None:
    async def double(n: int) -> int:
        await yield_now()
        return n * 2

    async def fail() -> None:
        await yield_now()
        raise LookupError("no")

    async def main() -> None:
        async with bateau.scope(policy=bateau.Collect()) as scope:
            good, bad = scope.spawn(double, 21), scope.spawn(fail, name="bad")
            with pytest.raises(RuntimeError, match="has not ended"):
                good.outcome()
            assert await good == 42
            assert await good == 42  # a handle can be awaited again
            with pytest.raises(LookupError, match="no"):
                await bad
        assert good.outcome().unwrap() == 42
        assert isinstance(bad.outcome().error, LookupError)
        assert bad.name == "bad"

    entry.run(main)


@pytest.mark.law(2)
def test_a_failed_child_cancels_its_siblings_and_is_raised_in_a_group(entry: Any) -> None:
    async def main() -> None:
        seen: list[str] = []

        async def sibling() -> None:
            try:
                await bateau.time.sleep_forever()
            except bateau.Cancelled as exc:
                seen.append(exc.reason)
                raise

        async def fail() -> None:
            await yield_now()
            raise ValueError("first")

        with pytest.raises(ExceptionGroup) as caught:
            async with bateau.scope(name="s") as scope:
                scope.spawn(sibling)
                failed = scope.spawn(fail, name="f")
                try:
                    await failed
                except bateau.Cancelled as exc:  # inside the failing scope: not the child's error
                    seen.append(exc.reason)
                    raise
        assert [str(e) for e in caught.value.exceptions] == ["first"]
        assert seen.count("task 'f' failed with ValueError") == 2
        assert any("spawned at" in note for note in caught.value.exceptions[0].__notes__)

    entry.run(main)


@pytest.mark.law(2)
def test_awaiting_a_cancelled_task_from_elsewhere(entry: Any) -> None:
    async def main() -> None:
        async with bateau.scope() as scope:
            task = scope.spawn(bateau.time.sleep_forever, name="sleeper")
            await yield_now()
            assert task.cancel("enough")
            assert not task.cancel("again")
            with pytest.raises(bateau.TaskCancelled, match="enough"):
                await task
            assert task.outcome().cancelled

    entry.run(main)


@pytest.mark.law(2)
def test_body_error_alone_is_raised_as_it_is(entry: Any) -> None:
    async def main() -> None:
        async with bateau.scope() as scope:
            scope.spawn(bateau.time.sleep_forever)
            await yield_now()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        entry.run(main)


@pytest.mark.law(2)
def test_all_failures_are_in_the_group(entry: Any) -> None:
    async def fails_in_cleanup() -> None:
        try:
            await bateau.time.sleep_forever()
        finally:
            raise OSError("cleanup")

    async def main() -> None:
        async with bateau.scope() as scope:
            scope.spawn(fails_in_cleanup)
            await yield_now()
            raise KeyError("mine")

    with pytest.raises(ExceptionGroup) as caught:
        entry.run(main)
    assert {type(e) for e in caught.value.exceptions} == {KeyError, OSError}


@pytest.mark.law(2)
def test_limit_bounds_how_many_run(entry: Any) -> None:
    async def main() -> int:
        running = most = 0

        async def child() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await yield_now()
            await yield_now()
            running -= 1

        async with bateau.scope(limit=3) as scope:
            handles = [scope.spawn(child) for _ in range(20)]
        assert all(h.done for h in handles)
        return most

    assert entry.run(main) == 3


@pytest.mark.law(2)
def test_start_waits_until_the_child_says_it_is_ready(entry: Any) -> None:
    async def server(port: int, *, task_status: bateau.Starting[int]) -> None:
        await yield_now()
        task_status.started(port + 1)
        await bateau.time.sleep_forever()

    async def broken(*, task_status: bateau.Starting[None]) -> None:
        await yield_now()
        raise OSError("address in use")

    async def forgetful(*, task_status: bateau.Starting[None]) -> None:
        await yield_now()

    async def main() -> None:
        async with bateau.scope() as scope:
            assert await scope.start(server, 80) == 81
            with pytest.raises(OSError, match="address in use"):
                await scope.start(broken)
            with pytest.raises(RuntimeError, match=r"without calling task_status.started\(\)"):
                await scope.start(forgetful)
            assert scope.record is None  # a failed start is its caller's business, not the siblings'
            with pytest.raises(TimeoutError):
                with bateau.timeout(0.01):

                    async def never(*, task_status: bateau.Starting[None]) -> None:
                        await bateau.time.sleep_forever()

                    await scope.start(never)
            assert len(scope.tasks) == 1
            scope.cancel()

    entry.run(main)


@pytest.mark.law(2)
def test_policies(entry: Any) -> None:
    async def value(after: int, what: Any) -> Any:
        for _ in range(after):
            await yield_now()
        if isinstance(what, Exception):
            raise what
        return what

    async def main() -> None:
        first = bateau.FirstSuccess()
        async with bateau.scope(policy=first) as scope:
            scope.spawn(value, 1, OSError("mirror down"))
            scope.spawn(value, 3, "second mirror")
            slow = scope.spawn(value, 10**9, "never")
        assert first.result == "second mirror"
        assert slow.outcome().cancelled

        with pytest.raises(ExceptionGroup) as caught:
            async with bateau.scope(policy=bateau.FirstSuccess()) as scope:
                scope.spawn(value, 1, OSError("a"))
                scope.spawn(value, 1, OSError("b"))
        assert len(caught.value.exceptions) == 2

        collect = bateau.Collect()
        async with bateau.scope(policy=collect) as scope:
            scope.spawn(value, 1, OSError("a"))
            ok = scope.spawn(value, 5, 1)
        assert ok.outcome().unwrap() == 1
        assert [str(e) for e in collect.errors] == ["a"]

    entry.run(main)


@pytest.mark.law(2)
def test_collected_errors_nobody_looks_at_are_reported(entry: Any) -> None:
    async def fail() -> None:
        raise ValueError("unseen")

    async def main() -> None:
        async with bateau.scope(policy=bateau.Collect()) as scope:
            scope.spawn(fail)

    import gc

    with pytest.warns(bateau.HazardWarning, match="unretrieved_error.*unseen"):
        entry.run(main)
        gc.collect()


@pytest.mark.law(2)
def test_supervision_restarts_within_its_limit(entry: Any) -> None:
    async def main() -> None:
        runs = 0

        async def flaky() -> str:
            nonlocal runs
            runs += 1
            await yield_now()
            if runs < 3:
                raise OSError(runs)
            return "up"

        policy = bateau.Supervise(max_restarts=3, backoff=0.001)
        async with bateau.scope(policy=policy) as scope:
            handle = scope.spawn(flaky)
            assert await handle == "up"
        assert (runs, policy.restarted) == (3, 2)

        async def hopeless() -> None:
            raise OSError("down")

        with pytest.raises(ExceptionGroup) as caught:
            async with bateau.scope(policy=bateau.Supervise(max_restarts=2)) as scope:
                scope.spawn(hopeless)
        assert "giving up" in str(caught.value.exceptions[0].__notes__)

    entry.run(main)


@pytest.mark.law(4)
def test_a_task_knows_who_it_is(entry: Any) -> None:
    async def main() -> None:
        async with bateau.scope(name="team") as scope:
            task = scope.spawn(bateau.time.sleep_forever, name="worker", priority=3)
            while task.waiting is None:  # trio chooses its order at random
                await yield_now()
            assert task.name == "worker"
            assert task.scope is scope
            assert task.priority == 3
            assert task.spawn_site[0] == __file__
            assert task.waiting is not None
            assert "sleep" in task.waiting.describe()
            scope.cancel()

    entry.run(main)


@pytest.mark.law(4)
def test_owned_and_deferred_are_closed_in_reverse_after_the_children(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        class Thing:
            def __init__(self, name: str) -> None:
                self.name = name

            async def aclose(self) -> None:
                await yield_now()
                log.append(f"close {self.name}")

        async def child() -> None:
            try:
                await bateau.time.sleep_forever()
            finally:
                log.append("child ends")

        async with bateau.scope() as scope:
            scope.own(Thing("a"))
            scope.own(Thing("b"))
            scope.defer(log.append, "deferred")
            scope.spawn(child)
            await yield_now()
            scope.cancel()
        with pytest.raises(TypeError, match="neither aclose"):
            async with bateau.scope() as scope:
                scope.own(3)
        return log

    assert entry.run(main) == ["child ends", "deferred", "close b", "close a"]


@pytest.mark.law(4)
def test_a_failing_close_does_not_skip_the_others(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        def bad() -> None:
            raise OSError("close failed")

        with pytest.raises(ExceptionGroup):
            async with bateau.scope() as scope:
                scope.defer(log.append, "first deferred, last run")
                scope.defer(bad)
        return log

    assert entry.run(main) == ["first deferred, last run"]


def test_bad_input_says_what_to_do(entry: Any) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="limit"):
            bateau.scope(limit=0)
        with pytest.raises(ValueError, match="0 or more"):
            bateau.timeout(-1)
        with pytest.raises(ValueError, match="0 or more"):
            bateau.timeout(float("nan"))
        with pytest.raises(TypeError, match="number of seconds"):
            bateau.timeout("3")  # type: ignore[arg-type]
        async with bateau.scope() as scope:
            with pytest.raises(TypeError, match="spawn_blocking"):
                scope.spawn(len, [])  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="async function"):
                scope.spawn(3)  # type: ignore[call-overload]
        with pytest.raises(bateau.ScopeError, match="entered before"):
            async with scope:
                pass

    entry.run(main)


def test_run_refuses_what_it_cant_run(runtime: Any) -> None:
    async def main() -> None:
        with pytest.raises(bateau.NestedRun, match="await the function instead"):
            bateau.run(main)

    runtime.run(main)
    with pytest.raises(TypeError, match=r"run\(main\) instead of run\(main\(\)\)"):
        coro = main()
        try:
            runtime.run(coro)
        finally:
            coro.close()
    with pytest.raises(TypeError, match="async function"):
        runtime.run(lambda: 3)
    with pytest.raises(ValueError, match="unknown runtime 'nope'; known: native"):
        bateau.run(main, runtime="nope")


def test_a_task_nobody_references_is_not_lost(entry: Any) -> None:
    """On plain asyncio a task that only its own cycle references may vanish in a collection."""
    import gc

    async def main() -> list[int]:
        done: list[int] = []

        async def child(n: int) -> None:
            await bateau.time.sleep(0.01)
            done.append(n)

        async with bateau.scope() as scope:
            for n in range(10):
                scope.spawn(child, n)
            await yield_now()
            gc.collect()
        return done

    assert sorted(entry.run(main)) == list(range(10))


def test_asyncio_is_free_to_be_imported_in_mid_step() -> None:
    """A native program that starts without asyncio gets its loop in the very step that imports it."""
    import subprocess
    import sys

    program = (
        "import sys, bateau\n"
        "async def main():\n"
        "    assert 'asyncio' not in sys.modules\n"
        "    import asyncio\n"
        "    assert asyncio.get_running_loop().is_running()\n"
        "    assert asyncio.current_task().get_name()\n"
        "    await asyncio.sleep(0.001)\n"
        "    async with asyncio.timeout(1):\n"
        "        return await asyncio.to_thread(lambda: 42)\n"
        "print(bateau.run(main, runtime='native'))\n"
    )
    out = subprocess.run([sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=60)
    assert (out.stdout, out.returncode) == ("42\n", 0), out.stderr
    assert asyncio is not None
