"""Real programs over the simulated network: bateau.net, asyncio, trio and blocking code, unchanged."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import os
import select
import selectors
import socket
import socketserver
import ssl
import time

import pytest
import trio
import trustme

import bateau
from bateau import net, sim
from bateau.io.fd import FdWatch


async def echo(stream):
    while data := await stream.read():
        await stream.write(data)


async def echo_server(host=None, port=7, **options):
    await net.serve(echo, await net.listen_tcp(host, port, **options))


def in_a_world(scenario, **options):
    return sim.run(scenario, **options)


# -- bateau.net --------------------------------------------------------------------------------------------------------


def test_bateau_echo_between_hosts():
    async def scenario(world):
        server = world.host("server", "10.1.0.1")
        server.start(echo_server)
        await bateau.time.sleep(0.1)
        async with await net.connect_tcp("server", 7) as stream, bateau.scope() as scope:
            assert stream.getpeername() == ("10.1.0.1", 7)
            assert stream.getsockname()[0] == world.hosts["test"].addresses[0]
            before = world.now
            await stream.write(b"hello")
            assert await stream.read() == b"hello"
            assert 0.001 <= world.now - before < 0.1  # two ways

            async def send():
                await stream.write(b"y" * 1_000_000)
                await stream.write_eof()

            scope.spawn(send)
            total = 0
            while part := await stream.read():
                total += len(part)
            assert total == 1_000_000

    in_a_world(scenario)


def test_a_writer_that_waits_for_its_own_echo_is_stuck_as_in_life():
    async def scenario(world):
        world.host("server").start(echo_server)
        await bateau.time.sleep(0.1)
        async with await net.connect_tcp("server", 7) as stream:
            await stream.write(b"x" * 10_000_000)

    with pytest.raises(sim.Stuck, match="write to TCP stream"):
        in_a_world(scenario)


def test_bateau_serves_many_clients_in_one_process():
    async def scenario():
        listener = await net.listen_tcp("127.0.0.1", 0)
        async with bateau.scope() as scope:
            scope.spawn(net.serve, echo, listener)

            async def client(number):
                async with await net.connect_tcp("127.0.0.1", listener.port) as stream:
                    for index in range(5):
                        message = b"%d:%d" % (number, index)
                        await stream.write(message)
                        assert await stream.read() == message

            async with bateau.scope() as clients:
                for number in range(50):
                    clients.spawn(client, number)
            scope.cancel()

    in_a_world(scenario)


def test_udp_between_hosts():
    async def server():
        async with await net.udp(("", 53)) as sock:
            async for data, address in sock:
                await sock.sendto(data.upper(), address)

    async def scenario(world):
        world.host("dns").start(server)
        await bateau.time.sleep(0.1)
        async with await net.udp(remote=("dns", 53)) as sock:
            for text in (b"one", b"two", b""):
                await sock.send(text)
                assert await sock.recv() == text.upper()
        async with await net.udp(remote=("dns", 54)) as sock:
            await sock.send(b"nobody")
            with pytest.raises(ConnectionRefusedError):
                await sock.recv()

    in_a_world(scenario)


def test_multicast_and_broadcast():
    group = "224.1.1.1"

    def member(log, name):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("", 9000))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + bytes(4))
            for _ in range(2):
                data, address = sock.recvfrom(100)
                log.append((name, data, address[0]))

    def scenario(world):
        log = []
        members = [world.host(name).start(member, log, name) for name in ("a", "b")]
        deaf = world.host("c")
        time.sleep(0.1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"group", (group, 9000))
            with pytest.raises(PermissionError):
                sock.sendto(b"all", ("255.255.255.255", 9000))
            time.sleep(0.1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.sendto(b"all", ("<broadcast>", 9000))
        time.sleep(0.1)
        assert all(not member.is_alive() for member in members)
        assert deaf.processes == []
        return sorted(log)

    own = "10.0.0.1"
    assert in_a_world(scenario) == [("a", b"all", own), ("a", b"group", own), ("b", b"all", own), ("b", b"group", own)]


def test_bateau_unix_sockets_on_the_simulated_disk():
    async def scenario():
        os.mkdir("run")
        async with await net.unix.listen("run/a.sock", mode=0o600) as listener, bateau.scope() as scope:
            assert os.stat("run/a.sock").st_mode & 0o777 == 0o600
            scope.spawn(net.serve, echo, listener)
            async with await net.unix.connect("run/a.sock") as stream:
                await stream.write(b"hello")
                assert await stream.read() == b"hello"
                assert stream.peer_credentials().pid == os.getpid()
            with pytest.raises(OSError, match="in use"):
                await net.unix.listen("run/a.sock")
            scope.cancel()
        assert not os.path.exists("run/a.sock")
        one, two = net.unix.pair()
        async with one, two:
            reading, writing = os.pipe()
            await one.send_fds(b"take", [reading, writing])
            data, fds = await two.recv_fds()
            assert data == b"take"
            os.write(fds[1], b"through")
            assert os.read(reading, 10) == b"through"
            for fd in (reading, writing, *fds):
                os.close(fd)

    in_a_world(scenario)


def test_a_stale_name_of_a_crashed_server_is_replaced():
    async def server():
        await net.serve(echo, await net.unix.listen("/run.sock"))

    async def client():
        async with await net.unix.connect("/run.sock") as stream:
            await stream.write(b"x")
            return await stream.read()

    async def scenario(world):
        host = world.host("a")
        first = host.start(server)
        await bateau.time.sleep(0.1)
        first.kill()
        host.start(server)
        await bateau.time.sleep(0.1)
        assert await host.start(client) == b"x"

    in_a_world(scenario)


def test_happy_eyeballs_overtake_a_silent_address():
    async def scenario(world):
        world.host("web", "fd00::5", "10.0.0.5").start(echo_server)
        world.host("client", "fd00::9", "10.0.0.9")
        world.network.name("site", "fd00:dead::1", "10.0.0.5")
        await bateau.time.sleep(0.1)

        async def client():
            before = world.now
            async with await net.connect_tcp("site", 7) as stream:
                return stream.getpeername()[0], world.now - before

        address, took = await world.hosts["client"].start(client)
        assert address == "10.0.0.5"
        assert 0.25 < took < 0.3

    in_a_world(scenario)


def test_addresses_that_fail_are_named():
    async def scenario(world):
        world.host("web", "fd00::5", "10.0.0.5")

        async def client():
            with pytest.raises(OSError, match="all 2 addresses") as caught:
                await net.connect_tcp("web", 80)
            assert "[fd00::5]:80" in str(caught.value)

        await world.host("client", "fd00::9", "10.0.0.9").start(client)

        async def four_only():
            with pytest.raises(OSError, match=r"unreachable.*refused"):
                await net.connect_tcp("web", 80)

        await world.host("old", "10.0.0.4").start(four_only)

    in_a_world(scenario)


def test_the_descriptor_of_a_real_socket_is_refused():
    real, other = socket.socketpair()

    async def scenario():
        with pytest.raises(sim.NotSimulated, match="make the socket"):
            await FdWatch(real.fileno()).readable()
        with select.epoll() as epoll, pytest.raises(sim.NotSimulated):
            epoll.register(real.fileno())
        with pytest.raises(sim.NotSimulated):
            socket.socket(fileno=real.fileno())

    with real, other:
        in_a_world(scenario)
        assert socket.socket is type(real)


# -- asyncio -----------------------------------------------------------------------------------------------------------


async def aio_echo(reader, writer):
    try:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def aio_server(port=7, **options):
    server = await asyncio.start_server(aio_echo, None, port, **options)
    async with server:
        await server.serve_forever()


async def aio_client(host="server", port=7, **options):
    reader, writer = await asyncio.open_connection(host, port, **options)
    got = []
    for index in range(20):
        writer.write(b"line %d\n" % index)
        await writer.drain()
        got.append(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return len(b"".join(got))


WAYS = {
    "asyncio.run": lambda fn: lambda: asyncio.run(fn()),
    "the sim runtime": lambda fn: fn,
    "bateau on asyncio": lambda fn: lambda: bateau.run(fn, runtime="asyncio"),
}


@pytest.mark.parametrize("server", WAYS)
@pytest.mark.parametrize("client", WAYS)
def test_asyncio_streams_between_hosts(server, client):
    async def scenario(world):
        world.host("server").start(WAYS[server](aio_server))
        await bateau.time.sleep(0.1)
        return await world.host("client").start(WAYS[client](aio_client)), world.digest()

    length, digest = in_a_world(scenario)
    assert length == len(b"".join(b"line %d\n" % index for index in range(20)))
    assert in_a_world(scenario) == (length, digest)


def test_asyncio_datagrams_and_unix_servers():
    class Protocol(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.transport.sendto(data[::-1], address)

    class Client(Protocol):
        def __init__(self):
            self.got = asyncio.get_running_loop().create_future()

        def datagram_received(self, data, address):
            self.got.set_result(data)

    async def server():
        await asyncio.get_running_loop().create_datagram_endpoint(Protocol, ("0.0.0.0", 9))
        await asyncio.start_unix_server(aio_echo, "/echo.sock")
        await asyncio.sleep(60)

    async def client():
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Client, remote_addr=("server", 9)
        )
        transport.sendto(b"abc")
        got = await protocol.got
        transport.close()
        return got

    async def by_path():
        reader, writer = await asyncio.open_unix_connection("/echo.sock")
        writer.write(b"hi")
        got = await reader.read(10)
        writer.close()
        await writer.wait_closed()
        return got

    async def scenario(world):
        host = world.host("server")
        host.start(lambda: asyncio.run(server()))
        await bateau.time.sleep(0.1)
        assert await world.host("client").start(lambda: asyncio.run(client())) == b"cba"
        assert await host.start(lambda: asyncio.run(by_path())) == b"hi"
        with pytest.raises(FileNotFoundError):
            await by_path()  # another host, another disk

    in_a_world(scenario)


def test_asyncio_sock_calls_and_connection_lost():
    async def scenario(world):
        world.host("server").start(lambda: asyncio.run(aio_server()))
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, (world.hosts["server"].addresses[0], 7))
            await loop.sock_sendall(sock, b"hello")
            assert await loop.sock_recv(sock, 100) == b"hello"
        reader, writer = await asyncio.open_connection("server", 7)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        world.hosts["server"].processes[0].kill()
        assert await reader.read(1) == b""
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("server", 7)

    in_a_world(scenario)


# -- trio --------------------------------------------------------------------------------------------------------------


def test_trio_between_hosts():
    async def server():
        async def handler(stream):
            async for data in stream:
                await stream.send_all(data)

        await trio.serve_tcp(handler, 7)

    async def client():
        stream = await trio.open_tcp_stream("server", 7)
        async with stream:
            for index in range(10):
                await stream.send_all(b"%d" % index)
                assert await stream.receive_some() == b"%d" % index
        with trio.move_on_after(1) as scope:
            await trio.sleep_forever()
        return scope.cancelled_caught

    async def scenario(world):
        world.host("server").start(lambda: trio.run(server))
        await bateau.time.sleep(0.1)
        assert await world.host("client").start(lambda: trio.run(client))
        return world.digest()

    assert in_a_world(scenario) == in_a_world(scenario)


# -- blocking code -----------------------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"you asked for {self.path}, {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        return


def serve_http(kind):
    with kind(("", 80), Handler) as server:
        server.serve_forever()


@pytest.mark.parametrize("kind", [http.server.HTTPServer, http.server.ThreadingHTTPServer])
def test_http_between_hosts(kind):
    def client():
        answers = []
        for path in ("/", "/boats"):
            connection = http.client.HTTPConnection("web", timeout=5)
            connection.request("GET", path)
            answers.append(connection.getresponse().read().decode())
            connection.close()
        return answers

    async def scenario(world):
        world.host("web").start(serve_http, kind)
        await bateau.time.sleep(0.1)
        answers = await world.host("client", "10.0.9.9").start(client)
        assert answers == ["you asked for /, 10.0.9.9", "you asked for /boats, 10.0.9.9"]
        return world.digest()

    assert in_a_world(scenario) == in_a_world(scenario)


def test_socketserver_udp_and_unix():
    class Upper(socketserver.BaseRequestHandler):
        def handle(self):
            data, sock = self.request
            sock.sendto(data.upper(), self.client_address)

    def scenario(world):
        def serve():
            with socketserver.UDPServer(("", 9), Upper) as server:
                server.serve_forever()

        world.host("server").start(serve)
        time.sleep(0.1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.sendto(b"loud", ("server", 9))
            assert sock.recv(100) == b"LOUD"
            with pytest.raises(TimeoutError):
                sock.recv(100)

    in_a_world(scenario)


@pytest.mark.parametrize("name", ["EpollSelector", "PollSelector", "SelectSelector", "DefaultSelector"])
def test_selectors(name):
    def scenario():
        one, two = socket.socketpair()
        with one, two, getattr(selectors, name)() as selector:
            selector.register(one, selectors.EVENT_READ, "data")
            before = time.monotonic()
            assert selector.select(1.5) == []
            assert time.monotonic() - before == pytest.approx(1.5)
            two.send(b"x")
            [(key, events)] = selector.select()
            assert (key.fileobj, key.data, events) == (one, "data", selectors.EVENT_READ)
            selector.modify(one, selectors.EVENT_WRITE)
            [(key, events)] = selector.select(0)
            assert events == selectors.EVENT_WRITE

    in_a_world(scenario)
    assert isinstance(selectors.DefaultSelector(), selectors.BaseSelector)


def test_threads_of_one_process_talk_over_a_socket():
    import threading

    def scenario(world):
        listening = socket.create_server(("127.0.0.1", 0))
        got = []

        def serve():
            sock, _ = listening.accept()
            with sock:
                while data := sock.recv(100):
                    sock.sendall(data * 2)

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listening.getsockname()) as sock:
            for text in (b"a", b"bc"):
                sock.sendall(text)
                got.append(sock.recv(100))
        thread.join()
        listening.close()
        return got

    assert in_a_world(scenario) == [b"aa", b"bcbc"]
    sim.explore(scenario, seeds=20)


def test_a_program_that_polls_in_a_loop_does_not_stop_the_world():
    def scenario(world):
        listening = socket.create_server(("", 80))
        listening.setblocking(False)
        world.host("client").start(lambda: socket.create_connection(("test", 80)).close())
        while True:
            try:
                sock, _ = listening.accept()
                break
            except BlockingIOError:
                continue
        sock.close()
        listening.close()

    in_a_world(scenario)


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contexts():
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("server").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def test_tls_of_asyncio(contexts):
    server, client = contexts

    async def scenario(world):
        world.host("server").start(lambda: asyncio.run(aio_server(ssl=server)))
        await bateau.time.sleep(0.1)
        assert await world.host("client").start(lambda: asyncio.run(aio_client(ssl=client)))
        await aio_client(ssl=client)
        return world.digest()

    assert in_a_world(scenario) == in_a_world(scenario)


def test_tls_of_bateau(contexts):
    server, client = contexts
    import bateau.ssl

    async def handler(stream):
        async with bateau.ssl.wrap(stream, server, server_side=True) as tls:
            await echo(tls)

    async def serve():
        await net.serve(handler, await net.listen_tcp(None, 443))

    async def scenario(world):
        world.host("server").start(serve)
        await bateau.time.sleep(0.1)
        stream = await net.connect_tcp("server", 443)
        async with bateau.ssl.wrap(stream, client, server_hostname="server") as tls:
            await tls.write(b"secret")
            assert await tls.read() == b"secret"
        return world.digest()

    assert in_a_world(scenario) == in_a_world(scenario)


def test_tls_of_blocking_sockets(contexts):
    server, client = contexts

    def serve():
        with socket.create_server(("", 443)) as listening, server.wrap_socket(listening, server_side=True) as secure:
            sock, _ = secure.accept()
            with sock:
                sock.sendall(sock.recv(100)[::-1])
                assert sock.recv(100) == b""

    def scenario(world):
        process = world.host("server").start(serve)
        time.sleep(0.1)
        with socket.create_connection(("server", 443), timeout=5) as plain:
            with client.wrap_socket(plain, server_hostname="server") as secure:
                assert isinstance(secure, ssl.SSLSocket)
                assert secure.version() == "TLSv1.3"
                assert secure.getpeercert()["subjectAltName"] == (("DNS", "server"),)
                secure.sendall(b"secret")
                assert secure.recv(100) == b"terces"
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPSConnection("server", 444, context=client).connect()
        time.sleep(1)
        assert not process.is_alive()
        return world.digest()

    assert in_a_world(scenario) == in_a_world(scenario)


def test_tls_refuses_whom_it_does_not_trust(contexts):
    server, _ = contexts
    stranger = ssl.create_default_context()

    async def scenario(world):
        world.host("server").start(lambda: asyncio.run(aio_server(ssl=server)))
        await bateau.time.sleep(0.1)
        with pytest.raises(ssl.SSLCertVerificationError):
            await aio_client(ssl=stranger)

    in_a_world(scenario)


def test_a_process_has_only_so_many_descriptors():
    import resource

    def scenario():
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 4096
        resource.setrlimit(resource.RLIMIT_NOFILE, (6, 100))
        pairs = [socket.socketpair() for _ in range(3)]
        with pytest.raises(OSError, match="Too many open files"):
            socket.socket()
        with pytest.raises(OSError, match="Too many open files"):
            os.pipe()
        pairs[0][0].close()
        pairs[0][1].close()
        with pytest.raises(OSError, match="Too many open files"):
            resource.setrlimit(resource.RLIMIT_NOFILE, (5, 100))
            socket.socketpair()
        socket.socket().close()  # one is free
        for sock in (*pairs[1], *pairs[2]):
            sock.close()
        with pytest.raises(ValueError, match="maximum"):
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, 100))
        with pytest.raises(sim.NotSimulated):
            resource.setrlimit(resource.RLIMIT_CPU, (1, 1))

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_a_world(scenario)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


def test_a_connection_that_finds_no_descriptor_waits_in_the_backlog():
    import resource

    def scenario():
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
            resource.setrlimit(resource.RLIMIT_NOFILE, (2, 100))
            client.connect(listening.getsockname())
            with pytest.raises(OSError, match="Too many open files"):
                listening.accept()
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 100))
            sock, _ = listening.accept()
            with sock:
                assert sock.getpeername() == client.getsockname()

    in_a_world(scenario)
