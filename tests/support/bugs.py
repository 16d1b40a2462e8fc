"""What a file of the bug catalogue (tests/sim/bugs) says about itself; `test_catalogue.py` there holds it to its word.

Each file has `buggy` and `mended`, two scenarios for `bateau.sim`, and a `BUG`. The lines that the explanation of the failure must
name carry the comment `# <- named`. How often a bug is found is measured, on as many seeds as wanted, by

    PYTHONPATH=tests .venv/bin/python -m support.bugs [--seeds 500] [NAME...]
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

MARK = "# <- named"
DIRECTORY = Path(__file__).resolve().parent.parent / "sim" / "bugs"


@dataclass(frozen=True)
class Bug:
    """How a bug is found.

    `seeds`: the number of runs within which `strategy` finds it, measured over many seeds and rounded up with reserve.
    `error`: the name of the class of the failure, or of a base of it; `says`: words that its message contains. `options` go to the exploration, as they are.
    `explore` replaces `sim.explore` where another search is meant: called with the scenario and the options, it raises `sim.Found`;
    such a search needs no seeds. `shrinks_to`: at most so many choices are left in the token after shrinking. `proof`: the exhaustive
    search ends within so many runs, with reserve: it finds the bug, and proves the mended twin to be free of it in every order.
    """

    seeds: int
    strategy: str = "random"
    error: str = "AssertionError"
    says: str = ""
    shrinks_to: int = 5
    options: dict[str, Any] = field(default_factory=dict)
    explore: Callable[..., Any] | None = None
    proof: int | None = None


@dataclass(frozen=True)
class Entry:
    """A file of the catalogue, loaded."""

    name: str
    path: Path
    module: ModuleType

    @property
    def bug(self) -> Bug:
        return self.module.BUG

    @property
    def doc(self) -> str:
        return self.module.__doc__ or ""

    @property
    def buggy(self) -> Callable[..., Any]:
        return self.module.buggy

    @property
    def mended(self) -> Callable[..., Any]:
        return self.module.mended

    @property
    def named(self) -> list[int]:
        """The numbers of the lines that the explanation must name."""
        lines = self.path.read_text().splitlines()
        return [number for number, line in enumerate(lines, 1) if line.rstrip().endswith(MARK)]

    def explore(self, scenario: Callable[..., Any], *, seeds: int | Iterable[int] | None = None, **options: Any) -> Any:
        """The exploration that the bug asks for, of its buggy or its mended scenario."""
        from bateau import sim

        if self.bug.explore is not None:
            return self.bug.explore(scenario, **{**self.bug.options, **options})
        seeds = self.bug.seeds if seeds is None else seeds
        return sim.explore(scenario, seeds=seeds, strategy=self.bug.strategy, **{**self.bug.options, **options})


def leaf(error: BaseException | None) -> BaseException | None:
    """The first error in a group, and what a simulated process failed with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if type(error).__name__ == "ProcessFailed":
        return leaf(error.__cause__)
    return error


def load(path: Path) -> Entry | None:
    """The entry in that file, or None where there is none."""
    if "BUG = " not in path.read_text():
        return None
    name = f"bugs_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Entry(path.stem, path, module)


def catalogue(names: Iterable[str] = ()) -> list[Entry]:
    """The entries of these names, or every one."""
    wanted = set(names)
    paths = [path for path in sorted(DIRECTORY.glob("*.py")) if not path.stem.startswith("test_")]
    found = (load(path) for path in paths if not wanted or path.stem in wanted)
    return [entry for entry in found if entry is not None]


def rate(entry: Entry, seeds: int) -> tuple[int, int]:
    """How many of so many seeds find it, and the first that does (-1: none). All have one strategy object, as in an exploration."""
    from bateau.sim.exploring import opened
    from bateau.sim.running import one_run
    from bateau.sim.strategy import by_name

    hits, first, strategy = 0, -1, by_name(entry.bug.strategy)
    with opened():
        for seed in range(seeds):
            strategy.begin(seed)
            run = one_run(entry.buggy, seed=seed, strategy=strategy, **entry.bug.options)
            strategy.end(run)
            if run.failed:
                hits += 1
                first = seed if first < 0 else first
    return hits, first


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How often each bug of the catalogue is found, and the seeds it then needs."
    )
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    for entry in catalogue(options.names):
        if entry.bug.explore is not None:
            print(f"{entry.name:24} searches by itself")
            continue
        began = time.perf_counter()
        hits, first = rate(entry, options.seeds)
        share = hits / options.seeds
        # So many seeds miss it with a probability of 1 in 10,000.
        needed = 1 if share == 1 else math.ceil(math.log(1e-4) / math.log(1 - share)) if hits else 0
        each = (time.perf_counter() - began) / options.seeds * 1e3
        print(
            f"{entry.name:24} {entry.bug.strategy:10} {share:6.1%}  first {first:4}  1e-4: {needed:5}  says {entry.bug.seeds:5}  {each:6.1f} ms/seed"
        )


if __name__ == "__main__":
    main()
