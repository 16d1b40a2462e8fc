"""Worker threads: what `thread.run` promises about values, errors, context, limits and cancellation."""

from __future__ import annotations

import contextvars
import gc
import threading
import time
import weakref

import pytest

import bateau
from bateau import thread
from bateau.kernel.hazard import add_sink
from support.waiting import until


def test_value_error_and_thread(entry):
    def boom():
        raise LookupError("no")

    async def main():
        worker = await thread.run(threading.current_thread)
        assert worker is not threading.current_thread()
        assert worker.name.startswith("bateau-worker")
        assert await thread.run(lambda a, b: a + b, 3, 4) == 7
        with pytest.raises(LookupError, match="no"):
            await thread.run(boom)
        with pytest.raises(TypeError, match="pass fn and its arguments separately"):
            await thread.run(3)

    entry.run(main)


def test_stop_iteration_becomes_a_clear_error(entry):
    async def main():
        with pytest.raises(RuntimeError, match="StopIteration"):
            await thread.run(next, iter(()))

    entry.run(main)


def test_other_tasks_go_on(entry):
    async def main():
        gate = threading.Event()

        async def opener():
            await bateau.checkpoint()
            gate.set()

        async with bateau.scope() as s:
            s.spawn(opener)
            assert await thread.run(gate.wait, 10)

    entry.run(main)


def test_context_variables_are_copied(entry):
    var = contextvars.ContextVar("var", default="none")

    def change():
        seen = var.get()
        var.set("thread's")
        return seen

    async def main():
        var.set("task's")
        assert await thread.run(change) == "task's"
        assert var.get() == "task's"

    entry.run(main)


def test_no_async_library_in_the_thread(entry):
    sniffio = pytest.importorskip("sniffio")

    def detect():
        with pytest.raises(sniffio.AsyncLibraryNotFoundError):
            sniffio.current_async_library()
        return True

    async def main():
        assert await thread.run(detect)

    entry.run(main)


@pytest.mark.law(5)
def test_a_cancelled_run_is_awaited_and_its_value_kept(entry):
    """Not killable: it is awaited, what it made is not lost, and the next wait raises."""
    ended = []
    gate = threading.Event()

    async def main():
        made = None
        async with bateau.scope() as s:
            with bateau.move_on_after(0.02) as block:
                s.spawn(open_when_cancelled, block)
                made = await thread.run(lambda: (gate.wait(20), ended.append(1), "made")[2])
                assert ended
                await bateau.checkpoint()
                raise AssertionError("not reached")
        assert block.cancelled_caught
        assert made == "made"

    async def open_when_cancelled(block):
        await until(lambda: block.cancel_called)
        gate.set()

    entry.run(main)


@pytest.mark.law(5)
def test_a_cancelled_scope_runs_nothing(entry):
    ran = []

    async def main():
        with bateau.move_on_after(None) as block:
            block.cancel()
            await thread.run(ran.append, 1)
        assert block.cancelled_caught

    entry.run(main)
    assert ran == []


def test_cooperative_cancellation(entry):
    def work():
        while True:
            thread.check_cancelled()
            time.sleep(0.005)

    async def main():
        with bateau.move_on_after(0.03) as block:
            await thread.run(work)
        assert block.cancelled_caught

        async with bateau.scope() as s:
            task = s.spawn_blocking(work)
            await bateau.yield_now()
            task.cancel("enough")
        assert task.outcome().cancelled

    entry.run(main)


def test_swallowing_the_check_lets_it_return(entry):
    def work():
        try:
            while True:
                thread.check_cancelled()
                time.sleep(0.005)
        except bateau.Cancelled as error:
            return error.reason

    async def main():
        with bateau.move_on_after(0.03):
            assert "0.03" in await thread.run(work)

    entry.run(main)


def test_abandoned(entry):
    """The wait ends at once; the error of the function is reported, its value dropped."""
    findings = []
    gate, over = threading.Event(), threading.Event()

    def fails():
        gate.wait(10)
        with pytest.raises(bateau.Cancelled):
            thread.check_cancelled()
        with pytest.raises(bateau.Cancelled):
            thread.from_thread.run(bateau.checkpoint)
        raise ValueError("late")

    async def main():
        with bateau.move_on_after(0.02) as block:
            await thread.run(fails, abandon_on_cancel=True)
        assert block.cancelled_caught
        assert thread.workers().running == 1
        gate.set()
        assert await thread.run(over.wait, 10)

    def sink(finding):
        findings.append(finding)
        over.set()

    remove = add_sink(sink)
    try:
        entry.run(main)
    finally:
        remove()
    assert [finding.name for finding in findings] == ["unretrieved_error"]
    assert "late" in findings[0].message
    assert findings[0].filename == __file__


def test_the_limit_holds_and_is_first_come(entry):
    lock = threading.Lock()
    now, most, order, calls = 0, 0, [], 0
    met = threading.Barrier(2, timeout=60)

    def work(i):
        nonlocal now, most, calls
        with lock:
            order.append(i)
            now += 1
            most = max(most, now)
            calls += 1
            first_two = calls <= 2
        if first_two:
            met.wait()
        time.sleep(0.01)
        with lock:
            now -= 1

    async def main():
        thread.workers().set_limit(2)
        async with bateau.scope() as s:
            for i in range(9):
                s.spawn_blocking(work, i)
        assert most == 2
        assert sorted(order) == list(range(9))
        thread.workers().set_limit(1)
        order.clear()
        async with bateau.scope() as s:
            for i in range(5):
                s.spawn_blocking(work, i)
                await bateau.yield_now()  # trio steps its tasks in random order
                await bateau.yield_now()
        assert order == list(range(5))
        with pytest.raises(ValueError, match="1 or more"):
            thread.workers().set_limit(0)

    entry.run(main)


