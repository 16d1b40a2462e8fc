"""Unix sockets: files and names, stale ones, permissions, descriptors sent along; and TCP or Unix by one argument."""

from __future__ import annotations

import os
import socket
import stat

import pytest

import bateau
from bateau import net
from bateau.net import unix
from support.sockets import calling, echo, serving


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A short path: pytest's own may be longer than a socket's may be."""
    monkeypatch.chdir(tmp_path)
    return "a.sock"


def test_connect_and_listen(entry, path):
    async def main():
        async with await unix.listen(path) as listener:
            client = calling(path, lambda sock: (sock.sendall(b"hi"), sock.recv(10)))
            async with await listener.accept() as stream:
                assert isinstance(stream, unix.UnixStream)
                data = await stream.read()
                await stream.write(data.upper())
                assert stream.getsockname() == path
                who = stream.peer_credentials()
                assert (who.pid, who.uid, who.gid) == (os.getpid(), os.getuid(), os.getgid())
            assert client.result() == (None, b"HI")
            with pytest.raises(AttributeError, match="no port"):
                listener.port  # noqa: B018
        assert not os.path.exists(path)

    entry.run(main)


def test_connect_to_a_plain_server(entry, path):
    async def main():
        async with await unix.connect(path) as stream:
            await stream.write(b"x")
            assert await stream.read() == b"x"
            assert path in repr(stream)

    with serving(echo, family=socket.AF_UNIX, address=path):
        entry.run(main)


def test_path_objects_and_bytes(entry, tmp_path, monkeypatch):
    async def main(target):
        async with await unix.listen(target, unlink=False), await unix.connect(target):
            pass
        os.unlink(target)

    monkeypatch.chdir(tmp_path)
    for target in (os.fsencode("b.sock"), type(tmp_path)("c.sock")):
        entry.run(main, target)


def test_permissions(entry, path):
    async def main():
        old = os.umask(0o022)
        try:
            async with await unix.listen(path, mode=0o666):
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
            async with await unix.listen(path, mode=0o600):
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        finally:
            os.umask(old)
        for mode in (-1, 0o10000, "600"):
            with pytest.raises(ValueError, match="0o600"):
                await unix.listen(path, mode=mode)

    entry.run(main)


def test_a_stale_file_is_replaced(entry, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()

    async def main():
        with pytest.raises(ConnectionRefusedError, match=path):
            await unix.connect(path)
        async with await unix.listen(path) as listener, await unix.connect(path), await listener.accept():
            pass

    entry.run(main)


def test_a_living_server_is_not_replaced(entry, path):
    async def main():
        async with await unix.listen(path) as listener:
            with pytest.raises(OSError, match=rf"in use.*{path}"):
                await unix.listen(path)
            async with await unix.connect(path) as client, await listener.accept():
                await client.write(b"still the first's")
        assert not os.path.exists(path)

    entry.run(main)


def test_a_file_that_is_no_socket_is_left_alone(entry, path):
    with open(path, "w") as file:
        file.write("precious")

    async def main():
        with pytest.raises(OSError, match="in use"):
            await unix.listen(path)

    entry.run(main)
    with open(path) as file:
        assert file.read() == "precious"


def test_close_removes_only_its_own_file(entry, path):
    async def main():
        listener = await unix.listen(path)
        os.unlink(path)
        async with await unix.listen(path) as second:
            listener.close()
            assert os.path.exists(path)
            async with await unix.connect(path), await second.accept():
                pass

    entry.run(main)


def test_abstract_names(entry):
    name = f"\0bateau-test-{os.getpid()}"

    async def main():
        async with await unix.listen(name) as listener, await unix.connect(name), await listener.accept():
            assert f"@bateau-test-{os.getpid()}" in repr(listener)
        with pytest.raises(ConnectionRefusedError, match="@bateau-test"):
            await unix.connect(name)

    entry.run(main)


def test_bad_paths(entry):
    async def main():
        for path, error, words in (
            ("", ValueError, "empty"),
            ("a\0b", ValueError, "NUL"),
            ("x" * 200, OSError, "107 bytes"),
            (5, TypeError, "int"),
            ("/nonexistent/x.sock", FileNotFoundError, "/nonexistent/x.sock"),
        ):
            with pytest.raises(error, match=words):
                await unix.connect(path)
            with pytest.raises(error, match=words):
                await unix.listen(path)

    entry.run(main)


def test_a_full_backlog_is_waited_for(entry, path):
    async def main():
        async with await unix.listen(path, backlog=1) as listener, bateau.scope() as scope:
            connecting = [scope.spawn(unix.connect, path) for _ in range(6)]
            for _ in range(6):
                (await listener.accept()).close()
            for task in connecting:
                (await task).close()

    entry.run(main)


# -- one argument ------------------------------------------------------------------------------------------------------


def test_tcp_or_unix_by_one_argument(entry, path):
    """S35: the same client and server, the transport chosen by a string."""

    async def handler(stream):
        while data := await stream.read():
            await stream.write(data)

    async def talk(target):
        async with await net.connect(target) as stream:
            await stream.write(b"hello")
            return await stream.read()

    async def main():
        for where in (
            "tcp:127.0.0.1:0",
            f"unix:{path}",
            f"unix:@bateau-{os.getpid()}",
            f"unix:{os.path.abspath(path)}",
        ):
            listener = await net.listen(where, limit=3)
            target = f"tcp:localhost:{listener.port}" if where.startswith("tcp") else where
            async with bateau.scope() as scope:
                scope.spawn(net.serve, handler, listener)
                assert await talk(target) == b"hello"
                scope.stop()

    entry.run(main)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "tcp",
        "tcp:",
        "tcp:host",
        "tcp:host:",
        "tcp:::1:80",
        "unix:",
        "http://x:80",
        "tcp:host:99999",
        "127.0.0.1:80",
    ],
)
def test_what_is_no_address(target):
    async def main():
        with pytest.raises(ValueError, match=r"tcp:|port"):
            await net.connect(target)

    bateau.run(main)


def test_addresses_of_the_wrong_type():
    async def main():
        with pytest.raises(TypeError, match="string"):
            await net.connect(("127.0.0.1", 80))
        with pytest.raises(TypeError, match="no options"):
            await net.connect("unix:/x", nodelay=True)

    bateau.run(main)


def test_forms_of_addresses():
    from bateau.net._uri import parse

    assert parse("tcp:[::1]:80") == ("tcp", ("::1", 80))
    assert parse("tcp://example.org:http") == ("tcp", ("example.org", "http"))
    assert parse("unix:///run/x") == ("unix", "/run/x")
    assert parse("unix:rel.sock") == ("unix", "rel.sock")
    assert parse("unix:@name") == ("unix", "\0name")


# -- descriptors -------------------------------------------------------------------------------------------------------


def test_descriptors_travel(entry):
    async def main():
        one, two = unix.pair()
        async with one, two:
            read_end, write_end = os.pipe()
            await one.send_fds(b"here", [write_end, read_end])
            os.close(write_end)
            os.close(read_end)
            data, fds = await two.recv_fds()
            assert data == b"here"
            assert not any(os.get_inheritable(fd) for fd in fds)
            os.write(fds[0], b"through")
            assert os.read(fds[1], 100) == b"through"
            for fd in fds:
                os.close(fd)
            await one.send_fds(b"none", [])
            assert await two.recv_fds() == (b"none", [])
            one.close()
            assert await two.recv_fds() == (b"", [])

    entry.run(main)


def test_descriptors_with_much_data(entry):
    data = os.urandom(1_000_000)

    async def main():
        one, two = unix.pair()
        async with one, two, bateau.scope() as scope:
            with open(os.devnull) as file:
                sending = scope.spawn(one.send_fds, data, [file.fileno()])
                got, fds = await two.recv_fds()
                while len(got) < len(data):
                    got += await two.read()
                await sending
            assert got == data
            assert os.fstat(fds[0]).st_rdev == os.stat(os.devnull).st_rdev
            os.close(fds[0])

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_receive_loses_no_descriptor(entry):
    async def main():
        one, two = unix.pair()
        async with one, two:
            with bateau.move_on_after(0.01) as timer:
                await two.recv_fds()
            assert timer.cancelled_caught
            with open(os.devnull) as file:
                await one.send_fds(b"x", [file.fileno()])
            with bateau.move_on_after(1) as timer:
                timer.cancel()
                await two.recv_fds()
            data, fds = await two.recv_fds()
            assert data == b"x"
            os.close(fds[0])

    entry.run(main)


def test_more_descriptors_than_expected_are_closed_and_told(entry):
    async def main():
        one, two = unix.pair()
        async with one, two:
            with open(os.devnull) as file:
                await one.send_fds(b"kept", [file.fileno()] * 5)
            with pytest.raises(net.Truncated, match="max_fds=2") as caught:
                await two.recv_fds(max_fds=2)
            assert caught.value.data == b"kept"

    entry.run(main)


def test_bad_descriptors(entry):
    async def main():
        one, two = unix.pair()
        async with one, two:
            with pytest.raises(ValueError, match="at least one byte"):
                one.send_fds(b"", [0])
            with pytest.raises(ValueError, match="at most"):
                one.send_fds(b"x", [0] * 300)
            with pytest.raises(TypeError):
                one.send_fds(b"x", ["0"])
            with pytest.raises(OSError, match="Bad file"):
                await one.send_fds(b"x", [999_999])
            with pytest.raises(ValueError, match="at least one byte"):
                two.recv_fds(0)
            with pytest.raises(ValueError, match="max_fds"):
                two.recv_fds(10, -1)
            await one.write(b"whole")
            assert await two.read() == b"whole"

    entry.run(main)
