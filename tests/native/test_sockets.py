"""The C part of sockets and buffered reads: the same results and errors as the pure code, nothing left over, nothing misused."""

from __future__ import annotations

import gc
import os
import random
import socket
import subprocess
import sys
import textwrap
from functools import partial

import pytest

import bateau
from bateau import net
from bateau.io import BufReader, BufWriter
from bateau.io.abc import AsyncRead, AsyncWrite
from bateau.kernel import twin
from bateau.net import unix

pytestmark = pytest.mark.skipif(twin.native is None, reason="the kernel is pure here")

SLACK = 400


# -- buffered reads against the pure ones ----------------------------------------------------------------------------------


class Script(AsyncRead):
    """Gives ``data`` in pieces of random sizes, as some of: bytes and bytearrays, at once and after a wait; fails once."""

    def __init__(self, data: bytes, seed: int) -> None:
        self.data = data
        self.random = random.Random(seed)
        self.asked: list[int] = []

    async def read(self, n: int = 65536, /) -> bytes:
        """The next piece."""
        self.asked.append(n)
        how = self.random.random()
        if how < 0.3:
            await bateau.yield_now()
        else:
            await bateau.checkpoint()
        if how > 0.97:
            raise ConnectionResetError("the script says so")
        piece = self.data[: min(n, self.random.choice((1, 2, 3, 7, 40, 200)))]
        self.data = self.data[len(piece) :]
        return piece if how < 0.9 else bytearray(piece)  # type: ignore[return-value]

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""

    @property
    def closed(self) -> bool:
        """Never."""
        return False


def calls(dice: random.Random):
    """A random call: the method's name and its arguments."""
    name = dice.choice(("read", "readline", "readexactly", "readuntil"))
    if name == "read":
        return name, dice.choice(((), (0,), (1,), (5,), (33,), (500,), (-1,), ("x",), (True,)))
    if name == "readexactly":
        return name, dice.choice(((0,), (1,), (4,), (31,), (70,), (-3,), (None,), (1.5,)))
    if name == "readline":
        return name, dice.choice(((), (), (None,), (12,), (0,)))
    return name, dice.choice(((b"\n",), (b"\r\n",), (b"ab",), (b"",), (b"\n", 9), (b"q", None), (b"nowhere",), ()))


async def outcome(call):
    """What awaiting gives, in a form that compares."""
    try:
        return "gave", bytes(await call())
    except Exception as error:
        return type(error), str(error), getattr(error, "partial", None), getattr(error, "limit", None)


@pytest.mark.parametrize("part", range(4))
def test_buffered_reads_do_what_the_pure_ones_do(part):
    """Random chunkings, random calls, cancellations in the middle: the same results, errors and demands on the stream below."""
    pure = {name: twin.replaced[f"BufReader.{name}"] for name in ("read", "readline", "readexactly", "readuntil")}

    async def one(seed):
        dice = random.Random(seed)
        data = bytes(dice.choice(b"abc\r\n") for _ in range(dice.choice((0, 5, 300, 1500))))
        size = dice.choice((1, 8, 32, 128))
        scripts = Script(data, seed), Script(data, seed)
        native, plain = (BufReader(script, size) for script in scripts)
        for _ in range(60):
            name, args = calls(dice)
            ways = partial(getattr(native, name), *args), partial(pure[name], plain, *args)
            if dice.random() < 0.2:  # cancelled where it waits, if it does
                found = []
                for way in ways:
                    results = []

                    async def collect(way=way, results=results):
                        results.append(await outcome(way))

                    async with bateau.scope() as scope:
                        task = scope.spawn(collect)
                        await bateau.yield_now()
                        task.cancel()
                    found.append(results)
            else:
                found = [await outcome(way) for way in ways]
            assert found[0] == found[1], (seed, name, args)
            assert native.buffered == plain.buffered, (seed, name, args)
            assert bytes(native._data[native._pos :]) == bytes(plain._data[plain._pos :])
            assert scripts[0].asked == scripts[1].asked, (seed, name, args)
            assert native._slot.task is None

    async def main():
        for seed in range(part * 100, part * 100 + 100):
            await one(seed)

    bateau.run(main, runtime="native")


