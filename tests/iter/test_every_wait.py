"""Law 16 inside pipelines: what their consumers and their background tasks wait on is named, and knows who waits and who could end it.

The table of `tests/laws/test_every_wait.py` has the waits that a user writes; these are the ones that a pipeline makes of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import bateau
import bateau.iter.par  # so that every operation is loaded
from bateau.kernel.explain import all_tasks
from bateau.kernel.operation import PARKED, Operation
from support.entries import Entry
from support.waiting import until

forever = bateau.time.sleep_forever


async def now(x: int) -> int:
    await bateau.checkpoint()
    return x


async def never(x: int) -> int:
    await forever()
    return x


@bateau.generator
async def few() -> AsyncIterator[int]:
    yield 1
    yield 2


@bateau.generator
async def none() -> AsyncIterator[int]:
    await forever()
    yield 1


async def held(it: Any) -> None:
    """Take one item, and be busy with it for ever."""
    async for _ in it:
        await forever()


async def asked(it: Any) -> None:
    async with it:
        await it.next()


async def together(it: Any, n: int = 2) -> None:
    async with bateau.scope() as scope:
        for _ in range(n):
            scope.spawn(it.next)


async def ahead(it: Any) -> None:
    first, second = it.tee(2, limit=1)
    async with first, second:
        await first.next()
        await first.next()


# Which operations are parked, and a program that parks them.
PROGRAMS: dict[str, tuple[set[str], Callable[[], Awaitable[Any]]]] = {
    "buffered, asked": ({"Ready"}, lambda: asked(bateau.iter(range(9)).map(never).buffered(2))),
    "buffered, full": ({"Idle", "Kept"}, lambda: held(bateau.iter(range(9)).map(now).buffered(2))),
    "generator, asked": ({"Take"}, lambda: asked(none())),
    "generator, at a yield": ({"AtYield"}, lambda: held(few())),
    "batch, at leisure": ({"Wanted"}, lambda: held(bateau.iter(range(9)).batch(2, wait=60))),
    "merge, at leisure": ({"Taken"}, lambda: held(bateau.iter(few()).merge(few()))),
    "map, asked": ({"Answer"}, lambda: asked(bateau.iter(range(9)).map(never))),
    "map, at leisure": ({"Job"}, lambda: held(bateau.iter(range(9)).map(now))),
    "share, asked twice": ({"Turn"}, lambda: together(bateau.iter(range(9)).map(never).share())),
    "tee, ahead": ({"Room"}, lambda: ahead(bateau.iter(range(9)))),
    "from_callback": ({"Pushed", "Held"}, lambda: asked(bateau.iter.from_callback(lambda push: lambda: None))),
}
# Seen by the same name and on the same resource as its base, but too short to be held still by a test.
SIBLINGS = {"HoldingAtYield"}


async def parked(program: Callable[[], Awaitable[Any]], wanted: set[str]) -> list[Operation[Any]]:
    """Run a program until the operations ``wanted`` are parked, ask each what it must know, and end it."""
    async with bateau.scope(name="outer") as scope:

        def waiting() -> list[Operation[Any]]:
            found = [task.waiting for task in all_tasks([scope])]
            return [op for op in found if op is not None and op.state is PARKED]

        async def run() -> None:
            async with bateau.scope():  # pipelines of an adopted program have a scope around them, too
                await program()

        scope.spawn(run)
        await until(lambda: wanted <= {type(op).__name__ for op in waiting()})
        found = [op for op in waiting() if type(op).__module__.startswith("bateau.iter.")]
        for op in found:
            assert op.describe()
            assert " object at " not in op.describe()
            assert " object at " not in op.resource.describe()
            assert op in list(op.resource.waiters())
            satisfiers = op.resource.satisfiers()
            assert satisfiers == "outside" or all(isinstance(task, bateau.Task) for task in satisfiers)
        scope.cancel()
    return found


@pytest.mark.law(16)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_waits_of_a_pipeline_say_what_they_are(entry: Entry, name: str) -> None:
    wanted, program = PROGRAMS[name]

    async def main() -> None:
        await parked(program, wanted)

    entry.run(main)


@pytest.mark.law(16)
def test_no_operation_of_pipelines_is_forgotten() -> None:
    async def main() -> set[str]:
        seen: set[str] = set()
        for wanted, program in PROGRAMS.values():
            seen.update(type(op).__name__ for op in await parked(program, wanted))
        return seen

    seen = bateau.run(main, runtime="native")
    todo, known = [Operation], set[str]()
    for kind in todo:
        below = kind.__subclasses__()
        todo.extend(below)
        if not below and kind.__module__.startswith("bateau.iter."):
            known.add(kind.__name__)
    assert known - seen - SIBLINGS == set()
