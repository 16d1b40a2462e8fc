"""Reads that need not wait are made on the spot; whatever can't be had at once is read by a thread, and nobody sees a difference."""

from __future__ import annotations

import errno
import os
import random
import tempfile

import pytest

import bateau
from bateau import fs, thread
from bateau.fs import now

pytestmark = pytest.mark.skipif(not now.NOWAIT, reason="this system can't be asked for what is in memory")
DATA = b"".join(b"line %d, of %d\n" % (n, n % 7 * 31) for n in range(9_000))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def hops(monkeypatch):
    """What was given to worker threads, in order."""
    given = []
    real = thread.run

    def run(fn, *args, **kwargs):
        given.append(fn)
        return real(fn, *args, **kwargs)

    monkeypatch.setattr(thread, "run", run)
    return given


def can_ask(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], 0, now.NOWAIT)
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    finally:
        os.close(fd)
    return True


def test_what_is_in_memory_needs_no_thread(entry, path, hops):
    if not can_ask(path):
        pytest.skip("the file system can't be asked")

    async def main():
        async with fs.open(path, "rb") as file:
            hops.clear()
            got = [
                await file.read(100),
                await file.readline(),
                await file.peek(4),
                await file.read1(50),
                await file.pread(10, 1000),
                await file.tell(),
                await file.seek(-30, os.SEEK_END),
                await file.read(),
                await file.read(5),
            ]
            buffer = bytearray(20)
            await file.seek(0)
            got.append((await file.readinto(buffer), bytes(buffer)))
            lines = [line async for line in file]
        assert lines == DATA[20:].splitlines(keepends=True)
        assert not hops
        return got

    with open(path, "rb") as file:
        expected = [file.read(100), file.readline(), file.peek(4), file.read1(50), DATA[1000:1010], file.tell()]
        expected += [file.seek(-30, os.SEEK_END), file.read(), file.read(5), (20, DATA[:20])]
    got = entry.run(main)
    got[2], expected[2] = got[2][:4], expected[2][:4]
    assert got == expected


def test_unbuffered(entry, path, hops):
    if not can_ask(path):
        pytest.skip("the file system can't be asked")

    async def main():
        async with fs.open(path, "rb", buffering=0) as file:
            hops.clear()
            first = await file.read(10)
            assert await file.tell() == 10
            await file.seek(len(DATA) - 1000)
            assert await file.read() == DATA[-1000:]
            assert await file.read() == b""
            assert not hops
            await file.seek(0)
            assert await file.read() == DATA  # too much at once: it is a thread's
            assert len(hops) == 1
        return first

    assert entry.run(main) == DATA[:10]


def test_what_is_on_the_disk_is_read_by_a_thread(entry, path, hops, monkeypatch):
    """The system is asked as ever, about a file that it has been told to forget."""
    real, refused = os.preadv, []

    def preadv(*args):
        try:
            return real(*args)
        except BlockingIOError:
            refused.append(args)
            raise

    monkeypatch.setattr(os, "preadv", preadv)
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)

    async def main():
        async with fs.open(path, "rb") as file:
            hops.clear()
            assert await file.read(5000) == DATA[:5000]
            assert await file.tell() == 5000
            assert len(hops) == len(refused)  # it may not have forgotten it

    entry.run(main)


def test_each_refusal_is_one_hop(entry, path, hops, monkeypatch):
    def refuse(*args):
        raise BlockingIOError(errno.EAGAIN, "not now")

    monkeypatch.setattr(os, "preadv", refuse)

    async def main():
        async with fs.open(path, "rb") as file:
            hops.clear()
            assert await file.read(100) == DATA[:100]
            assert await file.read(100) == DATA[100:200]  # it is in the buffer by now
            assert len(hops) == 1
            assert await file.read(9000) == DATA[200:9200]
            assert len(hops) == 2

    entry.run(main)


