"""The ten-thousand-client load as it was once put: 20,000 clients, each sent four kilobytes from disk once a second.

"It shouldn't take any more horsepower than that to take four kilobytes from the disk and send them to the network once a second for
each of twenty thousand clients" (Dan Kegel, The C10K problem). The client is a C program (``c/crowd_client.c``) that opens them all and
then, for two seconds, lets each ask once a second, at its own moment, after a first time that is not counted. One operation is one request answered: a byte read, 4 KiB of a file
in the page cache read as the library's users would, and written. Only the server's CPU time is counted, from the first request of
those two seconds to the first connection's end. The note tells how late the answers came; a server that can't keep up is asked later, not less.

Cases
  20k_clients  20,000 clients (2,000 with --quick; ``--clients N`` sets another number). Where one process may not have so many
               connections, as many as it may; the note then says how many.

Where semantics differ
  * asyncio, trio, curio and anyio read the file on threads, as their documentation says. bateau asks for what is in memory first, and
    has 32 file objects that its tasks take in turns.
  * ``threads``: a thread per client that blocks, all made beforehand, on stacks of 256 KiB. ``prefork``: a process per client, forked
    beforehand; it has at most 500 clients, because memory ends before 20,000 processes do, so compare its cost per answer only.
  * The floor is missing: what it costs to send is in ``tcp_echo``, what it costs to read in ``files``.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count, cycle
from typing import Any

from .. import limits
from ..model import Case, Measured, Stopwatch, Workload
from ..programs import program, start_load

HOST = "127.0.0.1"
BACKLOG = 4096
BLOCK = 4096
BLOCKS = 1024
SECONDS = 2
PROCESSES = 500
FILES = 32


@contextmanager
def blocks() -> Iterator[str]:
    """A file in which each block repeats one byte, so that the client can see a torn or mixed answer."""
    with tempfile.NamedTemporaryFile(dir=".") as file:
        for number in range(BLOCKS):
            file.write(bytes([number % 251]) * BLOCK)
        file.flush()
        os.fsync(file.fileno())
        with open(file.name, "rb") as again:
            again.read()
        yield file.name


class Crowd:
    """One run of the client: starts it, times what the server does for it, takes its account."""

    def __init__(self, n: int, clock: Stopwatch, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)
        self.count, self._note = limits.clients(n)
        self._places = cycle(range(0, BLOCK * BLOCKS, BLOCK))
        self._clock = clock
        self._asked, self._closed = count(1), count(1)
        self._client: subprocess.Popen[bytes] | None = None

    def limit(self, most: int, why: str) -> None:
        """Cut the number of clients down."""
        if self.count > most:
            self.count, self._note = most, f"{most:,} clients: {why}"

    def place(self) -> int:
        """Where the next answer stands in the file. Callable from any thread.

        Each client first asks once to show that it has been accepted; the first request after those starts the stopwatch.
        """
        if next(self._asked) == self.count + 1:
            self._clock.start()
        return next(self._places)

    def start_client(self, port: int) -> None:
        """Start the client. Does not wait."""
        period = "20" if self._clock.tiny else "1000"
        command = (program("crowd_client"), str(port), str(self.count), str(SECONDS), period)
        self._client = start_load(*command, stdout=subprocess.PIPE)

    def closed(self) -> bool:
        """A connection has ended; the first one, after the last answer, stops the stopwatch. True for the last one."""
        number = next(self._closed)
        if number == 1:
            self._clock.stop()
        return number == self.count

    def finish(self) -> None:
        """Take the client's account; raise RuntimeError if it is not content."""
        os.close(self.fd)
        assert self._client is not None
        said, _ = self._client.communicate(timeout=60)
        if self._client.returncode:
            raise RuntimeError(f"the client failed with status {self._client.returncode}; its message is above")
        done, wall, _, p99, _ = map(float, said.split())
        assert done == self.count * SECONDS, f"{done} answers to {self.count * SECONDS} requests"
        self._clock.operations = int(done)
        note = f"{done / wall:,.0f}/s of {self.count:,}/s, p99 {p99 * 1000:,.0f} ms late"
        self._clock.note = "; ".join(filter(None, (note, self._note)))


