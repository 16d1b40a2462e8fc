"""Faults while connections are made: on a listener's side, and on that of who connects. See test_index.py for the whole list."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import struct
from typing import Any

import pytest

import bateau
import bateau.time
from bateau import net
from bateau.net import unix
from support import faulty
from support.loops import Problems, Recorder, both, run
from support.sockets import Hanging, free_port
from support.waiting import until

# What a program prints whose server has met an accept that failed thus, and then served.
ABORTED = [errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EHOSTUNREACH, errno.ENETDOWN]


def reset(sock: socket.socket) -> None:
    """Close it with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# -- accepting ---------------------------------------------------------------------------------------------------------


def test_an_accept_that_fails_for_its_connection_alone() -> None:
    """Whatever accept(2) passes on of a connection's own trouble, the next connection is served by the same listener."""
    faulty.run(f"""
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            for code in {ABORTED}:
                plan("accept4", code, times=3)
                accepting = None
                async with bateau.scope() as scope:
                    accepting = scope.spawn(listener.accept)
                    with socket.create_connection(listener.getsockname()):
                        with bateau.timeout(20):
                            (await accepting).close()
                assert hits("accept4") >= 1, errno.errorcode[code]
                plan("accept4", 0, times=0)
    bateau.run(main)
    """)


def test_an_accept_that_fails_for_its_connection_alone_on_the_loop() -> None:
    faulty.run("""
    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        served = asyncio.Event()
        async def serve(reader, writer):
            writer.close()
            served.set()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            for code in (errno.ECONNABORTED, errno.EINTR):
                served.clear()
                plan("accept4", code, times=3)
                with socket.create_connection(server.sockets[0].getsockname()):
                    await served.wait()
                assert hits("accept4") >= 1
                plan("accept4", 0, times=0)
        assert not told, told
    on_loop(main)
    """)


