"""The digests of many simulated runs, in lines: what two kernels (or two versions of the simulator) are compared by.

    PYTHONHASHSEED=0 PYTHONPATH=src:tests .venv/bin/python -m support.sim_digests [--seeds 3] [NAME...]

The programs are those of the bug catalogue, of the explored laws, and some with sockets on several hosts. A line holds the program, the
strategy, the seed, the digest of the run, a checksum of all its answers and questions, and how it ended.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import bateau
from bateau import sim
from bateau.sim.doors import opened
from bateau.sim.running import one_run
from bateau.sim.strategy import by_name

from .bugs import catalogue

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

STRATEGIES = ("fifo", "random", "pct", "surw")
PORT = 7000


async def timeouts() -> None:
    """Timers set and cancelled by the hundred, so that husks are swept, with tasks that overtake them."""

    async def work(number: int) -> None:
        for turn in range(30):
            with bateau.move_on_after(0.05 + number * 0.01):
                await bateau.time.sleep(0.001 * turn * number)
            with bateau.move_on_after(1000):
                await bateau.yield_now()

    async with bateau.scope() as scope:
        for number in range(8):
            scope.spawn(work, number)


async def locks() -> None:
    """Every primitive, taken inside another: what gives way between two of them decides who has to wait."""
    places = [bateau.sync.Lock(name="a"), bateau.sync.Semaphore(1, name="b"), bateau.sync.Lock(name="c")]
    changed, done = bateau.sync.Condition(), bateau.sync.Event()

    async def work(number: int) -> None:
        for turn in range(4):
            async with places[(number + turn) % 3], places[(number + turn + 1) % 3]:
                await bateau.checkpoint()
            async with changed:
                changed.notify()
        done.set()

    async def watch() -> None:
        async with changed:
            await changed.wait()
        await done.wait()

    async with bateau.scope() as scope:
        scope.spawn(watch)
        for number in range(3):
            scope.spawn(work, number)


async def blocks() -> None:
    """Scopes that end in every way, with more steps between them than a budget has: what a block's end costs decides who gives way."""

    async def child(turns: int) -> None:
        for _ in range(turns):
            await bateau.yield_now()
        if turns == 2:
            raise ValueError

    async def work(number: int) -> None:
        for turn in range(12):
            try:
                async with bateau.scope() as scope:
                    for turns in range((number + turn) % 4):
                        scope.spawn(child, turns, background=turn == 7)
                    if turn % 3 == 0:
                        scope.defer(child, 0)
                    if turn % 5 == 4:
                        scope.cancel()
            except* ValueError:
                await bateau.checkpoint()
            for _ in range(number * 10):
                await bateau.checkpoint()

    async with bateau.scope() as scope:
        for number in range(4):
            scope.spawn(work, number)


async def _echo(stream: Any) -> None:
    while data := await stream.read(65536):
        await stream.write(data)


async def _serve() -> None:
    async with await bateau.net.listen_tcp("0.0.0.0", PORT) as listener:
        await bateau.net.serve(_echo, listener)


async def _exchange(number: int) -> None:
    async with await bateau.net.connect_tcp("server", PORT) as stream:
        for turn in range(8):
            await stream.write(bytes(1 + 700 * number * turn))
            missing = 1 + 700 * number * turn
            while missing:
                missing -= len(await stream.read(missing))


async def echo(world: sim.World) -> None:
    """Streams over a network, a server that is killed and started again."""
    process = world.host("server").start(_serve)
    await bateau.time.sleep(0.001)
    async with bateau.scope() as scope:
        for number in range(5):
            scope.spawn(_exchange, number)
    process.kill()
    world.host("server").start(_serve)
    await bateau.time.sleep(0.1)
    await _exchange(9)


async def _later(number: int) -> None:
    await bateau.time.sleep(number)
    await _exchange(number)


async def cut(world: sim.World) -> None:
    """The same while the network is cut and healed, and the clock of the server is fast."""
    world.host("server").clock.drift(1.25)
    world.host("server").start(_serve)
    world.at(1, world.partition, "test", "server")
    world.at(3, world.heal)
    await bateau.time.sleep(0.001)
    async with bateau.scope() as scope:
        for number in range(3):
            scope.spawn(_later, number)


def programs() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Name, scenario and options of each."""
    for own in (timeouts, locks, blocks, echo):
        yield own.__name__, own, {}
    yield "echo, faults", echo, {"faults": sim.Faults(split=0.2, retransmit=0.1, reset=0.01), "forgive": OSError}
    yield "cut", cut, {}
    from sim.laws.programs import PROGRAMS

    for program in PROGRAMS:
        yield f"law {program.__name__}", program, {}
    for entry in catalogue():
        for which in ("buggy", "mended"):
            yield f"{entry.name} {which}", getattr(entry, which), entry.bug.options


def lines(seeds: int, wanted: set[str]) -> Iterator[str]:
    """One for each run."""
    for name, program, options in programs():
        if wanted and name.partition(" ")[0] not in wanted:
            continue
        for strategy_name in STRATEGIES:
            strategy = by_name(strategy_name)
            for seed in range(seeds):
                strategy.begin(seed)
                run = one_run(program, seed=seed, strategy=strategy, **options)
                strategy.end(run)
                table = crc32(repr((sorted(run.asked.items()), sorted(run.choices.items()))).encode())
                error = type(run.error).__name__ if run.error is not None else "well"
                yield f"{name:30} {strategy_name:8} {seed} {run.digest} {table:08x} {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("names", nargs="*", help="first words of programs; all of them by default")
    options = parser.parse_args()
    with opened():
        for line in lines(options.seeds, set(options.names)):
            print(line)


if __name__ == "__main__":
    main()
