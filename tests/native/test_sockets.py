"""The C part of streams: what is written arrives, nothing is left over, buffers and sockets of others are respected."""

from __future__ import annotations

import gc
import os
import random
import socket
import sys

import pytest

import bateau
from bateau import net
from bateau.io import BufReader, BufWriter
from bateau.kernel import twin
from bateau.net import unix

pytestmark = pytest.mark.skipif(twin.native is None, reason="the kernel is pure here")

SLACK = 400


# -- streams of random chunks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_written_arrives_whole_and_in_order(seed):
    dice = random.Random(seed)
    data = dice.randbytes(700_000)

    async def main():
        ours, theirs = unix.pair()

        async def write():
            at = 0
            while at < len(data):
                piece = data[at : at + dice.choice((1, 100, 5000, 65536, 65537, 200_000))]
                await theirs.write(dice.choice((bytes, bytearray, memoryview))(piece))
                at += len(piece)
            await theirs.aclose()

        async with bateau.scope() as scope, ours:
            scope.spawn(write)
            found = bytearray()
            buffer = bytearray(4000)
            while True:
                if dice.random() < 0.3:
                    size = await ours.readinto(buffer)
                    piece = bytes(buffer[:size])
                else:
                    piece = await ours.read(dice.choice((1, 10, 4096, 65536, 65537, 1 << 20)))
                if not piece:
                    break
                found += piece
        assert found == data

    bateau.run(main, runtime="native")


# -- nothing is left over ------------------------------------------------------------------------------------------------------


async def echo(ours, theirs):
    await theirs.write(b"ping")
    assert await ours.read(100) == b"ping"


async def parked(ours, theirs):
    async with bateau.scope() as scope:
        task = scope.spawn(ours.read, 100)
        await bateau.yield_now()
        await theirs.write(b"ping")
        assert await task == b"ping"


async def into(ours, theirs):
    buffer = bytearray(100)
    async with bateau.scope() as scope:
        task = scope.spawn(ours.readinto, buffer)
        await bateau.yield_now()
        await theirs.write(b"ping")
        assert await task == 4 and buffer[:4] == b"ping"
    assert ours._watch.reading.quiet  # a short read took all: the next one makes no attempt before an event
    with bateau.move_on_after(0):
        await ours.readinto(memoryview(buffer))
    with pytest.raises(TypeError):
        ours.readinto(b"constant")
    await theirs.write(b"pong")
    assert await ours.readinto(memoryview(buffer)[2:6]) == 4
    assert buffer[:6] == b"pipong"


async def cancelled(ours, theirs):
    async with bateau.scope() as scope:
        scope.spawn(BufReader(ours).readline)
        scope.spawn(theirs.read)
        await bateau.yield_now()
        scope.cancel()


async def buffered(ours, theirs):
    reader = BufReader(ours)
    await theirs.write(b"a line\nanother\n12345")
    assert await reader.readline() == b"a line\n"
    assert await reader.readuntil(b"er\n") == b"another\n"
    assert await reader.readexactly(2) == b"12"
    assert await reader.read(100) == b"345"


async def buffered_wait(ours, theirs):
    reader = BufReader(ours)
    async with bateau.scope() as scope:
        task = scope.spawn(reader.readexactly, 6)
        await bateau.yield_now()
        await theirs.write(b"abc")
        await bateau.yield_now()
        await theirs.write(b"def")
        assert await task == b"abcdef"


async def buffered_writes(ours, theirs):
    writer = BufWriter(ours, 100)
    for _ in range(5):
        await writer.write(b"small ")
    assert writer.buffered == 30
    await writer.flush()
    await writer.flush()
    await writer.write(b"w" * 90)
    await writer.write(b"w" * 90)  # does not fit: the first has to go
    await writer.flush()
    assert await theirs.read() == b"small " * 5 + b"w" * 180
    with pytest.raises(TypeError):
        await writer.write("text")


async def refused(ours, theirs):
    for bad in (-1, "x"):
        with pytest.raises((ValueError, TypeError)):
            ours.read(bad)
    with pytest.raises(TypeError):
        ours.write("text")
    with pytest.raises(TypeError):
        BufReader(ours).readexactly()


