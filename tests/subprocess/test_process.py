"""`open_process`: streams, signals, waiting, and its end."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

import pytest

import bateau
from bateau import subprocess, thread
from bateau.io.abc import AsyncRead, AsyncWrite
from bateau.kernel.errors import WouldBlock
from bateau.kernel.hazard import add_sink
from bateau.subprocess import PIPE
from support.waiting import until


def test_a_conversation(entry):
    async def main():
        async with subprocess.open_process(["cat"], stdin=PIPE, stdout=PIPE) as process:
            assert isinstance(process.stdin, AsyncWrite)
            assert isinstance(process.stdout, AsyncRead)
            assert process.stderr is None
            for i in range(20):
                await process.stdin.write(b"line %d\n" % i)
                assert await process.stdout.read() == b"line %d\n" % i
            buffer = bytearray(3)
            await process.stdin.write(b"abc")
            assert await process.stdout.readinto(buffer) == 3
            assert buffer == b"abc"
            with pytest.raises(WouldBlock):
                process.stdout.try_read()
            assert process.stdin.try_write(b"now") == 3
            await process.stdout.ready()
            assert process.stdout.try_read() == b"now"
            assert process.poll() is None
            await process.stdin.write_eof()
            assert await process.stdout.read() == b""
            assert await process.wait() == 0
            assert await process.wait() == 0
            assert process.poll() == 0
        assert process.stdout.closed
        with pytest.raises(bateau.Closed):
            await process.stdout.read()

    entry.run(main)


def test_communicate(entry):
    async def main():
        async with subprocess.open_process(
            "cat; echo e >&2", shell=True, stdin=PIPE, stdout=PIPE, stderr=PIPE
        ) as process:
            assert await process.communicate(b"in") == (b"in", b"e\n")
        process = await subprocess.open_process(["echo", "x"], stdout=PIPE)
        assert await process.communicate() == (b"x\n", None)
        await process.aclose()
        await process.aclose()
        async with subprocess.open_process(["true"]) as process:
            with pytest.raises(ValueError, match="pipe to the child's stdin"):
                await process.communicate(b"in")

    entry.run(main)


@pytest.mark.law(9)
def test_cancelled_reads_lose_no_byte(entry):
    program = (
        "import sys, time\nfor i in range(300): sys.stdout.write(f'{i:04}'); sys.stdout.flush(); time.sleep(0.0003)"
    )

    async def main():
        data, wait = b"", 0.0
        async with subprocess.open_process([sys.executable, "-c", program], stdout=PIPE) as process:
            while True:
                part = None
                with bateau.move_on_after(wait):
                    part = await process.stdout.read(3)
                wait = (wait + 0.0001) % 0.001
                if part == b"":
                    break
                data += part or b""
        assert data == b"".join(b"%04d" % i for i in range(300))

    entry.run(main)


@pytest.mark.law(9)
def test_a_torn_write_breaks_the_pipe(entry):
    async def main():
        async with subprocess.open_process(["sleep", "60"], stdin=PIPE) as process:
            with bateau.move_on_after(0.05) as block:
                await process.stdin.write(b"x" * 1_000_000)
            assert block.cancelled_caught
            with pytest.raises(bateau.Broken) as info:
                await process.stdin.write(b"more")
            assert 0 < info.value.sent < 1_000_000
            process.kill()

    entry.run(main)


def test_a_child_that_does_not_read(entry):
    async def main():
        async with subprocess.open_process(["true"], stdin=PIPE) as process:
            await process.wait()
            with pytest.raises(bateau.Broken, match="nobody reads it"):
                await process.stdin.write(b"x")

    entry.run(main)


@pytest.mark.law(15)
def test_two_readers_are_a_named_error(entry):
    async def main():
        async with subprocess.open_process(["cat"], stdin=PIPE, stdout=PIPE) as process, bateau.scope() as s:
            reader = s.spawn(process.stdout.read, name="reader")
            await until(lambda: reader.waiting)
            with pytest.raises(bateau.Busy, match="reader"):
                await process.stdout.read()
            process.stdin.close()

    entry.run(main)


def test_closing_wakes_a_reader(entry):
    async def main():
        async with subprocess.open_process(["cat"], stdin=PIPE, stdout=PIPE) as process:

            async def read():
                with pytest.raises(bateau.Closed):
                    await process.stdout.read()

            async with bateau.scope() as s:
                reader = s.spawn(read)
                await until(lambda: reader.waiting)
                process.stdout.close()

    entry.run(main)


def test_signals(entry):
    async def main():
        async with subprocess.open_process(["sleep", "60"]) as process:
            process.terminate()
            assert await process.wait() == -signal.SIGTERM
            process.kill()  # harmless afterwards
        async with subprocess.open_process(["sleep", "60"]) as process:
            process.kill()
            assert await process.wait() == -signal.SIGKILL
        async with subprocess.open_process(["sleep", "60"]) as process:
            process.send_signal(signal.SIGUSR1)
            assert await process.wait() == -signal.SIGUSR1

    entry.run(main)


def test_several_wait(entry):
    async def main():
        async with subprocess.open_process(["sleep", "60"]) as process, bateau.scope() as s:
            tasks = [s.spawn(process.wait) for _ in range(5)]
            with bateau.move_on_after(0.01) as block:
                await process.wait()
            assert block.cancelled_caught
            process.kill()
        assert [task.outcome().unwrap() for task in tasks] == [-signal.SIGKILL] * 5

    entry.run(main)


def test_its_group(entry):
    async def main():
        async with subprocess.open_process(["sleep", "60"], stdin=subprocess.DEVNULL) as process:
            assert os.getpgid(process.pid) == process.pid
            process.kill()
        async with subprocess.open_process(["sleep", "60"], start_new_session=True) as process:
            assert os.getsid(process.pid) == process.pid
            process.kill()
        async with subprocess.open_process(["sleep", "60"], process_group=os.getpgrp()) as process:
            assert os.getpgid(process.pid) == os.getpgrp()
            await process.aclose()
            assert process.returncode == -signal.SIGTERM

    entry.run(main)


def test_leaving_waits_and_an_error_ends_it(entry):
    async def main():
        async with subprocess.open_process(["sleep", "0.1"]) as process:
            pass
        assert process.returncode == 0
        with pytest.raises(LookupError):
            async with subprocess.open_process(["sleep", "60"]) as process:
                raise LookupError
        assert process.returncode == -signal.SIGTERM

    entry.run(main)


def test_close_never_suspends(entry):
    async def main():
        process = await subprocess.open_process(["sleep", "60"], stdout=PIPE)
        process.close()
        process.close()
        assert await process.wait() == -signal.SIGKILL

    entry.run(main)


def test_closed_as_the_last_thing(entry):
    """The loop ends before the child is dead; it is reaped nevertheless (the leak check looks)."""

    async def main():
        process = await subprocess.open_process(["sleep", "60"], stdout=PIPE)
        process.close()

    entry.run(main)


def test_dropped_while_running_is_a_hazard(entry):
    findings = []

    async def main():
        process = await subprocess.open_process(["true"])
        await process.wait()
        del process  # ended: nothing to report
        gc.collect()
        assert findings == []
        process = await subprocess.open_process(["sleep", "0.2"])
        pid = process.pid
        del process
        gc.collect()
        assert [finding.name for finding in findings] == ["dropped_without_close"]
        assert findings[0].filename == __file__
        with bateau.timeout(20):
            while os.path.exists(f"/proc/{pid}"):  # it runs on, and is reaped all the same
                await thread.run(time.sleep, 0.02)
        process = await subprocess.open_process(["sleep", "60"])
        pid = process.pid
        process.close()
        del process  # killed, and kept until it is dead
        gc.collect()
        assert len(findings) == 1
        with bateau.timeout(20):
            while os.path.exists(f"/proc/{pid}"):
                await thread.run(time.sleep, 0.02)

    remove = add_sink(findings.append)
    try:
        entry.run(main)
    finally:
        remove()


def test_without_pidfds(entry, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")

    async def main():
        result = await subprocess.run(["echo", "hi"], capture_output=True)
        assert result.stdout == b"hi\n"
        with pytest.raises(subprocess.TimeoutExpired):
            await subprocess.run(["sleep", "60"], timeout=0.1)

    entry.run(main)


def test_after_somebody_else_reaped_it(entry):
    """A library that calls `waitpid(-1)` takes the status away; nothing hangs, and Popen's answer stands."""

    async def main():
        async with subprocess.open_process(["sleep", "0.1"]) as process:
            os.waitpid(process.pid, 0)
            assert await process.wait() == 0

    entry.run(main)
