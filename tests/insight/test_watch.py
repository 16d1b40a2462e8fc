"""The watcher: plain asyncio and trio programs, muting, thresholds, the log, the GIL, forks."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau import insight
from bateau.insight.hazards import catalogue, store
from bateau.insight.watch_delay import Pulse, Sight, _stood_still
from bateau.insight.watch_loops import WatchedLoop

# Limits that nothing here comes near.
CALM = {each.name: 30.0 for each in catalogue() if each.threshold and each.unit == "seconds"}
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def log() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []
    logger = logging.getLogger("bateau.hazards")
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    store.forget()
    yield records
    logger.removeHandler(handler)
    store.forget()


def run_plain(kind: str, fn: Callable[..., Awaitable[Any]]) -> None:
    """A program that knows nothing of bateau."""
    if kind == "trio":
        trio = pytest.importorskip("trio")
        trio.run(fn, trio.sleep)
    elif kind == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(fn(asyncio.sleep))
    else:
        asyncio.run(fn(asyncio.sleep))


async def until_found(name: str, sleep: Callable[[float], Awaitable[None]]) -> None:
    end = time.monotonic() + PATIENCE
    while not insight.findings(name) and time.monotonic() < end:
        await sleep(0.01)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop", "trio"])
def test_a_blocked_loop_of_a_plain_program(kind: str) -> None:
    async def main(sleep: Any) -> None:
        end = time.monotonic() + PATIENCE
        await sleep(0)
        while not insight.findings("scheduling_delay") and time.monotonic() < end:
            time.sleep(0.01)

    with insight.watch(every=0.02, **{**CALM, "scheduling_delay": 0.05}):
        run_plain(kind, main)
    (found,) = insight.findings()
    line = main.__code__.co_firstlineno + 4
    assert (found.name, found.filename, found.lineno) == ("scheduling_delay", __file__, line)


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_a_thread_lock_across_an_await_of_a_plain_program(kind: str) -> None:
    lock = threading.Lock()

    async def main(sleep: Any) -> None:
        with lock:  # bateau: ignore[thread_lock_across_await]
            await until_found("thread_lock_across_await", sleep)

    with insight.watch(every=0.02, **CALM):
        run_plain(kind, main)
    (found,) = insight.findings()
    assert (found.name, found.lineno) == ("thread_lock_across_await", main.__code__.co_firstlineno + 2)


def test_a_plain_asyncio_task_that_ignores_its_cancellation_and_one_that_polls() -> None:
    async def deaf(over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                pass

    async def polls(over: asyncio.Event) -> None:
        while not over.is_set():
            await asyncio.sleep(0)

    async def main(sleep: Any) -> None:
        over = asyncio.Event()
        tasks = [asyncio.create_task(fn(over), name=fn.__name__) for fn in (deaf, polls)]
        await sleep(0.01)
        tasks[0].cancel()
        await until_found("cancellation_ignored", sleep)
        await until_found("self_wakes", sleep)
        over.set()
        await asyncio.wait(tasks)

    with insight.watch(every=0.02, **{**CALM, "cancellation_ignored": 0.03, "self_wakes": 0.1}):
        asyncio.run(main(asyncio.sleep))
    found = {(each.name, each.task) for each in insight.findings()}
    assert found == {("cancellation_ignored", "deaf"), ("self_wakes", "polls")}


def test_uvloop_too_is_not_woken_by_looking_at_it_and_a_lost_wakeup_is_told() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def complete() -> None:
            time.sleep(0.1)
            future.set_result(None)  # the mistake
            end = time.monotonic() + PATIENCE
            while not insight.findings() and time.monotonic() < end:
                time.sleep(0.01)
            loop.call_soon_threadsafe(lambda: None)

        thread = threading.Thread(target=complete)
        thread.start()
        await future
        thread.join()

    with (
        insight.watch(every=0.02, **{**CALM, "lost_wakeup": 0.05}),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(main())
    assert [each.name for each in insight.findings()] == ["lost_wakeup"]


def test_muted_and_other_thresholds_hold_for_a_block_and_the_tasks_spawned_in_it() -> None:
    async def holds(over: Any) -> None:
        lock = threading.Lock()
        with lock:  # bateau: ignore[thread_lock_across_await]
            await over.wait()

    async def main() -> None:
        over = bateau.sync.Event()
        async with bateau.scope() as scope:
            with insight.muted("thread_lock_across_await"):
                scope.spawn(holds, over, name="muted")
            with insight.thresholds(thread_lock_across_await=1000):
                scope.spawn(holds, over, name="patient")
            scope.spawn(holds, over, name="told")
            await until_found("thread_lock_across_await", bateau.time.sleep)
            await bateau.time.sleep(0.1)
            over.set()

    with insight.watch(every=0.02, **CALM):
        bateau.run(main)
    assert [each.task for each in insight.findings()] == ["told"]
    with insight.watch(every=0.02, mute=["thread_lock_across_await", "self_wakes"], **CALM):
        store.forget()

        async def quiet() -> None:
            over = bateau.sync.Event()
            async with bateau.scope() as scope:
                scope.spawn(holds, over)
                await bateau.time.sleep(0.1)
                over.set()

        bateau.run(quiet)
    assert insight.findings() == []


def test_what_the_kernel_reports_can_be_muted() -> None:
    async def overruns() -> None:
        async with bateau.cleanup(0.001):
            await bateau.time.sleep(10)

    async def main() -> None:
        with insight.muted("cleanup_overrun"):
            await overruns()
        with insight.muted():
            await overruns()

    bateau.run(main)
    assert insight.findings() == []


def test_findings_go_to_the_log_where_there_is_one_and_else_are_warnings(log: list[logging.LogRecord]) -> None:
    from bateau.kernel.hazard import report

    with insight.watch(**CALM):
        report("cleanup_overrun", "too long", ("app.py", 3))
    assert len(log) == 1
    assert log[0].finding == insight.findings("cleanup_overrun")[0]
    assert "what to do: give it more time" in log[0].getMessage()
    with pytest.warns(bateau.HazardWarning, match="cleanup_overrun: too long"):
        report("cleanup_overrun", "too long", ("app.py", 3))  # nobody watches any more
    assert len(log) == 1


def test_what_it_is_not_told_right_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no hazard is called 'blocked'; there are: .*scheduling_delay"):
        insight.watch(blocked=1)
    with pytest.raises(ValueError, match="no hazard is called"):
        insight.muted("nothing")
    with pytest.raises(ValueError, match="has no threshold"):
        insight.thresholds(never_awaited=1)
    with pytest.raises(ValueError, match="0 or more seconds"):
        insight.thresholds(deadlock=-1)
    with pytest.raises(ValueError, match="above 0"):
        insight.watch(every=0)
    with pytest.raises(ValueError, match="no hazard is called"):
        insight.findings("nothing")
    assert not any(thread.name == "bateau watcher" for thread in threading.enumerate())


def test_one_thread_for_all_who_ask_until_the_last_has_stopped() -> None:
    def watchers() -> int:
        return sum(thread.name == "bateau watcher" for thread in threading.enumerate())

    first, second = insight.watch(), insight.watch(every=0.5)
    assert watchers() == 1
    first.stop()
    first.stop()
    assert watchers() == 1
    second.stop()
    assert watchers() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_the_child_of_a_fork_is_not_watched_and_may_watch_itself() -> None:
    script = """
        import os, threading
        from bateau import insight
        with insight.watch():
            pid = os.fork()
            if not pid:
                assert threading.active_count() == 1
                with insight.watch():
                    assert threading.active_count() == 2
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("7\n", 0), done.stderr


