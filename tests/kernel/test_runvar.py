"""Variables of one run: shared by its tasks, unknown to other runs."""

from __future__ import annotations

import threading

import pytest

import bateau
from bateau import RunVar

counter: RunVar[int] = RunVar("counter", default=0)
required: RunVar[str] = RunVar("required")


def test_shared_by_all_tasks_of_a_run(entry):
    async def bump():
        counter.set(counter.get() + 1)
        await bateau.yield_now()

    async def main():
        assert counter.get() == 0
        async with bateau.scope() as scope:
            for _ in range(5):
                scope.spawn(bump)
        return counter.get()

    assert entry.run(main) == 5
    assert entry.run(main) == 5  # a new run starts anew


def test_default_and_missing(entry):
    async def main():
        with pytest.raises(LookupError, match="required"):
            required.get()
        assert required.get("x") == "x"
        assert required.get(None) is None
        required.set("y")
        assert required.get("x") == "y"

    entry.run(main)


def test_reset(entry):
    async def main():
        first = required.set("a")
        second = required.set("b")
        assert second.old_value == "a" and first.old_value is None
        required.reset(second)
        assert required.get() == "a"
        with pytest.raises(RuntimeError, match="used before"):
            required.reset(second)
        with pytest.raises(ValueError, match="was not made by"):
            counter.reset(first)  # type: ignore[arg-type]
        required.reset(first)
        with pytest.raises(LookupError):
            required.get()
        return required.set("again")

    token = entry.run(main)

    async def other():
        with pytest.raises(ValueError, match="another run"):
            required.reset(token)

    entry.run(other)


@pytest.mark.real_os("two real threads meet")
def test_two_runs_at_once(runtime):
    seen: dict[int, int] = {}
    barrier = threading.Barrier(2, timeout=20)

    async def main(n):
        counter.set(n)
        barrier.wait()
        await bateau.yield_now()
        seen[n] = counter.get()

    threads = [threading.Thread(target=runtime.run, args=(main, n)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {1: 1, 2: 2}


def test_wrong_use():
    with pytest.raises(bateau.NotInRuntime):
        counter.get()
    with pytest.raises(TypeError, match="must be a str"):
        RunVar(3)  # type: ignore[arg-type]
    assert "counter" in repr(counter)
