"""Small programs over sockets, pipes and pollers, each written once: what they see must be the same on Linux and in a world.

A scene is a function of a `Notes`, which it tells what it sees. Descriptors and ports are left out or replaced by what they are
compared with, so that two runs can be compared line by line.
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

NAMES = {
    select.EPOLLIN: "IN",
    select.EPOLLPRI: "PRI",
    select.EPOLLOUT: "OUT",
    select.EPOLLERR: "ERR",
    select.EPOLLHUP: "HUP",
    select.EPOLLRDHUP: "RDHUP",
    select.POLLNVAL: "NVAL",
}
ASKED = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI

Scene = Callable[["Notes"], None]
scenes: dict[str, Scene] = {}


def scene(fn: Scene) -> Scene:
    scenes[fn.__name__] = fn
    return fn


def words(mask: int) -> str:
    return "|".join(name for bit, name in NAMES.items() if mask & bit) or "0"


class Notes:
    """What a scene has seen, and what it opened, which is closed at its end."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.lines: list[str] = []
        self.stack = ExitStack()

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    def say(self, what: str, value: Any) -> None:
        self.lines.append(f"{what}: {value!r}")

    def tries(self, what: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Call it, and note what it gives or raises."""
        try:
            value = fn(*args)
        except OSError as error:
            code = errno.errorcode.get(error.errno, str(error.errno)) if error.errno is not None else str(error)
            self.lines.append(f"{what}: {type(error).__name__} {code}")
            return None
        except (ValueError, TypeError, OverflowError) as error:
            self.lines.append(f"{what}: {type(error).__name__}: {error}")
            return None
        shown = "a socket" if isinstance(value, socket.socket) else repr(value)
        self.lines.append(f"{what}: {shown}")
        return value

    def quietly(self, what: str, fn: Callable[..., Any], *args: Any) -> Any:
        """As `tries`, for values that differ from run to run: only that there was one is noted."""
        before = len(self.lines)
        value = self.tries(what, fn, *args)
        if value is not None:
            self.lines[before:] = [f"{what}: something"]
        return value

    def mask(self, what: str, fd: Any) -> None:
        """What epoll and poll say about it."""
        poller = select.poll()
        poller.register(fd, ASKED)
        seen = poller.poll(0)
        with select.epoll() as epoll:
            epoll.register(fd, ASKED)
            also = epoll.poll(0)
        one, two = (dict(found).get(fd if isinstance(fd, int) else fd.fileno(), 0) for found in (seen, also))
        self.lines.append(f"{what}: {words(one)}" + ("" if one == two else f", by epoll {words(two)}"))

    def until(self, fd: Any, mask: int) -> None:
        """Wait until it says so: on a real system what was sent may take a moment."""
        poller = select.poll()
        poller.register(fd, mask)
        assert poller.poll(5000), "it never came"

    # -- things to look at -------------------------------------------------------------------------------------------

    def keep(self, thing: Any) -> Any:
        self.stack.callback(thing.close)
        return thing

    def fd(self, number: int) -> int:
        def close() -> None:
            try:
                os.close(number)
            except OSError:
                return

        self.stack.callback(close)
        return number

    def tcp(self, family: int = socket.AF_INET) -> socket.socket:
        return self.keep(socket.socket(family, socket.SOCK_STREAM))

    def udp(self, family: int = socket.AF_INET) -> socket.socket:
        return self.keep(socket.socket(family, socket.SOCK_DGRAM))

    def unix(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        return self.keep(socket.socket(socket.AF_UNIX, kind))

    def listener(self, backlog: int = 16, family: int = socket.AF_INET, host: str = "127.0.0.1") -> socket.socket:
        found = self.tcp(family)
        found.bind((host, 0))
        found.listen(backlog)
        return found

    def connected(self, listening: socket.socket | None = None) -> tuple[socket.socket, socket.socket]:
        """A client and what the server has accepted."""
        listening = listening or self.listener()
        client = self.tcp(listening.family)
        client.connect(listening.getsockname()[:2])
        server = self.keep(listening.accept()[0])
        return client, server

    def pair(self, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
        one, two = socket.socketpair(socket.AF_UNIX, kind)
        return self.keep(one), self.keep(two)

    def path(self, name: str) -> str:
        return os.path.join(self.place, name)


# -- TCP ---------------------------------------------------------------------------------------------------------------


@scene
def fresh_tcp(n: Notes) -> None:
    sock = n.tcp()
    n.mask("fresh", sock)
    n.tries("name", sock.getsockname)
    n.tries("peer", sock.getpeername)
    for option in (socket.SO_ERROR, socket.SO_TYPE, socket.SO_DOMAIN, socket.SO_PROTOCOL, socket.SO_ACCEPTCONN):
        n.tries(f"option {option}", sock.getsockopt, socket.SOL_SOCKET, option)
    sock.setblocking(False)
    n.tries("recv", sock.recv, 10)
    n.tries("send", sock.send, b"x")
    n.tries("send nothing", sock.send, b"")
    n.tries("shutdown", sock.shutdown, socket.SHUT_WR)
    n.tries("accept", sock.accept)
    n.tries("sendto", sock.sendto, b"x", ("127.0.0.1", 9))
    n.tries("recv 0", sock.recv, 0)
    n.tries("recv -1", sock.recv, -1)
    n.say("family", (sock.family, sock.type, sock.proto, sock.timeout, sock.getblocking()))


@scene
def listen_without_bind(n: Notes) -> None:
    sock = n.tcp()
    n.tries("listen", sock.listen)
    n.mask("listening", sock)
    n.say("has a port", sock.getsockname()[1] > 0)
    n.tries("address", lambda: sock.getsockname()[0])
    n.tries("peer", sock.getpeername)
    sock.setblocking(False)
    n.tries("accept", sock.accept)
    n.tries("recv", sock.recv, 1)
    n.tries("send", sock.send, b"x")
    n.tries("connect", sock.connect, ("127.0.0.1", 1))
    n.tries("accepting", sock.getsockopt, socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    n.tries("listen again", sock.listen, 5)


def _dead_port(n: Notes) -> tuple[str, int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


@scene
def refused_without_waiting(n: Notes) -> None:
    sock = n.tcp()
    sock.setblocking(False)
    n.tries("connect_ex", sock.connect_ex, _dead_port(n))
    n.until(sock, select.POLLOUT)
    n.mask("refused", sock)
    n.tries("error", sock.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    n.mask("after that", sock)
    n.tries("error again", sock.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    n.tries("recv", sock.recv, 5)
    n.tries("send", sock.send, b"x")
    n.tries("peer", sock.getpeername)
    n.tries("connect again", sock.connect_ex, _dead_port(n))
    n.tries("and again", sock.connect_ex, n.listener().getsockname())
    n.until(sock, select.POLLOUT)
    n.mask("connected", sock)


@scene
def refused_and_not_asked(n: Notes) -> None:
    sock = n.tcp()
    sock.setblocking(False)
    port = _dead_port(n)
    n.tries("connect_ex", sock.connect_ex, port)
    n.until(sock, select.POLLOUT)
    n.tries("connect_ex tells", sock.connect_ex, port)
    n.mask("told", sock)
    n.tries("connect_ex", sock.connect_ex, port)


@scene
def refused_then_used(n: Notes) -> None:
    for call in ("recv", "send"):
        sock = n.tcp()
        sock.setblocking(False)
        sock.connect_ex(_dead_port(n))
        n.until(sock, select.POLLOUT)
        n.tries(call, getattr(sock, call), 5 if call == "recv" else b"x")
        n.tries(call, getattr(sock, call), 5 if call == "recv" else b"x")


@scene
def refused_while_waiting(n: Notes) -> None:
    sock = n.tcp()
    n.tries("connect", sock.connect, _dead_port(n))
    n.mask("after it", sock)
    n.tries("connect", sock.connect, n.listener().getsockname())
    n.mask("connected", sock)
    sock = n.tcp()
    sock.settimeout(5)
    n.tries("with a timeout", sock.connect, _dead_port(n))
    n.tries("connect_ex", sock.connect_ex, _dead_port(n))


@scene
def connecting(n: Notes) -> None:
    listening = n.listener()
    address = listening.getsockname()
    sock = n.tcp()
    sock.setblocking(False)
    n.tries("connect", sock.connect, address)
    n.until(sock, select.POLLOUT)
    n.mask("connected", sock)
    n.tries("connect_ex", sock.connect_ex, address)
    n.tries("connect_ex", sock.connect_ex, address)
    n.tries("shutdown", sock.shutdown, 7)
    n.mask("listener", listening)
    server, peer = listening.accept()
    n.keep(server)
    n.say("names", (peer == sock.getsockname(), sock.getpeername() == address, server.getpeername() == peer))
    n.say("modes", (server.gettimeout(), server.family, server.type))
    n.mask("listener", listening)
    n.mask("server", server)
    other = n.tcp()
    n.tries("blocking connect", other.connect, address)
    n.tries("twice", other.connect, address)
    n.tries("bind when connected", other.bind, ("127.0.0.1", 0))
    n.tries("listen when connected", other.listen)


@scene
def talk(n: Notes) -> None:
    client, server = n.connected()
    n.tries("sendall", client.sendall, b"hello world")
    n.until(server, select.POLLIN)
    n.mask("server", server)
    n.tries("peek", server.recv, 5, socket.MSG_PEEK)
    n.tries("recv", server.recv, 5)
    n.tries("recvfrom", server.recvfrom, 1)
    buffer = bytearray(3)
    n.tries("recv_into", server.recv_into, buffer)
    n.say("buffer", buffer)
    n.tries("recv_into some", server.recv_into, buffer, 1)
    n.tries("recv_into too many", server.recv_into, buffer, 4)
    n.tries("recvmsg", server.recvmsg, 100)
    server.setblocking(False)
    n.tries("recv", server.recv, 5)
    n.tries("recv waitall", server.recv, 5, socket.MSG_WAITALL)
    server.setblocking(True)
    n.tries("recv dontwait", server.recv, 5, socket.MSG_DONTWAIT)
    n.tries("sendmsg", server.sendmsg, [b"a", bytearray(b"bc"), memoryview(b"def")])
    n.tries("waitall", client.recv, 6, socket.MSG_WAITALL)
    n.tries("send", server.send, array.array("i", [1, 2]))
    n.tries("recv", client.recv, 100)
    n.tries("send text", client.send, "text")
    n.tries("sendto", client.sendto, b"to", ("127.0.0.1", 1))
    n.until(server, select.POLLIN)
    target = [bytearray(1), bytearray(5)]
    n.tries("recvmsg_into", server.recvmsg_into, target)
    n.say("target", target)


@scene
def end_of_stream(n: Notes) -> None:
    client, server = n.connected()
    server.sendall(b"last")
    server.close()
    n.until(client, select.POLLRDHUP)
    n.mask("client", client)
    n.tries("recv", client.recv, 2)
    n.mask("client", client)
    n.tries("recv", client.recv, 10)
    n.tries("recv", client.recv, 10)
    n.mask("client", client)
    n.tries("peer", lambda: client.getpeername()[0])
    n.tries("send into the void", client.send, b"x")
    n.until(client, select.POLLHUP)
    n.mask("client", client)
    n.tries("recv", client.recv, 10)
    n.tries("send", client.send, b"x")
    n.tries("send", client.send, b"x")
    n.mask("client", client)
    n.tries("peer", client.getpeername)
    n.tries("shutdown", client.shutdown, socket.SHUT_WR)


@scene
def error_after_end(n: Notes) -> None:
    client, server = n.connected()
    server.close()
    n.until(client, select.POLLRDHUP)
    client.send(b"x")
    n.until(client, select.POLLHUP)
    n.tries("error", client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    n.mask("client", client)


@scene
def half_closed(n: Notes) -> None:
    client, server = n.connected()
    client.sendall(b"question")
    n.tries("shutdown", client.shutdown, socket.SHUT_WR)
    n.mask("client", client)
    n.tries("send", client.send, b"x")
    n.tries("shutdown again", client.shutdown, socket.SHUT_WR)
    n.until(server, select.POLLRDHUP)
    n.mask("server", server)
    n.tries("recv", server.recv, 100)
    n.tries("recv", server.recv, 100)
    n.mask("server", server)
    n.tries("answer", server.sendall, b"answer")
    n.until(client, select.POLLIN)
    n.mask("client", client)
    n.tries("recv", client.recv, 100)
    n.tries("peer", lambda: client.getpeername()[0])
    server.close()
    n.until(client, select.POLLHUP)
    n.mask("client", client)
    n.tries("recv", client.recv, 100)
    n.tries("peer", client.getpeername)
    n.tries("error", client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    n.tries("send", client.send, b"x")


@scene
def passive_close(n: Notes) -> None:
    client, server = n.connected()
    client.close()
    n.until(server, select.POLLRDHUP)
    n.tries("shutdown", server.shutdown, socket.SHUT_WR)
    n.until(server, select.POLLHUP)
    n.mask("server", server)
    n.tries("peer", server.getpeername)
    n.tries("shutdown", server.shutdown, socket.SHUT_RDWR)
    n.tries("recv", server.recv, 1)


@scene
def closed_unread(n: Notes) -> None:
    client, server = n.connected()
    client.sendall(b"never read")
    n.until(server, select.POLLIN)
    server.close()
    n.until(client, select.POLLHUP)
    n.mask("client", client)
    n.tries("recv", client.recv, 10)
    n.mask("client", client)
    n.tries("recv", client.recv, 10)
    n.tries("send", client.send, b"x")
    n.tries("peer", client.getpeername)
    n.tries("connect", client.connect, ("127.0.0.1", 1))


@scene
def closed_unread_with_data_for_us(n: Notes) -> None:
    client, server = n.connected()
    server.sendall(b"for you")
    client.sendall(b"never read")
    n.until(server, select.POLLIN)
    n.until(client, select.POLLIN)
    server.close()
    n.until(client, select.POLLHUP)
    n.mask("client", client)
    n.tries("recv", client.recv, 100)
    n.tries("recv", client.recv, 100)
    n.tries("recv", client.recv, 100)


@scene
def reset_seen_by_a_writer(n: Notes) -> None:
    client, server = n.connected()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    n.until(client, select.POLLHUP)
    n.mask("client", client)
    n.tries("send", client.send, b"x")
    n.tries("send", client.send, b"x")
    n.tries("recv", client.recv, 1)


@scene
def shut_for_reading(n: Notes) -> None:
    client, server = n.connected()
    n.tries("shutdown", client.shutdown, socket.SHUT_RD)
    n.mask("client", client)
    n.tries("recv", client.recv, 1)
    n.tries("send", client.send, b"still")
    n.tries("recv at the other end", server.recv, 100)
    n.mask("server", server)
    n.tries("shutdown both", client.shutdown, socket.SHUT_RDWR)
    n.mask("client", client)
    n.until(server, select.POLLRDHUP)
    n.mask("server", server)


@scene
def shut_for_reading_with_data(n: Notes) -> None:
    client, server = n.connected()
    server.sendall(b"here")
    n.until(client, select.POLLIN)
    client.shutdown(socket.SHUT_RD)
    n.tries("recv", client.recv, 2)
    n.tries("recv", client.recv, 20)
    n.tries("recv", client.recv, 20)
    server.sendall(b"more")
    time.sleep(0.02)
    n.tries("recv", client.recv, 20)


@scene
def both_shut(n: Notes) -> None:
    client, server = n.connected()
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    n.until(client, select.POLLHUP)
    n.until(server, select.POLLHUP)
    n.mask("client", client)
    n.mask("server", server)
    n.tries("peer", client.getpeername)
    n.tries("peer", server.getpeername)


@scene
def listener_shut(n: Notes) -> None:
    listening = n.listener()
    client = n.tcp()
    client.connect(listening.getsockname())
    address = listening.getsockname()
    n.tries("shutdown writing", listening.shutdown, socket.SHUT_WR)
    n.tries("shutdown", listening.shutdown, socket.SHUT_RDWR)
    n.mask("listener", listening)
    n.tries("accept", listening.accept)
    n.tries("name", lambda: listening.getsockname() == address)
    n.until(client, select.POLLHUP)
    n.mask("its client", client)
    n.tries("recv", client.recv, 1)
    n.tries("connect", n.tcp().connect, address)
    n.tries("listen again", listening.listen)
    n.tries("connect", n.tcp().connect, address)


@scene
def listener_closed(n: Notes) -> None:
    listening = n.listener()
    client = n.tcp()
    client.connect(listening.getsockname())
    listening.close()
    n.until(client, select.POLLHUP)
    n.mask("client", client)
    n.tries("recv", client.recv, 1)


@scene
def accepted_late(n: Notes) -> None:
    listening = n.listener()
    client = n.tcp()
    client.connect(listening.getsockname())
    client.sendall(b"early")
    client.close()
    server, _ = listening.accept()
    n.keep(server)
    n.until(server, select.POLLRDHUP)
    n.mask("server", server)
    n.tries("recv", server.recv, 100)
    n.tries("recv", server.recv, 100)


@scene
def accepted_after_a_reset(n: Notes) -> None:
    listening = n.listener()
    client = n.tcp()
    client.connect(listening.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    time.sleep(0.02)
    server, _ = listening.accept()
    n.keep(server)
    n.mask("server", server)
    n.tries("recv", server.recv, 100)
    n.tries("recv", server.recv, 100)


@scene
def backlog(n: Notes) -> None:
    listening = n.listener(1)
    clients = [n.tcp() for _ in range(4)]
    for client in clients:
        client.setblocking(False)
        n.tries("connect_ex", client.connect_ex, listening.getsockname())
        time.sleep(0.02)
        n.mask("client", client)
    n.tries("EALREADY", clients[3].connect_ex, listening.getsockname())
    n.tries("send", clients[3].send, b"x")
    n.tries("recv", clients[3].recv, 1)
    n.tries("peer", clients[3].getpeername)
    n.keep(listening.accept()[0])
    n.keep(listening.accept()[0])
    n.until(clients[3], select.POLLOUT)  # it tries again after a second
    n.mask("client", clients[3])


@scene
def ports_in_use(n: Notes) -> None:
    listening = n.listener()
    address = listening.getsockname()
    for reuse in (0, 1):
        sock = n.tcp()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        n.tries(f"bind, reuse {reuse}", sock.bind, address)
        any_address = n.tcp()
        any_address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        n.tries(f"bind everywhere, reuse {reuse}", any_address.bind, ("", address[1]))
        other = n.tcp()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        n.tries(f"bind elsewhere, reuse {reuse}", other.bind, ("127.0.0.2", address[1]))


@scene
def two_bound_one_listens(n: Notes) -> None:
    one, two = n.tcp(), n.tcp()
    for sock in (one, two):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
    n.tries("bind", two.bind, one.getsockname())
    n.tries("listen", one.listen)
    n.tries("listen", two.listen)


@scene
def port_shared(n: Notes) -> None:
    one, two, three = n.tcp(), n.tcp(), n.tcp()
    for sock in (one, two):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", 0))
    n.tries("bind", two.bind, one.getsockname())
    n.tries("listen", one.listen)
    n.tries("listen", two.listen)
    n.tries("bind without", three.bind, one.getsockname())


@scene
def port_at_rest(n: Notes) -> None:
    for first in ("server", "client"):
        for reuse in (0, 1):
            listening = n.tcp()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            address = listening.getsockname()
            client, server = n.connected(listening)
            listening.close()
            ends = (server, client) if first == "server" else (client, server)
            ends[0].close()
            n.until(ends[1], select.POLLRDHUP)
            other = n.tcp()
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            if first == "server":
                n.tries(f"half closed, reuse {reuse}", other.bind, address)
            ends[1].close()
            time.sleep(0.02)
            again = n.tcp()
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            other.close()
            n.tries(f"{first} closed first, reuse {reuse}", again.bind, address)


@scene
def bad_addresses(n: Notes) -> None:
    sock = n.tcp()
    n.tries("far away", sock.bind, ("192.0.2.1", 0))
    n.tries("port too high", sock.bind, ("127.0.0.1", 65536))
    n.tries("port too low", sock.connect, ("127.0.0.1", -1))
    n.tries("text", sock.bind, "127.0.0.1:80")
    n.tries("one part", sock.bind, ("127.0.0.1",))
    n.tries("three parts", sock.bind, ("127.0.0.1", 0, 0))
    n.tries("port as text", sock.bind, ("127.0.0.1", "80"))
    n.tries("host as number", sock.bind, (5, 80))
    n.tries("other family", sock.bind, ("::1", 0))
    n.tries("bytes", sock.bind, (b"127.0.0.1", 0))
    n.tries("twice", sock.bind, ("127.0.0.1", 0))
    six = n.tcp(socket.AF_INET6)
    n.tries("four in six", six.bind, ("127.0.0.1", 0))
    n.tries("five parts", six.bind, ("::1", 0, 0, 0, 0))
    n.tries("broadcast", n.tcp().connect, ("255.255.255.255", 80))


@scene
def closed_objects(n: Notes) -> None:
    sock = n.tcp()
    sock.close()
    sock.close()
    n.say("fileno", sock.fileno())
    n.tries("recv", sock.recv, 1)
    n.tries("send", sock.send, b"x")
    n.tries("name", sock.getsockname)
    n.tries("setblocking", sock.setblocking, False)
    n.tries("bind", sock.bind, ("127.0.0.1", 0))
    n.say("repr", "closed" in repr(sock))
    n.tries("option", sock.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    n.tries("detach", sock.detach)
    n.tries("dup", sock.dup)


@scene
def duplicates(n: Notes) -> None:
    client, server = n.connected()
    twin = n.keep(client.dup())
    n.say("another number", twin.fileno() != client.fileno())
    client.close()
    n.tries("send", twin.send, b"still open")
    n.tries("recv", server.recv, 100)
    n.say("timeout", twin.gettimeout())
    fd = twin.detach()
    n.say("detached", twin.fileno())
    n.tries("send", twin.send, b"x")
    again = n.keep(socket.socket(fileno=fd))
    n.say("again", (again.family, again.type, again.proto))
    n.tries("send", again.send, b"again")
    n.tries("os.write", os.write, again.fileno(), b" and by number")
    n.tries("recv", server.recv, 100)
    n.tries("os.read", lambda: os.write(server.fileno(), b"back") and os.read(again.fileno(), 10))
    with socket.fromfd(again.fileno(), socket.AF_INET, socket.SOCK_STREAM) as other:
        n.tries("send", other.send, b"from fd")
    n.tries("recv", server.recv, 100)
    again.close()
    n.until(server, select.POLLRDHUP)
    n.tries("recv", server.recv, 100)


@scene
def timeouts(n: Notes) -> None:
    client, server = n.connected()
    client.settimeout(0.05)
    begin = time.monotonic()
    n.tries("recv", client.recv, 1)
    n.say("took its time", 0.04 < time.monotonic() - begin < 2)
    listening = n.listener()
    listening.settimeout(0.02)
    n.tries("accept", listening.accept)
    n.tries("negative", client.settimeout, -1)
    n.tries("text", client.settimeout, "1")
    client.settimeout(0)
    n.say("not blocking", (client.getblocking(), client.gettimeout()))
    client.setblocking(True)
    n.say("blocking", (client.getblocking(), client.gettimeout()))
    client.settimeout(2)
    server.sendall(b"x")
    n.tries("recv", client.recv, 1)
    other = n.tcp()
    other.settimeout(0.3)
    other.connect(listening.getsockname())
    accepted, _ = listening.accept()
    n.keep(accepted)
    n.say("accepted", (accepted.gettimeout(), accepted.getblocking()))


@scene
def full_buffers(n: Notes) -> None:
    client, server = n.connected()
    client.setblocking(False)
    sent = 0
    try:
        while True:
            sent += client.send(b"x" * 4096)
    except BlockingIOError:
        n.say("full", sent > 4096)
    time.sleep(0.05)
    while True:  # what is on its way makes room
        try:
            sent += client.send(b"x" * 65536)
        except BlockingIOError:
            break
    n.mask("full", client)
    n.tries("send", client.send, b"x")
    got = 0
    server.settimeout(2)
    while got < sent:
        got += len(server.recv(1 << 20))
    n.say("all of it", got == sent)
    n.until(client, select.POLLOUT)
    n.mask("drained", client)


@scene
def timeout_in_the_middle_of_sendall(n: Notes) -> None:
    client, _server = n.connected()
    client.settimeout(0.05)
    n.tries("sendall", client.sendall, b"x" * 50_000_000)
    n.mask("client", client)


@scene
def options(n: Notes) -> None:
    sock = n.tcp()
    plain = [
        (socket.SOL_SOCKET, socket.SO_REUSEADDR),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.SOL_SOCKET, socket.SO_BROADCAST),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        (socket.IPPROTO_IP, socket.IP_TTL),
    ]
    for level, name in plain:
        n.tries(f"{level} {name}", sock.getsockopt, level, name)
        n.tries("set", sock.setsockopt, level, name, 5)
        n.tries("is", sock.getsockopt, level, name)
    n.tries("as bytes", sock.getsockopt, socket.IPPROTO_TCP, socket.TCP_NODELAY, 4)
    n.tries("set as bytes", sock.setsockopt, socket.SOL_SOCKET, socket.SO_KEEPALIVE, struct.pack("i", 0))
    n.tries("is", sock.getsockopt, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    n.tries("linger", sock.getsockopt, socket.SOL_SOCKET, socket.SO_LINGER, 8)
    n.tries("set linger", sock.setsockopt, socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
    n.tries("is", sock.getsockopt, socket.SOL_SOCKET, socket.SO_LINGER, 8)
    for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        n.tries("set buffer", sock.setsockopt, socket.SOL_SOCKET, name, 10000)
        n.tries("is", sock.getsockopt, socket.SOL_SOCKET, name)
        n.tries("small", sock.setsockopt, socket.SOL_SOCKET, name, 1)
        n.tries("is", sock.getsockopt, socket.SOL_SOCKET, name)
    n.tries("unknown", sock.getsockopt, socket.SOL_SOCKET, 4000)
    n.tries("unknown", sock.setsockopt, socket.IPPROTO_TCP, 4000, 1)
    n.tries("of IPv6", sock.getsockopt, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    udp = n.udp()
    n.tries("of TCP on UDP", udp.setsockopt, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    unix = n.unix()
    n.tries("of TCP on Unix", unix.setsockopt, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    n.tries("keepalive on Unix", unix.setsockopt, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for one in (udp, unix):
        n.tries("protocol", one.getsockopt, socket.SOL_SOCKET, socket.SO_PROTOCOL)
        n.tries("type", one.getsockopt, socket.SOL_SOCKET, socket.SO_TYPE)


@scene
def options_are_inherited(n: Notes) -> None:
    listening = n.listener()
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _, server = n.connected(listening)
    n.tries("nodelay", server.getsockopt, socket.IPPROTO_TCP, socket.TCP_NODELAY)
    n.tries("keepalive", server.getsockopt, socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@scene
def six(n: Notes) -> None:
    listening = n.listener(family=socket.AF_INET6, host="::1")
    client, server = n.connected(listening)
    n.say("names", (client.getpeername()[0], len(client.getsockname()), server.getpeername() == client.getsockname()))
    n.tries("v6only", listening.getsockopt, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    client.sendall(b"six")
    n.tries("recv", server.recv, 10)


@scene
def both_families(n: Notes) -> None:
    listening = n.tcp(socket.AF_INET6)
    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.bind(("::", 0))
    listening.listen()
    port = listening.getsockname()[1]
    n.tries("four is taken", n.tcp().bind, ("0.0.0.0", port))
    n.tries("one of four is taken", n.tcp().bind, ("127.0.0.1", port))
    four = n.tcp()
    four.connect(("127.0.0.1", port))
    server, peer = listening.accept()
    n.keep(server)
    n.say("peer", peer[0])
    n.say("name", server.getsockname()[0])
    mapped = n.tcp(socket.AF_INET6)
    n.tries("mapped", mapped.connect, ("::ffff:127.0.0.1", port))
    n.say("its name", mapped.getsockname()[0])


@scene
def only_six(n: Notes) -> None:
    listening = n.tcp(socket.AF_INET6)
    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.bind(("::", 0))
    listening.listen()
    port = listening.getsockname()[1]
    n.tries("connect by four", n.tcp().connect, ("127.0.0.1", port))
    n.tries("four is free", n.tcp().bind, ("0.0.0.0", port))


@scene
def wildcard(n: Notes) -> None:
    listening = n.tcp()
    listening.bind(("", 0))
    n.say("bound", listening.getsockname()[0])
    listening.listen()
    client = n.tcp()
    n.tries("connect to any", client.connect, ("0.0.0.0", listening.getsockname()[1]))
    n.say("names", (client.getpeername()[0], client.getsockname()[0]))
    server, _ = listening.accept()
    n.keep(server)
    n.say("server", server.getsockname()[0])
    bound = n.tcp()
    bound.bind(("127.0.0.1", 0))
    n.tries("bound client", bound.connect, ("127.0.0.1", listening.getsockname()[1]))


@scene
def files(n: Notes) -> None:
    client, server = n.connected()
    with client.makefile("rwb") as file, server.makefile("r", encoding="utf-8", newline="\n") as lines:
        file.write(b"one\ntwo\n")
        file.flush()
        n.tries("line", lines.readline)
        n.tries("line", lines.readline)
        server.sendall(b"12345")
        n.tries("read", file.read, 5)
        client.close()
        n.say("kept open", client.fileno() >= 0)
    n.say("closed with its file", client.fileno())
    n.until(server, select.POLLRDHUP)
    n.tries("end", server.recv, 1)


@scene
def functions(n: Notes) -> None:
    server = n.keep(socket.create_server(("127.0.0.1", 0)))
    n.say("server", (server.family, server.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)))
    client = n.keep(socket.create_connection(server.getsockname(), timeout=2))
    n.say("client", (client.gettimeout(), client.getpeername() == server.getsockname()))
    n.tries("refused", socket.create_connection, _dead_port(n), 2)
    n.tries("dualstack", socket.has_dualstack_ipv6)
    n.say("instances", (isinstance(server, socket.socket), isinstance(client, socket.SocketType)))
    n.tries("in use", lambda: socket.create_server(server.getsockname()))


# -- UDP ---------------------------------------------------------------------------------------------------------------


@scene
def fresh_udp(n: Notes) -> None:
    sock = n.udp()
    n.mask("fresh", sock)
    n.tries("name", sock.getsockname)
    n.tries("peer", sock.getpeername)
    sock.setblocking(False)
    n.tries("recv", sock.recv, 10)
    n.tries("send", sock.send, b"x")
    n.tries("listen", sock.listen)
    n.tries("accept", sock.accept)
    n.tries("shutdown", sock.shutdown, socket.SHUT_RDWR)
    n.tries("to port 0", sock.sendto, b"x", ("127.0.0.1", 0))
    n.tries("too large", sock.sendto, bytes(65508), ("127.0.0.1", 9))
    n.tries("to everybody", sock.sendto, b"x", ("255.255.255.255", 9))
    n.say("bound by now", (sock.getsockname()[0], sock.getsockname()[1] > 0))


@scene
def datagrams(n: Notes) -> None:
    one, two = n.udp(), n.udp()
    one.bind(("127.0.0.1", 0))
    n.tries("sendto", two.sendto, b"hello", one.getsockname())
    n.tries("sendto", two.sendto, b"", one.getsockname())
    n.tries("sendto", two.sendto, b"long datagram", 0, one.getsockname())
    n.until(one, select.POLLIN)
    n.mask("receiver", one)
    n.say("sender's name", two.getsockname()[0])
    n.tries("peek", one.recv, 3, socket.MSG_PEEK)
    data, address = one.recvfrom(100)
    n.say("first", (data, address == ("127.0.0.1", two.getsockname()[1])))
    n.tries("empty", one.recv, 100)
    n.tries("cut", lambda: one.recvmsg(4)[:3])
    one.setblocking(False)
    n.tries("nothing", one.recv, 100)
    n.mask("receiver", one)
    n.tries("back", one.sendto, b"back", address)
    n.until(two, select.POLLIN)
    n.tries("recvfrom", lambda: two.recvfrom(10)[0])
    buffer = bytearray(10)
    one.sendto(b"into", address)
    n.until(two, select.POLLIN)
    n.tries("recvfrom_into", lambda: two.recvfrom_into(buffer)[0])
    n.tries("recv 0 from nothing", one.recv, 0)


@scene
def connected_udp(n: Notes) -> None:
    server, client, stranger = n.udp(), n.udp(), n.udp()
    server.bind(("127.0.0.1", 0))
    n.tries("connect", client.connect, server.getsockname())
    n.tries("peer", lambda: client.getpeername() == server.getsockname())
    n.say("name", client.getsockname()[0])
    n.tries("send", client.send, b"hi")
    n.until(server, select.POLLIN)
    n.tries("recv", server.recv, 10)
    stranger.sendto(b"from another", client.getsockname())
    time.sleep(0.02)
    client.setblocking(False)
    n.tries("only its own", client.recv, 10)
    server.sendto(b"mine", client.getsockname())
    n.until(client, select.POLLIN)
    n.tries("only its own", client.recv, 10)
    n.tries("elsewhere", client.sendto, b"x", stranger.getsockname())
    n.tries("shutdown", client.shutdown, socket.SHUT_RD)
    n.mask("shut", client)
    n.tries("recv", client.recv, 10)
    n.tries("shutdown", client.shutdown, socket.SHUT_WR)
    n.mask("shut", client)
    n.tries("send", client.send, b"x")


@scene
def nobody_has_that_port(n: Notes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    loose = n.udp()
    n.tries("not connected", loose.sendto, b"x", address)
    time.sleep(0.02)
    n.mask("not connected", loose)
    sock = n.udp()
    sock.connect(address)
    sock.setblocking(False)
    n.tries("send", sock.send, b"x")
    n.until(sock, select.POLLERR)
    n.mask("told", sock)
    n.tries("recv", sock.recv, 10)
    n.tries("recv", sock.recv, 10)
    n.tries("send", sock.send, b"x")
    time.sleep(0.02)
    n.tries("send", sock.send, b"x")
    time.sleep(0.02)
    n.tries("error", sock.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)


@scene
def udp_ports(n: Notes) -> None:
    one = n.udp()
    one.bind(("127.0.0.1", 0))
    n.tries("taken", n.udp().bind, one.getsockname())
    n.tries("everywhere", n.udp().bind, ("", one.getsockname()[1]))
    n.tries("elsewhere", n.udp().bind, ("127.0.0.9", one.getsockname()[1]))
    n.tries("twice", one.bind, ("127.0.0.1", 0))
    tcp = n.tcp()
    n.tries("TCP has ports of its own", tcp.bind, one.getsockname())
    first, second = n.udp(), n.udp()
    for sock in (first, second):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind(("127.0.0.1", 0))
    n.tries("shared", second.bind, first.getsockname())
    n.udp().sendto(b"for whom", first.getsockname())
    n.until(second, select.POLLIN)
    n.mask("first", first)
    n.mask("second", second)


@scene
def broadcast(n: Notes) -> None:
    one = n.udp()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    n.tries("broadcast option", one.getsockopt, socket.SOL_SOCKET, socket.SO_BROADCAST)
    n.tries("connect", one.connect, ("127.0.0.1", 9))


# -- Unix --------------------------------------------------------------------------------------------------------------


@scene
def fresh_unix(n: Notes) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        sock = n.unix(kind)
        n.mask("fresh", sock)
        n.tries("name", sock.getsockname)
        n.tries("peer", sock.getpeername)
        sock.setblocking(False)
        n.tries("recv", sock.recv, 10)
        n.tries("send", sock.send, b"x")
        n.tries("listen", sock.listen)
        n.tries("accept", sock.accept)
        n.tries("shutdown", sock.shutdown, socket.SHUT_WR)
        n.tries("connect to nothing", sock.connect, n.path("nothing"))
        n.tries("connect to nobody", sock.connect, "\0nobody is here")
        n.tries("too long", sock.connect, "x" * 200)
        n.tries("a number", sock.connect, 5)


@scene
def pairs(n: Notes) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        one, two = n.pair(kind)
        n.say("kind", (one.family, one.type, one.proto))
        n.mask("one", one)
        n.tries("names", lambda one=one: (one.getsockname(), one.getpeername()))
        n.tries("send", one.send, b"hello")
        n.tries("send", one.send, b"world")
        n.mask("two", two)
        n.tries("peek", two.recv, 100, socket.MSG_PEEK)
        n.tries("recv", two.recv, 3)
        n.tries("recv", two.recv, 100)
        two.setblocking(False)
        n.tries("recv", two.recv, 100)
        n.tries("send empty", one.send, b"")
        n.mask("two", two)
        n.tries("recv", two.recv, 100)
        n.tries("sendto", one.sendto, b"x", "\0nobody is here")
        n.tries("connect", one.connect, "\0nobody is here")
        n.tries("recvmsg", two.recvmsg, 100)


@scene
def pair_closed(n: Notes) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        one, two = n.pair(kind)
        two.send(b"last")
        two.close()
        one.setblocking(False)
        n.mask("one", one)
        n.tries("recv", one.recv, 100)
        n.mask("one", one)
        n.tries("recv", one.recv, 100)
        n.tries("send", one.send, b"x")
        n.mask("one", one)
        n.tries("send", one.send, b"x")
        n.tries("peer", one.getpeername)
        n.tries("shutdown", one.shutdown, socket.SHUT_RDWR)


@scene
def pair_closed_unread(n: Notes) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        one, two = n.pair(kind)
        one.send(b"never read")
        two.close()
        one.setblocking(False)
        n.mask("one", one)
        n.tries("recv", one.recv, 100)
        n.tries("recv", one.recv, 100)
        n.tries("send", one.send, b"x")


@scene
def pair_shut(n: Notes) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            one, two = n.pair(kind)
            for sock in (one, two):
                sock.setblocking(False)
            two.send(b"before")
            n.tries("shutdown", one.shutdown, how)
            n.mask("one", one)
            n.mask("two", two)
            n.tries("one sends", one.send, b"x")
            n.tries("two sends", two.send, b"x")
            n.tries("one gets", one.recv, 100)
            n.tries("one gets", one.recv, 100)
            n.tries("two gets", two.recv, 100)
            n.tries("two gets", two.recv, 100)


@scene
def pair_full(n: Notes) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        one, two = n.pair(kind)
        one.setblocking(False)
        sent = 0
        try:
            while True:
                sent += one.send(bytes(1000))
        except BlockingIOError:
            n.say("full", sent > 10_000)
        n.mask("one", one)
        two.setblocking(False)
        got = 0
        try:
            while True:
                got += len(two.recv(100_000))
        except BlockingIOError:
            n.say("all", got == sent)
        n.mask("one", one)
    one, _ = n.pair(socket.SOCK_DGRAM)
    n.tries("too large", one.send, bytes(400_000))


@scene
def unix_names(n: Notes) -> None:
    listening = n.unix()
    path = n.path("named")
    n.tries("bind", listening.bind, path)
    n.tries("name", lambda: listening.getsockname() == path)
    n.tries("twice", listening.bind, n.path("other"))
    n.tries("taken", n.unix().bind, path)
    n.tries("nobody listens yet", n.unix().connect, path)
    n.tries("listen", listening.listen, 5)
    n.mask("listener", listening)
    n.tries("accepting", listening.getsockopt, socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    client = n.unix()
    n.tries("connect", client.connect, path)
    n.mask("listener", listening)
    n.tries("connect again", client.connect, path)
    server, address = listening.accept()
    n.keep(server)
    n.say("client's name", address)
    n.tries("names", lambda: (server.getsockname() == path, client.getpeername() == path, server.getpeername()))
    pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    n.say("credentials", pid == os.getpid())
    n.tries("wrong kind", n.unix(socket.SOCK_DGRAM).connect, path)
    server.sendall(b"data")
    n.tries("recvfrom", lambda: client.recvfrom(10)[1] == path)
    listening.close()
    n.say("the file stays", os.path.exists(path))
    n.tries("nobody", n.unix().connect, path)
    n.tries("still taken", n.unix().bind, path)
    os.unlink(path)
    n.tries("gone", n.unix().connect, path)
    n.tries("free", n.unix().bind, path)
    with open(n.path("a file"), "w"):
        pass
    n.tries("no socket", n.unix().connect, n.path("a file"))
    n.tries("nowhere", n.unix().bind, n.path("no/such/place"))
    n.tries("bytes", n.unix().bind, os.fsencode(n.path("bytes")))


@scene
def abstract_names(n: Notes) -> None:
    name = f"\0bateau test {os.getpid()}"
    listening = n.unix()
    n.tries("bind", listening.bind, name)
    n.say("name", listening.getsockname() == name.encode())
    n.tries("taken", n.unix().bind, name)
    listening.listen()
    client = n.unix()
    n.tries("connect", client.connect, name)
    listening.close()
    n.mask("client of a closed listener", client)
    n.tries("recv", client.recv, 1)
    n.tries("free again", n.unix().bind, name)
    auto = n.unix()
    n.tries("some name", auto.bind, "")
    n.say("abstract", (auto.getsockname()[:1], len(auto.getsockname())))


@scene
def unix_backlog(n: Notes) -> None:
    listening = n.unix()
    listening.bind(n.path("busy"))
    listening.listen(1)
    for _ in range(4):
        client = n.unix()
        client.setblocking(False)
        n.tries("connect_ex", client.connect_ex, n.path("busy"))
        n.mask("client", client)
    slow = n.unix()
    slow.settimeout(0.05)
    n.tries("with a timeout", slow.connect, n.path("busy"))


@scene
def unix_datagrams(n: Notes) -> None:
    server, client = n.unix(socket.SOCK_DGRAM), n.unix(socket.SOCK_DGRAM)
    server.bind(n.path("server"))
    n.tries("unnamed", client.sendto, b"one", n.path("server"))
    n.tries("recvfrom", server.recvfrom, 100)
    client.bind(n.path("client"))
    client.connect(n.path("server"))
    n.tries("send", client.send, b"two")
    n.tries("recvfrom", lambda: server.recvfrom(100)[1] == n.path("client"))
    n.tries("answer", server.sendto, b"three", n.path("client"))
    n.tries("recv", client.recv, 100)
    n.tries("not its peer", n.unix(socket.SOCK_DGRAM).sendto, b"x", n.path("client"))
    client.setblocking(False)
    count = 0
    try:
        while True:
            client.send(b"x")
            count += 1
    except BlockingIOError:
        n.say("full after", count)
    n.mask("client", client)
    server.recv(10)
    n.mask("client", client)
    server.close()
    n.mask("server gone", client)
    n.tries("send", client.send, b"x")
    n.tries("send", client.send, b"x")
    n.tries("cut", lambda: _cut(n))


def _cut(n: Notes) -> Any:
    one, two = n.pair(socket.SOCK_DGRAM)
    one.send(b"a long one")
    return two.recvmsg(4)


@scene
def descriptors_sent(n: Notes) -> None:
    one, two = n.pair()
    reading, writing = (n.fd(fd) for fd in os.pipe())
    socket.send_fds(one, [b"take"], [reading, writing])
    one.sendall(b"plain")
    data, fds, flags, _ = socket.recv_fds(two, 100, 4)
    n.say("got", (data, len(fds), flags & ~socket.MSG_CMSG_CLOEXEC))
    for fd in fds:
        n.fd(fd)
    os.write(writing, b"through")
    n.tries("read by the twin", os.read, fds[0], 100)
    n.tries("the rest", two.recv, 100)
    socket.send_fds(one, [b"again"], [reading])
    n.tries("dropped by a plain recv", two.recv, 100)
    socket.send_fds(one, [b"more"], [reading, writing])
    data, ancillary, flags, _ = two.recvmsg(100, socket.CMSG_LEN(4))
    n.say("cut", (data, len(ancillary), bool(flags & socket.MSG_CTRUNC)))
    numbers = array.array("i")
    numbers.frombytes(ancillary[0][2])
    for fd in numbers:
        n.fd(fd)
    n.tries("no such descriptor", lambda: socket.send_fds(one, [b"x"], [2_000_000]))


# -- pipes and counters ------------------------------------------------------------------------------------------------


@scene
def pipes(n: Notes) -> None:
    reading, writing = (n.fd(fd) for fd in os.pipe())
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    n.mask("reading", reading)
    n.mask("writing", writing)
    n.tries("read", os.read, reading, 10)
    n.tries("write", os.write, writing, b"hello world")
    n.mask("reading", reading)
    n.tries("read", os.read, reading, 5)
    n.tries("read the writing end", os.read, writing, 5)
    n.tries("write the reading end", os.write, reading, b"x")
    n.tries("lseek", os.lseek, reading, 0, 0)
    buffers = [bytearray(3), bytearray(10)]
    n.tries("readv", os.readv, reading, buffers)
    n.say("buffers", buffers)
    n.tries("writev", os.writev, writing, [b"a", b"b"])
    os.close(writing)
    n.mask("reading", reading)
    n.tries("read", os.read, reading, 10)
    n.mask("reading", reading)
    n.tries("read", os.read, reading, 10)
    n.tries("close twice", os.close, writing)
    n.say("modes", (os.get_blocking(reading), os.isatty(reading), os.get_inheritable(reading)))


@scene
def pipe_without_reader(n: Notes) -> None:
    reading, writing = (n.fd(fd) for fd in os.pipe())
    os.write(writing, b"x")
    os.close(reading)
    n.mask("writing", writing)
    n.tries("write", os.write, writing, b"x")
    n.tries("write nothing", os.write, writing, b"")


@scene
def full_pipe(n: Notes) -> None:
    reading, writing = (n.fd(fd) for fd in os.pipe2(os.O_NONBLOCK))
    n.tries("more than fits", os.write, writing, bytes(100_000))
    n.mask("writing", writing)
    n.tries("no room", os.write, writing, b"x")
    os.read(reading, 100)
    n.mask("writing", writing)
    os.read(reading, 4096)
    n.mask("writing", writing)
    n.tries("atomic", os.write, writing, bytes(4096))
    n.tries("atomic", os.write, writing, bytes(4096))


@scene
def spliced(n: Notes) -> None:
    reading, writing = (n.fd(fd) for fd in os.pipe())
    other, last = (n.fd(fd) for fd in os.pipe())
    one, two = n.pair()
    one.send(b"through a pipe")
    n.tries("from a socket", os.splice, two.fileno(), writing, 7)
    n.tries("pipe to pipe", os.splice, reading, last, 4)
    n.tries("to a socket", os.splice, reading, two.fileno(), 100)
    n.tries("arrived", one.recv, 100)
    n.tries("the rest", os.read, other, 100)
    n.tries("without a pipe", os.splice, one.fileno(), two.fileno(), 1)


@scene
def counters(n: Notes) -> None:
    fd = n.fd(os.eventfd(0, os.EFD_NONBLOCK))
    n.mask("zero", fd)
    n.tries("read", os.eventfd_read, fd)
    os.eventfd_write(fd, 3)
    os.eventfd_write(fd, 4)
    n.mask("seven", fd)
    n.tries("read", os.eventfd_read, fd)
    n.tries("write", os.write, fd, struct.pack("Q", 5))
    n.tries("too short", os.write, fd, b"x")
    n.tries("read too short", os.read, fd, 4)
    n.tries("read", os.read, fd, 8)
    n.tries("full", os.eventfd_write, fd, 2**64 - 2)
    n.mask("full", fd)
    n.tries("too full", os.eventfd_write, fd, 1)
    semaphore = n.fd(os.eventfd(2, os.EFD_NONBLOCK | os.EFD_SEMAPHORE))
    for _ in range(3):
        n.tries("one", os.eventfd_read, semaphore)


@scene
def numbers(n: Notes) -> None:
    reading, writing = (n.fd(fd) for fd in os.pipe())
    twin = n.fd(os.dup(writing))
    os.close(writing)
    n.tries("write", os.write, twin, b"x")
    n.mask("reading", reading)
    lowest = os.dup(twin)
    n.say("the lowest free number", lowest == writing)
    os.close(lowest)
    other = n.fd(os.dup(reading))
    n.say("dup2", os.dup2(twin, other) == other)
    n.tries("write", os.write, other, b"y")
    n.tries("read", os.read, reading, 10)
    n.tries("fstat is a fifo", lambda: oct(os.fstat(reading).st_mode & 0o170000))
    n.tries("fstat is a socket", lambda: oct(os.fstat(n.tcp().fileno()).st_mode & 0o170000))


# -- pollers -----------------------------------------------------------------------------------------------------------


@scene
def epolls(n: Notes) -> None:
    one, two = n.pair()
    epoll = n.keep(select.epoll())
    n.tries("empty", epoll.poll, 0)
    n.tries("register", epoll.register, one.fileno(), select.EPOLLIN)
    n.tries("twice", epoll.register, one.fileno(), select.EPOLLIN)
    n.tries("unknown", epoll.modify, two.fileno(), select.EPOLLIN)
    n.tries("unknown", epoll.unregister, two.fileno())
    n.tries("nothing", epoll.poll, 0.01)
    two.send(b"x")
    n.say("ready", [words(mask) for _, mask in epoll.poll(1)])
    n.say("ready still", [words(mask) for _, mask in epoll.poll(0)])
    n.tries("modify", epoll.modify, one, select.EPOLLOUT)
    n.say("ready", [words(mask) for _, mask in epoll.poll(0)])
    n.tries("modify", epoll.modify, one, 0)
    n.say("ready", [words(mask) for _, mask in epoll.poll(0)])
    two.close()
    n.say("hung up", [words(mask) for _, mask in epoll.poll(0)])
    one.close()
    n.say("closed", epoll.poll(0))
    n.tries("bad", epoll.register, 2_000_000, select.EPOLLIN)
    n.tries("negative", epoll.register, -1, select.EPOLLIN)
    n.tries("text", epoll.register, "1", select.EPOLLIN)
    n.say("closed", epoll.closed)
    epoll.close()
    n.say("closed", epoll.closed)
    n.tries("closed", epoll.poll, 0)
    n.tries("closed", epoll.fileno)
    n.tries("closed", epoll.register, 0)


@scene
def edges(n: Notes) -> None:
    one, two = n.pair()
    epoll = n.keep(select.epoll())
    epoll.register(one, select.EPOLLIN | select.EPOLLET)
    n.say("quiet", epoll.poll(0))
    two.send(b"abc")
    n.say("edge", len(epoll.poll(0)))
    n.say("once", len(epoll.poll(0)))
    one.recv(1)
    n.say("no edge", len(epoll.poll(0)))
    two.send(b"d")
    n.say("new data", len(epoll.poll(0)))
    n.say("once", len(epoll.poll(0)))
    epoll.modify(one, select.EPOLLIN | select.EPOLLET)
    n.say("asked anew", len(epoll.poll(0)))


@scene
def one_shots(n: Notes) -> None:
    one, two = n.pair()
    epoll = n.keep(select.epoll())
    epoll.register(one, select.EPOLLIN | select.EPOLLONESHOT)
    two.send(b"abc")
    n.say("shot", len(epoll.poll(0)))
    n.say("once", len(epoll.poll(0)))
    two.send(b"abc")
    n.say("once", len(epoll.poll(0)))
    epoll.modify(one, select.EPOLLIN | select.EPOLLONESHOT)
    n.say("again", len(epoll.poll(0)))
    two.close()
    n.say("not even this", len(epoll.poll(0)))


@scene
def nested(n: Notes) -> None:
    one, two = n.pair()
    inner, outer = n.keep(select.epoll()), n.keep(select.epoll())
    inner.register(one, select.EPOLLIN)
    outer.register(inner.fileno(), select.EPOLLIN)
    n.mask("quiet", inner.fileno())
    n.say("quiet", outer.poll(0))
    two.send(b"x")
    n.mask("ready", inner.fileno())
    n.say("ready", [words(mask) for _, mask in outer.poll(0)])
    one.recv(1)
    n.say("quiet", outer.poll(0))


@scene
def many_ready(n: Notes) -> None:
    pairs = [n.pair() for _ in range(5)]
    epoll = n.keep(select.epoll())
    order = {}
    for index, (one, _) in enumerate(pairs):
        epoll.register(one, select.EPOLLIN)
        order[one.fileno()] = index
    for index in (3, 1, 4, 0, 2):
        pairs[index][1].send(b"x")
    n.say("in the order of their becoming ready", [order[fd] for fd, _ in epoll.poll(0)])
    n.say("two", [order[fd] for fd, _ in epoll.poll(0, 2)])
    n.say("two more", [order[fd] for fd, _ in epoll.poll(0, 2)])
    n.say("in turn", [order[fd] for fd, _ in epoll.poll(0, 2)])
    n.tries("none", epoll.poll, 0, 0)


@scene
def polls(n: Notes) -> None:
    one, two = n.pair()
    poll = select.poll()
    poll.register(one)
    n.say("default", [words(mask) for _, mask in poll.poll(0)])
    poll.modify(one, select.POLLIN)
    n.say("nothing", poll.poll(10))
    two.send(b"x")
    n.say("ready", [words(mask) for _, mask in poll.poll()])
    n.tries("unknown", poll.modify, two, select.POLLIN)
    n.tries("unknown", lambda: poll.unregister(two) if False else None)
    fd = one.fileno()
    one.close()
    n.say("closed", [(found == fd, words(mask)) for found, mask in poll.poll(0)])
    poll.unregister(fd)
    n.say("empty", poll.poll(0))
    poll.register(two, select.POLLRDHUP)
    n.say("hung up", [words(mask) for _, mask in poll.poll(0)])


@scene
def selects(n: Notes) -> None:
    one, two = n.pair()
    idle, _ = n.pair()

    def look(timeout: float = 0) -> Any:
        found = select.select([one, idle], [one], [one], timeout)
        return [[sock is one for sock in part] for part in found]

    n.say("idle", look())
    two.send(b"x")
    n.say("data", look())
    one.recv(1)
    two.close()
    n.say("end", look())
    n.say("nothing", select.select([idle], [], [], 0.01))
    n.tries("negative", select.select, [], [], [], -1)
    n.say("by number", [len(part) for part in select.select([one.fileno()], [], [], 0)])
    one.close()
    n.tries("closed", select.select, [one], [], [], 0)
    client, server = n.connected()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    n.until(client, select.POLLHUP)
    n.say("reset", [len(part) for part in select.select([client], [client], [client], 0)])
