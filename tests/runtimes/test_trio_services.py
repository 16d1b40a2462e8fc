"""What the trio host offers beside tasks: timers, calls, and descriptors in trio's poller."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

import bateau
from bateau.io.fd import FdWatch
from support.entries import on_trio

trio = pytest.importorskip("trio")


async def _until(condition: Any) -> None:
    with bateau.timeout(5):
        while not condition():
            await bateau.time.sleep(0.001)


@on_trio
def test_timers_fire_in_order_and_not_when_cancelled(entry: Any) -> None:
    async def main() -> list[int]:
        host: Any = bateau.current_task().host
        now = host.now()
        log: list[int] = []
        timers = [host.call_at(now + 0.002 * n, lambda n=n: log.append(n)) for n in (3, 1, 4, 2)]
        timers[0].cancel()
        timers[0].cancel()
        timers[1].cancel()  # the first of all: the alarm moves on
        await _until(lambda: len(log) == 2)
        assert host._first_timer() == float("inf")
        return log

    assert entry.run(main) == [2, 4]


@on_trio
def test_husks_of_cancelled_timers_are_swept(entry: Any) -> None:
    async def main() -> None:
        host: Any = bateau.current_task().host
        keep = host.call_at(host.now() + 1000, lambda: None)
        for _ in range(1000):
            host.call_at(host.now() + 2000, lambda: None).cancel()
        assert len(host._timers) < 150
        keep.cancel()
        assert len([timer for timer in host._timers if timer.fn is not None]) == 0

    entry.run(main)


@on_trio
def test_timers_set_by_timers_and_calls_by_calls(entry: Any) -> None:
    async def main() -> list[str]:
        host: Any = bateau.current_task().host
        log: list[str] = []

        def first() -> None:
            assert bateau.kernel.current.current_task_or_none() is None  # callbacks are outside every task
            log.append("first")
            host.call_soon(lambda: log.append("soon"))
            host.call_at(host.now(), lambda: log.append("at"))
            host.call_threadsafe(lambda: log.append("threadsafe"))

        host.call_at(host.now() + 0.001, first)
        await _until(lambda: len(log) == 4)
        return [log[0], *sorted(log[1:])]

    import bateau.kernel.current

    assert entry.run(main) == ["first", "at", "soon", "threadsafe"]


@on_trio
def test_no_service_runs_until_it_is_needed(entry: Any) -> None:
    async def main() -> None:
        host: Any = bateau.current_task().host
        async with bateau.scope() as scope:
            with bateau.timeout(60):
                scope.spawn(bateau.yield_now)
                await bateau.sync.Lock().acquire()
        assert host._server is None
        assert host._timers == []

    entry.run(main)


@on_trio
def test_a_reader_is_called_until_it_is_removed(entry: Any) -> None:
    async def main() -> None:
        host: Any = bateau.current_task().host
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            got: list[bytes] = []
            host.add_reader(a.fileno(), lambda: got.append(a.recv(1)))
            for n in range(3):
                b.send(b"%d" % n)
                await _until(lambda n=n: len(got) == n + 1)
            host.add_reader(a.fileno(), lambda: got.append(a.recv(1) * 2))  # replaced
            b.send(b"x")
            await _until(lambda: len(got) == 4)
            writable: list[int] = []
            host.add_writer(a.fileno(), lambda: (writable.append(1), host.remove_writer(a.fileno())))
            await _until(lambda: writable)
            host.remove_reader(a.fileno())
            host.remove_reader(a.fileno())
            b.send(b"y")
            for _ in range(5):
                await bateau.yield_now()
            assert got == [b"0", b"1", b"2", b"xx"]
            assert host._watches == {}
            await _until(lambda: not host._waited)
            assert trio.lowlevel.current_statistics().io_statistics.tasks_waiting_read <= 1  # trio's own
        with pytest.raises(OSError, match="Bad file descriptor"):
            host.add_reader(a.fileno() if a.fileno() >= 0 else 10**5, lambda: None)

    entry.run(main)


@on_trio
def test_an_fd_number_can_be_reused_at_once(entry: Any) -> None:
    async def main() -> None:
        host: Any = bateau.current_task().host
        for _ in range(10):
            read, write = os.pipe()
            fired: list[int] = []
            host.add_reader(read, lambda fired=fired: fired.append(1))
            await bateau.yield_now()
            host.remove_reader(read)
            os.close(read)
            os.close(write)
            read2, write2 = os.pipe()
            os.write(write2, b"x")
            await bateau.yield_now()
            assert fired == []
            os.close(read2)
            os.close(write2)

    entry.run(main)


@on_trio
def test_waits_on_an_fd_cost_no_task(entry: Any) -> None:
    async def main() -> None:
        host: Any = bateau.current_task().host
        a, b = socket.socketpair()
        with a, b:
            watch = FdWatch(a.fileno())
            async with bateau.scope() as scope:
                scope.spawn(watch.readable)
                await bateau.yield_now()
                living = trio.lowlevel.current_statistics().tasks_living
                assert host._watches == {}
                assert list(host._waited) == [(a.fileno(), False)]
                b.send(b"x")
            assert host._waited == {}
            assert trio.lowlevel.current_statistics().tasks_living == living - 1
            watch.close()

    entry.run(main)


@on_trio
def test_many_wait_on_one_side(entry: Any) -> None:
    """Trio's poller takes one task per fd and direction; ours share it, whoever leaves first."""

    async def main() -> None:
        host: Any = bateau.current_task().host
        a, b = socket.socketpair()
        with a, b:
            watch = FdWatch(a.fileno())
            async with bateau.scope() as scope:
                tasks = [scope.spawn(watch.readable) for _ in range(4)]
                await bateau.yield_now()
                called: list[int] = []
                host.add_reader(a.fileno(), lambda: called.append(1))
                await bateau.yield_now()
                for task in tasks[:2]:
                    task.cancel()
                await bateau.yield_now()
                assert [task.done for task in tasks] == [True, True, False, False]
                assert called == []
                b.send(b"x")
                with bateau.timeout(5):
                    await tasks[2]
                    await tasks[3]
                    await _until(lambda: called)
                host.remove_reader(a.fileno())
            await _until(lambda: not host._waited)  # the watch may have been on its way to another call
            watch.close()

    entry.run(main)


