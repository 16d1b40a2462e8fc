"""BufReader, BufWriter, BufStream: lines and records, bounds, and cancellation that loses nothing (law 9, story F07)."""

from __future__ import annotations

import io
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bateau
from bateau.io import READ, WRITE, BufReader, BufStream, BufWriter, DuplexStream, LimitExceeded, duplex
from bateau.io.abc import AsyncRead


async def feed(data: bytes, size: int = 65536, capacity: int = 65536):
    """A BufReader of something that has been sent and ended."""
    a, b = duplex(max(capacity, len(data), 1))
    await a.write(data)
    await a.aclose()
    return BufReader(b, size)


def test_a_call_that_has_not_begun_takes_no_value(entry) -> None:
    async def main() -> None:
        reader = await feed(b"one\ntwo;three")
        for call, data in (
            (reader.readline(), b"one\n"),
            (reader.readuntil(b";"), b"two;"),
            (reader.readexactly(5), b"three"),
        ):
            begun = call.__await__()
            with pytest.raises(TypeError, match="just-started"):
                begun.send(5)
            with pytest.raises(StopIteration) as done:
                begun.send(None)
            assert done.value.value == data
        await reader.aclose()

    entry.run(main)


class Bare:
    """Its iterator can be resumed, and neither thrown into nor closed."""

    def __await__(self):
        return iter(("waits",))


class NoIterator:
    def __await__(self):
        return 5


class Awaits(AsyncRead):
    """What its ``read`` gives need be no more than awaitable."""

    closed = False

    def __init__(self, make) -> None:
        self.make = make

    def read(self, n=65536, /):
        return self.make(n)

    def close(self) -> None:
        pass


@types.coroutine
def of_a_generator(n):
    yield from bateau.checkpoint().__await__()
    return b"line\n"


def test_below_may_be_anything_that_can_be_awaited(entry) -> None:
    async def main() -> None:
        assert await BufReader(Awaits(of_a_generator)).readline() == b"line\n"
        with pytest.raises(TypeError, match="can't be used in 'await'"):
            await BufReader(Awaits(lambda n: (b"" for _ in "x"))).read(5)
        with pytest.raises(TypeError, match="returned non-iterator of type 'int'"):
            await BufReader(Awaits(lambda n: NoIterator())).read(5)

    entry.run(main)


def test_what_is_thrown_at_a_read_is_raised_where_below_takes_nothing() -> None:
    async def main() -> None:
        reader = BufReader(Awaits(lambda n: Bare()))
        begun = reader.read(5).__await__()
        assert begun.send(None) == "waits"
        with pytest.raises(KeyError, match="mine"):
            begun.throw(KeyError("mine"))
        begun = reader.read(5).__await__()
        begun.send(None)
        begun.close()
        assert reader._slot.task is None

    bateau.run(main)


def test_a_long_chain_of_calls_is_freed() -> None:
    """Each holds the one before as its argument: freeing them one inside the other would take all of the C stack."""
    writer = BufWriter(duplex(1)[0])
    call: object = b""
    for _ in range(200_000):
        call = writer.write(call)  # type: ignore[arg-type]
        call.close()  # type: ignore[attr-defined]
    del call


def test_lines_records_and_a_look_ahead(entry) -> None:
    async def main() -> None:
        async with await feed(b"one\ntwo\r\nrecord;12345678rest") as reader:
            assert await reader.peek(3) == b"one"
            assert await reader.readline() == b"one\n"
            assert await reader.readline() == b"two\r\n"
            assert await reader.readuntil(b";") == b"record;"
            assert await reader.readexactly(4) == b"1234"
            assert await reader.readexactly(0) == b""
            buffer = bytearray(3)
            assert await reader.readinto(buffer) == 3
            assert buffer == b"567"
            assert await reader.peek(100) == b"8rest"
            assert reader.buffered == 5
            assert await reader.read() == b"8rest"
            assert await reader.readline() == await reader.read() == await reader.peek() == b""
            assert "BufReader of duplex stream" in repr(reader)

    entry.run(main)


def test_iterating_gives_the_lines_that_a_file_gives(entry) -> None:
    text = b"first\n\nthird\nlast without an end"

    async def main() -> None:
        assert [line async for line in await feed(text, 4096)] == list(io.BytesIO(text))

    entry.run(main)


def test_the_end_comes_too_soon(entry) -> None:
    async def main() -> None:
        reader = await feed(b"only this")
        with pytest.raises(bateau.EndOfStream, match="after 9 of the 20 bytes") as caught:
            await reader.readexactly(20)
        assert caught.value.partial == b"only this"
        reader = await feed(b"no separator")
        with pytest.raises(bateau.EndOfStream, match=r"without b';'") as caught:
            await reader.readuntil(b";")
        assert caught.value.partial == b"no separator"
        assert isinstance(caught.value, EOFError)

    entry.run(main)


