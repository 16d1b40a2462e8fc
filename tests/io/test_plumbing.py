"""split, copy, copy_bidirectional, traced."""

from __future__ import annotations

import struct

import pytest

import bateau
from bateau.io import BufReader, BufStream, copy, copy_bidirectional, duplex, split, traced


async def everything(stream) -> bytes:
    got = bytearray()
    while part := await stream.read():
        got += part
    return bytes(got)


# -- split (story S13) ---------------------------------------------------------------------------------------------------


def test_frames_of_many_senders_do_not_interleave(entry) -> None:
    async def main() -> None:
        a, b = duplex(50)
        _, sender = split(a)

        async def send(mine, tag: int) -> None:
            async with mine:
                for size in range(0, 200, 17):
                    await mine.write(struct.pack(">HB", size, tag) + bytes([tag]) * size)

        async with bateau.scope() as scope:
            for tag in range(5):
                scope.spawn(send, sender.clone(), tag)
            await sender.aclose()
            frames = BufReader(b)
            count = 0
            while head := await frames.peek():
                head = await frames.readexactly(3)
                size, tag = struct.unpack(">HB", head)
                assert await frames.readexactly(size) == bytes([tag]) * size
                count += 1
        assert count == 60
        b.close()
        a.close()

    entry.run(main)


def test_rpc_with_answers_out_of_order(entry) -> None:
    async def main() -> None:
        a, b = duplex()

        async def serve() -> None:
            async with BufStream(b) as stream:
                requests = [await stream.readexactly(2) for _ in range(10)]
                for request in reversed(requests):
                    await stream.write(request + b"!")

        receiver, sender = split(a)
        waiting: dict[bytes, bateau.io.DuplexStream] = {}
        answers = []

        async def ask(mine, number: int) -> None:
            async with mine:
                await mine.write(b"%02d" % number)

        async with bateau.scope() as scope:
            scope.spawn(serve)
            for number in range(10):
                scope.spawn(ask, sender.clone(), number)
            frames = BufReader(receiver)
            answers = [await frames.readexactly(3) for _ in range(10)]
            await sender.aclose()
            assert await frames.read() == b""
            await frames.aclose()
        assert sorted(answers) == [b"%02d!" % number for number in range(10)]
        assert a.closed
        assert not waiting

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_sender_does_not_harm_the_others(entry) -> None:
    """Story S35: the requester is gone, its message is completed by whoever comes next."""

    async def main() -> None:
        a, b = duplex(10)
        _, first = split(a)
        second = first.clone()
        with bateau.move_on_after(0.005) as scope:
            await first.write(b"first " * 5)
        assert scope.cancelled_caught
        with bateau.move_on_after(0.005) as scope:
            await second.write(b"never began")  # waits for room
        assert scope.cancelled_caught
        async with bateau.scope() as scope:

            async def finish() -> None:
                await second.write(b"second")
                await second.aclose()
                await first.aclose()

            scope.spawn(finish)
            assert await everything(b) == b"first " * 5 + b"second"
        b.close()
        a.close()

    entry.run(main)


