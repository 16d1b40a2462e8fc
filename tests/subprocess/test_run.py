"""Real child processes: values and errors as Python's, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess as std
import sys
import time

import pytest

import bateau
from bateau import subprocess, thread


def alive(pid):
    """Whether the process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def gone(*pids):
    """Wait until the processes have ended; their parents may take a moment to reap them."""
    with bateau.timeout(10):
        while any(map(alive, pids)):
            await thread.run(time.sleep, 0.01)


def test_output_and_status(entry):
    async def main():
        result = await subprocess.run(["echo", "hi"], capture_output=True)
        assert isinstance(result, std.CompletedProcess)
        assert (result.args, result.returncode, result.stdout, result.stderr) == (["echo", "hi"], 0, b"hi\n", b"")
        result = await subprocess.run("echo out; echo err >&2; exit 3", shell=True, capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")
        result = await subprocess.run(
            "echo out; echo err >&2", shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert (result.stdout, result.stderr) == (b"out\nerr\n", None)
        assert (await subprocess.run(["true"])).stdout is None
        assert await subprocess.call(["false"]) == 1
        assert await subprocess.check_call(["true"]) == 0
        assert await subprocess.check_output(["printf", "a\\r\\nb"], text=True) == "a\nb"
        assert (await subprocess.run("kill -9 $$", shell=True)).returncode == -9

    entry.run(main)


def test_input_environment_and_directory(entry, tmp_path):
    async def main():
        assert (await subprocess.run(["cat"], input=b"bytes", capture_output=True)).stdout == b"bytes"
        result = await subprocess.run(["cat"], input="text é", encoding="utf-8", stdout=subprocess.PIPE)
        assert result.stdout == "text é"
        result = await subprocess.run(["pwd"], cwd=tmp_path, capture_output=True, text=True)
        assert result.stdout == f"{tmp_path}\n"
        result = await subprocess.run("echo $BOAT", shell=True, env={"BOAT": "bateau"}, capture_output=True, text=True)
        assert result.stdout == "bateau\n"
        with open(tmp_path / "out", "wb") as file:
            await subprocess.run(["echo", "to a file"], stdout=file)
        assert (tmp_path / "out").read_bytes() == b"to a file\n"
        assert (await subprocess.run(["true"], input=b"x" * 1_000_000)).returncode == 0  # it does not read its input

    entry.run(main)


def test_much_data_both_ways(entry):
    data = os.urandom(3_000_000)

    async def main():
        result = await subprocess.run(["cat"], input=data, capture_output=True)
        assert result.stdout == data

    entry.run(main)


def test_errors_are_pythons(entry):
    async def main():
        with pytest.raises(std.CalledProcessError) as info:
            await subprocess.run("echo o; echo e >&2; exit 7", shell=True, check=True, capture_output=True)
        assert (info.value.returncode, info.value.output, info.value.stderr) == (7, b"o\n", b"e\n")
        with pytest.raises(subprocess.CalledProcessError):
            await subprocess.check_output(["false"])
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            await subprocess.run(["no-such-program"])
        with pytest.raises(FileNotFoundError):
            await subprocess.run(["true"], cwd="/no/such/directory")
        for wrong in (
            {"input": b"x", "stdin": subprocess.PIPE},
            {"capture_output": True, "stdout": subprocess.PIPE},
        ):
            with pytest.raises(ValueError, match="may not"):
                await subprocess.run(["true"], **wrong)
        with pytest.raises(TypeError, match="bytes, not str"):
            await subprocess.run(["cat"], input="text")
        with pytest.raises(TypeError, match="str in text mode"):
            await subprocess.run(["cat"], input=b"bytes", text=True)
        with pytest.raises(ValueError, match="timeout"):
            await subprocess.run(["true"], timeout=-1)
        with pytest.raises(TypeError, match="preexec_fn"):
            await subprocess.run(["true"], preexec_fn=print)

    entry.run(main)


def test_timeout(entry):
    async def main():
        started = time.monotonic()
        with pytest.raises(std.TimeoutExpired) as info:
            await subprocess.run("echo partly; sleep 60", shell=True, capture_output=True, timeout=1.0)
        assert 1.0 <= time.monotonic() - started < 20
        assert (info.value.output, info.value.stderr, info.value.timeout) == (b"partly\n", None, 1.0)
        assert (await subprocess.run(["true"], timeout=20)).returncode == 0

    entry.run(main)


def test_timeout_while_a_grandchild_holds_the_pipe(entry):
    async def main():
        with pytest.raises(std.TimeoutExpired) as info:
            await subprocess.run("sleep 60 & echo $!", shell=True, capture_output=True, timeout=1.0)
        await gone(int(info.value.output))

    entry.run(main)


TREE = """
import os, signal, subprocess, sys, time
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if int(sys.argv[2]):
    child = subprocess.Popen([sys.executable, "-c", sys.argv[3], sys.argv[1], str(int(sys.argv[2]) - 1), sys.argv[3]])
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("manner", ["polite", "stubborn"])
@pytest.mark.law(7)
def test_a_cancelled_call_ends_the_whole_tree(entry, manner):
    """Child, grandchild and great-grandchild, whether they heed SIGTERM or not."""

    async def main():
        pids = []
        command = [sys.executable, "-c", TREE, manner, "2", TREE]
        with bateau.CancelScope() as block:
            async with subprocess.open_process(command, stdout=subprocess.PIPE, grace=0.2) as process:
                data = b""
                while data.count(b"\n") < 3:
                    data += await process.stdout.read()
                pids.extend(map(int, data.split()))
                assert all(map(alive, pids))
                block.cancel()
                await process.wait()
        assert block.cancelled_caught
        assert process.returncode == (-signal.SIGTERM if manner == "polite" else -signal.SIGKILL)
        assert not alive(process.pid)
        await gone(*pids)

    entry.run(main)


def test_cancelled_at_every_moment(entry):
    """Starting, exchanging, waiting: wherever it is met, no process, zombie or descriptor stays (the leak check looks)."""

    async def main():
        for i in range(25):
            with bateau.move_on_after(i * 0.002):
                await subprocess.run("echo x; sleep 60", shell=True, capture_output=True)
            with bateau.move_on_after(i * 0.0005):
                await subprocess.run(["true"])

    entry.run(main)


def test_a_failing_sibling_ends_it(entry):
    async def fail():
        await thread.run(time.sleep, 0.1)
        raise LookupError("sibling")

    async def main():
        started = time.monotonic()
        with pytest.raises(ExceptionGroup):
            async with bateau.scope() as s:
                s.spawn(subprocess.run, ["sleep", "60"])
                s.spawn(fail)
        assert time.monotonic() - started < 20

    entry.run(main)


def test_native_cancel_by_asyncio():
    import asyncio

    async def main():
        task = asyncio.create_task(subprocess.run(["sleep", "60"]))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started < 20


def test_many_at_once(entry):
    async def main():
        async with bateau.scope(limit=10) as s:
            tasks = [s.spawn(subprocess.check_output, ["echo", str(i)]) for i in range(40)]
        assert [task.outcome().unwrap() for task in tasks] == [f"{i}\n".encode() for i in range(40)]

    entry.run(main)
