"""The main function is resumed without the program's root scope above it (``kernel.direct``), and nobody can tell but by the clock."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest

import bateau
from bateau.kernel import direct, instrument
from bateau.kernel.errors import PACKAGE_DIR
from bateau.kernel.instrument import Instrument
from bateau.kernel.twin import native
from bateau.runtimes.native import NativeRuntime


class Fifo(deque[Any]):
    """A scheduling policy, under which every step is Python's."""

    push = deque.append
    pop = deque.popleft  # type: ignore[assignment]


@pytest.fixture(params=["turn in C", "policy"])
def runs(request):
    """``run`` of the native runtime, with its turn in C where there is one, and with that in Python."""
    return NativeRuntime(None if request.param == "turn in C" else Fifo).run


def frames(error):
    """The names of the functions in its traceback, without bateau's."""
    found, tb = [], error.__traceback__
    while tb is not None:
        if not tb.tb_frame.f_code.co_filename.startswith(PACKAGE_DIR):
            found.append(tb.tb_frame.f_code.co_name)
        tb = tb.tb_next
    return found


@pytest.mark.skipif(native is None, reason="the turn in C does it")
def test_nothing_of_ours_is_resumed_above_it(runs):
    async def main():
        task = bateau.current_task()
        above = task.coro
        await bateau.yield_now()
        assert task.coro.cr_code is main.__code__
        frame = sys._getframe(1)
        while frame is not None:
            assert frame.f_code is not above.cr_code
            frame = frame.f_back
        return task

    task = runs(main)
    assert task.aside is None
    assert task.coro.cr_code is not main.__code__


def test_what_it_returns_and_raises(runs):
    async def returns(waits):
        for _ in range(waits):
            await bateau.yield_now()
        return waits

    async def raises(waits):
        await returns(waits)
        raise ValueError(waits)

    for waits in (0, 1, 2):
        assert runs(returns, waits) == waits
        with pytest.raises(ValueError, match=str(waits)) as caught:
            runs(raises, waits)
        assert caught.value.__context__ is None
        assert frames(caught.value)[-1] == "raises"


def test_it_is_awaited_with_the_programs_scope_around_it(runs):
    """The end of the main function is not the program's: what it has spawned into the root is waited for, and can fail it."""
    order = []

    async def late(error):
        await bateau.time.sleep(0.001)
        order.append("late")
        if error is not None:
            raise error

    async def spawns(error):
        root = bateau.current_task().node
        assert isinstance(root, bateau.Scope)
        root.spawn(late, error)
        await bateau.yield_now()
        order.append("main")
        return "value"

    assert runs(spawns, None) == "value"
    assert order == ["main", "late"]
    with pytest.raises(ExceptionGroup) as caught:
        runs(spawns, ValueError("late"))
    assert caught.value.__context__ is None


OWN_TURN = """
import bateau, sys
from bateau.runtimes import native

class Own(native.NativeEngine):
    def park(self, task):
        return super().park(task)

async def main():
    def fail():
        raise KeyError("deferred")

    await bateau.yield_now()
    bateau.current_task().node.defer(fail)

for native.NativeEngine in (native.NativeEngine, Own):
    try:
        native.NativeRuntime().run(main)
    except ExceptionGroup as error:
        print(repr(error.__context__), "asyncio" in sys.modules)
"""


