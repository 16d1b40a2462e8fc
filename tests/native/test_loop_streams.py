"""The native stream transport beside asyncio's: the same tests on both."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import struct
import sys
import warnings
from contextvars import ContextVar
from typing import Any

import pytest

from support.loops import LOOPS, Problems, Recorder, pair, run

pytestmark = [pytest.mark.parametrize("factory", LOOPS)]

BIG = os.urandom(1 << 20)


async def read_all(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    parts = []
    while part := await loop.sock_recv(sock, 1 << 16):
        parts.append(part)
    return b"".join(parts)


async def read_exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    parts = []
    while size:
        part = await loop.sock_recv(sock, min(size, 1 << 16))
        assert part
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


async def polls() -> None:
    """Let the loop look for I/O a few times: a timer makes it, ready callbacks alone need not."""
    for _ in range(3):
        await asyncio.sleep(0.0005)


async def end(protocol: Recorder, sock: socket.socket) -> None:
    protocol.transport.abort()
    await protocol.lost
    sock.close()


def test_every_kind_of_data(factory: Any) -> None:
    async def main() -> None:
        protocol, there = await pair()
        transport = protocol.transport
        with there:
            transport.write(b"one ")
            transport.write(bytearray(b"two "))
            transport.write(memoryview(b"-three -")[1:-1])
            transport.write(b"")
            transport.writelines([b"four ", bytearray(b"five"), memoryview(b" six")])
            assert await asyncio.get_running_loop().sock_recv(there, 100) == b"one two three four five six"
            with pytest.raises(TypeError):
                transport.write("text")
            with pytest.raises(TypeError):
                transport.write(5)
            if factory is not asyncio.SelectorEventLoop or sys.version_info < (
                3,
                15,
            ):  # there asyncio keeps the "x", and never ends
                with pytest.raises(TypeError):
                    transport.writelines([b"x", "text"])
            transport.close()
            assert await protocol.lost is None
            transport.close()
            transport.write(b"after the end: dropped")

    run(factory, main())


def test_data_that_is_changed_after_it_was_queued(factory: Any) -> None:
    if factory is asyncio.SelectorEventLoop and sys.version_info >= (3, 12):
        pytest.skip("asyncio keeps what it was given, and sends what has become of it")

    async def main() -> None:
        protocol, there = await pair()
        protocol.transport.write(BIG)  # more than the kernel takes
        mutable = bytearray(b"as it was")
        protocol.transport.write(mutable)
        mutable[:] = b"different"
        protocol.transport.write(memoryview(BIG)[:5000])
        protocol.transport.close()
        assert protocol.transport.is_closing()
        with there:
            assert await read_all(there) == BIG + b"as it was" + BIG[:5000]
        assert await protocol.lost is None

    run(factory, main())


def test_many_small_pieces_in_the_queue(factory: Any) -> None:
    async def main() -> None:
        protocol, there = await pair()
        protocol.transport.write(BIG)
        pieces = [BIG[i : i + 1 + i % 17] for i in range(1000)]
        for piece in pieces:
            protocol.transport.write(piece)
        assert protocol.transport.get_write_buffer_size() > sum(map(len, pieces))
        protocol.transport.write_eof()
        with there:
            assert await read_all(there) == BIG + b"".join(pieces)
        with pytest.raises(RuntimeError, match="write_eof"):
            protocol.transport.write(b"more")
        protocol.transport.close()
        await protocol.lost

    run(factory, main())


def test_a_peer_that_never_reads_pauses_the_writer(factory: Any) -> None:
    async def main() -> None:
        protocol, there = await pair()
        transport = protocol.transport
        transport.set_write_buffer_limits(high=1000, low=100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        while "pause" not in protocol.told:
            transport.write(b"x" * 4096)
        assert transport.get_write_buffer_size() > 1000
        waiting = transport.get_write_buffer_size()
        await polls()
        assert transport.get_write_buffer_size() == waiting
        while "resume" not in protocol.told:
            await asyncio.get_running_loop().sock_recv(there, 1 << 16)
        assert protocol.told == ["made", "pause", "resume"]
        assert transport.get_write_buffer_size() <= 100
        await end(protocol, there)

    run(factory, main())


def test_limits_that_make_no_sense(factory: Any) -> None:
    async def main() -> None:
        protocol, there = await pair()
        with pytest.raises(ValueError, match="must be >= low"):
            protocol.transport.set_write_buffer_limits(high=1, low=2)
        protocol.transport.set_write_buffer_limits(low=10)
        assert protocol.transport.get_write_buffer_limits() == (10, 40)
        protocol.transport.set_write_buffer_limits()
        assert protocol.transport.get_write_buffer_limits() == (16384, 65536)
        await end(protocol, there)

    run(factory, main())


def test_reading_paused_and_resumed(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol, there = await pair()
        transport = protocol.transport
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        await loop.sock_sendall(there, b"later")
        await polls()
        assert not protocol.data
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        await protocol.until(lambda: protocol.data == b"later")
        await end(protocol, there)

    run(factory, main())


def test_half_close_by_the_peer(factory: Any) -> None:
    """eof_received() that says True keeps the other direction open, and is called once."""

    class KeepsOpen(Recorder):
        def eof_received(self) -> bool | None:
            super().eof_received()
            return True

    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol, there = await pair(KeepsOpen)
        there.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "eof" in protocol.told)
        await polls()
        protocol.transport.write(b"still here")
        assert await loop.sock_recv(there, 100) == b"still here"
        assert protocol.told == ["made", "eof"]
        assert not protocol.transport.is_closing()
        await end(protocol, there)

    run(factory, main())


def test_half_close_by_us(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol, there = await pair()
        assert protocol.transport.can_write_eof()
        protocol.transport.write(BIG)
        protocol.transport.write_eof()  # when all is sent
        protocol.transport.write_eof()
        assert await read_all(there) == BIG
        await loop.sock_sendall(there, b"answer")
        there.close()
        assert await protocol.lost is None
        assert protocol.data == b"answer"
        assert protocol.told[-2:] == ["eof", "lost"]

    run(factory, main())


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = socket.create_connection(listening.getsockname())
        there, _ = listening.accept()
    here.setblocking(False)
    return here, there


def reset(sock: socket.socket) -> None:
    """Close it with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("reads", [True, False], ids=["reading", "paused"])
