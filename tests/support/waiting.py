"""Waiting in tests for a state, not for a while."""

from __future__ import annotations

from collections.abc import Callable

import bateau


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Let the others run until `condition()` is true. For what other tasks of this very runtime are about to do."""
    with bateau.timeout(seconds):
        for round_ in range(10**9):
            if condition():
                return
            if round_ < 1000:
                await bateau.yield_now()
            else:  # another thread is involved: do not spin
                await bateau.time.sleep(0.001)
