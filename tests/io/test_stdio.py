"""stdin, stdout, stderr and print, in real processes with pipes, files and terminals."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

import bateau
from bateau.io import BufWriter, TextWriter, duplex

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")


def program(text: str, runtime: str = "native", **options) -> subprocess.Popen:
    source = f"import bateau, sys\nfrom bateau import io\n{text}\nbateau.run(main, runtime={runtime!r})\n"
    return subprocess.Popen([sys.executable, "-W", "error", "-c", source], **options)


ECHO = """
async def main():
    async for line in io.stdin():
        await io.stdout().write(line.upper())
    await io.print("done", file=sys.stderr)
"""


def test_pipes(runtime) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with program(ECHO, runtime.name, **pipes) as process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ONE\n"  # it does not wait for the end
        out, err = process.communicate(b"two\nthree", timeout=30)
    assert (out, err, process.returncode) == (b"TWO\nTHREE", b"done\n", 0)


def test_files_and_devices(runtime, tmp_path) -> None:
    data = os.urandom(300_000).replace(b"\n", b"x") + b"\n"
    (tmp_path / "in").write_bytes(data)
    text = """
async def main():
    await io.copy(io.stdin(), io.stdout())
"""
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
        assert program(text, runtime.name, stdin=source, stdout=target).wait(30) == 0
    assert (tmp_path / "out").read_bytes() == data
    with (tmp_path / "in").open("rb") as source:
        assert program(text, runtime.name, stdin=source, stdout=subprocess.DEVNULL).wait(30) == 0
    assert program(text, runtime.name, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).wait(30) == 0


def test_a_terminal() -> None:
    master, slave = pty.openpty()
    try:
        process = program(ECHO, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL)
        os.close(slave)
        slave = -1
        os.write(master, b"hello\n")
        seen = b""
        while b"HELLO" not in seen:
            seen += os.read(master, 1000)
        os.write(master, b"\x04")  # the end of input, as typed
        assert process.wait(30) == 0
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


@pytest.mark.law(9)
def test_a_full_pipe_holds_up_nobody_else_and_tears_nothing(runtime) -> None:
    """The inherited pipe stays blocking, and yet the program goes on while it is full."""
    text = """
async def main():
    async with bateau.scope() as scope:
        printer = scope.spawn(io.print, "x" * 300_000)
        for _ in range(10):
            await bateau.time.sleep(0.005)
        printer.cancel()
    assert printer.outcome().cancelled
    await io.print("now read", file=sys.stderr)
    await io.print("after", flush=True)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with program(text, runtime.name, **pipes) as process:
        assert process.stderr.readline() == b"now read\n"
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert out == b"x" * 300_000 + b"\nafter\n"


def test_prints_of_many_tasks_do_not_mix(runtime) -> None:
    text = """
async def main():
    async def say(word):
        for _ in range(20):
            await io.print(word * 2000)
    async with bateau.scope() as scope:
        for word in "abcd":
            scope.spawn(say, word)
"""
    with program(text, runtime.name, stdout=subprocess.PIPE) as process:
        lines = process.stdout.read().split()
    assert process.returncode == 0
    assert len(lines) == 80
    assert all(line == line[:1] * 2000 for line in lines)


def test_nobody_reads_the_output() -> None:
    text = """
async def main():
    try:
        for _ in range(1000):
            await io.stdout().write(bytes(1000))
    except bateau.Broken as error:
        await io.print(type(error).__name__, error.sent is not None, file=sys.stderr)
"""
    with program(text, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"Broken True\n"


def test_input_read_ahead_is_there_in_the_next_run() -> None:
    source = """
import bateau
from bateau import io
async def main():
    await io.print((await io.stdin().readline()).decode(), end="")
bateau.run(main); bateau.run(main, runtime="asyncio")
"""
    done = subprocess.run(
        [sys.executable, "-c", source], input=b"one\ntwo\n", capture_output=True, timeout=30, check=True
    )
    assert done.stdout == b"one\ntwo\n"


@pytest.mark.law(20)
def test_print_prints_what_print_prints(entry, capsys) -> None:
    """Also where sys.stdout was replaced, as pytest does."""

    async def main() -> None:
        await bateau.io.print()
        await bateau.io.print(1, None, "x", sep="-", end="!")
        await bateau.io.print("a", "b", sep=None, end=None)
        own = io.StringIO()
        await bateau.io.print("to a file", file=own, flush=True)
        assert own.getvalue() == "to a file\n"
        a, b = duplex()
        await bateau.io.print("é", file=a)
        assert await b.read() == "é\n".encode()
        async with TextWriter(BufWriter(a), "latin-1") as writer:
            await bateau.io.print("é", file=writer, flush=True)
            assert await b.read() == b"\xe9\n"
        b.close()

    entry.run(main)
    seen = capsys.readouterr().out
    print()
    print(1, None, "x", sep="-", end="!")
    print("a", "b", sep=None, end=None)
    assert seen == capsys.readouterr().out


def test_closing_leaves_the_descriptor_open() -> None:
    text = """
async def main():
    out = io.stdout()
    await out.aclose()
    io.stdin().close()
    await io.print("still here")
    assert await io.stdin().read() == b"in"
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with program(text, **pipes) as process:
        assert process.communicate(b"in", timeout=30)[0] == b"still here\n"
    assert process.returncode == 0
