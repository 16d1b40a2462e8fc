"""Calibrates every measurement, then runs rounds of them, each in a fresh process.

Within a round each system runs every case once, and the systems of a case run right after one another, so that a drift of
the machine meets all of them alike. The order of the systems rotates from round to round.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from . import programs
from .model import Case, Workload
from .systems import System
from .worker import Request, Result

ROOT = Path(__file__).resolve().parent.parent

Key = tuple[str, str, str]
"""The names of workload, case and system."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure."""

    workload: Workload
    case: Case
    system: System

    @property
    def key(self) -> Key:
        return self.workload.name, self.case.name, self.system.name


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run and how long."""

    cells: Sequence[Cell]
    """In the order in which they are run and shown: the systems of a case follow one another."""
    rounds: int
    target: float
    """CPU seconds per measurement."""
    quick: bool
    pin: bool
    process_timeout: float = 180.0
    """Wall seconds after which a measuring process is killed and its measurement counts as failed."""

    def seconds(self) -> float:
        """About how long it will take, on a machine with nothing else to do: what starts and warm-ups add is from experience."""
        usual = 0.35 + 1.25 * self.target
        return sum(
            (c.case.lasts or usual + (c.case.size(self.quick) or 0) * 2e-5) * (self.rounds + c.case.calibrated)
            for c in self.cells
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One result of one round."""

    workload: str
    case: str
    system: str
    round: int
    result: Result

    @property
    def key(self) -> Key:
        return self.workload, self.case, self.system

    @property
    def operations(self) -> int:
        return self.result.operations

    @property
    def cpu_ns(self) -> float:
        """User + system CPU nanoseconds per operation."""
        return (self.result.user + self.result.system) / self.operations * 1e9

    @property
    def wall_ns(self) -> float:
        """Wall-clock nanoseconds per operation."""
        return self.result.wall / self.operations * 1e9

    @property
    def figure(self) -> float:
        """What the case is about: bytes per operation where it measures memory, else CPU nanoseconds."""
        return self.result.memory / self.operations if self.result.memory else self.cpu_ns


@dataclass(slots=True)
class Outcome:
    """All that a run has found, also when it was interrupted."""

    samples: list[Sample] = field(default_factory=list[Sample])
    failures: dict[Key, str] = field(default_factory=dict[Key, str])
    """Why (workload, case, system) has no figures."""
    left_out: list[str] = field(default_factory=list[str])
    """What could not even be tried here, and why."""
    seconds: float = 0.0
    """How long it took."""
    interrupted: bool = False


def missing_modules(system: System) -> list[str]:
    """The modules that the system needs and this Python has not."""
    return [name for name in system.requires if not _importable(name)]


def why_not(system: System) -> str:
    """Why the system can't be measured here; empty if it can."""
    if sys.version_info[:2] > system.until:
        return f"{', '.join(system.requires)} can't be imported by a Python after {'.'.join(map(str, system.until))}"
    if missing := missing_modules(system):
        hint = f" ({system.hint})" if system.hint else ""
        return f"no module {', '.join(missing)} in {sys.executable}{hint}"
    if system.native and (found := kernel()) != NATIVE_KERNEL:
        return f"the kernel in C is not in use here; it is {found}"
    return ""


NATIVE_KERNEL = "native (C)"


def kernel() -> str:
    """Which kernel bateau has chosen in this Python and environment, and why, in its own words."""
    from bateau.kernel import twin

    return twin.about()


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a parent package
        return False


