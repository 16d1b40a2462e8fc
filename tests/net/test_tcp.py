"""Connecting and listening over TCP: Happy Eyeballs, limits, shortages, stopping, serving."""

from __future__ import annotations

import logging
import os
import resource
import socket
import time

import pytest

import bateau
import bateau.time
from bateau import net
from bateau.kernel import hazard
from bateau.net._resolve import AddrInfo
from bateau.net._tcp import Connect, interleaved
from support.sockets import Hanging, calling, echo, free_port, has_ipv6, receive_all, serving
from support.waiting import until

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def row(address):
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return AddrInfo(family, socket.SOCK_STREAM, 0, "", address)


# -- connecting --------------------------------------------------------------------------------------------------------


def test_connect_by_name(entry):
    async def main(address):
        async with await net.connect_tcp("localhost", address[1]) as stream:
            await stream.write(b"x")
            assert await stream.read() == b"x"

    with serving(echo) as address:
        entry.run(main, address)


def test_refusal_names_the_address(entry):
    port = free_port()

    async def main():
        with pytest.raises(ConnectionRefusedError, match=rf"127\.0\.0\.1:{port}"):
            await net.connect_tcp("127.0.0.1", port)

    entry.run(main)


def test_families_take_turns():
    rows = [row((host, 1)) for host in ("::1", "::2", "::3", "10.0.0.1", "10.0.0.2")]
    assert [r.sockaddr[0] for r in interleaved(rows)] == ["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]


def test_a_failed_address_is_followed_at_once(entry):
    async def main(good):
        rows = [row(("127.0.0.1", free_port())), row(("127.0.0.1", free_port())), row(good)]
        start = time.monotonic()
        sock = await Connect("target", rows, None, 60)
        assert time.monotonic() - start < 30
        assert sock.getpeername() == good
        sock.close()

    with serving(receive_all) as good:
        entry.run(main, good)


def test_a_silent_address_is_overtaken_after_the_delay(entry):
    async def main(silent, good):
        start = time.monotonic()
        sock = await Connect("target", [row(silent), row(good)], None, 0.05)
        assert time.monotonic() - start >= 0.045  # uvloop's clock counts milliseconds
        assert sock.getpeername() == good
        sock.close()

    with Hanging() as silent, serving(receive_all) as good:
        entry.run(main, silent, good)


def test_all_failures_are_told(entry):
    async def main():
        ports = [free_port(), free_port()]
        with pytest.raises(ConnectionRefusedError, match="all 2 addresses") as caught:
            await Connect("target", [row(("127.0.0.1", port)) for port in ports], None, 0.25)
        for port in ports:
            assert f"127.0.0.1:{port}" in str(caught.value)
        group = caught.value.__cause__
        assert isinstance(group, ExceptionGroup)
        assert len(group.exceptions) == 2

    entry.run(main)


def test_a_cancelled_connect_closes_every_attempt(entry):
    """What it leaves open, the leak check finds."""

    async def main(silent):
        with bateau.move_on_after(0.05) as timer:
            await Connect("target", [row(silent)] * 5, None, 0.005)
        assert timer.cancelled_caught
        with bateau.move_on_after(0.02) as timer:
            await net.connect_tcp(*silent)  # bateau: ignore[dropped_without_close]
        assert timer.cancelled_caught

    with Hanging() as silent:
        entry.run(main, silent)


def test_local_address(entry):
    port = free_port()

    async def main(address):
        async with await net.connect_tcp(*address, local_address=("127.0.0.1", port), nodelay=False) as stream:
            assert stream.getsockname() == ("127.0.0.1", port)
            assert not stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with pytest.raises(OSError, match="another address family"):
            await net.connect_tcp(*address, local_address="::1")

    with serving(receive_all) as address:
        entry.run(main, address)


def test_bad_targets(entry):
    async def main():
        for host, port, error, words in (
            ("127.0.0.1", 70000, ValueError, "65535"),
            ("127.0.0.1", -1, ValueError, "65535"),
            ("127.0.0.1", None, TypeError, "port"),
            ("127.0.0.1", True, TypeError, "port"),
            ("", 80, ValueError, "empty"),
            (5, 80, TypeError, "host"),
            ("a\0b", 80, ValueError, "NUL"),
            ("x" * 70 + ".example", 80, (ValueError, OSError), "x"),
        ):
            with pytest.raises(error, match=words):
                await net.connect_tcp(host, port)
        with pytest.raises(ValueError, match="happy_eyeballs_delay"):
            await net.connect_tcp("127.0.0.1", 80, happy_eyeballs_delay=-1)

    entry.run(main)


# -- listening ---------------------------------------------------------------------------------------------------------


def test_listen_and_accept_plain_clients(entry):
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            assert listener.getsockname() == ("127.0.0.1", listener.port)
            client = calling(listener.getsockname(), lambda sock: (sock.sendall(b"hi"), sock.recv(10)))
            async with await listener.accept() as stream:
                assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert listener.open_count == 1
                data = await stream.read()
                await stream.write(data.upper())
            assert listener.open_count == 0
            assert client.result() == (None, b"HI")
        assert listener.closed
        listener.close()
        with pytest.raises(bateau.Closed, match="is closed"):
            await listener.accept()
        with pytest.raises(bateau.Closed):
            listener.getsockname()

    entry.run(main)


@needs_ipv6
def test_every_address_of_the_machine(entry):
    async def main():
        async with await net.listen_tcp(None, 0) as listener:
            assert len(listener.addresses) == 2
            assert {address[1] for address in listener.addresses} == {listener.port}
            for host in ("127.0.0.1", "::1", "127.0.0.1"):
                async with await net.connect_tcp(host, listener.port), await listener.accept() as accepted:
                    assert accepted.getpeername()[0] == host

    entry.run(main)


@needs_ipv6
def test_waiting_on_both_families(entry):
    async def main():
        async with await net.listen_tcp(None, 0) as listener, bateau.scope() as scope:
            for host in ("127.0.0.1", "::1"):
                accepting = scope.spawn(listener.accept)
                await bateau.yield_now()
                async with await net.connect_tcp(host, listener.port):
                    (await accepting).close()

    entry.run(main)


def test_a_port_in_use_is_named(entry):
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            with pytest.raises(OSError, match=rf"in use.*127\.0\.0\.1:{listener.port}"):
                await net.listen_tcp("127.0.0.1", listener.port)
        async with await net.listen_tcp("127.0.0.1", 0, reuse_port=True) as one:
            async with await net.listen_tcp("127.0.0.1", one.port, reuse_port=True) as two:
                assert two.port == one.port

    entry.run(main)


def test_bad_listen_arguments(entry):
    async def main():
        for limit in (0, -1, "5", True):
            with pytest.raises(ValueError, match="limit"):
                await net.listen_tcp("127.0.0.1", 0, limit=limit)
        with pytest.raises(ValueError, match="65535"):
            await net.listen_tcp("127.0.0.1", 65536)
        with pytest.raises(OSError, match=r"192\.0\.2\.1"):
            await net.listen_tcp("192.0.2.1", 0)  # an address of nobody's, by RFC 5737

    entry.run(main)


def test_no_more_connections_than_the_limit(entry):
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0, limit=2) as listener, bateau.scope() as scope:
            clients = [await net.connect_tcp(*listener.getsockname()) for _ in range(4)]  # the kernel holds them
            first, second = await listener.accept(), await listener.accept()
            third = scope.spawn(listener.accept)
            for _ in range(20):
                await bateau.yield_now()
            assert not third.done
            assert "2/2" in repr(listener)
            first.close()
            accepted = await third
            with bateau.move_on_after(0.02) as timer:
                await listener.accept()
            assert timer.cancelled_caught
            second.close()
            fourth = await listener.accept()
            for stream in (*clients, accepted, fourth):
                stream.close()

    entry.run(main)


