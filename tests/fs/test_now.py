"""Reads that need not wait are made on the spot; whatever can't be had at once is read by a thread, and nobody sees a difference."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import subprocess
import sys
import tempfile
import time

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


@pytest.mark.parametrize("call", [lambda file: file.pread(4, 0), lambda file: file.read(4), lambda file: file.tell()])
def test_a_file_whose_raw_one_was_taken_away_is_not_read(entry, path, call):
    """Whoever detached it has it now: reading it behind their back would be reading a file that this one does not have."""

    async def main():
        file = await fs.open(path, "rb")
        assert await file.pread(4, 0) == DATA[:4]
        raw = file.wrapped.detach()
        with pytest.raises(ValueError, match="detached"):
            await call(file)
        assert raw.read(4) == DATA[:4]
        raw.close()
        file._file = raw  # what is left can't be closed: Python's own raises

    entry.run(main)


@pytest.mark.parametrize("call", [lambda file: file.pread(4, 0), lambda file: file.read(4), lambda file: file.seek(0)])
def test_a_call_that_has_not_begun_takes_no_value(entry, path, call):
    if not can_ask(path):
        pytest.skip("the file system can't be asked")

    async def main():
        async with fs.open(path, "rb") as file:
            begun = call(file).__await__()
            with pytest.raises(TypeError, match="just-started"):
                begun.send(5)
            with pytest.raises(StopIteration) as done:
                begun.send(None)
            assert done.value.value in (DATA[:4], 0)

    entry.run(main)


# ---- whole files -----------------------------------------------------------------------------------------------------------


def test_a_small_file_in_memory_needs_no_thread(entry, path, hops):
    path.write_bytes(b"a\r\n\xe9\n" * 10)
    link = path.with_name("link")
    link.symlink_to(path)
    empty = path.with_name("empty")
    empty.touch()
    # Who follows a new link writes down when, for which the system won't be asked: say that it has just been done.
    soon = time.time_ns() + 3600 * 10**9
    os.utime(link, ns=(soon, 0), follow_symlinks=False)
    if now.content_now(path) is None:
        pytest.skip("this kernel, or the file system, can't be asked")

    async def main():
        before = set(os.listdir("/proc/self/fd"))
        assert await fs.Path(path).read_bytes() == path.read_bytes() == await fs.Path(link).read_bytes()
        assert await fs.Path(path).read_text("latin-1") == path.read_text("latin-1")
        assert await fs.Path(path).read_text("ascii", "replace") == path.read_text("ascii", "replace")
        assert await fs.Path(empty).read_bytes() == b"" == (await fs.Path(empty).read_text()).encode()
        with pytest.raises(UnicodeDecodeError):
            await fs.Path(path).read_text("utf-8")
        with pytest.raises(LookupError):
            await fs.Path(path).read_text("no such encoding")
        assert not hops
        assert set(os.listdir("/proc/self/fd")) <= before

    entry.run(main)


@pytest.mark.parametrize("buffering", [-1, 0, 700])
def test_opening_what_is_in_memory_needs_no_thread(entry, path, hops, buffering):
    descriptor = now.descriptor_now(path)
    if descriptor is None:
        pytest.skip("this kernel, or the file system, can't be asked")
    os.close(descriptor)

    def facts(file):
        fd = file.fileno()
        flags = fcntl.fcntl(fd, fcntl.F_GETFL), fcntl.fcntl(fd, fcntl.F_GETFD)
        return file.name, file.mode, file.readable(), file.writable(), file.seekable(), flags, type(file)

    async def main():
        before = set(os.listdir("/proc/self/fd"))
        for opening in (
            fs.open(path, "rb", buffering),
            fs.Path(path).open("rb", buffering),
            fs.open(os.fsencode(path), "rb"),
        ):
            async with opening as file:
                assert await file.read(100) == DATA[:100]
                with open(file.name, "rb", -1 if isinstance(file.name, bytes) else buffering) as its:
                    mine, due = facts(file.wrapped), facts(its)
                assert mine[:-1] == due[:-1]
                assert mine[-1] is due[-1] or buffering == 0
        assert not hops
        with pytest.raises(FileNotFoundError, match="missing"):
            await fs.open(path.with_name("missing"), "rb")
        with pytest.raises(IsADirectoryError):
            await fs.open(path.parent, "rb")
        with bateau.move_on_after(1000) as scope:
            scope.cancel("on purpose")
            await fs.open(path, "rb")  # bateau: ignore[dropped_without_close]
            raise AssertionError("it was cancelled")
        assert set(os.listdir("/proc/self/fd")) <= before

    entry.run(main)


@pytest.mark.parametrize("call", ["pread", "read"])
def test_who_gives_way_before_a_read_keeps_the_place(path, call):
    async def main():
        async with fs.open(path, "rb") as file:
            for end in ("go on", "cancelled"):
                found = []

                async def closer(found=found, end=end):
                    with pytest.raises(bateau.Busy, match=f"{call} by task") as caught:
                        file.close()
                    found.append(caught.value)
                    if end == "cancelled":
                        block.cancel("on purpose")

                read = file.pread(4, 0) if call == "pread" else file.read(4)
                with bateau.move_on_after(1000) as block:
                    async with bateau.scope() as scope:
                        scope.spawn(closer)
                        bateau.current_task().budget = 0
                        got = await read
                assert len(found) == 1
                assert block.cancelled_caught == (end == "cancelled")
                if end == "go on":
                    assert got == DATA[:4]
                    await file.seek(0)
            for end in ("close", "throw"):  # in the middle
                bateau.current_task().budget = 0
                wait = (file.pread(4, 0) if call == "pread" else file.read(4)).__await__()
                assert next(wait) is None
                with pytest.raises(bateau.Busy):
                    file.close()
                if end == "close":
                    wait.close()
                else:
                    with pytest.raises(KeyError):
                        wait.throw(KeyError())
            file.close()
        with pytest.raises(bateau.Closed):
            await file.pread(1, 0)

    bateau.run(main, runtime="native")


def test_what_is_no_small_file_is_a_threads(entry, path, hops):
    path.write_bytes(DATA)

    async def main():
        before = set(os.listdir("/proc/self/fd"))
        assert await fs.Path(path).read_bytes() == DATA  # too large
        with pytest.raises(FileNotFoundError, match="missing"):
            await fs.Path(path.with_name("missing")).read_bytes()
        with pytest.raises(IsADirectoryError):
            await fs.Path(path.parent).read_bytes()
        with pytest.raises(NotADirectoryError):
            await fs.Path(path, "below").read_text()
        assert "Pid" in await fs.Path("/proc/self/status").read_text()  # whose size is said to be 0
        assert await fs.Path("/dev/null").read_bytes() == b""
        assert len(hops) == 6
        with pytest.raises(ValueError, match="null"):
            await fs.Path("a\0b").read_bytes()
        assert set(os.listdir("/proc/self/fd")) <= before

    entry.run(main)


def test_who_waits_to_write_into_a_fifo_is_not_disturbed(entry, tmp_path):
    """A reader that looked in and went away would be a broken pipe to it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    text = "all of it\n" * 10_000

    async def main():
        for _ in range(5):
            async with bateau.scope() as scope:
                scope.spawn(thread.run, path.write_text, text)
                scope.spawn(bateau.checkpoint)
                assert await fs.Path(path).read_text() == text

    entry.run(main)


