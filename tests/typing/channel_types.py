"""What type checkers should make of channels and of time. Checked by test_types.py; never run."""

from __future__ import annotations

from typing import Any, assert_type

import bateau
from bateau.channel import (
    BroadcastReceiver,
    BroadcastSender,
    OneReceiver,
    OneSender,
    Receiver,
    Sender,
    WatchReceiver,
    WatchSender,
    broadcast,
    channel,
    oneshot,
    watch,
)
from bateau.time import Tick


async def channels() -> None:
    tx, rx = channel[int](4)
    assert_type(tx, Sender[int])
    assert_type(rx, Receiver[int])
    assert_type(await tx.send(1), None)
    assert_type(await rx.recv(), int)
    assert_type(rx.try_recv(), int)
    assert_type(tx.clone(), Sender[int])
    async for item in rx:
        assert_type(item, int)
    with tx as same_tx:
        assert_type(same_tx, Sender[int])
    async with rx as same_rx:
        assert_type(same_rx, Receiver[int])
    await tx.send("wrong")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    any_tx, any_rx = channel(4)
    assert_type(any_tx, Sender[Any])
    assert_type(await any_rx.recv(), Any)
    free_tx, _ = channel[str](unbounded=True, name="x", flavour="shared")
    assert_type(free_tx, Sender[str])
    channel[str]()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    channel[str](unbounded=False)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def annotated() -> tuple[Sender[bytes], Receiver[bytes]]:
    return channel[bytes](4)


async def the_others() -> None:
    one_tx, one_rx = oneshot[int]()
    assert_type(one_tx, OneSender[int])
    assert_type(one_rx, OneReceiver[int])
    assert_type(await one_rx, int)
    assert_type(await one_rx.recv(), int)

    cast_tx, cast_rx = broadcast[str](4, lag="wait")
    assert_type(cast_tx, BroadcastSender[str])
    assert_type(cast_rx, BroadcastReceiver[str])
    assert_type(await cast_tx.send(""), int)
    assert_type(cast_tx.subscribe(), BroadcastReceiver[str])
    async for text in cast_rx:
        assert_type(text, str)

    watch_tx, watch_rx = watch(1)
    assert_type(watch_tx, WatchSender[int])
    assert_type(watch_rx, WatchReceiver[int])
    assert_type(await watch_rx.changed(), int)
    assert_type(await watch_rx.wait_for(lambda n: n > 3), int)
    assert_type(watch_tx.modify(lambda n: n + 1), int)
    maybe_tx, _ = watch[int | None](None)
    assert_type(maybe_tx, WatchSender[int | None])
    async for value in watch_rx:
        assert_type(value, int)


async def in_scopes() -> None:
    tx, rx = channel[int](1)

    async def produce(mine: Sender[int], count: int) -> None:
        for i in range(count):
            await mine.send(i)

    async def consume(mine: Receiver[int]) -> list[int]:
        return [item async for item in mine]

    async with bateau.scope() as scope:
        scope.spawn(produce, tx, 3)
        assert_type(await scope.spawn(consume, rx), list[int])


async def times() -> None:
    assert_type(await bateau.time.sleep(1), None)
    assert_type(await bateau.time.sleep_until(1), None)
    assert_type(bateau.time.monotonic(), float)
    async for tick in bateau.time.interval(1, missed="skip"):
        assert_type(tick, Tick)
        assert_type(tick.index, int)
    bateau.time.interval(1, missed="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
