"""What a callback writes is held until it returns, and sent in one piece. Beside asyncio's transport, which sends at once: nobody
but one who looks at the other end from within the same callback sees a difference.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from support.loops import Problems, both, needs_native, pair, run


def there_is(sock: socket.socket) -> bytes:
    """What can be read now."""
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return b""


@needs_native
def test_a_response_in_two_parts_is_one_piece_when_the_callback_has_returned() -> None:
    from bateau.interop.asyncio import new_event_loop

    async def main() -> None:
        protocol, there = await pair()
        protocol.transport.write(b"head ")
        protocol.transport.write(bytearray(b"body"))
        assert there_is(there) == b""
        await asyncio.sleep(0)
        assert there_is(there) == b"head body"
        protocol.transport.abort()
        await protocol.lost
        there.close()

    run(new_event_loop, main())


def _size(transport: Any) -> None:
    assert transport.get_write_buffer_size() == 0


# What a program may do after it has written, to which the data must be on its way.
ASKING: dict[str, Callable[[Any], object]] = {
    "buffer size": _size,
    "socket": lambda transport: transport.get_extra_info("socket"),
    "limits": lambda transport: transport.set_write_buffer_limits(0),
    "end of file": lambda transport: transport.write_eof(),
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "much": lambda transport: transport.write(b"x" * 20_000),
    "repr": repr,
    "forced close": lambda transport: transport._force_close(None),  # as asyncio's TLS does on top of it
}


@both
@pytest.mark.parametrize("asks", ASKING)
def test_it_is_sent_before_anything_that_could_tell(factory: Any, asks: str) -> None:
    async def main() -> None:
        protocol, there = await pair()
        protocol.transport.write(b"head")
        protocol.transport.write(b" body")
        ASKING[asks](protocol.transport)
        assert there_is(there).rstrip(b"x") == b"head body"
        protocol.transport.abort()
        await protocol.lost
        there.close()

    run(factory, main())


@both
def test_a_low_mark_is_a_low_mark(factory: Any) -> None:
    async def main() -> None:
        protocol, there = await pair()
        protocol.transport.set_write_buffer_limits(high=3)
        protocol.transport.write(b"abc")
        protocol.transport.write(b"d")
        await asyncio.sleep(0)
        assert there_is(there) == b"abcd"
        assert "pause" not in protocol.told
        protocol.transport.abort()
        await protocol.lost
        there.close()

    run(factory, main())


@both
def test_outside_of_callbacks_it_is_sent_at_once(factory: Any) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        protocol, there = runner.run(pair())
        protocol.transport.write(b"between two runs")
        assert there_is(there) == b"between two runs"

        async def end() -> None:
            protocol.transport.abort()
            await protocol.lost

        runner.run(end())
        there.close()


@both
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_callback_that_ends_the_program_has_its_last_words(factory: Any, error: type[BaseException]) -> None:
    loop = factory()
    protocol, there = loop.run_until_complete(pair())

    def last() -> None:
        protocol.transport.write(b"last words")
        raise error

    loop.call_soon(last)
    with pytest.raises(error):
        loop.run_forever()
    assert there_is(there) == b"last words"
    protocol.transport.abort()
    loop.run_until_complete(protocol.lost)
    loop.close()
    there.close()


@both
def test_a_broken_connection_is_told_when_the_callback_has_returned(factory: Any) -> None:
    async def main() -> None:
        problems = Problems()
        asyncio.get_running_loop().set_exception_handler(problems)
        protocol, there = await pair()
        protocol.transport.pause_reading()
        there.close()
        protocol.transport.write(b"one")
        protocol.transport.write(b"two")
        assert isinstance(await protocol.lost, BrokenPipeError)
        assert protocol.transport.is_closing()
        assert not problems

    run(factory, main())


@both
def test_many_streams_in_one_callback(factory: Any) -> None:
    async def main() -> None:
        pairs = [await pair() for _ in range(30)]
        for _ in range(3):
            for protocol, _there in pairs:
                protocol.transport.write(b"abc")
        await asyncio.sleep(0)
        for protocol, there in pairs:
            assert there_is(there) == b"abcabcabc"
            protocol.transport.abort()
            await protocol.lost
            there.close()

    run(factory, main())


@both
def test_what_the_kernel_does_not_take_goes_on_as_ever(factory: Any) -> None:
    """More in one callback than the socket has room for: held, sent, queued, in order."""
    pieces = [bytes([i % 251]) * 1000 for i in range(2000)]

    async def main() -> None:
        protocol, there = await pair()
        for piece in pieces:
            protocol.transport.write(piece)
        assert protocol.transport.get_write_buffer_size() > 0
        assert "pause" in protocol.told
        protocol.transport.close()
        loop, got = asyncio.get_running_loop(), bytearray()
        while part := await loop.sock_recv(there, 1 << 16):
            got += part
        assert got == b"".join(pieces)
        assert await protocol.lost is None
        there.close()

    run(factory, main())


@both
def test_a_forked_child_does_not_send_it_again(factory: Any) -> None:
    async def main() -> None:
        protocol, there = await pair()
        protocol.transport.write(b"once")
        if not (pid := os.fork()):
            try:
                protocol.transport.get_write_buffer_size()
                protocol.transport.abort()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        await asyncio.sleep(0)
        assert there_is(there) == b"once"
        protocol.transport.abort()
        await protocol.lost
        there.close()

    run(factory, main())


@both
def test_a_forked_child_writes_what_is_its_own(factory: Any) -> None:
    """Little and much, beside what its parent holds."""

    async def main() -> None:
        protocol, there = await pair()
        other, other_there = await pair()
        protocol.transport.write(b"parent;")
        if not (pid := os.fork()):
            try:
                other.transport.write(b"other;")
                protocol.transport.write(b"child;")
                protocol.transport.write(b"c" * 20_000 + b";")
                protocol.transport.get_write_buffer_size()
                other.transport.get_write_buffer_size()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        protocol.transport.close()
        await protocol.lost
        assert sorted(there_is(there).split(b";")) == [b"", b"c" * 20_000, b"child", b"parent"]
        assert there_is(other_there) == b"other;"
        other.transport.abort()
        await other.lost
        there.close()
        other_there.close()

    run(factory, main())


class Raising(asyncio.Protocol):
    """Says why, and raises."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"500 ")
        self.transport.write(b"why")
        raise ValueError(data)

    def eof_received(self) -> None:
        self.data_received(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


class RaisingBuffered(Raising, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(100)

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(b"")


@both
@pytest.mark.parametrize("kind", [Raising, RaisingBuffered])
@pytest.mark.parametrize("ends", [False, True])
def test_what_a_method_of_the_protocol_wrote_before_it_raised_is_sent(factory: Any, kind: Any, ends: bool) -> None:
    async def main() -> None:
        problems = Problems()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(problems)
        here, there = socket.socketpair()
        _, protocol = await loop.create_connection(kind, sock=here)
        there.shutdown(socket.SHUT_WR) if ends else there.send(b"request")
        assert isinstance(await protocol.lost, ValueError)
        assert there_is(there) == b"500 why"
        assert problems
        there.close()

    run(factory, main())


# What a program may do with the socket it was given long before.
USING: dict[str, Callable[[Any], object]] = {
    "shutdown": lambda sock: sock.shutdown(socket.SHUT_WR),
    "fileno": lambda sock: sock.fileno(),
    "dup": lambda sock: sock.dup().close(),
    "setsockopt": lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
}


@both
@pytest.mark.parametrize("uses", USING)
def test_it_is_sent_before_the_socket_is_used(factory: Any, uses: str) -> None:
    async def main() -> None:
        protocol, there = await pair()
        sock = protocol.transport.get_extra_info("socket")
        protocol.transport.write(b"head")
        protocol.transport.write(b" body")
        USING[uses](sock)
        assert there_is(there) == b"head body"
        protocol.transport.abort()
        await protocol.lost
        assert sock.fileno() == -1
        there.close()

    run(factory, main())


@needs_native
def test_a_loop_that_runs_inside_a_callback_sends_what_that_wrote_before_it_waits() -> None:
    from bateau.interop.asyncio import new_event_loop

    loop: Any = new_event_loop()
    protocol, there = loop.run_until_complete(pair())
    seen = []

    def callback() -> None:
        """As nest_asyncio does it."""
        protocol.transport.write(b"request")
        answer = loop.create_future()
        loop.add_reader(there, lambda: answer.done() or answer.set_result(there_is(there)))
        thread, loop._thread_id = loop._thread_id, None
        asyncio._set_running_loop(None)
        try:
            timeout = loop.call_later(30, loop.stop)
            seen.append(loop.run_until_complete(answer))
            timeout.cancel()
        finally:
            loop._thread_id = thread
            asyncio._set_running_loop(loop)
            loop.remove_reader(there)
            loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    assert seen == [b"request"]
    protocol.transport.abort()
    loop.run_until_complete(protocol.lost)
    loop.close()
    there.close()
