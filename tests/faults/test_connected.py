"""Faults on connections that stand, and on datagrams. See test_index.py for the whole list."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import struct
from typing import Any

import pytest

import bateau
import bateau.time
from bateau import net
from bateau.interop.asyncio import new_event_loop
from support import faulty
from support.loops import Problems, Recorder, both, needs_native, pair, run
from support.waiting import until

BIG = bytes(8 << 20)


def reset(sock: socket.socket) -> None:
    """Close it with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.fixture
def listening() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def stream_to(listening: socket.socket) -> tuple[Any, socket.socket]:
    """A stream of ours, and the plain socket at its other end."""
    stream = await net.connect_tcp(*listening.getsockname())
    there, _ = listening.accept()
    return stream, there


# -- the other side goes away ------------------------------------------------------------------------------------------


def test_a_reset_in_the_middle_of_a_write(runtime: Any, listening: socket.socket) -> None:
    """The writer is told how much had gone out, so is a reader that waits, and the stream stays broken."""

    async def main() -> None:
        stream, there = await stream_to(listening)
        told: list[BaseException] = []

        async def write() -> None:
            try:
                await stream.write(BIG)
            except bateau.Broken as error:
                told.append(error)

        async def read() -> None:
            try:
                assert await stream.read() == b""
            except bateau.Broken as error:
                told.append(error)

        async with bateau.scope() as scope:
            scope.spawn(write)
            scope.spawn(read)
            await until(lambda: stream._writer is not None and stream._reader is not None)
            reset(there)
        (writing,) = [error for error in told if getattr(error, "sent", None)]
        assert 0 < writing.sent < len(BIG)
        assert writing.errno in (errno.ECONNRESET, errno.EPIPE)
        for _ in range(3):
            with pytest.raises(bateau.Broken):
                await stream.write(b"x")
        stream.close()

    runtime.run(main)


def test_a_broken_pipe_under_a_stream(runtime: Any) -> None:
    async def main() -> None:
        here, there = socket.socketpair()
        stream = net.from_socket(here)
        there.close()
        with pytest.raises(bateau.Broken) as caught:
            await stream.write(b"x")
        assert caught.value.errno == errno.EPIPE
        assert not caught.value.sent
        stream.close()

    runtime.run(main)


def test_a_peer_that_ends_and_resets_later(runtime: Any, listening: socket.socket) -> None:
    """Half closed, then gone: what came before is read, the end is an end, and only the write that meets the RST fails."""

    async def main() -> None:
        stream, there = await stream_to(listening)
        there.sendall(b"last words")
        there.shutdown(socket.SHUT_WR)
        assert await stream.read() == b"last words"
        assert await stream.read() == b""
        await stream.write(b"heard")
        assert there.recv(10) == b"heard"
        reset(there)
        with pytest.raises(bateau.Broken):
            while True:
                await stream.write(b"x")
        stream.close()

    runtime.run(main)


def test_a_descriptor_closed_under_a_stream(runtime: Any) -> None:
    """An error and no stranger's data; the stream can still be closed, and the loop goes on."""

    async def main() -> None:
        here, there = socket.socketpair()
        stream = net.from_socket(here)
        with pytest.raises(TimeoutError):  # it is watched now
            with bateau.timeout(0.01):
                await stream.read()
        os.close(stream.fileno())
        for attempt in (lambda: stream.read(), lambda: stream.write(b"x")):
            with pytest.raises(OSError) as caught:
                await attempt()
            assert caught.value.errno == errno.EBADF
        with pytest.raises(OSError, match="behind bateau's back"):
            stream.close()
        assert stream.closed
        stream.close()
        there.close()
        await bateau.time.sleep(0)

    runtime.run(main)


def test_a_descriptor_closed_under_a_reader_that_waits(runtime: Any) -> None:
    """Nobody can be woken by a descriptor that is gone; closing the stream wakes its reader all the same."""

    async def main() -> None:
        here, there = socket.socketpair()
        stream = net.from_socket(here)

        async def read() -> None:
            with pytest.raises(OSError):
                await stream.read()

        async with bateau.scope() as scope:
            scope.spawn(read)
            await until(lambda: stream._reader is not None)
            await bateau.yield_now()
            os.close(stream.fileno())
            with pytest.raises(OSError, match="behind bateau's back"):
                stream.close()
        there.close()

    runtime.run(main)


