"""Simulators side by side: how many steps they make in a second, and how many simulated seconds in a real one.

The peers, detangle and simloom, run asyncio programs; bateau runs the same program written with its own library, and the very same
asyncio program as well. Each (workload, system) of each round is a fresh process, in turns that rotate; printed are medians of CPU
time. All explore with their random strategy, a new seed for each run, without shrinking and without a trace for people.

    .venv/bin/python -m benchmarks.simulation [--only switch,queue,...] [--rounds 5] [--output results.md]

* `switch`: 100 tasks that let each other run (`sleep(0)`), 200 times each. An operation is one such yield.
* `queue`: 50 producers and 50 consumers at one queue with ten places. An operation is one item put and got.
* `sleepers`: 1,000 tasks that sleep between 30 and 90 seconds again and again, for an hour of virtual time (59,000 wake-ups).
* `echo`: a client with ten connections to a server on another host, 64 bytes there and back, over the simulated network.

Mind: what is a step differs (detangle and simloom schedule each callback of asyncio's loop, bateau each task), so operations are
counted, which are the same for all. simloom always keeps a log of every event and can't run in production's order; it needs Python
3.12, so a comparison of all is made there (`.venv-3.12/bin/python -m benchmarks.simulation`). `asyncio` and `bateau native` in real
time, without any simulation, are printed beneath as a limit. A peer that isn't installed, or has no such thing, is said to be so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio  # elsewhere only where it is used: bateau's own loop is measured without it

ROOT = Path(__file__).resolve().parent.parent

TASKS, YIELDS = 100, 200
PAIRS, ITEMS, PLACES = 50, 100, 10
SLEEPERS, HOUR = 1000, 3600.0
CONNECTIONS, ROUND_TRIPS, SIZE, PORT = 10, 50, 64, 7000

Program = Callable[..., Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Workload:
    """What is done in one run, and how often that is measured."""

    name: str
    operation: str
    operations: int
    runs: int


def nap(number: int) -> float:
    """Seconds that a sleeper sleeps at a time: all different, so that no two wake together by design."""
    return 30.0 + 60.0 * number / SLEEPERS


WORKLOADS = {
    each.name: each
    for each in (
        Workload("switch", "yield", TASKS * YIELDS, 5),
        Workload("queue", "item", PAIRS * ITEMS, 5),
        Workload("sleepers", "wake-up", sum(int(HOUR // nap(number)) for number in range(SLEEPERS)), 1),
        Workload("echo", "round trip", CONNECTIONS * ROUND_TRIPS, 5),
    )
}

# -- asyncio's programs, for the peers and for bateau alike ----------------------------------------------------------------


def asyncio_switch() -> Program:
    import asyncio

    async def work() -> None:
        for _ in range(YIELDS):
            await asyncio.sleep(0)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(work())

    return main


def asyncio_queue() -> Program:
    import asyncio

    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(PLACES)

        async def produce() -> None:
            for item in range(ITEMS):
                await queue.put(item)

        async def consume() -> None:
            for _ in range(ITEMS):
                await queue.get()

        async with asyncio.TaskGroup() as group:
            for _ in range(PAIRS):
                group.create_task(produce())
                group.create_task(consume())

    return main


def asyncio_sleepers() -> Program:
    import asyncio

    async def main() -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + HOUR

        async def sleeper(seconds: float) -> None:
            while loop.time() + seconds <= end:
                await asyncio.sleep(seconds)

        async with asyncio.TaskGroup() as group:
            for number in range(SLEEPERS):
                group.create_task(sleeper(nap(number)))
            group.create_task(sleeper(HOUR))

    return main


async def asyncio_client(host: str) -> None:
    import asyncio

    async def exchange() -> None:
        reader, writer = await asyncio.open_connection(host, PORT)
        for _ in range(ROUND_TRIPS):
            writer.write(bytes(SIZE))
            await writer.drain()
            await reader.readexactly(SIZE)
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(exchange())
    await asyncio.sleep(1)  # the server hears of the last end too: its handlers aren't cut off


async def asyncio_server(host: str) -> asyncio.Server:
    import asyncio

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(echo, host, PORT)


async def asyncio_serving(host: str) -> None:
    """As a process's main program, which the listener would not outlive."""
    async with await asyncio_server(host) as server:
        await server.serve_forever()


ASYNCIO = {"switch": asyncio_switch, "queue": asyncio_queue, "sleepers": asyncio_sleepers}

# -- bateau's own programs -------------------------------------------------------------------------------------------------


def bateau_switch() -> Program:
    import bateau

    async def work() -> None:
        for _ in range(YIELDS):
            await bateau.yield_now()

    async def main() -> None:
        async with bateau.scope() as scope:
            for _ in range(TASKS):
                scope.spawn(work)

    return main


