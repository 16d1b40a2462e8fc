"""httpx, Starlette and FastAPI on the backend, over real sockets."""

from __future__ import annotations

import ssl

import anyio
import httpx
import pytest
import sniffio
import trustme
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import bateau
import bateau.interop.anyio as backend
from interop.anyio.served import serving

backend.install()


def run(fn):
    return anyio.run(fn, backend="bateau")


async def hello(request):
    return PlainTextResponse(f"hello {request.query_params['name']} on {sniffio.current_async_library()}")


async def echo(request):
    async def parts():
        async for chunk in request.stream():
            await anyio.sleep(0)
            yield chunk[::-1]

    return StreamingResponse(parts())


def in_a_thread(request):
    """Starlette runs sync endpoints by anyio.to_thread."""
    return PlainTextResponse("from a thread")


async def slow(request):
    await anyio.sleep(30)


APP = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/echo", echo, methods=["POST"]),
        Route("/thread", in_a_thread),
        Route("/slow", slow),
    ]
)


def test_starlette_and_httpx():
    async def main():
        async with serving(APP) as url, httpx.AsyncClient(base_url=url) as client:
            answers = []

            async def one(n):
                answers.append((await client.get("/hello", params={"name": str(n)})).text)

            async with anyio.create_task_group() as group:
                for n in range(20):
                    group.start_soon(one, n)
            assert sorted(answers) == sorted(f"hello {n} on bateau" for n in range(20))
            body = bytes(range(256)) * 4096
            answer = await client.post("/echo", content=body)
            assert (answer.status_code, sorted(answer.content)) == (200, sorted(body))
            assert (await client.get("/thread")).text == "from a thread"
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/slow", timeout=httpx.Timeout(20, read=0.05))
            # A bateau scope cuts a request of httpx short, and the client goes on.
            with bateau.move_on_after(0.05) as scope:
                await client.get("/slow")
            assert scope.cancelled_caught
            assert (await client.get("/thread")).status_code == 200

    run(main)


def test_fastapi_with_dependencies():
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()
    closed = []

    async def session():
        try:
            yield "session"
        finally:
            await anyio.sleep(0)
            closed.append(True)

    def sync_dependency():
        return sniffio.current_async_library_cvar.get()

    @app.get("/items/{item}")
    async def read(item: int, found=fastapi.Depends(session), library=fastapi.Depends(sync_dependency)):  # noqa: B008  # so FastAPI is written
        return {"item": item, "session": found, "in the thread": library}

    async def main():
        async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
            answer = await client.get("/items/7")
            assert answer.json() == {"item": 7, "session": "session", "in the thread": None}
            assert (await client.get("/items/none")).status_code == 422

    run(main)
    assert closed == [True, True]


def test_tls():
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        tls = anyio.streams.tls.TLSListener(listener, server, standard_compatible=False)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def answer(stream):
            async with stream:
                while b"\r\n\r\n" not in await stream.receive():
                    pass
                await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

        async with tls, anyio.create_task_group() as group:
            group.start_soon(tls.serve, answer)
            async with httpx.AsyncClient(verify=client) as session:
                found = await session.get(f"https://127.0.0.1:{port}/")
            group.cancel_scope.cancel()
        return found.text

    assert run(main) == "ok"
