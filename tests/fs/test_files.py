"""Files: as Python's, and nothing lost by cancellation."""

from __future__ import annotations

import errno
import gc
import io
import os
import threading
import types

import pytest

import bateau
from bateau import fs, thread
from bateau.io.abc import AsyncRead, AsyncWrite
from bateau.kernel.hazard import add_sink
from support.waiting import until


def test_write_and_read_text(entry, tmp_path):
    path = tmp_path / "text"

    async def main():
        async with fs.open(path, "w", encoding="utf-8", newline="\n") as file:
            assert await file.write("grüße\n") == 6
            await file.writelines(["a\n", "b\n"])
            assert (file.name, file.mode, file.encoding, file.closed) == (str(path), "w", "utf-8", False)
            assert file.writable()
            assert not file.readable()
        assert file.closed
        async with fs.open(path, encoding="utf-8") as file:
            assert await file.readline() == "grüße\n"
            assert await file.readlines() == ["a\n", "b\n"]
            assert await file.read() == ""
        file = await fs.open(str(path), encoding="utf-8")
        assert await file.read(3) == "grü"
        await file.aclose()
        await file.aclose()
        with pytest.raises(bateau.Closed):
            await file.read()
        file.close()

    entry.run(main)
    assert path.read_text("utf-8") == "grüße\na\nb\n"


def test_write_and_read_binary(entry, tmp_path):
    path = tmp_path / "binary"

    async def main():
        async with fs.open(path, "w+b") as file:
            assert await file.write(b"0123456789") == 10
            assert await file.tell() == 10
            assert await file.seek(2) == 2
            assert await file.read(3) == b"234"
            assert (await file.peek(1))[:1] == b"5"
            buffer = bytearray(4)
            assert await file.readinto(buffer) == 4
            assert buffer == b"5678"
            assert await file.read1(10) == b"9"
            assert await file.pread(2, 4) == b"45"
            assert await file.pwrite(b"XY", 0) == 2
            assert await file.truncate(8) == 8
            await file.flush()
            await file.fsync()
            assert await file.seek(-2, os.SEEK_END) == 6
            assert await file.read() == b"67"
            assert isinstance(file, AsyncRead)
            assert isinstance(file, AsyncWrite)
            assert file.get_extra_info("fd") == file.fileno()
            assert not file.isatty()
        with pytest.raises(FileNotFoundError):
            await fs.open(tmp_path / "missing")
        with pytest.raises(ValueError, match="mode"):
            await fs.open(path, "q")
        with pytest.raises(TypeError):
            async with fs.open(path, "wb") as file:
                await file.write("text")

    entry.run(main)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("mode", ["rb", "r"])
def test_iteration(entry, tmp_path, mode):
    path = tmp_path / "lines"
    lines = [f"line {i} {'x' * (i % 50)} é\n" for i in range(5000)]
    path.write_text("".join(lines), "utf-8")
    expected = [line.encode() if mode == "rb" else line for line in lines]

    async def main():
        options = {} if mode == "rb" else {"encoding": "utf-8"}
        async with fs.open(path, mode, **options) as file:
            assert [line async for line in file] == expected
        # In the middle of an iteration the file stands where the loop does.
        async with fs.open(path, mode, **options) as file:
            seen = 0
            async for line in file:
                assert line == expected[seen]
                seen += 1
                if seen == 2500:
                    break
            position = await file.tell()
            assert await file.readline() == expected[2500]
            async for line in file:
                assert line == expected[2501]
                break
            assert await file.read() == (b"" if mode == "rb" else "").join(expected[2502:])
            await file.seek(position)
            assert await file.readline() == expected[2500]

    entry.run(main)


def test_iterating_a_pipe_gives_each_line_as_it_comes(entry):
    async def main():
        reading, writing = os.pipe()
        async with fs.open(reading, "rb") as file:
            try:
                os.write(writing, b"first\n")
                assert await anext(file) == b"first\n"
                os.write(writing, b"second\nlast")
                assert await anext(file) == b"second\n"
            finally:
                os.close(writing)
            assert [line async for line in file] == [b"last"]

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_read_loses_nothing(entry):
    """The thread is inside the read when the cancellation comes: the data is returned, and the position is behind it."""

    async def main():
        reading, writing = os.pipe()
        got = None

        async def write_when_cancelled(block):
            await until(lambda: block.cancel_called)
            os.write(writing, b"precious")

        async with fs.open(reading, "rb", buffering=0) as file, bateau.scope() as scope:
            with bateau.move_on_after(0.02) as block:
                scope.spawn(write_when_cancelled, block)
                got = await file.read(100)
                await bateau.checkpoint()
            assert block.cancelled_caught
            assert got == b"precious"
            os.close(writing)
            assert await file.read(100) == b""

    entry.run(main)


