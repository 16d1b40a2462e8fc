"""The native runtime's own: its wake-up against its end, and signal handlers that raise anywhere in its loop."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap

import pytest

import bateau
from bateau.io.fd import FdWatch
from bateau.kernel.operation import ABORTED, PARKED
from bateau.runtimes.native import Reactor
from support.processes import complaints


def test_a_wake_in_the_middle_of_the_close_writes_to_nobody_else(monkeypatch):
    """`wake` on one thread, `close` on another, between its look at the descriptor and its write: the number must not be a
    stranger's by then.
    """
    reactor = Reactor()
    strangers = []
    write = os.eventfd_write

    def late_write(fd, value):
        reactor.close()
        strangers.extend(os.eventfd(0, os.EFD_NONBLOCK) for _ in range(4))
        write(fd, value)

    monkeypatch.setattr(os, "eventfd_write", late_write)
    reactor.wake()
    monkeypatch.undo()
    assert len(strangers) == 4
    for fd in strangers:
        with pytest.raises(BlockingIOError):  # it has not been written to
            os.eventfd_read(fd)
        os.close(fd)
    reactor.wake()  # after the close: nobody


# The ready queue rings once: Ctrl-C arrives right after a task was taken out of it, or right before one is put in.
INTERRUPTED = """
    import os, sys
    from collections import deque
    import bateau
    from bateau.io.fd import FdWatch

    if sys.argv[1] == "asyncio":
        import asyncio

    class Ringing(deque):
        when, left = None, 0

        def ring(self, when):
            if self.when == when:
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt

        def popleft(self):
            task = super().popleft()
            self.ring("taken")
            return task

        def append(self, task):
            self.ring("put")
            super().append(task)

    ours, theirs = os.pipe()
    for when in ("taken", "put"):
        for left in (1, 2, 3, 6, 7, 20):
            ended = []

            async def spin(number):
                try:
                    while True:
                        await bateau.yield_now()
                finally:
                    async with bateau.cleanup(20):
                        await bateau.yield_now()  # fails outside the program, where the interpreter closes what is lost
                        ended.append(number)

            async def main():
                host = bateau.current_task().host
                assert not host.ready
                queue = host.ready = Ringing()
                async with bateau.scope() as scope:
                    scope.spawn(FdWatch(ours, label="pipe").readable)  # so that no deadlock is proven: a lost task would hang
                    for number in range(5):
                        scope.spawn(spin, number)
                    queue.when, queue.left = when, left

            try:
                bateau.run(main, runtime="native")
            except KeyboardInterrupt:
                pass
            else:
                sys.exit("it has not rung")
            assert sorted(ended) == list(range(5)), (when, left, ended)
"""


@pytest.mark.parametrize("beside", ["alone", "asyncio"])
def test_a_handler_that_raises_between_two_steps_loses_no_task(beside):
    """A handler of the user's can hit the loop between taking a task from the queue and its step, or between the step and what
    follows. Every task still runs to its end, inside the program.
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(INTERRUPTED), beside],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not complaints(done.stderr)


def test_hazards_under_error_warnings_go_to_the_interpreters_own_hook():
    """`python -W error`: the report of a hazard is printed with its message, and the kernel goes on."""
    code = """
        import bateau

        async def main():
            with bateau.move_on_after(None) as scope:
                scope.cancel()
                try:
                    await bateau.checkpoint()
                except bateau.Cancelled:
                    pass
                try:
                    await bateau.checkpoint()
                finally:
                    print("went on")

        bateau.run(main)
        print("ended")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["went", "on", "ended"], done.stderr
    assert "swallowed_cancellation" in done.stderr
    assert "UnraisableHookArgs" not in done.stderr


def test_a_signal_handler_that_raises_right_after_a_step_arrives_in_the_task():
    """The coroutine is suspended, not ended: the exception is thrown into it, it is not thrown away with it."""
    seen = []

    async def victim():
        try:
            await bateau.time.sleep_forever()
        except KeyboardInterrupt:
            seen.append("inside")
            raise

    async def main():
        host = bateau.current_task().host
        async with bateau.scope() as scope:
            task = scope.spawn(victim)
            await bateau.yield_now()
            host._raised(task, KeyboardInterrupt())  # what the turn does with an exception that comes out of a step

    with pytest.raises(KeyboardInterrupt):
        bateau.run(main, runtime="native")
    assert seen == ["inside"]


def test_who_is_awaited_leaves_out_the_own_descriptor_also_when_it_was_the_last_answer():
    """`is_awaited(own)` remembers what it found; a program that only waits for `own` must still be told that nobody else will wake it."""
    reactor = Reactor()
    with socket.socket() as sock:
        watch = FdWatch(sock.fileno())
        wait = watch.readable()
        wait.state = PARKED
        watch.reading.waiters.append(wait)
        reactor.watch(reactor._readers, sock.fileno(), watch.reading.ready)
        try:
            assert reactor.is_awaited(-1)
            assert not reactor.is_awaited(sock.fileno())
            assert reactor.is_awaited(-1)
        finally:
            wait.state = ABORTED
            reactor.close()