class Sink(AsyncWrite):
    """Takes pieces of random sizes; would block, is broken, can't try at all as ``dice`` says."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tries = self.random.random() < 0.8
        self.found = b""
        self.calls: list[str] = []

    def try_write(self, data, /) -> int:
        self.calls.append("try")
        if not self.tries:
            raise bateau.Unsupported("the script says so")
        how = self.random.random()
        if how < 0.25:
            raise bateau.WouldBlock("the script says so")
        if how > 0.95:
            raise bateau.Broken("the script says so")
        part = bytes(data)[: self.random.choice((1, 3, 50, 1000))]
        self.found += part
        return len(part)

    async def ready(self, directions: int = 2, /) -> int:
        self.calls.append("ready")
        await bateau.yield_now()
        return directions

    async def write(self, data, /) -> None:
        self.calls.append("write")
        await bateau.yield_now()
        self.found += bytes(data)

    async def write_eof(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""

    @property
    def closed(self) -> bool:
        """Never."""
        return False


@pytest.mark.parametrize("part", range(2))
def test_buffered_writes_do_what_the_pure_ones_do(part):
    """Random writes and flushes, cancellations in the middle: the same results, errors, calls of the stream below, steps counted."""
    pure = {name: twin.replaced[f"BufWriter.{name}"] for name in ("write", "flush")}

    async def one(seed):
        dice = random.Random(seed)
        size = dice.choice((1, 8, 100))
        sinks = Sink(seed), Sink(seed)
        native, plain = (BufWriter(sink, size) for sink in sinks)
        for _ in range(40):
            if dice.random() < 0.3:
                name, args = "flush", ()
            else:
                name, args = (
                    "write",
                    (dice.choice((b"", b"a", b"some", bytearray(b"array"), b"x" * 90, b"y" * 300, "text", None)),),
                )
            cut = dice.random() < 0.2
            found = []
            for way in (partial(getattr(native, name), *args), partial(pure[name], plain, *args)):
                results = []

                async def collect(way=way, results=results):
                    try:
                        results.append(await way())
                    except Exception as error:
                        results.append((type(error), str(error)))
                    results.append(bateau.current_task().budget)

                async with bateau.scope() as scope:
                    task = scope.spawn(collect)
                    if cut:
                        await bateau.yield_now()
                        task.cancel()
                found.append(results)
            assert found[0] == found[1], (seed, name, args)
            assert bytes(native._buffer) == bytes(plain._buffer), (seed, name, args)
            assert sinks[0].found == sinks[1].found and sinks[0].calls == sinks[1].calls, (seed, name, args)
            assert native._slot.task is None
        for writer in (native, plain):
            assert len(writer._buffer) <= size
            writer.close()
            with pytest.raises(bateau.Closed):
                await writer.flush()
            with pytest.raises(bateau.Closed):
                await writer.write(b"late")

    async def main():
        for seed in range(part * 100, part * 100 + 100):
            await one(seed)

    bateau.run(main, runtime="native")


def test_a_write_that_is_not_awaited_warns_and_has_no_effect():
    async def main():
        writer = BufWriter(Sink(1))
        with pytest.warns(RuntimeWarning, match="BufWriter.write' was never awaited"):
            writer.write(b"x")
        with pytest.warns(RuntimeWarning, match="BufWriter.flush' was never awaited"):
            writer.flush()
        assert not writer.buffered

    bateau.run(main, runtime="native")


def test_a_second_reader_is_told_by_both():
    async def main():
        for how in (lambda r: r.readline(), lambda r: twin.replaced["BufReader.readline"](r)):
            ours, theirs = unix.pair()
            async with ours, theirs:
                reader = BufReader(ours)
                async with bateau.scope() as scope:
                    first = scope.spawn(how, reader)
                    await bateau.yield_now()
                    with pytest.raises(bateau.Busy, match="in the middle"):
                        await reader.readexactly(3)
                    await theirs.write(b"line\n")
                    assert await first == b"line\n"

    bateau.run(main, runtime="native")


def test_a_read_that_is_not_awaited_warns():
    async def main():
        ours, theirs = unix.pair()
        async with ours, theirs:
            with pytest.warns(RuntimeWarning, match="BufReader.readline' was never awaited"):
                BufReader(ours).readline()

    bateau.run(main, runtime="native")


def test_a_read_is_awaited_once():
    async def main():
        ours, theirs = unix.pair()
        async with ours, theirs:
            await theirs.write(b"a\nb\n")
            call = BufReader(ours).readline()
            assert await call == b"a\n"
            with pytest.raises(RuntimeError, match="already awaited"):
                await call
            read = ours.read()
            await theirs.write(b"c")
            assert await read == b"c"
            with pytest.raises(RuntimeError, match="awaited before"):
                await read

    bateau.run(main, runtime="native")


def test_a_read_that_is_waited_for_is_not_awaited_by_another():
    """Neither the C part nor the pure method: the first one gets what comes, the second is told."""

    async def main():
        for how in (BufReader.readline, twin.replaced["BufReader.readline"]):
            ours, theirs = unix.pair()
            async with ours, theirs:
                call = how(BufReader(ours))

                async def wait(call=call):
                    return await call

                async with bateau.scope() as scope:
                    first = scope.spawn(wait)
                    await bateau.yield_now()
                    with pytest.raises(RuntimeError, match="awaited"):
                        await call
                    await theirs.write(b"line\n")
                    assert await first == b"line\n"

    bateau.run(main, runtime="native")


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


MISUSES = {
    "the fields of an operation set to the wrong things": """
        for field in ("stream", "side", "resource", "task", "value"):
            ours, theirs = unix.pair()
            read = ours.read(10)
            setattr(read, field, 5)
            try:
                with bateau.move_on_after(0.001):
                    await read
            except Exception as error:
                print(type(error).__name__)
            ours.close(); theirs.close()
    """,
    "the buffer that is read into set to the wrong things, and released": """
        for change in ("None", "5", "b'abc'", "memoryview(b'abc')", "bytearray()", "released"):
            ours, theirs = unix.pair()
            view = memoryview(bytearray(10))
            read = ours.readinto(view)
            async def reader():
                try:
                    print(await read)
                except (ValueError, TypeError, BufferError, AssertionError) as error:
                    print(type(error).__name__)
            async with bateau.scope() as scope:
                scope.spawn(reader)
                await bateau.yield_now()
                if change == "released":
                    view.release()
                else:
                    read.buffer = eval(change)
                await theirs.write(b"x")
            ours.close(); theirs.close()
    """,
    "the numbers of a read and a write set beyond what they have": """
        for field, value in (("total", 10_000_000), ("sent", -60_000), ("n", -1), ("n", -(1 << 62))):
            ours, theirs = unix.pair()
            operation = ours.read() if field == "n" else ours.write(b"abc")
            setattr(operation, field, value)
            await theirs.write(b"x" * 100_000)
            try:
                await operation
            except (ValueError, SystemError) as error:
                print(type(error).__name__)
            else:
                raise AssertionError(field)
            ours.close(); theirs.close()
    """,
    "an attempt that fails while it waits": """
        ours, theirs = unix.pair()
        read = ours.read(1 << 20)
        async def reader():
            try:
                await read
            except (ValueError, OverflowError, MemoryError, SystemError) as error:
                print(type(error).__name__)
        async with bateau.scope() as scope:
            scope.spawn(reader)
            await bateau.yield_now()
            read.n = -1  # what comes next is no bytes
            await theirs.write(b"x")
        assert await ours.read() == b"x"  # the place is free again
        ours.close(); theirs.close()
    """,
    "a watch for a number that no process has": """
        from bateau.kernel.current import current_task
        try:
            current_task().host.add_reader((1 << 31) - 1, print)
        except OSError as error:
            print(error.errno)
        else:
            raise AssertionError
    """,
    "the fields of a reader set to the wrong things": """
        for field, value in (("_data", 5), ("_data", None), ("_pos", -7), ("_pos", 1 << 20), ("_slot", 3), ("raw", None)):
            ours, theirs = unix.pair()
            reader = BufReader(ours)
            await theirs.write(b"x\\n")
            setattr(reader, field, value)
            try:
                with bateau.move_on_after(0.01):
                    await reader.readline()
            except Exception as error:
                print(type(error).__name__)
            ours.close(); theirs.close()
    """,
    "the fields of a writer set to the wrong things": """
        from bateau.io import BufWriter
        for field, value in (("_buffer", 5), ("_buffer", None), ("_buffer", b"x"), ("_size", -1), ("_slot", 3), ("raw", None), ("raw", 5)):
            ours, theirs = unix.pair()
            writer = BufWriter(ours)
            for call in (lambda: writer.write(b"x"), writer.flush):
                await writer.write(b"y")
                kept = writer._buffer
                setattr(writer, field, value)
                try:
                    await call()
                except Exception as error:
                    print(type(error).__name__)
                writer._buffer = kept
                if field != "raw":
                    break
            writer._buffer = bytearray()
            ours.close(); theirs.close()
    """,
    "a stream below that lies about what it took, and changes the writer meanwhile": """
        from bateau.io import BufWriter
        class Below:
            closed = False
            def __init__(self, gives): self.gives = gives
            flush = bateau.io.AsyncWrite.flush
            def describe(self): return "below"
            def try_write(self, data):
                writer._buffer, writer.raw = bytearray(b"new"), None
                return self.gives
        for gives in (-1, 10**6, 1 << 80, None, "x", 2):
            writer = BufWriter(Below(gives))
            await writer.write(b"abc")
            try:
                await writer.flush()
            except BaseException as error:
                print(type(error).__name__)
            writer._buffer = bytearray()
    """,
    "a stream below that hands out what is no bytes, and changes the reader meanwhile": """
        class Below:
            closed = False
            def __init__(self, gives): self.gives = gives
            def read(self, n):
                reader._data, reader._pos = b"", 0
                return self.gives
        async def of(value):
            return value
        for gives in (5, None, of(5), of("text"), of([1, 2]), of(memoryview(b"ab"))):
            reader = BufReader(Below(gives))
            try:
                await reader.readexactly(2)
            except BaseException as error:
                print(type(error).__name__)
    """,
    "a descriptor closed behind its stream's back": """
        ours, theirs = unix.pair()
        os.close(ours.fileno())
        for call in (lambda: ours.read(), lambda: ours.write(b"x"), lambda: ours.readinto(bytearray(3))):
            try:
                await call()
            except OSError as error:
                print(type(error).__name__, error.errno)
        try:
            ours.close()
        except OSError as error:
            print("close", error.errno)
        theirs.close()
    """,
    "a stream closed by the one who is woken with it": """
        ours, theirs = unix.pair()
        async def read():
            await ours.read()
            ours.close()
        async with bateau.scope() as scope:
            scope.spawn(read)
            await bateau.yield_now()
            await theirs.write(b"x")
        theirs.close()
    """,
    "a read that is resumed by what it waits for": """
        class Below:
            closed = False
            async def read(self, n):
                try:
                    call.send(None)
                except BaseException as error:
                    print(type(error).__name__)
                return b"x\\n"
        for name in ("readline", "read"):
            reader = BufReader(Below())
            call = getattr(reader, name)()
            try:
                await call
            except BaseException as error:
                print(type(error).__name__)
            assert reader._slot.task is None
    """,
    "a table of callables that changes while it is called and looked through": """
        from bateau._native import FdTable
        table = FdTable()
        class Gone:
            def __del__(self):
                table.clear()
        for fd in range(3):
            table[fd] = Gone().__init__
        table[0] = print
        for fd, call in table.items():
            table.clear()
        for key in (-1, 1 << 40, "x", None, 2.0):
            try:
                table[key] = print
            except (ValueError, TypeError, OSError) as error:
                print(type(error).__name__)
            else:
                raise AssertionError(key)
        table[1] = table.pop  # part of a cycle
    """,
    "an exception thrown in, a wait closed, in every phase": """
        ours, theirs = unix.pair()
        for make in (lambda: ours.read(), lambda: BufReader(ours).readline(), lambda: BufReader(ours).readexactly(3)):
            for act in ("throw", "close"):
                for steps in (0, 1):
                    wait = make().__await__()
                    for _ in range(steps):
                        next(wait)
                    try:
                        wait.throw(KeyError("here")) if act == "throw" else wait.close()
                    except KeyError:
                        print("KeyError")
                    try:
                        next(wait)
                    except (StopIteration, RuntimeError):
                        pass
        await theirs.write(b"still works\\n")
        assert await BufReader(ours).readline() == b"still works\\n"
        ours.close(); theirs.close()
    """,
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_an_exception_and_no_crash(name):
    body = textwrap.indent(textwrap.dedent(MISUSES[name]), "    ")
    program = (
        "import os, faulthandler\nfaulthandler.enable()\nimport bateau\nfrom bateau.io import BufReader\n"
        f"from bateau.net import unix\nasync def main():\n{body}\nbateau.run(main, runtime='native')\nprint('whole')\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("whole\n"), done.stderr


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


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_addresses_of_datagrams_over_ipv6_are_what_python_makes_of_them():
    """As below. A tuple that means an address of both families, by its identity, is none of the other's."""

    async def main():
        async with await net.udp(("::1", 0)) as server, await net.udp(("127.0.0.1", 0)) as other:
            here = server.getsockname()
            senders = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(300)]
            try:
                for round_ in range(2):
                    for number, sender in enumerate(senders):
                        sender.sendto(b"%d %d" % (round_, number), here)
                        data, address = await server.recvfrom()
                        assert data == b"%d %d" % (round_, number)
                        assert address == ("::1", sender.getsockname()[1], 0, 0)
                        to = address[: 2 + number % 3]
                        assert await server.sendto(data, to) == len(data)
                        assert sender.recvfrom(100) == (data, here)
            finally:
                for sender in senders:
                    sender.close()
            for bad, error in [
                (("localhost", 80), ValueError),
                (("127.0.0.1", 80), ValueError),
                (("::1\0", 80), ValueError),
                (("::1", 65536), ValueError),
                (("::1", 80, "0"), TypeError),
                (("::1", 80, -1, 0), OverflowError),
                (("::1", 80, 1 << 20, 0), OverflowError),
                (("::1", 80, 0, 0, 0), TypeError),
            ]:
                with pytest.raises(error):
                    await server.sendto(b"x", bad)
            both = ("::1", 9)
            await server.sendto(b"x", both)
            with pytest.raises(ValueError, match="IPv4"):
                await other.sendto(b"x", both)
            both = ("127.0.0.1", 9)
            await other.sendto(b"x", both)
            with pytest.raises(ValueError, match="IPv6"):
                await server.sendto(b"x", both)
            await server.sendto(b"mine", here)
            assert await server.recvfrom() == (b"mine", here)

    bateau.run(main, runtime="native")


