"""What programs do with streams, datagrams and files: repeated, and nothing is left over."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from typing import Any

import bateau
import bateau.time
from bateau import fs, net
from bateau.io import BufReader, BufWriter
from bateau.kernel import twin
from bateau.kernel.current import current_host
from bateau.net import unix
from bateau.net._tcp import connect_one
from support.drift import ROUNDS, Calls, Drift, Token, measure_in_program, only_native

pytestmark = only_native
native: Any = twin.native

calls = Calls(
    ListenerFields="accept __anext__",
    SocketStreamFields="read readinto recv write sendall",
    SideFields="ready",
    UdpSocketFields="recv recvfrom send sendto",
    BufReaderFields="read readexactly readline readuntil",
    BufWriterFields="flush write",
    AsyncFileFields="read readline seek tell",
    BinaryFileFields="peek pread read1 readinto",
    NowFileFields="read readall readinto",
    ReactorFields="is_awaited poll _control",
    module="content_of descriptor_of connect_one",
)


def test_calls_of_connections() -> None:
    """Connections made and accepted, at hand and waited for, by both kinds of accept; refused ones; calls that are wrong."""
    token = Token()

    async def some(listener: Any, rounds: int) -> None:
        rows = await net.resolve("127.0.0.1", listener.port)
        limit = listener.limit
        for n in range(rounds):
            async with bateau.scope() as scope:
                accepting = scope.spawn(listener.accept if n % 2 else listener.__anext__)
                if n % 3:
                    await bateau.yield_now()
                client = await connect_one("it", rows[0], net.SocketStream, True)
                served = await accepting
            client.close(), served.close()
            with contextlib.suppress(FileNotFoundError):
                await unix.connect("/nowhere at all")
            for wrong in (lambda: native.connect_one(token), lambda: native.connect_one(*[token] * 5)):
                with contextlib.suppress(TypeError):
                    wrong()
            with bateau.move_on_after(10) as cut:
                cut.cancel()
                await listener.accept()
            listener.limit = token  # what is no number is for the pure code
            with contextlib.suppress(TypeError):
                await listener.accept()
            listener.limit = limit

    async def main() -> None:
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            fds = len(os.listdir("/proc/self/fd"))
            await measure_in_program(lambda rounds: some(listener, rounds), token, ROUNDS // 10)
            assert len(os.listdir("/proc/self/fd")) == fds

    bateau.run(main, runtime="native")


def test_calls_of_streams() -> None:
    """Data at hand, data waited for, and readiness that is asked for beside it."""
    token = Token()

    async def talk(one: Any, other: Any, rounds: int) -> None:
        host: Any = current_host()
        reader, writer = BufReader(one), BufWriter(one)

        async def answer() -> None:
            for _ in range(rounds):
                assert await other.recv(100) == b"ping"
                await other.sendall(b"into")
                await other.sendall(b"pong")
                await other.sendall(b"a line\nten bytes!a record;")
                await other.sendall(b"rest")

        async with bateau.scope() as scope:
            scope.spawn(answer)
            for n in range(rounds):
                await writer.write(b"ping")
                await writer.flush()
                for buffer in (bytearray(2), memoryview(bytearray(2))):
                    assert await one.readinto(buffer) == 2
                assert await reader.read(4) == b"pong"
                assert await reader.readline() == b"a line\n"
                assert await reader.readexactly(10) == b"ten bytes!"
                assert await reader.readuntil(b";") == b"a record;"
                assert await reader.readexactly(4) == b"rest"
                if not n % 10:
                    one._watch.reading.disarm()  # so that it has to be registered again
                    host.reactor.is_awaited(-1)
                    with contextlib.suppress(TypeError):
                        one.read("x")
                    for wrong in (lambda: one.write(token), lambda: reader.readexactly("x"), lambda: reader.readuntil(5),
                                  lambda: reader.read(token)):  # fmt: skip
                        with contextlib.suppress(TypeError, ValueError):
                            await wrong()

    async def main() -> None:
        one, other = map(net.from_socket, socket.socketpair())
        async with one, other:
            await talk(one, other, 200)
            with Drift(token, ROUNDS // 2):
                await talk(one, other, ROUNDS // 2)

    bateau.run(main, runtime="native")


def test_calls_of_datagram_sockets() -> None:
    token = Token()

    async def main() -> None:
        async with await net.udp(("127.0.0.1", 0)) as there, await net.udp(remote=there.getsockname()) as here:

            async def some(rounds: int) -> None:
                for _ in range(rounds):
                    await here.send(b"one")
                    data, address = await there.recvfrom()
                    await there.sendto(data, address)
                    assert await here.recv() == b"one"
                    for wrong in (lambda: here.send(token), lambda: there.sendto(b"", token), lambda: here.recv(token)):
                        with contextlib.suppress(TypeError, ValueError):
                            await wrong()

            await measure_in_program(some, token, ROUNDS // 5)

    bateau.run(main, runtime="native")


def test_calls_of_files(tmp_path: Any) -> None:
    """What is in memory, what is refused, and what is left to a thread."""
    token, path = Token(), tmp_path / "data"
    path.write_bytes(b"a line\n" * 2000)
    small, missing = tmp_path / "small", tmp_path / "missing"
    small.write_bytes(b"small")

    async def some(rounds: int, file: Any, raw: Any, unsure: Any) -> None:
        buffer = bytearray(10_000)
        for n in range(rounds):
            for each in (file, raw):
                await each.seek(0)
                assert len(await each.read(10)) == 10 == await each.tell()
                await each.seek(-20, os.SEEK_END)
                assert len(await each.read()) == 20
                assert await each.pread(20, 13_990) == b"ne\na line\n"
                assert await each.readinto(buffer) == 0
            assert file._file.raw.read(1) == b"" == raw._file.read() == raw._file.readall()
            await file.seek(0)
            assert await file.readline() == b"a line\n" == (await file.peek())[:7]
            assert len(await file.read1(100)) == 100
            await file.readinto(buffer)
            for wrong in (lambda: file.read("x"), lambda: file.pread(token, 0), lambda: file.pread(0), lambda: file.readinto(token),
                          lambda: file.seek(0, token), lambda: file.seek(token), lambda: raw._file.read(0, token), lambda: file.tell(1)):  # fmt: skip
                with contextlib.suppress(TypeError, ValueError):
                    await wrong()
            if not n % 50:
                with contextlib.suppress(OSError):
                    await file.pread(10, 1 << 62)
                unsure._asks, unsure._now.can = True, True  # it learns each time that it can't be asked
                assert await unsure.pread(6, 0) == b"unsure"
            for whole in (small, missing, tmp_path, path, unsure.name):
                assert native.content_of(whole) in (None, b"small", b"unsure", path.read_bytes())
                if (fd := native.descriptor_of(whole)) is not None:
                    os.close(fd)
            for wrong in (token, b"a\0b"):
                for call in (native.content_of, native.descriptor_of):
                    with contextlib.suppress(TypeError, ValueError):
                        call(wrong)

    async def main() -> None:
        with tempfile.NamedTemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as shared:
            shared.write(b"unsure")
            shared.flush()
            async with fs.open(path, "rb") as file, fs.open(path, "rb", 0) as raw, fs.open(shared.name, "rb") as unsure:
                await some(100, file, raw, unsure)
                with Drift(token, ROUNDS):
                    await some(ROUNDS, file, raw, unsure)

    bateau.run(main, runtime="native")
