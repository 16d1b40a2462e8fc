"""Someone else's code, unmodified, in the world: aiohttp, websockets, redis-py, httpx over the simulated network, with faults, deterministic."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bateau
from bateau import sim
from bateau.sim.running import one_run
from bateau.sim.strategy import by_name


def run(scenario, seed, strategy="random", **options):
    chosen = by_name(strategy)
    chosen.begin(seed)
    done = one_run(scenario, seed=seed, strategy=chosen, **options)
    if done.error is not None:
        raise done.error
    return done


# -- aiohttp -----------------------------------------------------------------------------------------------------------------


async def shop():
    """A service with a bug of design: an order is carried out before it is answered, and has no key by which it would be known again."""
    from aiohttp import web

    orders: list[str] = []

    async def order(request):
        orders.append((await request.json())["what"])
        await asyncio.sleep(0.01)
        return web.json_response({"orders": len(orders)})

    async def listing(request):
        return web.json_response(orders)

    app = web.Application()
    app.router.add_post("/orders", order)
    app.router.add_get("/orders", listing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 8080).start()
    await asyncio.Event().wait()


async def customer(count):
    """Orders, and tries again when the connection broke."""
    import aiohttp

    errors = 0
    async with aiohttp.ClientSession("http://shop:8080") as session:
        for n in range(count):
            while True:
                try:
                    async with session.post("/orders", json={"what": f"thing {n}"}) as answer:
                        await answer.json()
                        break
                except (aiohttp.ClientError, TimeoutError):
                    errors += 1
        while True:
            try:
                async with session.get("/orders") as answer:
                    return await answer.json(), errors
            except aiohttp.ClientError:
                errors += 1


async def shopping(world, count=8):
    world.host("shop").start(lambda: asyncio.run(shop()))
    await bateau.time.sleep(1)
    return await world.host("customer").start(lambda: asyncio.run(customer(count)))


async def shopping_is_exact(world):
    orders, _ = await shopping(world)
    assert orders == [f"thing {n}" for n in range(8)]  # each once


def test_aiohttp_server_and_client_on_two_hosts():
    pytest.importorskip("aiohttp")
    done = run(shopping, 0)
    assert done.value == ([f"thing {n}" for n in range(8)], 0)
    assert 1 < done.seconds < 5


def test_aiohttp_is_deterministic_with_resets():
    pytest.importorskip("aiohttp")
    faults = sim.Faults(reset=0.1, retransmit=0.05)
    for seed in range(4):
        one, two = run(shopping, seed, faults=faults), run(shopping, seed, faults=faults)
        assert (one.digest, one.value, one.seconds) == (two.digest, two.value, two.seconds)
    assert sum(run(shopping, seed, faults=faults).value[1] for seed in range(4)) > 0  # there were resets


def test_aiohttp_orders_twice_after_a_reset_and_the_simulator_finds_it():
    pytest.importorskip("aiohttp")
    faults = sim.Faults(reset=0.02)
    sim.explore(shopping_is_exact, seeds=20)
    with pytest.raises(sim.Found) as caught:
        sim.explore(shopping_is_exact, seeds=300, faults=faults)
    assert "# each once" in caught.value.story
    assert sum(map(len, caught.value.run.choices.values())) <= 4  # a reset at the wrong moment, and little else
    assert sim.replay(shopping_is_exact, caught.value.token).failed  # the token brings the faults along


ANOTHER_PROCESS = """
import sys
sys.path.insert(0, {folder!r})
from test_foreign import run, shopping, sim
done = run(shopping, 3, faults=sim.Faults(reset=0.05, retransmit=0.05))
print(done.digest, done.value)
"""


def test_aiohttp_is_the_same_in_another_process():
    pytest.importorskip("aiohttp")
    code = ANOTHER_PROCESS.format(folder=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    said = {
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(said) == 1


def test_aiohttp_through_a_crash_of_the_server():
    pytest.importorskip("aiohttp")

    async def scenario(world):
        host = world.host("shop")
        host.start(lambda: asyncio.run(shop()))
        await bateau.time.sleep(1)
        buying = world.host("customer").start(lambda: asyncio.run(customer(50)))
        await bateau.time.sleep(0.2)
        host.crash()
        await bateau.time.sleep(0.1)
        host.restart()
        return await buying

    orders, errors = run(scenario, 1).value
    assert errors > 0
    assert orders[-1] == "thing 49"
    assert len(orders) < 50  # the crash took the first ones along: they were in memory only


# -- others ------------------------------------------------------------------------------------------------------------------


def test_httpx_on_asyncio_and_on_trio():
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("aiohttp")
    trio = pytest.importorskip("trio")

    async def get():
        async with httpx.AsyncClient() as client:
            return (await client.get("http://shop:8080/orders")).json(), time.monotonic()

    async def scenario(world):
        world.host("shop").start(lambda: asyncio.run(shop()))
        await bateau.time.sleep(1)
        for start in (lambda: asyncio.run(get()), lambda: trio.run(get), get):
            orders, at = await world.host("client").start(start)
            assert orders == []
            assert 1 < at < 4

    run(scenario, 0)  # what a library keeps of its first use (certificates, found backends) is there from now on
    assert run(scenario, 0).digest == run(scenario, 0).digest


def test_websockets():
    websockets = pytest.importorskip("websockets")
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    async def echo():
        async def handle(socket):
            async for message in socket:
                await socket.send(message.upper())

        async with serve(handle, "0.0.0.0", 8765, ping_interval=20):
            await asyncio.Event().wait()

    async def talk():
        async with connect("ws://server:8765") as socket:
            await socket.send("hello")
            first = await socket.recv()
            await asyncio.sleep(100)  # pings go there and back
            await socket.send("again")
            return first, await socket.recv(), time.monotonic()

    async def lose_touch():
        """The peer vanishes without a word: the keepalive notices."""
        async with connect("ws://server:8765") as socket:
            try:
                await socket.recv()
            except websockets.ConnectionClosedError:
                return time.monotonic()

    async def scenario(world):
        server = world.host("server")
        server.start(lambda: asyncio.run(echo()))
        await bateau.time.sleep(1)
        first, again, at = await world.host("client").start(lambda: asyncio.run(talk()))
        assert (first, again) == ("HELLO", "AGAIN")
        assert 101 < at < 105
        losing = world.host("client").start(lambda: asyncio.run(lose_touch()))
        await bateau.time.sleep(5)
        server.freeze()
        assert 20 < await losing - at < 100

    run(scenario, 0)
    assert run(scenario, 0).digest == run(scenario, 0).digest


def test_redis_client_against_a_simulated_server():
    redis = pytest.importorskip("redis.asyncio")

    async def server():
        """As much of the protocol as GET, SET and INCRBY need."""
        data: dict[bytes, bytes] = {}

        async def handle(reader, writer):
            try:
                while line := await reader.readline():
                    words = []
                    for _ in range(int(line[1:])):
                        size = int((await reader.readline())[1:])
                        words.append((await reader.readexactly(size + 2))[:-2])
                    command = words[0].upper()
                    if command == b"SET":
                        data[words[1]] = words[2]
                        writer.write(b"+OK\r\n")
                    elif command == b"GET":
                        value = data.get(words[1])
                        writer.write(b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value))
                    elif command == b"INCRBY":
                        data[words[1]] = b"%d" % (int(data.get(words[1], b"0")) + int(words[2]))
                        writer.write(b":%b\r\n" % data[words[1]])
                    else:
                        writer.write(b"+OK\r\n")  # what a client says of itself
                    await writer.drain()
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        async with await asyncio.start_server(handle, "0.0.0.0", 6379) as listening:
            await listening.serve_forever()

    async def client():
        async with redis.Redis(host="redis", protocol=2) as client:
            await client.set("a", "1")
            for _ in range(10):
                await client.incr("a")
            return await client.get("a")

    async def scenario(world):
        world.host("redis").start(lambda: asyncio.run(server()))
        await bateau.time.sleep(1)
        return await world.host("client").start(lambda: asyncio.run(client()))

    done = run(scenario, 2)
    assert done.value == b"11"
    assert done.digest == run(scenario, 2).digest
