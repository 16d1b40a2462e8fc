"""The native loop's reactor: readers and writers, and the descriptors it takes itself; most of it beside asyncio's own loop."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import select
import socket
from typing import Any

import pytest

from bateau.interop.asyncio import new_event_loop
from support.loops import Problems, Recorder, both, needs_native, once, run


@both
def test_readers_and_writers(factory: Any) -> None:
    loop = factory()
    here, there = socket.socketpair()
    seen: list[str] = []
    loop.add_writer(here, seen.append, "w")
    once(loop)
    assert seen == ["w"]
    loop.add_reader(here, seen.append, "r")
    loop.add_writer(here.fileno(), seen.append, "w2")
    there.send(b"x")
    once(loop)
    assert seen == ["w", "r", "w2"]
    assert loop.remove_writer(here) is True
    assert loop.remove_writer(here) is False
    once(loop)
    assert seen[3:] == ["r"]
    there.close()
    once(loop)
    assert seen[3:] == ["r", "r"]  # the end can be read, too
    assert loop.remove_reader(here) is True
    assert loop.remove_reader(here) is False
    once(loop)
    assert len(seen) == 5
    here.close()
    with pytest.raises((ValueError, OSError)):
        loop.add_reader(here, print)
    with open(__file__) as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)
    loop.close()


@needs_native
def test_a_reader_whose_descriptor_was_closed_and_is_anothers_now(loop: Any) -> None:
    seen: list[str] = []
    first = socket.socketpair()
    numbers = first[0].fileno(), first[1].fileno()
    loop.add_reader(numbers[0], seen.append, "old")
    first[0].close()
    first[1].close()
    second = socket.socketpair()
    assert {sock.fileno() for sock in second} == set(numbers)
    here, there = second if second[0].fileno() == numbers[0] else second[::-1]
    there.send(b"x")
    once(loop)
    assert seen == []
    loop.add_writer(here, seen.append, "new")
    once(loop)
    assert seen == ["new"]
    assert loop.remove_reader(here) is False  # the old one's went with its file
    loop.remove_writer(here)
    here.close()
    there.close()


@both
def test_too_many_open_files(factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMFILE on accept is told, and accepting goes on when there are descriptors again."""
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.01)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        problems = Problems()
        loop.set_exception_handler(problems)
        accepted: list[Recorder] = []

        def make() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        server = await loop.create_server(make, "127.0.0.1", 0)
        client = socket.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        fill = []
        try:
            while True:
                try:
                    fill.append(os.dup(client.fileno()))
                except OSError:
                    break
            client.setblocking(False)
            client.connect_ex(server.sockets[0].getsockname())
            while not problems:
                await asyncio.sleep(0)
            assert problems[0]["exception"].errno == errno.EMFILE
            assert not accepted
        finally:
            for fd in fill:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        while not accepted:
            await asyncio.sleep(0.001)
        await accepted[0].made
        client.close()
        await accepted[0].lost
        server.close()
        await server.wait_closed()

    run(factory, main())


@needs_native
def test_a_loop_that_can_not_be_made_leaves_nothing_behind() -> None:
    open_before = set(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    failed = 0
    try:
        for room in range(4):  # an epoll set, an eventfd and two sockets
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
            with pytest.raises(OSError) as error:
                new_event_loop()
            failed += error.value.errno == errno.EMFILE
            del error
            gc.collect()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failed == 4
    assert set(os.listdir("/proc/self/fd")) == open_before


@needs_native
def test_work_that_never_ends_does_not_keep_readers_out(loop: Any) -> None:
    here, there = socket.socketpair()
    rounds = 0

    def again() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            there.send(b"x")
        loop.call_soon(again)

    loop.call_soon(again)
    loop.add_reader(here, loop.stop)
    loop.run_forever()
    assert rounds < 100
    loop.remove_reader(here)
    here.close()
    there.close()


@needs_native
def test_thousands_of_descriptors(loop: Any) -> None:
    """More events than one poll takes, and a table that grows."""
    read = [os.eventfd(1, os.EFD_NONBLOCK) for _ in range(700)]
    seen: set[int] = set()
    for fd in read:
        loop.add_reader(fd, seen.add, fd)
    for _ in range(50):
        once(loop)
        for fd in seen & set(read):
            loop.remove_reader(fd)
    assert seen == set(read)
    for fd in read:
        os.close(fd)


@needs_native
def test_the_epoll_set_is_closed_with_the_loop() -> None:
    before = set(os.listdir("/proc/self/fd"))
    loop = new_event_loop()
    loop.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert select.select([], [], [], 0) == ([], [], [])