def test_halves_have_their_own_ends(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        receiver, sender = split(a)
        twin = sender.clone()
        await sender.aclose()
        with pytest.raises(bateau.Closed):
            await sender.write(b"x")
        with pytest.raises(bateau.Closed):
            sender.clone()
        await twin.write(b"still open")
        assert twin.try_write(b".") == 1
        await twin.flush()
        await twin.aclose()
        assert await everything(b) == b"still open."
        assert not a.closed
        await b.write(b"answer")
        assert await receiver.read() == b"answer"
        await receiver.aclose()
        assert a.closed
        b.close()

    entry.run(main)


def test_closing_a_half_wakes_its_reader_and_leaves_the_other_alone(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        receiver, sender = split(a)

        async def read() -> None:
            with pytest.raises(bateau.Closed, match="read half"):
                await receiver.read()

        async with bateau.scope() as scope:
            task = scope.spawn(read)
            while task.waiting is None:
                await bateau.yield_now()
            receiver.close()
        await sender.write(b"open")
        assert await b.read() == b"open"
        sender.close()
        assert a.closed
        assert await b.read() == b""
        b.close()

    entry.run(main)


def test_two_readers_of_a_half(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        receiver, sender = split(a)
        async with bateau.scope() as scope:
            task = scope.spawn(receiver.read)
            while task.waiting is None:
                await bateau.yield_now()
            with pytest.raises(bateau.Busy):
                await receiver.read()
            await b.write(b"x")
        sender.close()
        receiver.close()
        b.close()

    entry.run(main)


# -- copy ----------------------------------------------------------------------------------------------------------------


def test_copy_counts_reports_and_stops(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        c, d = duplex(1000)
        seen = []
        async with bateau.scope() as scope:

            async def send() -> None:
                await a.write(bytes(range(256)) * 40)
                await a.aclose()

            scope.spawn(send)
            task = scope.spawn(everything, d)
            assert await copy(b, c, limit=5000, progress=seen.append, chunk=700) == 5000
            assert seen[-1] == 5000
            assert seen == sorted(seen)
            assert await copy(b, c) == 10240 - 5000
            await c.aclose()
            assert await task == bytes(range(256)) * 40
        b.close()
        d.close()
        with pytest.raises(ValueError, match="limit"):
            await copy(b, c, limit=-1)
        with pytest.raises(ValueError, match="chunk"):
            await copy(b, c, chunk=0)

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_copy_from_a_buffer_loses_nothing(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        await a.write(b"precious")
        await a.aclose()
        source = BufReader(b)
        stuck, gone = duplex(1)
        await stuck.write(b"x")  # full: the copy waits before its first byte
        with bateau.move_on_after(0.005):
            await copy(source, stuck)
        gone.close()
        with pytest.raises(bateau.Broken) as caught:
            await copy(source, stuck)
        assert "8 bytes" in caught.value.__notes__[0]
        assert await source.read() == b"precious"
        stuck.close()
        b.close()

    entry.run(main)


def test_a_proxy_in_two_lines(entry) -> None:
    async def main() -> None:
        client, front = duplex()
        back, server = duplex()

        async def serve() -> None:
            data = await everything(server)
            await server.write(data.upper())
            await server.aclose()

        async with bateau.scope() as scope:
            scope.spawn(serve)
            proxy = scope.spawn(copy_bidirectional, front, back)
            await client.write(b"through the proxy")
            await client.write_eof()
            assert await everything(client) == b"THROUGH THE PROXY"
            assert await proxy == (17, 17)
        for end in (client, front, back):
            end.close()

    entry.run(main)


def test_a_proxy_whose_target_breaks(entry) -> None:
    async def main() -> None:
        client, front = duplex()
        back, server = duplex()
        server.close()
        await client.write(b"hello?")
        with pytest.raises(bateau.Broken):
            await copy_bidirectional(front, back)
        for end in (client, front, back):
            end.close()

    entry.run(main)


# -- traced (story S35) --------------------------------------------------------------------------------------------------


def test_every_call_is_told(entry) -> None:
    events = []

    async def main() -> None:
        a, b = duplex()
        async with traced(a, events.append, name="wire") as wire:
            await wire.write(b"question")
            await b.read()
            await b.write(b"answer")
            assert await wire.read() == b"answer"
            with pytest.raises(bateau.WouldBlock):
                wire.try_read()
            b.close()
            with pytest.raises(bateau.Broken):
                await wire.write(b"x" * 100)

    entry.run(main)
    assert [(e.action, e.size, e.data) for e in events] == [
        ("write", 8, b"question"),
        ("read", 6, b"answer"),
        ("write", None, b""),
        ("aclose", None, b""),
    ]
    assert isinstance(events[2].error, bateau.Broken)
    assert all(e.stream == "wire" and e.seconds >= 0 and e.task for e in events)
    assert "read 6 bytes" in str(events[1])
    assert "b'answer'" in str(events[1])
    assert "-> Broken" in str(events[2])


def test_without_a_sink_it_goes_to_stderr(capsys) -> None:
    async def main() -> None:
        a, b = duplex(name="pair")
        wire = traced(a)
        await wire.write(bytes(100))
        wire.close()
        wire.close()
        b.close()

    bateau.run(main)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("duplex stream 'pair a' +")
    assert lines[0].endswith("...")


def test_a_broken_sink_does_not_break_the_stream() -> None:
    def sink(event) -> None:
        raise KeyError(event.action)

    async def main() -> None:
        a, b = duplex()
        wire = traced(a, sink)
        await b.write(b"data")
        with pytest.warns(bateau.HazardWarning, match=r"callback_error.*KeyError"):
            assert await wire.read() == b"data"
        with pytest.warns(bateau.HazardWarning, match="callback_error"):
            wire.close()
        b.close()

    bateau.run(main)