def test_limits_consume_nothing(entry) -> None:
    async def main() -> None:
        reader = await feed(b"x" * 50 + b"\nshort\n", 20)
        for _ in range(2):
            with pytest.raises(LimitExceeded, match="within the limit of 20 bytes") as caught:
                await reader.readline()
        assert caught.value.limit == 20
        with pytest.raises(LimitExceeded):
            await reader.readline(50)
        assert await reader.readline(51) == b"x" * 50 + b"\n"
        assert await reader.readline(6) == b"short\n"
        reader = await feed(b"ab;cd")
        with pytest.raises(LimitExceeded):
            await reader.readuntil(b";", 2)
        assert await reader.readuntil(b";", limit=3) == b"ab;"

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_record_stays_readable(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        reader = BufReader(b)
        await a.write(b"half")
        for call in (
            lambda: reader.readexactly(8),
            lambda: reader.readuntil(b";"),
            reader.readline,
            lambda: reader.peek(5),
        ):
            with bateau.move_on_after(0.005) as scope:
                await call()
            assert scope.cancelled_caught
            assert reader.buffered == 4
        await a.write(b"more;")
        assert await reader.readexactly(8) == b"halfmore"
        assert await reader.read() == b";"
        a.close()
        b.close()

    entry.run(main)


def test_reading_too_is_a_cancellation_check(entry) -> None:
    async def main() -> None:
        reader = await feed(b"line\nline\n")
        await reader.readline()
        with bateau.move_on_after(1) as scope:
            scope.cancel()
            await reader.readline()
        assert scope.cancelled_caught
        assert await reader.readline() == b"line\n"

    entry.run(main)


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=300).map(lambda raw: raw.replace(b"\x00", b";")),
    pieces=st.lists(st.integers(1, 60), min_size=1),
    size=st.integers(1, 64),
    calls=st.lists(st.sampled_from(["read", "line", "until", "exactly", "peek", "try", "into"]), min_size=1),
)
def test_however_it_is_cut_nothing_is_lost(data, pieces, size, calls) -> None:
    async def main() -> None:
        a, b = duplex(37)
        reader = BufReader(b, size)

        async def send() -> None:
            at = 0
            for i in range(len(data)):
                step = pieces[i % len(pieces)]
                await a.write(data[at : at + step])
                at += step
                if at >= len(data):
                    break
            await a.aclose()

        async def step(call: str) -> bytes:
            if call == "read":
                return await reader.read(7)
            if call == "line":
                return await reader.readline(1000)
            if call == "until":
                return await reader.readuntil(b";", 1000)
            if call == "exactly":
                return await reader.readexactly(5)
            if call == "peek":
                await reader.peek(min(size, 3))
                return b""
            if call == "into":
                buffer = bytearray(4)
                return bytes(buffer[: await reader.readinto(buffer)])
            try:
                return reader.try_read(3)
            except bateau.WouldBlock:
                await reader.ready(READ)
                return b""

        got = b""
        async with bateau.scope() as scope:
            scope.spawn(send)
            for i in range(2000):
                call = calls[i % len(calls)] if i < 1000 else "read"
                try:
                    part = await step(call)
                except bateau.EndOfStream as end:
                    part = end.partial
                got += part
                if call == "read" and not part:
                    break
        assert got == data

    bateau.run(main)