def _cases(serve: Callable[[Crowd], Coroutine[Any, Any, None]]) -> Mapping[str, Measured]:
    async def measured(n: int, clock: Stopwatch) -> None:
        with blocks() as path:
            crowd = Crowd(n, clock, path)
            await serve(crowd)
            crowd.finish()

    return {"20k_clients": measured}


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    async def serve(crowd: Crowd) -> None:
        done = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1):
                writer.write(await asyncio.to_thread(os.pread, crowd.fd, BLOCK, crowd.place()))
                await writer.drain()
            writer.close()
            if crowd.closed():
                done.set()

        async with await asyncio.start_server(handle, HOST, 0, backlog=BACKLOG) as server:
            crowd.start_client(server.sockets[0].getsockname()[1])
            await done.wait()

    return _cases(serve)


def trio_side() -> Mapping[str, Measured]:
    import trio

    async def serve(crowd: Crowd) -> None:
        done = trio.Event()

        async def handle(stream: trio.SocketStream) -> None:
            while await stream.receive_some(1):
                await stream.send_all(await trio.to_thread.run_sync(os.pread, crowd.fd, BLOCK, crowd.place()))
            await stream.aclose()
            if crowd.closed():
                done.set()

        async with trio.open_nursery() as nursery:
            start = partial(trio.serve_tcp, handle, 0, host=HOST, backlog=BACKLOG)
            listeners: list[trio.SocketListener] = await nursery.start(start)
            crowd.start_client(listeners[0].socket.getsockname()[1])
            await done.wait()
            nursery.cancel_scope.cancel()

    return _cases(serve)


def curio_side() -> Mapping[str, Measured]:
    import curio
    from curio.network import run_server

    async def serve(crowd: Crowd) -> None:
        done = curio.Event()

        async def handle(client: curio.io.Socket, address: object) -> None:
            while await client.recv(1):
                await client.sendall(await curio.run_in_thread(os.pread, crowd.fd, BLOCK, crowd.place()))
            await client.close()
            if crowd.closed():
                await done.set()

        listener = curio.tcp_server_socket(HOST, 0, backlog=BACKLOG)
        port = listener.getsockname()[1]
        server = await curio.spawn(run_server, listener, handle)
        crowd.start_client(port)
        await done.wait()
        await server.cancel()

    return _cases(serve)


def anyio_side() -> Mapping[str, Measured]:
    import anyio
    import anyio.to_thread
    from anyio.abc import SocketAttribute, SocketStream

    async def serve(crowd: Crowd) -> None:
        done = anyio.Event()

        async def handle(stream: SocketStream) -> None:
            async with stream:
                while True:
                    try:
                        await stream.receive(1)
                    except anyio.EndOfStream:
                        break
                    await stream.send(await anyio.to_thread.run_sync(os.pread, crowd.fd, BLOCK, crowd.place()))
            if crowd.closed():
                done.set()

        async with (
            await anyio.create_tcp_listener(local_host=HOST, backlog=BACKLOG) as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, handle)
            crowd.start_client(listener.extra(SocketAttribute.local_port))
            await done.wait()
            group.cancel_scope.cancel()

    return _cases(serve)


