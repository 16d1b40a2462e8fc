"""S48: async is wrong for computing, and nobody says so.

The happy ending: the program is told where its chain never waits, and the same graph of neighbour-dependent work runs on one worker, on two
processes and on a Dask cluster of two workers, with the same result to the last bit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bateau
from support.par_functions import busy

ROOT = Path(__file__).parents[2]
WORK = ["--blocks", "6", "--size", "60", "--steps", "12"]


def heat(*args: str, runtime: str = "native") -> str:
    """The example's fingerprint of all cells."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/heat.py"), *args, *WORK],
        env={**os.environ, "BATEAU_RUNTIME": runtime},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{args[1]}: 6 blocks of 60 cells, 12 steps in ")
    return second


def test_s48_bit_identical() -> None:
    pytest.importorskip("distributed", reason="needs `pip install bateau[dask]`")
    one = heat("--on", "tasks")
    assert "hottest" in one
    assert heat("--on", "threads", runtime="asyncio") == one
    assert heat("--on", "processes") == one
    assert heat("--on", "processes", runtime="trio") == one
    assert heat("--on", "dask") == one


def test_s48_the_advice_to_leave_async() -> None:
    async def main() -> None:
        with pytest.warns(bateau.HazardWarning, match="never_waits.*processes.*or leave async out of it"):
            await bateau.iter([0.01] * 40).par(4).map(busy).collect()

    bateau.run(main, runtime="native")
