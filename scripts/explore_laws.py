"""Explore bateau's laws for as long as you like: ``python scripts/explore_laws.py --seeds 100000 --jobs 2 [PROGRAM ...]``.

Runs the programs of ``tests/sim/laws/programs.py`` under several strategies. The first failure of a program is shrunk and told.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "sim" / "laws"))

import programs  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]  # found by the line above

from bateau import sim


def main() -> int:
    """The exit status: 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="runs of each program and strategy (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--strategies", default="random,pct,pos", help="comma separated (default: random,pct,pos)")
    parser.add_argument("programs", nargs="*", help="names of programs (default: all)")
    args = parser.parse_args()
    found = 0
    for program in programs.PROGRAMS:
        if args.programs and program.__name__ not in args.programs:
            continue
        for strategy in args.strategies.split(","):
            began = time.perf_counter()
            seeds = range(args.first, args.first + args.seeds)
            jobs = args.jobs if strategy not in {"pct", "surw", "exhaustive"} else 1
            try:
                covered = sim.explore(program, seeds=seeds, strategy=strategy, jobs=jobs)
            except sim.Found as failure:
                found += 1
                print(f"{program.__name__} under {strategy}: FOUND\n{failure.story}\n")
            else:
                took = time.perf_counter() - began
                print(
                    f"{program.__name__} under {strategy}: {covered.runs} runs, {covered.steps} steps in {took:.1f} s"
                )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
