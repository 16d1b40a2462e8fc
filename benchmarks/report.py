"""Turns samples into tables: medians, spreads, and medians of same-round ratios; as text, Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import cast

from .model import Case, Workload
from .runner import Outcome, Plan, Sample

DISTURBED = 1.15
"""A case that never idles but took this much more wall than CPU time did not have its core for itself."""


@dataclass(frozen=True, slots=True)
class Row:
    """One system in one case. Times in nanoseconds per operation."""

    workload: str
    case: str
    system: str
    rounds: int
    operations: int
    cpu_ns: float
    spread: float
    """Half of (highest - lowest) CPU time, as a part of the median."""
    system_share: float
    """The part of the CPU time that was spent in the operating system."""
    wall_ns: float
    ratio: float | None
    """Median over the rounds of (this system's CPU time / the baseline's in the same round); None without a baseline."""
    disturbed: bool


def summarise(outcome: Outcome, plan: Plan, baseline: str) -> list[Row]:
    """All rows, in the plan's order."""
    by_cell: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in outcome.samples:
        by_cell.setdefault((sample.workload, sample.case, sample.system), []).append(sample)
    rows: list[Row] = []
    for workload in plan.workloads:
        for case in workload.cases:
            base = {s.round: s.cpu_ns for s in by_cell.get((workload.name, case.name, baseline), [])}
            for system in plan.systems:
                if samples := by_cell.get((workload.name, case.name, system.name)):
                    rows.append(_row(samples, case, base))
    return rows


def _row(samples: Sequence[Sample], case: Case, base: Mapping[int, float]) -> Row:
    first = samples[0]
    cpu = [s.cpu_ns for s in samples]
    ratios = [s.cpu_ns / base[s.round] for s in samples if s.round in base]
    used = sum(s.result.user + s.result.system for s in samples)
    return Row(
        workload=first.workload,
        case=first.case,
        system=first.system,
        rounds=len(samples),
        operations=first.operations,
        cpu_ns=median(cpu),
        spread=(max(cpu) - min(cpu)) / 2 / median(cpu),
        system_share=sum(s.result.system for s in samples) / used,
        wall_ns=median(s.wall_ns for s in samples),
        ratio=median(ratios) if ratios else None,
        disturbed=case.busy and median(s.wall_ns / s.cpu_ns for s in samples) > DISTURBED,
    )


def conditions() -> dict[str, object]:
    """What the figures depend on and a reader elsewhere cannot see."""
    versions: dict[str, str] = {}
    for package in ("bateau", "uvloop", "trio", "anyio"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": "python -m benchmarks " + shlex.join(sys.argv[1:]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "python_pgo": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "commit": _commit(),
        "versions": versions,
        # BATEAU_PURE and its like choose what is measured.
        "environment": {name: value for name, value in os.environ.items() if name.startswith("BATEAU_")},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _commit() -> str | None:
    """The commit that was measured, with "+" for uncommitted changes in the sources; None outside a checkout."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", ":/src", ":/benchmarks"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


HEADINGS = ("system", "CPU ns/op", "±", "× {baseline}", "wall ns/op", "ops/run")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.system,
        f"{'~' if row.disturbed else ''}{row.cpu_ns:,.0f}",
        f"{row.spread:.0%}",
        "-" if row.ratio is None else f"{row.ratio:.2f}",
        f"{row.wall_ns:,.0f}",
        f"{row.operations:,}",
    )


def _tables(rows: Sequence[Row], plan: Plan) -> list[tuple[str, list[Row]]]:
    """Title and rows of each case that has rows."""
    tables: list[tuple[str, list[Row]]] = []
    for workload in plan.workloads:
        for case in workload.cases:
            found = [row for row in rows if (row.workload, row.case) == (workload.name, case.name)]
            if found:
                tables.append((_title(workload, case, plan), found))
    return tables


def _title(workload: Workload, case: Case, plan: Plan) -> str:
    size = case.size(plan.quick)
    at_a_time = f", {size:,} at a time" if size else ""
    return f"{workload.name} / {case.name} (1 op = 1 {case.operation}{at_a_time})"


def text(rows: Sequence[Row], plan: Plan, baseline: str) -> str:
    """Aligned tables for a terminal."""
    headings = tuple(heading.format(baseline=baseline) for heading in HEADINGS)
    cells = {id(row): _cells(row) for row in rows}
    widths = [
        max([len(heading), *(len(cell[column]) for cell in cells.values())]) for column, heading in enumerate(headings)
    ]

    def line(parts: Sequence[str]) -> str:
        return "  ".join(
            part.rjust(width) if column else part.ljust(width)
            for column, (part, width) in enumerate(zip(parts, widths, strict=True))
        )

    out: list[str] = []
    for title, found in _tables(rows, plan):
        out += ["", title, line(headings), *(line(cells[id(row)]) for row in found)]
    return "\n".join(out[1:])


def markdown(rows: Sequence[Row], plan: Plan, baseline: str, outcome: Outcome, about: Mapping[str, object]) -> str:
    """The same as a page, with the command that made it and the conditions."""
    out = ["# Benchmark results", "", f"    {about['command']}", "", "| | |", "| --- | --- |"]
    out += [f"| {key} | {_plain(value)} |" for key, value in about.items() if key != "command"]
    out += [
        "",
        f"CPU time is user + system of the measured process, per operation: median of {plan.rounds} rounds, ± half the range.",
        f"`× {baseline}` is the median of the ratios within one round: below 1 is less CPU than {baseline}.",
        "`~`: the process did not have its core for itself. How to read on: `benchmarks/README.md`.",
    ]
    headings = [heading.format(baseline=baseline) for heading in HEADINGS]
    for title, found in _tables(rows, plan):
        out += ["", f"## {title}", "", f"| {' | '.join(headings)} |", "| --- |" + " ---: |" * (len(headings) - 1)]
        out += [f"| {' | '.join(_cells(row))} |" for row in found]
    if outcome.failures or outcome.left_out:
        out += ["", "## Not measured", "", *(f"- {what}" for what in outcome.left_out)]
        out += [f"- {'/'.join(cell)}: {why.splitlines()[-1]}" for cell, why in outcome.failures.items()]
    if outcome.interrupted:
        out += ["", "The run was interrupted; later rounds are missing."]
    return "\n".join(out) + "\n"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in cast("dict[str, str]", value).items())
    if isinstance(value, list):
        return ", ".join(f"{item:.2f}" for item in cast("list[float]", value))
    return str(value)


def as_json(rows: Sequence[Row], plan: Plan, baseline: str, outcome: Outcome, about: Mapping[str, object]) -> str:
    """Everything, every single sample included."""
    document = {
        "conditions": about,
        "rounds": plan.rounds,
        "target_cpu_seconds": plan.target,
        "quick": plan.quick,
        "baseline": baseline,
        "interrupted": outcome.interrupted,
        "rows": [asdict(row) for row in rows],
        "samples": [asdict(sample) for sample in outcome.samples],
        "left_out": outcome.left_out,
        "failures": [{"cell": list(cell), "reason": why} for cell, why in outcome.failures.items()],
    }
    return json.dumps(document, indent=1) + "\n"