@pytest.mark.law(9)
def test_cancelled_everywhere_reads_each_byte_once(entry, tmp_path):
    path = tmp_path / "data"
    data = os.urandom(50_000)
    path.write_bytes(data)

    async def main():
        parts = []
        async with fs.open(path, "rb", buffering=0) as file:
            wait = 0.0
            while True:
                part = None
                with bateau.move_on_after(wait):
                    part = await file.read(997)
                wait = (wait + 0.00003) % 0.0006
                if part is not None:
                    parts.append(part)
                    if not part:
                        break
        assert b"".join(parts) == data

    entry.run(main)


def test_a_cancelled_scope_opens_and_reads_nothing(entry, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main():
        async with fs.open(path, "rb") as file:
            with bateau.move_on_after(None) as block:
                block.cancel()
                await file.read()
            assert block.cancelled_caught
            assert await file.tell() == 0
            with bateau.move_on_after(None) as block:
                block.cancel()
                await fs.open(path)  # bateau: ignore[dropped_without_close]
            assert block.cancelled_caught

    entry.run(main)


def test_closed_in_a_cancelled_scope(entry, tmp_path):
    path = tmp_path / "file"

    async def main():
        with bateau.move_on_after(None) as block:
            async with fs.open(path, "wb") as file:
                await file.write(b"buffered")
                block.cancel()
                await bateau.checkpoint()
        assert block.cancelled_caught
        assert file.closed
        assert path.read_bytes() == b"buffered"

    entry.run(main)


@pytest.mark.law(15)
def test_two_tasks_at_once_is_a_named_error(entry):
    async def main():
        reading, writing = os.pipe()
        async with fs.open(reading, "rb", buffering=0) as file, bateau.scope() as s:
            s.spawn(file.read, 1, name="reader")
            await bateau.yield_now()
            await bateau.yield_now()
            with pytest.raises(bateau.Busy, match=r"read by task 'reader'.*Lock"):
                await file.read(1)
            with pytest.raises(bateau.Busy):
                file.close()
            os.write(writing, b"x")
        os.close(writing)

    entry.run(main)


@pytest.fixture
def disk(monkeypatch):
    """Positional calls all go to threads, and wait there for ``open`` to be set. How many are there."""
    state = types.SimpleNamespace(inside=0, most=0, open=threading.Event())

    def refuse(*args):
        raise BlockingIOError(errno.EAGAIN, "not now")

    def held(real):
        def call(*args):
            state.inside += 1
            state.most = max(state.most, state.inside)
            try:
                assert state.open.wait(60)
                return real(*args)
            finally:
                state.inside -= 1

        return call

    monkeypatch.setattr(os, "preadv", refuse)
    for name in ("pread", "pwrite", "fsync"):
        monkeypatch.setattr(os, name, held(getattr(os, name)))
    return state


def test_positional_calls_run_side_by_side(entry, tmp_path, disk):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))

    async def main():
        got = {}

        async def read(file, at):
            got[at] = await file.pread(2, at)

        async with fs.open(path, "rb") as file, bateau.scope() as scope:
            for at in range(8):
                scope.spawn(read, file, at)
            await until(lambda: disk.inside == 8)
            await file.seek(50)  # other operations go on beside them
            assert await file.read(3) == bytes([50, 51, 52])
            disk.open.set()
        assert got == {at: bytes([at, at + 1]) for at in range(8)}
        disk.open.clear()
        async with fs.open(path, "r+b", buffering=0) as file, bateau.scope() as scope:
            for at in range(4):
                scope.spawn(file.pwrite, b"new", 10 * at)
                scope.spawn(read, file, 90 + at)
            await until(lambda: disk.inside == 8)
            disk.open.set()
        assert path.read_bytes()[:12] == b"new" + bytes(range(3, 10)) + b"ne"

    entry.run(main)