@needs_native  # asyncio's own loop never ends such a connection
@pytest.mark.parametrize("end", ["close", "abort", "read", "write"])
def test_a_descriptor_closed_under_a_transport_that_reads_and_writes(end: str) -> None:
    """Registered both ways, and gone: whatever is done next, the connection is lost, once, and its server knows."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(problems := Problems())
        made: list[Recorder] = []

        def make() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(make, "127.0.0.1", 0)
        there = socket.create_connection(server.sockets[0].getsockname())
        while not made:
            await asyncio.sleep(0)
        transport: Any = await made[0].made
        await asyncio.sleep(0)
        while not transport.get_write_buffer_size():
            transport.write(BIG)
        os.close(transport._sock.fileno())
        transport.pause_reading()
        if end == "read":
            transport.resume_reading()
        elif end == "write":
            transport.write(b"x")
        else:
            getattr(transport, end)()
        if not transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()
        await made[0].lost
        assert made[0].told.count("lost") == 1
        server.close()
        await server.wait_closed()
        assert [problem["exception"].errno for problem in problems] == [
            errno.EBADF
        ]  # the close, by then somebody else's
        there.close()

    run(new_event_loop, main())


@both
def test_written_after_the_end(factory: Any) -> None:
    """After close, abort or loss nothing is sent and nothing raises; after write_eof it is the caller's mistake."""

    async def main() -> None:
        for end in ("close", "abort"):
            protocol, there = await pair()
            getattr(protocol.transport, end)()
            for _ in range(10):
                protocol.transport.write(b"x")
            if factory is new_event_loop:  # asyncio's own breaks on that from 3.12 on
                protocol.transport.writelines([b"x"] * 3)
            await protocol.lost
            protocol.transport.write(b"x")
            assert protocol.transport.get_write_buffer_size() == 0
            assert there.recv(10) == b""
            there.close()
        protocol, there = await pair()
        protocol.transport.write_eof()
        with pytest.raises(RuntimeError):
            protocol.transport.write(b"x")
        assert there.recv(10) == b""
        protocol.transport.close()
        await protocol.lost
        there.close()

    run(factory, main())


# -- calls that fail or do half --------------------------------------------------------------------------------------------


def test_interrupted_and_short_calls() -> None:
    """EINTR is nobody's error, and a kernel that takes or gives a few bytes at a time changes no byte."""
    faulty.run("""
    data = bytes(range(256)) * 300
    async def talk(reading, writing):
        got = bytearray()
        async with bateau.scope() as scope:
            async def write():
                await writing.write(data)
                await writing.write_eof()
            scope.spawn(write)
            while part := await reading.read(5000):
                got += part
        assert got == data, len(got)
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            for call in ("recv", "send"):
                client = await net.connect_tcp("127.0.0.1", listener.port)
                served = await listener.accept()
                limit(call, 1000)
                plan(call, errno.EINTR, times=20, skip=3)
                with bateau.timeout(50):
                    await talk(client, served)
                assert hits(call) == 20, (call, hits(call))
                limit(call, 0)
                client.close(); served.close()
    bateau.run(main)
    """)


def test_interrupted_and_short_calls_on_the_loop() -> None:
    faulty.run("""
    data = bytes(range(256)) * 3000
    async def main():
        done = asyncio.get_running_loop().create_future()
        async def serve(reader, writer):
            done.set_result(await reader.read())
            writer.close()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for call in ("send", "sendmsg", "writev", "recv", "read"):
                plan(call, errno.EINTR, times=5)
            limit("send", 1000); limit("sendmsg", 1000); limit("recv", 700)
            for i in range(0, len(data), 50_000):
                writer.write(data[i : i + 50_000])
            await writer.drain()
            writer.write_eof()
            assert await done == data
            assert hits("recv") + hits("read") > 0
            assert hits("send") + hits("sendmsg") + hits("writev") > 0
            writer.close()
            await writer.wait_closed()
    on_loop(main)
    """)


def test_an_interrupted_poll() -> None:
    """EINTR out of epoll_wait ends no program and fires no timer early."""
    faulty.run("""
    async def main():
        plan("epoll_wait", errno.EINTR, times=30)
        began = time.monotonic()
        for _ in range(10):
            await bateau.time.sleep(0.005)
        assert time.monotonic() - began >= 0.05
        assert hits("epoll_wait") > 0
    bateau.run(main)

    async def main():
        plan("epoll_wait", errno.EINTR, times=30)
        began = time.monotonic()
        for _ in range(10):
            await asyncio.sleep(0.005)
        assert time.monotonic() - began >= 0.045
        assert hits("epoll_wait") > 0
    on_loop(main)
    """)


