"""TCP streams against plain blocking sockets: data, ends, errors, cancellation, two tasks at once."""

from __future__ import annotations

import array
import gc
import io
import os
import socket
import struct
import threading

import pytest

import bateau
from bateau import fs, net
from bateau.io import READ, WRITE
from support.sockets import Peer, echo, receive_all, serving


def test_echo_through_a_plain_server(entry):
    async def main(address):
        async with await net.connect_tcp(*address) as stream:
            await stream.write(b"hello")
            assert await stream.read() == b"hello"
            await stream.sendall(b"again")
            assert await stream.recv(2) == b"ag"
            assert await stream.recv(100) == b"ain"

    with serving(echo) as address:
        entry.run(main, address)


def test_megabytes_both_ways_at_once(entry):
    data = os.urandom(3_000_000)

    async def main(address):
        got = bytearray()
        async with await net.connect_tcp(*address) as stream, bateau.scope() as scope:

            async def receive():
                while len(got) < len(data):
                    got.extend(await stream.read())

            scope.spawn(receive)
            await stream.write(data)
            await stream.write_eof()
        assert got == data

    with serving(echo) as address:
        entry.run(main, address)


def test_end_of_stream_and_half_close(entry):
    async def main(address):
        async with await net.connect_tcp(*address) as stream:
            await stream.write(b"question")
            await stream.write_eof()
            await stream.write_eof()  # harmless the second time
            assert await stream.read() == b"8"
            assert await stream.read() == b""
            assert await stream.read() == b""
            with pytest.raises(bateau.Closed, match="write_eof"):
                await stream.write(b"more")

    with serving(lambda sock: sock.sendall(str(len(receive_all(sock))).encode())) as address:
        entry.run(main, address)


def test_data_at_hand_costs_no_suspension(entry):
    """A ready read returns within the task's step, so a task that only yields in between sees no other run."""

    async def main():
        one, two = net.unix.pair()
        order = []

        async def other():
            order.append("other")

        async with one, two, bateau.scope() as scope:
            await one.write(b"abc")
            scope.spawn(other)
            for _ in range(3):
                order.append(await two.read(1))
        assert order == [b"a", b"b", b"c", "other"]

    entry.run(main)


def test_small_and_zero_reads(entry):
    async def main():
        one, two = net.unix.pair()
        async with one, two:
            await one.write(b"")
            await one.write(b"abcdef")
            assert await two.read(0) == b""
            assert await two.read(4) == b"abcd"
            assert await two.read(4) == b"ef"
            buffer = bytearray(4)
            await one.write(b"xyz")
            assert await two.readinto(buffer) == 3
            assert buffer == b"xyz\0"
            assert await two.readinto(bytearray()) == 0

    entry.run(main)


def test_any_bytes_like_object_can_be_written(entry):
    async def main():
        one, two = net.unix.pair()
        async with one, two:
            numbers = array.array("I", [1, 2])
            for data in (bytearray(b"ab"), memoryview(b"xcdx")[1:3], numbers):
                await one.write(data)
            assert await two.read() == b"abcd" + numbers.tobytes()

    entry.run(main)


def test_bad_arguments(entry):
    async def main():
        one, two = net.unix.pair()
        async with one, two:
            with pytest.raises(TypeError, match=r"data\.encode"):
                one.write("text")
            with pytest.raises(TypeError, match="bytes-like"):
                one.write(5)
            with pytest.raises(TypeError, match="contiguous"):
                one.write(memoryview(b"abcdef")[::2])
            with pytest.raises(ValueError, match="0 or more"):
                one.read(-1)
            with pytest.raises(TypeError, match="number of bytes"):
                one.read("5")
            with pytest.raises(TypeError, match="bytearray"):
                one.readinto(b"fixed")
            with pytest.raises(ValueError, match="READ"):
                one.ready(0)

    entry.run(main)


def test_closed_stream_says_so(entry):
    async def main():
        one, two = net.unix.pair()
        two.close()
        one.close()
        one.close()
        await one.aclose()
        assert one.closed
        assert one.fileno() == -1
        for use in (
            lambda: one.read(),
            lambda: one.write(b"x"),
            lambda: one.readinto(bytearray(1)),
            lambda: one.write_eof(),
            lambda: one.ready(READ),
            lambda: one.recv_fds(),
        ):
            with pytest.raises(bateau.Closed, match="is closed"):
                await use()
        with pytest.raises(bateau.Closed):
            one.try_read()
        with pytest.raises(bateau.Closed):
            one.try_write(b"x")
        with pytest.raises(bateau.Closed):
            one.getpeername()
        assert one.get_extra_info("peername", "none") == "none"

    entry.run(main)