def test_positional_calls_past_a_buffer_take_turns(entry, tmp_path, disk):
    """What is to be read may stand in the buffer, which is written first."""

    async def main():
        async with fs.open(tmp_path / "file", "w+b") as file, bateau.scope() as scope:
            await file.write(b"buffered")
            reading = scope.spawn(file.pread, 3, 1, name="reader")
            await until(lambda: disk.inside == 1)
            with pytest.raises(bateau.Busy, match=r"pread by task 'reader'"):
                await file.pread(1, 1)
            disk.open.set()
            assert await reading == b"uff"

    entry.run(main)


@pytest.mark.law(15)
def test_a_file_is_not_closed_under_those_who_read_it(entry, tmp_path, disk):
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main():
        async with fs.open(path, "rb") as file:
            async with bateau.scope() as scope:
                reading = [scope.spawn(file.pread, 3, at, name=f"reader {at}") for at in range(3)]
                await until(lambda: disk.inside == 3)
                with pytest.raises(
                    bateau.Busy, match=r"pread by task 'reader \d'.*close can't run beside it.*scope inside"
                ):
                    file.close()
                with pytest.raises(bateau.Busy):
                    await file.aclose()
                assert not file.closed
                with bateau.move_on_after(1000) as block:
                    block.cancel("on purpose")
                    with pytest.raises(bateau.Busy):
                        await file.aclose()
                disk.open.set()
                assert [await each for each in reading] == [b"con", b"ont", b"nte"]
            await file.aclose()
            with pytest.raises(bateau.Closed):
                await file.pread(1, 0)

    entry.run(main)


def test_a_positional_read_that_a_thread_has_begun_counts(entry, tmp_path, disk):
    """Cancelled meanwhile it is awaited, and its value returned; only then may the file be closed."""
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main():
        got = []
        async with fs.open(path, "rb") as file:

            async def free(block):
                await until(lambda: disk.inside == 1)
                block.cancel("on purpose")
                disk.open.set()

            async with bateau.scope() as scope:
                with bateau.move_on_after(1000) as block:
                    scope.spawn(free, block)
                    got.append(await file.pread(3, 2))
                    await bateau.checkpoint()
                assert block.cancelled_caught
            assert got == [b"nte"]
        assert file.closed

    entry.run(main)


def test_dropped_while_open_is_a_hazard(entry, tmp_path):
    findings = []

    async def main():
        file = await fs.open(tmp_path / "file", "w")  # bateau: ignore[dropped_without_close]
        await file.write("kept")
        del file
        gc.collect()

    remove = add_sink(findings.append)
    try:
        entry.run(main)
    finally:
        remove()
    assert [finding.name for finding in findings] == ["dropped_without_close"]
    assert findings[0].filename == __file__
    assert (tmp_path / "file").read_text() == "kept"


def test_wrap_file(entry):
    async def main():
        async with fs.wrap_file(io.BytesIO(b"a\nb\n")) as file:
            assert [line async for line in file] == [b"a\n", b"b\n"]
        async with fs.wrap_file(io.StringIO("text")) as file:
            assert await file.read() == "text"
        with pytest.raises(TypeError, match=r"fs\.open"):
            fs.wrap_file("path")

    entry.run(main)


def test_many_files_at_once(entry, tmp_path):
    async def write(i):
        async with fs.open(tmp_path / str(i), "w") as file:
            await file.write(str(i) * 1000)

    async def main():
        async with bateau.scope() as s:
            for i in range(60):
                s.spawn(write, i)
        assert thread.workers().running == 0

    entry.run(main)
    assert all((tmp_path / str(i)).read_text() == str(i) * 1000 for i in range(60))


def test_stands_where_a_stream_is_expected(entry, tmp_path):
    data = os.urandom(300_000)
    (tmp_path / "from").write_bytes(data)

    async def main():
        async with fs.open(tmp_path / "from", "rb") as source, fs.open(tmp_path / "to", "wb") as target:
            await bateau.io.copy(source, target)
        assert (tmp_path / "to").read_bytes() == data
        async with fs.open(tmp_path / "from", "rb") as source:
            reader = bateau.io.BufReader(source)
            assert await reader.readexactly(1000) == data[:1000]

    entry.run(main)