def runnable(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """The cells that can be measured here, and one line for each reason for which others can't."""
    reasons: dict[str, None] = {}
    found: list[Cell] = []
    lacking: dict[str, str] = {}
    if programs.compiler() is None:
        lacking["c"] = "a C compiler on Linux (install gcc, or set CC)"
    for cell in cells:
        if why := why_not(cell.system):
            reasons[f"{cell.system.name}: {why}"] = None
        elif cell.case.programs and lacking:
            reasons[f"{cell.workload.name}/{cell.case.name}: needs {lacking['c']}"] = None
        elif absent := [tool for tool in cell.case.tools if shutil.which(tool) is None]:
            reasons[
                f"{cell.workload.name}/{cell.case.name}: no command {', '.join(absent)} (apt-get install {absent[0]})"
            ] = None
        else:
            found.append(cell)
    return found, list(reasons)


def cores(pin: bool) -> tuple[int | None, int | None]:
    """The core for the measured process and that for its load; None: leave it to the operating system."""
    if not pin or not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    # The first core serves most interrupts, so the measured process takes the last one.
    return allowed[-1], allowed[0]


def environment(directory: Path, client_cpu: int | None) -> dict[str, str]:
    """The environment of measured processes, but for what their system adds."""
    found = {**os.environ, programs.DIRECTORY: str(directory)}
    found.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # else what was installed has its byte code, and what is under development never
    if client_cpu is not None:
        found[programs.CLIENT_CPU] = str(client_cpu)
    return found


def ask(request: Request, system: System, environ: Mapping[str, str], timeout: float) -> Result:
    """Let a fresh process perform the request; raises RuntimeError with the reason if it cannot."""
    return Result(**json.loads(_worker([json.dumps(asdict(request))], system, environ, timeout)))


def check(system: System, cells: Sequence[Cell], environ: Mapping[str, str], timeout: float = 120.0) -> dict[str, str]:
    """Let a fresh process run each case once, tiny; returns what failed, by name. Raises RuntimeError if it says nothing."""
    names = json.dumps([(cell.workload.name, cell.case.name) for cell in cells])
    answer = _worker(["--check", system.name, names], system, environ, timeout)
    found: dict[str, str] = json.loads(answer)
    return found


def _worker(arguments: Sequence[str], system: System, environ: Mapping[str, str], timeout: float) -> str:
    """The last line that a measuring process writes; raises RuntimeError with its message if it fails."""
    command = [sys.executable, "-m", "benchmarks.worker", *arguments]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**environ, **system.environment}, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        # Its text= does not reach the partial output of a killed process: that is bytes.
        said = error.stderr.decode(errors="replace").strip() if isinstance(error.stderr, bytes) else ""
        raise RuntimeError(f"{said}\nno result after {timeout:.0f} s: killed".lstrip()) from None
    if done.returncode != 0 or not done.stdout.strip():
        raise RuntimeError(done.stderr.strip() or f"ended with status {done.returncode} and no message")
    return done.stdout.strip().splitlines()[-1]


def run(plan: Plan, progress: Callable[[str], None]) -> Outcome:
    """Carry out the plan. A failed measurement is recorded and not tried again; Ctrl-C returns what there is."""
    outcome = Outcome()
    cpu, client_cpu = cores(plan.pin)
    began = time.monotonic()
    needed = [name for cell in plan.cells for name in cell.case.programs]
    with programs.compiled(needed) as directory:
        environ = environment(directory, client_cpu)

        def measure(cell: Cell, request: Request, step: str) -> Result | None:
            if cell.key in outcome.failures:
                return None
            progress(f"{step} {'/'.join(cell.key)}")
            try:
                return ask(request, cell.system, environ, plan.process_timeout)
            except RuntimeError as error:
                outcome.failures[cell.key] = str(error)
                return None

        try:
            requests: dict[Key, Request] = {}
            for cell in plan.cells:
                request = Request(*cell.key, plan.quick, plan.target, cpu)
                if not cell.case.calibrated:
                    requests[cell.key] = replace(request, n=cell.case.size(plan.quick))
                elif found := measure(cell, request, "calibrate"):
                    requests[cell.key] = replace(request, n=found.n, repetitions=found.repetitions)
            for number in range(1, plan.rounds + 1):
                for cell in rotated(plan.cells, number):
                    if (request := requests.get(cell.key)) and (
                        result := measure(cell, request, f"round {number}/{plan.rounds}")
                    ):
                        outcome.samples.append(Sample(*cell.key, number, result))
        except KeyboardInterrupt:
            outcome.interrupted = True
    outcome.seconds = time.monotonic() - began
    return outcome


def rotated(cells: Sequence[Cell], by: int) -> Iterator[Cell]:
    """The cells, case by case, the systems of each case rotated."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.key[:2], []).append(cell)
    for group in groups.values():
        start = by % len(group)
        yield from group[start:]
        yield from group[:start]