def test_a_datagram_that_the_system_has_no_room_for() -> None:
    """ENOBUFS and ENOMEM are told to who sends; nothing went out, and the socket goes on. A full queue is waited for."""
    faulty.run("""
    async def main():
        async with await net.udp(("127.0.0.1", 0)) as there, await net.udp(("127.0.0.1", 0)) as here:
            to = there.getsockname()
            connected = await net.udp(remote=to)
            for code in (errno.ENOBUFS, errno.ENOMEM):
                for call, sending in (("sendto", lambda: here.sendto(b"lost", to)), ("send", lambda: connected.send(b"lost"))):
                    plan("send", code); plan("sendto", code)
                    try:
                        await sending()
                    except OSError as error:
                        assert error.errno == code, error
                        assert not isinstance(error, bateau.Broken)
                    else:
                        raise AssertionError("it did not fail")
                    plan("send", 0, times=0); plan("sendto", 0, times=0)
            plan("sendto", errno.EAGAIN, times=2)
            assert await here.sendto(b"found", to) == 5
            assert await there.recv() == b"found"
            connected.close()
    bateau.run(main)
    """)


def test_a_datagram_that_the_system_has_no_room_for_on_the_loop() -> None:
    faulty.run("""
    async def main():
        loop = asyncio.get_running_loop()
        class P(asyncio.DatagramProtocol):
            def __init__(self):
                self.errors, self.data = [], asyncio.Event()
            def error_received(self, error):
                self.errors.append(error.errno)
            def datagram_received(self, data, address):
                assert data == b"found"
                self.data.set()
        there, receiver = await loop.create_datagram_endpoint(P, ("127.0.0.1", 0))
        here, sender = await loop.create_datagram_endpoint(P, ("127.0.0.1", 0))
        to = there.get_extra_info("sockname")
        plan("sendto", errno.ENOBUFS)
        here.sendto(b"lost", to)
        assert sender.errors == [errno.ENOBUFS], sender.errors
        plan("sendto", errno.EAGAIN)
        here.sendto(b"found", to)
        await receiver.data.wait()
        here.close(); there.close()
        await asyncio.sleep(0)
    on_loop(main)
    """)


def test_an_epoll_set_that_is_full() -> None:
    """ENOSPC or ENOMEM where a descriptor is to be watched: that wait fails, the loop and the other streams don't."""
    faulty.run("""
    async def main():
        for code in (errno.ENOSPC, errno.ENOMEM):
            here, there = socket.socketpair()
            other, peer = socket.socketpair()
            stream, second = net.from_socket(here), net.from_socket(other)
            plan("epoll_ctl", code)
            try:
                await stream.read()
            except OSError as error:
                assert error.errno == code, error
            else:
                raise AssertionError("it did not fail")
            async with bateau.scope() as scope:
                waiting = scope.spawn(stream.read)
                again = scope.spawn(second.read)
                await bateau.yield_now()
                there.send(b"x"); peer.send(b"y")
                assert (await waiting, await again) == (b"x", b"y")
            stream.close(); second.close(); there.close(); peer.close()
    bateau.run(main)

    async def main():
        loop = asyncio.get_running_loop()
        for code in (errno.ENOSPC, errno.ENOMEM):
            here, there = socket.socketpair()
            here.setblocking(False)
            plan("epoll_ctl", code)
            try:
                loop.add_reader(here, print)
            except OSError as error:
                assert error.errno == code, error
            else:
                raise AssertionError("it did not fail")
            assert not loop.remove_reader(here)
            there.send(b"x")
            plan("epoll_ctl", 0, times=0)
            got = loop.create_future()
            loop.add_reader(here, lambda: got.done() or got.set_result(here.recv(9)))
            assert await got == b"x"
            loop.remove_reader(here)
            told = []
            loop.set_exception_handler(lambda loop, context: told.append(context))
            plan("epoll_ctl", code)
            lost = loop.create_future()
            class P(asyncio.Protocol):
                def connection_lost(self, error):
                    lost.set_result(error)
            transport, _ = await loop.create_connection(P, sock=here)
            error = await lost
            assert error.errno == code, error
            there.close()

            here, there = socket.socketpair()
            here.setblocking(False)
            lost = loop.create_future()
            transport, _ = await loop.create_connection(P, sock=here)
            transport.pause_reading()
            await asyncio.sleep(0)
            plan("epoll_ctl", code)
            transport.write(bytes(4 << 20))
            error = await lost
            assert error.errno == code and not transport.get_write_buffer_size(), error
            there.close()
    on_loop(main)
    """)


