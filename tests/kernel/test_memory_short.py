"""Memory is short for the ready queue of the Python kernel: the task is late, and not lost. (The twin: ``tests/native/test_no_memory.py``.)"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

import bateau
from bateau.channel import channel
from bateau.kernel import engine as kernel_engine
from bateau.kernel import twin
from bateau.sync import Event, Lock

pytestmark = pytest.mark.skipif(twin.native is not None, reason="the twin has a queue of its own")


class Refusing(deque[Any]):
    """A queue that has no memory for every third task."""

    asked = 0
    refused = 0

    def append(self, task: Any) -> None:
        self.asked += 1
        if self.asked % 3 == 0:
            self.refused += 1
            raise MemoryError
        super().append(task)


async def yields() -> None:
    for _ in range(5):
        await bateau.yield_now()


async def wakes() -> None:
    sender, receiver = channel[int](1)
    event, lock = Event(), Lock()
    got: list[int] = []

    async def receive() -> None:
        async for item in receiver:
            got.append(item)
        event.set()

    async def contend() -> None:
        async with lock:
            await bateau.yield_now()

    async with bateau.scope() as scope:
        scope.spawn(receive)
        for _ in range(3):
            scope.spawn(contend)
        with sender:
            for item in range(10):
                await sender.send(item)
        await event.wait()
    assert got == list(range(10))


async def sleeps() -> None:
    async with bateau.scope() as scope:
        for _ in range(10):
            scope.spawn(bateau.time.sleep, 1e-6)


async def cancels() -> None:
    async with bateau.scope() as scope:
        for _ in range(10):
            scope.spawn(bateau.time.sleep, 3600)
        await bateau.yield_now()
        scope.cancel()


@pytest.mark.parametrize("case", [yields, wakes, sleeps, cancels])
def test_no_wake_is_lost(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Refusing] = []

    def make(kind: object) -> Refusing:
        made.append(Refusing())
        return made[-1]

    monkeypatch.setattr(kernel_engine, "_ready_queue", make)

    async def main() -> str:
        async with bateau.scope() as scope:
            for _ in range(4):
                scope.spawn(case)
        return "all have ended"

    assert bateau.run(main, runtime="native") == "all have ended"
    assert made[0].refused > 3
