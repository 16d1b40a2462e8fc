"""`block_on` in every place sync code can stand (S02, S25, F05): it works, or fails at once naming both sides."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import bateau
from bateau import block_on, blocking, thread
from bateau.io.fd import FdWatch
from bateau.kernel.hazard import add_sink
from support.processes import complaints
from support.waiting import until

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")


@pytest.fixture(autouse=True)
def closed_afterwards():
    yield
    blocking.close_thread()


@pytest.fixture
def findings():
    found = []
    remove = add_sink(found.append)
    yield found
    remove()


async def double(x):
    await bateau.yield_now()
    return 2 * x


async def boom():
    await bateau.yield_now()
    raise LookupError("boom")


# -- plain code ------------------------------------------------------------------------------------------------------------


def test_from_a_script(runtime):
    for i in range(5):
        assert block_on(double, i, runtime=runtime.name) == 2 * i
    assert block_on(double(3), runtime=runtime.name) == 6
    assert block_on(thread.run(pow, 2, 3), runtime=runtime.name) == 8
    with pytest.raises(LookupError, match="boom"):
        block_on(boom, runtime=runtime.name)
    with pytest.raises(TypeError, match="not an awaitable"):
        block_on(int, runtime=runtime.name)
    assert block_on(double, 7, runtime=runtime.name) == 14


def test_an_operation(runtime):
    future = thread.CallbackFuture()
    future.set_result(4)
    assert block_on(future, runtime=runtime.name) == 4
    assert block_on(future.wait(), runtime=runtime.name) == 4


@pytest.mark.parametrize("name", ["native", "asyncio", "uvloop"])
def test_what_one_call_opened_lives_on_in_the_next(name):
    """S02: clients don't die with their loop, because the loop stays."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        watch = FdWatch(ours.fileno(), label="client")

        async def ready():
            await watch.readable()
            return ours.recv(100)

        async def none_yet():
            with bateau.move_on_after(0.01):
                await watch.readable()

        block_on(none_yet, runtime=name)
        theirs.send(b"first")
        assert block_on(ready, runtime=name) == b"first"
        theirs.send(b"second")
        assert block_on(ready, runtime=name) == b"second"
        block_on(_closing, watch, runtime=name)


async def _closing(watch):
    watch.close()


@pytest.mark.parametrize("name", ["native", "asyncio", "uvloop"])
def test_a_clients_background_task_lives_on(name):
    """asyncio clients keep tasks of their own between calls: they are not the call's to cancel."""
    log = []

    async def connect():
        async def reader():
            try:
                await asyncio.sleep(60)
            finally:
                log.append("ended")

        task = asyncio.create_task(reader())
        await asyncio.sleep(0)
        return task

    async def alive(task):
        await asyncio.sleep(0.01)
        return not task.done()

    async def end(task):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    task = block_on(connect, runtime=name)
    assert block_on(alive, task, runtime=name)
    assert log == []
    block_on(end, task, runtime=name)
    assert log == ["ended"]


def test_on_threads_of_its_own(runtime):
    got = []

    def work(i):
        for k in range(3):
            got.append(block_on(double, 10 * i + k, runtime=runtime.name))

    threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert sorted(got) == sorted(2 * (10 * i + k) for i in range(4) for k in range(3))
    gc.collect()  # the leak check sees that the threads' loops were closed with them


def test_contextvars_and_two_runtimes_on_one_thread():
    var = contextvars.ContextVar("var")
    var.set("caller's")

    async def seen():
        await bateau.yield_now()
        return var.get()

    assert block_on(seen, runtime="native") == "caller's"
    assert block_on(seen, runtime="asyncio") == "caller's"


def test_run_beside_it(runtime):
    assert block_on(double, 1, runtime=runtime.name) == 2
    assert runtime.run(double, 2) == 4
    assert block_on(double, 3, runtime=runtime.name) == 6


def test_closed_at_exit_without_a_word():
    program = """
        import asyncio, bateau, threading
        async def main():
            await bateau.yield_now()
            return 1
        print(bateau.block_on(main), bateau.block_on(main, runtime="asyncio"))
        plain = threading.Thread(target=bateau.block_on, args=[main])
        plain.start()
        plain.join()
    """
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout, complaints(result.stderr)) == (0, "1 1\n", "")


def test_after_fork_the_child_has_loops_of_its_own():
    block_on(double, 1)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(block_on(double, 4))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 8
    assert block_on(double, 2) == 4


def test_deadlock_is_an_error():
    async def wait_for(tasks, i):
        await tasks[i]

    async def stuck():
        async with bateau.scope() as s:
            tasks = []
            tasks.append(s.spawn(wait_for, tasks, 1))
            tasks.append(s.spawn(wait_for, tasks, 0))

    with pytest.raises(bateau.Deadlock):
        block_on(stuck, runtime="native")
    assert block_on(double, 2, runtime="native") == 4


