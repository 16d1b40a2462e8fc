"""What it costs a program to be seen: the same load bare, and under each tool, in processor time.

The load is a service without a network: 200 clients, each with a queue, ask a pool of 20 workers; a worker parses and writes 1 KiB of
JSON, and waits once for a timer in ten requests. It is written twice, for asyncio and for bateau, because each tool sees its own kind.

    python -m benchmarks.overheads [--rounds 5] [--requests 20000]

Each line is a process of its own; rounds take turns. A ratio is a tool's CPU time by that of the same program bare in the same round; the
median of the rounds is shown, and for tools that are processes of their own what they took beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager

CLIENTS = 200
WORKERS = 20
BODY = json.dumps({"id": 7, "tags": ["a", "b"], "rows": [{"n": n, "text": "x" * 20} for n in range(24)]})


def handle(body: str) -> str:
    """What a worker does with a request."""
    found = json.loads(body)
    found["id"] += 1
    return json.dumps(found)


async def asyncio_load(requests: int) -> None:
    """The load, in asyncio's words."""
    import asyncio

    jobs: asyncio.Queue[tuple[str, asyncio.Queue[str]]] = asyncio.Queue(64)

    async def client(count: int) -> None:
        answers: asyncio.Queue[str] = asyncio.Queue(1)
        for _ in range(count):
            await jobs.put((BODY, answers))
            await answers.get()

    async def worker() -> None:
        done = 0
        while True:
            body, answers = await jobs.get()
            done += 1
            if done % 10 == 0:
                await asyncio.sleep(0.001)
            await answers.put(handle(body))

    workers = [asyncio.create_task(worker()) for _ in range(WORKERS)]
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client(requests // CLIENTS))
    for one in workers:
        one.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def bateau_load(requests: int) -> None:
    """The load, in bateau's."""
    import bateau
    from bateau.channel import Sender, channel

    jobs, taken = channel[tuple[str, Sender[str]]](64)

    async def client(count: int) -> None:
        answer, answers = channel[str](1)
        async with answer, answers:
            for _ in range(count):
                await jobs.send((BODY, answer))
                await answers.recv()

    async def worker() -> None:
        done = 0
        async for body, answer in taken:
            done += 1
            if done % 10 == 0:
                await bateau.time.sleep(0.001)
            await answer.send(handle(body))

    async with jobs, taken, bateau.scope() as pool:
        for _ in range(WORKERS):
            pool.spawn(worker, background=True)
        async with bateau.scope() as clients:
            for _ in range(CLIENTS):
                clients.spawn(client, requests // CLIENTS)


# -- the tools: each is a block around the load, in its process --------------------------------------------------------------


@contextmanager
def nothing() -> Generator[None]:
    """Bare."""
    yield


@contextmanager
def under_viztracer() -> Generator[None]:
    """Every call, with tasks told apart."""
    from viztracer import VizTracer

    with tempfile.TemporaryDirectory() as folder:
        tracer = VizTracer(log_async=True, output_file=os.path.join(folder, "trace.json"), verbose=0)
        tracer.start()
        yield
        tracer.stop()


@contextmanager
def under_yappi() -> Generator[None]:
    """Every call, in processor time."""
    import yappi

    yappi.set_clock_type("cpu")
    yappi.start()
    yield
    yappi.stop()


@contextmanager
def recorded() -> Generator[None]:
    """The flight recorder alone."""
    from bateau.insight.recorder import recording

    with tempfile.TemporaryDirectory() as folder, recording.record(folder, fatal=False):
        yield


@contextmanager
def as_bateau_run() -> Generator[None]:
    """What ``bateau run`` starts: recorder, agent, and the watcher for hazards."""
    from bateau.insight import init
    from bateau.insight.watching import watch

    agent = init()
    with recorded(), watch():
        yield
    agent.close()


@contextmanager
def counted() -> Generator[None]:
    """And with the counters that a console asks for."""
    from bateau.insight.counting import count

    with as_bateau_run():
        stop = count()
        yield
        stop()


def run_asyncio(requests: int, *, debug: bool = False, monitor: bool = False) -> None:
    """On asyncio's own loop."""
    import asyncio

    async def main() -> None:
        with ExitStack() as stack:
            if monitor:
                import aiomonitor

                loop = asyncio.get_running_loop()
                stack.enter_context(
                    aiomonitor.start_monitor(loop, hook_task_factory=True, port=0, webui_port=0, console_enabled=False)
                )
            await asyncio_load(requests)

    asyncio.run(main(), debug=debug)


def run_bateau(requests: int) -> None:
    """On bateau's runtime."""
    import bateau

    bateau.run(bateau_load, requests, runtime="native")


Line = tuple[str, Callable[[int], None], Callable[[], AbstractContextManager[None]], str]
LINES: dict[str, Line] = {
    "asyncio": ("asyncio", run_asyncio, nothing, ""),
    "asyncio, debug mode": ("asyncio", lambda n: run_asyncio(n, debug=True), nothing, ""),
    "asyncio, aiomonitor": ("asyncio", lambda n: run_asyncio(n, monitor=True), nothing, "aiomonitor"),
    "asyncio, py-spy record": ("asyncio", run_asyncio, nothing, "py_spy"),
    "asyncio, yappi": ("asyncio", run_asyncio, under_yappi, "yappi"),
    "asyncio, viztracer": ("asyncio", run_asyncio, under_viztracer, "viztracer"),
    "bateau": ("bateau", run_bateau, nothing, ""),
    "bateau, flight recorder": ("bateau", run_bateau, recorded, ""),
    "bateau, as under bateau run": ("bateau", run_bateau, as_bateau_run, ""),
    "bateau, with a console's counters": ("bateau", run_bateau, counted, ""),
    "bateau, py-spy record": ("bateau", run_bateau, nothing, "py_spy"),
}


def measure(name: str, requests: int) -> None:
    """In the child: run the load under the tool, and print what it took."""
    _, run, tool, _ = LINES[name]
    run(requests // 20)  # imports, caches
    print("ready", flush=True)
    sys.stdin.readline()
    with tool():
        before = resource.getrusage(resource.RUSAGE_SELF)
        run(requests)
        after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, flush=True)


def child(name: str, requests: int) -> tuple[float, float]:
    """CPU seconds of the program, and of the tool beside it."""
    command = [sys.executable, "-m", "benchmarks.overheads", "--child", name, "--requests", str(requests)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        beside = 0.0
        with tempfile.TemporaryDirectory() as folder:
            sampler = None
            if LINES[name][3] == "py_spy":
                spy = shutil.which("py-spy", path=os.path.dirname(sys.executable)) or "py-spy"
                output = os.path.join(folder, "profile.txt")
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                sampler = subprocess.Popen(
                    [spy, "record", "--rate", "100", "--format", "raw", "--duration", "600", "-o", output, "--pid", str(program.pid)],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                time.sleep(1.0)
            program.stdin.write("go\n")
            program.stdin.flush()
            taken = float(program.stdout.readline())
            program.stdin.close()
            if sampler is not None:
                sampler.wait()
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                beside = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return taken, beside


def main() -> None:
    """All lines, in rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--child", choices=LINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.child, options.requests)
        return
    missing = {name for name, line in LINES.items() if line[3] and not _there(line[3])}
    for name in missing:
        print(f"left out, because {LINES[name][3]} is not installed: {name}")
    names = [name for name in LINES if name not in missing]
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(options.rounds):
        for at in range(len(names)):
            name = names[(at + number) % len(names)]
            samples[name].append(child(name, options.requests))
    print(f"{'':36}  us per request   × bare     beside it")
    for name in names:
        bare = samples[LINES[name][0]]
        ratios = [taken / plain for (taken, _), (plain, _) in zip(samples[name], bare, strict=True)]
        taken = statistics.median(one for one, _ in samples[name]) / options.requests * 1e6
        beside = statistics.median(one for _, one in samples[name]) / options.requests * 1e6
        aside = f"{beside:8.1f} us" if beside else ""
        print(f"{name:36}  {taken:14.1f}   {statistics.median(ratios):6.3f}  {aside}")


def _there(module: str) -> bool:
    return (
        shutil.which("py-spy", path=os.path.dirname(sys.executable)) is not None
        if module == "py_spy"
        else importlib.util.find_spec(module) is not None
    )


if __name__ == "__main__":
    main()