@pytest.mark.law(15)
def test_second_reader_is_refused_by_name(entry):
    async def main():
        one, two = net.unix.pair()
        async with one, two, bateau.scope() as scope:
            first = scope.spawn(one.read, name="first")
            await bateau.yield_now()
            with pytest.raises(bateau.Busy, match=r"'first'"):
                await one.read()
            with pytest.raises(bateau.Busy, match=r"'first'"):
                one.try_read()
            with pytest.raises(bateau.Busy, match=r"'first'"):
                await one.ready(READ)
            await two.write(b"x")
            assert await first == b"x"
            await two.write(b"y")
            assert await one.read() == b"y"

    entry.run(main)


@pytest.mark.law(15)
def test_second_writer_is_refused_by_name(entry):
    async def main():
        one, two = net.unix.pair()
        data = bytes(2_000_000)
        async with one, two, bateau.scope() as scope:
            first = scope.spawn(one.write, data, name="first")
            await bateau.yield_now()
            with pytest.raises(bateau.Busy, match=r"'first'"):
                await one.write(b"x")
            with pytest.raises(bateau.Busy, match=r"'first'"):
                one.try_write(b"x")
            left = len(data)
            while left:
                left -= len(await two.read())
            await first

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_read_loses_nothing(entry):
    async def main():
        one, two = net.unix.pair()
        async with one, two:
            for _ in range(3):
                with bateau.move_on_after(0.01) as timer:
                    await one.read()
                assert timer.cancelled_caught
            await two.write(b"kept")
            with bateau.move_on_after(0):
                await bateau.checkpoint()
                await one.read()
            assert await one.read() == b"kept"

    entry.run(main)


@pytest.mark.law(9)
def test_a_torn_write_breaks_the_stream_and_says_how_much_went_out(entry):
    async def main():
        one, two = net.unix.pair()
        async with one, two:
            with bateau.move_on_after(0.02) as timer:
                await one.write(bytes(5_000_000))
            assert timer.cancelled_caught
            with pytest.raises(bateau.Broken, match="cancelled after") as caught:
                await one.write(b"more")
            sent = caught.value.sent
            assert 0 < sent < 5_000_000
            with pytest.raises(bateau.Broken):
                one.try_write(b"more")
            one.close()
            got = 0
            while part := await two.read():
                got += len(part)
            assert got == sent

    entry.run(main)


@pytest.mark.law(9)
def test_a_write_cancelled_before_its_first_byte_leaves_the_stream_whole(entry):
    async def main():
        one, two = net.unix.pair()
        async with one, two:
            filled = fill(one)
            with bateau.move_on_after(0.01) as timer:
                await one.write(b"never")
            assert timer.cancelled_caught
            while filled:
                filled -= len(await two.read())
            await one.write(b"fine")
            assert await two.read() == b"fine"

    entry.run(main)


def fill(stream):
    """Write until nothing more goes; how many bytes that was."""
    filled = 0
    while True:
        try:
            filled += stream.try_write(bytes(65536))
        except bateau.WouldBlock:
            return filled


def test_writes_to_a_peer_that_never_reads_are_bounded(entry):
    """Pain of asyncio: `write` without `drain` grows without bound. Here the writer waits, whatever it is given."""

    async def main():
        one, two = net.unix.pair()
        written = 0

        async def writer():
            nonlocal written
            while True:
                await one.write(bytes(65536))
                written += 65536

        async with one, two, bateau.scope() as scope:
            scope.spawn(writer)
            for _ in range(1000):
                await bateau.yield_now()
            assert written < 4_000_000
            scope.cancel()

    entry.run(main)


def test_close_wakes_reader_and_writer(entry):
    async def main():
        one, two = net.unix.pair()
        async with two, bateau.scope() as scope:
            fill(one)

            async def expect_closed(operation):
                with pytest.raises(bateau.Closed, match="is closed"):
                    await operation
                return True

            reading = scope.spawn(expect_closed, one.read())
            writing = scope.spawn(expect_closed, one.write(b"x"))
            await bateau.yield_now()
            await bateau.yield_now()
            one.close()
            assert await reading
            assert await writing

    entry.run(main)