def test_a_free_place_is_not_lost_with_who_was_told_of_it(entry):
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0, limit=1) as listener, bateau.scope() as scope:
            clients = [await net.connect_tcp(*listener.getsockname()) for _ in range(3)]
            first = await listener.accept()

            async def one():  # told before it was cancelled, it may still have its connection: law 11
                async with await listener.accept():
                    pass

            doomed = scope.spawn(one)
            heir = scope.spawn(listener.accept)
            for _ in range(3):
                await bateau.yield_now()
            first.close()
            doomed.cancel()
            (await heir).close()
            for client in clients:
                client.close()

    entry.run(main)


def test_accept_under_select(entry):
    async def main():
        async with await net.listen_tcp(None, 0, limit=2) as listener:
            clients, streams, waited = [], [], 0
            for number in range(4):
                name, _ = await bateau.select(accept=listener.accept(), timer=bateau.time.sleep(0.005))
                assert name == "timer"
                clients.append(await net.connect_tcp("127.0.0.1", listener.port))
                while True:
                    name, stream = await bateau.select(accept=listener.accept(), timer=bateau.time.sleep(0.05))
                    if name == "accept":
                        streams.append(stream)
                        break
                    assert number >= 2
                    waited += 1
                    streams[number - 2].close()
            assert waited == 2
            for stream in (*clients, *streams):
                stream.close()

    entry.run(main)


