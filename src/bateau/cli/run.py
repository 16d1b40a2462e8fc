"""``bateau run``: a script or a function, on a chosen runtime."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from importlib import import_module
from typing import Any

import bateau

from ..runtimes import registry


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
    path, colon, name = args.target.rpartition(":")
    if not colon:
        path, name = args.target, ""
    if path.endswith(".py"):
        return _run_file(path, name, args.args)
    if not name:
        print(
            f"bateau run: {args.target!r} is neither a file (app.py) nor a function (module:function)", file=sys.stderr
        )
        return 2
    sys.path.insert(0, os.getcwd())
    sys.argv = [args.target, *args.args]
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise
        print(f"bateau run: no module named {path!r} here or on sys.path", file=sys.stderr)
        return 2
    return _call(getattr(module, name, None), args.target, args.args)


def _run_file(path: str, name: str, argv: list[str]) -> int:
    if not os.path.isfile(path):
        print(f"bateau run: no file {path!r}", file=sys.stderr)
        return 2
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    sys.argv = [path, *argv]
    if not name:
        runpy.run_path(path, run_name="__main__")
        return 0
    return _call(runpy.run_path(path, run_name="__bateau__").get(name), f"{path}:{name}", argv)


def _call(fn: Any, label: str, argv: list[str]) -> int:
    if not callable(fn):
        print(f"bateau run: {label!r} names no function", file=sys.stderr)
        return 2
    function: Any = fn
    code = getattr(fn, "__code__", None)
    # An async function is the program's main; anything else (a function decorated with @bateau.main) starts its own. A
    # ``partial``, or an object that can be called, shows only then which it is.
    result: Any = bateau.run(function, *argv) if code is not None and code.co_flags & 0x80 else fn(*argv)
    if hasattr(result, "__await__"):
        result = bateau.run(_await, result)
    if hasattr(result, "__anext__"):
        print(f"bateau run: {label!r} gives an async generator; name a function that iterates over it", file=sys.stderr)
        return 2
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


async def _await(awaitable: Any) -> Any:
    return await awaitable
