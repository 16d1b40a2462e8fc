"""The published bound of PCT, measured: ``python -m benchmarks.pct``.

Programs with bugs of known depth run in simulated worlds, thousands of times each. PCT for that depth has to find the bug in at least
one of ``n * k ** (d - 1)`` runs (``n`` actors, ``k`` steps, ``d`` the depth: how many pairs of steps must come in a certain order). The
random walk stands beside it: it has no such bound, and it shows, where a bug needs one task to be held back while others go far.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bateau
from bateau.sim.doors import opened
from bateau.sim.running import one_run
from bateau.sim.strategy.base import Strategy
from bateau.sim.strategy.pct import Pct
from bateau.sim.strategy.random import Random
from bateau.sync import Lock
from bateau.time import sleep


@dataclass(frozen=True)
class Program:
    """A scenario that fails where its bug strikes. ``tasks`` counts main too."""

    name: str
    depth: int
    tasks: int
    scenario: Callable[[], Any]


async def steps(count: int) -> None:
    """Let the others run, so often."""
    for _ in range(count):
        await sleep(0)


def chain(depth: int, noise: int = 0, others: int = 0) -> Program:
    """Two tasks must take turns ``depth`` + 1 times; each step of the one that comes too early spoils it."""

    async def scenario() -> None:
        turn = 0

        async def player(me: int) -> None:
            nonlocal turn
            for mine in range(me, depth + 1, 2):
                await steps(noise)
                if turn == mine:
                    turn += 1
                await sleep(0)

        async with bateau.scope() as s:
            s.spawn(player, 1)
            s.spawn(player, 0)
            for _ in range(others):
                s.spawn(steps, noise)
        assert turn != depth + 1

    extras = ", ".join(
        text for text, count in ((f"{noise} steps between", noise), (f"{others} others", others)) if count
    )
    return Program(f"{depth + 1} turns" + (f" ({extras})" if extras else ""), depth, 3 + others, scenario)


def order_violation() -> Program:
    """The reader must come before the one that fills in, who has long begun."""

    async def scenario() -> None:
        value: list[int] = []

        async def fill() -> None:
            value.append(1)

        async def read() -> None:
            await steps(6)
            assert value

        async with bateau.scope() as s:
            s.spawn(fill)
            s.spawn(read)

    return Program("used before it is made", 1, 3, scenario)


def lost_update(others: int = 0) -> Program:
    """Two add to a counter, which is read and written in two steps, at different times of their lives."""

    async def scenario() -> None:
        count = 0

        async def add(before: int) -> None:
            nonlocal count
            await steps(before)
            seen = count
            await sleep(0)
            count = seen + 1

        async with bateau.scope() as s:
            s.spawn(add, 0)
            s.spawn(add, 6)
            for _ in range(others):
                s.spawn(steps, 4)
        assert count == 2

    return Program("lost update" + (f" ({others} others)" if others else ""), 2, 3 + others, scenario)


def two_locks() -> Program:
    """AB-BA, where one has finished long before the other begins."""

    async def scenario() -> None:
        first, second = Lock(), Lock()

        async def take(before: int, one: Lock, other: Lock) -> None:
            await steps(before)
            async with one:
                await sleep(0)
                async with other:
                    pass

        async with bateau.scope() as s:
            s.spawn(take, 0, first, second)
            s.spawn(take, 5, second, first)

    return Program("two locks in two orders", 2, 3, scenario)


PROGRAMS = (
    order_violation(), chain(1), chain(1, 3, 4), lost_update(), lost_update(3), two_locks(), chain(2, 1), chain(2, 2, 3), chain(3),
    chain(3, 1), chain(4),
)  # fmt: skip


def measure(strategy: Strategy, program: Program, runs: int) -> tuple[float, int]:
    """How often the bug was found, as a part of the runs; and the most steps a run had."""
    strategy.yields = 0.0  # as in the paper: nothing but the order of steps
    found = longest = 0
    with opened():
        for seed in range(runs):
            strategy.begin(seed)
            run = one_run(program.scenario, seed=seed, strategy=strategy)
            strategy.end(run)
            found += run.failed
            longest = max(longest, run.steps)
    return found / runs, longest


def main() -> int:
    """Print the table. Returns 1 if a bound does not hold (three standard deviations allowed)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pct", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=4000, metavar="N", help="runs per cell, at least (default 4000)")
    parser.add_argument(
        "--hits", type=int, default=12, metavar="N", help="as many more as the bound needs for N hits (12)"
    )
    options = parser.parse_args()
    broken = 0
    print(f"{'program':<36} {'d':>2} {'n':>3} {'k':>4} {'bound':>9} {'PCT':>9} {'random':>9} {'runs':>7}")
    for program in PROGRAMS:
        strategy = Pct(program.depth, waits=0)
        _, k = measure(strategy, program, 20)
        bound = 1 / (program.tasks * k ** (program.depth - 1))
        runs = max(options.runs, math.ceil(options.hits / bound))
        share, longest = measure(strategy, program, runs)
        bound = 1 / (program.tasks * longest ** (program.depth - 1))
        walk, _ = measure(Random(waits=0), program, runs)
        holds = share >= bound - 3 * math.sqrt(bound * (1 - bound) / runs)
        broken += not holds
        print(
            f"{program.name:<36} {program.depth:>2} {program.tasks:>3} {longest:>4} {bound:>9.5f} {share:>9.5f} {walk:>9.5f} {runs:>7}"
            + ("" if holds else "   BELOW THE BOUND"),
            flush=True,
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
