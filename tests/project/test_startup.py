"""`import bateau` is light: it loads no event loop, no sockets, no threads, and takes a few milliseconds."""

from __future__ import annotations

import subprocess
import sys

from support.debug_build import needs_optimised_python
from support.sanitizer import needs_plain_speed

# What a program that only wanted a lock or a scope should never pay for. `_thread` is enough for locks and idents.
HEAVY = {
    "asyncio",
    "trio",
    "uvloop",
    "anyio",
    "sniffio",
    "socket",
    "ssl",
    "threading",
    "selectors",
    "subprocess",
    "concurrent",
}

BUDGET_MS = 30.0
TRIES = 15


def python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, check=True)


def test_import_loads_nothing_heavy() -> None:
    # Against a bare interpreter: what site and .pth files of the environment load is not ours.
    script = "import sys; before = set(sys.modules); import bateau; print(*sorted(set(sys.modules) - before))"
    loaded = set(python("-I", "-c", script).stdout.split())
    assert "bateau" in loaded
    assert not HEAVY.intersection(loaded)


@needs_plain_speed
@needs_optimised_python
def test_import_is_fast() -> None:
    # The processor's time, and the best of many tries: a machine that has other things to do only adds to the clock's.
    best = min(_import_ms() for _ in range(TRIES))
    assert best < BUDGET_MS, f"`import bateau` took {best:.1f} ms at best; see python -X importtime -c 'import bateau'"


def _import_ms() -> float:
    script = "import time; began = time.process_time(); import bateau; print(time.process_time() - began)"
    return float(python("-I", "-c", script).stdout) * 1000
