"""asyncio's own primitives inside bateau tasks, with cancellation from both sides (law 5).

After every meeting of the two, asyncio's count of cancellation requests is where it was, and nothing is left to hit what
comes next: `clean()` asks both. On native the tasks are bateau's own and only look like asyncio's.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest

import bateau
from support.entries import on_asyncio_family
from support.waiting import until

LONG = 30.0  # seconds nobody waits out
SHORT = 0.01

pytestmark = on_asyncio_family


def task() -> asyncio.Task[Any]:
    current = asyncio.current_task()
    assert current is not None
    return current


async def clean() -> None:
    """No cancellation is pending, counted or thrown."""
    assert task().cancelling() == 0
    await asyncio.sleep(0)
    await bateau.yield_now()
    await asyncio.sleep(0.001)
    assert task().cancelling() == 0


# -- our scope cancels what asyncio waits for ------------------------------------------------------------------------------


async def _gather() -> None:
    await asyncio.gather(asyncio.sleep(LONG), asyncio.sleep(LONG))


async def _task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(LONG))
        group.create_task(_ours())


async def _task_group_with_a_body() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(LONG))
        await bateau.time.sleep(LONG)


async def _timeout() -> None:
    async with asyncio.timeout(LONG):
        await asyncio.sleep(LONG)


async def _wait_for() -> None:
    await asyncio.wait_for(_ours(), LONG)


async def _shield() -> None:
    inner = asyncio.ensure_future(asyncio.sleep(0.05, "done"))
    try:
        await asyncio.shield(inner)
    finally:
        with bateau.shield():
            assert await inner == "done"


async def _condition() -> None:
    condition = asyncio.Condition()
    try:
        async with condition:
            await condition.wait()
    finally:
        assert not condition.locked()


async def _queue() -> None:
    await asyncio.Queue[int]().get()


async def _event() -> None:
    await asyncio.Event().wait()


async def _lock() -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


async def _semaphore() -> None:
    await asyncio.Semaphore(0).acquire()


async def _foreign_task() -> None:
    inner = asyncio.create_task(_ours())
    try:
        await inner
    finally:
        assert inner.cancelled()


async def _wait() -> None:
    inner = asyncio.create_task(asyncio.sleep(LONG))
    try:
        await asyncio.wait([inner])
    finally:
        inner.cancel()
        with bateau.shield():
            await asyncio.wait([inner])


async def _to_thread() -> None:
    release = threading.Event()
    try:
        await asyncio.to_thread(release.wait, 10)
    finally:
        release.set()


async def _executor() -> None:
    release = threading.Event()
    try:
        await asyncio.get_running_loop().run_in_executor(None, release.wait, 10)
    finally:
        release.set()


async def _subprocess() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    try:
        await process.wait()
    finally:
        process.kill()
        with bateau.shield():
            await process.wait()


async def _stream() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            await reader.readline()
        finally:
            writer.close()
            with bateau.shield():
                await writer.wait_closed()


async def _ours() -> None:
    async with bateau.scope() as scope:
        scope.spawn(bateau.time.sleep, LONG)
        scope.spawn(asyncio.sleep, LONG)


WAITS = [
    _gather,
    _task_group,
    _task_group_with_a_body,
    _timeout,
    _wait_for,
    _shield,
    _condition,
    _queue,
    _event,
    _lock,
    _semaphore,
    _foreign_task,
    _wait,
    _to_thread,
    _executor,
    _subprocess,
    _stream,
]


@pytest.mark.law(5)
@pytest.mark.parametrize("wait", WAITS)
def test_a_scope_cancels_a_foreign_wait(entry: Any, wait: Any) -> None:
    async def main() -> None:
        with bateau.move_on_after(0.1 if wait in (_subprocess, _stream) else SHORT) as block:
            await wait()
        assert block.cancelled_caught
        await clean()

        async with bateau.scope() as scope:  # and as a child, by hand
            child = scope.spawn(wait)
            await asyncio.sleep(0.1 if wait in (_subprocess, _stream) else SHORT)
            child.cancel("by hand")
        assert child.outcome().cancelled
        await clean()

    entry.run(main)


# -- asyncio's timeouts fire inside and around ours -------------------------------------------------------------------------


async def _bateau_sleep() -> None:
    await bateau.time.sleep(LONG)


async def _bateau_lock() -> None:
    lock = bateau.sync.Lock()
    async with bateau.scope() as scope:
        scope.spawn(_hold, lock)
        await bateau.yield_now()
        await lock.acquire()


async def _hold(lock: bateau.sync.Lock) -> None:
    async with lock:
        await bateau.time.sleep(LONG)


async def _bateau_block() -> None:
    with bateau.move_on_after(LONG):
        await asyncio.sleep(LONG)


async def _bateau_recv() -> None:
    tx, rx = bateau.channel.channel[int](1)
    async with tx, rx:
        await rx.recv()


async def _bateau_join() -> None:
    await bateau.join(_bateau_sleep(), asyncio.sleep(LONG))


async def _bateau_race() -> None:
    await bateau.race(_bateau_sleep(), asyncio.sleep(LONG))


async def _bateau_thread() -> None:
    await bateau.thread.run(time.sleep, 0.05)  # a thread can't be cancelled: its value counts, and the next wait raises
    await bateau.yield_now()


OURS = [_ours, _bateau_sleep, _bateau_lock, _bateau_block, _bateau_recv, _bateau_join, _bateau_race, _bateau_thread]


@pytest.mark.law(5)
@pytest.mark.parametrize("wait", OURS)
def test_their_timeouts_cut_our_waits(entry: Any, wait: Any) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await wait()
        await clean()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), SHORT)
        await clean()

    entry.run(main)


@pytest.mark.law(5)
def test_a_native_cancel_is_not_a_scopes_to_absorb(entry: Any) -> None:
    """Both at once: the scope takes back what it gave, and lets the foreign cancellation through."""

    async def main() -> None:
        natives: list[asyncio.Task[Any]] = []

        async def victim() -> str:
            natives.append(task())
            with bateau.move_on_after(None) as block:
                blocks.append(block)
                await asyncio.sleep(LONG)
            return "absorbed"

        blocks: list[bateau.CancelScope] = []
        for first in ("scope", "native"):
            natives.clear()
            blocks.clear()
            async with bateau.scope() as scope:
                child = scope.spawn(victim)
                await until(lambda: blocks)
                for who in (first, "native" if first == "scope" else "scope"):
                    if who == "scope":
                        blocks[0].cancel()
                    else:
                        natives[0].cancel()
            assert child.outcome().cancelled, first
            assert natives[0].cancelling() == 1

    entry.run(main)


@pytest.mark.law(5)
def test_their_timeout_and_ours_at_one_instant(entry: Any) -> None:
    async def main() -> None:
        try:
            async with asyncio.timeout(SHORT):
                with bateau.move_on_after(SHORT):
                    time.sleep(2 * SHORT)  # both are due when the loop is reached
                    await asyncio.sleep(LONG)
                await asyncio.sleep(LONG)
        except TimeoutError:
            pass
        await clean()
        with bateau.move_on_after(SHORT) as ours:
            try:
                async with asyncio.timeout(SHORT):
                    time.sleep(2 * SHORT)
                    await asyncio.sleep(LONG)
            except TimeoutError:
                pass
            await asyncio.sleep(LONG)
        assert ours.cancelled_caught
        await clean()

    entry.run(main)


@pytest.mark.law(11)
def test_a_granted_wait_beside_an_expired_timeout(entry: Any) -> None:
    """The value counts, and the timeout whose block was left takes its cancellation along: nothing hits what comes next."""

    async def main() -> None:
        tx, rx = bateau.channel.channel[str](1)
        loop = asyncio.get_running_loop()

        def grant_and_expire() -> None:
            tx.try_send("item")
            block.reschedule(loop.time() - 1)

        async with tx, rx:
            for _ in range(3):
                got = None
                try:
                    async with asyncio.timeout(LONG) as block:
                        loop.call_later(SHORT, grant_and_expire)
                        got = await rx.recv()
                except TimeoutError:
                    got = got or rx.try_recv()
                assert got == "item"
                await clean()

    entry.run(main)


@pytest.mark.law(5)
def test_groups_of_both_kinds_nest_and_report_each_others_failures(entry: Any) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.001)
        raise ValueError("child")

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as ours_inside:
            async with asyncio.TaskGroup() as group:
                group.create_task(_ours())
                async with bateau.scope() as scope:
                    scope.spawn(asyncio.sleep, LONG)
                    scope.spawn(fail)
        assert ours_inside.value.subgroup(ValueError)
        await clean()
        with pytest.raises(ExceptionGroup) as theirs_inside:
            async with bateau.scope() as scope:
                scope.spawn(_ours)
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(LONG))
                    group.create_task(fail())
                    await bateau.time.sleep(
                        LONG
                    )  # (before 3.12, without a body asyncio's own group forgets to uncancel)
        assert theirs_inside.value.subgroup(ValueError)
        await clean()

    entry.run(main)


# -- what works, works -----------------------------------------------------------------------------------------------------


def test_values_pass_through(entry: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def add(a: int, b: int) -> int:
            await bateau.time.sleep(0.001)
            return a + b

        assert await asyncio.gather(add(1, 2), add(3, 4)) == [3, 7]
        assert await asyncio.wait_for(add(1, 1), 5) == 2
        assert await asyncio.shield(asyncio.ensure_future(add(2, 2))) == 4
        assert await asyncio.to_thread(lambda: 5) == 5
        assert await loop.run_in_executor(None, lambda: 6) == 6
        assert sorted([await next_one for next_one in asyncio.as_completed([add(1, 0), add(2, 0)])]) == [1, 2]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(add(n, n)) for n in range(5)]
        assert [one.result() for one in tasks] == [0, 2, 4, 6, 8]
        future = loop.create_future()
        loop.call_later(0.001, future.set_result, "called")
        assert await future == "called"
        context_task = task()
        assert asyncio.current_task() is context_task
        assert context_task.get_loop() is loop

    entry.run(main)


def test_conditions_queues_and_events_between_tasks_of_both_kinds(entry: Any) -> None:
    async def main() -> list[Any]:
        condition, queue, gate = asyncio.Condition(), asyncio.Queue[int](2), asyncio.Event()
        log: list[Any] = []

        async def waits() -> None:
            await gate.wait()
            async with condition:
                await condition.wait_for(lambda: "go" in log)
                log.append("woken")

        async def produces() -> None:
            for n in range(6):
                await queue.put(n)

        async with bateau.scope() as scope, asyncio.TaskGroup() as group:
            scope.spawn(waits)
            group.create_task(waits())
            scope.spawn(produces)
            group.create_task(produces())
            gate.set()
            log.append(sorted([await queue.get() for _ in range(12)]))
            async with condition:
                log.append("go")
                condition.notify_all()
        return log

    assert entry.run(main) == [sorted([*range(6), *range(6)]), "go", "woken", "woken"]


def test_a_subprocess_of_asyncios(entry: Any) -> None:
    async def main() -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; sys.stdout.write(sys.stdin.read().upper())",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        async with bateau.scope() as scope:
            talk = scope.spawn(process.communicate, b"from a pipe")
        out, _ = talk.outcome().unwrap()
        assert process.returncode == 0
        return out

    assert entry.run(main) == b"FROM A PIPE"


def test_streams_of_asyncios(entry: Any) -> None:
    async def main() -> list[bytes]:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with bateau.scope() as scope:
                scope.defer(ended.append, True)
                scope.defer(writer.wait_closed)
                scope.defer(writer.close)
                while line := await reader.readline():
                    writer.write(line.upper())
                    await writer.drain()

        async def call(n: int) -> bytes:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"line %d\n" % n)
            await writer.drain()
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return answer

        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()[:2]
            answers = await bateau.join([call(n) for n in range(5)])
            await until(lambda: len(ended) == 5)
            await asyncio.sleep(SHORT)  # asyncio's handlers are tasks nobody waits for
            return answers

    ended: list[bool] = []
    assert entry.run(main) == [b"LINE %d\n" % n for n in range(5)]


def test_self_cancel_and_uncancel(entry: Any) -> None:
    async def main() -> None:
        for wait in (asyncio.sleep, bateau.time.sleep):
            task().cancel()
            with pytest.raises(asyncio.CancelledError):
                await wait(LONG)
            assert task().uncancel() == 0
            await clean()

    entry.run(main)


def test_our_awaitables_as_asyncio_futures(entry: Any) -> None:
    """`ensure_future` on our awaitables: an operation, a task handle, a coroutine."""

    async def main() -> list[int]:
        async def value(n: int) -> int:
            await bateau.time.sleep(0.001)
            return n

        async with bateau.scope() as scope:
            handle = scope.spawn(value, 1)
            wrapped = asyncio.ensure_future(handle)
            plain = asyncio.ensure_future(value(2))
            return [await wrapped, await plain]

    assert entry.run(main) == [1, 2]


@pytest.mark.law(5)
def test_a_cancelled_future_is_not_a_scopes_to_absorb(entry: Any) -> None:
    """Nobody cancelled the task: what the future raises goes through scopes and blocks, as asyncio has it."""

    async def main() -> list[str]:
        log: list[str] = []
        future = asyncio.get_running_loop().create_future()
        future.cancel("by its owner")

        async def child() -> None:
            try:
                await bateau.time.sleep(LONG)
            except bateau.Cancelled:
                log.append("child")
                raise

        with pytest.raises(asyncio.CancelledError, match="by its owner"):
            with bateau.move_on_after(LONG) as block:
                async with bateau.scope() as scope:
                    scope.spawn(child)
                    await bateau.yield_now()
                    await future
        assert not scope.cancelled_caught
        assert not block.cancelled_caught
        await clean()
        return log

    assert entry.run(main) == ["child"]


@pytest.mark.law(13)
def test_yielding_lets_asyncios_tasks_and_callbacks_run(entry: Any) -> None:
    """`create_task` and `sleep(0)`: by then the task has begun. Many libraries rely on it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for pause in (lambda: asyncio.sleep(0), bateau.yield_now):
            log: list[str] = []

            async def foreign(log: list[str] = log) -> None:
                log.append("task")

            loop.call_soon(log.append, "callback")
            begun = asyncio.create_task(foreign())
            await pause()
            assert log == ["callback", "task"]
            await begun

    entry.run(main)


