"""H03: callbacks, promises and futures become awaitables, and back."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

import bateau
from bateau import thread
from bateau.kernel.hazard import add_sink


@pytest.mark.law(11)
def test_completed_from_a_thread(entry):
    async def main():
        for _ in range(50):  # before, while and after the task parks
            future = thread.CallbackFuture()
            plain = threading.Thread(target=future.set_result, args=["value"])
            plain.start()
            assert await future == "value"
            assert await future == "value"
            plain.join()

    entry.run(main)


def test_many_waiters_and_threads(entry):
    async def main():
        futures = [thread.CallbackFuture() for _ in range(40)]

        async def wait(future):
            return await future

        def complete():
            for i, future in enumerate(futures):
                future.set_result(i)

        async with bateau.scope() as s:
            tasks = [s.spawn(wait, future) for future in futures for _ in range(3)]
            await bateau.yield_now()
            plain = threading.Thread(target=complete)
            plain.start()
        plain.join()
        assert [task.outcome().unwrap() for task in tasks] == [i for i in range(40) for _ in range(3)]

    entry.run(main)


def test_errors_and_misuse(entry):
    async def main():
        future = thread.CallbackFuture("driver")
        assert not future.done()
        future.set_exception(LookupError("from C"))
        assert future.done()
        with pytest.raises(RuntimeError, match="complete already"):
            future.set_result(1)
        with pytest.raises(LookupError, match="from C"):
            await future
        with pytest.raises(TypeError, match="needs an exception"):
            thread.CallbackFuture().set_exception(3)
        with pytest.raises(RuntimeError, match="await the future"):
            thread.CallbackFuture().result()

    entry.run(main)


def test_a_cancelled_wait_leaves_it(entry):
    async def main():
        future = thread.CallbackFuture()
        with bateau.move_on_after(0.01) as block:
            await future
        assert block.cancelled_caught
        assert not list(future.waiters())
        future.set_result(3)
        assert await future == 3

    entry.run(main)


def test_plain_threads_can_wait():
    future = thread.CallbackFuture()
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        future.result(0.01)
    timer = threading.Timer(0.02, future.set_result, ["late"])
    timer.start()
    assert future.result(10) == "late"
    timer.join()


def test_between_two_runtimes():
    """Made nowhere, awaited on two loops in two threads, completed by a third."""
    future = thread.CallbackFuture()
    got = []

    async def wait():
        got.append(await future)

    def loop():
        bateau.run(wait)

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for each in threads:
        each.start()
    time.sleep(0.05)
    future.set_result("both")
    for each in threads:
        each.join(10)
    assert got == ["both", "both"]


def test_an_error_nobody_took_is_reported():
    findings = []
    remove = add_sink(findings.append)
    try:
        future = thread.CallbackFuture("lost")
        future.set_exception(ValueError("unseen"))
        del future
        gc.collect()
    finally:
        remove()
    assert [finding.name for finding in findings] == ["unretrieved_error"]
    assert "unseen" in findings[0].message


def test_wrap_future(entry):
    async def main():
        with ThreadPoolExecutor(2) as pool:
            assert await thread.wrap_future(pool.submit(pow, 2, 5)) == 32
            with pytest.raises(ZeroDivisionError):
                await thread.wrap_future(pool.submit(lambda: 1 / 0))
        cancelled = Future()
        cancelled.cancel()
        cancelled.set_running_or_notify_cancel()
        with pytest.raises(bateau.TaskCancelled):
            await thread.wrap_future(cancelled)
        with pytest.raises(TypeError, match=r"concurrent\.futures"):
            thread.wrap_future(3)

    entry.run(main)


def test_as_future(entry):
    async def value():
        await bateau.yield_now()
        return 5

    async def boom():
        raise LookupError("seen by the future")

    async def main():
        async with bateau.scope() as s:
            task = s.spawn(value)
            future = thread.as_future(task)
            assert not future.done()
            assert await thread.run(future.result, 10) == 5
            assert thread.as_future(task).result(0) == 5
        with pytest.raises(ExceptionGroup):
            async with bateau.scope() as s:
                future = thread.as_future(s.spawn(boom))
        with pytest.raises(LookupError):
            future.result(0)
        with pytest.raises(TypeError, match="bateau task"):
            thread.as_future(value)

    entry.run(main)
