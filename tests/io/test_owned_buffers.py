"""Buffers of the caller's: what is read into and written from without a copy, and whose they are when the call has ended (story S45).

While the call goes on, the buffer is lent to it. When it returns or raises, also by a cancellation, the buffer is the caller's again:
nothing is written to it or read from it later, and nobody holds a view of it (a bytearray that is still lent can't change its size).
"""

from __future__ import annotations

import os
import random
import socket
from typing import Any

import pytest

import bateau
import bateau.time
from bateau import fs, io, net, thread
from support.waiting import until


def is_free(buffer: bytearray) -> bool:
    """Whether nobody holds a view of it."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    del buffer[-1]
    return True


def pair() -> tuple[Any, socket.socket]:
    here, there = socket.socketpair()
    there.setblocking(False)
    return net.from_socket(here), there


@pytest.mark.parametrize("layer", ["socket", "buffered", "split"])
def test_a_cancelled_readinto_gives_the_buffer_back(runtime: Any, layer: str) -> None:
    async def main() -> None:
        stream, there = pair()
        reader: Any = stream
        if layer == "buffered":
            reader = io.BufReader(stream)
        elif layer == "split":
            reader, _writer = io.split(stream)
        buffer = bytearray(b"-" * 100)
        for _ in range(3):
            with bateau.move_on_after(0.001):
                await reader.readinto(buffer)
            assert is_free(buffer)
        there.send(b"late")
        for _ in range(5):
            await bateau.time.sleep(0.001)
        assert buffer == b"-" * 100
        assert await reader.readinto(buffer) == 4  # nothing was lost
        assert buffer[:5] == b"late-"
        assert is_free(buffer)
        there.close()
        stream.close()

    runtime.run(main)


def test_readinto_cancelled_at_any_moment_reads_each_byte_once(runtime: Any) -> None:
    draw = random.Random(1)
    data = draw.randbytes(200_000)

    async def main() -> None:
        stream, there = pair()
        got, buffer = bytearray(), bytearray(3000)

        async def feed() -> None:
            at = 0
            while at < len(data):
                try:
                    at += there.send(data[at : at + draw.randrange(1, 5000)])
                except BlockingIOError:
                    pass
                await bateau.yield_now()
            there.close()

        async with bateau.scope() as scope:
            scope.spawn(feed)
            while True:
                n = None
                with bateau.move_on_after(draw.random() / 5000):
                    n = await stream.readinto(buffer)
                assert is_free(buffer)
                if n == 0:
                    break
                got += buffer[: n or 0]
                buffer[:] = bytes(len(buffer))
                assert not any(buffer)
        assert got == data
        stream.close()

    runtime.run(main)


def test_a_cancelled_write_reads_the_buffer_no_more(runtime: Any) -> None:
    """What went out is what stood in the buffer when it went; what the caller puts there afterwards is its own."""

    async def main() -> None:
        stream, there = pair()
        buffer = bytearray(b"a" * (4 << 20))
        with bateau.move_on_after(0.005):
            await stream.write(buffer)
        assert is_free(buffer)
        buffer[:] = b"b" * len(buffer)
        buffer.clear()
        got = 0
        for _ in range(2000):
            await bateau.yield_now()
            try:
                part = there.recv(1 << 20)
            except BlockingIOError:
                continue
            assert not part.strip(b"a")
            got += len(part)
        assert 0 < got < 4 << 20
        with pytest.raises(bateau.Broken):  # law 9: it says so
            await stream.write(b"more")
        stream.close()
        there.close()

    runtime.run(main)


def test_a_finished_write_has_no_view(runtime: Any) -> None:
    async def main() -> None:
        stream, there = pair()
        for kind in (bytearray, lambda data: memoryview(bytearray(data))):
            data: Any = kind(b"x" * 1000)
            await stream.write(data)
            if isinstance(data, bytearray):
                assert is_free(data)
            else:
                data.release()
            assert there.recv(2000) == b"x" * 1000
        stream.close()
        there.close()

    runtime.run(main)


@pytest.mark.parametrize("on_disk", [False, True], ids=["cached", "by a thread"])
def test_a_file_read_into_a_buffer(runtime: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, on_disk: bool) -> None:
    """A thread that has begun is awaited before the buffer goes back, whatever the cancellation wants."""
    path = tmp_path / "f"
    path.write_bytes(bytes(range(256)) * 40)
    if on_disk:
        from bateau.fs import now

        monkeypatch.setattr(now, "NOWAIT", 0)

    async def main() -> None:
        async with fs.open(path, "rb", buffering=0) as file:
            buffer, seen = bytearray(1000), bytearray()
            for round_ in range(200):
                n = None
                with bateau.move_on_after(0 if round_ % 3 else 0.0002):
                    n = await file.readinto(buffer)
                assert is_free(buffer)
                if n == 0:
                    break
                seen += buffer[: n or 0]
                mark = bytes(buffer)
                await bateau.yield_now()
                assert buffer == mark
            while n := await file.readinto(buffer):
                seen += buffer[:n]
            assert seen == path.read_bytes()

    runtime.run(main)


def test_a_cancelled_thread_still_writing_to_the_buffer_is_waited_for(runtime: Any) -> None:
    """The case that others get wrong: the read blocks in its thread, the task is cancelled, and the data comes later."""

    async def main() -> None:
        reading, writing = os.pipe()
        buffer = bytearray(10)
        async with fs.open(reading, "rb", buffering=0) as file:
            read: list[int] = []

            async def read_into() -> None:
                read.append(await file.readinto(buffer))

            async with bateau.scope() as scope:
                scope.spawn(read_into)
                await until(lambda: file._user is not None)
                await bateau.time.sleep(0.01)
                scope.cancel()
                await_later = thread.run(os.write, writing, b"late")
                with bateau.shield():
                    await await_later
            if read:  # a thread had begun: it has ended, and its value was not lost
                assert read == [4]
                assert buffer[:4] == b"late"
            assert is_free(buffer)
            before = bytes(buffer)
            await bateau.time.sleep(0.01)
            assert bytes(buffer) == before
        os.close(writing)

    runtime.run(main)


def test_a_cancelled_sendfile_leaves_the_file_alone(runtime: Any, tmp_path: Any) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(8 << 20))

    async def main() -> None:
        stream, there = pair()
        with open(path, "rb") as file:
            with bateau.move_on_after(0.005):
                await stream.sendfile(file)
            place = file.tell()
            assert 0 < place < 8 << 20
            got = 0
            for _ in range(2000):
                await bateau.yield_now()
                try:
                    got += len(there.recv(1 << 20))
                except BlockingIOError:
                    continue
            assert got == file.tell() == place
        with pytest.raises(bateau.Broken):
            await stream.write(b"more")
        stream.close()
        there.close()

    runtime.run(main)
