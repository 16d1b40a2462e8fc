"""``bateau sim``: run a scenario in a simulated world, explore it, or replay one of its runs from a token."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .targets import TargetError, above, load

if TYPE_CHECKING:
    from ..sim.exploring import Exploration
    from ..sim.running import Run

DESCRIPTION = (
    "Run a scenario (an async function, or a sync one) in a world where time, order, network, disk and faults are "
    "decided by a seed. What fails is shrunk, told, and replays from its token."
)

STRATEGIES = ("fifo", "random", "pct", "pos", "surw", "exhaustive")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``bateau sim``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    run = actions.add_parser("run", allow_abbrev=False, help="one run, and the story of it")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="decides all randomness (default: 0)")
    run.add_argument("--story", action="store_true", help="tell every step")
    explore = actions.add_parser(
        "explore", allow_abbrev=False, help="many runs; the first that fails is shrunk and told"
    )
    how_many = explore.add_mutually_exclusive_group()
    how_many.add_argument("--seed", type=int, metavar="N", help="this one alone, as a failure has told it")
    how_many.add_argument(
        "--seeds", type=_at_least_one, default=1000, metavar="N", help="how many runs (default: 1000)"
    )
    explore.add_argument("--first", type=int, default=0, metavar="N", help="the first seed (default: 0)")
    explore.add_argument(
        "--jobs", type=_at_least_one, default=1, metavar="N", help="processes to run them in (default: 1)"
    )
    replay = actions.add_parser("replay", allow_abbrev=False, help="the run of a token again, the same in every step")
    for each, default in ((run, "fifo"), (explore, "random")):
        each.add_argument("--strategy", choices=STRATEGIES, default=default, help=f"who decides (default: {default})")
        each.add_argument(
            "--faults", choices=("none", "some", "many"), default="none", help="what goes wrong by itself"
        )
        each.add_argument("target", help="the scenario: tests/test_x.py:scenario or module:scenario")
    replay.add_argument("--step", action="store_true", help="stop after each event and ask what to do")
    replay.add_argument(
        "--target", metavar="T", help="the scenario, where the token does not know it: test_x.py:scenario"
    )
    replay.add_argument("token", help="what the failure printed")
    for each in (run, explore, replay):
        each.add_argument("--svg", metavar="FILE", help="draw the run")
        each.add_argument("--html", metavar="FILE", help="write the run as a page: picture, story, every event")


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number, 1 or more, not {text!r}")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Run the command. 0: passed; 1: the scenario failed; 2: it could not be run."""
    from ..sim.determinism import pin_hash_seed
    from ..sim.token import TokenError

    pin_hash_seed()
    try:
        for path in (args.svg, args.html):
            _check_writable(path)
        target = load(args.target if args.action != "replay" else _target_of(args))
        # A test decorated with @simulate knows its own options.
        options = dict(getattr(target, "__bateau_simulate__", {}))
        scenario = getattr(target, "__bateau_scenario__", target)
        _check_scenario(scenario)
        return {"run": _run, "explore": _explore, "replay": _replay}[args.action](args, scenario, options)
    except (TargetError, TokenError, OutputError) as error:
        print(f"bateau sim: {error}", file=sys.stderr)
        return 2


class OutputError(Exception):
    """A picture or a page can't be written there."""


def _check_writable(path: str | None) -> None:
    """Before thousands of runs, not after them."""
    if path is None:
        return
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise OutputError(f"{path!r} is a directory: name a file in it")
    if not os.path.isdir(folder):
        raise OutputError(f"can't write {path!r}: there is no directory {folder!r}")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise OutputError(f"can't write {path!r}: permission denied")


def _check_scenario(scenario: Any) -> None:
    from ..sim.given import scenario as require
    from ..sim.running import wants_world

    try:
        require(scenario, (), with_world=wants_world(scenario))
    except TypeError as error:
        raise TargetError(
            f"{error}. Name a scenario that needs nothing but the world; a test with fixtures is run by pytest (--bateau-replay TOKEN)"
        ) from None


