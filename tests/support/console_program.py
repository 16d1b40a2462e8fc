"""What the tests of the console look at: a real program on a thread of its own, with a deadlock, a queue at a lock, and tasks that work."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import bateau
from bateau import sync
from bateau.channel import channel
from support.waiting import until


async def _server(ready: threading.Event, ended: sync.Event) -> None:
    there_tx, there_rx = channel[int](2, name="there")
    back_tx, back_rx = channel[int](2, name="back")
    lock = sync.Lock(name="db")

    async def upstream() -> None:
        async with there_tx, back_rx:
            await there_tx.send(0)
            await back_rx.recv()
            for item in range(4):
                await there_tx.send(item)

    async def downstream() -> None:
        async with back_tx, there_rx:
            await there_rx.recv()
            await back_tx.send(0)
            for item in range(4):
                await back_tx.send(item)

    async def migration() -> None:
        async with lock:
            await bateau.time.sleep(1000)

    async def request() -> None:
        async with lock:
            pass

    async def pump() -> None:
        while True:
            await bateau.time.sleep(0.01)

    async with bateau.scope(name="server") as scope:
        scope.spawn(upstream, name="upstream")
        scope.spawn(downstream, name="downstream")
        scope.spawn(migration, name="migration")
        for number in range(5):
            scope.spawn(request, name=f"request-{number}")
        scope.spawn(pump, name="pump [1]")
        await until(lambda: lock.statistics().tasks_waiting == 5 and there_tx.statistics().waiting_senders)
        ready.set()
        await ended.wait()
        scope.cancel("the test is over")


@contextmanager
def running() -> Generator[None]:
    """The program runs while the block does."""
    ready, ended = threading.Event(), sync.Event(flavour="shared")
    thread = threading.Thread(target=lambda: bateau.run(_server, ready, ended, runtime="native"))
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        ended.set()
        thread.join(20)
        assert not thread.is_alive()
