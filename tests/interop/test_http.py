"""Libraries people use, inside bateau programs: httpx and aiohttp as clients, aiohttp as a server."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import ClientSession, ClientTimeout, WSMsgType, web

import bateau
from support.entries import on_asyncio_family, on_trio
from support.sockets import receive_all, serving
from support.waiting import until

LONG = 30.0
SHORT = 0.05


async def clean() -> None:
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0
    await asyncio.sleep(0)
    await bateau.yield_now()


@asynccontextmanager
async def site(log: list[str] | None = None) -> AsyncIterator[str]:
    """An aiohttp server whose handlers use bateau; gives its base address."""
    seen = log if log is not None else []

    async def hello(request: web.Request) -> web.Response:
        await bateau.time.sleep(0.001)
        return web.Response(text=f"hello {request.match_info['name']}")

    async def slow(request: web.Request) -> web.Response:
        seen.append("the handler began")
        try:
            async with bateau.scope() as scope:
                scope.spawn(bateau.time.sleep, LONG)
        except asyncio.CancelledError:
            seen.append("the handler was cancelled")
            raise
        return web.Response()

    async def fan_out(request: web.Request) -> web.Response:
        async def part(n: int) -> int:
            await asyncio.sleep(0.001)
            return n * n

        return web.json_response(await bateau.join([part(n) for n in range(5)]))

    async def upload(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def rows(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for n in range(20):
            await response.write(b"row %d\n" % n)
            await bateau.yield_now()
        await response.write_eof()
        return response

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
        return socket

    app = web.Application(client_max_size=2**24)
    app.add_routes(
        [
            web.get("/hello/{name}", hello),
            web.get("/slow", slow),
            web.get("/fan-out", fan_out),
            web.post("/upload", upload),
            web.get("/rows", rows),
            web.get("/talk", talk),
        ]
    )
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        with bateau.shield():
            await runner.cleanup()


@on_asyncio_family
def test_aiohttp_on_both_ends(entry: Any) -> None:
    async def main() -> None:
        async with site() as base, ClientSession(base) as client:

            async def get(path: str) -> str:
                async with client.get(path) as response:
                    assert response.status == 200
                    return await response.text()

            async with bateau.scope(limit=4) as scope:
                tasks = [scope.spawn(get, f"/hello/{n}") for n in range(12)]
            assert [task.outcome().unwrap() for task in tasks] == [f"hello {n}" for n in range(12)]
            assert await get("/fan-out") == "[0, 1, 4, 9, 16]"
            assert (await get("/rows")).count("\n") == 20
            async with client.post("/upload", data=io.BytesIO(b"x" * 3_000_000)) as response:
                assert await response.text() == "3000000"
            async with client.ws_connect("/talk") as socket:
                await socket.send_str("shout")
                assert (await socket.receive()).data == "SHOUT"
        await clean()

    entry.run(main)


@pytest.mark.law(5)
@on_asyncio_family
def test_aiohttp_cancelled_from_both_sides(entry: Any) -> None:
    async def main() -> None:
        log: list[str] = []
        async with site(log) as base, ClientSession(base) as client:

            async def slow(**options: Any) -> None:
                async with client.get("/slow", **options) as response:
                    await response.text()

            with bateau.move_on_after(SHORT) as ours:
                await slow()
            assert ours.cancelled_caught
            await clean()
            with pytest.raises(TimeoutError):
                await slow(timeout=ClientTimeout(total=SHORT))
            await clean()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SHORT), bateau.scope() as scope:
                    scope.spawn(slow)
                    scope.spawn(slow)
            await clean()
            with bateau.move_on_after(SHORT) as ours:
                async with asyncio.TaskGroup() as group:
                    group.create_task(slow())
                    group.create_task(slow())
            assert ours.cancelled_caught
            await clean()
            async with client.get("/hello/again") as response:  # the session has come through it
                assert await response.text() == "hello again"
            # Each that began was cancelled; where this machine stood still, a request may have been given up on its way.
            with bateau.timeout(10):
                while log.count("the handler began") > log.count("the handler was cancelled"):
                    await bateau.time.sleep(0.001)
            assert 1 <= len(log) // 2 == log.count("the handler was cancelled") <= 6

    entry.run(main)


@on_asyncio_family
def test_httpx_on_the_asyncio_family(entry: Any) -> None:
    async def main() -> None:
        async with site() as base, httpx.AsyncClient(base_url=base, trust_env=False) as client:
            await _fetch_with_httpx(client)
            await clean()

    entry.run(main)


@on_trio
def test_httpx_on_trio(entry: Any) -> None:
    """Against a plain server: aiohttp is asyncio's."""

    async def main(base: str) -> None:
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            async with bateau.scope() as scope:
                task = scope.spawn(client.get, "/hello")
            assert task.outcome().unwrap().text == "hello"

    def talk(sock: Any) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

    with serving(talk) as (host, port):
        entry.run(main, f"http://{host}:{port}")


@pytest.mark.law(5)
@on_trio
def test_httpx_on_trio_cancelled_from_both_sides(entry: Any) -> None:
    import trio

    def hold(sock: socket.socket) -> None:
        sock.recv(1)
        asked.set()
        receive_all(sock)

    async def cancel_when_asked(block: Any) -> None:
        await until(asked.is_set)
        block.cancel()

    async def main(base: str, theirs: bool) -> None:
        client = httpx.AsyncClient(base_url=base, trust_env=False, timeout=LONG)
        async with client, bateau.scope() as around:
            block = trio.CancelScope() if theirs else bateau.CancelScope()
            around.spawn(cancel_when_asked, block)
            with block:
                if theirs:
                    async with bateau.scope() as scope:
                        scope.spawn(client.get, "/slow")
                else:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(client.get, "/slow")
            assert block.cancelled_caught
            await trio.lowlevel.checkpoint()
            await bateau.checkpoint()

    for theirs in (False, True):
        asked = threading.Event()
        with serving(hold) as (host, port):
            entry.run(main, f"http://{host}:{port}", theirs)


async def _fetch_with_httpx(client: httpx.AsyncClient) -> None:
    async def get(path: str) -> str:
        return (await client.get(path)).raise_for_status().text

    names = [f"/hello/{n}" for n in range(8)]
    assert await bateau.join([get(name) for name in names], limit=3) == [f"hello {n}" for n in range(8)]
    async with client.stream("GET", "/rows") as response:
        assert len([line async for line in response.aiter_lines()]) == 20
    with pytest.raises(TimeoutError):
        with bateau.timeout(SHORT):
            await get("/slow")
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/slow", timeout=httpx.Timeout(10, read=SHORT))
    async with bateau.scope() as scope:
        slow = scope.spawn(get, "/slow")
        await bateau.time.sleep(SHORT)
        slow.cancel("by hand")
    assert await get("/hello/again") == "hello again"


@on_asyncio_family
def test_aiohttp_stops_with_its_scope(entry: Any) -> None:
    """A server is something a scope owns: cancelled, it is cleaned up, connections and all."""

    async def main() -> None:
        async def serve(*, task_status: Any) -> None:
            async with site() as base:
                task_status.started(base)
                await bateau.time.sleep_forever()

        async with bateau.scope() as scope:
            base = await scope.start(serve)
            async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
                assert (await client.get("/hello/you")).text == "hello you"
            scope.cancel("enough")
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("/hello/you")
        await clean()

    entry.run(main)