def test_cancelled_in_the_queue_it_is_never_run(entry):
    gate = threading.Event()
    ran = []

    async def main():
        thread.workers().set_limit(1)
        async with bateau.scope() as s:
            s.spawn_blocking(gate.wait, 10)
            while not thread.workers().running:
                await bateau.yield_now()
            with bateau.move_on_after(0.02) as block:
                await thread.run(ran.append, 1)
            assert block.cancelled_caught
            gate.set()
        await thread.run(int)

    entry.run(main)
    assert ran == []


def test_a_limiter_of_the_caller(entry):
    class Two:
        busy = most = entered = 0

        async def __aenter__(self):
            Two.busy += 1
            Two.entered += 1

        async def __aexit__(self, *exc):
            Two.busy -= 1

    async def main():
        thread.workers().set_limit(1)
        gate = threading.Event()
        async with bateau.scope() as s:
            s.spawn_blocking(gate.wait, 10)
            while not thread.workers().running:
                await bateau.yield_now()
            assert await thread.run(lambda: 5, limiter=Two()) == 5  # not held up by the run's own limit
            gate.set()
        assert (Two.busy, Two.entered) == (0, 1)

    entry.run(main)


@pytest.mark.parametrize("limit", [1, 2])
def test_nested_runs_never_wait_for_themselves(entry, limit):
    """S25: a sandwich of any depth works with any number of threads."""

    async def deeper(depth):
        return await thread.run(sync, depth - 1) if depth else "bottom"

    def sync(depth):
        return thread.from_thread.run(deeper, depth)

    async def main():
        thread.workers().set_limit(limit)
        async with bateau.scope() as s:
            tasks = [s.spawn(deeper, 6) for _ in range(4)]
        assert [task.outcome().unwrap() for task in tasks] == ["bottom"] * 4
        assert thread.workers().running == 0

    entry.run(main)


def test_spawn_blocking_in_a_failing_scope_is_awaited(entry):
    ended = []

    async def main():
        with pytest.raises(ExceptionGroup) as info:
            async with bateau.scope() as s:
                s.spawn_blocking(lambda: (time.sleep(0.05), ended.append(1)))
                s.spawn_blocking(lambda: 1 / 0)
        assert info.group_contains(ZeroDivisionError)
        assert ended == [1]

    entry.run(main)


def test_many(entry):
    async def main():
        async with bateau.scope() as s:
            tasks = [s.spawn_blocking(pow, i, 2) for i in range(300)]
        assert [task.outcome().unwrap() for task in tasks] == [i * i for i in range(300)]

    entry.run(main)


def test_no_deadlock_is_proven_while_a_thread_runs(runtime):
    async def main():
        return await thread.run(lambda: time.sleep(0.05) or "fine")

    assert runtime.run(main) == "fine"


def test_native_cancel_of_a_running_function():
    """asyncio's own `task.cancel()`: the function is awaited, then the cancellation is delivered."""
    import asyncio

    async def main():
        ended = []

        async def child():
            value = await thread.run(lambda: (time.sleep(0.1), ended.append(1), "value")[2])
            ended.append(value)
            await thread.CallbackFuture()
            ended.append("not reached")

        task = asyncio.create_task(child())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert ended == [1, "value"]

    asyncio.run(main())


def test_native_cancel_is_seen_by_calls_back():
    """asyncio cancels once: async calls from the thread after that are refused, sync ones (for cleaning up) are not."""
    import asyncio

    log = []

    async def forever():
        await thread.CallbackFuture()

    def work():
        time.sleep(0.1)
        log.append(thread.from_thread.run_sync(lambda: "cleaned"))
        thread.from_thread.run(forever)

    async def main():
        task = asyncio.create_task(thread.run(work))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert log == ["cleaned"]


def test_a_limiter_of_bateaus(entry):
    from bateau.sync import Limiter

    async def main():
        limiter = Limiter(2)
        lock = threading.Lock()
        busy, most, calls = 0, 0, 0
        met = threading.Barrier(2, timeout=60)

        def work():
            nonlocal busy, most, calls
            with lock:
                busy += 1
                most = max(most, busy)
                calls += 1
                first_two = calls <= 2
            if first_two:
                met.wait()
            time.sleep(0.01)
            with lock:
                busy -= 1

        async def one():
            await thread.run(work, limiter=limiter)

        async with bateau.scope() as s:
            for _ in range(8):
                s.spawn(one)
        assert most == 2

    entry.run(main)


def test_after_fork_threads_are_made_anew():
    import os

    async def main():
        return await thread.run(lambda: 5)

    bateau.run(main)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(bateau.run(main))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


def test_the_value_is_the_callers_alone(entry):
    """The worker thread may hold the operation a while longer: what the caller drops must be free all the same."""

    class Result:
        pass

    async def main():
        waiting = thread.run(Result)
        result = await waiting
        gone = weakref.ref(result)
        del result
        gc.collect()
        assert gone() is None
        assert waiting is not None

    entry.run(main)
