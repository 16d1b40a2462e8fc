"""A long run with random cancellation: every byte is checked, and memory, descriptors and threads must stay where they were.

    python scripts/soak.py                      # half an hour on the native runtime
    python scripts/soak.py --seconds 300 --runtime trio
    python scripts/soak.py --seconds 300 --loop # asyncio's tasks and streams on bateau's C loop

Jobs of many kinds (echo over TCP, datagrams, channels, locks, conditions, files, worker threads, children) run side by side, each in a scope
that is cancelled at some random moment. Every few seconds a line tells what the process holds, after a full collection. It
ends with 1 when something was lost or mixed up, when a descriptor is left over, or when memory in the last quarter lies above
that of the second quarter: by more than a little in use, or more than ``--slack`` KiB resident.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import os
import random
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import bateau
import bateau.thread
import bateau.time
from bateau import fs, io, net, subprocess, sync
from bateau.channel import channel

Job = Callable[["Soak"], Awaitable[None]]

JOBS_AT_ONCE = 40
# Seconds at most that a job gets before it is cancelled; most get less, many next to nothing.
LONGEST = 0.2
# Blocks of Python's allocator by which the end may lie above the beginning: threads that are idle now and weren't then.
BLOCKS = 1000
# The same in KiB for what malloc has given out. What is resident may grow more: that is holes between what is in use.
IN_USE = 512


class Wrong(Exception):
    """Something was lost, doubled or mixed up."""


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def in_use() -> int:
    """KiB that malloc has given out and not got back, beside Python's own allocator; 0 where it can't say."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    ask.restype = _MallInfo
    found = ask()
    return int(found.uordblks + found.hblkhd) >> 10