@on_trio
@pytest.mark.parametrize("how", ["close", "scope", "deadline", "trio"])
def test_every_end_of_a_wait_on_an_fd(entry: Any, how: str) -> None:
    async def main() -> None:
        host: Any = bateau.current_task().host
        a, b = socket.socketpair()
        with a, b:
            watch = FdWatch(a.fileno())
            if how == "deadline":
                with bateau.move_on_after(0.01) as block:
                    await watch.readable()
                assert block.cancelled_caught
            elif how == "trio":
                with trio.move_on_after(0.01) as block:
                    await watch.readable()
                assert block.cancelled_caught
            elif how == "scope":
                async with bateau.scope() as scope:
                    scope.spawn(watch.readable)
                    await bateau.yield_now()
                    scope.cancel()
            else:
                with pytest.raises(ExceptionGroup) as caught:
                    async with bateau.scope() as scope:
                        scope.spawn(watch.readable)
                        await bateau.yield_now()
                        watch.close()
                assert caught.group_contains(bateau.Closed)
            assert host._waited == {}
            if how != "close":
                b.send(b"x")  # the side is as it was
                with bateau.timeout(5):
                    await watch.readable()
            watch.close()

    entry.run(main)


@on_trio
def test_an_fd_that_trios_code_waits_for(entry: Any) -> None:
    async def main() -> None:
        a, b = socket.socketpair()
        with a, b:
            watch = FdWatch(a.fileno())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.wait_readable, a.fileno())
                await bateau.yield_now()
                with pytest.raises(bateau.Busy, match="code outside bateau is already waiting for fd"):
                    await watch.readable()
                nursery.cancel_scope.cancel()
            watch.close()

    entry.run(main)


