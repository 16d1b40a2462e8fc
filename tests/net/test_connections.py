"""Connections accepted and made: what their streams are, who waits on what, and that none is lost. On both kernels the same."""

from __future__ import annotations

import _socket
import gc
import os
import random
import socket
import sys
import warnings

import pytest

import bateau
from bateau import net
from bateau.net import unix
from support.sockets import TIMEOUT, Hanging


def clients_of(address, count):
    """Plain sockets that are connected to it, each of which has sent its number."""
    made = []
    for number in range(count):
        sock = socket.create_connection(address, TIMEOUT)
        sock.sendall(b"%d" % number)
        made.append(sock)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_accepts_that_are_cancelled_anywhere_lose_no_connection(entry, seed):
    """Before they begin, while they wait, and together with the connection that they wait for."""

    async def main():
        dice = random.Random(seed)
        found = []

        async def take(accept):
            async with await accept() as stream:
                with bateau.cleanup(20):
                    found.append(int(await stream.read(10)))

        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            clients = []
            while len(found) < 40:
                async with bateau.scope() as scope:
                    for _ in range(dice.randrange(1, 4)):
                        scope.spawn(take, dice.choice((listener.accept, listener.__anext__)))
                    for _ in range(dice.randrange(3)):
                        await bateau.yield_now()
                    if len(clients) < 40 and dice.random() < 0.7:
                        sock = socket.create_connection(listener.getsockname(), TIMEOUT)
                        sock.sendall(b"%d" % len(clients))
                        clients.append(sock)
                    for _ in range(dice.randrange(3)):
                        await bateau.yield_now()
                    scope.cancel()
            for sock in clients:
                sock.close()
        assert sorted(found) == list(range(40))

    entry.run(main)


def test_what_was_accepted_is_what_an_adopted_socket_would_be(entry):
    """Each property of the socket and of the stream around it; the line that accepted it is the one that is told if nobody closes it."""

    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            clients = clients_of(listener.getsockname(), 3)
            accepted = [await listener.accept(), listener.try_accept()]
            async for stream in listener:
                accepted.append(stream)
                break
            assert listener.open_count == 3
            for number, (stream, client) in enumerate(zip(accepted, clients, strict=True)):
                sock = stream._sock
                assert type(stream) is net.SocketStream and type(sock) is socket.socket
                assert stream.family is socket.AF_INET and stream._site[0] == __file__
                assert (sock.family, sock.type, sock.proto) == (client.family, client.type, listener._socks[0].proto)
                assert sock.gettimeout() == 0.0 and not os.get_blocking(stream.fileno())
                assert not os.get_inheritable(stream.fileno())
                assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert stream.getpeername() == client.getsockname() and stream.getsockname() == client.getpeername()
                assert stream.peer == f"127.0.0.1:{client.getsockname()[1]}"
                assert await stream.read(10) == b"%d" % number
                stream.close()
                assert stream.closed and stream.peer == f"127.0.0.1:{client.getsockname()[1]}"
                assert f"{stream.peer}" in repr(stream)
                client.close()
            assert listener.open_count == 0

    entry.run(main)


def test_an_accept_is_awaited_once(entry):
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            (client,) = clients_of(listener.getsockname(), 1)
            with client:
                accept = listener.accept()
                async with await accept:
                    with pytest.raises(RuntimeError, match="^this Accept was awaited before"):
                        await accept

    entry.run(main)


def test_two_addresses_of_one_listener_take_turns(entry):
    async def main():
        socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        ports = [sock.getsockname()[1] for sock in socks]
        async with net.Listener(socks, stream_type=net.SocketStream) as listener, bateau.scope() as scope:
            clients = [sock for port in ports for sock in clients_of(("127.0.0.1", port), 3)]
            order = []
            for _ in range(6):
                async with await listener.accept() as stream:
                    order.append(stream.getsockname()[1])
            assert order in ([*ports * 3], [*reversed(ports)] * 3)
            waiting = scope.spawn(listener.accept)  # on both
            await bateau.yield_now()
            clients += clients_of(("127.0.0.1", ports[1]), 1)
            (await waiting).close()
            for sock in clients:
                sock.close()

    entry.run(main)


def test_a_stream_class_of_ones_own_is_made_by_its_constructor(entry):
    made = []

    class Mine(net.SocketStream):
        def __init__(self, sock, *, on_close=None):
            super().__init__(sock, on_close=on_close)
            made.append(self)

    async def main():
        async with net.Listener([socket.create_server(("127.0.0.1", 0))], stream_type=Mine) as listener:
            (client,) = clients_of(listener.getsockname(), 1)
            with client:
                async with await listener.accept() as stream:
                    assert made == [stream]

    entry.run(main)


class Meta(type(net.SocketStream)):
    def __call__(cls, *args, **kwargs):
        stream = super().__call__(*args, **kwargs)
        stream.told = ["called"]
        return stream


class MadeByNew(net.SocketStream):
    def __new__(cls, *args, **kwargs):
        stream = super().__new__(cls)
        stream.told = ["new"]
        return stream


class MadeByMeta(net.SocketStream, metaclass=Meta):
    pass


