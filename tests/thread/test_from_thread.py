"""Calling back from worker threads, and in from threads that are not bateau's."""

from __future__ import annotations

import contextvars
import signal as std_signal
import threading
import time

import pytest

import bateau
from bateau import thread
from bateau.thread import from_thread
from support.waiting import until


def in_plain_thread(fn):
    """Run `fn` in a thread of its own and give what it returned or raise what it raised."""
    box = []

    def main():
        try:
            box.append((fn(), None))
        except BaseException as error:
            box.append((None, error))

    plain = threading.Thread(target=main)
    plain.start()
    return plain, box


async def joined(plain, box):
    await thread.run(plain.join, 20)
    assert not plain.is_alive()
    value, error = box[0]
    if error is not None:
        raise error
    return value


def test_runs_in_the_waiting_task(entry):
    async def who():
        await bateau.checkpoint()
        return bateau.current_task()

    async def main():
        me = bateau.current_task()
        assert await thread.run(from_thread.run, who) is me
        assert await thread.run(from_thread.run_sync, bateau.current_task) is me
        assert await thread.run(from_thread.run_sync, threading.get_ident) == threading.get_ident()

    entry.run(main)


def test_values_errors_and_awaitables(entry):
    async def boom():
        await bateau.checkpoint()
        raise LookupError("async")

    def work():
        with pytest.raises(LookupError, match="async"):
            from_thread.run(boom)
        with pytest.raises(ZeroDivisionError):
            from_thread.run_sync(lambda: 1 / 0)
        with pytest.raises(TypeError, match=r"use from_thread\.run for it"):
            from_thread.run_sync(boom)
        with pytest.raises(TypeError, match="not an awaitable"):
            from_thread.run(int)
        from_thread.run(bateau.checkpoint)  # a function that returns an operation
        return "done"

    async def main():
        assert await thread.run(work) == "done"

    entry.run(main)


def test_the_threads_context_variables(entry):
    var = contextvars.ContextVar("var", default="none")

    async def seen():
        await bateau.yield_now()
        return var.get()

    def work():
        var.set("thread's")
        return from_thread.run(seen)

    async def main():
        var.set("task's")
        assert await thread.run(work) == "thread's"
        assert var.get() == "task's"

    entry.run(main)


def test_cancellation_reaches_the_thread(entry):
    async def forever():
        await thread.CallbackFuture()

    def work():
        try:
            from_thread.run(forever)
        except bateau.Cancelled:
            with pytest.raises(bateau.Cancelled):
                from_thread.check_cancelled()
            raise

    async def main():
        with bateau.move_on_after(0.03) as block:
            await thread.run(work)
        assert block.cancelled_caught

    entry.run(main)


def test_scopes_and_timeouts_inside(entry):
    async def child():
        await bateau.checkpoint()
        return 1

    async def with_scope():
        async with bateau.scope() as s:
            tasks = [s.spawn(child) for _ in range(3)]
        with bateau.move_on_after(0.01):
            await thread.CallbackFuture()
        return sum(task.outcome().unwrap() for task in tasks)

    async def main():
        assert await thread.run(from_thread.run, with_scope) == 3

    entry.run(main)


def test_only_in_worker_threads(entry):
    async def main():
        for call in (lambda: from_thread.run(main), lambda: from_thread.run_sync(int), from_thread.check_cancelled):
            with pytest.raises(bateau.NotInRuntime, match="portal"):
                call()
            with pytest.raises(bateau.NotInRuntime, match="portal"):
                await joined(*in_plain_thread(call))

    entry.run(main)


def test_portal(entry):
    async def double(x):
        await bateau.yield_now()
        return 2 * x

    async def boom():
        raise LookupError("portal")

    def foreign(portal):
        assert portal.run(double, 4) == 8
        assert portal.run_sync(threading.get_ident) != threading.get_ident()
        with pytest.raises(LookupError, match="portal"):
            portal.run(boom)
        futures = [portal.spawn(double, i) for i in range(20)]
        return [future.result(20) for future in futures]

    async def main():
        async with thread.portal() as portal:
            with pytest.raises(RuntimeError, match="own thread"):
                portal.run(double, 1)
            assert await joined(*in_plain_thread(lambda: foreign(portal))) == [2 * i for i in range(20)]
            with pytest.raises(TypeError, match="async function"):
                portal.spawn(3)
        with pytest.raises(bateau.Closed):
            await joined(*in_plain_thread(lambda: portal.run(double, 1)))

    entry.run(main)


def test_portal_cancel(entry):
    started = threading.Event()
    cancelled = []

    async def forever():
        started.set()
        try:
            await thread.CallbackFuture()
        except bateau.Cancelled:
            cancelled.append(1)
            raise

    def foreign(portal):
        future = portal.spawn(forever)
        started.wait(10)
        assert future.cancel()
        with pytest.raises(bateau.TaskCancelled):
            future.result(10)
        assert not future.cancel()

    async def main():
        async with thread.portal() as portal:
            await joined(*in_plain_thread(lambda: foreign(portal)))
        assert cancelled == [1]

        started.clear()
        with bateau.move_on_after(5) as block:
            async with thread.portal() as portal:
                waiting = in_plain_thread(lambda: portal.run(forever))
                await thread.run(started.wait, 10)
                block.cancel()
                await bateau.checkpoint()
        with pytest.raises(bateau.TaskCancelled):
            await joined(*waiting)

    entry.run(main)


