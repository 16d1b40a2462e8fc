"""What hurts on plain asyncio, measured there, and how it ends here.

Each pain is a pair: the plain asyncio program that shows it (asserted, so that the contrast stays true of the Python that runs
this; skipped where CPython has mended it since), and the same thing in bateau on every way in.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

import bateau
from support.entries import on_asyncio_family, on_native
from support.waiting import until

LONG = 30.0


# -- a second cancel() during cleanup ------------------------------------------------------------------------------------


def test_second_cancel_on_plain_asyncio() -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(LONG)
            finally:
                log.append("closing")
                await asyncio.sleep(LONG)
                log.append("closed")

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.001)
        await asyncio.wait([task])
        return log

    assert asyncio.run(main()) == ["closing"]  # and never closed


@pytest.mark.law(7)
@pytest.mark.parametrize("again", ["the scope", "the one around it", "a deadline"])
def test_second_cancel(entry: Any, again: str) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def work() -> None:
            try:
                await bateau.time.sleep(LONG)
            finally:
                async with bateau.cleanup(10):
                    log.append("closing")
                    await bateau.time.sleep(0.02)
                    log.append("closed")

        with bateau.move_on_after(0.01 if again == "a deadline" else None) as outer:
            async with bateau.scope() as scope:
                task = scope.spawn(work)
                await bateau.yield_now()
                task.cancel("first")
                await until(lambda: log)
                if again == "the scope":
                    scope.cancel("second")
                elif again == "the one around it":
                    outer.cancel("second")
        return log

    assert entry.run(main) == ["closing", "closed"]


@pytest.mark.law(7)
@on_asyncio_family
def test_second_cancel_by_foreign_code(entry: Any) -> None:
    """The very same calls of `task.cancel()`: `cleanup(...).run` holds against them."""

    async def main() -> list[str]:
        log: list[str] = []

        async def close() -> None:
            log.append("closing")
            await asyncio.sleep(0.005)
            log.append("closed")

        async def work() -> None:
            try:
                await asyncio.sleep(LONG)
            finally:
                await bateau.cleanup(10).run(close)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.001)
        await asyncio.wait([task])
        assert task.cancelled()
        return log

    assert entry.run(main) == ["closing", "closed"]


# -- `break` out of a generator-backed stream ----------------------------------------------------------------------------


async def _rows(log: list[str]) -> AsyncIterator[int]:
    """A stream over something that must be closed."""
    log.append("open")
    try:
        for n in range(10):
            yield n
    finally:
        await bateau.yield_now()
        log.append("closed")


def test_break_on_plain_asyncio() -> None:
    async def rows(log: list[str]) -> AsyncIterator[int]:
        log.append("open")
        try:
            for n in range(10):
                yield n
        finally:
            await asyncio.sleep(0)
            log.append(f"closed by {asyncio.current_task().get_name()}")

    async def main() -> list[str]:
        log: list[str] = []
        async for _ in rows(log):  # bateau: ignore[dropped_without_close]
            break
        log.append("after the loop")
        await asyncio.sleep(0.01)
        return log

    log = asyncio.run(main())
    assert log[:2] == ["open", "after the loop"]  # what was opened is open still
    assert log[2] != "closed by Task-1"  # and is closed some time later, by a task of the loop's


@pytest.mark.law(4)
def test_break(entry: Any) -> None:
    """Closed where it is left, or at the latest where its scope ends."""

    async def main() -> list[str]:
        log: list[str] = []
        async with contextlib.aclosing(_rows(log)) as rows:
            async for _ in rows:
                break
        log.append("after the loop")
        async with bateau.scope() as scope:
            async for _ in scope.own(_rows(log)):
                break
        log.append("after the scope")
        return log

    assert entry.run(main) == ["open", "closed", "after the loop", "open", "closed", "after the scope"]


@pytest.mark.law(4)
@on_native
def test_break_without_closing_is_reported(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        async for _ in _rows(log):  # bateau: ignore[dropped_without_close]
            break
        await until(lambda: "closed" in log)
        return log

    with pytest.warns(bateau.HazardWarning, match="dropped_without_close: async generator _rows.*aclosing") as caught:
        assert entry.run(main) == ["open", "closed"]
    assert caught[0].filename == __file__


# -- rows lost under select ----------------------------------------------------------------------------------------------


class Table:
    """A cursor: fetching a row takes it, and then some time."""

    def __init__(self, name: str, count: int) -> None:
        self.rows = [f"{name}{n}" for n in range(count)]

    async def fetch(self) -> str:
        row = self.rows.pop(0)
        await bateau.time.sleep(0.001 * (1 + int(row[1:]) % 3))
        return row


def test_rows_lost_under_select_on_plain_asyncio() -> None:
    class PlainTable(Table):
        async def fetch(self) -> str:
            row = self.rows.pop(0)
            await asyncio.sleep(0.001 if row[0] == "a" else 0.002)
            return row

    async def main() -> list[str]:
        got: list[str] = []
        tables = [PlainTable("a", 10), PlainTable("b", 10)]
        while tables:
            tasks = {asyncio.create_task(table.fetch()) for table in tables}
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            got += [task.result() for task in done]
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            tables = [table for table in tables if table.rows]
        return got

    assert len(asyncio.run(main())) < 20


@pytest.mark.law(3)
def test_rows_under_select(entry: Any) -> None:
    """S29. The loser goes on working, and is heard in a later round."""

    async def main() -> list[str]:
        got: list[str] = []
        async with bateau.Select[str, str]() as select:
            tables = {name: Table(name, 10) for name in "ab"}
            for name, table in tables.items():
                select.insert(name, table.fetch())
            while len(select):
                name, row = await select.next()
                got.append(row)
                if tables[name].rows:
                    select.insert(name, tables[name].fetch())
        return got

    assert sorted(entry.run(main)) == sorted([f"a{n}" for n in range(10)] + [f"b{n}" for n in range(10)])


# -- an item lost to a timed-out get -------------------------------------------------------------------------------------


def test_item_lost_to_a_timed_out_get_on_plain_asyncio() -> None:
    """A get that does one thing more: the item has been taken when the timeout comes."""

    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        got: list[int] = []

        async def next_job() -> int:
            job = await queue.get()
            await asyncio.sleep(LONG)  # looks something up
            return job

        for n in range(5):
            queue.put_nowait(n)
        while queue.qsize():
            try:
                got.append(await asyncio.wait_for(next_job(), 0.001))
            except TimeoutError:
                continue
        return got

    assert asyncio.run(main()) == []  # all five are gone


@pytest.mark.law(3)
def test_item_of_a_timed_out_get(entry: Any) -> None:
    """The wait times out, not the work: the arm goes on and its item comes with the next wait."""

    async def main() -> list[int]:
        tx, rx = bateau.channel.channel[int](5)
        got: list[int] = []
        timeouts = 0

        async def next_job() -> int:
            job = await rx.recv()
            await bateau.time.sleep(0.004)
            return job

        async with tx, rx:
            for n in range(5):
                tx.try_send(n)
            async with bateau.select(job=next_job) as events:
                while len(got) < 5:
                    with bateau.move_on_after(0.001) as limit:
                        got.append((await events.next()).value)
                    timeouts += limit.cancelled_caught
        assert timeouts > 0
        return got

    assert entry.run(main) == [0, 1, 2, 3, 4]


@pytest.mark.law(11)
def test_a_get_that_times_out_as_the_item_comes(entry: Any) -> None:
    """Received or still there: whichever came first, and never both or neither."""

    async def main() -> list[int]:
        tx, rx = bateau.channel.channel[int](100)
        got: list[int] = []

        async def send() -> None:
            async with tx:
                for n in range(60):
                    await bateau.time.sleep(0.001)
                    await tx.send(n)

        async with bateau.scope() as scope, rx:
            scope.spawn(send)
            with contextlib.suppress(bateau.EndOfStream):
                while True:
                    with bateau.move_on_after(0.001):
                        got.append(await rx.recv())
        return got

    assert entry.run(main) == list(range(60))


# -- a cancelled scope with a task that refuses to end -------------------------------------------------------------------


def test_refusing_to_end_burns_a_core_under_repeated_cancellation() -> None:
    """On anyio's asyncio backend, whose level cancellation pokes the task in every round of the loop."""
    anyio = pytest.importorskip("anyio")

    async def main() -> int:
        release = asyncio.Event()
        pokes = 0

        async def stubborn() -> None:
            nonlocal pokes
            while pokes < 1000:
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    pokes += 1

        async with anyio.create_task_group() as group:
            group.start_soon(stubborn)
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        return pokes

    assert asyncio.run(asyncio.wait_for(main(), 60)) == 1000  # some 20 ms of a core, and so on for ever


