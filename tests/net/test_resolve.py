"""Names to addresses and back."""

from __future__ import annotations

import socket

import pytest

import bateau
from bateau import net


def test_same_answers_as_the_socket_module(entry):
    async def main():
        for args in (
            ("127.0.0.1", 80),
            ("::1", "443", 0, socket.SOCK_STREAM),
            ("localhost", 80, socket.AF_INET, socket.SOCK_STREAM),
            (None, 80, 0, socket.SOCK_DGRAM, 0, socket.AI_PASSIVE),
            (b"127.0.0.1", "http", 0, socket.SOCK_STREAM),
        ):
            assert await net.getaddrinfo(*args) == socket.getaddrinfo(*args)

    entry.run(main)


def test_resolve_gives_usable_rows(entry):
    async def main():
        rows = await net.resolve("localhost", 80)
        assert rows
        assert all(row.type == socket.SOCK_STREAM and row.sockaddr[1] == 80 for row in rows)
        assert len(set(rows)) == len(rows)
        (row,) = await net.resolve("127.0.0.1", "8080")
        assert row.sockaddr == ("127.0.0.1", 8080)
        assert (await net.resolve("localhost", "http", family=socket.AF_INET))[0].sockaddr == ("127.0.0.1", 80)

    entry.run(main)


def test_literals_need_no_thread(entry):
    async def main():
        await net.resolve("127.0.0.1", 80)
        await net.resolve("::1", 80)
        assert bateau.thread.workers().running == 0

    entry.run(main)


def test_unknown_names(entry):
    async def main():
        with pytest.raises(socket.gaierror, match=r"nowhere\.invalid"):
            await net.resolve("nowhere.invalid", 80)
        with pytest.raises(socket.gaierror, match=r"nowhere\.invalid"):
            await net.connect_tcp("nowhere.invalid", 80)
        with pytest.raises(OSError, match="no-such-service"):
            await net.resolve("localhost", "no-such-service")

    entry.run(main)


def test_bad_names(entry):
    async def main():
        for host, port, error in (
            ("", 80, ValueError),
            (5, 80, TypeError),
            ("localhost", 1.5, TypeError),
            ("localhost", 99999, ValueError),
            ("\N{SNOWMAN}" * 70, 80, ValueError),
        ):
            with pytest.raises(error):
                await net.resolve(host, port)

    entry.run(main)


def test_a_cancelled_query_is_left_behind(entry):
    async def main():
        with bateau.move_on_after(1) as timer:
            timer.cancel()
            await net.resolve("localhost", 80)
        assert timer.cancelled_caught
        assert await net.resolve("localhost", 80)

    entry.run(main)


def test_getnameinfo(entry):
    async def main():
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert await net.getnameinfo(("127.0.0.1", 80), numeric) == ("127.0.0.1", "80")
        assert await net.getnameinfo(("127.0.0.1", 80)) == socket.getnameinfo(("127.0.0.1", 80), 0)
        with pytest.raises(TypeError, match="tuple"):
            await net.getnameinfo("127.0.0.1")

    entry.run(main)
