"""A native program that is an asyncio loop as well, where both are in C: what it promises beyond the pure form is time alone.

What it promises at all is tests/interop's business, over every way in. Here: that the C part is what runs, that nothing is left
over, that neither side starves the other, and what no program should do to it.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
import weakref
from typing import Any

import pytest

import bateau
from bateau.io.fd import FdWatch
from bateau.kernel import twin
from bateau.kernel.current import current_task

pytestmark = pytest.mark.skipif(twin.native is None, reason=f"the C part is not in use: {twin.why_pure}")

ROUNDS = 3_000
SLACK = 400


def run(fn: Any, **options: Any) -> Any:
    return bateau.run(fn, runtime="native", **options)


def test_the_running_loop_is_the_native_one() -> None:
    async def main() -> str:
        engine: Any = current_task().host
        assert engine.on_step is engine.aio
        assert asyncio.get_running_loop() is engine.aio.loop
        return type(engine.aio.loop).__mro__[2].__name__

    assert run(main) == "NativeEventLoop"


def test_a_simulated_world_has_the_pure_one() -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__name__

    assert bateau.run(main, runtime="sim") == "SimLoop"


async def futures() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


async def tasks() -> None:
    async def child() -> int:
        await asyncio.sleep(0)
        return 1

    assert await asyncio.create_task(child()) == 1


async def yields() -> None:
    asyncio.get_running_loop().call_soon(int)
    await asyncio.sleep(0)
    await bateau.checkpoint()


async def timeouts() -> None:
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(60)
    except TimeoutError:
        pass
    with bateau.move_on_after(0):
        await asyncio.sleep(60)


async def children() -> None:
    async def child() -> None:
        face: Any = asyncio.current_task()
        face.add_done_callback(ended.append)
        await asyncio.sleep(0)

    ended: list[Any] = []
    async with bateau.scope() as scope:
        scope.spawn(child)
    await asyncio.sleep(0)
    assert len(ended) == 1
    assert ended[0].done()


async def cancelled_children() -> None:
    async with bateau.scope() as scope:
        scope.spawn(asyncio.sleep, 60)
        await bateau.yield_now()
        scope.cancel()


async def failing() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    try:
        await asyncio.create_task(fail())
    except ValueError:
        return
    raise AssertionError


@pytest.mark.parametrize(
    "case",
    [futures, tasks, yields, timeouts, children, cancelled_children, failing],
    ids=lambda case: case.__name__,
)
def test_nothing_is_left_over(case: Any) -> None:
    async def main() -> tuple[int, int]:
        for _ in range(100):
            await case()
        gc.collect()
        references, objects = sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0, len(gc.get_objects())
        for _ in range(ROUNDS):
            await case()
        gc.collect()
        after = sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0
        return after - references, len(gc.get_objects()) - objects

    references, objects = run(main)
    assert references < SLACK
    assert objects < SLACK


def test_a_program_leaves_nothing_of_its_side() -> None:
    async def main() -> list[weakref.ref[Any]]:
        async with bateau.scope() as scope:
            scope.spawn(asyncio.sleep, 0)
        engine: Any = current_task().host
        return [weakref.ref(engine.aio), weakref.ref(engine.aio.loop), weakref.ref(asyncio.current_task())]

    found = run(main)
    gc.collect()
    assert [ref() for ref in found] == [None, None, None]


def test_neither_side_starves_the_other() -> None:
    """Callbacks without end, tasks without end, a thread, a socket and both kinds of timers: each has its turn."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        going = True

        def again() -> None:
            if going:
                loop.call_soon(again)

        async def busy() -> None:
            while going:
                await bateau.yield_now()

        again()
        left, right = socket.socketpair()
        left.setblocking(False)
        async with bateau.scope() as scope:
            scope.spawn(busy)
            seen: list[str] = []
            loop.call_later(0.01, seen.append, "their timer")
            threading.Timer(0.01, lambda: loop.call_soon_threadsafe(seen.append, "a thread")).start()
            threading.Timer(0.02, lambda: right.send(b"x")).start()
            watch = FdWatch(left.fileno())
            with bateau.fail_after(30):
                await bateau.time.sleep(0.01)
                await watch.readable()
                seen.append("a socket of ours")
                watch.close()
                right.send(b"y")
                assert await loop.sock_recv(left, 2)
                while len(seen) < 3:
                    await asyncio.sleep(0.001)
            going = False
        left.close()
        right.close()
        assert sorted(seen) == ["a socket of ours", "a thread", "their timer"]

    run(main)


