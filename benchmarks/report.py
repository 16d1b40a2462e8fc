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

from .model import Case
from .runner import Cell, Key, Outcome, Plan, Sample, kernel

PACKAGES = ("bateau", "uvloop", "rloop", "rsloop", "zuvloop", "trio", "curio", "anyio", "caio", "uvicorn", "httptools")
DISTURBED = 1.15
"""A case that never idles but took this much more wall than CPU time did not have its core for itself."""


@dataclass(frozen=True, slots=True)
class Row:
    """One system in one case: its CPU time in nanoseconds per operation, or its memory in bytes, as the unit says."""

    workload: str
    case: str
    system: str
    rounds: int
    operations: int
    unit: str
    figure: float
    spread: float
    """Half of (highest - lowest), as a part of the median."""
    system_share: float
    """The part of the CPU time that was spent in the operating system."""
    wall_ns: float
    ratio: float | None
    """Median over the rounds of (this system's figure / the baseline's in the same round); None without a baseline."""
    disturbed: bool
    note: str
    """What the run with the median figure had to say."""


def by_cell(samples: Sequence[Sample]) -> dict[Key, list[Sample]]:
    """The samples of each (workload, case, system), in the order of the rounds."""
    found: dict[Key, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.key, []).append(sample)
    return found


def summarise(outcome: Outcome, plan: Plan, baseline: str) -> list[Row]:
    """All rows, in the plan's order."""
    found = by_cell(outcome.samples)
    rows: list[Row] = []
    for cell in plan.cells:
        if samples := found.get(cell.key):
            base = {s.round: s.figure for s in found.get((cell.workload.name, cell.case.name, baseline), [])}
            rows.append(_row(samples, cell.case, base))
    return rows


def _row(samples: Sequence[Sample], case: Case, base: Mapping[int, float]) -> Row:
    first = samples[0]
    figures = [s.figure for s in samples]
    middle = median(figures)
    ratios = [s.figure / base[s.round] for s in samples if s.round in base]
    used = sum(s.result.user + s.result.system for s in samples)
    return Row(
        workload=first.workload,
        case=first.case,
        system=first.system,
        rounds=len(samples),
        operations=first.operations,
        unit=case.unit,
        figure=middle,
        spread=(max(figures) - min(figures)) / 2 / middle,
        system_share=sum(s.result.system for s in samples) / used if used else 0.0,
        wall_ns=median(s.wall_ns for s in samples),
        ratio=median(ratios) if ratios else None,
        disturbed=case.busy and case.unit == "ns" and median(s.wall_ns / s.cpu_ns for s in samples) > DISTURBED,
        note=min(samples, key=lambda s: abs(s.figure - middle)).result.note,
    )


def conditions() -> dict[str, object]:
    """What the figures depend on and a reader elsewhere cannot see."""
    versions: dict[str, str] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": "python -m benchmarks " + shlex.join(sys.argv[1:]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "python_pgo": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "kernel": kernel(),
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


def _headings(unit: str, baseline: str) -> tuple[str, ...]:
    figure = ("bytes/op",) if unit == "bytes" else ("CPU ns/op", "op/CPU s")
    return ("system", *figure, "±", f"× {baseline}", "wall ns/op", "ops/run", "")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.system,
        f"{'~' if row.disturbed else ''}{row.figure:,.0f}",
        *([] if row.unit == "bytes" else [f"{1e9 / row.figure:,.0f}"]),
        f"{row.spread:.0%}",
        "-" if row.ratio is None else f"{row.ratio:.2f}",
        f"{row.wall_ns:,.0f}",
        f"{row.operations:,}",
        row.note,
    )


def tables(rows: Sequence[Row], plan: Plan) -> list[tuple[str, list[Row]]]:
    """Title and rows of each case that has rows."""
    groups: dict[tuple[str, str], tuple[Cell, list[Row]]] = {}
    for cell in plan.cells:
        groups.setdefault(cell.key[:2], (cell, []))
    for row in rows:
        groups[row.workload, row.case][1].append(row)
    return [(_title(cell, plan), found) for cell, found in groups.values() if found]


def _title(cell: Cell, plan: Plan) -> str:
    size = cell.case.size(plan.quick)
    at_a_time = f", {size:,} at a time" if size and size > 1 else ""
    return f"{cell.workload.name} / {cell.case.name} (1 op = 1 {cell.case.operation}{at_a_time})"


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Columns of one width each, the first ``left`` ones flush left. A last column of notes is not padded."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    out: list[str] = []
    for line in lines:
        parts = [
            part.ljust(width) if column < left or column == len(widths) - 1 else part.rjust(width)
            for column, (part, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(parts).rstrip())
    return out


def text(rows: Sequence[Row], plan: Plan, baseline: str) -> str:
    """Aligned tables for a terminal."""
    out: list[str] = []
    for title, found in tables(rows, plan):
        lines = [_headings(found[0].unit, baseline), *(_cells(row) for row in found)]
        out += ["", title, *aligned(lines)]
    return "\n".join(out[1:])


def markdown_table(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The first line is the heading; the first ``left`` columns are flush left, and so is one without a heading."""
    head, *body = lines
    rule = [" --- " if i < left or not name else " ---: " for i, name in enumerate(head)]
    return [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(line)} |" for line in body)]


def markdown(
    rows: Sequence[Row], plan: Plan, baseline: str, outcome: Outcome, about: Mapping[str, object], extra: Sequence[str]
) -> str:
    """The same as a page, with the command that made it and the conditions; ``extra`` lines come before the tables."""
    out = ["# Benchmark results", "", f"    {about['command']}", "", "| | |", "| --- | --- |"]
    out += [f"| {key} | {_plain(value)} |" for key, value in about.items() if key != "command"]
    out += [
        f"| took | {outcome.seconds / 60:.1f} minutes |",
        "",
        f"CPU time is user + system of the measured process, per operation: median of {plan.rounds} rounds, ± half the range.",
        f"`× {baseline}` is the median of the ratios within one round: below 1 is less CPU than {baseline}.",
        "`~`: the process did not have its core for itself. How to read on: `benchmarks/README.md`.",
        *extra,
    ]
    for title, found in tables(rows, plan):
        lines = [_headings(found[0].unit, baseline), *(_cells(row) for row in found)]
        if not any(row.note for row in found):
            lines = [line[:-1] for line in lines]
        out += ["", f"## {title}", "", *markdown_table(lines)]
    if outcome.failures or outcome.left_out:
        out += ["", "## Not measured", "", *(f"- {what}" for what in outcome.left_out)]
        out += [f"- {'/'.join(key)}: {why.splitlines()[-1]}" for key, why in outcome.failures.items()]
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
        "seconds": outcome.seconds,
        "rows": [asdict(row) for row in rows],
        "samples": [asdict(sample) for sample in outcome.samples],
        "left_out": outcome.left_out,
        "failures": [{"cell": list(cell), "reason": why} for cell, why in outcome.failures.items()],
    }
    return json.dumps(document, indent=1) + "\n"
