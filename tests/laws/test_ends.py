"""Laws 1 to 6 where things end at awkward moments: found by a review, each a hang, a crash or a lost error once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import bateau
from bateau import yield_now
from support.entries import on_asyncio_family, on_native


@pytest.mark.law(1)
def test_a_background_child_spawned_while_the_background_ends(entry: Any) -> None:
    async def main() -> None:
        event = bateau.sync.Event()

        async def acceptor() -> None:
            await event.wait()
            scope.spawn(bateau.time.sleep_forever, background=True)
            await bateau.time.sleep_forever()

        async with bateau.timeout(10), bateau.scope() as scope:
            scope.spawn(acceptor, background=True)
            await bateau.time.sleep(0.01)
            event.set()  # granted before the background is told to end: the acceptor spawns once more

    entry.run(main)


@pytest.mark.law(1)
@pytest.mark.parametrize("deferred", [False, True])
def test_what_a_background_child_spawns_as_the_others_have_ended_is_waited_for(entry: Any, deferred: bool) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        event = bateau.sync.Event()

        async def late() -> None:
            await yield_now()
            await yield_now()
            log.append("late")
            raise ValueError("late")

        async def acceptor() -> None:
            await event.wait()
            scope.spawn(late)

        async def work() -> None:
            await yield_now()
            event.set()  # the acceptor is woken before the block, which waits for this very task

        try:
            async with bateau.timeout(10), bateau.scope() as scope:
                if deferred:
                    scope.defer(log.append, "deferred")
                scope.spawn(acceptor, background=True)
                scope.spawn(work)
        except* ValueError:
            log.append("raised")
        return log

    assert entry.run(main) == ["late", *(["deferred"] if deferred else []), "raised"]


@pytest.mark.law(1)
def test_background_children_leave_the_limit_to_the_others(entry: Any) -> None:
    async def main() -> int:
        async def work() -> int:
            return 7

        async with bateau.timeout(10), bateau.scope(limit=1) as scope:
            scope.spawn(bateau.time.sleep_forever, background=True)
            task = scope.spawn(work)
        return task.outcome().unwrap()

    assert entry.run(main) == 7


@pytest.mark.law(2)
def test_a_delayed_restart_keeps_its_place_and_its_context(entry: Any) -> None:
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def main() -> list[str]:
        log: list[str] = []
        running = 0

        async def child(name: str) -> None:
            nonlocal running
            running += 1
            assert running == 1
            log.append(f"{name} {variable.get()}")
            variable.set("the task's own")
            await yield_now()
            running -= 1
            if log.count(f"{name} spawned") == 1 and name == "A":
                raise OSError(name)

        variable.set("spawned")
        async with bateau.scope(policy=bateau.Supervise(backoff=0.01), limit=1) as scope:
            scope.spawn(child, "A")
            scope.spawn(child, "B")
        return log

    assert entry.run(main) == ["A spawned", "A spawned", "B spawned"]


@pytest.mark.law(6)
def test_a_restart_that_is_waited_for_ends_with_the_stop(entry: Any) -> None:
    async def main() -> int:
        runs = 0

        async def fails() -> None:
            nonlocal runs
            runs += 1
            raise OSError("down")

        with pytest.raises(ExceptionGroup, match="1 task failed"):
            async with bateau.timeout(10), bateau.scope(policy=bateau.Supervise(backoff=60)) as scope:
                task = scope.spawn(fails)
                while not runs:
                    await yield_now()
                scope.stop()
        assert task.done
        return runs

    assert entry.run(main) == 1


@pytest.mark.law(2)
def test_a_deadline_meets_a_restart_that_is_waited_for(entry: Any) -> None:
    async def main() -> bool:
        async def fails() -> None:
            raise OSError("down")

        with bateau.move_on_after(0.05) as block:
            async with bateau.scope(policy=bateau.Supervise(backoff=60)) as scope:
                scope.spawn(fails)
        return block.cancel_called

    with pytest.raises(ExceptionGroup):
        entry.run(main)


@pytest.mark.law(2)
def test_a_policy_that_fails_fails_its_scope(entry: Any) -> None:
    class Broken(bateau.Policy):
        def child_ended(self, scope: bateau.Scope, task: bateau.Task[Any]) -> bool:
            raise OSError("the policy itself")

    async def main() -> None:
        async with bateau.scope(policy=Broken()) as scope:
            scope.spawn(yield_now)
            scope.spawn(bateau.time.sleep_forever)

    with pytest.raises(ExceptionGroup) as caught:
        entry.run(main)
    assert {type(error) for error in caught.value.exceptions} == {OSError}


@pytest.mark.law(2)
def test_first_success_does_not_hide_an_exit(entry: Any) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        async with bateau.scope(policy=bateau.FirstSuccess()) as scope:
            scope.spawn(leave)
            scope.spawn(bateau.time.sleep, 0.01)

    with pytest.raises(SystemExit):
        entry.run(main)


@pytest.mark.law(5)
@on_asyncio_family
def test_a_native_cancellation_during_deferred_cleanup_is_not_lost(entry: Any) -> None:
    async def main() -> None:
        natives: list[Any] = []

        async def victim() -> None:
            natives.append(asyncio.current_task())
            async with bateau.scope() as scope:
                scope.defer(asyncio.sleep, 30)

        async with bateau.scope() as team:
            task = team.spawn(victim)
            await bateau.time.sleep(0.02)
            natives[0].cancel()
            with pytest.raises(bateau.TaskCancelled):
                await task

    entry.run(main)


@pytest.mark.law(5)
@on_asyncio_family
def test_bare_foreign_yields_are_cancelled_too(entry: Any) -> None:
    async def main() -> int:
        with bateau.move_on_after(0.05) as block:
            while True:
                await asyncio.sleep(0)
        assert block.cancelled_caught
        current = asyncio.current_task()
        assert current is not None
        return current.cancelling()

    assert entry.run(main) == 0


@pytest.mark.law(15)
def test_cancelling_a_scope_from_another_thread_says_what_to_use(entry: Any) -> None:
    async def main() -> None:
        problems: list[BaseException] = []

        def elsewhere() -> None:
            for act in (scope.cancel, scope.stop):
                try:
                    act()
                except bateau.WrongRuntime as error:
                    problems.append(error)

        async with bateau.scope() as scope:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert scope.record is None
            assert len(problems) == 2
            assert "scope.token" in str(problems[0])

    entry.run(main)


@on_native
def test_very_long_timeouts(entry: Any) -> None:
    async def main() -> str:
        with bateau.move_on_after(3e9):
            return await bateau.thread.run(str, 3)

    assert entry.run(main) == "3"


def test_a_spawn_that_comes_too_late_is_told_so(runtime: Any) -> None:
    from bateau.runtimes import registry

    rt = registry.get(runtime.name)
    handles: list[Any] = []

    async def work() -> None: ...

    async def main() -> None:
        thread = threading.Thread(target=lambda: handles.append(rt.spawn(work)))
        thread.start()
        thread.join()

    runtime.run(main)
    with pytest.raises(RuntimeError, match="has ended"):
        handles[0].result(timeout=10)


def test_starting_a_program_in_a_loop_callback_is_refused(runtime: Any) -> None:
    problems: list[BaseException] = []

    async def inner() -> None: ...

    def callback() -> None:
        try:
            bateau.run(inner, runtime=runtime.name)
        except bateau.NestedRun as error:
            problems.append(error)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert "one of its callbacks" in str(problems[0])


def test_a_hazard_sink_that_fails_stops_nobody(entry: Any) -> None:
    import sys

    from bateau.kernel import hazard

    seen: list[str] = []

    def bad(finding: Any) -> None:
        raise OSError("sink")

    async def main() -> None:
        with bateau.move_on_after(5):
            async with bateau.cleanup(0.01) as budget:
                await bateau.time.sleep(30)
            assert budget.cancelled_caught

    hook, remove = sys.unraisablehook, hazard.add_sink(bad)
    sys.unraisablehook = lambda args: seen.append(str(args.exc_value))
    try:
        entry.run(main)
    finally:
        sys.unraisablehook = hook
        remove()
    assert seen == ["sink"]
