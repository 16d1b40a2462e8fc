"""The programs of tests/insight/cases: how they are loaded and run, here or in a child that stands still at its finding.

    python -m support.hazard_case PATH RUNTIME FOLDER

runs one under a flight recorder (in FOLDER) and the watcher. As soon as its finding is reported it says so on standard output, as JSON, and
stops itself (SIGSTOP): to be read from outside, and to be killed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import bateau
from bateau import insight
from bateau.insight import closed_world, hazards
from bateau.kernel import hazard

FOLDER = Path(__file__).parents[1] / "insight" / "cases"
CASES = sorted(FOLDER.glob("*.py"))
MARK = "# <- found"
# Limits that no program there comes near, so that a machine that stands still for a while is no finding.
CALM = {each.name: 30.0 for each in hazards.LOOKED_FOR if each.unit == "seconds" and each.threshold} | {
    "scheduling_delay": 30.0
}


class Greedy:
    """A scheduling policy that starves: the highest priority, always."""

    def __init__(self) -> None:
        self._ready: list[Any] = []

    def push(self, task: Any) -> None:
        self._ready.append(task)

    def pop(self) -> Any:
        best = max(self._ready, key=lambda task: task.priority)
        self._ready.remove(best)
        return best

    def __len__(self) -> int:
        return len(self._ready)


def load(path: Path) -> ModuleType:
    """The case at ``path``, as a module."""
    spec = importlib.util.spec_from_file_location(f"case_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hazard_of(path: Path) -> str:
    """The name of the hazard that a case is of: its file's name begins with it."""
    names = [each.name for each in hazards.catalogue() if path.stem.startswith(each.name)]
    return max(names, key=len)


def line_of(path: Path) -> int:
    """The line that is marked."""
    lines = [number for number, line in enumerate(path.read_text().splitlines(), 1) if line.endswith(MARK)]
    assert len(lines) == 1
    return lines[0]


def runtimes_of(path: Path) -> tuple[str, ...]:
    """The runtimes that a case makes sense on."""
    return getattr(load(path), "RUNTIMES", ("native", "asyncio", "trio"))


def run(path: Path, runtime: str) -> None:
    """Run a case with the watcher. ``plain``: by asyncio alone."""
    module = load(path)
    # The heap of a process with a whole test suite in it is larger than what is asked for in a program.
    patient = patch.multiple(closed_world, _BUDGET=math.inf, _SLOW=math.inf, _FIRST_REST=0.1)
    with patient, insight.watch(**{**CALM, "every": 0.02, **getattr(module, "WATCH", {})}):
        if runtime == "plain":
            asyncio.run(module.main())
            return
        chosen: Any = runtime
        if runtime == "greedy":
            from bateau.runtimes.native import NativeRuntime

            chosen = NativeRuntime(Greedy)
        bateau.run(module.main, runtime=chosen)


def main() -> None:
    path, runtime, folder = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

    def stop(finding: hazard.Finding) -> None:
        print(json.dumps([finding.name, finding.message, finding.filename, finding.lineno]), flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)

    with insight.record(folder):
        hazard.listeners.append(stop)  # behind the recorder's
        run(path, runtime)


if __name__ == "__main__":
    main()