class Soak:
    """What the jobs share, and what they count."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.draw = random.Random(seed)
        self.folder = folder
        self.port = 0
        self.udp_port = 0
        self.done = 0
        self.cancelled = 0
        self.files = 0
        # Seconds, KiB resident, descriptors, blocks of Python's allocator, KiB of malloc's in use.
        self.samples: list[tuple[float, int, int, int, int]] = []

    def data(self) -> bytes:
        return self.draw.randbytes(self.draw.choice([1, 64, 1000, 20_000, 300_000]))

    def sample(self, began: float) -> None:
        gc.collect()
        with contextlib.suppress(AttributeError, OSError):  # glibc's: what it keeps for later is nobody's leak
            ctypes.CDLL(None).malloc_trim(0)
        kib = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10
        fds = len(os.listdir("/proc/self/fd"))
        at = time.monotonic() - began
        blocks, used = sys.getallocatedblocks(), in_use()
        self.samples.append((at, kib, fds, blocks, used))
        print(
            f"{at:7.0f} s  {self.done:9} jobs, {self.cancelled:9} cancelled  {kib:8} KiB  {fds:4} descriptors  "
            f"{threading.active_count():3} threads  {len(gc.get_objects()):7} objects  {blocks:8} blocks  {used:7} KiB in use",
            flush=True,
        )

    def verdict(self, slack: int) -> int:
        """0, or 1 with the reason."""
        end = self.samples[-1][0]
        early = [sample for sample in self.samples if end / 4 <= sample[0] < end / 2]
        late = [sample for sample in self.samples if sample[0] >= end * 3 / 4]
        fds = [sample[2] for sample in self.samples]
        if not early or not late:
            print("too short for a verdict on memory: at least four samples are needed")
            return 0
        grown, blocks, used = (
            statistics.median(sample[at] for sample in late) - statistics.median(sample[at] for sample in early)
            for at in (1, 3, 4)
        )
        print(
            f"from the second quarter to the last: {grown:+.0f} KiB resident, {used:+.0f} KiB in use, {blocks:+.0f} blocks; "
            f"descriptors: {min(fds[1:])} to {max(fds[1:])}"
        )
        if grown > slack or used > IN_USE or blocks > BLOCKS:
            print(f"FAILED: memory grew (at most {slack} KiB resident, {IN_USE} KiB in use, {BLOCKS} blocks)")
            return 1
        if max(fds[-2:]) > max(fds[1:3]):
            print("FAILED: there are more descriptors at the end than there were")
            return 1
        return 0


# ---- jobs of bateau's own -----------------------------------------------------------------------------------------------------


async def echo(soak: Soak) -> None:
    """What is written comes back, whole and in order."""
    async with await net.connect_tcp("127.0.0.1", soak.port) as stream:
        for _ in range(soak.draw.randrange(1, 20)):
            data = soak.data()
            async with bateau.scope() as scope:
                scope.spawn(stream.write, data)
                got = bytearray()
                while len(got) < len(data):
                    part = await stream.read(soak.draw.choice([1, 1000, 65536, 1 << 20]) if len(data) < 2000 else 65536)
                    if not part:
                        raise Wrong("the server ended an echo")
                    got += part
            if got != data:
                raise Wrong("an echo came back changed")


async def lines(soak: Soak) -> None:
    """The same line by line, through a buffer."""
    async with await net.connect_tcp("127.0.0.1", soak.port) as stream:
        reader = io.BufReader(stream)
        for n in range(soak.draw.randrange(1, 50)):
            line = b"line %d\n" % n
            await stream.write(line)
            if await reader.readline() != line:
                raise Wrong("a line came back changed")


async def datagrams(soak: Soak) -> None:
    """Each datagram comes back once, or not at all."""
    async with await net.udp(remote=("127.0.0.1", soak.udp_port)) as here:
        sent: set[bytes] = set()
        for _ in range(10):
            data = soak.draw.randbytes(soak.draw.randrange(20, 1000))
            sent.add(data)
            await here.send(data)
            with bateau.move_on_after(0.05):
                got = await here.recv()  # perhaps the answer to an earlier one, which we did not wait long enough for
                if got not in sent:
                    raise Wrong("a datagram came back changed, or twice")
                sent.remove(got)


async def passing(soak: Soak) -> None:
    """A channel hands on each item, in order."""
    sender, receiver = channel(soak.draw.randrange(1, 5))
    count = soak.draw.randrange(200)

    async def send() -> None:
        with sender:
            for n in range(count):
                await sender.send(n)

    with receiver:
        async with bateau.scope() as scope:
            scope.spawn(send)
            seen = [n async for n in receiver]
        if seen != list(range(count)):
            raise Wrong("a channel lost or doubled an item")


async def locking(soak: Soak) -> None:
    """Locks, semaphores, conditions and events among a few tasks."""
    lock, limit, condition, event = sync.Lock(), sync.Semaphore(2), sync.Condition(), sync.Event()
    inside = 0

    async def enter() -> None:
        nonlocal inside
        async with limit, lock:
            inside += 1
            if inside != 1:
                raise Wrong("two were inside a lock")
            await bateau.yield_now()
            inside -= 1
        async with condition:
            with bateau.move_on_after(0.001):
                await condition.wait()
            condition.notify()
        await event.wait()

    async with bateau.scope() as scope:
        for _ in range(8):
            scope.spawn(enter)
        await bateau.time.sleep(soak.draw.random() / 200)
        event.set()


async def nesting(soak: Soak) -> None:
    """Scopes whose children fail, time out, or clean up."""

    async def leaf(n: int) -> int:
        with bateau.move_on_after(soak.draw.random() / 50):
            await bateau.time.sleep(soak.draw.random() / 50)
        if soak.draw.random() < 0.1:
            raise ZeroDivisionError
        return n

    with contextlib.suppress(ExceptionGroup):
        async with bateau.scope() as scope:
            for n in range(10):
                scope.spawn(leaf, n)
    async with bateau.cleanup(1):
        await bateau.yield_now()


async def files(soak: Soak) -> None:
    """A file is read as it was written, and removed whatever happens."""
    soak.files += 1
    path = soak.folder / str(soak.files)
    data = soak.data()
    try:
        async with fs.open(path, "wb") as file:
            await file.write(data)
        async with fs.open(path, "rb") as file:
            if await file.read() != data:
                raise Wrong("a file was read back changed")
    finally:
        path.unlink(missing_ok=True)


async def threads(soak: Soak) -> None:
    """A function on a worker thread."""
    n = soak.draw.randrange(1000)
    if await bateau.thread.run(lambda: n * 2) != n * 2:
        raise Wrong("a thread's value is another's")


async def children(soak: Soak) -> None:
    """Now and then a child process."""
    if soak.draw.random() < 0.1:
        done = await subprocess.run(["cat"], input=b"hello", capture_output=True)
        if done.stdout != b"hello":
            raise Wrong("a child gave back something else")


async def sending_files(soak: Soak) -> None:
    """A file goes out by the kernel, and comes back."""
    path = soak.folder / "served"
    async with await net.connect_tcp("127.0.0.1", soak.port) as stream:
        with open(path, "rb") as file:
            async with bateau.scope() as scope:
                scope.spawn(stream.sendfile, file)
                got = 0
                while got < path.stat().st_size:
                    got += len(await stream.read(1 << 20))


JOBS: list[Job] = [echo, echo, lines, datagrams, passing, locking, nesting, files, threads, children, sending_files]


async def one(soak: Soak) -> None:
    """A job under a clock that may stop it at any moment; what the network says when that hits the middle of a talk is no fault."""
    job = soak.draw.choice(JOBS)
    seconds = soak.draw.choice([0.0, 0.0005, 0.005, LONGEST, LONGEST]) * soak.draw.random()
    with bateau.move_on_after(seconds) as clock:
        await job(soak)
    soak.done += 1
    soak.cancelled += clock.cancelled_caught


async def serve_datagrams(sock: Any) -> None:
    """The datagrams' other end."""
    async for data, address in sock:
        await sock.sendto(data, address)


async def serve(stream: Any) -> None:
    """The streams' other end."""
    with contextlib.suppress(bateau.Broken):
        while data := await stream.read():
            await stream.write(data)


