"""The third Ctrl-C ends what the first two did not, wherever it finds the program: also in the middle of the loop's own work."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from functools import partial

import pytest

import bateau
from bateau import thread
from bateau.runtimes import interrupts

INTERRUPT = partial(
    signal.raise_signal, signal.SIGINT
)  # called by a loop, its handler finds the loop's frame innermost


async def _turns(count=5):
    for _ in range(count):
        await bateau.yield_now()


def _twice_then(third, shielded):
    """A program that is cancelled by two Ctrl-Cs, and waits on in `shielded`; `third` is called in there."""
    log = []

    async def main():
        try:
            async with bateau.scope() as scope:
                scope.spawn(sleeper, name="sleeper")
                INTERRUPT()
                await _turns()
                INTERRUPT()
                await bateau.time.sleep(60)
        finally:
            log.append("main left")

    async def sleeper():
        try:
            await bateau.time.sleep(60)
        finally:
            log.append("cleanup")
            await shielded(third)
            log.append("not reached: the next wait raises")

    return main, log


async def _under_a_shield(third):
    with bateau.shield():
        third()
        await bateau.time.sleep(60)
    await bateau.checkpoint()


async def _under_a_budget(third):
    async with bateau.cleanup(50):
        third()
        await bateau.time.sleep(60)
    await bateau.checkpoint()


async def _in_a_shielded_scope(third):
    async with bateau.scope(shield=True) as scope:
        scope.spawn(bateau.time.sleep, 60)
        third()
    await bateau.checkpoint()


@pytest.mark.law(6)
@pytest.mark.parametrize("shielded", [_under_a_shield, _under_a_budget, _in_a_shielded_scope])
def test_found_in_the_loop_it_breaks_the_shields_and_the_program_ends_in_order(runtime, shielded):
    def third():
        bateau.current_task().host.call_soon(INTERRUPT)

    main, log = _twice_then(third, shielded)
    with pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert log == ["cleanup", "main left"]


@pytest.mark.law(6)
def test_found_in_a_program_s_own_code_it_raises_on_the_spot(runtime):
    raised = []

    async def main():
        for _ in range(2):
            INTERRUPT()
        try:
            INTERRUPT()
        except KeyboardInterrupt:
            raised.append("here")
            raise

    with pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert raised == ["here"]


@pytest.mark.law(6)
def test_three_at_once_before_the_loop_has_heard_of_any(runtime):
    """A stubborn key: the three signals come from the loop, one after the other, to a program that waits."""
    left = []

    async def main():

        host = bateau.current_task().host
        for _ in range(3):
            host.call_soon(INTERRUPT)
        try:
            await thread.CallbackFuture()
        finally:
            left.append(True)

    with pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert left == [True]


def test_whose_frame_it_is():
    assert not interrupts.in_the_loop(sys._getframe())
    assert not interrupts.in_the_loop(None)
    here = []
    stack = ExitStack()
    stack.callback(lambda: here.append(interrupts.in_the_loop(sys._getframe(1))))
    stack.close()  # the standard library, called from a program
    assert here == [False]


def test_one_that_comes_while_the_one_before_is_handled_is_found_where_that_was():
    """On its way to the loop, the handler is in bateau's files, and in asyncio's."""
    found = []

    def handler(depth, frame):
        if depth:
            handler(depth - 1, sys._getframe())
        else:
            found.append(interrupts.found_at(frame, handler.__code__))

    handler(2, sys._getframe())
    handler(0, sys._getframe())
    assert found == [sys._getframe()] * 2
