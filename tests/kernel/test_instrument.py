"""What an observer of a host is told, on both kernels: each event once, in order."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau import sync
from bateau.channel import channel
from bateau.insight.recorder import layout, reading, recording
from bateau.kernel import instrument
from bateau.kernel.instrument import Instrument
from bateau.kernel.operation import Watcher

pytestmark = pytest.mark.real_os("a socket, a mapped file")


class Notes(Instrument):
    """Writes down what it is told of the tasks that have a name."""

    def __init__(self) -> None:
        self.told: dict[str, list[str]] = {}

    def _note(self, event: str, task: Any) -> None:
        if task._name is not None:
            self.told.setdefault(task.name, []).append(event)

    def step(self, task: Any) -> None:
        self._note("step", task)

    def park(self, task: Any) -> None:
        self._note("park", task)

    def wake(self, task: Any) -> None:
        self._note("wake", task)

    def end(self, task: Any, error: BaseException | None) -> None:
        self._note("end", task)


async def in_every_wait(look: Callable[[list[Any]], Awaitable[None]]) -> None:
    """Tasks in each kind of wait that is written twice, in Python and in C, and ``look`` called with them."""
    lock, event, semaphore, condition = sync.Lock(), sync.Event(), sync.Semaphore(0), sync.Condition()
    full, unread = channel[int](1)
    unsent, empty = channel[int](1)
    full.try_send(1)
    near, far = socket.socketpair()
    near.setblocking(False)

    async def acquires() -> None:
        async with lock:
            return

    async def waits() -> None:
        async with condition:
            await condition.wait()

    async def joins(task: Any) -> None:
        await task

    async def reads() -> None:
        async with bateau.net.SocketStream(near) as stream:
            await stream.read(10)

    async def takes() -> None:
        await semaphore.acquire()

    async with full, unread, unsent, empty, bateau.scope() as scope:
        async with lock:
            sleeper = scope.spawn(bateau.time.sleep, 1000, name="sleep")
            tasks = [
                sleeper,
                scope.spawn(acquires, name="lock"),
                scope.spawn(event.wait, name="event"),
                scope.spawn(takes, name="semaphore"),
                scope.spawn(waits, name="condition"),
                scope.spawn(full.send, 2, name="send"),
                scope.spawn(empty.recv, name="recv"),
                scope.spawn(joins, sleeper, name="join"),
                scope.spawn(reads, name="read"),
            ]
            while not all(task.waiting is not None for task in tasks):
                await bateau.yield_now()
            await look(tasks)
            scope.cancel("seen")
    far.close()


async def by_hand(tasks: list[Any]) -> None:
    """As the console does: whoever waits is woken for nothing, and waits on."""
    operations = [task.waiting for task in tasks]
    for task in tasks:
        task.host.wake(task)
    for _ in range(3):
        await bateau.yield_now()
    assert [task.waiting for task in tasks] == operations


def test_a_wake_for_nothing_is_one_more_wait():
    notes = Notes()

    async def look(tasks: list[Any]) -> None:
        before = {name: list(events) for name, events in notes.told.items()}
        await by_hand(tasks)
        for task in tasks:
            assert notes.told[task.name][len(before[task.name]) :] == ["wake", "step", "park"], task.name

    remove = instrument.install(lambda host: notes)
    try:
        bateau.run(in_every_wait, look, runtime="native")
    finally:
        remove()
    assert all(events[-1] == "end" for events in notes.told.values())


def test_a_wait_that_is_granted_while_it_begins_parks_all_the_same():
    condition = sync.Condition()
    notes = Notes()

    class Meddles(Watcher):
        """Stands in for what runs while the lock is passed on: a finaliser, a select."""

        def claim(self, op: Any = None) -> bool:
            condition.notify_all()
            return False

    async def waits() -> None:
        async with condition:
            first = condition.acquire()
            first.watcher = Meddles()
            first.begin(others[0])
            await condition.wait()

    async def main() -> None:
        async with bateau.scope() as scope:
            others.append(scope.spawn(bateau.yield_now))
            scope.spawn(waits, name="waits")

    others: list[Any] = []
    remove = instrument.install(lambda host: notes)
    try:
        bateau.run(main, runtime="native")
    finally:
        remove()
    assert notes.told["waits"] == ["step", "wake", "park", "step", "end"]


@pytest.mark.parametrize("pure", ["1", "0"])
def test_the_recorder_says_that_they_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pure: str):
    monkeypatch.setenv("BATEAU_PURE", pure)

    async def look(tasks: list[Any]) -> None:
        await by_hand(tasks)
        ring = reading.read_ring(next(found.directory.glob("*.ring")))
        for task in tasks:
            slot = ring.slots[task.id]
            assert slot.state == layout.WAITING, task.name
            last = [layout.KINDS[one.kind] for one in ring.records if one.task == task.id][-4:]
            assert last == ["park", "wake", "step", "park"], task.name

    with recording.record(tmp_path, fatal=False) as found:
        bateau.run(in_every_wait, look, runtime="native")