def test_a_cancelled_accept_loses_no_connection(entry):
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            with bateau.move_on_after(0.01):
                await listener.accept()
            async with await net.connect_tcp(*listener.getsockname()) as client:
                with bateau.move_on_after(1) as timer:
                    timer.cancel()
                    await listener.accept()
                async with await listener.accept() as stream:
                    await client.write(b"x")
                    assert await stream.read() == b"x"

    entry.run(main)


def test_close_wakes_those_who_accept(entry):
    async def main():
        listener = await net.listen_tcp("127.0.0.1", 0)

        async def loop():
            async for _ in listener:
                raise AssertionError

        async def one():
            with pytest.raises(bateau.Closed):
                await listener.accept()

        async with bateau.scope() as scope:
            scope.spawn(loop)
            scope.spawn(one)
            await bateau.yield_now()
            await bateau.yield_now()
            listener.close()

    entry.run(main)


@pytest.mark.law(6)
def test_stop_ends_the_accept_loop_and_lets_connections_finish(entry):
    async def main():
        listener = await net.listen_tcp("127.0.0.1", 0)
        finished = []

        async def handle(stream):
            async with stream:
                await stream.write((await stream.read()).upper())
            finished.append(stream)

        async with listener, await net.connect_tcp(*listener.getsockname()) as client, bateau.scope() as outer:
            async with bateau.scope() as scope:

                async def loop():
                    async for stream in listener:
                        scope.spawn(handle, stream)

                scope.spawn(loop)
                outer.spawn(stop_then_talk, scope, client, listener)
            assert len(finished) == 1

    async def stop_then_talk(scope, client, listener):
        await until(lambda: listener.open_count == 1)
        scope.stop(grace=10)
        await client.write(b"late")
        assert await client.read() == b"LATE"

    entry.run(main)


@pytest.mark.law(6)
def test_accept_itself_raises_stopped(entry):
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope() as scope:

            async def one():
                with pytest.raises(bateau.Stopped):
                    await listener.accept()
                with pytest.raises(bateau.Stopped):
                    await listener.accept()

            scope.spawn(one)
            await bateau.yield_now()
            await bateau.yield_now()
            scope.stop()

    entry.run(main)


def test_without_descriptors_it_waits_reports_once_and_goes_on(entry):
    found = []
    remove = hazard.add_sink(found.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope() as scope:
            clients = [await net.connect_tcp(*listener.getsockname()) for _ in range(2)]
            await (await listener.accept()).aclose()  # whatever is opened once is open now
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest_free(), hard))
            used = time.process_time()
            try:
                accepting = scope.spawn(listener.accept)
                await bateau.time.sleep(0.3)
                assert not accepting.done
                assert time.process_time() - used < 0.2, "it spins"
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            (await accepting).close()
            for client in clients:
                client.close()

    try:
        entry.run(main)
    finally:
        remove()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [finding.name for finding in found] == ["accept_starved"]
    assert "limit=" in found[0].message


