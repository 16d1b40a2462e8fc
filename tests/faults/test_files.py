"""Faults of files: a full disk, a limit on their size, writes that take less than they were given. See test_index.py."""

from __future__ import annotations

import errno
import os
import resource
from typing import Any

import pytest

from bateau import fs, subprocess
from support import faulty

HAS_FULL = os.path.exists("/dev/full")


@pytest.mark.skipif(not HAS_FULL, reason="this system has no /dev/full")
def test_a_full_disk(runtime: Any) -> None:
    """ENOSPC comes out of the write, the flush or the close that meets it, never later and never not at all; nothing stays open."""

    async def main() -> None:
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError) as caught:
            async with fs.open("/dev/full", "wb", buffering=0) as file:
                await file.write(b"x")
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError) as caught:
            async with fs.open("/dev/full", "w") as file:
                await file.write("in the buffer")
                await file.flush()
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError) as caught:
            async with fs.open("/dev/full", "w") as file:
                await file.write("in the buffer, to the close")
        assert caught.value.errno == errno.ENOSPC
        assert file.closed
        with pytest.raises(OSError) as caught:
            await fs.Path("/dev/full").write_bytes(b"x")
        assert caught.value.errno == errno.ENOSPC
        del caught
        assert set(os.listdir("/proc/self/fd")) <= before

    runtime.run(main)


def test_a_limit_on_the_size_of_files(runtime: Any, tmp_path: Any) -> None:
    """A write that the system takes half of and refuses the rest of: the half is there, the error is told, the file can be mended."""
    path = tmp_path / "f"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def main() -> None:
        async with fs.open(path, "wb", buffering=0) as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            try:
                assert await file.write(bytes(1500)) == 1000
                with pytest.raises(OSError) as caught:
                    await file.write(bytes(500))
                assert caught.value.errno == errno.EFBIG
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert await file.write(bytes(500)) == 500
        assert path.stat().st_size == 1500
        async with fs.open(path, "wb") as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            try:
                await file.write(b"abc" * 500)
                with pytest.raises(OSError) as caught:
                    await file.flush()
                assert caught.value.errno == errno.EFBIG
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            await file.flush()  # what did not go out is still in the buffer
        assert path.read_bytes() == b"abc" * 500

    runtime.run(main)


def test_writes_that_are_short_and_interrupted() -> None:
    """A few bytes at a time, and EINTR between: files, pipes and standard output lose nothing."""
    out = faulty.run("""
    import bateau.fs, bateau.subprocess, bateau.io, tempfile
    data = bytes(range(256)) * 200
    async def main():
        limit("write", 1000)
        plan("write", errno.EINTR, times=20, skip=2)
        with tempfile.TemporaryDirectory() as folder:
            path = bateau.fs.Path(folder, "f")
            async with bateau.fs.open(path, "wb") as file:
                await file.write(data)
            assert await path.read_bytes() == data
            await path.write_text("text" * 5000)
            assert await path.read_text() == "text" * 5000
        done = await bateau.subprocess.run(["cat"], input=data, capture_output=True)
        assert done.stdout == data
        assert hits("write") == 20, hits("write")
        await bateau.io.stdout().write(b"x" * 5000)
        limit("write", 0)
    bateau.run(main)
    """)
    assert out == "x" * 5000


def test_a_file_that_is_gone_under_a_child(runtime: Any, tmp_path: Any) -> None:
    """A child's program or directory that does not exist is an error here, with its name."""

    async def main() -> None:
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            await subprocess.run([str(tmp_path / "no-such-program")])
        with pytest.raises(FileNotFoundError, match="no-such-folder"):
            await subprocess.run(["true"], cwd=tmp_path / "no-such-folder")

    runtime.run(main)


def test_a_pipe_of_the_loop_that_is_short_and_interrupted() -> None:
    faulty.run("""
    data = bytes(range(256)) * 800
    async def main():
        limit("write", 1000)
        plan("write", errno.EINTR, times=20, skip=2)
        process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate(data)
        assert out == data
        assert hits("write") == 20, hits("write")
    on_loop(main)
    """)


