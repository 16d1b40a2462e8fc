"""The C part of bateau.sync: what it does is what the pure part does, line by line, over programs made at random."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bateau.kernel import twin

pytestmark = pytest.mark.skipif(twin.native is None, reason=f"the C part is not in use: {twin.why_pure}")

PROGRAMS = Path(__file__).with_name("sync_programs.py")


def lines(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(PROGRAMS), "0", "60"], check=True, capture_output=True, text=True, timeout=100,
        env={**os.environ, **environment},
    )  # fmt: skip
    return done.stdout.splitlines()


def test_both_kernels_do_the_same_in_the_same_order():
    native, pure = lines(), lines(BATEAU_PURE="1")
    assert len(native) > 10_000
    assert native == pure
    for what in (
        "was notified: True",
        "would wait for itself",
        "met AbandonedLock",
        "was cancelled",
        "released too often",
    ):
        assert any(what in line for line in native), f"no program {what}"