@pytest.mark.law(8)
@on_asyncio_family
def test_refusing_to_end_costs_nothing_and_is_reported(entry: Any) -> None:
    async def main() -> float:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()
            await bateau.yield_now()  # here it is under cancellation, and going on

        before = time.process_time()
        asyncio.get_running_loop().call_later(0.3, release.set)
        async with bateau.scope() as scope:
            scope.spawn(stubborn)
            await asyncio.sleep(0.01)
            scope.cancel()
        return time.process_time() - before

    with pytest.warns(bateau.HazardWarning, match="swallowed_cancellation: task 'test_refusing.*stubborn"):
        assert entry.run(main) < 0.2  # of 0.3 s: a collection may fall into it


# -- writes to a peer that never reads -----------------------------------------------------------------------------------

_PIECE = bytes(1 << 20)
_PIECES = 40


def test_writes_to_a_peer_that_never_reads_on_plain_asyncio() -> None:
    """`write` without `drain` takes all it gets: 40 MiB here, whatever memory holds elsewhere."""

    async def main() -> int:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_unix_connection(sock=ours)
        with theirs:
            for _ in range(_PIECES):
                writer.write(_PIECE)
            held = writer.transport.get_write_buffer_size()
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return held

    assert asyncio.run(main()) > 30 << 20


