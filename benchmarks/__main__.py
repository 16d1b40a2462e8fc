"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import fnmatch
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import limits, picture, programs, report, targets
from .runner import Cell, Key, Outcome, Plan, check, cores, environment, run, runnable
from .systems import DEFAULT_SYSTEMS, NOTES, SYSTEMS
from .workloads import NAMES, load

DESCRIPTION = """\
Measure bateau beside the other async libraries for Python: CPU time (or memory) of one operation, each
measurement a fresh process, all of them in turns. What a system lacks is left out, with a line that says so."""

EXAMPLES = """\
examples:
  python -m benchmarks --only switch/one_task --target 0.1 --rounds 1     one row, some seconds
  python -m benchmarks --quick                                            all rows, short and small: a first look
  python -m benchmarks --output results.md --output results.svg           all rows: for a quiet evening, see the README
  python -m benchmarks --targets --output targets.md                      the promises: ratio, target, met or not
  python -m benchmarks --check                                            does everything work? measures nothing
  python -m benchmarks --only crowd --systems bateau-native,threads --clients 5000

What each workload compares stands at the head of its file in benchmarks/workloads/; how to read the tables,
in benchmarks/README.md."""


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


def _cases(text: str) -> list[str]:
    """The "workload/case" names that are meant; a workload alone means all of its cases, and ``*`` stands for anything."""
    known = [f"{name}/{case.name}" for name in NAMES for case in load(name).cases]
    wanted: list[str] = []
    for pattern in filter(None, (part.strip() for part in text.split(","))):
        whole = pattern if "/" in pattern else f"{pattern}/*"
        if not (found := fnmatch.filter(known, whole)):
            workload = pattern.partition("/")[0]
            near = [name for name in known if name.startswith(f"{workload}/")] or list(NAMES)
            raise argparse.ArgumentTypeError(f"no workload or case {pattern}; choose from {', '.join(near)}")
        wanted += found
    if not wanted:
        raise argparse.ArgumentTypeError(f"no workload given; choose from {', '.join(NAMES)}")
    return [name for name in known if name in wanted]


def _systems(text: str) -> list[str]:
    return _names(tuple(SYSTEMS), "system", text)


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".md", ".json", ".svg"):
        raise argparse.ArgumentTypeError("the name must end in .md (tables), .svg (a picture) or .json (every sample)")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {path.absolute().parent}")
    return path


def parser() -> argparse.ArgumentParser:
    """The options, with their help."""
    systems = "\n".join(
        f"  {name:24}{NOTES[name]}{'' if SYSTEMS[name].default else ' (by name only)'}" for name in SYSTEMS
    )
    workloads = "\n".join(
        f"  {name:12}{load(name).title}: {', '.join(c.name for c in load(name).cases)}" for name in NAMES
    )
    p = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=DESCRIPTION,
        epilog=f"workloads and their cases:\n{workloads}\n\nsystems:\n{systems}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mode = p.add_mutually_exclusive_group()
    mode.add_argument(
        "--targets", action="store_true", help="only what the promised ratios need, and a table of them: met or not"
    )
    mode.add_argument(
        "--check", action="store_true", help="run every case once on every system with a handful of operations"
    )
    p.add_argument("--only", type=_cases, metavar="WORKLOAD[/CASE],...", help="only these; * stands for anything")
    p.add_argument(
        "--systems", type=_systems, metavar="SYSTEM,...", help="only these (default: all but those by name only)"
    )
    p.add_argument(
        "--rounds", type=_positive, metavar="N", help="how often all is measured (default 3, with --targets 5)"
    )
    p.add_argument(
        "--target",
        type=_seconds,
        metavar="S",
        help="CPU seconds per measurement (default 0.2; --quick 0.1; --targets 0.15)",
    )
    p.add_argument("--quick", action="store_true", help="short and small: for a first look, not for a claim")
    p.add_argument(
        "--baseline", choices=tuple(SYSTEMS), default="asyncio", metavar="SYSTEM", help="ratios to this one (asyncio)"
    )
    p.add_argument(
        "--clients",
        type=_positive,
        metavar="N",
        help="clients of the workload crowd (20000, or what the system allows)",
    )
    p.add_argument("--no-pin", action="store_true", help="do not bind the measured process and its load to a core each")
    p.add_argument(
        "--output",
        type=_output,
        action="append",
        default=[],
        metavar="FILE",
        help=".md, .svg or .json; may be repeated",
    )
    return p


