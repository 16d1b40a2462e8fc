"""Parsing the command line and handing over to the subcommand."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import bateau

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

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


_MODULES = {
    "run": ".run",
    "console": ".console",
    "dump": ".dump",
    "runtimes": ".runtimes",
    "demo": ".demo.command",
    "serve": ".serve",
    "sim": ".sim",
    "postmortem": ".postmortem",
    "trim": ".trim",
    "lint": ".lint",
}


def _parser(only: str = "") -> argparse.ArgumentParser:
    """All of it; or, with ``only``, that command with its arguments, and of the others their names: what they take is in modules that
    need not be loaded to run another.
    """
    parser = argparse.ArgumentParser(
        prog="bateau",
        description="Structured, observable, testable async for Python, on any runtime.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bateau {bateau.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def needs(name: str) -> bool:
        return not only or only == name

    _add_run(commands)
    runtimes = commands.add_parser(
        "runtimes",
        help="list the runtimes: what is available here, and why not if not",
        description="List every known runtime, bateau's own and those that others registered, and whether it can run here.",
    )
    runtimes.add_argument("--json", action="store_true", help="as JSON, for programs")

    simulated = commands.add_parser(
        "sim",
        help="run, explore or replay a scenario in a simulated world",
        description="Run a scenario (an async function, or a sync one) in a world where time, order, network, disk and faults are "
        "decided by a seed. What fails is shrunk, told, and replays from its token.",
    )
    if needs("sim"):
        from .sim import add_arguments

        add_arguments(simulated)

    postmortem = commands.add_parser(
        "postmortem",
        help="how a program ended: every task, what it waited on, the last events",
        description="Tell how a program ended, from the recording that it left (killed, out of memory, crashed) or from a crash report. "
        "Without FILE: list what has been left.",
    )
    if needs("postmortem"):
        from .postmortem import add_arguments as add_postmortem

        add_postmortem(postmortem)

    _add_dump(commands)
    trim = commands.add_parser(
        "trim",
        help="a pasted traceback, without the frames of the runtime",
        description="Read text with tracebacks (an issue, a log) and print it with each shown as bateau shows its own: the user's "
        "frames, groups with one part as one trace, spawn sites. Frames of bateau, asyncio, trio and anyio are left out.",
    )
    if needs("trim"):
        from .trim import add_arguments as add_trim

        add_trim(trim)

    lint = commands.add_parser("lint", help="faults of async code, found before it runs")
    if needs("lint"):
        from . import lint as lint_command

        lint.description = lint_command.DESCRIPTION
        lint_command.add_arguments(lint)

    serve = commands.add_parser(
        "serve",
        help="serve connections on every core, with supervised workers",
        description="Run an async function for each connection, in one process per core. SIGTERM or Ctrl-C stops it gracefully, SIGHUP "
        "replaces the workers one after the other (with new code), a worker that dies is started again.",
    )
    if needs("serve"):
        from .serve import add_arguments as add_serve

        add_serve(serve)

    console = commands.add_parser("console", help="follow running programs on the screen: a top for tasks")
    if needs("console"):
        from . import console as console_command

        console.description = console_command.DESCRIPTION
        console_command.add_arguments(console)

    _add_demo(commands)
    return parser


def _add_run(commands: Commands) -> None:
    run = commands.add_parser(
        "run",
        help="run a program or a function on a chosen runtime",
        description="Run a script (app.py) or a function (module:function, or app.py:function). "
        "An async function becomes the program's main; a script's own bateau.run(...) or @bateau.main takes the runtime "
        "from here.",
    )
    run.add_argument(
        "--runtime", "-r", metavar="R", help="a name that `bateau runtimes` lists (default: BATEAU_RUNTIME)"
    )
    run.add_argument(
        "--no-watch",
        action="store_true",
        help="don't look for hazards (a blocked loop, a deadlock...) from a thread beside it",
    )
    run.add_argument(
        "--console",
        action="store_true",
        help="run it in a child process, and follow it on the screen (see bateau console)",
    )
    run.add_argument("target", help="app.py, app.py:function or module:function")
    run.add_argument(
        "--supervise",
        action="store_true",
        help="run it in a child process, and write a crash report if that is killed (a signal, kill -9, want of memory)",
    )
    run.add_argument("--no-record", action="store_true", help="without the flight recorder, and without crash reports")
    run.add_argument(
        "--record-tasks", type=int, metavar="N", help="tasks that the recorder has room for at once (default: 32768)"
    )
    run.add_argument(
        "--locals",
        action="append",
        default=[],
        metavar="PATTERN",
        help="write the values of local variables of these names (`request*`) into a crash report; names that look like secrets "
        "are redacted. May be repeated",
    )
    rest = run.add_argument(
        "args", nargs=argparse.REMAINDER, help="handed to the program: sys.argv, or the function's arguments"
    )
    rest.required = False  # argparse would name it among what is missing


def _add_dump(commands: Commands) -> None:
    dump = commands.add_parser(
        "dump",
        help="what every task of a running process is doing, and who waits for whom",
        description="Ask the agent in a process (`bateau run` starts one, and bateau.insight.init()), or, where there is none or it does "
        "not answer, read the process's memory: any asyncio or trio program, prepared or not.",
    )
    dump.add_argument(
        "pid", nargs="?", type=int, metavar="PID", help="the process; any Python program of yours will do"
    )
    dump.add_argument("--port", type=int, help="ask the agent at this port of 127.0.0.1 (token: BATEAU_INSIGHT_TOKEN)")
    dump.add_argument("--socket", metavar="PATH", help="ask the agent at this Unix socket")
    dump.add_argument(
        "--file",
        metavar="FILE",
        help="read a snapshot that was written with --json (-: standard input), or a core file (gcore PID)",
    )
    form = dump.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_const", dest="form", const="json", help="the whole snapshot, for programs"
    )
    form.add_argument("--dot", action="store_const", dest="form", const="dot", help="the wait graph, for Graphviz")
    form.add_argument(
        "--mermaid", action="store_const", dest="form", const="mermaid", help="the wait graph, for Markdown"
    )
    form.add_argument("--macro", metavar="NAME", help="what a macro (or module:function) makes of the snapshot")
    form.add_argument("--task", metavar="ID|NAME", help="one task: its whole stack and the chain to who could free it")
    dump.add_argument("--memory", action="store_true", help="with the bytes that each suspended task takes")
    dump.add_argument("--context", action="store_true", help="with each task's context variables")
    dump.add_argument("--from-memory", action="store_true", help="don't ask an agent: read the process's memory")
    dump.add_argument(
        "--attach",
        action="store_true",
        help="start an agent in the process if it has none, which stays there (Python 3.14 and newer)",
    )
    dump.add_argument(
        "--timeout", type=float, default=5.0, metavar="S", help="seconds to wait for the agent (default: 5)"
    )
    dump.set_defaults(form="text")


def _add_demo(commands: Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="crawl a real tree of files over HTTP and prove the result",
        description="Start Python's own web server on the standard library's files, crawl it with a bounded number of "
        "workers, hash every body, and compare with the disk. Ctrl-C stops (again: cancels) and still reports.",
    )
    demo.add_argument("--runtime", "-r", metavar="R", help="a name that `bateau runtimes` lists")
    demo.add_argument("--all", action="store_true", help="run on every available runtime and compare the results")
    demo.add_argument(
        "--url", help="crawl this http or https site instead (nothing is started and nothing is compared)"
    )
    demo.add_argument("--root", metavar="DIR", help="serve and check this folder instead of the standard library")
    demo.add_argument(
        "--workers", "-w", type=int, default=16, metavar="N", help="pages in flight at once (default: 16)"
    )
    demo.add_argument("--limit", type=int, metavar="N", help="visit at most N pages")
    demo.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds for one page (default: 10)")
    demo.add_argument("--quiet", "-q", action="store_true", help="no progress line")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = sys.argv[1:] if argv is None else list(argv)
    args = _parser(given[0] if given and given[0] in _MODULES else "").parse_args(given)
    command = import_module(_MODULES[args.command], __package__)
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