def test_who_has_replaced_open_is_honoured(entry, path, monkeypatch):
    def mine(*args, **kwargs):
        raise PermissionError("not mine")

    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(io, "open", mine)
            with pytest.raises(PermissionError, match="not mine"):
                await fs.Path(path).read_bytes()

    entry.run(main)


def test_an_audit_hears_of_it(path):
    path.write_bytes(b"small")
    program = f"""
import sys, bateau
from bateau import fs
heard = []
sys.addaudithook(lambda event, args: heard.append(args) if event == "open" else None)
async def main():
    await fs.Path({str(path)!r}).read_bytes()
bateau.run(main)
assert [str(args[0]) for args in heard].count({str(path)!r}) == 1, heard
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_whole_files_are_cancellation_points_and_let_others_run(entry, path):
    path.write_bytes(b"small")

    async def main():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await bateau.time.sleep(0)

        with bateau.move_on_after(1000) as scope:
            scope.cancel("on purpose")
            await fs.Path(path).read_bytes()
            raise AssertionError("it was cancelled")
        async with bateau.scope() as scope:
            scope.spawn(other, background=True)
            for _ in range(400):
                await fs.Path(path).read_bytes()
        assert turns >= 5

    entry.run(main)


# ---- at random ---------------------------------------------------------------------------------------------------------------


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
