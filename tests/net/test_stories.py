"""Stories in which streams play the main part."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

import bateau
from bateau import net
from bateau.io import BufReader, split
from support.sockets import TIMEOUT, calling


def backwards_server(sock, batches, size):
    """Answers `size` requests at a time, in reverse order: nobody may rely on the order of answers."""
    with sock.makefile("rwb") as file:
        for _ in range(batches):
            lines = [file.readline() for _ in range(size)]
            for line in reversed(lines):
                number, _, text = line.decode().strip().partition(" ")
                file.write(f"{number} {text.upper()}\n".encode())
            file.flush()


def test_s13_many_callers_share_one_connection(entry):
    """S13: cloneable senders whose messages never interleave, one reader that hands out the answers."""
    callers, size = 24, 8

    async def main(address):
        answers: dict[int, list[str]] = {}
        arrived: dict[int, bateau.sync.Event] = {}
        receiver, sender = split(await net.connect_tcp(*address))

        async def read_answers():
            async with receiver:
                lines = BufReader(receiver)
                while line := await lines.readline():
                    number, _, text = line.decode().strip().partition(" ")
                    answers[int(number)] = [text]
                    arrived[int(number)].set()

        async def call(number, sender):
            async with sender:
                await sender.write(f"{number} {'x' * (number * 1000)}\n".encode())
                await arrived[number].wait()

        async with bateau.scope() as scope:
            scope.spawn(read_answers)
            for number in range(callers):
                arrived[number] = bateau.sync.Event()
                scope.spawn(call, number, sender.clone())
            sender.close()
        assert answers == {number: ["X" * (number * 1000)] for number in range(callers)}

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(TIMEOUT)

        def run():
            sock, _ = listening.accept()
            with sock:
                sock.settimeout(TIMEOUT)
                backwards_server(sock, callers // size, size)
                assert sock.recv(1) == b""

        thread = threading.Thread(target=run)
        thread.start()
        entry.run(main, listening.getsockname())
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_s29_reads_under_select_lose_no_byte(entry):
    """S29: two connections under one select, many rounds: every byte of both arrives, in order."""
    rounds = 200

    async def main():
        one, far_one = net.unix.pair()
        two, far_two = net.unix.pair()
        got = {"one": b"", "two": b""}

        async def send(stream, start):
            async with stream:
                for number in range(rounds):
                    await stream.write(struct.pack("!I", start + number))
                    if number % 7 == start % 7:
                        await bateau.yield_now()

        async with one, two, bateau.scope() as scope:
            scope.spawn(send, far_one, 0)
            scope.spawn(send, far_two, 100_000)
            open_ = {"one": one, "two": two}
            while open_:
                name, data = await bateau.select({name: stream.read() for name, stream in open_.items()})
                if data:
                    got[name] += data
                else:
                    del open_[name]
        expected = {"one": 0, "two": 100_000}
        for name, start in expected.items():
            assert got[name] == b"".join(struct.pack("!I", start + number) for number in range(rounds))

    entry.run(main)


def test_a_connection_reset_before_it_is_accepted(entry):
    """The server goes on, whatever its clients do."""

    def crash(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def main():
        broken = []
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            for _ in range(3):
                calling(listener.getsockname(), crash).result()
                async with await listener.accept() as stream:
                    with pytest.raises(bateau.Broken):
                        await stream.read()
                    broken.append(stream)
            async with await net.connect_tcp(*listener.getsockname()), await listener.accept():
                pass
        assert len(broken) == 3

    entry.run(main)
