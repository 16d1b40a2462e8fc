"""``bateau run``: a script or a function, on a chosen runtime."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from typing import Any

import bateau

from ..runtimes import registry
from .targets import TargetError, check_file, load, split

DESCRIPTION = (
    "Run a script (app.py) or a function (module:function, or app.py:function). "
    "An async function becomes the program's main; a script's own bateau.run(...) or @bateau.main takes the runtime "
    "from here."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bateau run``."""
    parser.add_argument(
        "--runtime", "-r", metavar="R", help="a name that `bateau runtimes` lists (default: BATEAU_RUNTIME)"
    )
    parser.add_argument(
        "--no-watch",
        action="store_true",
        help="don't look for hazards (a blocked loop, a deadlock...) from a thread beside it",
    )
    parser.add_argument(
        "--console",
        action="store_true",
        help="run it in a child process, and follow it on the screen (see bateau console)",
    )
    parser.add_argument("target", help="app.py, app.py:function or module:function")
    parser.add_argument(
        "--supervise",
        action="store_true",
        help="run it in a child process, and write a crash report if that is killed (a signal, kill -9, want of memory)",
    )
    parser.add_argument(
        "--no-record", action="store_true", help="without the flight recorder, and without crash reports"
    )
    parser.add_argument(
        "--record-tasks", type=int, metavar="N", help="tasks that the recorder has room for at once (default: 32768)"
    )
    parser.add_argument(
        "--locals",
        action="append",
        default=[],
        metavar="PATTERN",
        help="write the values of local variables of these names (`request*`) into a crash report; names that look like secrets "
        "are redacted. May be repeated",
    )
    rest = parser.add_argument(
        "args", nargs=argparse.REMAINDER, help="handed to the program: sys.argv, or the function's arguments"
    )
    rest.required = False  # argparse would name it among what is missing


def main(args: argparse.Namespace) -> int:
    """Run the target; what it raises is shown as Python would."""
    if args.runtime is not None:
        try:
            registry.get(args.runtime)
        except (ValueError, bateau.Unsupported, ImportError) as error:
            print(f"bateau run: {error}", file=sys.stderr)
            return 2
        # For the script's own bateau.run(...), and for the processes it starts.
        os.environ["BATEAU_RUNTIME"] = args.runtime
    if args.console:
        from .console import run_in_console

        return run_in_console(_options(args), supervised=args.supervise)
    from ..kernel.tracebacks import show_at_the_end

    show_at_the_end()  # whatever it ends with: the command's own frames are nobody's program
    if args.supervise:
        from ..insight.postmortem.supervising import supervise

        return supervise(lambda: _recorded(args))
    return _recorded(args)


def _options(args: argparse.Namespace) -> list[str]:
    """The command line again, without ``--console``, ``--supervise`` (the console does that: a supervisor between the two would hand on
    the signals that the program has got as well) and the runtime, which the child finds in its environment.
    """
    flags = {"--no-watch": args.no_watch, "--no-record": args.no_record}
    options = [flag for flag, given in flags.items() if given]
    if args.record_tasks is not None:
        options += ["--record-tasks", str(args.record_tasks)]
    for pattern in args.locals:
        options += ["--locals", pattern]
    return [*options, args.target, *args.args]


def _recorded(args: argparse.Namespace) -> int:
    """Run the target under the flight recorder, which is gone when it ends in order."""
    if args.no_record:
        return _run(args)
    from ..insight.recorder import recording

    # The recording is named after the program.
    sys.argv = [args.target.partition(":")[0], *args.args]
    try:
        recorded = recording.record(tasks=args.record_tasks or recording.TASKS)
    except (OSError, ValueError) as error:
        print(f"bateau run: without the flight recorder: {error}", file=sys.stderr)
        return _run(args)
    from ..insight.postmortem.catching import catch

    catch(recorded, args.locals)
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    """Run the target, and look for hazards meanwhile."""
    if args.no_watch:
        return _target(args)
    from ..insight.watching import watch

    with watch():
        return _target(args)


def _target(args: argparse.Namespace) -> int:
    _start_agent()
    try:
        path, name = split(args.target)
        if path.endswith(".py") and not name:
            return _run_script(path, args.args)
        sys.argv = [path if path.endswith(".py") else args.target, *args.args]
        return _call(load(args.target), args.target, args.args)
    except TargetError as error:
        print(f"bateau run: {error}", file=sys.stderr)
        return 2


def _start_agent() -> None:
    """So that ``bateau dump`` and its like can ask this process. ``BATEAU_INSIGHT=0`` leaves it out."""
    if os.environ.get("BATEAU_INSIGHT") == "0":
        return
    from ..insight.agent import init
    from ..insight.model import InsightError

    try:
        init()
    except (InsightError, OSError) as error:
        print(f"bateau run: the program runs without an agent for `bateau dump`: {error}", file=sys.stderr)


def _run_script(path: str, argv: list[str]) -> int:
    check_file(path)
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    sys.argv = [path, *argv]
    runpy.run_path(path, run_name="__main__")
    return 0


def _call(fn: Any, label: str, argv: list[str]) -> int:
    code = getattr(fn, "__code__", None)
    # An async function is the program's main; anything else (a function decorated with @bateau.main) starts its own. A
    # ``partial``, or an object that can be called, shows only then which it is.
    result: Any = bateau.run(fn, *argv) if code is not None and code.co_flags & 0x80 else fn(*argv)
    if hasattr(result, "__await__"):
        result = bateau.run(_await, result)
    if hasattr(result, "__anext__"):
        print(f"bateau run: {label!r} gives an async generator; name a function that iterates over it", file=sys.stderr)
        return 2
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


async def _await(awaitable: Any) -> Any:
    return await awaitable
