"""S11: a thing of asyncio called on trio, or of trio on asyncio: one error naming both runtimes, the line and the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import bateau

trio = pytest.importorskip("trio")

on_the_asyncio_family = pytest.mark.parametrize(
    "entry", ["owned:native", "owned:asyncio", "owned:uvloop"], indirect=True
)
on_owned_trio = pytest.mark.parametrize("entry", ["owned:trio"], indirect=True)

Call = Callable[[], Awaitable[Any]]


async def trio_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)


async def asyncio_future() -> None:
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


async def asyncio_group() -> None:
    async with asyncio.TaskGroup():
        pass


THINGS_OF_TRIO: list[Call] = [
    lambda: trio.sleep(0.01),
    lambda: trio.Event().wait(),
    lambda: trio.lowlevel.checkpoint(),
    lambda: trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED),
    lambda: trio.open_tcp_stream("127.0.0.1", 1),
    trio_nursery,
]
THINGS_OF_ASYNCIO: list[Call] = [
    lambda: asyncio.sleep(0.01),
    lambda: asyncio.Event().wait(),
    lambda: asyncio.to_thread(print),
    lambda: asyncio.open_connection("127.0.0.1", 1),
    asyncio_group,
    asyncio_future,
]


def errors_of(entry: Any, call: Call) -> list[BaseException]:
    """What comes of calling it in the main task, and in a child."""

    async def in_main() -> None:
        await call()

    async def in_a_child() -> None:
        async with bateau.scope() as scope:
            scope.spawn(in_main)

    found: list[BaseException] = []
    for main in (in_main, in_a_child):
        with pytest.raises(Exception) as caught:
            entry.run(main)
        error: BaseException = caught.value
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        found.append(error)
    return found


def explanation(error: BaseException) -> str:
    texts = [str(error), *getattr(error, "__notes__", ())]
    (text,) = [text for text in texts if "runs on runtime" in text]  # said once
    return text


@pytest.mark.law(18)
@pytest.mark.parametrize("call", THINGS_OF_TRIO)
@on_the_asyncio_family
def test_trio_under_the_asyncio_family(entry: Any, call: Call) -> None:
    for error in errors_of(entry, call):
        text = explanation(error)
        assert f"runs on runtime {entry.runtime!r}" in text
        assert "something of trio" in text
        assert "runtime='trio'" in text
        assert __file__ in text or isinstance(error, TypeError)  # a TypeError is raised at the very line


@pytest.mark.law(18)
@pytest.mark.parametrize("call", THINGS_OF_ASYNCIO)
@on_owned_trio
def test_asyncio_under_trio(entry: Any, call: Call) -> None:
    for error in errors_of(entry, call):
        text = explanation(error)
        assert "runs on runtime 'trio'" in text
        assert "something of asyncio" in text
        assert "runtime='native' or 'asyncio'" in text
        assert __file__ in text


@pytest.mark.law(18)
@on_the_asyncio_family
def test_errors_of_ones_own_are_left_alone(entry: Any) -> None:
    async def fail() -> None:
        raise RuntimeError("no running event loop")

    for error in errors_of(entry, fail):
        assert not any("runs on runtime" in note for note in getattr(error, "__notes__", ()))


@on_the_asyncio_family
def test_the_way_out_to_trio_works(entry: Any) -> None:
    async def in_trio() -> str:
        await trio.sleep(0.001)
        return "trio"

    async def main() -> str:
        return await bateau.thread.run(trio.run, in_trio)

    assert entry.run(main) == "trio"


@on_owned_trio
def test_the_way_out_to_asyncio_works(entry: Any) -> None:
    async def in_asyncio() -> str:
        await asyncio.sleep(0.001)
        return "asyncio"

    async def main() -> str:
        return await bateau.thread.run(asyncio.run, in_asyncio())

    assert entry.run(main) == "asyncio"