def test_portal_block_waits_for_its_calls(entry):
    ended = []

    async def slow():
        await thread.run(time.sleep, 0.05)
        ended.append(1)

    async def main():
        async with thread.portal() as portal:
            future = portal.spawn(slow)
            await bateau.yield_now()
            await bateau.yield_now()
        assert ended == [1]
        assert future.done()

    entry.run(main)


def test_start_portal_for_sync_programs(runtime):
    """S20: a sync host keeps one object through which it calls async code."""
    ended = []

    async def double(x):
        await bateau.yield_now()
        return 2 * x

    async def slow():
        try:
            await thread.run(time.sleep, 0.05)
            await bateau.checkpoint()
        finally:
            ended.append(1)

    with thread.start_portal(runtime=runtime.name) as portal:
        assert portal.run(double, 3) == 6
        assert [portal.spawn(double, i).result(20) for i in range(5)] == [0, 2, 4, 6, 8]
        future = portal.spawn(slow)
    assert future.result(0) is None
    assert ended == [1]
    with pytest.raises(bateau.Closed):
        portal.run(double, 1)

    with pytest.raises(LookupError):
        with thread.start_portal(runtime=runtime.name) as portal:
            future = portal.spawn(bateau.time.sleep_forever)
            portal.run(double, 1)
            raise LookupError
    with pytest.raises(bateau.TaskCancelled):
        future.result(0)

    with pytest.raises(ValueError, match="unknown runtime"):
        with thread.start_portal(runtime="nothing"):
            pass


def test_as_arms_of_a_select(entry):
    """What waits for the outside can stand in a select, and loses nothing there."""
    from bateau import signal, subprocess

    async def main():
        future = thread.CallbackFuture()
        with signal.open(signal.SIGUSR1) as stream:
            async with subprocess.open_process(["sleep", "0.05"]) as process:
                name, value = await bateau.select(future=future.wait(), exit=process.wait(), sig=stream.wait())
                assert (name, value) == ("exit", 0)
                std_signal.raise_signal(std_signal.SIGUSR1)
                name, value = await bateau.select(future=future.wait(), sig=stream.wait())
                assert (name, value) == ("sig", std_signal.SIGUSR1)
                timer = threading.Timer(0.02, future.set_result, ["late"])
                timer.start()
                name, value = await bateau.select(future=future.wait(), sig=stream.wait())
                assert (name, value) == ("future", "late")
                assert not list(stream.waiters())
                timer.join()

    entry.run(main)


@pytest.mark.parametrize("kind", ["limiter", "semaphore", "lock"])
def test_a_limiter_of_the_caller_is_given_back_while_the_thread_waits(entry, kind):
    """S25: the sandwich of sync and async, each slice under the same limiter of one place."""
    from bateau import sync

    make = {"limiter": lambda: sync.Limiter(1), "semaphore": lambda: sync.Semaphore(1), "lock": sync.Lock}[kind]

    async def main():
        limiter = make()
        inside = []

        def slice_(depth):
            inside.append(depth)
            assert len(inside) == 1  # never two of them beside each other
            if depth:
                inside.pop()
                below = from_thread.run(slices, depth - 1)
                inside.append(depth)
                assert len(inside) == 1
            else:
                below = 0
            inside.pop()
            return below + 1

        async def slices(depth):
            return await thread.run(slice_, depth, limiter=limiter)

        async with bateau.scope() as scope:
            tasks = [scope.spawn(slices, 3) for _ in range(3)]
        assert [task.outcome().unwrap() for task in tasks] == [4, 4, 4]
        async with limiter:
            pass  # all of it was given back

    entry.run(main)


def test_what_a_request_gave_reaches_the_thread_though_its_caller_was_cancelled_meanwhile(entry):
    """The place is taken again under cancellation, or what was received would be lost."""
    from bateau import sync

    async def main():
        limiter = sync.Limiter(1)
        got = []
        taken = threading.Event()

        async def receive():
            taken.set()
            return "item"

        def work():
            got.append(from_thread.run(receive))
            try:
                from_thread.check_cancelled()
            except bateau.Cancelled:
                got.append("told")

        async def tell():
            await until(lambda: limiter.statistics().tasks_waiting)
            waited.set()

        async def other():
            async with limiter:
                while not taken.is_set():
                    await bateau.yield_now()
                for _ in range(20):
                    await bateau.yield_now()
                scope.cancel()
                await bateau.yield_now()

        with bateau.move_on_after(None) as scope:
            started, waited = threading.Event(), threading.Event()

            def begin():
                started.set()
                assert waited.wait(20)
                work()

            async with bateau.scope() as crew:
                crew.spawn(thread_run, begin, limiter)
                while not started.is_set():
                    await bateau.yield_now()
                with bateau.shield():
                    await bateau.join(other(), tell())
        assert got == ["item", "told"]
        assert limiter.borrowed_tokens == 0

    async def thread_run(fn, limiter):
        await thread.run(fn, limiter=limiter)

    entry.run(main)


def test_a_limiter_that_fails_to_let_the_thread_go_on_is_told_there(entry):
    class Once:
        entered = left = 0

        async def __aenter__(self):
            Once.entered += 1
            if Once.entered > 1:
                raise LookupError("no second time")

        async def __aexit__(self, *exc):
            Once.left += 1

    async def main():
        Once.entered = Once.left = 0

        async def nothing():
            await bateau.yield_now()

        def work():
            with pytest.raises(LookupError, match="no second time"):
                from_thread.run(nothing)
            return "went on"

        assert await thread.run(work, limiter=Once()) == "went on"
        assert (Once.entered, Once.left) == (2, 1)

    entry.run(main)