@on_trio
def test_a_regular_file_is_always_ready(entry: Any, tmp_path: Any) -> None:
    async def main() -> None:
        host: Any = bateau.current_task().host
        with open(tmp_path / "file", "wb+") as file:
            watch = FdWatch(file.fileno())
            with bateau.timeout(5):
                await watch.readable()
                await watch.writable()
            called: list[int] = []
            host.add_reader(file.fileno(), lambda: called.append(1))
            await _until(lambda: called)
            host.remove_reader(file.fileno())
            watch.close()

    entry.run(main)


@on_trio
def test_watches_left_behind_end_with_the_run(entry: Any) -> None:
    a, b = socket.socketpair()

    async def main() -> None:
        bateau.current_task().host.add_reader(a.fileno(), lambda: None)
        await bateau.yield_now()

    with a, b:
        entry.run(main)


@on_trio
def test_a_call_from_a_thread_leaves_no_record(entry: Any) -> None:
    """A record that outlives its trio task is taken for that of whichever task gets the same address later."""
    from bateau.kernel.current import current_task_or_none
    from bateau.runtimes.trio_helpers import records

    asked: list[object] = []
    before = set(records.values())  # another test may have kept a trio task, by the traceback of an error say

    async def main() -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(lambda: asked.append(current_task_or_none()))
        await _until(lambda: asked)

    entry.run(main)
    assert asked == [None]
    gc.collect()
    assert set(records.values()) <= before


@on_trio
def test_an_ended_trio_task_gets_no_record(entry: Any) -> None:
    """trio words the cancellation a task has ended with, reason and all, which asks for the running task: still that one."""
    from bateau.runtimes.trio_helpers import records

    ended: list[Any] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await bateau.yield_now()
            ended.extend(nursery.child_tasks)
            nursery.cancel_scope.cancel()

    entry.run(main)
    (task,) = ended  # kept, as the traceback of its error may keep it
    assert id(task) not in records


@on_trio
def test_timers_and_watches_serve_cleanups_after_the_main_task(entry: Any) -> None:
    """trio cancels its system tasks when the main task has ended; some of them may still be cleaning up, by our services."""
    log: list[str] = []
    a, b = socket.socketpair()

    async def clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            async with bateau.cleanup(30):
                await bateau.time.sleep(0.01)
                log.append("slept")
                host: Any = bateau.current_task().host
                host.add_reader(a.fileno(), lambda: log.append(a.recv(1).decode()))
                b.send(b"x")
                await _until(lambda: len(log) == 2)  # in turns of the timer and the watch

    async def main() -> None:
        trio.lowlevel.spawn_system_task(clean_up)
        await bateau.time.sleep(0.001)

    with a, b:
        entry.run(main)
    assert log == ["slept", "x"]


def test_a_pipeline_kept_beyond_its_run_is_closed_with_timers_at_hand() -> None:
    log: list[str] = []
    kept: list[Any] = []

    @bateau.generator
    async def slow_to_end() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await bateau.time.sleep(0.01)
            log.append("closed")

    async def main() -> None:
        items = bateau.iter(slow_to_end())
        kept.append(items)
        assert await items.next() == 1

    trio.run(main)
    assert log == ["closed"]


@on_trio
def test_a_crash_of_a_system_task_leaves_the_main_task_its_timers(entry: Any) -> None:
    log: list[str] = []

    async def crash() -> None:
        raise KeyError("crash")

    async def main() -> None:
        try:
            await bateau.time.sleep(0.001)
            trio.lowlevel.spawn_system_task(crash)
            await bateau.time.sleep(60)
        finally:
            async with bateau.cleanup(30):
                await bateau.time.sleep(0.01)
            log.append("cleaned")

    with pytest.raises(trio.TrioInternalError):
        entry.run(main)
    assert log == ["cleaned"]
