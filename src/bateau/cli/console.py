"""``bateau console``: the ``top`` for tasks, on programs that run."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..insight.console.app import Console

DESCRIPTION = """\
Follow programs on the screen: their tasks, who waits on what, who could free it, what is wrong and why. A program that runs an agent
(`bateau run`, or `bateau.insight.init()` in it) can also be acted upon: cancel a task, stop a scope, wake a task. Any other Python process
of yours is read from its memory, without disturbing it; or, with --attach, given an agent."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bateau console``."""
    parser.add_argument(
        "target",
        nargs="+",
        help="a process id, the path of an agent's socket, the port of an agent (:9000), a file that `bateau dump --json` wrote, or a core file",
    )
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="seconds between snapshots (default: 1)"
    )
    parser.add_argument(
        "--attach",
        action="store_true",
        help="start an agent in a process that has none, which stays there (Python 3.14 and newer)",
    )
    parser.add_argument("--directory", metavar="DIR", help="where the key D writes graphs (default: here)")


def main(args: argparse.Namespace) -> int:
    """Show it until q is pressed."""
    if not 0.05 <= args.interval <= 3600:
        return _refuse(f"--interval is in seconds, from 0.05 to 3600, not {args.interval:g}")
    directory = Path(args.directory) if args.directory is not None else Path.cwd()
    if not directory.is_dir():
        return _refuse(f"--directory {directory} is no directory")
    why_not = _why_not()
    if why_not:
        return _refuse(why_not)
    from ..insight.console.app import Console
    from ..insight.console.sources import Source, find_source
    from ..insight.console.terminal import lasting
    from ..insight.model import InsightError

    sources: list[Source] = []
    try:
        sources.extend(find_source(target, attached=args.attach) for target in args.target)
        app = Console(sources, interval=args.interval, directory=directory)
        with _ending() as leave, lasting(lambda: leave(app)):
            app.run()
    except InsightError as error:
        return _refuse(str(error))
    finally:
        for source in sources:
            source.close()
    return 0


def run_in_console(options: Sequence[str], *, supervised: bool = False) -> int:
    """``bateau run --console``: run ``bateau run`` with ``options`` in a process of its own, and follow it. Returns its status.

    ``supervised``: report how it ended, as ``bateau run --supervise`` does.
    """
    why_not = _why_not()
    if why_not:
        return _refuse(why_not, "run --console")
    from ..insight.console.app import Console
    from ..insight.console.child import Child, ended_by_signals
    from ..insight.console.terminal import lasting
    from ..insight.model import InsightError
    from ..insight.postmortem.supervising import Witness

    child: Child | None = None
    app: Console | None = None
    asked = False
    witness = Witness()

    def leave() -> None:
        nonlocal asked
        asked = True
        if app is not None:
            leave_app(app)

    with _ending() as leave_app, ended_by_signals(lambda: child, leave) as end, lasting(end):
        child = Child([sys.executable, "-m", "bateau.cli", "run", *options])
        witness.begun(child.process.pid)
        problem: InsightError | None = None
        try:
            source = child.source()
            try:
                app = Console([source], child=child)
                if not asked:
                    app.run()
            finally:
                source.close()
        except InsightError as error:
            problem = error
        finally:
            status = child.close()
            if supervised:
                witness.ended(child.process.returncode, child.ended_at)
        if problem is None or asked:
            return status
        print(f"bateau run --console: {problem}", file=sys.stderr)
        return status or 2


@contextlib.contextmanager
def _ending() -> Generator[Callable[[Console], None], None, None]:
    """Gives what ends a console that is run in the block, from another thread: one that has not begun yet as soon as it has."""
    over = threading.Event()

    def leave(app: Console) -> None:
        while not over.wait(0.02):
            if app.has_begun:
                with contextlib.suppress(RuntimeError):  # it has ended by itself
                    app.call_from_thread(app.exit)
                return

    try:
        yield leave
    finally:
        over.set()


def _why_not() -> str | None:
    """Why there can be no console here."""
    try:
        import textual  # noqa: F401  # pyright: ignore[reportUnusedImport]  # only whether it is there
    except ImportError:
        return "it needs textual: pip install 'bateau[console]'. Without it, `bateau dump` tells the same as text"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "it needs a terminal. `bateau dump` tells the same as text"
    return None


def _refuse(why: str, command: str = "console") -> int:
    print(f"bateau {command}: {why}", file=sys.stderr)
    return 2
