"""Law 16: every wait is on a named resource that knows its waiters, its holders and who could satisfy it.

The table in `support/waits` holds every waiting call of the public library. Each is parked for real, then asked. A second test goes
over all the classes of operations that the library has and finds those that the table forgot.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

import bateau
from bateau import time
from bateau.kernel.operation import Operation
from support.entries import Entry
from support.modules import importable
from support.waits import TABLE, Setup, World

# -- the tests -------------------------------------------------------------------------------------------------------------


def named(tasks: Iterable[bateau.Task[Any]]) -> list[str]:
    return sorted(task.name for task in tasks)


async def parked(setup: Setup) -> Operation[Any]:
    """Park the case's wait, check what it answers, and end it."""
    async with AsyncExitStack() as stack, bateau.scope() as scope:
        case = await setup(World(scope, stack))

        async def wait() -> None:
            await case.wait()

        task = scope.spawn(wait, name="waiter")
        with bateau.timeout(10):
            while True:
                await time.sleep(0.002)
                op = task.waiting
                as_told = op is not None and re.search(case.describe, op.describe())
                if op is not None and as_told and case.holders == named(op.resource.holders()):
                    break
                assert not task.ended, task.outcome()
        satisfiers = op.resource.satisfiers()
        if case.satisfiers is not None:
            assert (satisfiers if isinstance(satisfiers, str) else named(satisfiers)) == case.satisfiers
        assert named(op.resource.holders()) == case.holders
        assert op.resource.describe()
        assert " object at " not in op.describe()
        if case.knows_waiters:
            assert op in list(op.resource.waiters())
        scope.cancel()
    return op


@pytest.mark.law(16)
@pytest.mark.parametrize("name", TABLE)
def test_a_parked_wait_names_its_resource_and_who_could_end_it(entry: Entry, name: str) -> None:
    if entry.runtime == "sim" and name.startswith("process_"):
        pytest.skip("a simulated world has no child processes")

    async def main() -> None:
        await parked(TABLE[name])

    entry.run(main)


# Operations that a task is never seen parked in, or only in states that a test can't hold still. Each of the latter is the
# sibling of one that is in the table, and describes itself by the same base class.
NEVER_PARKED = {
    "Checkpoint": "it yields, but waits for nothing",
    "YieldNow": "it yields, but waits for nothing",
    "_FutureJoin": "a callback, not a task",
    "Passage": "on the pure kernel, which waits by Drain; on the native one it is in the table",
    "ShieldedJoin": "like Join, in a scope that is being left",
    "_Reacquire": "like the lock's own acquire, after a cancellation",
    "SendDatagram": "a datagram waits only while the card's queue is full",
    "_WriteEof": "behind a write that is parked, which is in the table",
    "SendFile": "like a write to a full socket",
    "SendFds": "like a write to a full socket",
    "RecvFds": "like a read",
    "_PlainWait": "the wait of a plain thread",
    "_ThreadWait": "the wait of a plain thread",
}


def operations() -> Iterator[type]:
    """Every class of operations in the library that is not the base of another."""
    for name in importable():
        if not name.endswith("__main__") and not name.startswith(("bateau.testing", "bateau.cli")):
            importlib.import_module(name)
    todo = [Operation]
    for kind in todo:
        below = kind.__subclasses__()
        todo.extend(below)
        # Those of pipelines, most of them waits of their background tasks, are in tests/iter/test_every_wait.py; on those of the anyio
        # backend anyio's own suite waits.
        elsewhere = kind.__module__.startswith(("bateau.iter.", "bateau.interop.anyio."))
        if not below and kind.__module__.startswith("bateau.") and not elsewhere:
            yield kind


@pytest.mark.law(16)
def test_the_table_forgets_no_operation() -> None:
    async def main() -> set[type]:
        seen: set[type] = set()
        for setup in TABLE.values():
            seen.update(type(await parked(setup)).__mro__)
        return seen

    seen = bateau.run(main, runtime="native")
    forgotten = {f"{kind.__module__}.{kind.__qualname__}" for kind in operations() if kind not in seen}
    assert {name for name in forgotten if name.rpartition(".")[2] not in NEVER_PARKED} == set()
