"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from . import report
from .runner import Plan, missing_modules, run
from .systems import DEFAULT_SYSTEMS, SYSTEMS, System
from .workloads import NAMES, load


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError("must be above 0 and at most 60 seconds")
    return value


def _names(allowed: tuple[str, ...], what: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in allowed]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"no {what} {', '.join(unknown) or 'given'}; choose from {', '.join(allowed)}")
    return [name for name in allowed if name in names]


def _workloads(text: str) -> list[str]:
    return _names(NAMES, "workload", text)


def _systems(text: str) -> list[str]:
    return _names(tuple(SYSTEMS), "system", text)


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".md", ".json"):
        raise argparse.ArgumentTypeError("the name must end in .md (tables) or .json (every sample)")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {path.absolute().parent}")
    return path


def parser() -> argparse.ArgumentParser:
    """The options, with their help."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure bateau beside asyncio, uvloop, trio and anyio: CPU time per operation.",
        epilog=f"Workloads: {', '.join(NAMES)}. Systems: {', '.join(SYSTEMS)}. How to read it: benchmarks/README.md",
    )
    p.add_argument("--rounds", type=_positive, metavar="N", help="rounds of all systems (default 5; with --quick 3)")
    p.add_argument("--only", type=_workloads, default=list(NAMES), metavar="WORKLOAD,...", help="only these workloads")
    p.add_argument(
        "--systems",
        type=_systems,
        default=list(DEFAULT_SYSTEMS),
        metavar="SYSTEM,...",
        help=f"only these systems (default {','.join(DEFAULT_SYSTEMS)})",
    )
    p.add_argument("--quick", action="store_true", help="short and small: for a first look, not for a claim")
    p.add_argument("--baseline", choices=tuple(SYSTEMS), default="asyncio", metavar="SYSTEM", help="ratios to this one")
    p.add_argument(
        "--target", type=_seconds, metavar="S", help="CPU seconds per measurement (default 0.5; --quick 0.1)"
    )
    p.add_argument(
        "--no-pin", action="store_true", help="do not bind the measured process and the echo client to a core each"
    )
    p.add_argument(
        "--output", type=_output, action="append", default=[], metavar="FILE", help=".md or .json; may be repeated"
    )
    return p


def _available(names: list[str]) -> tuple[list[System], list[str]]:
    """The systems that can run here, and why the others cannot."""
    systems: list[System] = []
    left_out: list[str] = []
    for name in names:
        if missing := missing_modules(SYSTEMS[name]):
            left_out.append(f"{name}: no module {', '.join(missing)} in {sys.executable}")
        else:
            systems.append(SYSTEMS[name])
    return systems, left_out


def _by_reason(failures: Mapping[tuple[str, str, str], str]) -> dict[str, list[str]]:
    """Whom each reason struck: a missing runtime fails everywhere with one traceback, which is then shown once."""
    cells: dict[str, list[str]] = {}
    for cell, why in failures.items():
        cells.setdefault(why, []).append("/".join(cell))
    return cells


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Run, print, write. Returns 0, 1 if a measurement failed, 130 if interrupted."""
    options = parser().parse_args()
    systems, left_out = _available(options.systems)
    plan = Plan(
        workloads=[load(name) for name in options.only],
        systems=systems,
        rounds=options.rounds or (3 if options.quick else 5),
        target=options.target or (0.1 if options.quick else 0.5),
        quick=options.quick,
        pin=not options.no_pin,
    )
    if not plan.systems:
        print("nothing to measure:", *left_out, sep="\n  ", file=sys.stderr)
        return 1
    about = report.conditions()
    outcome = run(plan, _progress)
    outcome.left_out[:0] = left_out
    _progress("")
    rows = report.summarise(outcome, plan, options.baseline)
    print(report.text(rows, plan, options.baseline))
    for what in outcome.left_out:
        print(f"\nleft out: {what}", file=sys.stderr)
    for why, cells in _by_reason(outcome.failures).items():
        print(f"\nnot measured: {', '.join(cells)}\n{why}", file=sys.stderr)
    for path in options.output:
        write = report.as_json if path.suffix == ".json" else report.markdown
        path.write_text(write(rows, plan, options.baseline, outcome, about), encoding="utf-8")
    if outcome.interrupted:
        print("\ninterrupted: the figures are those of the rounds so far", file=sys.stderr)
        return 130
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