def test_what_fails_after_its_end_is_no_consequence_of_it():
    """On an engine as well whose class has a part of its own, so that the turn is Python's: without asyncio, the quick one."""
    done = subprocess.run([sys.executable, "-c", OWN_TURN], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["None False"] * 2


def test_cancelled_it_ends_as_cancelled(runs):
    async def main(node_of):
        await bateau.yield_now()
        node_of(bateau.current_task()).cancel("enough")
        try:
            await bateau.time.sleep(3600)
        finally:
            with bateau.shield():
                await bateau.yield_now()

    with pytest.raises(bateau.Cancelled) as caught:
        runs(main, lambda task: task.node)
    assert caught.value.__context__ is None
    with pytest.raises(bateau.Cancelled):
        runs(main, lambda task: task)


def test_an_awaitable_that_is_no_coroutine_is_awaited_as_ever(runs):
    class Awaitable:
        def __await__(self) -> Generator[Any, Any, int]:
            yield from bateau.yield_now().__await__()
            return 4

    assert runs(Awaitable) == 4


def test_each_step_is_told_once(runs):
    told: list[str] = []

    class Notes(Instrument):
        def step(self, task: Any) -> None:
            told.append("step")

        def park(self, task: Any) -> None:
            told.append("park")

        def end(self, task: Any, error: BaseException | None) -> None:
            told.append("end")

    async def main():
        await bateau.yield_now()
        await bateau.time.sleep(0.001)

    uninstall = instrument.install(lambda host: Notes())
    try:
        runs(main)
    finally:
        uninstall()
    assert told == ["step", "step", "park", "step", "end"]


def test_a_nested_program_within_it(runs):
    async def inner():
        await bateau.yield_now()
        return bateau.current_task().name

    async def main():
        await bateau.yield_now()
        found = bateau.block_on(inner)
        await bateau.yield_now()
        return found, bateau.current_task().name

    assert runs(main) == ("block_on in main", "main")


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # that its scopes are left outside the task
def test_a_program_that_can_not_end_is_closed_from_the_inside(runs):
    order: list[str] = []

    async def main():
        try:
            await bateau.sync.Event().wait()
        finally:
            try:
                with bateau.shield():
                    await bateau.sync.Event().wait()
            finally:
                order.append("main")

    with pytest.raises(bateau.Deadlock):
        runs(main)
    assert order == ["main"]


@pytest.mark.skipif(native is None, reason="only with the twin is it resumed directly")
@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_a_signal_handler_that_raises_while_it_is_put_below_raises_inside_it(runs, monkeypatch, late, goes_on):
    """The engine is told in a few steps whom to resume; what a handler raises between two of them is lost nowhere."""
    order: list[str] = []

    class Interrupted(direct.Aside):
        __slots__ = ()

        def __setattr__(self, name: str, value: Any) -> None:
            if late:
                super().__setattr__(name, value)
            if name == "above" and value is not None and not order:
                order.append("signal")
                raise KeyboardInterrupt
            if not late:
                super().__setattr__(name, value)

    async def child():
        try:
            await bateau.time.sleep(3600 if not goes_on else 0)
        finally:
            order.append("child")

    async def main():
        bateau.current_task().node.spawn(child)
        try:
            await bateau.yield_now()
        except KeyboardInterrupt:
            order.append("inside")
            if not goes_on:
                raise
        await bateau.yield_now()
        return "value"

    monkeypatch.setattr(direct, "Aside", Interrupted)
    if goes_on:
        assert runs(main) == "value"
    else:
        with pytest.raises(KeyboardInterrupt) as caught:
            runs(main)
        assert caught.value.__context__ is None
    assert order == ["signal", "inside", "child"]


def test_closed_from_above_the_inner_one_is_closed_first(monkeypatch):
    """As where all of a program is garbage, and the collector begins with what is above."""
    order: list[str] = []

    class Suspends:
        def __await__(self) -> Generator[Any, Any, None]:
            yield

    async def main():
        try:
            await Suspends()
        except GeneratorExit:
            order.append("main")
            raise

    async def above():
        try:
            await direct.resumed_directly(main())
        finally:
            order.append("above")

    task: Any = SimpleNamespace(aside=None, send=None, coro=above())
    mine = task.coro
    monkeypatch.setattr(direct, "tls", SimpleNamespace(running=SimpleNamespace(task=task)))
    mine.send(None)
    assert task.coro.cr_code is main.__code__
    mine.close()
    assert order == ["main", "above"]
    assert (task.coro, task.aside) == (mine, None)