def test_a_number_used_again_gets_no_events_of_its_predecessor(entry):
    """The class of bug that bites others: a registration outlives its fd and wakes, or closes, a stranger's."""

    async def main():
        for _ in range(20):
            one, two = net.unix.pair()
            number = one.fileno()
            with bateau.move_on_after(0.001):
                await one.read()
            one.close()
            three, four = net.unix.pair()
            assert number in (three.fileno(), four.fileno())
            two.close()
            async with three, four, bateau.scope() as scope:
                reading = scope.spawn(three.read)
                await bateau.yield_now()
                await four.write(b"mine")
                assert await reading == b"mine"

    entry.run(main)


def test_aclose_in_a_cancelled_scope_closes_at_once_then_raises(entry):
    async def main():
        one, two = net.unix.pair()
        with bateau.move_on_after(1) as timer:
            timer.cancel()
            try:
                await one.aclose()
            finally:
                assert one.closed
        assert timer.cancelled_caught
        assert await two.read() == b""
        two.close()

    entry.run(main)


def reset(sock):
    """End a connection as a crashed peer does."""
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_a_reset_connection_is_broken(entry):
    async def main(address):
        async with await net.connect_tcp(*address) as stream:
            await stream.write(b"x")
            with pytest.raises(bateau.Broken, match="connection was lost") as caught:
                await stream.read()
            assert isinstance(caught.value, OSError)
            with pytest.raises(bateau.Broken):
                while True:
                    await stream.write(bytes(65536))

    with serving(reset) as address:
        entry.run(main, address)


def test_readiness(entry):
    async def main():
        one, two = net.unix.pair()
        async with one, two, bateau.scope() as scope:
            assert await one.ready(WRITE) == WRITE
            assert await one.ready(READ | WRITE) == WRITE
            filled = fill(one)
            with pytest.raises(bateau.WouldBlock, match="await read"):
                one.try_read()
            both = scope.spawn(one.ready, READ | WRITE)
            await bateau.yield_now()
            await two.write(b"x")
            assert await both == READ
            assert one.try_read() == b"x"
            both = scope.spawn(one.ready, READ | WRITE)
            await bateau.yield_now()
            while filled:
                filled -= len(await two.read())
            assert await both == WRITE
            two.close()
            assert await one.ready(READ) == READ
            assert one.try_read() == b""

    entry.run(main)


def test_sendfile(entry, tmp_path):
    data = os.urandom(2_000_000)
    path = tmp_path / "data"
    path.write_bytes(data)

    async def main(address):
        async with await net.connect_tcp(*address) as stream:
            with path.open("rb") as file:
                assert await stream.sendfile(file) == len(data)
                assert file.tell() == len(data)
                assert await stream.sendfile(file, 10, 5) == 5
                assert file.tell() == 15
                assert await stream.sendfile(file, len(data) + 1) == 0
            # The own `seek` of this file is awaited: not to do so left a warning, and the file at its old place.
            async with await fs.open(path, "rb") as ours:
                assert await stream.sendfile(ours, 20, 7) == 7
                assert await ours.read(5) == data[27:32]
            await stream.write_eof()
            assert int(await stream.read()) == len(data) + 5 + 7

    with serving(lambda sock: sock.sendall(str(len(receive_all(sock))).encode())) as address:
        entry.run(main, address)


@pytest.mark.law(9)
def test_a_torn_sendfile_breaks_the_stream(entry, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(10_000_000))

    async def main():
        one, two = net.unix.pair()
        async with one, two:
            with path.open("rb") as file:
                with bateau.move_on_after(0.02) as timer:
                    await one.sendfile(file)
                assert timer.cancelled_caught
                with pytest.raises(bateau.Broken) as caught:
                    await one.write(b"x")
                assert caught.value.sent == file.tell()
                with pytest.raises(bateau.Broken):
                    await one.sendfile(file)
            for bad in (5, io.BytesIO(b"x")):
                with pytest.raises(TypeError, match="sendfile needs"):
                    one.sendfile(bad)
            with path.open() as text, pytest.raises(TypeError, match="binary"):
                one.sendfile(text)
            with path.open("rb") as file, pytest.raises(ValueError, match="offset"):
                one.sendfile(file, -1)

    entry.run(main)