async def on_runtime(soak: Soak, seconds: float, every: float) -> None:
    """Jobs of bateau's own, with everything closed before each sample."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        end = min(began + seconds, time.monotonic() + every)
        async with await net.listen_tcp("127.0.0.1", 0) as listener, await net.udp(("127.0.0.1", 0)) as udp:
            soak.port, soak.udp_port = listener.port, udp.getsockname()[1]
            async with bateau.scope() as scope:
                scope.spawn(net.serve, serve, listener, background=True)
                scope.spawn(serve_datagrams, udp, background=True)
                async with bateau.scope() as workers:
                    for _ in range(JOBS_AT_ONCE):
                        workers.spawn(until, end, soak)
        soak.sample(began)


async def until(end: float, soak: Soak) -> None:
    """One job after the other."""
    while time.monotonic() < end:
        await one(soak)


# ---- jobs of asyncio's, on the C loop -------------------------------------------------------------------------------------------


async def aio_echo(soak: Soak) -> None:
    """What is written comes back; sometimes the connection is reset instead of closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", soak.port)
    try:
        for _ in range(soak.draw.randrange(1, 20)):
            data = soak.data()
            writer.write(data)
            drain = asyncio.ensure_future(writer.drain())
            try:
                if await reader.readexactly(len(data)) != data:
                    raise Wrong("an echo came back changed")
            finally:
                drain.cancel()
                await asyncio.wait([drain])
    finally:
        if soak.draw.random() < 0.3:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()


async def aio_queue(soak: Soak) -> None:
    """A queue hands on each item, in order."""
    queue: asyncio.Queue[int] = asyncio.Queue(3)

    async def put() -> None:
        for n in range(100):
            await queue.put(n)

    async with asyncio.TaskGroup() as group:
        group.create_task(put())
        for n in range(100):
            if await queue.get() != n:
                raise Wrong("a queue lost or doubled an item")


async def aio_sleep(soak: Soak) -> None:
    """Many timers, cut off."""
    async with asyncio.timeout(soak.draw.random() / 50):
        await asyncio.gather(*(asyncio.sleep(soak.draw.random() / 20) for _ in range(20)))


async def aio_thread(soak: Soak) -> None:
    """A function on a worker thread."""
    n = soak.draw.randrange(1000)
    if await asyncio.to_thread(lambda: n * 2) != n * 2:
        raise Wrong("a thread's value is another's")


async def aio_sock(soak: Soak) -> None:
    """The loop's own calls on sockets."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        data = soak.data()
        async with asyncio.TaskGroup() as group:
            group.create_task(loop.sock_sendall(here, data))
            got = bytearray()
            while len(got) < len(data):
                got += await loop.sock_recv(there, 65536)
        if got != data:
            raise Wrong("data came changed")


AIO_JOBS: list[Job] = [aio_echo, aio_echo, aio_queue, aio_sleep, aio_thread, aio_sock]


async def aio_one(soak: Soak) -> None:
    """A job, and the clock that may stop it."""
    job = soak.draw.choice(AIO_JOBS)
    seconds = soak.draw.choice([0.0005, 0.005, LONGEST, LONGEST]) * soak.draw.random()
    try:
        async with asyncio.timeout(seconds):
            await job(soak)
    except TimeoutError:
        soak.cancelled += 1
    soak.done += 1


async def aio_serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The streams' other end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def on_loop(soak: Soak, seconds: float, every: float) -> None:
    """Asyncio's jobs, with everything closed before each sample."""
    began = time.monotonic()
    async with await asyncio.start_server(aio_serve, "127.0.0.1", 0) as server:
        soak.port = server.sockets[0].getsockname()[1]

        async def worker(end: float) -> None:
            while time.monotonic() < end:
                await aio_one(soak)

        while time.monotonic() < began + seconds:
            end = min(began + seconds, time.monotonic() + every)
            async with asyncio.TaskGroup() as group:
                for _ in range(JOBS_AT_ONCE):
                    group.create_task(worker(end))
            while len(asyncio.all_tasks()) > 1:  # the servers' ends of what was just closed
                await asyncio.sleep(0.001)
            soak.sample(began)


def main() -> int:
    """Read the arguments, run, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="how long (half an hour)")
    parser.add_argument("--every", type=float, default=10, help="seconds between two samples")
    parser.add_argument("--slack", type=int, default=8192, help="KiB by which what is resident may differ")
    parser.add_argument("--runtime", default="native", help="bateau's runtime")
    parser.add_argument("--loop", action="store_true", help="asyncio on bateau.interop.asyncio's loop instead")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}; {'asyncio on the C loop' if given.loop else f'bateau on {given.runtime}'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(seed, Path(folder))
        (soak.folder / "served").write_bytes(bytes(200_000))
        try:
            if given.loop:
                import bateau.interop.asyncio as ours

                ours.run(on_loop(soak, given.seconds, given.every))
            else:
                bateau.run(on_runtime, soak, given.seconds, given.every, runtime=given.runtime)
        except BaseExceptionGroup as group:
            wrong = group.subgroup(Wrong)
            if wrong is None:
                raise
            print(f"FAILED: {wrong.exceptions}")
            return 1
    return soak.verdict(given.slack)


if __name__ == "__main__":
    sys.exit(main())
