"""Other people's servers and clients, unmodified, over the simulated network."""

from __future__ import annotations

import asyncio
import http.server
import os
import time
import urllib.request

import aiohttp
import anyio
import httpx
import pytest
import trio
from aiohttp import web

import bateau
from bateau import sim
from bateau.sim import Faults


async def aiohttp_server():
    asked = 0

    async def answer(request):
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return web.json_response({"path": request.path, "asked": asked})

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 80).start()
    await asyncio.sleep(3600)


async def aiohttp_client():
    seen = []
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for number in range(10):
            try:
                async with session.get(f"http://web/{number}") as response:
                    seen.append((await response.json())["asked"])
            except (aiohttp.ClientError, TimeoutError) as error:
                seen.append(type(error).__name__)
    return seen


WAYS = {"asyncio.run": lambda fn: lambda: asyncio.run(fn()), "the sim runtime": lambda fn: fn}


@pytest.mark.parametrize("way", WAYS)
def test_aiohttp(way):
    async def scenario(world):
        world.host("web").start(WAYS[way](aiohttp_server))
        await bateau.time.sleep(0.5)
        seen = await world.host("client").start(WAYS[way](aiohttp_client))
        return seen, world.digest()

    seen, digest = sim.run(scenario)
    assert seen == list(range(1, 11))
    assert sim.run(scenario) == (seen, digest)


def test_aiohttp_with_connections_that_are_reset():
    async def scenario(world):
        world.host("web").start(aiohttp_server)
        await bateau.time.sleep(0.5)
        return await aiohttp_client(), world.digest()

    def runs():
        return [sim.run(scenario, seed=seed, strategy="random", faults=Faults(reset=0.05)) for seed in range(8)]

    first = runs()
    assert runs() == first
    words = {each for seen, _ in first for each in seen if isinstance(each, str)}
    assert words
    assert words <= {"ClientOSError", "ServerDisconnectedError", "ClientConnectionResetError"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"hello {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        return


def plain_server():
    with http.server.ThreadingHTTPServer(("", 80), Handler) as server:
        server.serve_forever()


async def httpx_client():
    async with httpx.AsyncClient() as client:
        return [(await client.get(f"http://web/{number}")).text for number in range(3)]


def httpx_blocking():
    with httpx.Client() as client:
        return [client.get(f"http://web/{number}").text for number in range(3)]


def urllib_client():
    return [urllib.request.urlopen(f"http://web/{number}").read().decode() for number in range(3)]


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(lambda: asyncio.run(httpx_client()), id="httpx on asyncio"),
        pytest.param(lambda: trio.run(httpx_client), id="httpx on trio"),
        pytest.param(httpx_client, id="httpx on sim"),
        pytest.param(httpx_blocking, id="httpx, blocking"),
        pytest.param(urllib_client, id="urllib"),
    ],
)
def test_http_clients(client):
    async def scenario(world):
        world.host("web").start(plain_server)
        await bateau.time.sleep(0.1)
        return await world.host("client").start(client), world.digest()

    answers, digest = sim.run(scenario)
    assert answers == ["hello /0", "hello /1", "hello /2"]
    assert sim.run(scenario) == (answers, digest)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(backend):
    async def server():
        async def handle(stream):
            async with stream:
                await stream.send((await stream.receive())[::-1])

        await (await anyio.create_tcp_listener(local_port=7)).serve(handle)

    async def client():
        async with await anyio.connect_tcp("server", 7) as stream:
            await stream.send(b"abc")
            return await stream.receive()

    async def scenario(world):
        world.host("server").start(lambda: anyio.run(server, backend=backend))
        await bateau.time.sleep(0.1)
        return await world.host("client").start(lambda: anyio.run(client, backend=backend)), world.digest()

    got, digest = sim.run(scenario)
    assert got == b"cba"
    assert sim.run(scenario) == (got, digest)


def test_asyncio_takes_the_place_of_uvloop():
    uvloop = pytest.importorskip("uvloop")

    async def program():
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        reader, writer = await asyncio.open_connection("web", 80)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await asyncio.sleep(1000)
        return answer.endswith(b"hello /")

    def scenario(world):
        world.host("web").start(plain_server)
        time.sleep(0.1)
        assert uvloop.run(program())
        assert 1000 < world.now < 1001

    sim.run(scenario)

    async def outside():
        return type(asyncio.get_running_loop())

    assert uvloop.run(outside()) is uvloop.Loop


def test_files_are_sent_over_simulated_connections():
    async def count(stream):
        total = 0
        while part := await stream.read():
            total += len(part)
        await stream.write(b"%d" % total)

    async def server():
        await bateau.net.serve(count, await bateau.net.listen_tcp(None, 80))

    async def scenario(world):
        world.host("server").start(server)
        await bateau.time.sleep(0.1)
        with open("/file", "wb") as file:
            file.write(bytes(500_000))
        with open("/file", "rb") as file:
            async with await bateau.net.connect_tcp("server", 80) as stream:
                assert await stream.sendfile(file) == 500_000
                await stream.write_eof()
                assert await stream.read() == b"500000"
            reader, writer = await asyncio.open_connection("server", 80)
            assert await asyncio.get_running_loop().sendfile(writer.transport, file, 100_000) == 400_000
            writer.write_eof()
            assert await reader.read() == b"400000"
            writer.close()
            await writer.wait_closed()

    sim.run(scenario)


def test_pipes_of_asyncio_and_of_files():
    async def scenario():
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as source, os.fdopen(writing, "w") as sink:
            sink.write("a line\n")
            sink.flush()
            assert source.readline() == b"a line\n"
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb"))
        transport, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(writing, "wb"))
        transport.write(b"x" * 200_000)
        transport.close()
        assert len(await reader.read()) == 200_000

    sim.run(scenario)
