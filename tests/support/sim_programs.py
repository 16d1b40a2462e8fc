"""Programs for tests that run a simulation in an interpreter of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from bateau import sim, sync, thread
from bateau.scopes import scope
from bateau.time import sleep


async def mixed(world: sim.World) -> list[str]:
    """Something of everything whose order could differ: tasks, threads, processes, sets, asyncio."""
    log: list[str] = []

    def say(text: object) -> None:
        log.append(f"{time.monotonic():.6f} {threading.current_thread().name} {text}")

    async def service() -> None:
        lock = sync.Lock()

        async def work(n: int) -> None:
            for _ in range(3):
                await sleep(random.random())
                async with lock:
                    await thread.run(say, n)

        async with scope() as working:
            for n in range(4):
                working.spawn(work, n)

    def threads() -> None:
        lock = threading.Lock()

        def work(n: int) -> None:
            for _ in range(3):
                with lock:
                    say(f"{n} {uuid.uuid4()} {dt.datetime.now(dt.UTC)}")
                time.sleep(random.choice([0, 0.1]))

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(work, range(4)))

    def asyncios() -> None:
        async def work(name: str) -> str:
            await asyncio.sleep(random.random())
            return name

        async def main() -> None:
            done, pending = await asyncio.wait({asyncio.create_task(work(name)) for name in "abcdef"}, timeout=0.5)
            say([*(task.result() for task in done), len(pending)])
            for task in pending:
                task.cancel()
            say({name * 3 for name in "xyz"})

        asyncio.run(main())

    processes = [world.host(f"h{n}").start(program) for n, program in enumerate((service, threads, asyncios, service))]
    for process in processes:
        await process
    return log
