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
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .model import Case, Workload
from .systems import System
from .worker import Request, Result
from .workloads.tcp_echo import CLIENT_CPU_VARIABLE, CLIENT_VARIABLE

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run and how long."""

    workloads: Sequence[Workload]
    systems: Sequence[System]
    rounds: int
    target: float
    """CPU seconds per measurement."""
    quick: bool
    pin: bool
    process_timeout: float = 120.0
    """Wall seconds after which a measuring process is killed and its measurement counts as failed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One result of one round."""

    workload: str
    case: str
    system: str
    round: int
    result: Result

    @property
    def operations(self) -> int:
        return self.result.n * self.result.repetitions

    @property
    def cpu_ns(self) -> float:
        """User + system CPU nanoseconds per operation."""
        return (self.result.user + self.result.system) / self.operations * 1e9

    @property
    def wall_ns(self) -> float:
        """Wall-clock nanoseconds per operation."""
        return self.result.wall / self.operations * 1e9


@dataclass(slots=True)
class Outcome:
    """All that a run has found, also when it was interrupted."""

    samples: list[Sample] = field(default_factory=list[Sample])
    failures: dict[tuple[str, str, str], str] = field(default_factory=dict[tuple[str, str, str], str])
    """Why (workload, case, system) has no figures."""
    left_out: list[str] = field(default_factory=list[str])
    """What could not even be tried here, and why."""
    interrupted: bool = False


def missing_modules(system: System) -> list[str]:
    """The modules that the system needs and this Python has not."""
    return [name for name in system.requires if importlib.util.find_spec(name) is None]


def cores(pin: bool) -> tuple[int | None, int | None]:
    """The core for the measured process and that for the echo client; None: leave it to the operating system."""
    if not pin or not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    # The first core serves most interrupts, so the measured process takes the last one.
    return allowed[-1], allowed[0]


@contextmanager
def echo_client() -> Generator[Path | None]:
    """The compiled client of ``tcp_echo``, in a temporary directory; None where it cannot be compiled."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="bateau-bench-") as directory:
        program = Path(directory, "echo_client")
        source = Path(__file__).with_name("echo_client.c")
        subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True, timeout=120)
        yield program


def ask(request: Request, system: System, client: Path | None, client_cpu: int | None, timeout: float) -> Result:
    """Let a fresh process perform the request; raises RuntimeError with the reason if it cannot."""
    environment = {**os.environ, **system.environment}
    if client is not None:
        environment[CLIENT_VARIABLE] = str(client)
    if client_cpu is not None:
        environment[CLIENT_CPU_VARIABLE] = str(client_cpu)
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(request))]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        # Its text= does not reach the partial output of a killed process: that is bytes.
        said = error.stderr.decode(errors="replace").strip() if isinstance(error.stderr, bytes) else ""
        raise RuntimeError(f"{said}\nno result after {timeout:.0f} s: killed".lstrip()) from None
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or f"ended with status {done.returncode} and no message")
    return Result(**json.loads(done.stdout))


def run(plan: Plan, progress: Callable[[str], None]) -> Outcome:
    """Carry out the plan. A failed measurement is recorded and not tried again; Ctrl-C returns what there is."""
    outcome = Outcome()
    cpu, client_cpu = cores(plan.pin)
    with echo_client() as client:
        if client is None and any(workload.name == "tcp_echo" for workload in plan.workloads):
            outcome.left_out.append("tcp_echo: its client needs Linux and a C compiler (install gcc, or set CC)")
        cells = [
            (workload, case, system)
            for workload in plan.workloads
            if workload.name != "tcp_echo" or client is not None
            for case in workload.cases
            for system in plan.systems
            if workload.runs_on(case, system.family)
        ]

        def measure(request: Request, system: System, step: str) -> Result | None:
            cell = (request.workload, request.case, request.system)
            if cell in outcome.failures:
                return None
            progress(f"{step} {'/'.join(cell)}")
            try:
                return ask(request, system, client, client_cpu, plan.process_timeout)
            except RuntimeError as error:
                outcome.failures[cell] = str(error)
                return None

        try:
            requests: dict[tuple[str, str, str], Request] = {}
            for workload, case, system in cells:
                request = Request(workload.name, case.name, system.name, plan.quick, plan.target, cpu)
                if found := measure(request, system, "calibrate"):
                    cell = (workload.name, case.name, system.name)
                    requests[cell] = replace(request, n=found.n, repetitions=found.repetitions)
            for number in range(1, plan.rounds + 1):
                for workload, case, system in rotated(cells, number, len(plan.systems)):
                    cell = (workload.name, case.name, system.name)
                    if cell in requests and (
                        result := measure(requests[cell], system, f"round {number}/{plan.rounds}")
                    ):
                        outcome.samples.append(Sample(*cell, number, result))
        except KeyboardInterrupt:
            outcome.interrupted = True
    return outcome


def rotated(
    cells: Sequence[tuple[Workload, Case, System]], by: int, systems: int
) -> Iterator[tuple[Workload, Case, System]]:
    """The cells, case by case, the systems of each case rotated."""
    groups: dict[tuple[str, str], list[tuple[Workload, Case, System]]] = {}
    for cell in cells:
        groups.setdefault((cell[0].name, cell[1].name), []).append(cell)
    for group in groups.values():
        start = by % systems % len(group)
        yield from group[start:]
        yield from group[:start]