def _run(args: argparse.Namespace, scenario: Any, options: dict[str, Any]) -> int:
    from ..sim.running import one_run
    from ..sim.strategy import by_name

    strategy = by_name(args.strategy)
    strategy.begin(args.seed)
    _set_faults(args, options)
    run = one_run(scenario, seed=args.seed, strategy=strategy, detailed=True, **_of_the_world(options))
    return _show(args, run, whole=args.story)


def _explore(args: argparse.Namespace, scenario: Any, options: dict[str, Any]) -> int:
    from ..sim.exploring import Found, explore

    if args.seed is not None and args.first:
        raise TargetError("--first says where --seeds begin, and --seed is one alone: give one of the two")
    _set_faults(args, options)
    began = time.perf_counter()
    seeds = range(args.first, args.first + args.seeds) if args.seed is None else range(args.seed, args.seed + 1)

    def progress(covered: Exploration) -> None:
        if sys.stderr.isatty():
            rate = covered.runs / max(time.perf_counter() - began, 1e-9)
            print(f"\r{covered.runs} of {len(seeds)} runs, {rate:.0f} per second ", end="", file=sys.stderr, flush=True)

    try:
        covered = explore(
            scenario, seeds=seeds, strategy=args.strategy, jobs=args.jobs, progress=progress, **_of_the_world(options)
        )
    except Found as found:
        if sys.stderr.isatty():
            print(file=sys.stderr)
        print(found.story)
        _draw(args, found.run, found.token)
        return 1
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(f"passed: {covered}")
    return 0


def _target_of(args: argparse.Namespace) -> str:
    from ..sim.token import decode

    if args.target:
        return str(args.target)
    target = decode(args.token).target
    if not target:
        raise TargetError("this token does not know its scenario; name it: --target test_x.py:scenario")
    path, _, name = target.rpartition(":")
    found = above(path)
    if found is None:
        raise TargetError(
            f"the token was made of {target}, and there is no such file here or in a directory above: go to where it was made, or name the "
            "scenario: --target path/to/test_x.py:scenario"
        )
    return f"{found}:{name}"


def _replay(args: argparse.Namespace, scenario: Any, options: dict[str, Any]) -> int:
    from ..sim.exploring import replay
    from ..sim.stepping import Stepper

    stepper = Stepper() if args.step else None
    run = replay(scenario, args.token, prepare=stepper.attach if stepper else None, **_of_the_world(options))
    return _show(args, run, whole=False, token=args.token)


def _of_the_world(options: dict[str, Any]) -> dict[str, Any]:
    """Without those that say how often and by whom: the command line has its own."""
    return {key: value for key, value in options.items() if key not in {"seeds", "strategy", "jobs", "shrink"}}


def _set_faults(args: argparse.Namespace, options: dict[str, Any]) -> None:
    from ..sim.faults import Faults

    if args.faults != "none":
        options["faults"] = Faults.some() if args.faults == "some" else Faults.many()


def _show(args: argparse.Namespace, run: Run, *, whole: bool, token: str | None = None) -> int:
    from ..sim.story import tell, timeline
    from ..sim.token import encode

    token = token or encode(run)
    if run.failed:
        print(tell(run, token))
    elif whole:
        print("\n".join(timeline(run.events, most=len(run.events))))
    if not run.failed:
        print(f"passed: {run.steps} steps, {run.seconds:.6f} simulated seconds; digest {run.digest}")
        if run.value is not None:
            print(f"value: {run.value!r}")
    _draw(args, run, token)
    return 1 if run.failed else 0


def _draw(args: argparse.Namespace, run: Run, token: str) -> None:
    from ..sim.picture import html, svg

    if args.svg:
        _write(args.svg, svg(run))
        print(f"drawn: {args.svg}")
    if args.html:
        _write(args.html, html(run, token))
        print(f"written: {args.html}")


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"can't write {path!r}: {error.strerror}") from None