def highest_free():
    """The lowest number that is free: as the limit, it leaves no room for one more."""
    with open(os.devnull) as file:
        return file.fileno()


# -- serving -----------------------------------------------------------------------------------------------------------


def test_serve_isolates_its_handlers(entry):
    """One handler fails, another is abandoned by its client: the server goes on."""
    errors = []

    async def handler(stream):
        data = await stream.read()
        if data == b"bad":
            raise ZeroDivisionError("on purpose")
        await stream.write(data)

    async def main():
        listener = await net.listen_tcp("127.0.0.1", 0)
        address = listener.getsockname()
        async with bateau.scope() as scope:
            scope.spawn(lambda: net.serve(handler, listener, on_error=lambda error, stream: errors.append(error)))
            for data, answer in ((b"one", b"one"), (b"bad", b""), (b"two", b"two")):
                async with await net.connect_tcp(*address) as client:
                    await client.write(data)
                    assert await client.read() == answer
            await until(lambda: listener.open_count == 0)
            scope.stop()
        assert listener.closed
        assert [type(error) for error in errors] == [ZeroDivisionError]

    entry.run(main)


def test_serve_logs_errors_by_default(entry, caplog):
    async def handler(stream):
        raise ZeroDivisionError("on purpose")

    async def main():
        listener = await net.listen_tcp("127.0.0.1", 0)
        async with bateau.scope() as scope:
            scope.spawn(net.serve, handler, listener)
            async with await net.connect_tcp(*listener.getsockname()) as client:
                assert await client.read() == b""
            scope.stop()

    with caplog.at_level(logging.ERROR, "bateau.net"):
        entry.run(main)
    assert "on purpose" in caplog.text


def test_cancelled_serve_cancels_handlers_and_closes_everything(entry):
    async def handler(stream):
        await stream.read()

    async def main():
        one, two = await net.listen_tcp("127.0.0.1", 0), await net.listen_tcp("127.0.0.1", 0)
        clients = []
        async with bateau.scope() as scope:
            scope.spawn(net.serve, handler, one, two)
            for listener in (one, two):
                clients.append(await net.connect_tcp(*listener.getsockname()))
            await until(lambda: one.open_count == 1 and two.open_count == 1)
            scope.cancel()
        assert one.closed
        assert two.closed
        for client in clients:
            assert await client.read() == b""
            client.close()

    entry.run(main)


def test_serve_wants_a_listener_and_a_function(entry):
    async def main():
        with pytest.raises(TypeError, match="listen_tcp"):
            await net.serve(lambda stream: None)
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            with pytest.raises(TypeError, match="handler"):
                await net.serve(5, listener)

    entry.run(main)


def test_the_shortest_echo_server(entry):
    """H06: the TCP echo server in a few lines, under fifty plain clients."""

    async def handler(stream):
        while data := await stream.read():
            await stream.write(data)

    def talk(sock):
        for number in range(20):
            message = f"message {number}".encode()
            sock.sendall(message)
            assert sock.recv(100) == message
        return True

    async def main():
        listener = await net.listen_tcp("127.0.0.1", 0)
        async with bateau.scope() as scope:
            scope.spawn(net.serve, handler, listener)
            clients = [calling(listener.getsockname(), talk) for _ in range(50)]
            for client in clients:
                assert await bateau.thread.run(client.result)
            scope.stop()

    entry.run(main)


def test_adopted_listener(entry):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()

    async def main():
        async with net.from_socket(sock, limit=1) as listener:
            assert isinstance(listener, net.Listener)
            async with await net.connect_tcp(*listener.getsockname()), await listener.accept():
                pass

    entry.run(main)