def test_a_reset_in_the_middle_of_writing(factory: Any, reads: bool) -> None:
    async def main() -> None:
        here, there = tcp_pair()
        _, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=here)
        if not reads:
            protocol.transport.pause_reading()
        while not protocol.transport.get_write_buffer_size():
            protocol.transport.write(BIG)
        reset(there)
        error = await protocol.lost
        assert isinstance(error, ConnectionError), error
        assert protocol.told.count("lost") == 1
        assert protocol.transport.get_write_buffer_size() == 0
        for _ in range(10):
            protocol.transport.write(b"x")  # goes nowhere, and raises nothing

    run(factory, main())


def test_a_broken_pipe(factory: Any) -> None:
    async def main() -> None:
        protocol, there = await pair()
        protocol.transport.pause_reading()  # else the end is seen by reading
        there.close()
        protocol.transport.write(b"x")
        error = await protocol.lost
        assert isinstance(error, BrokenPipeError)

    run(factory, main())


def test_a_descriptor_closed_under_us(factory: Any) -> None:
    """Its number is another socket's: nothing may be written to, or read from that one."""

    async def main() -> None:
        protocol, there = await pair()
        sock = protocol.transport._sock
        number = sock.fileno()
        sock.close()
        strangers = socket.socketpair()
        stranger = next((s for s in strangers if s.fileno() == number), None)
        assert stranger is not None
        other = strangers[1] if stranger is strangers[0] else strangers[0]
        other.setblocking(False)
        protocol.transport.write(b"not for a stranger")
        error = await protocol.lost
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF
        with pytest.raises(BlockingIOError):
            other.recv(10)
        for s in (*strangers, there):
            s.close()

    run(factory, main())


