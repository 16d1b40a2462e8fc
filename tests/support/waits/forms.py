"""Waits of the other modules in other forms: as an iteration, by a ticket, into a buffer."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any

import bateau
from bateau import channel, net, sync
from support.waits.outside import connected
from support.waits.table import ANYBODY, Case, World, case

# -- the same in other forms -------------------------------------------------------------------------------------------------


def iterating(source: Any) -> Callable[[], Awaitable[Any]]:
    async def wait() -> None:
        async for _ in source:
            pass

    return wait


@case
async def receive_loop(world: World) -> Case:
    tx, rx = channel.channel[int](2, name="it")
    world.stack.callback(rx.close)
    world.stack.callback(tx.close)
    return Case(iterating(rx), r"channel 'it' \(0/2", ANYBODY)


@case
async def broadcast_loop(world: World) -> Case:
    tx, rx = channel.broadcast[int](1, name="it")
    world.stack.callback(tx.close)
    world.stack.callback(rx.close)
    return Case(iterating(rx), r"broadcast 'it'", ANYBODY)


@case
async def signals_loop(world: World) -> Case:
    return Case(iterating(await world.open(bateau.signal.open(signal.SIGUSR2))), r"SIGUSR2")


@case
async def semaphore_ticket(world: World) -> Case:
    it = sync.Semaphore(1, name="it")
    await world.task(it.acquire)
    ticket = it.ticket()
    world.stack.callback(ticket.close)
    return Case(ticket.acquire, r"semaphore 'it'", ["holder"], ["holder"])


@case
async def tcp_readinto(world: World) -> Case:
    client, _server = await connected(world)
    return Case(lambda: client.readinto(bytearray(1)), r"read.*127\.0\.0\.1")


@case
async def udp_loop(world: World) -> Case:
    return Case(iterating(await world.open(await net.udp(("127.0.0.1", 0)))), r"127\.0\.0\.1")


@case
async def udp_receive_from_one(world: World) -> Case:
    udp = await world.open(await net.udp(("127.0.0.1", 0), ("127.0.0.1", 9)))
    return Case(lambda: udp.recv(), r"127\.0\.0\.1")
