"""Tests and fixtures that take too long: they are ended, and the report says who waited on what."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import pytest

from support.projects import Project

HEAD = """
import asyncio, pytest
import bateau
from bateau import sync
from bateau.testing import runtimes, virtual_time
"""
EACH = ("native", "asyncio", "trio")
AUTO = f"bateau_mode = auto\nbateau_runtimes = {' '.join(EACH)}\nfilterwarnings = error\n"


def test_who_waits_on_what(project: Project) -> None:
    project.write(
        ini=AUTO,
        test_a=HEAD
        + """
@pytest.fixture
async def idle():
    yield
@pytest.mark.bateau_timeout(0.2)
async def test_ring(idle):
    first, second = sync.Lock(name="first"), sync.Lock(name="second")
    begun = sync.Barrier(2)
    async def one():
        async with first:
            await begun.wait()
            await second.acquire()  # the line of one
    async def two():
        async with second:
            await begun.wait()
            await first.acquire()  # the line of two
    async with bateau.scope() as s:
        s.spawn(one, name="one")
        s.spawn(two, name="two")
        s.spawn(bateau.time.sleep, 1000)
""",
    )
    done = project.run()
    assert set(done.outcomes().values()) == {"failed"}
    for name in EACH:
        report = done.text.split(f"test_ring[{name}] _")[1]
        start = report.index("TestTimeout: test 'test_ring")
        report = report[start : report.index("test_a.py:", report.index("sleep of", start) + 200)]
        assert f"did not end within 0.2 s of {name}'s clock" in report
        assert re.search("a ring of waits: '(one|two)' -> '(one|two)' -> '(one|two)'", report)
        assert re.search(r"task 'one' at \S+test_a.py:17 in .*one waits: acquire of lock 'second'", report)
        assert "held by 'two'" in report
        assert "fixture" not in report
    # The traceback stands at the test's own line.
    done.has(">       async with bateau.scope() as s:")
    assert "src/bateau/kernel" not in done.text


def test_foreign_waits_are_told_too(project: Project) -> None:
    project.write(
        ini="bateau_mode = auto\nbateau_timeout = 0.2",
        test_a=HEAD
        + """
@runtimes("native", "asyncio", "uvloop")
async def test_asyncio():
    queue = asyncio.Queue()
    consumer = asyncio.create_task(queue.get(), name="consumer")
    await consumer
@runtimes("trio")
async def test_trio():
    import trio
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever, name="sleeper")
""",
    )
    done = project.run()
    assert set(done.outcomes().values()) == {"failed"}
    for name in ("native", "asyncio", "uvloop"):
        report = done.text.split(f"test_asyncio[{name}] _")[1]
        report = report[report.index("TestTimeout") :][:2000]
        assert re.search(
            r"asyncio task 'consumer' at \S+/queues.py:\d+ in Queue.get waits: get of asyncio Queue", report
        )
        # Nobody but the test itself refers to the queue, and it waits for the consumer.
        assert re.search(r"a ring of waits: 'consumer' -> '.*test_asyncio.*' -> 'consumer'", report), report
        assert re.search(r"task '.*test_asyncio.*' at \S+test_a.py:11 in test_asyncio", report), report
    assert "trio task 'sleeper' at" in done.text


@pytest.mark.parametrize("name", EACH)
def test_fixtures_have_the_same_time(project: Project, name: str) -> None:
    project.write(
        ini=f"bateau_mode = auto\nbateau_timeout = 0.2\nbateau_runtimes = {name}",
        test_a=HEAD
        + """
from bateau.testing import running
running.LONGEST_CLEANUP = 1
@pytest.fixture
async def slow_setup():
    await bateau.time.sleep(60)  # in setup
    yield
@pytest.fixture
async def slow_teardown():
    yield
    await bateau.time.sleep(60)  # in teardown
async def test_setup(slow_setup): pass
async def test_teardown(slow_teardown): pass
@pytest.fixture
async def stubborn():
    yield
    with bateau.shield():
        await bateau.time.sleep(60)
async def test_stubborn(stubborn): pass
@pytest.mark.bateau_timeout(None)
async def test_no_limit(): await bateau.time.sleep(0.3)
""",
    )
    done = project.run()
    expected = {"test_setup": "error", "test_teardown": "error", "test_stubborn": "error", "test_no_limit": "passed"}
    assert done.outcomes() == expected, done.text
    done.has(
        ">       await bateau.time.sleep(60)  # in setup", "the setup of fixture 'slow_setup' did not end within 0.2 s"
    )
    done.has(
        ">       await bateau.time.sleep(60)  # in teardown",
        "the teardown of fixture 'slow_teardown' did not end within 0.2 s",
    )
    assert len(re.findall("waits: sleep of 60 s", done.text)) == 3


def test_virtual_time(project: Project) -> None:
    project.write(
        test_a=HEAD
        + """
@virtual_time
@pytest.mark.bateau_timeout(4000)
async def test_in_time():
    await bateau.time.sleep(3600)
@virtual_time
@pytest.mark.bateau_timeout(3000)
async def test_too_late():
    await bateau.time.sleep(3600)
"""
    )
    began = time.monotonic()
    done = project.run()
    assert time.monotonic() - began < 60
    assert done.outcomes() == {"test_in_time": "passed", "test_too_late": "failed"}
    done.has("did not end within 3000 s of virtual time", "waits: sleep of 3600 s")


@pytest.mark.parametrize("name", EACH)
def test_a_cleanup_that_does_not_end_loses_its_shield(project: Project, name: str) -> None:
    project.write(
        ini=f"bateau_mode = auto\nbateau_runtimes = {name}",
        test_a=HEAD
        + """
@pytest.mark.bateau_timeout(0.2)
async def test_stubborn():
    try:
        await bateau.time.sleep(60)
    finally:
        with bateau.shield():
            await bateau.time.sleep(60)
@pytest.mark.bateau_timeout(0.2)
async def test_error_on_the_way_out():
    try:
        await bateau.time.sleep(60)
    except bateau.Cancelled:
        raise ValueError("in the cleanup")
""",
    )
    done = project.run()
    assert set(done.outcomes().values()) == {"failed"}
    done.has("did not end within 0.2 s", "it was cancelled, and had not ended")
    assert "ValueError: in the cleanup" in done.text


@pytest.mark.parametrize("name", EACH)
def test_ctrl_c_says_what_the_test_was_waiting_for(project: Project, name: str) -> None:
    project.write(
        ini=f"bateau_mode = auto\nbateau_runtimes = {name}",
        test_a=HEAD
        + """
@pytest.fixture
async def torn_down():
    yield
    print("TORN DOWN")
async def test_waits(torn_down):
    lock = sync.Lock(name="the lock")
    async with bateau.scope() as s:
        async def holder():
            async with lock:
                print("READY", flush=True)
                await bateau.time.sleep(1000)
        s.spawn(holder, name="holder")
        await bateau.time.sleep(0.05)
        await lock.acquire()
async def test_never_run(): pass
""",
    )
    process = subprocess.Popen(
        project.command("-s"),
        cwd=project.directory,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process:
        seen = ""
        while "READY" not in seen:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        time.sleep(0.5)  # the test gets as far as the lock; before that it is in a sleep, which would be told instead
        os.kill(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in text
    assert "TORN DOWN" in text
    assert "interrupted while waiting" in text
    assert re.search(
        r"task '.*test_waits.*' at \S+test_a.py:20 in test_waits waits: acquire of lock 'the lock'", text
    ), text
    assert "held by 'holder'" in text
    assert process.returncode == 2
