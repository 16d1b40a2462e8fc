"""A mixed load with nothing wrong in it: what a watcher must find no hazard in.

The suite runs it for a second (tests/insight/test_healthy.py). By hand, for as long as wanted, with the limits of production:

    PYTHONPATH=tests .venv/bin/python -m support.healthy_load --seconds 600 [--runtime trio | --plain]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from typing import Any

import bateau
from bateau import insight
from bateau.insight.hazards import by_name


async def echo(stream: Any) -> None:
    async with stream:
        while data := await stream.read(1 << 16):
            await stream.write(data)


async def serve(listener: Any) -> None:
    async with bateau.scope() as scope:
        async for stream in listener:
            scope.spawn(echo, stream)


async def client(port: int, number: int) -> None:
    while True:
        async with await bateau.net.connect_tcp("127.0.0.1", port) as stream:
            for _ in range(20):
                message = b"%d" % number * 100
                await stream.write(message)
                got = b""
                while len(got) < len(message):
                    got += await stream.read(1 << 16)
                assert got == message
                await bateau.time.sleep(0.001)


async def producer(tx: Any) -> None:
    with tx:
        while True:
            for number in range(50):
                await tx.send(number)
            await bateau.time.sleep(0.005)


async def consumer(rx: Any, lock: Any, totals: list[int]) -> None:
    async for number in rx:
        async with lock:
            totals[0] += number
            await bateau.checkpoint()


async def impatient(event: Any) -> None:
    while True:
        with bateau.move_on_after(0.01):
            await event.wait()
        await bateau.time.sleep(0.002)


async def short_lived() -> None:
    while True:
        async with bateau.scope() as scope:
            for _ in range(100):
                scope.spawn(bateau.yield_now)
        async with bateau.scope() as scope:
            scope.spawn(bateau.time.sleep_forever)
            await bateau.time.sleep(0.001)
            scope.cancel()


async def threads() -> None:
    while True:
        await bateau.thread.run(time.sleep, 0.02)
        await bateau.join(bateau.thread.run(sum, range(1000)), bateau.time.sleep(0.01))


async def sleepers() -> None:
    async with bateau.scope() as scope:
        for number in range(20):
            scope.spawn(bateau.time.sleep, 1000 + number)


async def main(seconds: float) -> int:
    """Run everything at once for so long; returns how much was done."""
    totals = [0]
    with bateau.move_on_after(seconds):
        async with bateau.scope() as scope:
            listener = scope.own(await bateau.net.listen_tcp("127.0.0.1", 0))
            scope.spawn(serve, listener)
            for number in range(8):
                scope.spawn(client, listener.port, number)
            tx, rx = bateau.channel.channel(16, name="numbers")
            lock = bateau.sync.Lock(name="totals")
            for _ in range(2):
                scope.spawn(producer, tx.clone())
            for _ in range(3):
                scope.spawn(consumer, rx.clone(), lock, totals)
            tx.close()
            rx.close()
            event = bateau.sync.Event()
            scope.spawn(impatient, event)
            for fn in (short_lived, threads, sleepers):
                scope.spawn(fn)
    return totals[0]


class PlainServer:
    """What programs written for asyncio alone consist of, none of it wrong: a queue that a protocol fills, an event that a timer sets, ..."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue(8)
        self.condition = asyncio.Condition()
        self.limit = asyncio.Semaphore(2)
        self.lock = asyncio.Lock()
        self.stop = asyncio.Event()
        self.total = 0

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            asyncio.CancelledError, ConnectionError
        ):  # of which asyncio's server would tell as of an error
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        await close(writer)

    async def client(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                async with self.limit:
                    writer.write(b"x" * 1000)
                    await reader.readexactly(1000)
                await asyncio.sleep(0.002)
        finally:
            await close(writer)

    async def produce(self) -> None:
        while True:
            for number in range(30):
                await self.queue.put(number)
            await asyncio.sleep(0.003)

    async def consume(self) -> None:
        while True:
            number = await self.queue.get()
            async with self.lock:
                self.total += number
                await asyncio.sleep(0)
            async with self.condition:
                self.condition.notify_all()

    async def follow(self) -> None:
        async with self.condition:
            while True:
                await self.condition.wait_for(lambda: self.total > 0)
                await self.condition.wait()

    async def idle(self) -> None:
        await self.stop.wait()

    async def fed_by_a_thread(self) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[int] = asyncio.Queue()
        while True:
            await asyncio.to_thread(lambda: loop.call_soon_threadsafe(queue.put_nowait, 1))
            async with asyncio.timeout(60):  # not wait_for, which loses a cancellation now and then, until Python 3.12
                await queue.get()

    async def work(self, seconds: float) -> None:
        """A worker whose queue is filled long from now, by a call that is due then."""
        queue: asyncio.Queue[None] = asyncio.Queue()
        asyncio.get_running_loop().call_later(seconds, queue.put_nowait, None)
        await asyncio.gather(queue.get(), asyncio.sleep(0))
        self.stop.set()


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def plain(seconds: float) -> int:
    """The same on asyncio alone."""
    here = PlainServer()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, here.stop.set)
    server = await asyncio.start_server(here.echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.TaskGroup() as group:
        jobs = [here.produce(), here.consume(), here.consume(), here.follow(), here.fed_by_a_thread()]
        jobs += [here.client(port) for _ in range(4)]
        tasks = [group.create_task(job) for job in jobs]
        for _ in range(5):
            group.create_task(here.idle())
        await group.create_task(here.work(seconds))
        for task in tasks:
            task.cancel()
    return here.total


def run() -> int:
    parser = argparse.ArgumentParser(
        description="A load with nothing wrong in it; the findings, if there are any, are printed."
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--runtime")
    parser.add_argument("--plain", action="store_true", help="a program of asyncio's alone")
    options = parser.parse_args()
    with insight.watch():
        if options.plain:
            done = asyncio.run(plain(options.seconds))
        else:
            done = bateau.run(main, options.seconds, runtime=options.runtime)
    for finding in insight.findings():
        print(by_name(finding.name).format(finding))
    print(f"{len(insight.findings())} findings in {options.seconds:g} s; {done} summed up")
    return 1 if insight.findings() else 0


if __name__ == "__main__":
    sys.exit(run())
