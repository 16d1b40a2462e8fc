"""UDP against plain sockets: whole datagrams or errors."""

from __future__ import annotations

import socket

import pytest

import bateau
from bateau import net
from support.sockets import TIMEOUT, Peer, free_port, has_ipv6


def plain():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(TIMEOUT)
    return sock


def test_the_shortest_echo_server(entry):
    """H06: the UDP echo server, under a plain client."""

    async def main():
        async with await net.udp(("127.0.0.1", 0)) as server, bateau.scope() as scope:

            async def serve():
                async for data, address in server:
                    await server.sendto(data, address)

            scope.spawn(serve)

            def talk():
                with plain() as sock:
                    for size in (0, 1, 1000, 60000):
                        sock.sendto(bytes(size), server.getsockname())
                        assert sock.recvfrom(65536) == (bytes(size), server.getsockname())

            await bateau.thread.run(talk)
            scope.stop()

    entry.run(main)


def test_connected(entry):
    async def main():
        with plain() as peer:
            async with await net.udp(remote=peer.getsockname()) as sock:
                assert sock.getpeername() == peer.getsockname()
                assert await sock.send(b"ping") == 4

                def answer():
                    data, address = peer.recvfrom(100)
                    peer.sendto(data.upper(), address)

                answering = Peer(answer)
                assert await sock.recv() == b"PING"
                answering.result()
                assert sock.try_recvfrom() is None
                peer.sendto(b"x", sock.getsockname())
                while (found := sock.try_recvfrom()) is None:
                    await bateau.yield_now()
                assert found == (b"x", peer.getsockname())

    entry.run(main)


def test_by_name_and_unbound(entry):
    async def main():
        with plain() as peer:
            async with await net.udp(remote=("localhost", peer.getsockname()[1]), family=socket.AF_INET) as sock:
                await sock.send(b"named")
            async with await net.udp() as sock:
                assert sock.getsockname()[1]
                await sock.sendto(b"unbound", peer.getsockname())
            assert [peer.recv(100), peer.recv(100)] == [b"named", b"unbound"]

    entry.run(main)


def test_a_cut_datagram_is_an_error(entry):
    async def main():
        with plain() as peer:
            async with await net.udp(("127.0.0.1", 0)) as sock:
                peer.sendto(b"123456", sock.getsockname())
                peer.sendto(b"abc", sock.getsockname())
                with pytest.raises(net.Truncated, match="3 bytes asked for") as caught:
                    await sock.recvfrom(3)
                assert caught.value.data == b"123"
                assert caught.value.address == peer.getsockname()
                assert await sock.recvfrom(3) == (b"abc", peer.getsockname())

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_receive_loses_nothing(entry):
    async def main():
        with plain() as peer:
            async with await net.udp(("127.0.0.1", 0)) as sock:
                with bateau.move_on_after(0.01) as timer:
                    await sock.recv()
                assert timer.cancelled_caught
                peer.sendto(b"kept", sock.getsockname())
                with bateau.move_on_after(1) as timer:
                    timer.cancel()
                    await sock.recv()
                assert await sock.recv() == b"kept"

    entry.run(main)


def test_refused(entry):
    async def main():
        async with await net.udp(remote=("127.0.0.1", free_port(kind=socket.SOCK_DGRAM))) as sock:
            await sock.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                await sock.recv()

    entry.run(main)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_addresses_that_ipv6_sockets_give_are_taken_back(entry):
    """They have four parts: from ``getsockname`` into ``udp(remote=...)``, from ``recvfrom`` into ``sendto`` and ``udp(local=...)``."""

    async def main():
        async with await net.udp(("::1", 0)) as server:
            async with await net.udp(remote=server.getsockname()) as client:
                await client.send(b"ping")
                data, address = await server.recvfrom()
                assert (data, address) == (b"ping", client.getsockname())
                await server.sendto(b"pong", address)
                assert await client.recv() == b"pong"
            async with await net.udp(address) as again:
                assert again.getsockname() == address
            with pytest.raises(TypeError, match="IPv4"):
                await net.udp(remote=server.getsockname(), family=socket.AF_INET)

    entry.run(main)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_address_of_the_other_family_is_told_what_socket_to_send_from(entry):
    """In both directions; what the message says to do works."""

    async def main():
        async with await net.udp(("::1", 0)) as six, await net.udp(("0.0.0.0", 0)) as four:
            with pytest.raises(ValueError, match=r"this is an IPv6 socket.*net\.udp\(\('0\.0\.0\.0', 0\)\)"):
                six.sendto(b"x", ("127.0.0.1", 9))
            with pytest.raises(ValueError, match=r"net\.resolve.*AF_INET6"):
                six.sendto(b"x", ("localhost", 9))
            await four.sendto(b"x", ("127.0.0.1", four.getsockname()[1]))
            assert await four.recv() == b"x"

    entry.run(main)


def test_several_receivers(entry):
    async def main():
        with plain() as peer:
            async with await net.udp(("127.0.0.1", 0)) as sock, bateau.scope() as scope:
                tasks = [scope.spawn(sock.recv) for _ in range(5)]
                await bateau.yield_now()
                for number in range(5):
                    peer.sendto(b"%d" % number, sock.getsockname())
                assert sorted([await task for task in tasks]) == [b"0", b"1", b"2", b"3", b"4"]

    entry.run(main)


def test_bad_use(entry):
    async def main():
        async with await net.udp(("127.0.0.1", 0)) as sock:
            with pytest.raises(ValueError, match=r"net\.resolve"):
                sock.sendto(b"x", ("localhost", 1))
            with pytest.raises(
                ValueError, match=r"this is an IPv4 socket.*'::1' is an IPv6 address.*net\.udp\(\('::', 0\)\)"
            ):
                sock.sendto(b"x", ("::1", 1))
            with pytest.raises(ValueError, match="65535"):
                sock.sendto(b"x", ("127.0.0.1", 65536))
            with pytest.raises(TypeError, match="tuple"):
                sock.sendto(b"x", "127.0.0.1")
            with pytest.raises(TypeError, match="encode"):
                sock.send("text")
            with pytest.raises(TypeError, match="bytes-like"):
                sock.send(5)
            with pytest.raises(OSError, match="sendto"):
                await sock.send(b"to whom?")
            with pytest.raises(OSError, match="70000 bytes is too large"):
                await sock.sendto(bytes(70000), ("127.0.0.1", 9))
            with pytest.raises(ValueError, match="0 or more"):
                sock.recv(-1)
        with pytest.raises(bateau.Closed, match="is closed"):
            await sock.recv()
        with pytest.raises(bateau.Closed):
            await sock.sendto(b"x", ("127.0.0.1", 9))
        for bad in ("127.0.0.1", ("127.0.0.1",), 5):
            with pytest.raises(TypeError, match="tuple"):
                await net.udp(bad)
        with pytest.raises(OSError, match=r"192\.0\.2\.1"):
            await net.udp(("192.0.2.1", 0))

    entry.run(main)


def test_close_ends_the_iteration(entry):
    async def main():
        sock = await net.udp(("127.0.0.1", 0), reuse_port=True, broadcast=True)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        async with bateau.scope() as scope:

            async def loop():
                async for _ in sock:
                    raise AssertionError

            scope.spawn(loop)
            await bateau.yield_now()
            await bateau.yield_now()
            sock.close()

    entry.run(main)


def test_adopted(entry):
    async def main():
        with plain() as peer:
            async with net.from_socket(plain()) as sock:
                assert isinstance(sock, net.UdpSocket)
                await sock.sendto(b"x", peer.getsockname())
                assert peer.recv(10) == b"x"

    entry.run(main)
