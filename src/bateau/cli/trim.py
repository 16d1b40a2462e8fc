"""``bateau trim``: a traceback from an issue or a log, without the frames of bateau, asyncio, trio and anyio."""

from __future__ import annotations

import argparse
import sys

DESCRIPTION = (
    "Read text with tracebacks (an issue, a log) and print it with each shown as bateau shows its own: the user's "
    "frames, groups with one part as one trace, spawn sites. Frames of bateau, asyncio, trio and anyio are left out, but for those of a call of yours that failed in there."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the subcommand."""
    parser.add_argument("file", nargs="?", default="-", help="a file with the text (default: standard input)")


def main(args: argparse.Namespace) -> int:
    """Print the text, each traceback in it trimmed."""
    try:
        if args.file == "-":
            if sys.stdin.isatty():
                print("bateau trim: paste the text, and end it with Ctrl-D on a line of its own", file=sys.stderr)
            raw = getattr(sys.stdin, "buffer", None)  # what was pasted may be in any encoding
            text = raw.read().decode("utf-8", "replace") if raw is not None else sys.stdin.read()
        else:
            with open(args.file, encoding="utf-8", errors="replace") as file:
                text = file.read()
    except OSError as error:
        print(f"bateau trim: can't read {args.file}: {error.strerror}", file=sys.stderr)
        return 2
    from ..insight.tracebacks import trim

    sys.stdout.write(trim(text))
    return 0