async def closed(_ours, _theirs):
    ours, theirs = unix.pair()
    async with bateau.scope() as scope:

        async def read():
            with pytest.raises(bateau.Closed):
                await ours.read()

        scope.spawn(read)
        await bateau.yield_now()
        ours.close()
    with pytest.raises(bateau.Closed):
        await ours.write(b"x")
    with pytest.raises(bateau.Broken):
        await theirs.write(b"x")
    theirs.close()


async def datagrams(_ours, _theirs):
    async with await net.udp(("127.0.0.1", 0)) as a, await net.udp(("127.0.0.1", 0)) as b:
        await a.sendto(b"x", b.getsockname())
        assert await b.recvfrom() == (b"x", a.getsockname())


CASES = [echo, parked, into, cancelled, buffered, buffered_wait, buffered_writes, refused, closed, datagrams]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_nothing_is_left_over(case):
    rounds = 300 if case is closed else 3000
    slack = SLACK if case is not datagrams else 2000  # some hundred addresses are remembered

    async def main():
        ours, theirs = unix.pair()

        async def some(n):
            for _ in range(n):
                await case(ours, theirs)

        async with ours, theirs:
            await some(50)
            gc.collect()
            refs, blocks = sys.getrefcount(None), sys.getallocatedblocks()
            fds = len(os.listdir("/proc/self/fd"))
            await some(rounds)
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) == fds
            more = sys.getallocatedblocks() - blocks
            assert more < slack, f"{more} blocks of memory left over by {rounds} rounds"
            if sys.version_info < (3, 12):
                more = abs(sys.getrefcount(None) - refs)
                assert more < SLACK, f"None's references differ by {more} after {rounds} rounds"

    bateau.run(main, runtime="native")


# -- misuse ----------------------------------------------------------------------------------------------------------------------


def test_a_read_of_nothing_does_not_wait():
    """The system call would, for the first byte; Python's socket does not make it."""

    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            stream = net.from_socket(ours)
            async with stream:
                with bateau.move_on_after(5) as scope:
                    assert await stream.read(0) == b""
                    theirs.send(b"abc")
                    assert await stream.read(10) == b"abc"  # takes all there is: the next read waits for an event
                    assert await stream.read(0) == b""
                return scope.cancel_called

    assert not bateau.run(main, runtime="native")


def test_a_buffer_that_changes_while_it_is_waited_for():
    """Nothing holds it between two attempts: it may be resized, and what is released by then is an error."""

    async def main():
        ours, theirs = unix.pair()
        async with ours, theirs:
            buffer = bytearray(10)
            async with bateau.scope() as scope:
                task = scope.spawn(ours.readinto, buffer)
                await bateau.yield_now()
                del buffer[3:]
                await theirs.write(b"abcdef")
                assert await task == 3
            assert buffer == b"abc"
            assert await ours.read() == b"def"
            view = memoryview(bytearray(10))

            async def fails():
                with pytest.raises((ValueError, TypeError)):  # which, is CPython's to say
                    await ours.readinto(view)

            async with bateau.scope() as scope:
                scope.spawn(fails)
                await bateau.yield_now()
                view.release()
                await theirs.write(b"kept")
            assert await ours.read() == b"kept"

    bateau.run(main, runtime="native")


def test_data_that_is_written_in_pieces_is_not_the_callers_any_more():
    """bytes can't change; of a bytearray that can, the rest is what it is when it goes."""

    async def main():
        ours, theirs = unix.pair()
        async with ours, theirs:
            data = bytearray(b"a" * 2_000_000)
            async with bateau.scope() as scope:
                scope.spawn(ours.write, data)
                await bateau.yield_now()
                with pytest.raises(BufferError):
                    data.clear()  # the write has a view of it
                found = 0
                while found < len(data):
                    found += len(await theirs.read())

    bateau.run(main, runtime="native")


def test_a_socket_of_another_class_is_called_by_its_methods():
    """What a subclass does in ``recv`` is what happens."""

    class Counting(socket.socket):
        calls = 0

        def recv(self, *args):
            Counting.calls += 1
            return super().recv(*args)

    async def main():
        one, two = socket.socketpair()
        counting = Counting(fileno=one.detach())
        ours, theirs = net.SocketStream(counting), net.from_socket(two)
        async with ours, theirs:
            await theirs.write(b"x")
            assert await ours.read() == b"x"
        assert Counting.calls

    bateau.run(main, runtime="native")
