"""bateau's laws under the simulator: each program of ``programs.py`` in many orders, with timeouts at every moment, and cancelled everywhere.

``scripts/explore_laws.py`` does the same for as long as one likes. That it finds something was tried by breaking the code; the first seed that
failed, of ``random`` and of ``pct``: a lock handed to the last who asked (lock_is_fifo: 0, 0), a waiter that gave up and stays in the line
(lock: 0, 0; semaphore: 7, 9), an item handed to a receiver that gave up (channel_loses_nothing: 5, 1), no exclusion at all (lock: 0, 0), and the
bug of ``Condition.wait`` that this folder found on its first day (condition: 96, 12).
"""

from __future__ import annotations

import pytest

import bateau
from bateau import sim, sync
from bateau import time as vtime

from . import programs

SEEDS = 25


@pytest.mark.parametrize("strategy", ["random", "pct"])
@pytest.mark.parametrize("program", programs.PROGRAMS, ids=lambda program: program.__name__)
def test_explored(program, strategy):
    sim.explore(program, seeds=SEEDS, strategy=strategy)


@pytest.mark.parametrize("program", programs.PROGRAMS, ids=lambda program: program.__name__)
def test_cancelled_everywhere(program):
    """The whole program is cancelled at each of its points. It ends, cancelled, without an error and without a deadlock."""
    sim.cancel_everywhere(program, seed=1, strategy="random")


def test_a_wait_on_a_condition_that_is_cancelled_before_it_begins():
    """Found by exploration: the timeout passed while the task was woken from its first wait, and the second one took its own lock again."""

    async def main():
        changed = sync.Condition()

        async def consumer():
            with bateau.move_on_after(1):
                async with changed:
                    await changed.wait()
                    await vtime.sleep(2)
            with bateau.move_on_after(0):
                assert changed.try_acquire()
                try:
                    await changed.wait()
                finally:
                    assert changed.locked()
                    changed.release()
            return "ended"

        async with bateau.scope() as scope:
            task = scope.spawn(consumer)
            await vtime.sleep(0.5)
            async with changed:
                changed.notify()
        assert await task == "ended"
        assert not changed.locked()

    sim.run(main)
    bateau.run(main, runtime="native")
