"""Ctrl-C in a real process: the first asks to stop, the second cancels, the third raises on the spot. On every runtime."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack

import pytest

from support.processes import complaints, interrupt

PROLOGUE = """
import sys, time
import bateau
from bateau import thread

def say(text):
    print(text, flush=True)
"""

GRACEFUL = """
async def main():
    async with bateau.scope() as s:
        say("ready")
        while not bateau.stopping():
            with bateau.move_on_after(0.02):
                await thread.CallbackFuture()
        say("stopped")
    return 0
"""

STUBBORN = """
async def main():
    try:
        say("ready")
        future = thread.CallbackFuture()
        while True:
            with bateau.move_on_after(0.02):
                await future
            if bateau.stopping():
                say("asked")
                await future
    finally:
        say("cleanup")
"""

DEAF = """
import os, signal

async def main():
    own = signal.getsignal(signal.SIGINT)

    def tell(signum, frame):
        os.write(1, b"heard\\n")   # a print may be what was interrupted
        own(signum, frame)

    signal.signal(signal.SIGINT, tell)
    say("ready")
    try:
        while True:
            for _ in range(100):
                time.sleep(0.01)   # holds the thread: nothing asynchronous can reach it
            say("still here")
    finally:
        say("left")
"""


@pytest.fixture
def start():
    """Start a program in a process of its own; it is gone when the test ends, however that ends."""
    with ExitStack() as stack:

        def start(program, runtime, last="sys.exit(bateau.run(main, runtime={!r}))"):
            text = PROLOGUE + textwrap.dedent(program) + "\n" + textwrap.dedent(last).format(runtime.name) + "\n"
            process = subprocess.Popen(
                [sys.executable, "-X", "dev", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def expect(process, line):
    assert process.stdout.readline() == line + "\n"


def finish(process):
    out, err = process.communicate(timeout=30)
    return process.returncode, out, complaints(err)


@pytest.mark.law(6)
def test_the_first_asks_to_stop(runtime, start):
    process = start(GRACEFUL, runtime)
    expect(process, "ready")
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out, err) == (0, "stopped\n", "")


@pytest.mark.law(6)
def test_the_second_cancels(runtime, start):
    process = start(STUBBORN, runtime)
    expect(process, "ready")
    process.send_signal(signal.SIGINT)
    expect(process, "asked")
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code in (-signal.SIGINT, 130)
    assert out == "cleanup\n"
    assert "KeyboardInterrupt" in err


@pytest.mark.law(6)
def test_the_third_raises_on_the_spot(runtime, start):
    process = start(DEAF, runtime)
    expect(process, "ready")
    for _ in range(2):
        interrupt(process)
        while process.stdout.readline() != "heard\n":  # the next one, sent before, might count as the same
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code in (-signal.SIGINT, 130)
    assert out.endswith("left\n")
    assert "KeyboardInterrupt" in err


IDLE = """
async def main():
    async def guard():
        with bateau.signal.open(bateau.signal.SIGUSR1) as stream:
            async for _ in stream:
                pass
        say("stopped")
    async with bateau.scope() as s:
        s.spawn(guard)
        for _ in range(3):
            await bateau.yield_now()
        say("ready")
"""


@pytest.mark.law(10)
def test_an_idle_program_is_woken(runtime, start):
    """The loop is asleep in its poll, with no timer: the signal alone has to bring it round."""
    process = start(IDLE, runtime)
    expect(process, "ready")
    process.send_signal(signal.SIGINT)
    assert finish(process) == (0, "stopped\n", "")


SCRIPT = """
async def wait():
    try:
        say("ready")
        future = thread.CallbackFuture()
        while not bateau.stopping():
            with bateau.move_on_after(0.02):
                await future
        say("asked")
        await future
    finally:
        say("cleanup")

async def answer():
    await bateau.yield_now()
    return 42

RUNTIME = {!r}
bateau.block_on(answer, runtime=RUNTIME)
try:
    bateau.block_on(wait, runtime=RUNTIME)
except KeyboardInterrupt:
    say("interrupted")
say(bateau.block_on(answer, runtime=RUNTIME))
"""


@pytest.mark.law(6)
def test_a_script_goes_on_with_its_loop(runtime, start):
    """S02: `block_on` is interrupted in order, and the next call finds the same loop in working order."""
    process = start("", runtime, SCRIPT)
    expect(process, "ready")
    interrupt(process)
    expect(process, "asked")  # sent before that, the second might count as the first
    interrupt(process)
    assert finish(process) == (0, "cleanup\ninterrupted\n42\n", "")