def test_who_let_asyncio_go_first_is_not_forgotten_by_a_look_at_the_descriptors() -> None:
    """asyncio's round came with a look that found nothing: the poll after it must not wait for what comes from outside."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            loop.add_reader(ours.fileno(), print)
            with bateau.move_on_after(5) as scope:  # a poll that waits would end by this timer
                for _ in range(3):
                    loop.call_soon(int)
                    time.sleep(0.01)  # longer than the coarse clock stands still: a look is due
                    await asyncio.sleep(0)
            loop.remove_reader(ours.fileno())
        return scope.cancelled_caught or scope.cancel_called

    assert not run(main)


def test_threads_wake_it_however_it_waits() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        got = 0
        for _ in range(200):
            future = loop.create_future()
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, 1))
            thread.start()
            got += await future
            thread.join()
        return got

    assert run(main) == 200


def test_interrupted_in_the_middle() -> None:
    """An exception that a callback throws at the loop itself comes out, and the program ends in order."""

    async def main() -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        asyncio.get_running_loop().call_soon(interrupt)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    ended: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert ended == [True]


def test_interrupted_between_those_that_let_asyncio_go_first() -> None:
    """Those that were not woken any more are in no queue: they are cancelled in order all the same."""
    cleaned: list[int] = []

    async def yields(index: int) -> None:
        try:
            while True:
                asyncio.get_running_loop().call_soon(int)
                await asyncio.sleep(0)
        finally:
            cleaned.append(index)

    async def main() -> None:
        engine: Any = current_task().host
        calls = iter(range(7))

        def wake(task: Any) -> None:  # what a signal's handler does that raises there
            if next(calls, None) is None:
                del engine.wake
                raise KeyboardInterrupt
            type(engine).wake(engine, task)

        async with bateau.scope() as scope:
            for index in range(10):
                scope.spawn(yields, index)
            await asyncio.sleep(0)
            engine.wake = wake
            await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert sorted(cleaned) == list(range(10))


def test_interrupted_between_those_that_wait_for_one_descriptor() -> None:
    """The one that was taken out of the queue and not woken has ended in order as well."""
    cleaned: list[int] = []

    async def main() -> None:
        engine: Any = current_task().host
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            watch = FdWatch(ours.fileno())

            async def wait(index: int) -> None:
                try:
                    await watch.readable()
                finally:
                    cleaned.append(index)

            calls = iter(range(2))

            def wake(task: Any) -> None:
                if next(calls, None) is None:
                    del engine.wake
                    raise KeyboardInterrupt
                type(engine).wake(engine, task)

            try:
                async with bateau.scope() as scope:
                    for index in range(5):
                        scope.spawn(wait, index)
                    await asyncio.sleep(0.01)
                    engine.wake = wake
                    theirs.send(b"x")
                    await asyncio.sleep(60)
            finally:
                watch.close()

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert sorted(cleaned) == list(range(5))


def test_what_is_handed_to_it_wrongly() -> None:
    async def main() -> None:
        engine: Any = current_task().host
        side = engine.aio
        with pytest.raises(TypeError, match="expected a task"):
            side(1)
        with pytest.raises(TypeError, match="no keyword"):
            side(task=1)
        task: Any = current_task()
        face = asyncio.current_task()
        assert face is not None
        face.wake_up(None)  # of no future: nothing happens
        with pytest.raises(TypeError):
            twin.native.LoopFaceFields()
        assert asyncio.current_task() is task.face is face
        await asyncio.sleep(0)

    run(main)
    empty = twin.native.LoopSideFields()
    for call in (empty._spin, empty._unpublish, lambda: empty._iterate(True)):
        with pytest.raises(RuntimeError):
            call()
    assert empty._rest() == 0
    assert not empty._is_waiting()
