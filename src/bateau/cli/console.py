"""``bateau console``: the ``top`` for tasks, on programs that run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DESCRIPTION = """\
Follow programs on the screen: their tasks, who waits on what, who could free it, what is wrong and why. A program that runs an agent
(`bateau run`, or `bateau.insight.init()` in it) can also be acted upon: cancel a task, stop a scope, wake a task. Any other Python process
of yours is read from its memory, without disturbing it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bateau console``."""
    parser.add_argument(
        "target",
        nargs="+",
        help="a process id, the path of an agent's socket, the port of an agent (:9000), or a file that `bateau dump --json` wrote",
    )
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="seconds between snapshots (default: 1)"
    )
    parser.add_argument("--directory", metavar="DIR", help="where the key D writes graphs (default: here)")


def main(args: argparse.Namespace) -> int:
    """Show it until q is pressed."""
    from ..insight.console.sources import Source, find_source
    from ..insight.model import InsightError

    if not 0.05 <= args.interval <= 3600:
        return _refuse(f"--interval is in seconds, from 0.05 to 3600, not {args.interval:g}")
    directory = Path(args.directory) if args.directory is not None else Path.cwd()
    if not directory.is_dir():
        return _refuse(f"--directory {directory} is no directory")
    try:
        from ..insight.console.app import Console
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        return _refuse(
            "it needs textual: pip install 'bateau[console]'. Without it, `bateau dump` tells the same as text"
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _refuse("it needs a terminal. `bateau dump` tells the same as text")
    sources: list[Source] = []
    try:
        sources.extend(find_source(target) for target in args.target)
        Console(sources, interval=args.interval, directory=directory).run()
    except InsightError as error:
        return _refuse(str(error))
    finally:
        for source in sources:
            source.close()
    return 0


def _refuse(why: str) -> int:
    print(f"bateau console: {why}", file=sys.stderr)
    return 2
