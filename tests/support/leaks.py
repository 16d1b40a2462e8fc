"""What a test of this suite may not leave behind: the leak check of `bateau.testing`, as the fixtures in conftest use it."""

from __future__ import annotations

from bateau.testing.leaks import (
    IDLE_POOLS,
    SETTLE_SECONDS,
    ErrorLog,
    Snapshot,
    child_processes,
    live_threads,
    make_process_globals,
    open_descriptors,
)

__all__ = [
    "IDLE_POOLS",
    "SETTLE_SECONDS",
    "ErrorLog",
    "Snapshot",
    "child_processes",
    "live_threads",
    "make_process_globals",
    "open_descriptors",
]
