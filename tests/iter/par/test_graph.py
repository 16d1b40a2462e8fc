"""Task graphs: values, order, bounds, errors, leaving."""

from __future__ import annotations

from typing import Any

import pytest

import bateau
from support.entries import Entry
from support.par_functions import step


def ring(n: int) -> dict[int, list[int]]:
    return {k: [(k - 1) % n, (k + 1) % n] for k in range(n)}


def plainly(values: dict[int, float], around: dict[int, list[int]], steps: int) -> dict[int, float]:
    for _ in range(steps):
        values = {k: step(k, v, {n: values[n] for n in around[k]}) for k, v in values.items()}
    return values


@pytest.mark.parametrize("n", [1, 2, 3, 10])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_as_a_plain_loop(n: int, steps: int) -> None:
    async def main() -> None:
        values = {k: 1.0 / (k + 1) for k in range(n)}
        graph = bateau.iter.graph(values, ring(n))
        expected = plainly(values, ring(n), steps)
        for on in (bateau.iter.tasks(1), bateau.iter.tasks(5), bateau.iter.threads(2)):
            for chunk in (None, 3):
                assert await graph.run(step, steps, on=on, chunk=chunk) == expected

    bateau.run(main, runtime="native")


def test_everywhere(entry: Entry) -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def waiting(key: int, value: float, around: dict[int, float]) -> float:
            await bateau.time.sleep(0.001 * (key % 3))
            return step(key, value, around)

        values = {k: float(k) for k in range(6)}
        graph = bateau.iter.graph(values, lambda k: [k - 1, k + 1] if 0 < k < 5 else [])
        around = {k: list(graph.needs[k]) for k in values}
        result = await graph.run(waiting, 5, n=4, progress=seen.append)
        assert result == plainly(values, around, 5)
        assert seen[-1].items == 30

    entry.run(main)


def test_far_parts_do_not_wait_for_each_other(entry: Entry) -> None:
    """A slow part holds up its neighbours, and theirs a step later; no barrier stops the others."""

    async def main() -> None:
        reached: dict[int, int] = dict.fromkeys(range(8), 0)
        lead = 0

        async def fn(key: int, value: int, around: dict[int, int]) -> int:
            nonlocal lead
            assert all(value - 1 <= other for other in around.values())  # what it is given is of its own step
            await bateau.time.sleep(0.01 if key == 0 else 0.0005)
            reached[key] = value + 1
            lead = max(lead, reached[7] - reached[0])
            return value + 1

        line = {k: [n for n in (k - 1, k + 1) if 0 <= n < 8] for k in range(8)}
        result = await bateau.iter.graph(dict.fromkeys(range(8), 0), line).run(fn, 10, n=8)
        assert result == dict.fromkeys(range(8), 10)
        assert 1 < lead <= 7  # at most the distance

    entry.run(main)


def test_values_are_freed() -> None:
    class Value:
        alive = 0

        def __init__(self) -> None:
            Value.alive += 1

        def __del__(self) -> None:
            Value.alive -= 1

    most = 0

    def fn(key: int, value: Value, around: dict[int, Value]) -> Value:
        nonlocal most
        most = max(most, Value.alive)
        return Value()

    async def main() -> None:
        values = {k: Value() for k in range(10)}
        await bateau.iter.graph(values, ring(10)).run(fn, 50, on=bateau.iter.tasks(1), chunk=1)

    bateau.run(main, runtime="native")
    assert most < 45  # of 510
    assert Value.alive == 0


def test_a_part_that_fails(entry: Entry) -> None:
    async def main() -> None:
        async def fn(key: int, value: int, around: dict[int, int]) -> int:
            if key == 3 and value == 2:
                raise ArithmeticError("unstable")
            await bateau.time.sleep(60 if value == 3 else 0)
            return value + 1

        graph = bateau.iter.graph(dict.fromkeys(range(6), 0), ring(6))
        with pytest.raises(ArithmeticError, match="unstable") as info:
            await graph.run(fn, 10, n=6)
        assert info.value.__notes__ == ["part 3 of the graph, at step 3"]

    entry.run(main)


def test_cancelled(entry: Entry) -> None:
    async def main() -> None:
        inside = 0

        async def fn(key: int, value: int, around: dict[int, int]) -> int:
            nonlocal inside
            inside += 1
            try:
                await bateau.time.sleep(60)
            finally:
                inside -= 1
            return value

        with bateau.move_on_after(0.01) as limit:
            await bateau.iter.graph(dict.fromkeys(range(6), 0), ring(6)).run(fn, 10)
        assert limit.cancelled_caught
        assert inside == 0

    entry.run(main)


def test_misuse() -> None:
    with pytest.raises(ValueError, match="part 1 has 2 as a neighbour, which is no part"):
        bateau.iter.graph({0: 1, 1: 2}, {0: [], 1: [2]})
    with pytest.raises(TypeError, match="graph.. needs a function"):
        bateau.iter.graph({0: 1}, 3)  # type: ignore[arg-type]
    graph = bateau.iter.graph({0: 1.0}, {0: []})

    async def main() -> None:
        with pytest.raises(TypeError, match=r"\.run\(\) needs a function"):
            await graph.run(3, 1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="steps of at least 0"):
            await graph.run(step, -1)
        with pytest.raises(TypeError, match="bateau.iter.tasks"):
            await graph.run(step, 1, on=4)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="can't be sent"):
            await graph.run(lambda k, v, a: v, 1, on=bateau.iter.processes(1))

    bateau.run(main, runtime="native")
