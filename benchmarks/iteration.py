"""Asynchronous iteration beside its peers: a concurrent map, and a ten-step chain.

Each contender runs in a process of its own, in turns, and is used as its authors recommend. Printed are CPU time per item and peak
memory above that of the imports. All on asyncio's loop are beside each other on asyncio's loop; bateau's own runtime is beside a
worker pool written by hand on the same runtime.

    .venv/bin/python -m benchmarks.iteration [--items 100000] [--rounds 3] [--only map|chain]

`map`: an async function that lets others run once (`sleep(0)`), for 64 items at once, results in order, in a list.
`chain`: ten steps over a range (maps, filters, an enumeration, a slice), each a sync function, results in a list.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from importlib.util import find_spec
from itertools import islice
from typing import Any

AT_ONCE = 64

Run = Callable[[int], Awaitable[int]]

# -- map: what each system's user would write ------------------------------------------------------------------------------


async def work(item: int) -> int:
    """The function that is mapped, on asyncio."""
    await asyncio.sleep(0)
    return item + 1


async def map_worker_pool(items: int) -> int:
    """The floor: workers over one shared iterator."""
    source = enumerate(range(items))
    found = [0] * items

    async def worker() -> None:
        for index, item in source:
            found[index] = await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return len(found)


async def map_semaphore_gather(items: int) -> int:
    """What most people write."""
    semaphore = asyncio.Semaphore(AT_ONCE)

    async def limited(item: int) -> int:
        async with semaphore:
            return await work(item)

    return len(await asyncio.gather(*(limited(item) for item in range(items))))


async def map_task_group(items: int) -> int:
    """A task for each item, made when there is room."""
    semaphore = asyncio.Semaphore(AT_ONCE)
    tasks: list[asyncio.Task[int]] = []

    async def limited(item: int) -> int:
        try:
            return await work(item)
        finally:
            semaphore.release()

    async with asyncio.TaskGroup() as group:
        for item in range(items):
            await semaphore.acquire()
            tasks.append(group.create_task(limited(item)))
    return len([task.result() for task in tasks])


async def map_aiostream(items: int) -> int:
    """aiostream."""
    from aiostream import pipe, stream

    return len(await stream.list(stream.iterate(range(items)) | pipe.map(work, task_limit=AT_ONCE)))


async def map_streamable(items: int) -> int:
    """streamable."""
    from streamable import stream

    return len([item async for item in stream(range(items)).map(work, concurrency=AT_ONCE)])


async def map_anyio(items: int) -> int:
    """anyio's amap has no bound, so a limiter stands inside, as its documentation has it."""
    import anyio

    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def limited(item: int) -> int:
        async with limiter:
            return await work(item)

    return len(await anyio.amap(limited, range(items)))


async def map_bateau(items: int) -> int:
    """bateau on asyncio's loop."""
    import bateau

    return len(await bateau.iter(range(items)).map(work).buffered(AT_ONCE).collect())


async def _yielding(item: int) -> int:
    import bateau

    await bateau.yield_now()
    return item + 1


async def map_bateau_native(items: int) -> int:
    """bateau on its own runtime."""
    import bateau

    return len(await bateau.iter(range(items)).map(_yielding).buffered(AT_ONCE).collect())


async def map_pool_native(items: int) -> int:
    """The floor on bateau's own runtime."""
    import bateau

    source = enumerate(range(items))
    found = [0] * items

    async def worker() -> None:
        for index, item in source:
            found[index] = await _yielding(item)

    async with bateau.scope() as scope:
        for _ in range(AT_ONCE):
            scope.spawn(worker)
    return len(found)


# -- chain -----------------------------------------------------------------------------------------------------------------


def _add(item: int) -> int:
    return item + 1


def _double(item: int) -> int:
    return item * 2


def _some(item: int) -> bool:
    return item % 10 != 0


def _few(item: int) -> bool:
    return item % 7 != 0


def _second(pair: tuple[int, int]) -> int:
    return pair[1]


async def chain_plain(items: int) -> int:
    """The floor: Python's own iterators, which can't wait."""
    steps: Iterable[Any] = map(_add, map(_add, filter(_some, map(_add, range(items)))))
    steps = filter(_few, map(_double, map(_add, steps)))
    return len(list(islice(map(_add, map(_second, enumerate(steps))), items)))


