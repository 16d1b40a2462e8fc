"""Plain asyncio programs in the world: their tasks step in a chosen order, their bugs are found, told with their lines, and replayed."""

from __future__ import annotations

import asyncio
import functools
import time
from pathlib import Path

import pytest

import bateau
from bateau import sim


def line_of(text: str) -> str:
    for number, line in enumerate(Path(__file__).read_text().splitlines(), 1):
        if line.strip().endswith(text):
            return f"test_asyncio.py:{number}"
    raise AssertionError(text)


def plain(main):
    """The same program under asyncio's own runner and loop."""

    @functools.wraps(main)
    def program():
        return asyncio.run(main())

    del program.__wrapped__  # a sync function, and to be called as one
    return program


async def lost_update():
    count = 0

    async def increment(n):
        nonlocal count
        for _ in range(n):
            await asyncio.sleep(0)
        value = count
        await asyncio.sleep(0)  # the gap
        count = value + 1

    async with asyncio.TaskGroup() as group:
        group.create_task(increment(0), name="early")
        group.create_task(increment(3), name="late")
    assert count == 2  # the check


async def opposite_locks():
    a, b = asyncio.Lock(), asyncio.Lock()

    async def one():
        await asyncio.sleep(0)
        async with a:
            await asyncio.sleep(0)
            async with b:  # has a, wants b
                pass

    async def two():
        async with b:
            async with a:  # has b, wants a
                pass

    async with asyncio.TaskGroup() as group:
        group.create_task(one(), name="one")
        group.create_task(two(), name="two")


async def ordered():
    """Callbacks come in the order in which they were registered, whatever the tasks do."""
    loop = asyncio.get_running_loop()
    seen = []

    async def child(n):
        for _ in range(3):
            await asyncio.sleep(0)
            loop.call_soon(seen.append, (n, len(seen)))

    for n in range(10):
        loop.call_soon(seen.append, n)
    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(child(n))
    await asyncio.sleep(0)
    assert seen[:10] == list(range(10))
    assert len(seen) == 19


@pytest.mark.parametrize("form", [plain, lambda main: main], ids=["asyncio.run", "in a bateau program"])
def test_a_lost_update_is_found(form):
    with pytest.raises(sim.Found) as caught:
        sim.explore(form(lost_update), seeds=500)
    story = caught.value.story
    assert line_of("# the check") in story
    assert line_of("# the gap") in story
    assert "early" in story
    assert "late" in story
    assert sim.replay(form(lost_update), caught.value.token).failed


@pytest.mark.parametrize("form", [plain, lambda main: main], ids=["asyncio.run", "in a bateau program"])
def test_a_deadlock_of_asyncios_locks_is_told_with_both_lines(form):
    with pytest.raises(sim.Found) as caught:
        sim.explore(form(opposite_locks), seeds=500)
    assert isinstance(caught.value.error, bateau.Deadlock)
    story = caught.value.story
    assert line_of("# has a, wants b") in story
    assert line_of("# has b, wants a") in story
    assert "Lock.acquire" in story


@pytest.mark.parametrize("form", [plain, lambda main: main], ids=["asyncio.run", "in a bateau program"])
@pytest.mark.parametrize("strategy", ["fifo", "random", "pct", "pos"])
def test_callbacks_keep_their_order(form, strategy):
    sim.explore(form(ordered), seeds=50, strategy=strategy)
    sim.check_determinism(form(ordered), seed=3, strategy=strategy)


def test_asyncio_sees_the_worlds_time():
    async def main():
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(7200):
            await asyncio.sleep(3600)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 1800)
        return loop.time() - began, time.monotonic()

    took, now = sim.run(plain(main))
    assert took == pytest.approx(5400)
    assert now == pytest.approx(5400)
    assert sim.run(main)[0] == pytest.approx(5400)


def test_threads_files_and_streams_of_asyncio():
    async def main():
        assert await asyncio.to_thread(lambda: (time.sleep(2), 7)[1]) == 7
        done = asyncio.Event()

        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            done.set()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"line\n")
            assert await reader.readline() == b"line\n"
            writer.close()
            await writer.wait_closed()
            await done.wait()

    for form in (plain(main), main):
        sim.run(form)
        sim.explore(form, seeds=10)


def test_child_processes_are_refused_with_what_to_do():
    async def main():
        await asyncio.create_subprocess_exec("true")

    with pytest.raises(sim.NotSimulated, match=r"\.start\(fn"):
        sim.run(plain(main))


def test_a_killed_asyncio_program_is_put_aside_without_a_word(recwarn):
    cleaned = []

    async def main():
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(asyncio.sleep(1000))
        finally:
            cleaned.append(time.monotonic())

    async def scenario(world):
        process = world.host("a").start(plain(main))
        await bateau.time.sleep(1)
        process.kill()
        await bateau.time.sleep(1)
        return list(cleaned)

    assert sim.run(scenario) == []
    assert not recwarn.list
