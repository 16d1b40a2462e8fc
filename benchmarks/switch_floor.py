"""What a switch costs beyond the interpreter: bateau's tasks beside bare coroutines that a loop in C resumes in turns.

The floor (``c/resume.c``) has no queue, no tasks, no cancellation: it resumes one coroutine after the other, and each awaits the least
awaitable that there can be. What Python's own loop, the call that makes the awaitable, and the coroutines on the way to it cost is in
both. ``deep`` is how many coroutines await each other above the awaitable: in the benchmark's rows ``1000_tasks`` two, ``one_task`` four.
In contexts: each coroutine is resumed in a context of its own, as asyncio does it.

    .venv/bin/python -m benchmarks.switch_floor [--rounds 15] [--tasks 1000]

The best of many short rounds, in turns, in nanoseconds of CPU time per switch. Needs a C compiler and Python's headers.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from pathlib import Path
from time import process_time
from typing import Any

import bateau

SWITCHES = 100_000  # per round
DEPTHS = (1, 2, 4)
Await = Callable[[], Awaitable[None]]


def load_floor(folder: str) -> Any:
    """The module of ``c/resume.c``, compiled into ``folder``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("this needs a C compiler (install gcc)")
    target = Path(folder, "resume" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so"))
    source = Path(__file__).with_name("c") / "resume.c"
    include = sysconfig.get_path("include")
    subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-I", include, "-o", target, source], check=True, timeout=120)
    spec = importlib.util.spec_from_file_location("resume", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def _yields(give_way: Await, deep: int, count: int) -> None:
    if deep > 1:
        await _yields(give_way, deep - 1, count)
    else:
        for _ in range(count):
            await give_way()


def bare(floor: Any, deep: int, tasks: int, in_contexts: bool) -> float:
    """Seconds of one round of the floor."""
    count = SWITCHES // tasks
    coroutines: list[Coroutine[Any, Any, None]] = [_yields(floor.once, deep, count) for _ in range(tasks)]
    contexts: list[Context] | None = [copy_context() for _ in range(tasks)] if in_contexts else None
    began = process_time()
    floor.drive(coroutines, contexts)
    return process_time() - began


async def spawned(deep: int, tasks: int) -> float:
    """Seconds of one round of bateau's."""
    async with bateau.scope() as scope:
        for _ in range(tasks):
            scope.spawn(_yields, bateau.yield_now, deep, SWITCHES // tasks)
        began = process_time()
    return process_time() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.switch_floor", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bateau-floor-") as folder:
        floor = load_floor(folder)
        print(f"ns per switch, {options.tasks} tasks     floor   in contexts   bateau")
        for deep in DEPTHS:
            best = [float("inf")] * 3
            for _ in range(options.rounds):
                seconds = (
                    bare(floor, deep, options.tasks, False),
                    bare(floor, deep, options.tasks, True),
                    bateau.run(spawned, deep, options.tasks),
                )
                best = [min(pair) for pair in zip(best, seconds, strict=True)]
            best = [spent / SWITCHES * 1e9 for spent in best]
            print(f"{deep} deep                  {best[0]:11.1f} {best[1]:11.1f} {best[2]:11.1f}")


if __name__ == "__main__":
    main()
