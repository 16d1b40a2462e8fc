"""offload: where calls go, what is learned, errors, cancellation."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import pytest

import bateau
from bateau import offload
from support.entries import Entry
from support.par_functions import add, busy, fail_at_seven, pid, square, square_later


def where(_: object = None) -> bool:
    """Whether this runs on the program's own thread."""
    return threading.current_thread() is threading.main_thread()


def test_unknown_leaves_the_loop_and_small_comes_back(entry: Entry) -> None:
    async def main() -> None:
        def local(x: int) -> bool:
            return where(x)

        assert offload.decide(local).reason == "not measured yet"
        assert not await offload(local, 1)
        # A first call may be held up by whatever else runs here: it is learned until it is believed.
        while offload.decide(local).place == "worker":
            await offload(local, 1)
        assert await offload(local, 1)
        stats = offload.stats(local)
        assert stats.offloaded >= 1
        assert stats.inline >= 1
        assert stats.last is not None
        assert stats.last.place == "loop"
        offload.forget(local)
        assert not await offload(local, 1)

    entry.run(main)


def test_the_size_decides() -> None:
    async def main() -> None:
        def cost(seconds: float) -> bool:
            time.sleep(seconds)
            return where()

        await offload(cost, 0.02, size=2000)  # 0.01 ms a unit
        assert not await offload(cost, 0.02, size=2000)
        small, big = offload.decide(cost, size=1), offload.decide(cost, size=1000)
        assert small.place == "loop"
        assert big.place == "worker"
        assert "ms, more than 0.5 ms" in big.reason
        assert await offload(cost, 0.0001, size=1)
        assert offload.decide(cost, size=1, limit=1e-6).place == "worker"

    bateau.run(main, runtime="native")


def test_a_size_far_beyond_what_was_measured_is_not_trusted() -> None:
    async def main() -> None:
        def quick(x: int) -> int:
            return x

        while offload.decide(quick, size=4).place == "worker":
            await offload(quick, 1, size=1)
        far = offload.decide(quick, size=5)
        assert far.place == "worker"
        assert "far beyond the largest measured, 1" in far.reason

    bateau.run(main, runtime="native")


def test_what_turns_out_slow_on_the_loop_leaves_it(entry: Entry) -> None:
    async def main() -> None:
        def moody(seconds: float) -> None:
            time.sleep(seconds)

        while offload.decide(moody).place == "worker":
            await offload(moody, 0)
        await offload(moody, 0.01)  # once, on the loop
        assert offload.decide(moody).place == "worker"

    entry.run(main)


def test_partials_and_methods_are_known_by_what_they_wrap() -> None:
    class Thing:
        def method(self) -> int:
            return 1

    async def main() -> None:
        await offload(Thing().method)
        await offload(functools.partial(add, 1), 2)
        assert offload.stats(Thing().method).offloaded == 1
        assert offload.stats(add).offloaded == 1
        offload.forget(add)

    bateau.run(main, runtime="native")


def test_errors_and_misuse(entry: Entry) -> None:
    async def main() -> None:
        for _ in range(2):
            with pytest.raises(LookupError, match="seven"):
                await offload(fail_at_seven, 7)
        with pytest.raises(TypeError, match="is async: it does not hold the loop"):
            await offload(square_later, 1)
        with pytest.raises(TypeError, match="needs a function, not int"):
            await offload(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="size must be a number"):
            await offload(square, 3, size="big")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="not be negative"):
            await offload(square, 3, size=-1)
        with pytest.raises(TypeError, match="offload needs on="):
            await offload(square, 3, on="processes")  # type: ignore[arg-type]
        offload.forget(fail_at_seven)

    entry.run(main)


def test_cancellation(entry: Entry) -> None:
    async def main() -> None:
        ran = []
        with bateau.move_on_after(None) as scope:
            scope.cancel("before it begins")
            await offload(ran.append, 1)
        assert ran == []

        def helpful() -> None:
            for _ in range(1000):
                time.sleep(0.005)
                bateau.thread.check_cancelled()

        began = time.monotonic()
        with bateau.move_on_after(0.02) as scope:
            await offload(helpful)
        assert scope.cancelled_caught
        assert time.monotonic() - began < 4

    entry.run(main)


def test_to_processes() -> None:
    async def main() -> None:
        import os

        async with bateau.iter.processes(1) as pool:
            assert await offload(pid, None, on=pool) != os.getpid()
            offload.forget(fail_at_seven)  # what is known to be short stays on the loop
            with pytest.raises(LookupError) as info:
                await offload(fail_at_seven, 7, on=pool)
            assert "in fail_at_seven" in str(info.value.__cause__)
            with pytest.raises(TypeError, match="offload.* was given .*lambda"):
                await offload(lambda: 1, on=pool)
            offload.forget(busy)
            began = time.monotonic()
            with bateau.move_on_after(0.1):
                await offload(busy, 30.0, on=pool)
            assert time.monotonic() - began < 15
            results: list[Any] = await bateau.join([offload(add, x, 1, on=pool) for x in range(3)])
            assert results == [1, 2, 3]
        for fn in (pid, fail_at_seven, busy, add):
            offload.forget(fn)

    bateau.run(main, runtime="native")
