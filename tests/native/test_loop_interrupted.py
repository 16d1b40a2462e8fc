"""What reaches the native loop from outside: threads, signals, forks; most of it beside asyncio's own loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from typing import Any

import pytest

from bateau.interop.asyncio import new_event_loop
from support.loops import both, needs_native, once, pair, run


@both
def test_threads_that_wake_the_loop(factory: Any) -> None:
    """No wake-up is lost, and none of the calls."""
    threads, calls = 8, 500

    async def main() -> None:
        loop = asyncio.get_running_loop()
        total = 0
        done = asyncio.Event()

        def count() -> None:
            nonlocal total
            total += 1
            if total == threads * calls:
                done.set()

        def storm() -> None:
            for i in range(calls):
                loop.call_soon_threadsafe(count)
                if not i % 50:
                    time.sleep(0.0005)  # let the loop fall asleep

        started = [threading.Thread(target=storm) for _ in range(threads)]
        for thread in started:
            thread.start()
        await done.wait()
        for thread in started:
            thread.join()
        for _ in range(200):  # one at a time: each must end a poll
            assert await asyncio.to_thread(int, "5") == 5

    run(factory, main())


@both
def test_signals_and_a_storm_of_them(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        got = 0
        enough = asyncio.Event()

        def count() -> None:
            nonlocal got
            got += 1
            enough.set()

        loop.add_signal_handler(signal.SIGUSR1, count)
        for _ in range(100):
            enough.clear()
            os.kill(os.getpid(), signal.SIGUSR1)
            await enough.wait()
        for _ in range(100):  # no more than the self-pipe of asyncio takes
            os.kill(os.getpid(), signal.SIGUSR1)
        while got == 100:
            await asyncio.sleep(0)
        assert loop.remove_signal_handler(signal.SIGUSR1)

    run(factory, main())


@both
def test_a_python_signal_handler_runs_while_the_loop_waits(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        got = asyncio.Event()
        old = signal.signal(signal.SIGALRM, lambda *_: loop.call_soon_threadsafe(got.set))
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        try:
            await got.wait()
        finally:
            signal.signal(signal.SIGALRM, old)

    run(factory, main())


@both
def test_ctrl_c_cancels_the_main_task(factory: Any) -> None:
    ended = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.001, os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert ended


@needs_native
@pytest.mark.no_leak_check("the child ends without ceremony")
def test_a_forked_child_leaves_the_parents_registrations_alone() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol, there = await pair()
        child = os.fork()
        if not child:
            status = 1
            try:
                protocol.transport._stop_reading()
                loop.remove_reader(loop._ssock)
                loop.call_soon_threadsafe(print)
                status = 0
            finally:
                os._exit(status)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        there.send(b"still heard")
        await protocol.until(lambda: protocol.data == b"still heard")
        protocol.transport.abort()
        await protocol.lost
        there.close()

    run(new_event_loop, main())


@needs_native
@pytest.mark.no_leak_check("the child ends without ceremony")
def test_a_forked_child_can_run_the_loop() -> None:
    """What was registered is registered in the child, in an epoll set of its own."""
    loop = new_event_loop()
    here, there = socket.socketpair()
    seen: list[int] = []
    loop.add_reader(here, seen.append, 1)
    child = os.fork()
    if not child:
        status = 1
        try:
            there.send(b"x")
            once(loop)
            threading.Timer(0.001, loop.call_soon_threadsafe, [loop.stop]).start()
            loop.remove_reader(here)
            loop.run_forever()
            status = 0 if seen == [1] else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    once(loop)  # the byte is there for us, too: nobody has read it
    assert seen == [1]
    loop.close()
    here.close()
    there.close()