@pytest.mark.parametrize("waiting", [True, False])
def test_of_two_native_cancellations_the_right_message_arrives_once(entry, waiting):
    """As asyncio has it: a future that the first has cancelled brings the first; a running task meets the last."""

    async def main():
        seen = []
        started = asyncio.Event()
        tasks = []

        async def victim():
            tasks.append(task())
            started.set()
            if not waiting:
                task().cancel("first")
                task().cancel("second")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                seen.append(error.args[0])
            seen.append(task().cancelling())
            await asyncio.sleep(SHORT)  # not cancelled once more
            task().uncancel()
            task().uncancel()

        async with bateau.scope() as scope:
            scope.spawn(victim)
            await started.wait()
            if waiting:
                tasks[0].cancel("first")
                tasks[0].cancel("second")
        return seen

    assert entry.run(main) == ["first" if waiting else "second", 2]


@pytest.mark.parametrize("where", ["in a future", "at a yield", "ours first"])
def test_a_foreign_cancellation_keeps_its_message_beside_ours(entry, where):
    """Who sent it knows it by its message (anyio's scopes do), and it is not our scope's to absorb."""

    async def main():
        seen = []
        started = asyncio.Event()
        made = {}

        async def victim():
            made["task"] = task()
            try:
                with bateau.move_on_after(None) as made["scope"]:
                    started.set()
                    try:
                        if where == "at a yield":
                            task().cancel("foreign")
                            made["scope"].cancel("ours")
                            await asyncio.sleep(0)
                        else:
                            await asyncio.Event().wait()
                    except asyncio.CancelledError as error:
                        seen.append(error.args[0])
                        raise
            except asyncio.CancelledError:
                seen.append(task().uncancel())
            await asyncio.sleep(0)

        async with bateau.scope() as scope:
            scope.spawn(victim)
            await started.wait()
            if where == "in a future":
                made["task"].cancel("foreign")
                made["scope"].cancel("ours")
            elif where == "ours first":
                made["scope"].cancel("ours")
                made["task"].cancel("foreign")
        return seen

    assert entry.run(main) == ["foreign", 0]
