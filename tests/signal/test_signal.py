"""Real signals, sent by the process to itself or by the test to a child process."""

from __future__ import annotations

import os
import signal as std
import threading
import time

import pytest

import bateau
from bateau import signal, thread
from bateau.kernel.errors import Closed


def send_soon(signum, delay=0.05):
    def send():
        time.sleep(delay)
        os.kill(os.getpid(), signum)

    plain = threading.Thread(target=send)
    plain.start()
    return plain


def test_iteration(entry):
    before = std.getsignal(std.SIGUSR1)
    sent = [std.SIGUSR1, std.SIGUSR2, std.SIGUSR1]

    async def main():
        got = []
        with signal.open(std.SIGUSR1, std.SIGUSR2) as stream, bateau.fail_after(20):
            plain = send_soon(sent[0])
            async for signum in stream:
                plain.join()
                got.append(signum)
                if len(got) == 3:
                    break
                plain = send_soon(sent[len(got)])  # not before: two that are pending at once may be one
        assert got == sent
        assert isinstance(got[0], std.Signals)

    entry.run(main)
    assert std.getsignal(std.SIGUSR1) is before


def test_pending_and_coalesced(entry):
    async def main():
        async with signal.open(signal.SIGUSR1, signal.SIGUSR2) as stream:
            for signum in (std.SIGUSR2, std.SIGUSR1, std.SIGUSR2):
                std.raise_signal(signum)
            await thread.run(time.sleep, 0.02)
            assert await stream.wait() == std.SIGUSR2
            assert await stream.wait() == std.SIGUSR1
            with bateau.move_on_after(0.02) as block:
                await stream.wait()
            assert block.cancelled_caught

    entry.run(main)


def test_a_blocking_main_thread_is_interrupted(entry):
    """No task runs and no timer is set: the signal itself ends the poll."""

    async def main():
        with signal.open(std.SIGUSR1) as stream:
            plain = send_soon(std.SIGUSR1, delay=0.2)
            started = time.monotonic()
            await stream.wait()
            assert time.monotonic() - started < 5
            plain.join()

    entry.run(main)


@pytest.mark.law(6)
def test_the_loop_ends_on_stop(entry):
    async def main():
        async def handle():
            with signal.open(std.SIGUSR1) as stream:
                return [signum async for signum in stream]

        async with bateau.scope() as s:
            task = s.spawn(handle)
            await thread.run(time.sleep, 0.02)
            s.stop()
        assert task.outcome().unwrap() == []

    entry.run(main)


@pytest.mark.law(5)
def test_a_cancelled_wait_leaves_the_signal(entry):
    async def main():
        with signal.open(std.SIGUSR1) as stream:
            with bateau.move_on_after(0.01):
                await stream.wait()
            std.raise_signal(std.SIGUSR1)
            assert await stream.wait() == std.SIGUSR1

    entry.run(main)


def test_nobody_took_it_so_the_old_handler_gets_it(entry):
    got = []
    before = std.signal(std.SIGUSR1, lambda *_: got.append(1))
    try:

        async def main():
            with signal.open(std.SIGUSR1):
                std.raise_signal(std.SIGUSR1)
                await thread.run(time.sleep, 0.02)
                assert got == []
            assert got == [1]

        entry.run(main)
    finally:
        std.signal(std.SIGUSR1, before)


def test_nested_the_innermost_gets_it(entry):
    async def main():
        with signal.open(std.SIGUSR1) as outer:
            with signal.open(std.SIGUSR1) as inner:
                std.raise_signal(std.SIGUSR1)
                assert await inner.wait() == std.SIGUSR1
            std.raise_signal(std.SIGUSR1)
            assert await outer.wait() == std.SIGUSR1
            with pytest.raises(Closed):
                await inner.wait()

    entry.run(main)


def test_misuse(entry):
    async def main():
        with pytest.raises(ValueError, match="at least one"):
            signal.open()
        with pytest.raises(ValueError, match="9999"):
            signal.open(9999)
        before = std.getsignal(std.SIGUSR1)
        with pytest.raises(ValueError, match="SIGKILL can't be caught"):
            signal.open(std.SIGUSR1, std.SIGKILL).__enter__()
        assert std.getsignal(std.SIGUSR1) is before

    entry.run(main)
    with pytest.raises(bateau.NotInRuntime):
        signal.open(std.SIGUSR1).__enter__()


def test_outside_the_main_thread_is_a_clear_error(runtime):
    errors = []

    async def main():
        try:
            with signal.open(std.SIGUSR1):
                pass
        except ValueError as error:
            errors.append(str(error))

    plain = threading.Thread(target=runtime.run, args=[main])
    plain.start()
    plain.join()
    assert "main thread only" in errors[0]


def test_names_of_pythons_module():
    assert signal.SIGHUP is std.SIGHUP
    assert signal.Signals is std.Signals
    with pytest.raises(AttributeError, match=r"bateau\.signal"):
        _ = signal.SIGNOTHING
