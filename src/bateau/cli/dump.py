"""``bateau dump PID``: what every task of a running process is doing."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from ..insight.client import Client, NoAgent, connect
from ..insight.errors import InsightError
from ..insight.pausing import collector_paused
from ..insight.readers import ProcessMemory, reader_for

if TYPE_CHECKING:
    from ..insight.model import Reader, Snapshot, Want
    from ..insight.rendering import Format

# What a core file begins with.
ELF = b"\x7fELF"

DESCRIPTION = (
    "Ask the agent in a process (`bateau run` starts one, and bateau.insight.init()), or, where there is none or it does "
    "not answer, read the process's memory: any asyncio or trio program, prepared or not."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bateau dump``."""
    parser.add_argument(
        "pid", nargs="?", type=int, metavar="PID", help="the process; any Python program of yours will do"
    )
    parser.add_argument(
        "--port", type=int, help="ask the agent at this port of 127.0.0.1 (token: BATEAU_INSIGHT_TOKEN)"
    )
    parser.add_argument("--socket", metavar="PATH", help="ask the agent at this Unix socket")
    parser.add_argument(
        "--file",
        metavar="FILE",
        help="read a snapshot that was written with --json (-: standard input), or a core file (gcore PID)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_const", dest="form", const="json", help="the whole snapshot, for programs"
    )
    form.add_argument("--dot", action="store_const", dest="form", const="dot", help="the wait graph, for Graphviz")
    form.add_argument(
        "--mermaid", action="store_const", dest="form", const="mermaid", help="the wait graph, for Markdown"
    )
    form.add_argument("--macro", metavar="NAME", help="what a macro (or module:function) makes of the snapshot")
    form.add_argument("--task", metavar="ID|NAME", help="one task: its whole stack and the chain to who could free it")
    parser.add_argument("--memory", action="store_true", help="with the bytes that each suspended task takes")
    parser.add_argument("--context", action="store_true", help="with each task's context variables")
    parser.add_argument("--from-memory", action="store_true", help="don't ask an agent: read the process's memory")
    parser.add_argument(
        "--attach",
        action="store_true",
        help="start an agent in the process if it has none, which stays there (Python 3.14 and newer)",
    )
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="S", help="seconds to wait for the agent (default: 5)"
    )
    parser.set_defaults(form="text")


def main(args: argparse.Namespace) -> int:
    """Write the dump to standard output; returns the exit status."""
    if sum(each is not None for each in (args.pid, args.port, args.socket, args.file)) != 1:
        print("bateau dump: name one of PID, --port, --socket and --file", file=sys.stderr)
        return 2
    if args.attach and (args.pid is None or args.from_memory):
        print(
            "bateau dump: --attach starts an agent in a process: name its PID, without --from-memory", file=sys.stderr
        )
        return 2
    try:
        with collector_paused():
            _write(_dump(args, _want(args)))
    except InsightError as error:
        print(f"bateau dump: {error}", file=sys.stderr)
        return 1
    return 0


def _want(args: argparse.Namespace) -> Want | None:
    if not (args.memory or args.context):
        return None  # an agent's answer is only handed on: what a snapshot is made of need not be loaded for it
    from ..insight.model import Want

    return Want(memory=args.memory, context=args.context)


def _write(found: str | memoryview) -> None:
    """To standard output: bytes as they are, where it takes any."""
    if not isinstance(found, str):
        out = getattr(sys.stdout, "buffer", None)
        if out is not None:
            sys.stdout.flush()
            out.write(found)
            out.write(b"\n")
            return
        found = str(found, "utf-8") + "\n"
    sys.stdout.write(found)


def _dump(args: argparse.Namespace, want: Want | None) -> str | memoryview:
    if args.file is not None:
        return _show(args, _from_file(args.file))
    reader: Reader | None = None
    try:
        try:
            reader = _reader(args)
            return _ask(args, reader, want)
        except NoAgent as error:
            if args.pid is None:
                raise
            _say(f"{error}; reading its memory instead")
            return _show(args, _read(ProcessMemory(args.pid), want))
    finally:
        if isinstance(reader, Client):
            reader.close()


def _ask(args: argparse.Namespace, reader: Reader, want: Want | None) -> str | memoryview:
    """Text and JSON are made by the agent: a snapshot of 100,000 tasks is not taken apart on the way."""
    if isinstance(reader, Client) and args.macro is None and args.task is None:
        if args.form == "text":
            return reader.text(want)
        if args.form == "json":
            return reader.json_bytes(want)
    return _show(args, _read(reader, want))


def _read(reader: Reader, want: Want | None) -> Snapshot:
    """What was asked for and can't be had is said, not left out in silence."""
    snapshot = reader.read(want)
    if want is not None and snapshot.source == "memory" and (want.memory or want.context):
        _say(
            "--memory and --context need an agent in the process (bateau.insight.init(), or bateau run): from outside they can't be read"
        )
    return snapshot


def _reader(args: argparse.Namespace) -> Reader:
    if args.port is not None:
        return connect(port=args.port, timeout=args.timeout)
    if args.socket is not None:
        return connect(path=args.socket, timeout=args.timeout)
    if args.attach:
        from ..insight.attaching import attach

        return attach(args.pid, timeout=args.timeout)
    if args.from_memory:
        return ProcessMemory(args.pid)
    reader, why = reader_for(args.pid, timeout=args.timeout)
    if why is not None and sys.stderr.isatty():
        _say(f"{why}. Reading its memory instead")
    return reader


def _from_file(name: str) -> Snapshot:
    from ..insight.schema import from_json

    try:
        if name == "-":
            return from_json(sys.stdin.buffer.read())
        with open(name, "rb") as file:
            if file.peek(4)[:4] != ELF:
                return from_json(file.read())
    except OSError as error:
        raise InsightError(f"{name}: {error.strerror}") from error
    from ..insight.memory import read_core

    return read_core(name)


def _show(args: argparse.Namespace, snapshot: Snapshot) -> str:
    if args.macro is not None:
        import json

        from ..insight.extending import run_macro

        if ":" in args.macro:
            with contextlib.suppress(FileNotFoundError):  # the directory has been deleted
                if os.getcwd() not in sys.path:
                    sys.path.insert(0, os.getcwd())  # as Python does it for a module that it runs
        found = run_macro(args.macro, snapshot)
        return found if isinstance(found, str) else json.dumps(found, indent=2, default=str) + "\n"
    if args.task is not None:
        return _one(snapshot, args.task)
    from ..insight.rendering import render

    form: Format = args.form
    return render(snapshot, form)


def _one(snapshot: Snapshot, wanted: str) -> str:
    import difflib

    from ..insight.explain import explain_task
    from ..insight.naming import id_of
    from ..insight.words import count

    found = [task for task in snapshot.tasks if wanted in (task.name, str(task.id), id_of(task))]
    if not found:
        names = list(dict.fromkeys(task.name for task in snapshot.tasks))
        near = difflib.get_close_matches(wanted, names, 4, 0.4) or names[:4]
        raise InsightError(
            f"there is no task {wanted!r} among {count(len(snapshot.tasks), 'task')}"
            + (f"; there is, for example, {', '.join(map(repr, near))}" if near else "")
        )
    return "\n".join(explain_task(snapshot, task.id) for task in found)


def _say(text: str) -> None:
    print(f"bateau dump: {text}", file=sys.stderr)
