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
