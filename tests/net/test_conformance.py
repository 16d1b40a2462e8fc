"""The stream conformance kit over real sockets."""

from __future__ import annotations

from bateau import net
from bateau.testing.streams import check_stream


async def tcp_pair():
    async with await net.listen_tcp("127.0.0.1", 0) as listener:
        client = await net.connect_tcp(*listener.getsockname())
        return client, await listener.accept()


def test_tcp(entry):
    async def main():
        assert await check_stream(tcp_pair)

    entry.run(main)


def test_unix(entry):
    async def main():
        assert await check_stream(net.unix.pair)

    entry.run(main)
