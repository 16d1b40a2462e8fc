"""The simulator over the pure kernel and over its C twin: the same seed makes the same run, in every step, choice and event."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bateau.kernel.twin import native
from support.processes import environment

# What differs most between the two: timers, channels, cancellation, generators, streams, threads, asyncio, processes that die.
PROGRAMS = """
    timeouts locks blocks echo echo, cut law asyncio_gather asyncio_select cancelled_between clock_backwards dead_producer half_open lost_wakeup
    partial_read retry_storm split_brain stale_replica thread_locks torn_write two_channels udp_order unfair_lock
""".split()  # fmt: skip


def digests(pure: bool) -> list[str]:
    """Of every program under each strategy, by an interpreter of its own. The hash seed is part of what decides a run."""
    surroundings = environment(PYTHONHASHSEED="0", BATEAU_PURE="1" if pure else "")
    command = [sys.executable, "-m", "support.sim_digests", "--seeds", "2", *PROGRAMS]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(
    native is None, reason="there is one kernel only: the C twin was not built, or BATEAU_PURE=1 keeps it out"
)
def test_both_kernels_make_the_same_runs() -> None:
    pure, twin = digests(True), digests(False)
    assert len(pure) > 300
    assert [(a, b) for a, b in zip(pure, twin, strict=True) if a != b] == []
