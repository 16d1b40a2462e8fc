"""Faults of the machine under a program: signals, threads, clocks, processes, the loop's own descriptors. See test_index.py."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import socket
import subprocess as blocking
import sys
import threading
import time
import weakref
from typing import Any

import pytest

import bateau
import bateau.signal
import bateau.thread
import bateau.time
from bateau import net, subprocess
from bateau.channel import channel
from bateau.kernel.current import current_host
from support import faulty
from support.loops import LOOPS, both, run
from support.waiting import until

only_native = pytest.mark.parametrize("runtime", ["native"], indirect=True)


# -- signals -----------------------------------------------------------------------------------------------------------


def test_a_storm_of_signals_beside_traffic(runtime: Any) -> None:
    """A timer's signal every half millisecond into every system call: no byte, no wake-up and no signal is lost."""

    async def main() -> None:
        here, there = map(net.from_socket, socket.socketpair())
        data, got, seen = os.urandom(1 << 20), bytearray(), 0

        async def write() -> None:
            for at in range(0, len(data), 10_000):
                await here.write(data[at : at + 10_000])
                await bateau.time.sleep(0)
            here.close()

        async def count(signals: Any) -> None:
            nonlocal seen
            async for _ in signals:
                seen += 1

        with bateau.signal.open(signal.SIGALRM) as signals:
            async with bateau.scope() as scope:
                scope.spawn(count, signals, background=True)
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
                try:
                    scope.spawn(write)
                    while part := await there.read():
                        got += part
                    assert await bateau.thread.run(int, "5") == 5
                    await until(lambda: seen >= 20)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
        assert got == data
        there.close()

    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)  # who gets what nobody took
    try:
        runtime.run(main)
    finally:
        signal.signal(signal.SIGALRM, before)


# -- the collector -----------------------------------------------------------------------------------------------------


def test_garbage_collection_in_every_step(runtime: Any) -> None:
    """Whatever a step drops may run anything, in the middle of anything: cycles with destructors that use the program."""

    class Dropped:
        def __init__(self, wake: Any) -> None:
            self.me, self.wake = self, wake

        def __del__(self) -> None:
            self.wake()

    async def main() -> None:
        sender, receiver = channel(2)
        event = bateau.sync.Event()
        woken = 0

        def wake() -> None:
            nonlocal woken
            woken += 1
            event.set()

        async def child(n: int) -> None:
            Dropped(wake)
            with bateau.move_on_after(100):
                await sender.send(n)
            await bateau.yield_now()
            Dropped(wake)
            await event.wait()

        before = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for _ in range(5):
                async with bateau.scope() as scope:
                    for n in range(10):
                        scope.spawn(child, n)
                    for _ in range(10):
                        await receiver.recv()
                    scope.spawn(bateau.time.sleep, 1000)
                    await bateau.yield_now()
                    scope.cancel()
        finally:
            gc.set_threshold(*before)
        gc.collect()
        assert woken >= 100 - 5 * 10
        sender.close()
        receiver.close()

    runtime.run(main)


def test_a_program_collected_with_its_descriptors(runtime: Any) -> None:
    """A cycle that holds a stream, its reader's coroutine and itself: closed once, and only its own descriptor."""

    async def main() -> None:
        class Holder:
            pass

        here, there = socket.socketpair()
        stranger, strangers_peer = socket.socketpair()
        holder: Any = Holder()
        holder.me = holder
        holder.stream = net.from_socket(here)
        ref = weakref.ref(holder)
        with bateau.move_on_after(0.001):
            await holder.stream.read()
        holder.stream.close()
        del holder
        gc.collect()
        assert ref() is None
        assert there.recv(1) == b""
        stranger.send(b"x")
        assert strangers_peer.recv(1) == b"x"
        for sock in (there, stranger, strangers_peer):
            sock.close()

    runtime.run(main)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_that_wake_a_program_at_once(runtime: Any) -> None:
    """No call is lost and none is made twice, whether the program sleeps or works."""
    threads, calls = 8, 300

    async def main() -> None:
        host, total = current_host(), 0
        done = bateau.sync.Event()
        release = host.hold("a storm of threads")  # plain threads, of which no program can know

        def count() -> None:
            nonlocal total
            total += 1
            if total == threads * calls:
                done.set()

        def storm() -> None:
            for i in range(calls):
                host.call_threadsafe(count)
                if not i % 50:
                    time.sleep(0.0005)  # let it fall asleep

        started = [threading.Thread(target=storm) for _ in range(threads)]
        for thread in started:
            thread.start()
        await done.wait()
        release()
        for thread in started:
            thread.join()
        await bateau.yield_now()
        assert total == threads * calls

    runtime.run(main)


