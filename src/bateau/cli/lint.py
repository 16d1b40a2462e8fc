"""``bateau lint``: faults of async code, found before it runs."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..lint.engine import Report
    from ..lint.settings import Settings

DESCRIPTION = (
    "Look at Python files for faults of async code: foreign awaits, blocking calls, locks held across waits, coroutines and tasks that are "
    "dropped, swallowed cancellations. Nothing is imported or run. Settings: [tool.bateau.lint] of pyproject.toml. "
    "Exits with 0 if nothing is found, with 1 if something is, with 2 if it can't look."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the subcommand."""
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="files, and folders whose .py files are meant (default: .); -: standard input",
    )
    parser.add_argument(
        "--format", choices=("text", "json", "github"), default="text", help="of the findings (default: text)"
    )
    parser.add_argument(
        "--select",
        action="append",
        default=[],
        metavar="NAMES",
        help="rules to run, with commas between; `all`, or `default` for the usual ones",
    )
    parser.add_argument("--ignore", action="append", default=[], metavar="NAMES", help="rules not to run")
    parser.add_argument("--config", metavar="FILE", help="a pyproject.toml (default: the nearest one with settings)")
    parser.add_argument("--isolated", action="store_true", help="without any pyproject.toml")
    parser.add_argument(
        "--stdin-filename",
        metavar="PATH",
        help="where standard input's text belongs: its settings, and the files that it imports, are those of there",
    )
    parser.add_argument("--explain", metavar="NAME", help="what a rule finds, why, and what to write instead")
    parser.add_argument("--rules", action="store_true", help="list the rules")


def main(args: argparse.Namespace) -> int:
    """Look, and tell. Returns the exit status."""
    from ..lint import NoSuchPath
    from ..lint.settings import BadSettings

    try:
        return _main(args)
    except (NoSuchPath, BadSettings) as error:
        print(f"bateau lint: {error}", file=sys.stderr)
        return 2


def _main(args: argparse.Namespace) -> int:
    from ..lint import output
    from ..lint.rules import RULES

    if args.rules:
        print(output.catalogue())
        return 0
    if args.explain is not None:
        try:
            print(output.explained(args.explain))
        except KeyError:
            print(
                f"bateau lint: no rule is called {args.explain!r}; there are: {', '.join(sorted(RULES))}",
                file=sys.stderr,
            )
            return 2
        return 0
    enabled = gc.isenabled()
    gc.disable()  # the trees of a project are no garbage before the end: looking for some in them takes as long as the rest
    try:
        report = _report(args)
    finally:
        if enabled:
            gc.enable()
    text = {"text": output.as_text, "json": output.as_json, "github": output.as_github}[args.format](report)
    if text:
        print(text)
    return 1 if report.findings else 0


def _report(args: argparse.Namespace) -> Report:
    from ..lint import NoSuchPath, engine

    if "-" not in args.paths:
        if args.stdin_filename is not None:
            raise NoSuchPath("--stdin-filename goes with the path - (standard input)")
        return engine.check_paths(args.paths or ["."], _settings(args))
    if len(args.paths) > 1:
        raise NoSuchPath("standard input (-) is looked at by itself: name no other path beside it")
    if sys.stdin is None:  # as in a process that was started without one
        raise NoSuchPath("there is no standard input (-): it is closed")
    raw = sys.stdin.buffer.read()
    return engine.Report(engine.check_bytes(raw, args.stdin_filename or "<stdin>", _settings(args)), files=1)


def _settings(args: argparse.Namespace) -> Settings:
    from dataclasses import replace

    from ..lint import settings

    if args.config is not None:
        found = settings.load(Path(args.config))
        if found is None:
            raise settings.BadSettings(f"{args.config} has no [tool.bateau.lint]")
    elif args.isolated:
        found = settings.Settings()
    else:
        path = args.stdin_filename if "-" in args.paths else args.paths[0] if args.paths else None
        found = settings.find(Path(path) if path is not None else Path.cwd())
    if args.select:
        found = replace(found, select=settings.names_of(args.select))
    if args.ignore:
        found = replace(found, ignore=(*found.ignore, *settings.names_of(args.ignore)))
    return found