def test_small_writes_are_gathered(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        async with BufWriter(a, 100) as writer:
            for _ in range(5):
                await writer.write(b"0123456789")
            assert writer.buffered == 50
            with pytest.raises(bateau.WouldBlock):
                b.try_read()
            await writer.flush()
            assert writer.buffered == 0
            assert len(await b.read()) == 50
            await writer.write(bytes(70))
            await writer.write(bytes(70))  # does not fit beside the first: that one goes out
            assert writer.buffered == 70
            assert len(await b.read()) == 70
            await writer.write(bytes(500))  # larger than the buffer: through it
            assert writer.buffered == 0
            assert len(await b.read()) == 570
            await writer.write(b"at the end")
        assert await b.read() == b"at the end"
        assert await b.read() == b""
        with pytest.raises(bateau.Closed):
            await writer.write(b"x")
        with pytest.raises(bateau.Closed):
            await writer.flush()

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_flush_tears_nothing(entry) -> None:
    async def main() -> None:
        a, b = duplex(10)
        writer = BufWriter(a, 100)
        await writer.write(b"a" * 60)
        for call in (writer.flush, lambda: writer.write(b"b" * 90)):
            with bateau.move_on_after(0.005) as scope:
                await call()
            assert scope.cancelled_caught
        assert writer.buffered == 50
        async with bateau.scope() as scope:
            scope.spawn(writer.aclose)
            got = b""
            while part := await b.read():
                got += part
        assert got == b"a" * 60

    entry.run(main)


def test_aclose_in_a_cancelled_scope_and_to_a_peer_that_is_gone(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        writer = BufWriter(a)
        await writer.write(b"will not go out")
        b.close()
        with pytest.raises(bateau.Broken):
            await writer.aclose()
        assert a.closed
        a, b = duplex(1)
        writer = BufWriter(a)
        await writer.write(b"will not go out")
        with bateau.move_on_after(0.005):
            await writer.aclose()
        assert writer.closed
        assert a.closed

    entry.run(main)


def test_trying_and_readiness_of_a_writer(entry) -> None:
    async def main() -> None:
        a, b = duplex(10)
        writer = BufWriter(a, 5)
        assert await writer.ready(WRITE) == WRITE
        assert writer.try_write(b"1234567") == 5
        assert writer.try_write(b"67") == 2
        with pytest.raises(bateau.WouldBlock):
            for _ in range(10):
                writer.try_write(b"x")
        assert (await b.read()).startswith(b"1234567")
        assert await writer.ready(WRITE) == WRITE
        writer.close()
        b.close()

    entry.run(main)


def test_a_dropped_writer_is_told_by_its_line() -> None:
    async def main() -> None:
        a, _b = duplex()
        writer = BufWriter(a)
        await writer.write(b"unsent")
        with pytest.warns(bateau.HazardWarning, match="dropped_without_close: .*6 bytes unsent") as caught:
            del writer
        assert caught[0].filename == __file__

    bateau.run(main)


def test_a_buffered_connection(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        async with BufStream(a) as left, BufStream(b) as right:

            async def echo() -> None:
                async for line in right:
                    await right.write(line.upper())
                    await right.flush()
                await right.write_eof()

            async with bateau.scope() as scope:
                scope.spawn(echo)
                await left.write(b"hello\n")
                assert left.buffered == 6
                await left.flush()
                assert await left.readline() == b"HELLO\n"
                await left.write_eof()
                assert await left.peek() == b""
        assert isinstance(left.get_extra_info("sockname"), str)
        assert left.closed

    entry.run(main)


@pytest.mark.parametrize("size", [0, -1])
def test_wrong_sizes(size) -> None:
    a, b = duplex()
    for kind in (BufReader, BufWriter, BufStream):
        with pytest.raises(ValueError, match="at least 1 byte"):
            kind(a, size)
        with pytest.raises(TypeError, match="must be a number of bytes, not float"):
            kind(a, 1.5)
    with pytest.raises(ValueError, match="at least 1 byte"):
        duplex(size)

    async def main() -> None:
        reader = BufReader(b)
        with pytest.raises(ValueError, match="separator"):
            await reader.readuntil(b"")
        with pytest.raises(ValueError, match="0 or more"):
            await reader.readexactly(-1)
        with pytest.raises(TypeError, match="must be an int"):
            await reader.read("5")

    bateau.run(main)
    a.close()
    b.close()


@pytest.mark.law(8)
def test_leaving_a_cancelled_block_is_no_swallowing(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        with bateau.move_on_after(0.01) as scope:
            async with BufStream(a) as stream:
                await stream.write(b"never flushed")
                await stream.readline()
        assert scope.cancelled_caught
        assert a.closed
        assert await b.read() == b""
        b.close()

    entry.run(main)


class TestDuplex:
    def test_from_two_runtimes_at_once(self, runtime) -> None:
        """Made outside a program it is shared: the other end may be used from another runtime, on another thread."""
        import threading

        a, b = duplex(1000)
        size = 200_000

        async def send() -> None:
            await a.write(bytes(size))
            await a.aclose()

        got = []

        async def receive() -> None:
            while part := await b.read():
                got.append(len(part))

        other = threading.Thread(target=bateau.run, args=(receive,))
        other.start()
        runtime.run(send)
        other.join(20)
        assert sum(got) == size

    @pytest.mark.law(17)
    def test_a_wait_that_nobody_can_end(self) -> None:
        async def main() -> None:
            a, _b = duplex(name="pipe to nowhere")
            await a.read()

        with pytest.raises(bateau.Deadlock, match="pipe to nowhere"):
            bateau.run(main)

    @pytest.mark.law(15)
    def test_a_local_one_stays_on_its_runtime(self) -> None:
        async def make() -> DuplexStream:
            return duplex()[0]

        end = bateau.run(make)

        async def use() -> None:
            with pytest.raises(bateau.WrongRuntime, match="flavour='shared'"):
                await end.read()

        bateau.run(use)
