"""Who could free what asyncio's tasks wait on: a ring through an event or a queue is told only where nobody else refers to it."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import bateau
from bateau import insight
from bateau.insight import closed_world
from bateau.insight.explain import explain
from bateau.insight.waitgraph import find_knots

pytestmark = pytest.mark.real_os("plain asyncio, with threads")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked at once, and however large the heap of the test suite is."""
    for name, value in (("_BUDGET", math.inf), ("_SLOW", math.inf), ("_FIRST_REST", 0.0)):
        monkeypatch.setattr(closed_world, name, value)


async def rings(reader: Any = None) -> list[set[str]]:
    """The names of those in each knot, once everybody has come to a halt."""
    for _ in range(5):
        await asyncio.sleep(0)
    snapshot = (reader or insight.LiveReader()).read()
    names = {task.id: task.name for task in snapshot.tasks}
    knots = find_knots(snapshot)
    assert not any(knot.exact for knot in knots)
    assert ("PROBABLY A DEADLOCK" in explain(snapshot)) == bool(knots)
    return [{names[one] for one in knot.ring} for knot in knots]


def run(script: Callable[[list[Any]], Awaitable[None]]) -> None:
    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []
        await script(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def start(coro: Any, name: str) -> asyncio.Task[Any]:
    return asyncio.create_task(coro, name=name)


async def fills(queue: asyncio.Queue[int]) -> None:
    while True:
        await queue.put(1)


async def gets(queue: asyncio.Queue[int]) -> None:
    await queue.get()


class Server:
    """Has its queue in an attribute."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def fill(self) -> None:
        await fills(self.queue)


def test_a_queue_that_only_its_task_has() -> None:
    async def script(tasks: list[Any]) -> None:
        tasks.append(start(fills(asyncio.Queue(1)), "own"))
        assert await rings() == [{"own"}]

    run(script)


def test_a_queue_in_an_object_counts_for_who_has_the_object() -> None:
    async def script(tasks: list[Any]) -> None:
        server = Server()
        reader = insight.LiveReader()
        tasks.append(start(server.fill(), "own"))
        assert await rings(reader) == []  # this task, which is running, has it as well
        del server
        assert await rings(reader) == [{"own"}]

    run(script)


def test_tasks_that_wait_for_each_other_by_queues() -> None:
    async def both(mine: asyncio.Queue[int], other: asyncio.Queue[int]) -> None:
        for number in range(3):
            await other.put(number)
        await mine.get()

    def begin() -> list[Any]:
        one, two = asyncio.Queue[int](1), asyncio.Queue[int](1)
        return [start(both(one, two), "x"), start(both(two, one), "y")]

    async def script(tasks: list[Any]) -> None:
        tasks += begin()
        assert await rings() == [{"x", "y"}]

    run(script)


def test_an_event_that_nobody_else_has() -> None:
    async def parent() -> None:
        event = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(event.wait(), name="child")

    async def script(tasks: list[Any]) -> None:
        tasks.append(start(parent(), "parent"))
        assert await rings() == [{"parent", "child"}]

    run(script)


@pytest.mark.parametrize("runtime", ["native", "asyncio"])
def test_tasks_of_bateaus_that_wait_on_asyncios_things(runtime: str) -> None:
    async def waits(mine: asyncio.Event, other: asyncio.Event) -> None:
        await other.wait()
        mine.set()

    def begin(scope: Any) -> None:
        one, two = asyncio.Event(), asyncio.Event()
        scope.spawn(waits, one, two, name="x")
        scope.spawn(waits, two, one, name="y")

    async def main() -> None:
        async with bateau.scope() as scope:
            begin(scope)
            assert {"x", "y"} in await rings()
            scope.cancel()

    bateau.run(main, runtime=runtime)


def test_a_ring_with_a_task_that_can_move_is_none() -> None:
    async def sets(event: asyncio.Event) -> None:
        await asyncio.sleep(1000)
        event.set()

    async def script(tasks: list[Any]) -> None:
        event = asyncio.Event()
        tasks += [start(event.wait(), "waits"), start(sets(event), "sets")]
        del event
        assert await rings() == []

    run(script)


def test_whoever_else_has_it_may_free_it() -> None:
    """A call that is due, a protocol's transport, a thread, a module, a task that runs: none of them is seen to wait."""

    class Feeds(asyncio.Protocol):
        def __init__(self, queue: asyncio.Queue[int]) -> None:
            self.queue = queue

    def waits(tasks: list[Any], keep: Callable[[Any], Any]) -> Any:
        queue: asyncio.Queue[int] = asyncio.Queue()
        tasks.append(start(gets(queue), "gets"))
        return keep(queue)

    async def script(tasks: list[Any]) -> None:
        loop = asyncio.get_running_loop()
        waits(tasks, lambda queue: loop.call_later(1000, queue.put_nowait, 1))
        assert await rings() == []
        waits(tasks, lambda queue: globals().update(kept=queue))
        assert await rings() == []
        left, right = socket.socketpair()
        transport, protocol = await waits(tasks, lambda queue: loop.create_connection(lambda: Feeds(queue), sock=left))
        del protocol
        assert await rings() == []
        release = threading.Event()

        def holds(queue: asyncio.Queue[int]) -> None:
            release.wait()
            loop.call_soon_threadsafe(queue.put_nowait, 1)

        thread = waits(tasks, lambda queue: threading.Thread(target=holds, args=(queue,)))
        thread.start()
        assert await rings() == []
        release.set()
        thread.join()
        globals().pop("kept")
        transport.close()
        right.close()

    run(script)