@pytest.mark.law(14)
@pytest.mark.parametrize("buffered", [False, True])
def test_writes_to_a_peer_that_never_reads(entry: Any, buffered: bool) -> None:
    async def main() -> tuple[int, int]:
        ours, theirs = socket.socketpair()
        raw: Any = bateau.net.from_socket(ours)
        stream = bateau.io.BufWriter(raw) if buffered else raw
        written = 0
        gc.collect()
        tracemalloc.start()
        try:
            with theirs:
                with bateau.move_on_after(0.1) as limit:
                    for _ in range(_PIECES):
                        await stream.write(_PIECE)
                        written += 1
                assert limit.cancelled_caught
            stream.close()
            with pytest.raises(bateau.Closed):
                await stream.write(b"more")
            return written, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    written, peak = entry.run(main)
    assert written <= 1  # what the kernel's own buffers took
    assert peak < 4 << 20


# -- a task nobody references --------------------------------------------------------------------------------------------


def test_a_task_nobody_references_on_plain_asyncio(asyncio_errors: list[str]) -> None:
    """The loop holds tasks weakly: one that waits for something only itself knows is collected, unfinished."""

    async def main() -> list[str]:
        log: list[str] = []

        async def work() -> None:
            mine = asyncio.get_running_loop().create_future()
            try:
                await mine
                log.append("finished")
            except GeneratorExit:
                log.append("destroyed")
                raise

        asyncio.create_task(work())  # bateau: ignore[leftover_task]
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        return log

    assert asyncio.run(main()) == ["destroyed"]
    assert any("Task was destroyed but it is pending" in message for message in asyncio_errors)
    asyncio_errors.clear()


@pytest.mark.law(1)
def test_a_task_nobody_references(entry: Any) -> None:
    async def main() -> list[str]:
        log: list[str] = []

        async def work() -> None:
            mine = bateau.sync.Event()
            token = bateau.token()
            token.on_cancel(mine.set)
            tokens.append(token)
            await mine.wait()
            log.append("finished")

        tokens: list[Any] = []
        async with bateau.scope() as scope:
            scope.spawn(work)
            await bateau.yield_now()
            for _ in range(3):
                gc.collect()
                await bateau.yield_now()
            tokens.pop().cancel()
        return log

    assert entry.run(main) == ["finished"]


# -- cancel() just before leaving a scope --------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="uncancel() forgets the pending cancellation since 3.13")
def test_cancel_just_before_leaving_on_plain_asyncio() -> None:
    async def by_hand() -> str:
        """What a block that cancels its own task by hand has to do, and what comes of it."""
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        task.uncancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "a stray cancellation"
        return "fine"

    assert asyncio.run(by_hand()) == "a stray cancellation"


@pytest.mark.law(5)
def test_cancel_just_before_leaving(entry: Any) -> None:
    async def main() -> None:
        async def host_sleep() -> None:
            if entry.family == "trio":
                import trio

                await trio.sleep(0)
            else:
                await asyncio.sleep(0)

        for wait in (bateau.yield_now, host_sleep):
            for late in (bateau.move_on_after(None), bateau.scope(), bateau.timeout(None)):
                async with late:
                    await wait()
                    late.cancel("too late to matter")
                assert not late.cancelled_caught
                await wait()
            with bateau.move_on_after(None) as block:
                block.reschedule(bateau.now())  # due at once
            await wait()
        if entry.family != "trio":
            task = asyncio.current_task()
            assert task is None or task.cancelling() == 0

    entry.run(main)
