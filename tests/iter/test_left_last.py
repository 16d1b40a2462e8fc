"""Leaving a loop over a pipeline as the last thing a program does: nobody waits any more, and all of it is closed all the same.

A host's own way to end what is left differs (asyncio cancels each task once, natively; trio cancels its system tasks), so each
of these runs on every way in.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import operator
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

import bateau
from support.entries import on_adopted

log: list[Any] = []


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    log.clear()


async def slow_to_end() -> AsyncIterator[int]:
    try:
        for item in range(5):
            yield item
    finally:
        await bateau.time.sleep(0.02)
        log.append("half")
        await bateau.time.sleep(0.02)
        log.append("generator")


async def work(item: int) -> int:
    try:
        await bateau.time.sleep(60 if item else 0)
        return item
    finally:
        async with bateau.cleanup(30):
            await bateau.time.sleep(0.02)
            await bateau.time.sleep(0.02)
        log.append(item)


def ways_to_leave() -> Any:
    return pytest.mark.parametrize("leave", ["break", "raise", "return"])


@ways_to_leave()
def test_a_generator_and_the_work_on_its_items_are_closed_to_the_end(entry: Any, leave: str) -> None:
    async def main() -> None:
        async for _ in bateau.iter(slow_to_end()).map(work).buffered(3):
            if leave == "raise":
                raise KeyError("left")
            if leave == "return":
                return
            break

    if leave == "raise":
        with pytest.raises((KeyError, ExceptionGroup)):
            entry.run(main)
    else:
        entry.run(main)
    assert log[0] == 0
    assert set(log[1:]) == {1, 2, "half", "generator"}


@pytest.mark.parametrize("turns", range(6))
def test_whatever_the_work_is_at_when_the_program_ends(entry: Any, turns: int) -> None:
    """The end of the program meets tasks that are parked, about to run, about to clean up."""

    begun: list[Any] = []

    async def stepwise(item: int) -> int:
        begun.append(item)
        try:
            for _ in range(3 + item):
                await bateau.yield_now()
            await bateau.time.sleep(60 if item else 0)
            return item
        finally:
            async with bateau.cleanup(30):
                await bateau.time.sleep(0.01)
                await bateau.yield_now()
                log.append(item)

    async def leaves() -> None:
        async for _ in bateau.iter(slow_to_end()).map(stepwise).buffered(3):
            for _ in range(turns):
                await bateau.yield_now()
            break

    entry.run(leaves)
    assert sorted(log, key=str) == [*sorted(begun), "generator", "half"]


def test_a_pipeline_that_is_never_left(entry: Any) -> None:
    kept: list[Any] = []

    async def main() -> None:
        kept.append(bateau.iter(slow_to_end()).map(work).buffered(3))
        assert await kept[0].next() == 0

    entry.run(main)
    assert {0, 1, 2, "half", "generator"} <= set(log)  # the item after those may have been begun
    kept.clear()
    gc.collect()


@on_adopted
def test_in_a_shield(entry: Any) -> None:
    async def main() -> None:
        with bateau.shield():
            async for _ in bateau.iter(slow_to_end()).map(work).buffered(3):
                break

    entry.run(main)
    assert set(log) == {0, 1, 2, "half", "generator"}


@pytest.mark.parametrize("entry", ["adopted:asyncio", "adopted:uvloop"], indirect=True)
def test_waits_of_asyncio_in_the_closing(entry: Any) -> None:
    async def foreign_to_end() -> AsyncIterator[int]:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
                async with asyncio.timeout(60):
                    for item in range(1, 9):  # more than are ever claimed: it is left at a yield, not at its end
                        yield item
        finally:
            async with asyncio.timeout(30):
                await asyncio.sleep(0.02)
            log.append("generator")

    begun: list[int] = []
    second = asyncio.Event()

    async def foreign_work(item: int) -> int:
        begun.append(item)
        try:
            if item > 1:
                second.set()
                await asyncio.sleep(60)
            await second.wait()
            return item
        finally:
            async with bateau.cleanup(30):
                await asyncio.sleep(0.02)
                log.append(item)

    async def main() -> None:
        async for _ in bateau.iter(foreign_to_end()).map(foreign_work).buffered(3):
            break

    entry.run(main)
    assert {1, 2} <= set(begun)
    assert sorted(log, key=str) == [*sorted(begun), "generator"]


def test_the_closing_is_bounded_by_its_budget(entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bateau.iter.bodies import Body

    monkeypatch.setitem(Body._close.__globals__, "BUDGET", 0.05)

    async def never_ends() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            try:
                await bateau.time.sleep_forever()
            finally:
                log.append("cut")

    async def main() -> None:
        async for _ in bateau.iter(never_ends()).prefetch(2):
            break

    with pytest.warns(bateau.HazardWarning, match="cleanup_overrun"):
        entry.run(main)
    assert log == ["cut"]


@pytest.mark.parametrize("leave", ["break", "raise"])
@pytest.mark.real_os("it starts worker processes")
def test_worker_processes_are_ended_and_reaped(entry: Any, leave: str) -> None:
    async def main() -> None:
        async for item in bateau.iter(range(1000)).par(2, on=bateau.iter.processes(2), chunk=1).map(operator.neg):
            if item == -4:
                if leave == "raise":
                    raise KeyError("left")
                break

    before = set(_children())
    if leave == "raise":
        with pytest.raises((KeyError, ExceptionGroup)):
            entry.run(main)
    else:
        entry.run(main)
    assert set(_children()) == before


def _children() -> list[int]:
    """Those of this process, zombies included."""
    multiprocessing.active_children()  # its own resource tracker apart, what this reaps is not ours
    found: list[int] = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("entry", ["adopted:asyncio", "adopted:uvloop"], indirect=True)
def test_a_protected_cleanup_of_a_task_left_to_asyncio(entry: Any) -> None:
    """Law 7: ``run`` holds against a native cancellation, also where all tasks get one."""
    tasks: list[Any] = []

    async def clean_up() -> None:
        await bateau.time.sleep(0.02)
        async with bateau.scope() as scope:
            scope.spawn(asyncio.sleep, 0.02)
        log.append("clean")

    async def left_over() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await bateau.cleanup(30).run(clean_up)

    async def main() -> None:
        task = asyncio.create_task(left_over())
        tasks.append(task)
        await asyncio.sleep(0)
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)  # it is in its cleanup, when all is cancelled

    entry.run(main)
    assert log == ["clean"]


@pytest.mark.parametrize("entry", ["adopted:asyncio", "adopted:uvloop"], indirect=True)
def test_tasks_of_a_scope_that_nobody_leaves_end_too(entry: Any) -> None:
    """Who would have ended them has ended itself."""
    left_open: list[Any] = []

    async def child() -> None:
        try:
            await bateau.time.sleep_forever()
        finally:
            log.append("ended")

    async def main() -> None:
        with bateau.shield():
            left_open.append(bateau.shield())
            left_open[0].__enter__()
            left_open.append(bateau.scope())
            await left_open[1].__aenter__()
            left_open[1].spawn(child)
            await asyncio.sleep(0)
            raise KeyError("left open")

    with pytest.raises(bateau.ScopeError):
        entry.run(main)
    assert log == ["ended"]
