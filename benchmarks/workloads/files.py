"""Reading 4 KiB at random places of a 4 MiB file that stands in the page cache.

One operation is one seek and one read of 4,096 bytes, or one positioned read where a library has it.

Cases
  one   one task, one read after another.
  many  64 tasks, each with the file open for itself.

Where semantics differ
  * asyncio has no files: its documentation says ``to_thread``, so that is what is done, with ``os.pread``.
  * trio's, curio's and anyio's file objects mirror Python's: ``seek`` and ``read`` are two hops to a thread each time.
  * caio hands each read to io_uring, or to what else its build has (the note beside its figure names it), under asyncio.
  * The floor is ``os.pread`` in a loop: it blocks the thread when the file is cold.
  * bateau asks Linux for what is in memory and takes a thread only for what is not. All of it is here: the case is the
    common one, and the one in which a thread is pure cost. On a cold file all of them wait for the disk.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice

from ..model import Case, Measured, Stopwatch, Workload

BLOCK = 4096
BLOCKS = 1024
TASKS = 64


@contextmanager
def warm_file() -> Iterator[str]:
    """A file that has just been written and read; in the current directory, because /tmp may be a file system of its own kind."""
    with tempfile.NamedTemporaryFile(dir=".") as file:
        file.write(os.urandom(BLOCK * BLOCKS))
        file.flush()
        os.fsync(file.fileno())
        with open(file.name, "rb") as again:
            again.read()
        yield file.name


CHANCE = random.Random(1)
PLACES = [CHANCE.randrange(BLOCKS) * BLOCK for _ in range(4 * BLOCKS)]


def places(n: int) -> Iterator[int]:
    """Where to read. Drawn beforehand: a random number costs as much as half a system call, and the floor is one system call."""
    return islice(cycle(PLACES), n)


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def read(path: str, n: int) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            for place in places(n):
                assert len(await asyncio.to_thread(os.pread, fd, BLOCK, place)) == BLOCK
        finally:
            os.close(fd)

    async def one(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            await read(path, n)

    async def many(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            async with asyncio.TaskGroup() as group:
                for _ in range(TASKS):
                    group.create_task(read(path, n // TASKS))

    return {"one": one, "many": many}


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def read(path: str, n: int) -> None:
        async with await trio.open_file(path, "rb") as file:
            for place in places(n):
                await file.seek(place)
                assert len(await file.read(BLOCK)) == BLOCK

    async def one(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            await read(path, n)

    async def many(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            async with trio.open_nursery() as nursery:
                for _ in range(TASKS):
                    nursery.start_soon(read, path, n // TASKS)

    return {"one": one, "many": many}


def curio_side() -> Mapping[str, Measured]:
    import curio

    async def read(path: str, n: int) -> None:
        async with curio.aopen(path, "rb") as file:
            for place in places(n):
                await file.seek(place)
                assert len(await file.read(BLOCK)) == BLOCK

    async def one(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            await read(path, n)

    async def many(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            async with curio.TaskGroup() as group:
                for _ in range(TASKS):
                    await group.spawn(read, path, n // TASKS)

    return {"one": one, "many": many}


def anyio_side() -> Mapping[str, Measured]:
    import anyio

    async def read(path: str, n: int) -> None:
        async with await anyio.open_file(path, "rb") as file:
            for place in places(n):
                await file.seek(place)
                assert len(await file.read(BLOCK)) == BLOCK

    async def one(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            await read(path, n)

    async def many(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            async with anyio.create_task_group() as group:
                for _ in range(TASKS):
                    group.start_soon(read, path, n // TASKS)

    return {"one": one, "many": many}


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    from bateau import fs

    async def read(path: str, n: int) -> None:
        async with fs.open(path, "rb") as file:
            for place in places(n):
                assert len(await file.pread(BLOCK, place)) == BLOCK

    async def one(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            await read(path, n)

    async def many(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            async with bateau.scope() as scope:
                for _ in range(TASKS):
                    scope.spawn(read, path, n // TASKS)

    return {"one": one, "many": many}


def caio_side() -> Mapping[str, Measured]:
    import asyncio

    import caio

    async def read(context: caio.AsyncioContext, path: str, n: int) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            for place in places(n):
                assert len(await context.read(BLOCK, fd, place)) == BLOCK
        finally:
            os.close(fd)

    def name(clock: Stopwatch) -> None:
        clock.note = caio.AsyncioContext.__module__

    async def one(n: int, clock: Stopwatch) -> None:
        name(clock)
        async with caio.AsyncioContext() as context:
            with warm_file() as path, clock:
                await read(context, path, n)

    async def many(n: int, clock: Stopwatch) -> None:
        name(clock)
        async with caio.AsyncioContext() as context:
            with warm_file() as path, clock:
                async with asyncio.TaskGroup() as group:
                    for _ in range(TASKS):
                        group.create_task(read(context, path, n // TASKS))

    return {"one": one, "many": many}


def floor_side() -> Mapping[str, Measured]:
    def read(path: str, n: int) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            for place in places(n):
                assert len(os.pread(fd, BLOCK, place)) == BLOCK
        finally:
            os.close(fd)

    async def one(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            read(path, n)

    async def many(n: int, clock: Stopwatch) -> None:
        with warm_file() as path, clock:
            for _ in range(TASKS):
                read(path, n // TASKS)

    return {"one": one, "many": many}


WORKLOAD = Workload(
    "files",
    "Read 4 KiB of a file in the page cache",
    (Case("one", "read"), Case("many", "read", multiple=TASKS)),
    {
        "asyncio": asyncio_side,
        "trio": trio_side,
        "curio": curio_side,
        "anyio": anyio_side,
        "bateau": bateau_side,
        "caio": caio_side,
        "floor": floor_side,
    },
)
