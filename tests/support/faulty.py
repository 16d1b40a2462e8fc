"""Programs in a process of their own whose system calls fail on demand: see faults.c. Not a test module."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("faults.c")

# What every such program begins with.
HEAD = """
import asyncio, contextlib, ctypes, errno, os, socket, sys, threading, time
library = ctypes.CDLL({library!r})
def plan(call, code, *, times=1, skip=0):
    assert library.fault_plan(call.encode(), code, skip, times) == 0
def limit(call, size):
    assert library.fault_limit(call.encode(), ctypes.c_size_t(size)) == 0
def hits(call):
    return library.fault_hits(call.encode())
def set_clock(clock, seconds):
    library.fault_clock(clock, ctypes.c_double(seconds))
import bateau, bateau.time
from bateau import net
from bateau.interop.asyncio import new_event_loop
def on_loop(main):
    async def limited():
        return await asyncio.wait_for(main(), 60)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(limited())
"""


@functools.cache
def library() -> str:
    """The shared object, built once per state of its source. Skips the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("making system calls fail needs Linux and a C compiler")
    name = f"bateau-faults-{os.getuid()}-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    built = Path(tempfile.gettempdir()) / name
    if not built.exists():
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / name
            subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl"], check=True, env=_plain())
            os.replace(made, built)  # two test processes may do this at once
    return str(built)


def _plain() -> dict[str, str]:
    """The environment without what is preloaded into us: a compiler has no use for a sanitizer."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def run(program: str, *, seconds: float = 100) -> str:
    """Run it over the failing system calls; it must end well and say nothing on stderr. What it printed.

    It writes no bytecode: Python does not look how much of that a short write took, and the torn file would break every later import.
    """
    found = library()
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), found]))
    done = subprocess.run(
        [sys.executable, "-B", "-X", "faulthandler", "-c", HEAD.format(library=found) + textwrap.dedent(program)],
        check=False, capture_output=True, text=True, timeout=seconds, env={**os.environ, "LD_PRELOAD": preload},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert not done.stderr, done.stderr[-4000:]
    return done.stdout