# -- TLS -------------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("manner", ["closes", "resets", "says nothing"])
def test_a_tls_peer_that_is_gone_in_mid_handshake(factory: Any, manner: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(Problems())
        with socket.create_server(("127.0.0.1", 0)) as listening:
            context = ssl.create_default_context()
            connecting = asyncio.create_task(
                loop.create_connection(
                    asyncio.Protocol,
                    *listening.getsockname(),
                    ssl=context,
                    server_hostname="boat.example",
                    ssl_handshake_timeout=0.05 if manner == "says nothing" else 20,
                )
            )
            there, _ = await asyncio.to_thread(listening.accept)
            hello = await asyncio.to_thread(there.recv, 5)
            assert hello[:1] == b"\x16"
            if manner == "closes":
                there.close()
            elif manner == "resets":
                reset(there)
            with pytest.raises(OSError) as caught:
                await connecting
            assert isinstance(caught.value, (ConnectionError, ssl.SSLError)), caught.value
            there.close()

    run(factory, main())


# -- sendfile ----------------------------------------------------------------------------------------------------------------


@both
def test_a_file_that_shrinks_while_it_is_sent(factory: Any, tmp_path: Any) -> None:
    path = tmp_path / "f"
    path.write_bytes(BIG)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol, there = await pair()
        with open(path, "r+b") as file:
            sending = asyncio.create_task(loop.sendfile(protocol.transport, file))
            got = len(await loop.sock_recv(there, 1000))
            os.truncate(path, 1_000_000)

            async def drain() -> int:
                total = got
                while part := await loop.sock_recv(there, 1 << 20):
                    total += len(part)
                return total

            draining = asyncio.create_task(drain())
            sent = await sending
            protocol.transport.close()
            assert await draining == sent < len(BIG)
        await protocol.lost
        there.close()

    run(factory, main())


def test_a_file_that_shrinks_while_a_stream_sends_it(runtime: Any, tmp_path: Any, listening: socket.socket) -> None:
    path = tmp_path / "f"
    path.write_bytes(BIG)

    async def main() -> None:
        stream, there = await stream_to(listening)
        got = 0

        def drain() -> None:
            nonlocal got
            while part := there.recv(1 << 20):
                got += len(part)

        with open(path, "r+b") as file:
            async with bateau.scope() as scope:
                sending = scope.spawn(stream.sendfile, file)
                await until(lambda: stream._writer is not None)
                os.truncate(path, 1_000_000)
                draining = scope.spawn_blocking(drain)
                sent = await sending
                await stream.write(b"it goes on")
                stream.close()
                await draining
        assert got == sent + len(b"it goes on") < len(BIG)
        there.close()

    runtime.run(main)


@needs_native  # asyncio's own, in 3.11, ends such a connection twice
def test_a_protocol_dropped_with_its_connection() -> None:
    """Aborted out of each of its own calls: it ends once, and nothing is called after."""

    async def main() -> None:
        for method in ("connection_made", "data_received", "eof_received", "pause_writing", "resume_writing"):

            class Aborting(Recorder):
                pass

            def call(self: Any, *args: Any, method: str = method) -> Any:
                if method == "connection_made":
                    Recorder.connection_made(self, *args)
                self.told.append(method)
                self.transport.abort()

            setattr(Aborting, method, call)
            protocol, there = await pair(Aborting)
            if method != "connection_made":
                there.send(b"x" if method == "data_received" else b"")
                if method == "eof_received":
                    there.close()
                if method.endswith("writing"):
                    while not protocol.transport.is_closing() and "pause" not in protocol.told:
                        protocol.transport.write(BIG)
                        if method == "resume_writing":
                            break
                    while method == "resume_writing" and not protocol.transport.is_closing():
                        try:
                            there.recv(1 << 20)
                        except BlockingIOError:
                            pass
                        await asyncio.sleep(0)
            await protocol.lost
            assert protocol.told[-1] == "lost"
            assert protocol.told.count("lost") == 1
            there.close()

    run(new_event_loop, main())