def bateau_side() -> Mapping[str, Measured]:
    import bateau
    import bateau.net
    from bateau import fs
    from bateau.channel import channel
    from bateau.sync import Event

    async def serve(crowd: Crowd) -> None:
        done = Event()
        give, free = channel[fs.BinaryFile](FILES)  # a file object serves one task at a time

        async def handle(stream: bateau.net.SocketStream) -> None:
            while await stream.read(1):
                file = await free.recv()
                block = await file.pread(BLOCK, crowd.place())
                await give.send(file)
                await stream.write(block)
            await stream.aclose()
            if crowd.closed():
                done.set()

        listener = await bateau.net.listen_tcp(HOST, 0, backlog=BACKLOG)
        async with contextlib.AsyncExitStack() as opened, bateau.scope() as scope:
            for _ in range(FILES):
                await give.send(await opened.enter_async_context(fs.open(crowd.path, "rb")))
            scope.spawn(bateau.net.serve, handle, listener)
            crowd.start_client(listener.port)
            await done.wait()
            scope.cancel()

    return _cases(serve)


def threads_side() -> Mapping[str, Measured]:
    import socket
    import threading

    async def serve(crowd: Crowd) -> None:
        def work() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(1):
                    connection.sendall(os.pread(crowd.fd, BLOCK, crowd.place()))
                crowd.closed()

        threads: list[threading.Thread] = []
        stack = threading.stack_size(1 << 18)
        with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
            try:
                for _ in range(crowd.count):
                    thread = threading.Thread(target=work)
                    thread.start()
                    threads.append(thread)
            except RuntimeError:
                crowd.limit(len(threads), "the system makes no more threads")
            finally:
                threading.stack_size(stack)
            crowd.start_client(listener.getsockname()[1])
            for thread in threads:
                thread.join()

    return _cases(serve)


def prefork_side() -> Mapping[str, Measured]:
    import ctypes
    import resource
    import signal
    import socket

    account = struct.Struct("dd")

    def die_with_parent() -> None:
        """Whoever waits in ``accept`` would not see that a run was killed, and stay."""
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGKILL))

    def work(listener: socket.socket, crowd: Crowd, out: int) -> None:
        began: resource.struct_rusage | None = None
        places = cycle(range(0, BLOCK * BLOCKS, BLOCK))
        connection, _ = listener.accept()
        while connection.recv(1):
            connection.sendall(os.pread(crowd.fd, BLOCK, next(places)))
            if began is None:  # the first request only showed that we are here
                began = resource.getrusage(resource.RUSAGE_SELF)
        assert began is not None
        ended = resource.getrusage(resource.RUSAGE_SELF)
        os.write(out, account.pack(ended.ru_utime - began.ru_utime, ended.ru_stime - began.ru_stime))

    async def measured(n: int, clock: Stopwatch) -> None:
        idle = Stopwatch(tiny=clock.tiny)  # the parent does nothing; the workers tell what they took
        with blocks() as path, socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
            crowd = Crowd(n, idle, path)
            crowd.limit(PROCESSES, "a process each")
            into, out = os.pipe()
            workers: list[int] = []
            for _ in range(crowd.count):
                if (pid := os.fork()) == 0:
                    status = 1
                    try:
                        die_with_parent()
                        os.close(into)
                        work(listener, crowd, out)
                        status = 0
                    finally:
                        os._exit(status)
                workers.append(pid)
            os.close(out)
            crowd.start_client(listener.getsockname()[1])
            with open(into, "rb") as accounts:
                said = accounts.read()
            for pid in workers:
                _, status = os.waitpid(pid, 0)
                assert not status, f"a worker failed with status {status}"
            crowd.finish()
        for user, system in account.iter_unpack(said):
            clock.add(user, system, SECONDS / crowd.count)
        clock.operations, clock.note = idle.operations, idle.note

    return {"20k_clients": measured}


WORKLOAD = Workload(
    "crowd",
    "Twenty thousand clients, each sent 4 KiB from disk once a second",
    (
        Case(
            "20k_clients",
            "answer",
            fixed=20_000,
            fixed_quick=2_000,
            busy=False,
            lasts=10.0,
            tiny=20,
            programs=("crowd_client",),
        ),
    ),
    {
        "asyncio": asyncio_side,
        "trio": trio_side,
        "curio": curio_side,
        "anyio": anyio_side,
        "bateau": bateau_side,
        "threads": threads_side,
        "prefork": prefork_side,
    },
)
