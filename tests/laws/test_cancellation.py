"""Laws 5 to 7: the cancellation matrix {own park, foreign park, running, woken} x {scope, deadline, native} x {shield}."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import bateau
from bateau import yield_now
from support.entries import on_asyncio_family, on_asyncio_tasks


async def foreign_sleep(entry: Any, seconds: float) -> None:
    """A wait that is not ours."""
    if entry.family == "trio":
        import trio

        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


WAITS = ("own park", "foreign park", "running", "woken")


@pytest.mark.law(5)
@pytest.mark.parametrize("how", ["scope", "deadline"])
@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("shielded", [False, True])
def test_matrix(entry: Any, wait: str, how: str, shielded: bool) -> None:
    """In every state, by every cause: the task ends, in its own scope's name, once a shield is off; nothing is left over."""

    async def main() -> list[str]:
        log: list[str] = []
        event = bateau.sync.Event()
        inside = bateau.sync.Event()

        async def act() -> None:
            inside.set()
            if wait == "own park":
                await bateau.time.sleep(0.05 if shielded else 30)
            elif wait == "foreign park":
                await foreign_sleep(entry, 0.05 if shielded else 30)
            elif wait == "woken":
                await event.wait()
            log.append("acted")

        async def victim(scope: bateau.CancelScope) -> None:
            with scope:
                try:
                    if shielded:
                        with bateau.shield():
                            await act()
                    else:
                        await act()
                    await bateau.time.sleep(30)
                except bateau.Cancelled as exc:
                    log.append("cancelled")
                    if exc.record is not None:
                        log.append(exc.reason)
                    raise
            log.append(f"caught {scope.cancelled_caught}")
            await yield_now()
            await foreign_sleep(entry, 0.001)

        scope = bateau.move_on_after(None)
        async with bateau.scope() as team:
            task = team.spawn(victim, scope)
            await inside.wait()
            if wait == "woken":
                event.set()
            if how == "scope":
                scope.cancel("by hand")
            else:
                scope.reschedule(bateau.now() + 0.01)
            await task
        return log

    log = entry.run(main)
    reason = "by hand" if how == "scope" else "deadline passed"
    acted = shielded or wait in ("running", "woken")
    expected = (["acted"] if acted else []) + ["cancelled", reason, "caught True"]
    assert log == expected


@pytest.mark.law(5)
@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("shielded", [False, True])
@on_asyncio_family
def test_matrix_native(entry: Any, wait: str, shielded: bool) -> None:
    """Native ``task.cancel()`` from foreign code: once, counted by asyncio, through shields; a granted wait keeps its value."""

    async def main() -> list[str]:
        log: list[str] = []
        event = bateau.sync.Event()
        started = asyncio.Event()
        natives: list[Any] = []

        async def act() -> None:
            started.set()
            if wait == "own park":
                await bateau.time.sleep(30)
            elif wait == "foreign park":
                await asyncio.sleep(30)
            elif wait == "woken":
                await event.wait()
                log.append("got it")
                await yield_now()
            else:
                natives[0].cancel()
                await yield_now()

        async def victim() -> None:
            natives.append(asyncio.current_task())
            try:
                async with bateau.scope():
                    if shielded:
                        with bateau.shield():
                            await act()
                    else:
                        await act()
                    log.append("not cancelled")
            except bateau.Cancelled as exc:
                exact = type(exc) is asyncio.CancelledError
                log.append(f"cancelled, exact type {exact}, count {natives[0].cancelling()}")
                raise

        async with bateau.scope() as team:
            task = team.spawn(victim)
            await started.wait()
            if wait == "woken":
                event.set()
            if wait != "running":
                natives[0].cancel()
            with pytest.raises(bateau.TaskCancelled):
                await task
        return log

    log = entry.run(main)
    assert log == (["got it"] if wait == "woken" else []) + ["cancelled, exact type True, count 1"]


