"""``bateau serve``: a handler of connections, on every core."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

import bateau

from .targets import TargetError, load, split

DESCRIPTION = (
    "Run an async function for each connection, in one process per core. SIGTERM or Ctrl-C stops it gracefully, SIGHUP "
    "replaces the workers one after the other (with new code), a worker that dies is started again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bateau serve``."""
    parser.add_argument("target", help="app.py:function or module:function: an async function of one stream")
    parser.add_argument(
        "--bind",
        "-b",
        action="append",
        metavar="ADDRESS",
        help="host:port, :port (every address) or unix:/path; may be repeated (default: 127.0.0.1:8000)",
    )
    parser.add_argument("--workers", "-w", type=int, metavar="N", help="processes (default: one per core)")
    parser.add_argument("--runtime", "-r", metavar="R", help="a name that `bateau runtimes` lists")
    parser.add_argument(
        "--grace", type=float, default=10.0, metavar="S", help="seconds for what runs when it is stopped (default: 10)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="connections open at once in one worker")
    parser.add_argument(
        "--max-restarts", type=int, default=3, metavar="N", help="restarts of one worker within a minute (default: 3)"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until told to stop. Each worker loads the target itself, so that SIGHUP brings new code."""
    from ..kernel.policy import Supervise
    from ..serving import start

    logging.basicConfig(format="bateau serve: %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        split(args.target)
        start(
            lambda: _load(args.target),
            bind=args.bind or ["127.0.0.1:8000"],
            workers=args.workers,
            runtime=args.runtime,
            grace=args.grace,
            policy=Supervise(max_restarts=args.max_restarts),
            limit=args.limit,
            on_ready=lambda addresses: print(f"serving on {', '.join(addresses)}", flush=True),
        )
    except (TargetError, ValueError, OSError, bateau.Unsupported, bateau.WorkersFailed) as error:
        print(f"bateau serve: {error}", file=sys.stderr)
        return 2 if isinstance(error, (ValueError, bateau.Unsupported)) else 1
    return 0


def _load(target: str) -> Any:
    """In the worker."""
    try:
        return load(target)
    except TargetError as error:
        print(f"bateau serve: {error}", file=sys.stderr)
        raise SystemExit(2) from None
