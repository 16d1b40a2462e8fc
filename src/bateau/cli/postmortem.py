"""``bateau postmortem``: how a program ended, from what its recorder or its crash report left."""

from __future__ import annotations

import argparse

DESCRIPTION = (
    "Tell how a program ended, from the recording that it left (killed, out of memory, crashed) or from a crash report. "
    "Without FILE: list what has been left."
)

_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="a crash report (*.json), a recording (a folder *.recording), or a file in it",
    )
    parser.add_argument("--json", action="store_true", help="the whole report as JSON")
    parser.add_argument(
        "--seconds",
        type=float,
        default=_SECONDS,
        metavar="S",
        help="how much of the time before the end (default: 10)",
    )
    parser.add_argument("--events", type=int, default=40, metavar="N", help="at most N events of it (default: 40)")
    parser.add_argument(
        "--tasks", type=int, default=200, metavar="N", help="tell at most N tasks one by one (default: 200)"
    )
    parser.add_argument(
        "--cluster",
        metavar="DIR",
        help="group the reports and recordings in DIR by their cause, the most frequent first",
    )


def main(args: argparse.Namespace) -> int:
    """Tell what is asked for; 2 for what can't be read."""
    from ..insight.postmortem.command import main as tell

    return tell(args)