def test_the_stacks_while_the_gil_is_held_are_on_file_when_the_process_is_killed(tmp_path: Path) -> None:
    """A regular expression that would take a century holds the GIL; the process is killed in the middle of it."""
    stacks = tmp_path / "stacks.txt"
    script = tmp_path / "app.py"
    script.write_text(
        textwrap.dedent(f"""
            import re
            import bateau
            from bateau import insight

            async def handler():
                re.match(r"(a+)+$", "a" * 60 + "b")

            async def main():
                await bateau.time.sleep(0.1)
                await handler()

            with insight.watch(gil_file={str(stacks)!r}):
                bateau.run(main)
        """)
    )
    with subprocess.Popen([sys.executable, str(script)]) as process:
        end = time.monotonic() + 60
        while not (stacks.exists() and "handler" in stacks.read_text()) and time.monotonic() < end:
            time.sleep(0.05)
        process.kill()
    assert f'File "{script}", line 7 in handler' in stacks.read_text()


def test_time_that_the_machine_stood_still_is_not_the_loops() -> None:
    assert _stood_still(late=0, used=5.0, before=1.0) == 0
    assert _stood_still(late=2.0, used=5.0, before=5.0) == 2.0  # nobody used the processor: a laptop that slept
    assert _stood_still(late=2.0, used=7.0, before=5.0) == 0  # the loop's thread did: C code that held the GIL
    assert _stood_still(late=2.0, used=None, before=None) == 2.0  # nobody knows: in doubt, it is not the loop's