def _wanted(options: argparse.Namespace) -> list[Cell]:
    """What was asked for, whether or not it can run here."""
    needed: set[Key] | None = targets.cells() if options.targets else None
    names = options.systems or (list(SYSTEMS) if options.targets else list(DEFAULT_SYSTEMS))
    cells: list[Cell] = []
    for name in NAMES:
        workload = load(name)
        for case in workload.cases:
            if options.only is None or f"{name}/{case.name}" in options.only:
                row = [
                    Cell(workload, case, SYSTEMS[one]) for one in names if workload.runs_on(case, SYSTEMS[one].family)
                ]
                cells += [cell for cell in row if needed is None or cell.key in needed]
    return cells


def _by_reason(failures: Mapping[Key, str]) -> dict[str, list[str]]:
    """Whom each reason struck: a missing runtime fails everywhere with one traceback, which is then shown once."""
    cells: dict[str, list[str]] = {}
    for cell, why in failures.items():
        cells.setdefault(why, []).append("/".join(cell))
    return cells


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _check(cells: Sequence[Cell], pin: bool) -> int:
    """Run each case of each system once, tiny. Returns 0, or 1 if one failed."""
    failed = 0
    with programs.compiled(name for cell in cells for name in cell.case.programs) as directory:
        environ = environment(directory, cores(pin)[1])
        for name in dict.fromkeys(cell.system.name for cell in cells):
            own = [cell for cell in cells if cell.system.name == name]
            _progress(name)
            try:
                failures = check(SYSTEMS[name], own, environ)
            except RuntimeError as error:
                failures = {name: str(error)}
            _progress("")
            print(f"{name}: {len(own)} cases, {f'{len(failures)} failed' if failures else 'all work'}", flush=True)
            for case, why in failures.items():
                print(f"\n{name}: {case}\n{why}", file=sys.stderr)
            failed += len(failures)
    return 1 if failed else 0


def _measure(options: argparse.Namespace, cells: Sequence[Cell], left_out: list[str]) -> int:
    """Run, print, write. Returns 0, 1 if a measurement failed, 130 if interrupted."""
    plan = Plan(
        cells=cells,
        rounds=options.rounds or (5 if options.targets else 3),
        target=options.target or (0.1 if options.quick else 0.15 if options.targets else 0.2),
        quick=options.quick,
        pin=not options.no_pin,
    )
    about = report.conditions()
    print(f"{len(cells)} measurements, {plan.rounds} rounds: about {plan.seconds() / 60:.1f} minutes", file=sys.stderr)
    outcome = run(plan, _progress)
    outcome.left_out[:0] = left_out
    _progress("")
    rows = report.summarise(outcome, plan, options.baseline)
    print(report.text(rows, plan, options.baseline))
    verdicts = targets.judge(outcome, plan) if options.targets else []
    if options.targets:
        print("\n" + targets.text(verdicts))
    _tell(outcome)
    for path in options.output:
        if path.suffix == ".svg":
            page = picture.svg(rows, options.baseline)
        elif path.suffix == ".json":
            page = report.as_json(rows, plan, options.baseline, outcome, about)
        else:
            page = report.markdown(rows, plan, options.baseline, outcome, about, targets.markdown(verdicts))
        path.write_text(page, encoding="utf-8")
    if outcome.interrupted:
        print("\ninterrupted: the figures are those of the rounds so far", file=sys.stderr)
        return 130
    return 1 if outcome.failures else 0


def _tell(outcome: Outcome) -> None:
    """What was not measured, and why: after the tables, where it is read."""
    for why, keys in _by_reason(outcome.failures).items():
        print(f"\nnot measured: {', '.join(keys)}\n{why}", file=sys.stderr)
    print(f"\ntook {outcome.seconds / 60:.1f} minutes", file=sys.stderr)


def main() -> int:
    """What the command line asks for. Returns the exit status."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing measured outlives a run that is killed
    if options.clients:
        os.environ[limits.CLIENTS] = str(options.clients)
    cells, left_out = runnable(_wanted(options))
    for what in left_out:
        print(f"left out: {what}", file=sys.stderr)
    if not cells:
        print("nothing to measure: no system that was asked for has code for what was asked", file=sys.stderr)
        return 1
    if options.check:
        return _check(cells, not options.no_pin)
    return _measure(options, cells, left_out)


if __name__ == "__main__":
    sys.exit(main())
