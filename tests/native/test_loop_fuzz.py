"""Streams, handles and descriptors misused at random: the loop survives, every connection ends once, and no data is mixed up.

``BATEAU_FUZZ=SECONDS`` runs it for as long, with seeds of its own.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import struct
import time
from typing import Any

import pytest

from bateau.interop.asyncio import new_event_loop
from support.loops import needs_native, run

pytestmark = [needs_native, pytest.mark.no_leak_check("connections are reset and dropped on purpose")]

SECONDS = float(os.environ.get("BATEAU_FUZZ", "0"))


class Wild(asyncio.Protocol):
    """Does something at random in every call that it gets."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.made = self.lost = 0
        self.sent = bytearray()
        self.received = bytearray()
        self.paused = False

    def act(self) -> None:
        draw, transport = self.world.draw, self.transport
        match draw.randrange(18):
            case 0 | 1 | 2 | 3:
                data = draw.randbytes(draw.choice([1, 10, 1000, 70_000]))
                if not transport._eof:
                    if not transport.is_closing():
                        self.sent += data
                    transport.write(draw.choice([bytes, bytearray, memoryview])(data))
            case 4:
                if not transport._eof:
                    parts = [draw.randbytes(draw.randrange(100)) for _ in range(draw.randrange(20))]
                    if not transport.is_closing():
                        self.sent += b"".join(parts)
                    transport.writelines(parts)
            case 5:
                transport.pause_reading()
            case 6 | 7:
                transport.resume_reading()
            case 8:
                transport.set_write_buffer_limits(draw.randrange(100_000))
            case 9:
                if draw.random() < 0.1 and not transport.is_closing():
                    transport.write_eof()
            case 10:
                if draw.random() < 0.1:
                    transport.close()
            case 11:
                if draw.random() < 0.1:
                    transport.abort()
            case 12:
                self.world.loop.call_soon(self.act).cancel()
            case 13:
                handle = self.world.loop.call_later(draw.random() / 1000, self.act_later)
                if draw.random() < 0.5:
                    handle.cancel()
            case 14:
                transport.set_protocol(self)
            case 15:
                gc.collect(0)
            case 16:
                if draw.random() < 0.1:
                    raise ZeroDivisionError
            case 17:
                repr(transport)

    def act_later(self) -> None:
        if not self.lost:
            self.act()

    def connection_made(self, transport: Any) -> None:
        self.made += 1
        self.transport = transport
        self.act()

    def data_received(self, data: bytes) -> None:
        assert not self.lost
        self.received += data
        self.act()

    def eof_received(self) -> bool:
        self.act()
        return self.world.draw.random() < 0.3

    def pause_writing(self) -> None:
        assert not self.paused
        self.paused = True
        self.act()

    def resume_writing(self) -> None:
        assert self.paused
        self.paused = False
        self.act()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost += 1
        self.world.alive.discard(self)


class WildBuffered(Wild, asyncio.BufferedProtocol):  # type: ignore[misc]
    """The same with a buffer of its own."""

    def get_buffer(self, sizehint: int) -> Any:
        self.buffer = bytearray(self.world.draw.randrange(1, 5000))
        if self.world.draw.random() < 0.05:
            self.act()
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]
        self.act()


class World:
    """One run: pairs of wild connections, and plain peers that read, write and vanish."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.alive: set[Wild] = set()
        self.wrong: list[Any] = []

    def told(self, loop: Any, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), (ZeroDivisionError, OSError)):
            self.wrong.append(context)

    async def connection(self) -> None:
        draw, loop = self.draw, self.loop
        if draw.random() < 0.5:
            here, there = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                here = socket.create_connection(listening.getsockname())
                there, _ = listening.accept()
        here.setblocking(False)
        there.setblocking(False)
        make = draw.choice([Wild, WildBuffered])
        _, wild = await loop.create_connection(lambda: make(self), sock=here)
        if not wild.lost:
            self.alive.add(wild)
        read = bytearray()
        given = bytearray()
        with there:
            for _ in range(draw.randrange(60)):
                await asyncio.sleep(0)
                try:
                    if draw.random() < 0.5:
                        read += there.recv(draw.choice([1, 1000, 300_000]))
                    if draw.random() < 0.02:
                        there.shutdown(socket.SHUT_WR)
                    if draw.random() < 0.5:
                        data = draw.randbytes(draw.randrange(1, 3000))
                        given += data[: there.send(data)]
                except OSError:
                    pass
            if draw.random() < 0.2 and there.family == socket.AF_INET:
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # What arrived is the beginning of what was sent.
        assert wild.sent.startswith(read)
        assert given.startswith(wild.received)

    async def main(self, connections: int) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self.loop.set_exception_handler(self.told)
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self.connection())
        for wild in tuple(self.alive):
            wild.transport.abort()
        while self.alive:
            await asyncio.sleep(0)
        assert not self.wrong, self.wrong[0]
        assert not self.loop._transports or all(t.is_closing() for t in self.loop._transports.values())


@pytest.mark.parametrize("seed", range(3))
def test_wild_connections(seed: int) -> None:
    began, connections = time.monotonic(), 40
    while True:
        run(new_event_loop, World(seed).main(connections))
        if time.monotonic() - began >= SECONDS / 3:
            break
        seed += 1000
