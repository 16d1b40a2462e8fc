"""Parsing the command line and handing over to the subcommand."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import bateau

_EPILOG = """\
examples:
  bateau run app.py                       run a program on the default runtime
  bateau run --runtime trio app.py        the same program on trio
  bateau run app:main one two             call main("one", "two") of module app
  bateau runtimes                         what is available here, and why not if not
  bateau dump 4242                        what every task of process 4242 is doing, and who waits for whom
  bateau run --console app.py             run it, and follow it on the screen
  bateau console 4242                     the same on the screen, as it changes
  bateau sim explore test_x.py:scenario   look for an order of events, or a fault, that breaks it
  bateau run --supervise app.py           ... and say what every task was at if it is killed
  bateau postmortem FILE                  how a program ended, from what its flight recorder left
  bateau lint src                         blocking calls, missing awaits, foreign awaits..., before they run
  bateau trim issue.txt                   the tracebacks in it, without the frames of the runtime
  bateau demo --all                       crawl a real file tree on every runtime and compare
"""


class _Command(NamedTuple):
    """What has to be known of a command that is not run. Its module has ``DESCRIPTION``, ``add_arguments`` and ``main``."""

    module: str
    help: str


_COMMANDS = {
    "run": _Command(".run", "run a program or a function on a chosen runtime"),
    "runtimes": _Command(".runtimes", "list the runtimes: what is available here, and why not if not"),
    "sim": _Command(".sim", "run, explore or replay a scenario in a simulated world"),
    "postmortem": _Command(".postmortem", "how a program ended: every task, what it waited on, the last events"),
    "dump": _Command(".dump", "what every task of a running process is doing, and who waits for whom"),
    "trim": _Command(".trim", "a pasted traceback, without the frames of the runtime"),
    "lint": _Command(".lint", "faults of async code, found before it runs"),
    "serve": _Command(".serve", "serve connections on every core, with supervised workers"),
    "console": _Command(".console", "follow running programs on the screen: a top for tasks"),
    "demo": _Command(".demo.command", "crawl a real tree of files over HTTP and prove the result"),
}


def _parser(wanted: str, module: Any) -> argparse.ArgumentParser:
    """Every command by its name, and ``wanted`` with its arguments, which are in its ``module``: those of others need not be loaded."""
    parser = argparse.ArgumentParser(
        prog="bateau",
        description="Structured, observable, testable async for Python, on any runtime.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bateau {bateau.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, known in _COMMANDS.items():
        command = commands.add_parser(name, help=known.help)
        if name == wanted:
            command.description = module.DESCRIPTION
            module.add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = sys.argv[1:] if argv is None else list(argv)
    # No option of ``bateau`` itself takes a value: the first word is the command.
    wanted = next((word for word in given if not word.startswith("-")), "")
    command: Any = import_module(_COMMANDS[wanted].module, __package__) if wanted in _COMMANDS else None
    args = _parser(wanted, command).parse_args(given)
    try:
        status: int = command.main(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if args.command == "run":  # a program's own affair
            raise
        # Whoever read our output has had enough (`bateau dump 42 | head`). At exit Python would flush, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status
