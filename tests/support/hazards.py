"""What the programs of tests/insight/cases share: waiting for the finding that each is written for."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import bateau
from bateau import insight

# After so many seconds without the finding, the program goes on, and its test fails by what is missing.
PATIENCE = 20.0


async def until_found(name: str) -> None:
    """Wait until there is a finding of that name."""
    end = time.monotonic() + PATIENCE
    while not insight.findings(name) and time.monotonic() < end:
        await bateau.time.sleep(0.01)


async def until_found_by_asyncio(name: str) -> None:
    """The same in a program that uses asyncio alone."""
    end = time.monotonic() + PATIENCE
    while not insight.findings(name) and time.monotonic() < end:
        await asyncio.sleep(0.01)


def until_found_off_loop(name: str, loop: Any) -> threading.Thread:
    """The same on a thread, which wakes the loop then: for programs whose loop must not be woken before."""

    def wait() -> None:
        end = time.monotonic() + PATIENCE
        while not insight.findings(name) and time.monotonic() < end:
            time.sleep(0.01)
        loop.call_soon_threadsafe(lambda: None)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