@pytest.mark.law(5)
def test_level_triggered_until_the_scope_is_left(entry: Any) -> None:
    async def main() -> int:
        times = 0
        with bateau.move_on_after(None) as scope:
            scope.cancel()
            try:
                await yield_now()
            except bateau.Cancelled:
                times += 1
                for wait in (yield_now, bateau.checkpoint, lambda: bateau.time.sleep(0), lambda: bateau.time.sleep(9)):
                    with pytest.raises(bateau.Cancelled):
                        await wait()
                    times += 1
                with bateau.shield():
                    await yield_now()
                raise
        await yield_now()
        return times

    assert entry.run(main) == 5


@pytest.mark.law(5)
def test_cancelled_is_the_hosts_exact_type_with_our_record(entry: Any) -> None:
    async def main() -> None:
        if entry.family == "trio":
            import trio

            exact: Any = trio.Cancelled
        else:
            exact = asyncio.CancelledError
        async with bateau.scope() as scope:
            task = scope.spawn(bateau.time.sleep_forever)
            await yield_now()
            task.cancel("why not")
        error = task.outcome().error
        assert type(error) is exact
        assert isinstance(error, bateau.Cancelled)
        assert error.reason == "why not"
        assert __file__ in error.origin
        assert [r.reason for r in error.chain] == ["why not"]

    entry.run(main)


@pytest.mark.law(5)
@on_asyncio_tasks
def test_native_accounting_is_exact(entry: Any) -> None:
    async def main() -> None:
        native = asyncio.current_task()
        assert native is not None
        for depth in range(1, 4):
            scopes = [bateau.move_on_after(None) for _ in range(depth)]
            for scope in scopes:
                scope.__enter__()
            scopes[0].cancel("outermost")
            exc: BaseException | None = None
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError as error:
                exc = error
                assert native.cancelling() == 1
            for scope in reversed(scopes):
                absorbed = scope.__exit__(type(exc), exc, None)
                if absorbed:
                    exc = None
            assert exc is None
            assert native.cancelling() == 0
        async with asyncio.timeout(5):
            with bateau.move_on_after(0.005):
                await asyncio.sleep(30)
            assert native.cancelling() == 0
        with bateau.move_on_after(5) as scope:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await bateau.time.sleep(30)
        assert not scope.cancelled_caught
        assert native.cancelling() == 0

    entry.run(main)


@pytest.mark.law(5)
@on_asyncio_family
def test_cancel_just_before_leaving_leaves_no_stray(entry: Any) -> None:
    """On plain asyncio a task.cancel() that meets no await hits whatever comes next."""

    async def main() -> None:
        for _ in range(3):
            with bateau.move_on_after(None) as scope:
                await asyncio.sleep(0)
                scope.cancel()
            assert not scope.cancelled_caught
        async with bateau.scope() as team:
            team.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        await yield_now()
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0

    entry.run(main)


@pytest.mark.law(5)
@on_asyncio_family
def test_a_task_that_refuses_to_end_costs_no_cpu_and_is_reported(entry: Any) -> None:
    """Level cancellation by re-poking burns a core on such a task (measured on anyio: 0.94 CPU-s per second)."""
    import time

    async def main() -> float:
        release = asyncio.Event()

        async def stubborn() -> None:
            while True:
                try:
                    await release.wait()
                    break
                except asyncio.CancelledError:  # bateau: ignore[swallowed_cancellation]
                    continue
            await yield_now()

        async with bateau.scope() as scope:
            scope.spawn(stubborn)
            await asyncio.sleep(0.01)
            scope.cancel()
            with bateau.shield():
                before = time.process_time()
                await asyncio.sleep(0.3)
                spent = time.process_time() - before
                release.set()
        return spent

    with pytest.warns(bateau.HazardWarning, match="swallowed_cancellation"):
        assert entry.run(main) < 0.2  # of 0.3 s: a collection may fall into it


