"""Both type checkers agree with the `*_types.py` beside this: what should be inferred is, and what is wrong is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_types(checker, tmp_path):
    pytest.importorskip(checker, reason="the type checkers are in bateau[dev]")
    targets = [str(path) for path in sorted(HERE.glob("*_types.py")) if not path.name.startswith("test_")]
    if checker == "mypy":
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), *targets]
    else:
        command = [sys.executable, "-m", "pyright", *targets]  # strict, by the project's settings
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