def test_memory_that_has_some_of_a_file_and_not_the_rest() -> None:
    """Reads on the spot that are refused, and short, at any place: what comes is what Python's own file gives."""
    faulty.run("""
    import bateau.fs, random, tempfile
    from bateau.fs import now
    data = b"".join(b"line %d, of %d\\n" % (n, n % 7 * 31) for n in range(9_000))
    def step(chance):
        size = chance.choice([0, 1, 10, 500, 9000, 120_000])
        return chance.choice([
            ("read", size), ("read", size), ("readline",), ("readline", size), ("readlines", size), ("readinto", size), ("read1", size),
            ("tell",), ("seek", chance.randrange(len(data) + 10)), ("seek", -chance.randrange(500), os.SEEK_END), ("read",),
            ("peek",), ("pread", size, chance.randrange(len(data) + 10)),
        ])
    async def main(path, seed):
        chance = random.Random(seed)
        buffering = chance.choice([-1, 0, 7, 4096])
        refused = 0
        with open(path, "rb", buffering=buffering) as real:
            async with bateau.fs.open(path, "rb", buffering=buffering) as file:
                for _ in range(60):
                    name, *args = step(chance)
                    if name in ("peek", "read1") and buffering == 0:
                        continue
                    # Only refusals: a system that gives less than it has, in the middle, is another test.
                    plan("preadv2", errno.EAGAIN, times=chance.choice([0, 0, 1, 2]), skip=chance.choice([0, 0, 1, 2]))
                    limit("preadv2", chance.choice([0, 0, 0, 1, 5, 700, 5000]))
                    if name == "pread":
                        got, due = await file.pread(*args), os.pread(real.fileno(), *args)
                    elif name == "readinto":
                        mine, its = bytearray(args[0]), bytearray(args[0])
                        got, due = (await file.readinto(mine), mine), (real.readinto(its), its)
                    elif name == "peek":
                        got, due = (await file.peek(10)), real.peek(10)
                        got = due = got if due.startswith(got[:1]) else None  # how much is there is nobody's promise
                        assert got is not None
                    elif name == "read1":
                        got = await file.read1(*args)
                        due = real.read(len(got))
                        assert got or not args[0] or not real.read(1)
                    else:
                        got, due = await getattr(file, name)(*args), getattr(real, name)(*args)
                    assert got == due, (seed, name, args)
                    refused += hits("preadv2")
                    assert await file.tell() == real.tell(), (seed, name, args)
        limit("preadv2", 0)
        return refused
    with tempfile.NamedTemporaryFile(dir=".") as file:
        file.write(data)
        file.flush()
        refused = sum(bateau.run(main, file.name, seed) for seed in range(40))
        assert refused > 100 or not now.NOWAIT, refused
    """)


def test_memory_that_has_nothing_and_never_will() -> None:
    """Other refusals than "not now": asked once for each file, and the ordinary read says what is wrong."""
    faulty.run("""
    import bateau.fs, tempfile
    async def main(path):
        for code in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EIO):
            for first in ("pread", "read"):
                async with bateau.fs.open(path, "rb") as file:
                    plan("preadv2", code, times=1000)
                    if first == "read":
                        assert await file.read(2) == b"da"
                    assert await file.pread(4, 1) == b"ata"
                    assert await file.pread(4, 1) == b"ata"
                    await file.seek(0)
                    assert await file.read() == b"data"
                    assert hits("preadv2") <= 1, hits("preadv2")
        plan("preadv2", errno.EINTR, times=1)
        async with bateau.fs.open(path, "rb") as file:
            for _ in range(3):
                assert await file.pread(4, 0) == b"data"
    with tempfile.NamedTemporaryFile(dir=".") as file:
        file.write(b"data")
        file.flush()
        bateau.run(main, file.name)
    """)