@pytest.mark.law(6)
def test_stop_asks_and_cancels_after_the_grace(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def polite() -> None:
            while not bateau.stopping():
                await bateau.time.sleep(0.001)
            log.append("polite ends")

        async def rude() -> None:
            try:
                await bateau.time.sleep(30)
            except bateau.Cancelled as exc:
                log.append(f"rude: {exc.reason}")
                raise

        async with bateau.scope() as scope:
            polite_task = scope.spawn(polite)
            scope.spawn(rude)
            await yield_now()
            scope.stop(grace=0.3)
            await polite_task
            log.append("in grace")
        assert scope.stopping is not None
        assert scope.cancelled_caught
        return log

    log = entry.run(main)
    assert log[:2] == ["polite ends", "in grace"]
    assert log[2].startswith("rude: ")


@pytest.mark.law(6)
def test_deadlines_can_be_moved(entry: Any) -> None:
    async def main() -> None:
        for seconds in (0.01, 0.1, 1, 10):
            with bateau.move_on_after(seconds) as scope:
                assert scope.deadline is not None
                try:
                    scope.reschedule(bateau.now() + 30)
                except bateau.ScopeError:  # the machine stood still for longer than that
                    continue
                await bateau.time.sleep(seconds + 0.02)
            assert not scope.cancelled_caught
            break
        with pytest.raises(bateau.ScopeError, match="left"):
            scope.reschedule(None)
        with bateau.move_on_after(30) as scope:
            scope.reschedule(bateau.now() + 0.01)
            await bateau.time.sleep(30)
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError, match=r"timeout of 0.01 s passed \[.*test_cancellation.py"):
            async with bateau.timeout(0.01):
                await bateau.time.sleep(30)
        with pytest.raises(TimeoutError):
            with bateau.deadline(bateau.now()):
                await bateau.time.sleep(30)
        with bateau.timeout(None), bateau.timeout(float("inf")), bateau.timeout(0.5):
            await yield_now()
        with bateau.timeout(30) as limit:  # an explicit cancel is absorbed, it is not the timeout's doing
            limit.cancel("enough")
            await yield_now()
        assert limit.cancelled_caught

    entry.run(main)


@pytest.mark.law(6)
def test_nested_timeouts_blame_the_right_one(entry: Any) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError, match="timeout of 0.01 s"):
            with bateau.timeout(0.01):
                with bateau.timeout(30):
                    await bateau.time.sleep(60)
        with bateau.timeout(30):
            with pytest.raises(TimeoutError, match="timeout of 0.01 s"):
                with bateau.timeout(0.01):
                    await bateau.time.sleep(60)
            await yield_now()

    entry.run(main)


@pytest.mark.law(7)
def test_cleanup_has_its_time_and_no_more(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        with bateau.move_on_after(None) as outer:
            outer.cancel()
            try:
                await yield_now()
            finally:
                async with bateau.cleanup(30):
                    await bateau.time.sleep(0.01)
                    log.append("cleaned")
                with pytest.warns(bateau.HazardWarning, match="cleanup_overrun.*budget of 0.01 s.*sleep"):
                    async with bateau.cleanup(0.01) as budget:
                        async with bateau.cleanup(30):  # a nested budget never extends the outer one
                            await bateau.time.sleep(30)
                        log.append("unreachable")
                assert budget.cancelled_caught
                log.append("overrun ended")
        return log

    assert entry.run(main) == ["cleaned", "overrun ended"]


@pytest.mark.law(7)
@on_asyncio_family
def test_cleanup_run_holds_against_native_cancel(entry: Any) -> None:
    """On plain asyncio a second cancel() cuts the cleanup of the first."""

    async def main() -> list[str]:
        log: list[str] = []
        natives: list[Any] = []
        started = bateau.sync.Event()

        async def close() -> str:
            log.append("closing")
            started.set()
            await asyncio.sleep(0.03)
            log.append("closed")
            return "value"

        async def victim() -> None:
            natives.append(asyncio.current_task())
            try:
                await asyncio.sleep(30)
            finally:
                log.append(await bateau.cleanup(30).run(close))

        async with bateau.scope() as scope:
            task = scope.spawn(victim)
            await bateau.time.sleep(0.01)
            natives[0].cancel()
            await started.wait()
            natives[0].cancel()
            natives[0].cancel()
            with pytest.raises(bateau.TaskCancelled):
                await task
        return log

    assert entry.run(main) == ["closing", "closed", "value"]
