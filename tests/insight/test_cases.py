"""One program per hazard with one planted fault, and the one finding expected of it; and a load with no fault, and none.

Each file in `cases/` is such a program: its `main`, the line of the finding (marked `# <- found`), the thresholds it is watched with
(`WATCH`), and the runtimes that it makes sense on (`RUNTIMES`). The file's name begins with the hazard's.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bateau
from bateau import insight
from bateau.insight import hazards
from bateau.insight.hazards import store
from bateau.kernel.hazard import Finding

CASES = sorted((Path(__file__).parent / "cases").glob("*.py"))
MARK = "# <- found"
# Limits that no program here comes near, so that a machine that stands still for a while is no finding.
CALM = {hazard.name: 30.0 for hazard in hazards.LOOKED_FOR if hazard.unit == "seconds" and hazard.threshold} | {
    "scheduling_delay": 30.0
}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"case_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hazard_of(path: Path) -> str:
    return next(each.name for each in hazards.catalogue() if path.stem.startswith(each.name))


@pytest.fixture(autouse=True)
def log() -> Iterator[list[logging.LogRecord]]:
    """Findings go to the log, as in a program that has configured one, and are forgotten after the test."""
    records: list[logging.LogRecord] = []
    logger = logging.getLogger("bateau.hazards")
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    store.forget()
    yield records
    logger.removeHandler(handler)
    store.forget()


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


def runtime_of(name: str) -> Any:
    if name == "greedy":
        from bateau.runtimes.native import NativeRuntime

        return NativeRuntime(Greedy)
    return name


def watched(path: Path, runtime: str) -> list[Finding]:
    module = load(path)
    options = {**CALM, "every": 0.02, **getattr(module, "WATCH", {})}
    with insight.watch(**options):
        bateau.run(module.main, runtime=runtime_of(runtime))
    return insight.findings()


def pairs() -> Iterator[Any]:
    for path in CASES:
        for runtime in getattr(load(path), "RUNTIMES", ("native", "asyncio", "trio")):
            yield pytest.param(path, runtime, id=f"{path.stem}-{runtime}")


@pytest.mark.parametrize(("path", "on"), list(pairs()))
def test_the_planted_fault_is_found_and_nothing_else(path: Path, on: str, log: list[logging.LogRecord]) -> None:
    lines = [number for number, line in enumerate(path.read_text().splitlines(), 1) if line.endswith(MARK)]
    assert len(lines) == 1
    found = watched(path, on)
    assert [(each.name, each.filename, each.lineno) for each in found] == [(hazard_of(path), str(path), lines[0])]
    hazard = hazards.by_name(found[0].name)
    text = hazard.format(found[0])
    assert hazard.title in text and hazard.remedy in text and f"docs/hazards.md#{hazard.name}" in text
    assert f":{lines[0]}" in hazard.summary(found[0])


def test_every_hazard_has_a_case_or_tests_of_its_own() -> None:
    elsewhere = {
        "accept_starved": "tests/net/test_tcp.py",
        "callback_error": "tests/io/test_plumbing.py",
        "leftover_task": "tests/interop/test_leftovers.py",
        "lock_held_long": "tests/sync/test_lock.py",
        "never_waits": "tests/stories/test_s34_async_streams.py",
        "tee_alone": "tests/iter/test_sharing.py",
        "unclaimed_result": "tests/combine/test_race.py",
    }
    names = {hazard.name for hazard in hazards.catalogue()}
    assert names == {hazard_of(path) for path in CASES} | set(elsewhere)
    root = Path(__file__).parents[2]
    for name, path in elsewhere.items():
        assert name in (root / path).read_text()
