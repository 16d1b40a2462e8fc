"""The C part of buffered reads and writes: the same results, errors and demands on the stream below as the pure code."""

from __future__ import annotations

import random
from functools import partial

import pytest

import bateau
from bateau.io import BufReader, BufWriter
from bateau.io.abc import AsyncRead, AsyncWrite
from bateau.kernel import twin
from bateau.net import unix

pytestmark = pytest.mark.skipif(twin.native is None, reason="the kernel is pure here")


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
