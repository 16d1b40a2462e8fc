"""Waiting in tests for a state, not for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import bateau

T = TypeVar("T")


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


def wait_until(find: Callable[[], T], seconds: float = 20.0) -> T:
    """Ask until there is a true answer, and return it. For plain threads, about what another one is doing."""
    end = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < end, f"still {found!r} after {seconds} s"
        time.sleep(0.005)
    return found
