"""Tasks of foreign ``create_task`` are roots outside every scope: at the end of an owned program they are cancelled, awaited, reported."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import bateau

owned_with_asyncio = pytest.mark.parametrize("entry", ["owned:native", "owned:asyncio", "owned:uvloop"], indirect=True)


@owned_with_asyncio
def test_leftovers_are_cancelled_awaited_and_reported(entry: Any) -> None:
    log: list[str] = []

    async def leftover() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)  # its cleanup is waited for
            log.append("cleaned up")

    async def main() -> str:
        tasks.append(asyncio.create_task(leftover(), name="forgotten"))
        await asyncio.sleep(0)
        return "value"

    tasks: list[Any] = []
    with pytest.warns(bateau.HazardWarning, match="leftover_task: .*'forgotten'") as caught:
        assert entry.run(main) == "value"
    assert log == ["cleaned up"]
    assert caught[0].filename == __file__
    tasks.clear()


@owned_with_asyncio
def test_leftovers_of_a_program_that_fails(entry: Any) -> None:
    log: list[str] = []

    async def leftover() -> None:
        try:
            async with bateau.scope() as scope:
                scope.spawn(bateau.time.sleep, 30)
        finally:
            log.append("ended")

    async def main() -> None:
        tasks.append(asyncio.ensure_future(leftover()))
        await asyncio.sleep(0)
        raise ValueError("main")

    tasks: list[Any] = []
    with pytest.warns(bateau.HazardWarning, match="leftover_task"), pytest.raises(ValueError, match="main"):
        entry.run(main)
    assert log == ["ended"]
    tasks.clear()


@owned_with_asyncio
def test_a_leftover_that_fails_while_it_is_cancelled_is_not_lost(entry: Any, asyncio_errors: list[str]) -> None:
    async def leftover() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise ValueError("in its cleanup") from None

    async def main() -> None:
        tasks.append(asyncio.create_task(leftover()))
        await asyncio.sleep(0)

    tasks: list[Any] = []
    with pytest.warns(bateau.HazardWarning) as caught:
        entry.run(main)
    assert sorted(str(warning.message).split(":")[0] for warning in caught) == ["leftover_task", "unretrieved_error"]
    assert "in its cleanup" in str(caught[-1].message)
    tasks.clear()


@owned_with_asyncio
def test_a_task_that_ended_in_time_is_none(entry: Any) -> None:
    async def main() -> int:
        return await asyncio.create_task(asyncio.sleep(0, 7))

    assert entry.run(main) == 7