async def chain_generators(items: int) -> int:
    """Async generators written by hand."""

    async def source() -> AsyncIterator[int]:
        for item in range(items):
            yield item

    async def mapped(fn: Callable[[Any], Any], it: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in it:
            yield fn(item)

    async def filtered(fn: Callable[[Any], bool], it: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in it:
            if fn(item):
                yield item

    async def numbered(it: AsyncIterator[Any]) -> AsyncIterator[tuple[int, Any]]:
        number = 0
        async for item in it:
            yield number, item
            number += 1

    steps = mapped(_add, mapped(_add, filtered(_some, mapped(_add, source()))))
    steps = filtered(_few, mapped(_double, mapped(_add, steps)))
    return len([item async for item in mapped(_add, mapped(_second, numbered(steps)))])


async def chain_aiostream(items: int) -> int:
    """aiostream."""
    from aiostream import pipe, stream

    steps: Any = stream.iterate(range(items)) | pipe.map(_add) | pipe.filter(_some) | pipe.map(_add) | pipe.map(_add)
    steps = steps | pipe.map(_add) | pipe.map(_double) | pipe.filter(_few) | pipe.enumerate()
    return len(await stream.list(steps | pipe.map(_second) | pipe.map(_add)))


async def chain_streamable(items: int) -> int:
    """streamable, iterated asynchronously. It has no enumerate: an iterator of its own numbers the items."""
    from itertools import count

    from streamable import stream

    number = count()
    steps = stream(range(items)).map(_add).filter(_some).map(_add).map(_add).map(_add).map(_double).filter(_few)
    pairs = steps.map(lambda item: (next(number), item))
    return len([item async for item in pairs.map(_second).map(_add)])


async def chain_bateau(items: int) -> int:
    """bateau, on any runtime."""
    import bateau

    steps = bateau.iter(range(items)).map(_add).filter(_some).map(_add).map(_add).map(_add).map(_double).filter(_few)
    return len(await steps.enumerate().map(_second).map(_add).collect())


# Each contender: what runs, on which runtime, and what must be installed.
CONTENDERS: dict[str, dict[str, tuple[Run, str, str]]] = {
    "map": {
        "asyncio: worker pool by hand": (map_worker_pool, "asyncio", "asyncio"),
        "asyncio: bateau buffered(64)": (map_bateau, "bateau-asyncio", "bateau"),
        "asyncio: semaphore and gather": (map_semaphore_gather, "asyncio", "asyncio"),
        "asyncio: semaphore and TaskGroup": (map_task_group, "asyncio", "asyncio"),
        "asyncio: aiostream": (map_aiostream, "asyncio", "aiostream"),
        "asyncio: streamable": (map_streamable, "asyncio", "streamable"),
        "asyncio: anyio.amap": (map_anyio, "asyncio", "anyio"),
        "native: worker pool by hand": (map_pool_native, "bateau-native", "bateau"),
        "native: bateau buffered(64)": (map_bateau_native, "bateau-native", "bateau"),
    },
    "chain": {
        "Python's own iterators": (chain_plain, "asyncio", "asyncio"),
        "asyncio: async generators by hand": (chain_generators, "asyncio", "asyncio"),
        "asyncio: bateau": (chain_bateau, "bateau-asyncio", "bateau"),
        "asyncio: aiostream": (chain_aiostream, "asyncio", "aiostream"),
        "asyncio: streamable": (chain_streamable, "asyncio", "streamable"),
        "native: bateau": (chain_bateau, "bateau-native", "bateau"),
    },
}


def measure(workload: str, name: str, items: int) -> None:
    """In a process of its own: print CPU seconds, peak KiB above the imports', and how many results there were."""
    run, runtime, _ = CONTENDERS[workload][name]

    async def program() -> tuple[float, int, int]:
        await run(100)  # imports, caches
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        count = await run(items)
        spent = time.process_time() - began
        return spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, count

    if runtime == "asyncio":
        result = asyncio.run(program())
    else:
        import bateau

        result = bateau.run(program, runtime=runtime.removeprefix("bateau-"))
    print(json.dumps(result))


def main() -> None:
    """Run everything in turns, and print a table for each workload."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=100_000, help="items in a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median is printed")
    parser.add_argument("--only", choices=sorted(CONTENDERS), help="one workload")
    parser.add_argument("--measure", nargs=2, metavar=("WORKLOAD", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure, options.items)
        return
    for workload, contenders in CONTENDERS.items():
        if options.only in (None, workload):
            table(workload, [name for name, (_, _, needs) in contenders.items() if find_spec(needs)], options)
            missing = [name for name, (_, _, needs) in contenders.items() if not find_spec(needs)]
            if missing:
                print(f"not installed: {', '.join(missing)}")


def table(workload: str, names: list[str], options: argparse.Namespace) -> None:
    """One workload's measurements."""
    spent: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, list[int]] = {name: [] for name in names}
    counts: set[int] = set()
    for _ in range(options.rounds):
        for name in names:
            command = [sys.executable, "-m", "benchmarks.iteration", "--items", str(options.items)]
            done = subprocess.run([*command, "--measure", workload, name], capture_output=True, text=True, check=True)
            seconds, kib, count = json.loads(done.stdout)
            spent[name].append(seconds / options.items * 1e6)
            memory[name].append(kib)
            counts.add(count)
    if len(counts) != 1:
        raise SystemExit(f"the contenders of {workload} do not agree on the result: {sorted(counts)}")
    print(f"\n{workload}, {options.items} items\n")
    print(f"| {'contender':34} | us of CPU per item | spread | x bateau on the same loop | peak MiB |")
    print(f"|{'-' * 36}|{'-' * 20}|{'-' * 8}|{'-' * 27}|{'-' * 10}|")
    for name in names:
        ours = (
            next(other for other in names if "bateau" in other and other[:6] == name[:6]) if ":" in name else names[2]
        )
        ratio = statistics.median(spent[name]) / statistics.median(spent[ours])
        middle, spread = statistics.median(spent[name]), max(spent[name]) - min(spent[name])
        print(f"| {name:34} | {middle:18.2f} | {spread:6.2f} | {ratio:25.2f} | {max(memory[name]) / 1024:8.1f} |")


if __name__ == "__main__":
    main()