def test_addresses_of_datagrams_are_what_python_makes_of_them():
    """Hundreds of senders, more than are remembered at a time; and every kind of address that must not be taken for an IPv4 one."""

    async def main():
        async with await net.udp(("127.0.0.1", 0)) as server:
            here = server.getsockname()
            senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(600)]
            try:
                for round_ in range(2):
                    for number, sender in enumerate(senders):
                        sender.sendto(b"%d %d" % (round_, number), here)
                        data, address = await server.recvfrom()
                        assert data == b"%d %d" % (round_, number)
                        assert address == ("127.0.0.1", sender.getsockname()[1])
                        assert await server.sendto(data, address if number % 2 else tuple(address)) == len(data)
                        assert sender.recv(100) == data
            finally:
                for sender in senders:
                    sender.close()
            for bad, error in [
                (("localhost", 80), ValueError),
                (("127.0.0.1\0", 80), ValueError),
                (("127.0.0.1", 70000), ValueError),
                (("127.0.0.1", -1), ValueError),
                (("127.0.0.1", 1 << 70), ValueError),
                (("127.0.0.1", "80"), TypeError),
                (("::1", 80), ValueError),
                (("::1", 80, 0, 0), ValueError),
                (["127.0.0.1", 80], TypeError),
                ((b"127.0.0.1", 80), TypeError),
                (("127.0.0.1",), TypeError),
                (None, TypeError),
            ]:
                with pytest.raises(error):
                    server.sendto(b"x", bad)
            with pytest.raises(OSError, match="too large"):
                await server.sendto(bytes(70_000), here)
            with pytest.raises(OSError, match="not connected"):
                await server.send(b"x")
            await server.sendto(b"longer than that", here)
            with pytest.raises(net.Truncated) as told:
                await server.recvfrom(6)
            assert told.value.data == b"longer"
            await server.sendto(bytearray(b"any buffer"), here)
            assert await server.recv() == b"any buffer"
            await server.sendto(b"", here)
            assert await server.recvfrom() == (b"", here)

    bateau.run(main, runtime="native")