def test_where_it_cannot_be_asked_a_thread_reads(entry, hops, monkeypatch):
    """tmpfs, for one."""

    def refuse(*args):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "preadv", refuse)

    async def main(path):
        async with fs.open(path, "rb") as file:
            for at in range(0, 100, 10):
                assert await file.read(10) == DATA[at : at + 10]
            assert await file.pread(10, 5) == DATA[5:15]
        assert len(hops) == 13  # opening and closing it, too

    with tempfile.NamedTemporaryFile() as file:
        file.write(DATA)
        file.flush()
        entry.run(main, file.name)


def test_cancelled_reads_have_no_effect(entry, path):
    async def main():
        async with fs.open(path, "rb") as file:
            for read in (file.read, file.readline, lambda size: file.pread(size, 0)):
                with bateau.move_on_after(1000) as scope:
                    scope.cancel("on purpose")
                    await read(10)
                    raise AssertionError("it was cancelled")
            assert await file.read(10) == DATA[:10]

    entry.run(main)


def test_who_only_reads_lets_others_run(entry, path):
    async def main():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await bateau.checkpoint()
                await bateau.time.sleep(0)

        async with bateau.scope() as scope, fs.open(path, "rb") as file:
            scope.spawn(other, background=True)
            for _ in range(1000):
                await file.read(8)
        assert turns >= 10

    entry.run(main)


def test_errors_are_those_of_the_file(entry, path):
    async def main():
        async with fs.open(path, "rb") as file:
            with pytest.raises(TypeError):
                await file.read("all")
            with pytest.raises(ValueError, match="whence"):
                await file.seek(0, 77)
            with pytest.raises((OSError, ValueError)):
                await file.seek(-1)
            with pytest.raises(OSError, match="Invalid argument"):
                await file.pread(10, -5)
            assert await file.read(10) == DATA[:10]
        with pytest.raises(bateau.Closed):
            await file.read(1)
        with pytest.raises(bateau.Closed):
            await file.pread(1, 0)

    entry.run(main)


@pytest.mark.parametrize("seed", range(25))
def test_random_programs_read_what_python_reads(path, monkeypatch, seed):
    """Memory has some of it and not the rest, differently each time one asks."""
    chance = random.Random(seed)
    real = os.preadv

    def preadv(fd, buffers, offset, flags):
        if chance.random() < 0.3:
            raise BlockingIOError(errno.EAGAIN, "not now")
        (buffer,) = buffers
        view = memoryview(buffer)
        return real(fd, [view[: chance.randint(1, len(view))] if view else view], offset, flags)

    monkeypatch.setattr(os, "preadv", preadv)
    buffering = chance.choice([-1, 0, 7, 4096])

    def step():
        size = chance.choice([0, 1, 10, 500, 9000, 200_000])
        return chance.choice(
            [
                ("read", size),
                ("readline",),
                ("readline", size),
                ("readlines", size),
                ("readinto", size),
                ("tell",),
                ("seek", chance.randrange(len(DATA) + 10)),
                ("seek", -chance.randrange(500), os.SEEK_END),
                ("read",),
                ("next",),
            ]
        )

    steps = [step() for _ in range(60)]

    async def main():
        got = []
        async with fs.open(path, "rb", buffering=buffering) as file:
            for name, *args in steps:
                if name == "readinto":
                    buffer = bytearray(*args)
                    got.append((await file.readinto(buffer), bytes(buffer)))
                elif name == "next":
                    got.append(await anext(file, b""))
                else:
                    got.append(await getattr(file, name)(*args))
        return got

    expected = []
    with open(path, "rb", buffering=buffering) as file:
        for name, *args in steps:
            if name == "readinto":
                buffer = bytearray(*args)
                expected.append((file.readinto(buffer), bytes(buffer)))
            elif name == "next":
                expected.append(next(file, b""))
            else:
                expected.append(getattr(file, name)(*args))
    for number, (mine, its) in enumerate(zip(bateau.run(main, runtime="native"), expected, strict=True)):
        assert mine == its, (number, steps[number], buffering)
