"""What the tests of the native event loop share. Not a test module."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from bateau.interop.asyncio import is_native, new_event_loop

needs_native = pytest.mark.skipif(not is_native(), reason="bateau's C part was not built, or BATEAU_PURE is set")

# The same behaviour on both: what asyncio's loop does is what is right.
LOOPS = [
    pytest.param(new_event_loop, id="native", marks=needs_native),
    pytest.param(asyncio.SelectorEventLoop, id="asyncio"),
]
both = pytest.mark.parametrize("factory", LOOPS)


class Problems(list[dict[str, Any]]):
    """What a loop's exception handler was told."""

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.append(context)


def once(loop: asyncio.AbstractEventLoop) -> None:
    """One iteration."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def run(factory: Any, main: Coroutine[Any, Any, Any], *, debug: bool | None = None) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(main, 60)

    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(limited())


class Recorder(asyncio.Protocol):
    """A protocol that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.data = bytearray()
        self.made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.told.append("made")
        self.made.set_result(transport)

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.changed.set()

    def eof_received(self) -> bool | None:
        self.told.append("eof")
        self.changed.set()
        return None

    def pause_writing(self) -> None:
        self.told.append("pause")
        self.changed.set()

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.changed.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told.append("lost")
        self.lost.set_result(exc)
        self.changed.set()

    async def until(self, condition: Any) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


async def pair(protocol: Any = Recorder) -> tuple[Any, Any]:
    """A transport on one end of a socket pair, with its protocol, and the other end as a plain non-blocking socket."""
    import socket

    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    _, made = await asyncio.get_running_loop().create_connection(protocol, sock=here)
    return made, there