def bateau_queue() -> Program:
    import bateau
    from bateau.channel import channel

    async def main() -> None:
        sender, receiver = channel[int](PLACES)

        async def produce() -> None:
            for item in range(ITEMS):
                await sender.send(item)

        async def consume() -> None:
            for _ in range(ITEMS):
                await receiver.recv()

        async with bateau.scope() as scope:
            for _ in range(PAIRS):
                scope.spawn(produce)
                scope.spawn(consume)

    return main


def bateau_sleepers() -> Program:
    import bateau

    async def main() -> None:
        end = bateau.now() + HOUR

        async def sleeper(seconds: float) -> None:
            while bateau.now() + seconds <= end:
                await bateau.time.sleep(seconds)

        async with bateau.scope() as scope:
            for number in range(SLEEPERS):
                scope.spawn(sleeper, nap(number))
            scope.spawn(sleeper, HOUR)

    return main


async def bateau_client(host: str) -> None:
    import bateau

    async def exchange() -> None:
        async with await bateau.net.connect_tcp(host, PORT) as stream:
            for _ in range(ROUND_TRIPS):
                await stream.write(bytes(SIZE))
                missing = SIZE
                while missing:
                    missing -= len(await stream.read(missing))

    async with bateau.scope() as scope:
        for _ in range(CONNECTIONS):
            scope.spawn(exchange)


async def bateau_server() -> None:
    import bateau

    async def echo(stream: Any) -> None:
        while data := await stream.read(65536):
            await stream.write(data)

    async with await bateau.net.listen_tcp("0.0.0.0", PORT) as listener:
        await bateau.net.serve(echo, listener)


BATEAU = {"switch": bateau_switch, "queue": bateau_queue, "sleepers": bateau_sleepers}

# -- the systems -----------------------------------------------------------------------------------------------------------

Start = Callable[[int], object]
"""Runs the workload so often, with other seeds each time."""


def under_detangle(workload: str) -> Start:
    import detangle

    async def echo() -> None:
        await detangle.spawn(asyncio_server("server"), host="server")
        await asyncio_client("server")

    program = echo if workload == "echo" else ASYNCIO[workload]()
    return lambda runs: detangle.explore(
        program, runs=runs, strategy="random", seed=1, shrink=False, database=False, max_steps=10**9
    )


def under_simloom(workload: str) -> Start:
    import simloom

    async def echo(world: Any) -> None:
        world.host("server").spawn(lambda: asyncio_server("server"))
        await world.sleep(0.001)  # a client that comes first is refused
        await asyncio_client("server")

    program = echo if workload == "echo" else ASYNCIO[workload]()

    def start(runs: int) -> None:
        found = simloom.explore(program, runs=runs, scheduler="random")
        if found.failed:
            raise RuntimeError(found.summary())

    return start


def under_bateau(workload: str) -> Start:
    import bateau
    from bateau import sim

    async def echo(world: Any) -> None:
        world.host("server").start(bateau_server)
        await bateau.time.sleep(0.001)
        await bateau_client("server")

    program = echo if workload == "echo" else BATEAU[workload]()
    return lambda runs: sim.explore(program, seeds=runs, strategy="random", shrink=False, max_steps=10**9)


def under_bateau_asyncio(workload: str) -> Start:
    import bateau
    from bateau import sim

    async def echo(world: Any) -> None:
        world.host("server").start(asyncio_serving, "0.0.0.0")
        await bateau.time.sleep(0.001)
        await asyncio_client("server")

    program = echo if workload == "echo" else ASYNCIO[workload]()
    return lambda runs: sim.explore(program, seeds=runs, strategy="random", shrink=False, max_steps=10**9)


def repeated(run: Callable[[], object]) -> Start:
    """A start that has no seeds."""

    def start(runs: int) -> None:
        for _ in range(runs):
            run()

    return start


def really_asyncio(workload: str) -> Start:
    import asyncio

    program = ASYNCIO[workload]()
    return repeated(lambda: asyncio.run(program()))


def really_bateau(workload: str) -> Start:
    import bateau

    program = BATEAU[workload]()
    return repeated(lambda: bateau.run(program, runtime="native"))


EVERYTHING = tuple(WORKLOADS)
IN_REAL_TIME = ("switch", "queue")  # nobody measures an hour's sleep


@dataclass(frozen=True)
class System:
    """One row of the tables."""

    make: Callable[[str], Start]
    needs: str
    workloads: tuple[str, ...] = EVERYTHING


