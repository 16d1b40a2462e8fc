"""A server of the cluster, as a program.

    bateau run examples/raft/server.py --id a --peers a=127.0.0.1:9001,b=127.0.0.1:9002,c=127.0.0.1:9003 --data /tmp/raft/a
    bateau run examples/raft/server.py --id d --listen 127.0.0.1:9004 --data /tmp/raft/d        # to be added to a running cluster

It prints a line when it listens. Ctrl-C and SIGTERM end it at once: it may be killed at any moment, so there is nothing to do before.
"""

from __future__ import annotations

import argparse
import logging
import signal as signals
import sys
from pathlib import Path

if __name__ in ("__main__", "__bateau__"):  # run as a file: the package is where this file's directory is
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bateau
from bateau import signal
from raft.consensus import Timing
from raft.log import Diverged
from raft.node import Node
from raft.storage import Damaged


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run one server of a raft cluster.")
    parser.add_argument("--id", required=True, help="this server's name in the cluster")
    parser.add_argument("--peers", default="", help="the first members, this one among them: id=host:port,...")
    parser.add_argument("--listen", default="", help="host:port of a server that will be added later")
    parser.add_argument(
        "--data", required=True, help="the directory of what must survive a crash; made if it is not there"
    )
    parser.add_argument(
        "--election", type=float, default=Timing().election, help="seconds without a leader (default: 0.3)"
    )
    parser.add_argument("--verbose", "-v", action="store_true", help="say what happens")
    args = parser.parse_args()
    args.members = dict(one.split("=", 1) for one in args.peers.split(",") if "=" in one)
    args.listen = args.listen or args.members.get(args.id, "")
    if not args.listen:
        parser.error(f"--peers must have {args.id}=host:port, or --listen must say where this server can be reached")
    return args


async def stop_on_sigterm(scope: bateau.Scope) -> None:
    """SIGTERM does what Ctrl-C does."""
    with signal.open(signals.SIGTERM) as received:
        await received.wait()
        scope.cancel("SIGTERM")


@bateau.main
async def main() -> int:
    args = _arguments()
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.INFO, format="%(message)s")
    timing = Timing(args.election, args.election / 5)
    node = Node(args.id, args.listen, args.data, args.members or None, timing)
    try:
        async with bateau.scope(name="server") as scope:
            scope.token.on_stop(lambda: scope.cancel("asked to stop"))
            scope.spawn(stop_on_sigterm, scope, background=True)
            await node.run()
    except (OSError, Damaged, Diverged) as error:
        print(f"{args.id}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