@pytest.mark.parametrize(("kind", "told"), [(MadeByNew, ["new"]), (MadeByMeta, ["called"])])
def test_a_stream_class_is_called_whatever_makes_its_objects(entry, kind, told):
    """Its ``__init__`` is ours, its ``__new__`` or its metaclass is not."""

    async def main():
        async with net.Listener([socket.create_server(("127.0.0.1", 0))], stream_type=kind) as listener:
            (client,) = clients_of(listener.getsockname(), 1)
            with client:
                async with await listener.accept() as stream:
                    assert stream.told == told

    entry.run(main)


def test_who_stands_in_the_place_of_the_socket_class_is_asked(entry, monkeypatch):
    """As what leads connections through a proxy does: its methods are called, and what is accepted is of its class."""
    asked = []

    class Mine(socket.socket):
        def connect_ex(self, address):
            asked.append(address)
            return super().connect_ex(address)

    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            monkeypatch.setattr(socket, "socket", Mine)
            async with await net.connect_tcp(*listener.getsockname()) as client, await listener.accept() as served:
                assert asked == [listener.getsockname()]
                assert type(client._sock) is type(served._sock) is Mine
                await client.write(b"x")
                assert await served.read() == b"x"

    entry.run(main)


def test_an_accept_that_is_interrupted_in_a_constructor_closes_no_descriptor_twice(entry):
    """A signal's handler may raise there: the descriptor is the socket object's by then, and the traceback keeps that alive."""
    code = socket.socket.__init__.__code__
    numbers = []

    class Interrupted(Exception):
        pass

    def look(frame, event, arg):
        if frame.f_code is code and event == "line" and _socket.socket.fileno(frame.f_locals["self"]) >= 0:
            numbers.append(_socket.socket.fileno(frame.f_locals["self"]))
            raise Interrupted
        return look if frame.f_code is code else None

    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            client = socket.create_connection(listener.getsockname(), TIMEOUT)
            before = sys.gettrace()
            try:
                with pytest.raises(Interrupted) as caught:
                    sys.settrace(look)
                    try:
                        await listener.accept()
                    finally:
                        sys.settrace(before)
                other = os.open(os.devnull, os.O_RDONLY)  # where C has closed the number, it is this one's now
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ResourceWarning)  # Python's own accept leaves it to the collector
                    del caught
                    gc.collect()
                os.fstat(other)
                os.close(other)
                with pytest.raises(OSError):
                    os.fstat(numbers[0])
                with client:
                    assert client.recv(1) == b""  # its other end is closed
            finally:
                sys.settrace(before)

    entry.run(main)


def test_who_accepts_and_who_connects_say_what_they_wait_for(entry):
    async def main():
        with Hanging() as silent:
            async with await net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope() as scope:
                accepting = scope.spawn(listener.accept)
                next_ = scope.spawn(anext, listener)
                connecting = scope.spawn(net.connect_tcp, *silent)
                while connecting.waiting is None or connecting.waiting.resource.kind != "connection":
                    await bateau.yield_now()
                for task in (accepting, next_):
                    assert task.waiting.describe() == f"accept on {listener.describe()}"
                    assert task.waiting.resource is listener
                assert set(listener.waiters()) == {accepting.waiting, next_.waiting}
                assert connecting.waiting.describe() == f"connection to {silent[0]}:{silent[1]}"
                assert list(connecting.waiting.resource.waiters()) == [connecting.waiting]
                scope.cancel()

    entry.run(main)


def test_a_connect_in_a_cancelled_scope_opens_nothing(entry, tmp_path):
    """Law 13: also where it would not have to wait."""

    async def main():
        async with await unix.listen(tmp_path / "s") as at_path, await net.listen_tcp("127.0.0.1", 0) as at_port:
            before = set(os.listdir("/proc/self/fd"))
            for connect, to in ((unix.connect, (tmp_path / "s",)), (net.connect_tcp, at_port.getsockname())):
                with bateau.move_on_after(20) as cut:
                    cut.cancel()
                    await connect(*to)
                assert cut.cancelled_caught
            assert set(os.listdir("/proc/self/fd")) <= before
            for listener in (at_path, at_port):
                with pytest.raises(bateau.WouldBlock):
                    listener.try_accept()

    entry.run(main)


@pytest.mark.parametrize("name", ["a path", "an abstract name", "bytes"])
def test_unix_names_of_every_kind(entry, tmp_path, name):
    to = {
        "a path": tmp_path / "ä",
        "an abstract name": f"\0bateau test {os.getpid()}",
        "bytes": os.fsencode(tmp_path / "b"),
    }[name]

    async def main():
        async with (
            await unix.listen(to) as listener,
            await unix.connect(to) as client,
            await listener.accept() as served,
        ):
            assert type(client) is type(served) is unix.UnixStream
            assert client.getpeername() == served.getsockname() == listener.getsockname()
            await client.write(b"x")
            assert await served.read() == b"x"

    entry.run(main)


def test_a_unix_listener_without_room_is_waited_for(entry, tmp_path):
    async def main():
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "s"))
            listening.listen(0)
            async with await unix.connect(tmp_path / "s"), bateau.scope() as scope:
                second = scope.spawn(unix.connect, tmp_path / "s")
                for _ in range(5):
                    await bateau.yield_now()
                assert not second.done
                listening.accept()[0].close()
                (await second).close()
                listening.accept()[0].close()

    entry.run(main)