SYSTEMS = {
    "bateau": System(under_bateau, "bateau.sim"),
    "bateau, asyncio code": System(under_bateau_asyncio, "bateau.sim"),
    "detangle": System(under_detangle, "detangle"),
    "simloom": System(under_simloom, "simloom"),
    "(real) asyncio": System(really_asyncio, "asyncio", IN_REAL_TIME),
    "(real) bateau native": System(really_bateau, "bateau", IN_REAL_TIME),
}
PEERS = ("detangle", "simloom")


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(system: str, workload: str) -> float:
    """Seconds of CPU for one run, in this process; one run before it is not counted."""
    if hasattr(
        os, "sched_setaffinity"
    ):  # as `python -m benchmarks` does: nobody is moved from core to core in the middle
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    start = SYSTEMS[system].make(workload)
    start(1)
    runs = WORKLOADS[workload].runs
    began = cpu()
    start(runs)
    return (cpu() - began) / runs


def available(names: list[str]) -> tuple[list[str], list[str]]:
    """Which of these can run here, and why the others can't."""
    found, missing = [], []
    for name in names:
        needs = SYSTEMS[name].needs
        try:
            there = find_spec(needs) is not None
        except ModuleNotFoundError:
            there = False
        if there:
            found.append(name)
        else:
            missing.append(f"{name} is not measured: no module {needs} for Python {platform.python_version()}")
    return found, missing


def table(workload: Workload, samples: dict[str, list[float]], failures: dict[tuple[str, str], str]) -> list[str]:
    """One workload's rows, in Markdown."""
    simulated = workload.name == "sleepers"
    unit = "simulated s per real s" if simulated else f"{workload.operation}s per second"
    lines = [
        f"### {workload.name} ({workload.operations:,} {workload.operation}s in a run)",
        "",
        f"| system | CPU us per {workload.operation} | ± | {unit} | speed × the faster peer |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    peers = [samples[name] for name in PEERS if samples.get(name)]
    for name, system in SYSTEMS.items():
        times = samples.get(name)
        if times:
            middle = statistics.median(times)
            spread = (max(times) - min(times)) / 2 / middle
            rate = HOUR / middle if simulated else workload.operations / middle
            ratio = "–"
            if peers:
                best = [min(each) for each in zip(*peers, strict=True)]
                ratio = f"{statistics.median(peer / own for peer, own in zip(best, times, strict=True)):.2f}"
            each = middle / workload.operations * 1e6
            lines.append(f"| {name} | {each:.2f} | {spread:.0%} | {rate:,.0f} | {ratio} |")
        elif (name, workload.name) in failures:
            lines.append(f"| {name} | failed | – | – | – |")
        elif workload.name not in system.workloads:
            lines.append(f"| {name} | no such thing | – | – | – |")
    return [*lines, ""]


def ask(system: str, workload: str) -> float:
    """The figure from a fresh process; raises RuntimeError with what it said if it failed."""
    command = [sys.executable, "-m", "benchmarks.simulation", "--one", system, workload]
    # What the simulators would otherwise arrange by starting themselves anew, the same for all.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        raise RuntimeError("no result after 600 s") from None
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"ended with status {done.returncode}")
    return float(json.loads(done.stdout))


def about() -> str:
    """The conditions, for whoever quotes a figure."""
    versions = []
    for name in ("bateau", *PEERS):
        if find_spec(name):
            versions.append(f"{name} {version(name)}")
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {', '.join(versions)}"


def names(choices: dict[str, Any]) -> Callable[[str], list[str]]:
    """An argument that lists some of them."""

    def parse(text: str) -> list[str]:
        found = [name.strip() for name in text.split(";" if ";" in text else ",")]
        unknown = [name for name in found if name not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; choose from {'; '.join(choices)}")
        return found

    return parse


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=names(WORKLOADS), default=list(WORKLOADS), help="workloads, separated by commas")
    parser.add_argument(
        "--systems", type=names(SYSTEMS), default=list(SYSTEMS), help="systems, separated by semicolons"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds; medians are printed")
    parser.add_argument("--output", type=Path, help="write the tables there as well (Markdown)")
    parser.add_argument("--one", nargs=2, metavar=("SYSTEM", "WORKLOAD"), help="measure only this, in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return 0
    systems, missing = available(options.systems)
    samples: dict[str, dict[str, list[float]]] = {name: {} for name in options.only}
    failures: dict[tuple[str, str], str] = {}
    for number in range(options.rounds):
        for workload in options.only:
            turn = number % len(systems)
            for system in systems[turn:] + systems[:turn]:
                if (system, workload) in failures or workload not in SYSTEMS[system].workloads:
                    continue
                try:
                    samples[workload].setdefault(system, []).append(ask(system, workload))
                except RuntimeError as error:
                    failures[system, workload] = str(error)
                    samples[workload].pop(system, None)
    lines = [about(), ""]
    for workload in options.only:
        lines += table(WORKLOADS[workload], samples[workload], failures)
    lines += missing
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for (system, workload), why in failures.items():
        print(f"\n{system}, {workload}: {why}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