def test_names_and_options(entry):
    async def main(address):
        async with await net.connect_tcp(*address) as stream:
            assert stream.getpeername() == address
            assert stream.family == socket.AF_INET
            assert stream.peer == f"127.0.0.1:{address[1]}"
            assert stream.get_extra_info("peername") == address
            assert stream.get_extra_info("sockname") == stream.getsockname()
            assert stream.get_extra_info("fd") == stream.fileno()
            assert stream.get_extra_info("unknown", 7) == 7
            assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            view = stream.get_extra_info("socket")
            assert view.getpeername() == address
            with pytest.raises(AttributeError, match="stream's methods"):
                view.close()
            assert str(address[1]) in repr(stream)
        assert "closed" in repr(stream)

    with serving(receive_all) as address:
        entry.run(main, address)


def test_adopted_socket(entry):
    async def main():
        left, right = socket.socketpair()
        with right:
            stream = net.from_socket(left)
            assert left.fileno() == -1  # one owner
            async with stream:
                right.sendall(b"hi")
                assert await stream.read() == b"hi"
                assert not os.get_blocking(stream.fileno())

    entry.run(main)


def test_what_can_not_be_adopted(entry):
    async def main():
        with pytest.raises(TypeError, match=r"socket\.socket"):
            net.from_socket(5)
        closed = socket.socket()
        closed.close()
        with pytest.raises(ValueError, match="closed"):
            net.from_socket(closed)
        with socket.socket() as fresh, pytest.raises(ValueError, match="neither connected nor listening"):
            net.from_socket(fresh)

    entry.run(main)


def test_dropped_without_close_is_reported_and_closed(entry):
    from bateau.kernel import hazard

    found = []
    remove = hazard.add_sink(found.append)

    async def main():
        one, two = net.unix.pair()
        with bateau.move_on_after(0.001):
            await one.read()  # it stays registered
        del one
        await bateau.yield_now()  # trio's loop holds the last exception, whose traceback holds the stream
        gc.collect()
        assert await two.read() == b""
        two.close()

    try:
        entry.run(main)
    finally:
        remove()
    assert [finding.name for finding in found] == ["dropped_without_close"]
    assert found[0].filename == __file__


def test_closed_after_the_program_ended(entry):
    kept = []

    async def main():
        kept.extend(net.unix.pair())
        with bateau.move_on_after(0.001):
            await kept[0].read()

    entry.run(main)
    for stream in kept:
        stream.close()


def test_a_stream_of_another_runtime_is_refused(entry):
    kept = []

    async def use():
        kept.extend(net.unix.pair())
        with bateau.move_on_after(0.001):
            await kept[0].read()
        caught = []

        def elsewhere():
            async def read():
                await kept[0].read()

            try:
                bateau.run(read, runtime="native")
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert isinstance(caught[0], bateau.WrongRuntime)
        for stream in kept:
            stream.close()

    entry.run(use)


def test_select_keeps_the_losing_read(entry):
    """A read that did not win consumed nothing."""

    async def main():
        one, two = net.unix.pair()
        three, four = net.unix.pair()
        async with one, two, three, four:
            await two.write(b"now")
            chosen = await bateau.race(one.read, three.read)
            assert chosen == b"now" or b"now" in (chosen if isinstance(chosen, tuple) else (chosen.value,))
            await four.write(b"later")
            assert await three.read() == b"later"

    entry.run(main)


def test_peer_in_a_thread_with_interleaved_requests(entry):
    """S13: one connection, many requests in flight, answered out of order."""
    requests = 50

    def answer_backwards(sock):
        lines = sock.makefile("rb")
        with lines:
            batch = [lines.readline() for _ in range(requests)]
        for line in reversed(batch):
            sock.sendall(line)

    async def main(address):
        from bateau.io import BufReader

        pending: dict[int, list] = {}
        async with await net.connect_tcp(*address) as stream, bateau.scope() as scope:

            async def reader():
                lines = BufReader(stream)
                for _ in range(requests):
                    number, _, text = (await lines.readline()).decode().strip().partition(" ")
                    pending[int(number)].append(text)

            scope.spawn(reader)
            for number in range(requests):
                pending[number] = []
                await stream.write(f"{number} text {number}\n".encode())
        assert pending == {number: [f"text {number}"] for number in range(requests)}

    with serving(answer_backwards) as address:
        entry.run(main, address)


def test_peer_helper_reports_errors():
    with pytest.raises(ZeroDivisionError):
        Peer(lambda: 1 / 0).result()
