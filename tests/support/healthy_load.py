"""A mixed load with nothing wrong in it: what a watcher must find no hazard in.

The suite runs it for a second (tests/insight/test_healthy.py). By hand, for as long as wanted, with the limits of production:

    PYTHONPATH=tests .venv/bin/python -m support.healthy_load --seconds 600 [--runtime trio]
"""

from __future__ import annotations

import argparse
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


def run() -> int:
    parser = argparse.ArgumentParser(
        description="A load with nothing wrong in it; the findings, if there are any, are printed."
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--runtime")
    options = parser.parse_args()
    with insight.watch():
        done = bateau.run(main, options.seconds, runtime=options.runtime)
    for finding in insight.findings():
        print(by_name(finding.name).format(finding))
    print(f"{len(insight.findings())} findings in {options.seconds:g} s; {done} summed up")
    return 1 if insight.findings() else 0


if __name__ == "__main__":
    sys.exit(run())
