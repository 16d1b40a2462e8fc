"""Waits on what is outside the program: streams, threads, signals, child processes."""

from __future__ import annotations

import concurrent.futures
import signal
import socket
import threading
from typing import Any

import bateau
from bateau import io, net, subprocess, thread, time
from bateau.io.fd import FdWatch
from support.waits.table import ANYBODY, Case, World, case

# -- streams ---------------------------------------------------------------------------------------------------------------


@case
async def pipe_read(world: World) -> Case:
    a, _b = io.duplex(8, name="it")
    return Case(lambda: a.read(1), r"^read of duplex pipe 'it b->a'", ANYBODY)


@case
async def pipe_write(world: World) -> Case:
    a, _b = io.duplex(8, name="it")
    return Case(lambda: a.write(b"x" * 100), r"^write of 100 bytes to duplex pipe 'it a->b'", ANYBODY)


@case
async def pipe_ready(world: World) -> Case:
    a, _b = io.duplex(8, name="it")
    return Case(lambda: a.ready(io.READ), r"^readiness of duplex pipe 'it b->a'", ANYBODY)


@case
async def half_write(world: World) -> Case:
    """A cloned sender waits for the one that is writing."""
    a, _b = io.duplex(8, name="it")
    _reader, writer = io.split(a)
    clone = writer.clone()
    world.scope.spawn(writer.write, b"x" * 100, name="holder")
    await bateau.yield_now()
    await bateau.yield_now()
    await bateau.yield_now()
    return Case(
        lambda: clone.write(b"y"),
        r"^wait for a turn at the sending half of duplex stream 'it a'",
        ["holder"],
        ["holder"],
    )


async def connected(world: World) -> tuple[Any, Any]:
    listener = await world.open(await net.listen_tcp("127.0.0.1", 0))
    client = await world.open(await net.connect_tcp("127.0.0.1", listener.port))
    server = await world.open(await listener.accept())
    return client, server


@case
async def tcp_read(world: World) -> Case:
    client, _server = await connected(world)
    return Case(lambda: client.read(1), r"read.*127\.0\.0\.1")


@case
async def tcp_write(world: World) -> Case:
    client, _server = await connected(world)
    return Case(lambda: client.write(bytes(50_000_000)), r"(write|send).*127\.0\.0\.1")


@case
async def tcp_ready(world: World) -> Case:
    client, _server = await connected(world)
    return Case(lambda: client.ready(io.READ), r"127\.0\.0\.1")


@case
async def tcp_accept(world: World) -> Case:
    listener = await world.open(await net.listen_tcp("127.0.0.1", 0))
    return Case(lambda: listener.accept(), r"accept.*127\.0\.0\.1")


@case
async def tcp_next_connection(world: World) -> Case:
    listener = await world.open(await net.listen_tcp("127.0.0.1", 0))

    async def wait() -> None:
        async for _ in listener:
            pass

    return Case(wait, r"accept.*127\.0\.0\.1")


@case
async def udp_receive(world: World) -> Case:
    udp = await world.open(await net.udp(("127.0.0.1", 0)))
    return Case(lambda: udp.recvfrom(), r"127\.0\.0\.1")


async def crowded(world: World) -> int:
    """The port of a server whose backlog is full: it answers nobody."""
    plain = socket.socket()
    world.stack.callback(plain.close)
    plain.bind(("127.0.0.1", 0))
    plain.listen(0)
    fill = [socket.socket() for _ in range(4)]
    for one in fill:
        world.stack.callback(one.close)
        one.setblocking(False)
        one.connect_ex(plain.getsockname())
    await time.sleep(0.02)
    return int(plain.getsockname()[1])


@case
async def tcp_connect(world: World) -> Case:
    port = await crowded(world)

    async def wait() -> None:
        stream = await net.connect_tcp("127.0.0.1", port)
        stream.close()

    return Case(wait, r"connection to 127\.0\.0\.1:\d+")


@case
async def tcp_connect_from_an_address(world: World) -> Case:
    port = await crowded(world)

    async def wait() -> None:
        stream = await net.connect_tcp("127.0.0.1", port, local_address="127.0.0.1")
        stream.close()

    return Case(wait, r"connection to 127\.0\.0\.1:\d+")


@case
async def fd_ready(world: World) -> Case:
    a, b = socket.socketpair()
    world.stack.callback(a.close)
    world.stack.callback(b.close)
    watch = FdWatch(a.fileno())
    world.stack.callback(watch.close)
    return Case(lambda: watch.readable(), r"readability of fd \d+")


# -- outside ---------------------------------------------------------------------------------------------------------------


@case
async def worker_thread(world: World) -> Case:
    end = threading.Event()
    world.stack.callback(end.set)

    def work() -> None:
        end.wait()

    async def wait() -> None:
        await thread.run(work, abandon_on_cancel=True)

    return Case(wait, r"thread.*work|work.*thread")


@case
async def future(world: World) -> Case:
    inner: concurrent.futures.Future[int] = concurrent.futures.Future()
    return Case(lambda: thread.wrap_future(inner).wait(), r"future")


@case
async def callback(world: World) -> Case:
    it = thread.CallbackFuture[int](name="it")
    return Case(lambda: it.wait(), rf"await of callback future 'it' \(made at {__file__}:\d+\)")


@case
async def signals(world: World) -> Case:
    stream = await world.open(bateau.signal.open(signal.SIGUSR2))
    return Case(lambda: stream.wait(), r"SIGUSR2")


async def sleeper(world: World) -> subprocess.Process:
    process: subprocess.Process = await world.open(
        subprocess.open_process(["sleep", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    world.stack.callback(process.kill)
    return process


@case
async def process_exit(world: World) -> Case:
    process = await sleeper(world)
    return Case(lambda: process.wait(), r"process.*sleep")


@case
async def process_read(world: World) -> Case:
    process = await sleeper(world)
    assert process.stdout is not None
    out = process.stdout
    return Case(lambda: out.read(1), r"stdout")


@case
async def process_write(world: World) -> Case:
    process = await sleeper(world)
    assert process.stdin is not None
    into = process.stdin
    return Case(lambda: into.write(bytes(10_000_000)), r"stdin")