def test_no_thread_can_be_started() -> None:
    """Whoever needs one is told, nothing waits for ever, and when there are threads again it works."""
    faulty.run("""
    import bateau.thread, bateau.fs
    async def main():
        plan("pthread_create", errno.EAGAIN, times=3)
        for attempt in (lambda: bateau.thread.run(int, "5"), lambda: net.resolve("localhost"), lambda: bateau.fs.Path("/").stat()):
            try:
                with bateau.timeout(20):
                    await attempt()
            except RuntimeError as error:
                assert "thread" in str(error), error
            else:
                raise AssertionError("it did not fail")
        assert await bateau.thread.run(int, "5") == 5
        async with bateau.scope() as scope:
            some = [scope.spawn_blocking(time.sleep, 0.01) for _ in range(60)]
    bateau.run(main)

    async def main():
        loop = asyncio.get_running_loop()
        plan("pthread_create", errno.EAGAIN, times=1)
        try:
            await loop.run_in_executor(None, int, "5")
        except RuntimeError as error:
            assert "thread" in str(error)
        else:
            raise AssertionError("it did not fail")
        assert await loop.run_in_executor(None, int, "5") == 5
    on_loop(main)
    """)


# -- the loop's own descriptors ----------------------------------------------------------------------------------------


@only_native
def test_a_wake_up_counter_that_is_full(runtime: Any) -> None:
    """EAGAIN of the eventfd means that it is awake: nothing is lost, and nobody blocks."""

    async def main() -> None:
        host: Any = current_host()
        fd = host.reactor._wake_fd
        assert not os.get_blocking(fd)
        os.eventfd_write(fd, 2**64 - 2)
        with pytest.raises(BlockingIOError):
            os.eventfd_write(fd, 1)
        await bateau.time.sleep(0.001)
        os.eventfd_write(fd, 2**64 - 2)
        assert await bateau.thread.run(int, "5") == 5
        await bateau.time.sleep(0.001)

    runtime.run(main)