@both
def test_a_connection_reset_before_it_is_accepted(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(problems := Problems())
        made: list[Recorder] = []

        def make() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(make, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        reset(socket.create_connection(address))
        with socket.create_connection(address):
            while len(made) < 2:
                await asyncio.sleep(0)
            assert isinstance(await made[0].lost, ConnectionResetError)
            await made[1].made
        assert await made[1].lost is None
        assert not problems
        server.close()
        await server.wait_closed()

    run(factory, main())


@both
def test_a_server_closed_while_connections_wait_for_it(factory: Any) -> None:
    """Who waits in the backlog is refused, who was accepted is served, and no descriptor is left."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Recorder] = []

        def make() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(make, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        first = socket.create_connection(address)
        while not made:
            await asyncio.sleep(0)
        await made[0].made
        waiting = [socket.create_connection(address) for _ in range(5)]
        server.close()
        for sock in waiting:
            sock.settimeout(20)
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
            sock.close()
        first.sendall(b"x")
        await made[0].until(lambda: made[0].data == b"x")
        first.close()
        await made[0].lost
        await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    run(factory, main())


def test_a_unix_socket_unlinked_under_its_listener(runtime: Any, tmp_path: Any) -> None:
    """New clients don't find it, those that are there go on, and closing leaves alone what stands in its place."""
    path = tmp_path / "s"

    async def main() -> None:
        listener = await unix.listen(path)
        client = await unix.connect(path)
        served = await listener.accept()
        path.unlink()
        with pytest.raises(FileNotFoundError, match=str(path)):
            await unix.connect(path)
        path.write_text("another's")
        await client.write(b"still here")
        assert await served.read() == b"still here"
        listener.close()
        assert path.read_text() == "another's"
        client.close()
        served.close()

    runtime.run(main)


@both
def test_a_unix_socket_unlinked_under_its_server(factory: Any, tmp_path: Any) -> None:
    path = tmp_path / "s"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        served: list[Recorder] = []

        def make() -> Recorder:
            served.append(Recorder())
            return served[-1]

        server = await loop.create_unix_server(make, path)
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        path.unlink()
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, path)
        while not served:
            await asyncio.sleep(0)
        server.close()
        transport.write(b"still here")
        await served[0].until(lambda: served[0].data == b"still here")
        transport.close()
        assert await protocol.lost is None
        await served[0].lost
        await server.wait_closed()

    run(factory, main())


# -- connecting --------------------------------------------------------------------------------------------------------


def test_a_connect_that_nobody_answers_times_out(runtime: Any) -> None:
    async def main() -> None:
        with Hanging() as address:
            before = set(os.listdir("/proc/self/fd"))
            with pytest.raises(TimeoutError):
                with bateau.timeout(0.05):
                    await net.connect_tcp(*address)
            assert set(os.listdir("/proc/self/fd")) <= before

    runtime.run(main)


@both
@pytest.mark.parametrize("how", ["timeout", "cancelled"])
def test_a_connect_that_nobody_answers(factory: Any, how: str) -> None:
    """By a timeout, or cancelled: its descriptor is closed and watched no more."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with Hanging() as address:
            before = set(os.listdir("/proc/self/fd"))
            if how == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await loop.create_connection(asyncio.Protocol, *address)
            else:
                task = asyncio.create_task(loop.create_connection(asyncio.Protocol, *address))
                while set(os.listdir("/proc/self/fd")) <= before:
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert set(os.listdir("/proc/self/fd")) <= before
            assert len(loop._selector.get_map()) == 1  # the loop's own

    run(factory, main())


@both
def test_a_name_that_is_none(factory: Any) -> None:
    async def main() -> None:
        with pytest.raises(socket.gaierror):
            await asyncio.get_running_loop().create_connection(asyncio.Protocol, "no.such.name.invalid", 80)

    run(factory, main())


def test_a_resolver_that_fails_for_a_while() -> None:
    """EAI_AGAIN names the host, and the next call asks again."""
    faulty.run("""
    async def main():
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            plan("getaddrinfo", socket.EAI_AGAIN, times=1)
            try:
                await net.connect_tcp("localhost", listener.port)
            except socket.gaierror as error:
                assert error.errno == socket.EAI_AGAIN and "localhost" in str(error), error
            else:
                raise AssertionError("it did not fail")
            (await net.connect_tcp("localhost", listener.port, family=socket.AF_INET)).close()
    bateau.run(main)

    async def main():
        loop = asyncio.get_running_loop()
        plan("getaddrinfo", socket.EAI_AGAIN, times=1)
        try:
            await loop.create_connection(asyncio.Protocol, "localhost", 1)
        except socket.gaierror as error:
            assert error.errno == socket.EAI_AGAIN
        else:
            raise AssertionError("it did not fail")
        assert await loop.getaddrinfo("localhost", 1)
    on_loop(main)
    """)


def test_no_descriptor_is_left_to_connect_with(runtime: Any) -> None:
    """EMFILE says so, nothing is left open, and with a descriptor it works."""

    async def main() -> None:
        async with await net.listen_tcp("127.0.0.1", 0) as listener:
            (await net.connect_tcp(*listener.getsockname())).close()
            before = set(os.listdir("/proc/self/fd"))
            with no_more_descriptors():
                with pytest.raises(OSError) as caught:
                    await net.connect_tcp(*listener.getsockname())
                assert caught.value.errno == errno.EMFILE
                with pytest.raises(OSError) as caught:
                    await net.udp()
                assert caught.value.errno == errno.EMFILE
            assert set(os.listdir("/proc/self/fd")) <= before
            (await net.connect_tcp(*listener.getsockname())).close()

    runtime.run(main)


@both
def test_no_descriptor_is_left_for_the_loop_to_connect_with(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with no_more_descriptors(), pytest.raises(OSError) as caught:
            await loop.create_connection(asyncio.Protocol, "127.0.0.1", 1)
        assert caught.value.errno == errno.EMFILE

    run(factory, main())


class no_more_descriptors:  # used as a statement
    """A block in which no descriptor can be opened."""

    def __enter__(self) -> None:
        self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, self.limits[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)


def test_a_connect_that_fails_at_once() -> None:
    """What the system answers without delay (no route, no address) is told with the address, by both."""
    faulty.run("""
    async def main():
        for code in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENOBUFS):
            plan("connect", code)
            try:
                await net.connect_tcp("127.0.0.1", 9)
            except OSError as error:
                assert error.errno == code and "127.0.0.1:9" in str(error), error
            else:
                raise AssertionError("it did not fail")
        async with await net.listen_tcp("127.0.0.1", 0) as listener:  # a connect that is interrupted goes on
            plan("connect", errno.EINTR)
            with bateau.timeout(20):
                try:
                    stream = await net.connect_tcp("127.0.0.1", listener.port)
                except OSError:
                    pass
                else:
                    stream.close()
    bateau.run(main)

    async def main():
        plan("connect", errno.ENETUNREACH)
        try:
            await asyncio.open_connection("127.0.0.1", 9)
        except OSError as error:
            assert error.errno == errno.ENETUNREACH
        else:
            raise AssertionError("it did not fail")
    on_loop(main)
    """)


def test_a_listener_of_a_port_that_is_taken_meanwhile(runtime: Any) -> None:
    """Closed and opened again at once, also with connections in TIME_WAIT."""

    async def main() -> None:
        port = free_port()
        for _ in range(3):
            listener = await net.listen_tcp("127.0.0.1", port)
            client = await net.connect_tcp("127.0.0.1", port)
            served = await listener.accept()
            listener.close()  # first: the server's end then waits in TIME_WAIT
            served.close()
            client.close()
        await until(lambda: True)

    runtime.run(main)