# -- sandwiches ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 40])
def test_async_sync_async_sandwich_in_threads(entry, limit):
    """S25: the sync layer runs in a worker thread and comes back into the same program, whatever the pool's size."""

    async def deeper(depth):
        await bateau.checkpoint()
        return await thread.run(sync, depth - 1) if depth else bateau.current_task()

    def sync(depth):
        return block_on(deeper, depth)

    async def main():
        thread.workers().set_limit(limit)
        assert await deeper(5) is bateau.current_task()

    entry.run(main)


def test_sync_async_sync_async(runtime):
    def inner():
        return block_on(double, 21)

    async def main():
        return await thread.run(inner)

    assert block_on(main, runtime=runtime.name) == 42


def test_a_loop_of_its_own_in_a_worker_if_asked(entry):
    async def main():
        here = threading.get_ident()

        async def where():
            return threading.get_ident()

        assert await thread.run(lambda: block_on(where)) == here
        assert await thread.run(lambda: block_on(where, runtime="native")) != here
        await thread.run(lambda: block_on(where, runtime="native"))

    entry.run(main)


# -- inside a step of a runtime that bateau drives ---------------------------------------------------------------------------


def test_nested_the_others_go_on(findings):
    """F05: just works, and warns because it really waited."""
    log = []

    async def other():
        for i in range(3):
            await thread.run(time.sleep, 0.01)
            log.append(i)

    async def others_end():
        await until(lambda: len(log) == 3)

    def sync():
        return block_on(others_end)

    async def main():
        async with bateau.scope() as s:
            s.spawn(other, name="other")
            await bateau.yield_now()
            sync()
            assert log == [0, 1, 2]

    bateau.run(main, runtime="native")
    assert [finding.name for finding in findings] == ["nested_block_on"]
    assert "blocked: other" in findings[0].message
    assert findings[0].filename == __file__


def test_nested_that_need_not_wait_is_silent(findings):
    async def at_once():
        await bateau.checkpoint()
        return 3

    async def main():
        return block_on(at_once)

    assert bateau.run(main, runtime="native") == 3
    assert findings == []


def test_nested_in_nested(findings):
    async def deeper(depth):
        await bateau.yield_now()
        return block_on(deeper, depth - 1) if depth else "bottom"

    async def main():
        async with bateau.scope() as s:
            tasks = [s.spawn(deeper, 5) for _ in range(3)]
        return [task.outcome().unwrap() for task in tasks]

    assert bateau.run(main, runtime="native") == ["bottom"] * 3


def test_nested_errors_timeouts_and_cancellation(findings):
    async def forever():
        await thread.CallbackFuture()

    async def main():
        with pytest.raises(LookupError, match="boom"):
            block_on(boom)
        with pytest.raises(TimeoutError), bateau.timeout(0.03):
            block_on(forever)
        with bateau.move_on_after(None) as block:
            block.cancel()
            block_on(forever)
        assert block.cancelled_caught
        return await double(4)

    assert bateau.run(main, runtime="native") == 8


def test_nested_deadlock_names_it(findings):
    async def main():
        event = bateau.current_task()
        with pytest.raises(bateau.Deadlock):
            block_on(event.join)
        return await double(1)

    assert bateau.run(main, runtime="native") == 2


def test_nested_with_asyncio_inside(findings):
    async def sleeps():
        await asyncio.sleep(0.01)
        return "slept"

    async def main():
        other = asyncio.create_task(asyncio.sleep(0.02, "other"))
        assert block_on(sleeps) == "slept"
        return await other

    assert bateau.run(main, runtime="native") == "other"


def test_nested_with_another_runtime_is_refused(findings):
    async def main():
        with pytest.raises(bateau.NestedRun, match=r"asyncio.*native"):
            block_on(double(1), runtime="asyncio")
        return block_on(double, 1, runtime="native")

    assert bateau.run(main, runtime="native") == 2


# -- inside a foreign loop's step --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    ["owned:asyncio", "owned:uvloop", "owned:trio", "adopted:asyncio", "adopted:uvloop", "adopted:trio"],
    indirect=True,
)
def test_one_clear_error_in_a_foreign_step(entry):
    async def main():
        with pytest.raises(bateau.NestedRun, match=r"block_on.*task.*runtime.*await"):
            block_on(double(1))
        with pytest.raises(bateau.NestedRun):
            block_on(double, 1, runtime="native")
        return await thread.run(lambda: block_on(double, 2))

    assert entry.run(main) == 4


def test_one_clear_error_in_a_loops_callback():
    errors = []

    def callback():
        try:
            block_on(double, 1)
        except bateau.NestedRun as error:
            errors.append(str(error))

    async def main():
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(errors) == 1
    assert "callback of the asyncio loop" in errors[0]