@pytest.mark.parametrize("method", ["data_received", "eof_received", "get_buffer", "buffer_updated", "empty buffer"])
def test_a_protocol_that_raises(factory: Any, method: str) -> None:
    """The connection ends with its error, which the exception handler hears."""

    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

        def eof_received(self) -> bool | None:
            raise ZeroDivisionError

    class FailingBuffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.lost = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> Any:
            if method == "get_buffer":
                raise ZeroDivisionError
            return bytearray(0 if method == "empty buffer" else 100)

        def buffer_updated(self, nbytes: int) -> None:
            raise ZeroDivisionError

        def connection_lost(self, exc: BaseException | None) -> None:
            self.lost.set_result(exc)

    async def main() -> None:
        problems = Problems()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(problems)
        protocol, there = await pair(Failing if method.endswith("received") else FailingBuffered)
        if method == "eof_received":
            there.shutdown(socket.SHUT_WR)
        else:
            there.send(b"x")
        error = await protocol.lost
        there.close()
        assert isinstance(error, RuntimeError if method == "empty buffer" else ZeroDivisionError)
        (problem,) = problems
        assert problem["exception"] is error
        name = "get_buffer" if method == "empty buffer" else method
        assert problem["message"] == f"Fatal error: protocol.{name}() call failed."
        assert problem["protocol"] is protocol

    run(factory, main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_flow_control_that_raises(factory: Any, method: str) -> None:
    async def main() -> None:
        problems = Problems()
        asyncio.get_running_loop().set_exception_handler(problems)
        protocol, there = await pair()

        def fails() -> None:
            raise ZeroDivisionError

        setattr(protocol, method, fails)
        protocol.transport.write(BIG)
        protocol.transport.close()
        with there:
            assert await read_all(there) == BIG
        assert await protocol.lost is None
        (problem,) = problems
        assert problem["message"] == f"protocol.{method}() failed"
        assert isinstance(problem["exception"], ZeroDivisionError)

    run(factory, main())


def test_a_buffered_protocol(factory: Any) -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(10)
            self.data = bytearray()
            self.lost = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> Any:
            assert sizehint == -1
            return memoryview(self.buffer)

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]

        def connection_lost(self, exc: BaseException | None) -> None:
            self.lost.set_result(exc)

    async def main() -> None:
        protocol, there = await pair(Buffered)
        await asyncio.get_running_loop().sock_sendall(there, BIG[:1234])
        there.close()
        assert await protocol.lost is None
        assert protocol.data == BIG[:1234]
        protocol.buffer.append(0)  # nobody holds its buffer any more

    run(factory, main())


def test_a_protocol_is_replaced_while_it_is_called(factory: Any) -> None:
    async def main() -> None:
        second = Recorder()

        class First(Recorder):
            def data_received(self, data: bytes) -> None:
                self.transport.set_protocol(second)
                del self.transport

        protocol, there = await pair(First)
        transport = protocol.transport
        del protocol
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(there, b"1")
        while transport.get_protocol() is not second:
            await asyncio.sleep(0)
        gc.collect()
        await loop.sock_sendall(there, b"2")
        await second.until(lambda: second.data == b"2")
        transport.abort()
        await second.lost
        there.close()

    run(factory, main())


def test_the_context_of_a_protocol_is_that_of_the_connection(factory: Any) -> None:
    var: ContextVar[str] = ContextVar("var", default="unset")

    async def main() -> None:
        seen = []

        class Looks(Recorder):
            def data_received(self, data: bytes) -> None:
                seen.append(var.get())
                super().data_received(data)

        var.set("the maker's")
        protocol, there = await pair(Looks)
        var.set("later")
        await asyncio.get_running_loop().sock_sendall(there, b"1")
        await protocol.until(lambda: protocol.data)
        await end(protocol, there)
        assert seen == ["the maker's"]

    run(factory, main())


def test_extra_info_and_repr(factory: Any) -> None:
    async def main() -> None:
        here, there = tcp_pair()
        addresses = here.getsockname(), here.getpeername()
        _, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=here)
        transport = protocol.transport
        assert isinstance(transport, asyncio.Transport)
        info = transport.get_extra_info
        assert (info("sockname"), info("peername")) == addresses
        assert info("socket").fileno() == here.fileno()
        assert info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert info("nothing", 5) == 5
        await protocol.made
        await asyncio.sleep(0)
        assert f"fd={here.fileno()} read=polling write=<idle, bufsize=0>" in repr(transport)
        transport.close()
        assert "closing" in repr(transport)
        await protocol.lost
        await asyncio.sleep(0)
        assert "closed" in repr(transport)
        there.close()

    run(factory, main())


def test_a_transport_that_is_forgotten_open_warns_and_is_closed(factory: Any) -> None:
    async def main() -> None:
        protocol, there = await pair()
        protocol.transport.pause_reading()  # else the loop keeps it
        del protocol
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            await polls()
            gc.collect()
        assert any("unclosed transport" in str(w.message) for w in caught)
        assert there.recv(1) == b""
        there.close()

    run(factory, main())


def test_adding_a_reader_to_a_transports_descriptor_is_refused(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol, there = await pair()
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(protocol.transport.get_extra_info("socket").fileno(), print)
        await end(protocol, there)

    run(factory, main())


def test_sendfile_waits_for_what_was_written_before(factory: Any, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = tcp_pair()
        there.setblocking(False)
        _, protocol = await loop.create_connection(Recorder, sock=here)
        protocol.transport.write(BIG[:300_000])
        reading = asyncio.ensure_future(read_all(there))
        with path.open("rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(protocol.transport, file))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="sendfile"):
                protocol.transport.write(b"in between")
            assert await sending == len(BIG)
        protocol.transport.write(b"after")
        protocol.transport.close()
        assert await reading == BIG[:300_000] + BIG + b"after"
        await protocol.lost
        there.close()

    run(factory, main())