@pytest.mark.parametrize("factory", LOOPS[:1])
def test_a_wake_up_counter_of_the_loop_that_is_full(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        counters = [
            fd
            for fd in map(int, os.listdir("/proc/self/fd"))
            if _link(fd) == "anon_inode:[eventfd]" and _is_watched(loop, fd)
        ]
        for fd in counters:
            os.eventfd_write(fd, 2**64 - 2)
        assert await asyncio.to_thread(int, "5") == 5
        await asyncio.sleep(0.001)
        assert await asyncio.to_thread(int, "5") == 5

    run(factory, main())


def _link(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _is_watched(loop: Any, fd: int) -> bool:
    """Whether a descriptor is this process's newest eventfd that the loop made: told by its epoll sets."""
    for other in os.listdir("/proc/self/fd"):
        if _link(int(other)) == "anon_inode:[eventpoll]":
            with open(f"/proc/self/fdinfo/{other}") as file:
                if any(line.split()[:2] == ["tfd:", str(fd)] for line in file):
                    return True
    return False


PROGRAM = """
import asyncio, os, sys
def epolls():
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventpoll]":
                found.add(int(fd))
        except OSError:
            pass
    return found
def lose():
    for fd in epolls():
        os.close(fd)
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            """
import bateau, bateau.time
async def main():
    lose()
    await bateau.time.sleep(0.01)
    await bateau.time.sleep(60)
bateau.run(main, runtime="native")
""",
            id="native",
        ),
        pytest.param(
            """
from bateau.interop import asyncio as ours
async def main():
    lose()
    await asyncio.sleep(0.01)
    await asyncio.sleep(60)
ours.run(main())
""",
            id="loop",
        ),
    ],
)
def test_an_epoll_set_closed_under_its_loop(program: str) -> None:
    """It says so and ends: no hang, no spinning."""
    done = blocking.run(
        [sys.executable, "-c", PROGRAM + program], check=False, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 1, done.stderr
    assert "Bad file descriptor" in done.stderr or "closed epoll" in done.stderr, done.stderr


# -- clocks ------------------------------------------------------------------------------------------------------------


def test_a_wall_clock_that_is_set() -> None:
    """An hour forward or back, in the middle of waits: only the monotonic clock counts."""
    faulty.run("""
    async def main():
        for step in (3600, -7200):
            began = time.monotonic()
            with bateau.timeout(20):
                async with bateau.scope() as scope:
                    scope.spawn(bateau.time.sleep, 0.05)
                    await bateau.yield_now()
                    set_clock(time.CLOCK_REALTIME, step)
                    await bateau.thread.run(time.sleep, 0.01)
            assert time.monotonic() - began >= 0.05
            try:
                with bateau.timeout(0.02):
                    await bateau.time.sleep(30)
            except TimeoutError: pass
            else: raise AssertionError("the deadline moved")
    import bateau.thread
    bateau.run(main)

    async def main():
        for step in (3600, -7200):
            began = time.monotonic()
            async with asyncio.TaskGroup() as group, asyncio.timeout(20):
                group.create_task(asyncio.sleep(0.05))
                await asyncio.sleep(0)
                set_clock(time.CLOCK_REALTIME, step)
            assert time.monotonic() - began >= 0.05
            try:
                async with asyncio.timeout(0.02):
                    await asyncio.sleep(30)
            except TimeoutError: pass
            else: raise AssertionError("the deadline moved")
    on_loop(main)
    """)


def test_a_monotonic_clock_that_leaps() -> None:
    """A machine that stood still (a paused virtual machine): what is due is done at once, in its order, and once."""
    faulty.run("""
    async def main():
        order = []
        async def sleeper(seconds):
            await bateau.time.sleep(seconds)
            order.append(seconds)
        async with bateau.scope() as scope:
            for seconds in (500, 100, 400, 200, 300):
                scope.spawn(sleeper, seconds)
            await bateau.time.sleep(0.001)
            set_clock(time.CLOCK_MONOTONIC, 1000)
            set_clock(6, 1000)
            await bateau.time.sleep(0.001)
        assert order == sorted(order) and len(order) == 5, order
    bateau.run(main)

    async def main():
        order = []
        loop = asyncio.get_running_loop()
        for seconds in (500, 100, 400, 200, 300):
            loop.call_later(seconds, order.append, seconds)
        await asyncio.sleep(0.001)
        set_clock(time.CLOCK_MONOTONIC, 1000)
        set_clock(6, 1000)
        await asyncio.sleep(0.001)
        while len(order) < 5: await asyncio.sleep(0)
        assert order == sorted(order), order
    async def limited(): await main()
    with asyncio.Runner(loop_factory=new_event_loop) as runner: runner.run(limited())
    """)


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_child_reaped_by_somebody_else_where_there_are_no_pidfds(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread waits for it then; that its status was taken is no reason to wait for ever."""
    monkeypatch.delattr(os, "pidfd_open")

    async def main() -> None:
        for _ in range(3):
            async with subprocess.open_process(["sh", "-c", "read x"], stdin=subprocess.PIPE) as process:
                assert process.stdin is not None
                waiting = threading.Thread(target=os.waitpid, args=(process.pid, 0))
                waiting.start()
                await process.stdin.write(b"\n")
                with bateau.timeout(20):
                    assert await process.wait() is not None
                await bateau.thread.run(waiting.join)

    runtime.run(main)


def test_pidfds_that_a_sandbox_forbids(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "pidfd_open", refuse)

    async def main() -> None:
        done = await subprocess.run(["sh", "-c", "echo hi; exit 3"], capture_output=True)
        assert (done.stdout, done.returncode) == (b"hi\n", 3)

    runtime.run(main)


@both
def test_a_child_of_the_loop_reaped_by_somebody_else(factory: Any, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's answer to that is 255, or the truth where it was there first; never a hang."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:

        async def main() -> None:
            process = await asyncio.create_subprocess_exec("sh", "-c", "read x", stdin=asyncio.subprocess.PIPE)
            reaping = threading.Thread(target=_reap, args=(process.pid,))
            reaping.start()
            assert process.stdin is not None
            process.stdin.write(b"\n")
            assert await process.wait() in (0, 255)
            process.stdin.close()
            await asyncio.to_thread(reaping.join)

        run(factory, main())
    finally:
        logging.getLogger("asyncio").setLevel(logging.NOTSET)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return  # the loop was quicker


def test_no_descriptors_for_a_child(runtime: Any) -> None:
    """EMFILE says so; no half of a pipe and no child is left."""

    async def main() -> None:
        (await subprocess.run(["true"])).check_returncode()
        before = set(os.listdir("/proc/self/fd"))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        for room in range(6):
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, limits[1]))
            try:
                with pytest.raises(OSError) as caught:
                    await subprocess.run(["true"], capture_output=True)
                assert caught.value.errno == errno.EMFILE
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            del caught
        gc.collect()
        assert set(os.listdir("/proc/self/fd")) <= before

    runtime.run(main)
