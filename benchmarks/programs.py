"""The programs that some workloads need beside Python: loads and limits in C, compiled on demand, and commands like ``wrk``.

The runner compiles what the selected cases need into one temporary directory and tells the measured processes by environment
variables where it is, and which core the loads are to use. Light, because every measured process imports it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

SOURCES = Path(__file__).with_name("c")
DIRECTORY = "BATEAU_BENCH_PROGRAMS"
"""Environment variable with the directory of the compiled programs."""
CLIENT_CPU = "BATEAU_BENCH_CLIENT_CPU"
"""Environment variable with the core for loads, or unset."""


def compiler() -> str | None:
    """The C compiler, or None where there is none or these programs (epoll) can't run."""
    if not sys.platform.startswith("linux"):
        return None
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


@contextmanager
def compiled(names: Iterable[str]) -> Generator[Path]:
    """A directory with the compiled programs. Raises RuntimeError without a compiler, CalledProcessError if it refuses."""
    found = compiler()
    with tempfile.TemporaryDirectory(prefix="bateau-bench-") as directory:
        for name in sorted(set(names)):
            if found is None:
                raise RuntimeError(f"{name} needs Linux and a C compiler (install gcc, or set CC)")
            source, target = SOURCES / f"{name}.c", Path(directory, name)
            subprocess.run([found, "-O2", "-Wall", "-o", str(target), str(source)], check=True, timeout=120)
        yield Path(directory)


def program(name: str) -> str:
    """The path of a compiled program; raises RuntimeError outside a run of the harness."""
    if not (directory := os.environ.get(DIRECTORY)):
        raise RuntimeError(f"{name} has not been compiled: start the measurement by `python -m benchmarks`")
    return os.path.join(directory, name)


def start_load(*command: str, **options: int | None) -> subprocess.Popen[bytes]:
    """Start a load on the core that is kept for loads. Does not wait.

    A child inherits the affinity of the thread that makes it, so this thread goes there for the moment of the start.
    """
    core = os.environ.get(CLIENT_CPU)
    if core is None:
        return subprocess.Popen(command, **options)  # type: ignore[call-overload,no-any-return]  # options by name only
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        return subprocess.Popen(command, **options)  # type: ignore[call-overload,no-any-return]  # options by name only
    finally:
        os.sched_setaffinity(0, own)
