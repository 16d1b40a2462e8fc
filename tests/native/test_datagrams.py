"""The C part of datagrams: addresses are what Python makes of them, whatever is remembered of them."""

from __future__ import annotations

import socket

import pytest

import bateau
from bateau import net
from bateau.kernel import twin
from support.sockets import has_ipv6

pytestmark = pytest.mark.skipif(twin.native is None, reason="the kernel is pure here")


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
