"""Plain trio programs in the world: trio.run in simulated processes, and bateau programs on the trio runtime."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import pytest

import bateau
from bateau import net, sim

trio = pytest.importorskip("trio")


def line_of(text: str) -> str:
    for number, line in enumerate(Path(__file__).read_text().splitlines(), 1):
        if line.strip().endswith(text):
            return f"test_trio.py:{number}"
    raise AssertionError(text)


def run(main, *args):
    return lambda: trio.run(main, *args)


def test_time_is_the_worlds():
    async def main():
        began = trio.current_time()
        await trio.sleep(86400)
        with trio.move_on_after(60) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        return trio.current_time() - began, time.monotonic()

    took, now = sim.run(run(main))
    assert took == pytest.approx(86460)
    assert now == pytest.approx(86460)


def test_streams_between_two_hosts():
    async def serve():
        async def echo(stream):
            async for data in stream:
                await stream.send_all(data.upper())

        await trio.serve_tcp(echo, 7)

    async def talk():
        stream = await trio.open_tcp_stream("server", 7)
        async with stream:
            await stream.send_all(b"hello")
            return await stream.receive_some(), time.monotonic()

    async def scenario(world):
        world.host("server").start(run(serve))
        await bateau.time.sleep(1)
        said, at = await world.host("client").start(run(talk))
        assert said == b"HELLO"
        assert 1 < at < 2

    sim.run(scenario)
    sim.explore(scenario, seeds=20)
    sim.check_determinism(scenario, seed=4)


async def lost_update():
    count = 0

    async def increment(rounds):
        nonlocal count
        for _ in range(rounds):
            await trio.lowlevel.checkpoint()
        value = count
        await trio.lowlevel.checkpoint()  # the gap
        count = value + 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(increment, 0)
        nursery.start_soon(increment, 1)
    assert count == 2  # the check


def test_the_order_of_trios_tasks_is_chosen_and_replays():
    with pytest.raises(sim.Found) as caught:
        sim.explore(run(lost_update), seeds=500)
    assert line_of("# the check") in caught.value.story
    assert sim.replay(run(lost_update), caught.value.token).failed


def test_worker_threads():
    async def main():
        return await trio.to_thread.run_sync(lambda: (time.sleep(5), trio.from_thread.run_sync(trio.current_time))[1])

    sim.run(run(main))
    assert sim.explore(run(main), seeds=5).runs == 5


def test_bateau_on_trio_in_the_world():
    async def serve():
        async def echo(stream):
            while data := await stream.recv():
                await stream.sendall(data)

        async with await net.listen_tcp("0.0.0.0", 7) as listener:
            await net.serve(echo, listener)

    async def talk():
        async with await net.connect_tcp("server", 7) as stream:
            await stream.sendall(b"hello")
            await bateau.time.sleep(10)
            return await stream.recv()

    async def scenario(world):
        on_trio = functools.partial(bateau.run, runtime="trio")
        world.host("server").start(lambda: on_trio(serve))
        await bateau.time.sleep(1)
        return await world.host("client").start(lambda: on_trio(talk))

    assert sim.run(scenario) == b"hello"


def test_outside_trio_is_as_it_was():
    async def main():
        await trio.sleep(0.001)
        return trio.current_time()

    sim.run(run(main))
    assert trio.run(main) != 0