def test_two_blocking_calls_of_one_step_are_told_at_a_line_each_and_nobody_starves() -> None:
    async def main(sleep: Any) -> None:
        end = time.monotonic() + PATIENCE
        await sleep(0)
        for wanted in (1, 2):
            while len(insight.findings("scheduling_delay")) < wanted and time.monotonic() < end:
                if wanted == 1:
                    time.sleep(0.01)
                else:
                    time.sleep(0.01)

    with insight.watch(every=0.02, **{**CALM, "scheduling_delay": 0.05, "starvation": 0.05}):
        run_plain("asyncio", main)
    first, second = insight.findings()
    line = main.__code__.co_firstlineno
    assert [(each.name, each.lineno) for each in (first, second)] == [
        ("scheduling_delay", line + 6),
        ("scheduling_delay", line + 8),
    ]


class _Clock:
    """A thread's clocks, set by the test."""

    def __init__(self) -> None:
        self.cpu = self.waited = 0.0

    def used(self) -> float:
        return self.cpu

    def queued(self) -> float:
        return self.waited


class _Busy(WatchedLoop):
    """A loop whose thread never answers."""

    def ping(self, answer: Callable[[], None]) -> None:
        pass


def test_a_busy_machine_is_taken_off_once_and_what_held_the_gil_is_told_with_its_own_time() -> None:
    pulse = Pulse(_Busy(object(), threading.get_ident()), 0.0)
    clock = _Clock()
    pulse.clock.close()
    pulse.clock = clock  # type: ignore[assignment]
    sleeping = Sight(((1, 10),), 1, [("app.py", 13, "report")], None)
    matching = Sight(((1, 20),), 1, [("app.py", 5, "compute"), ("app.py", 14, "report")], None)
    sink = store.LogSink()
    for now in (1.0, 1.1, 1.2, 1.3):
        pulse.tick(now, 0.0, sleeping)
    clock.cpu, clock.waited = (
        5.0,
        20.0,
    )  # of 25 s the thread ran for 5; the watcher itself had no processor for some of the rest
    pulse.tick(26.3, 14.0, matching)
    sink.close()
    first, second = insight.findings("scheduling_delay")
    assert (first.lineno, second.lineno) == (13, 5)
    assert pulse.held(26.3) == pytest.approx(5.3)
    assert "for 5 s so far, at line 5 of compute" in second.message


def test_a_muted_step_says_nothing_of_the_next_tasks_which_the_loop_runs_before_it_answers() -> None:
    async def blocks() -> None:
        end = time.monotonic() + PATIENCE
        for _ in range(20):
            if insight.findings() or time.monotonic() > end:
                return
            time.sleep(0.01)

    async def main() -> None:
        end = time.monotonic() + PATIENCE
        while not insight.findings() and time.monotonic() < end:
            async with bateau.scope() as scope:
                with insight.muted("scheduling_delay"):
                    scope.spawn(blocks, name="muted")
                scope.spawn(blocks, name="told")

    with insight.watch(every=0.02, **{**CALM, "scheduling_delay": 0.05}):
        bateau.run(main, runtime="native")
    (found,) = insight.findings()
    assert found.task == "told"


def test_what_held_the_gil_while_nothing_was_asked_has_held_the_loop_for_what_its_thread_ran() -> None:
    pulse = Pulse(_Busy(object(), threading.get_ident()), 0.0)
    clock = _Clock()
    pulse.clock.close()
    pulse.clock = clock  # type: ignore[assignment]
    sink = store.LogSink()
    pulse.tick(1.0, 0.0, None)
    clock.cpu, clock.waited = 1.0, 3.5  # and the watcher had no processor for most of it
    pulse.tick(6.0, 2.3, Sight(((1, 20),), 1, [("app.py", 5, "compute")], None))
    sink.close()
    (found,) = insight.findings("scheduling_delay")
    assert "for 1 s so far, at line 5 of compute" in found.message
