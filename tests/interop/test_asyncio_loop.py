"""Programs written for asyncio, unmodified on bateau's loop: the usual libraries over real sockets, with TLS too."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import bateau.interop.asyncio
from bateau.interop.asyncio import is_native, new_event_loop
from support.loops import needs_native, run

ROOT = Path(__file__).parents[2]
BIG = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def test_the_ways_in() -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__name__

    name = "NativeEventLoop" if is_native() else "_UnixSelectorEventLoop"
    assert bateau.interop.asyncio.run(main()) == name
    with asyncio.Runner(loop_factory=bateau.interop.asyncio.loop_factory) as runner:
        assert runner.run(main()) == name
    policy = bateau.interop.asyncio.EventLoopPolicy()
    loop = policy.new_event_loop()
    assert loop.run_until_complete(main()) == name
    loop.close()

    async def nested() -> None:
        coroutine = main()
        try:
            with pytest.raises(RuntimeError, match="running event loop"):
                bateau.interop.asyncio.run(coroutine)
        finally:
            coroutine.close()

    bateau.interop.asyncio.run(nested())


def test_without_the_c_part_it_is_asyncios_own_loop() -> None:
    program = "import bateau.interop.asyncio as b; loop = b.new_event_loop(); print(type(loop).__module__, b.is_native()); loop.close()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "BATEAU_PURE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["asyncio.unix_events", "False"]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_streams(contexts: Any, tls: bool) -> None:
    server_context, client_context = contexts if tls else (None, None)

    async def main() -> None:
        ended = asyncio.Event()

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context)

        async def send() -> None:
            writer.write(BIG)
            await writer.drain()
            writer.write(b"the end\n")

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            assert await reader.readexactly(len(BIG)) == BIG
        assert await reader.readline() == b"the end\n"
        writer.close()
        await writer.wait_closed()
        await ended.wait()
        server.close()
        await server.wait_closed()

    run(new_event_loop, main())


def test_an_upgrade_to_tls(contexts: Any) -> None:
    server_context, client_context = contexts

    async def main() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go\n")
            await writer.start_tls(server_context)
            writer.write(b"secret " + await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(client_context, server_hostname="localhost")
        writer.write(b"word\n")
        assert await reader.read() == b"secret word\n"
        writer.close()
        await writer.wait_closed()
        await ended.wait()
        server.close()
        await server.wait_closed()

    run(new_event_loop, main())


def test_unix_sockets_datagrams_pipes_and_processes(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "socket")

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello " + await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_unix_server(greet, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"unix\n")
        assert await reader.read() == b"hello unix\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

        class Datagrams(asyncio.DatagramProtocol):
            def __init__(self) -> None:
                self.got: asyncio.Queue[Any] = asyncio.Queue()

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.got.put_nowait((data, addr))

        first, one = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        second, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=first.get_extra_info("sockname"))
        second.sendto(b"datagram")
        assert await one.got.get() == (b"datagram", second.get_extra_info("sockname"))
        first.close()
        second.close()

        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        out, _ = await process.communicate(BIG)
        assert out == BIG
        process = await asyncio.create_subprocess_exec("sleep", "1000")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        assert await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

    run(new_event_loop, main())


@asynccontextmanager
async def aiohttp_site(context: ssl.SSLContext | None) -> AsyncIterator[str]:
    from aiohttp import web

    async def upload(request: web.Request) -> web.Response:
        return web.Response(body=(await request.read())[::-1])

    async def big(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for at in range(0, len(BIG), 100_000):
            await response.write(BIG[at : at + 100_000])
        return response

    async def chat(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        async for message in sock:
            await sock.send_str(message.data.upper())
        return sock

    app = web.Application(client_max_size=1 << 22)
    app.router.add_post("/upload", upload)
    app.router.add_get("/big", big)
    app.router.add_get("/chat", chat)
    app.router.add_static("/static", ROOT / "scripts")
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
    await site.start()
    assert runner.addresses
    try:
        yield f"{'https' if context else 'http'}://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_aiohttp(contexts: Any, tls: bool) -> None:
    import aiohttp

    server_context, client_context = contexts if tls else (None, True)

    async def main() -> None:
        async with (
            aiohttp_site(server_context) as base,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context)) as session,
        ):
            async with session.post(f"{base}/upload", data=BIG) as response:
                assert await response.read() == BIG[::-1]
            async with session.get(f"{base}/big") as response:
                assert await response.read() == BIG
            async with session.get(f"{base}/static/asyncio_conformance.py") as response:  # by sendfile
                assert await response.read() == (ROOT / "scripts/asyncio_conformance.py").read_bytes()
            async with session.ws_connect(f"{base}/chat") as sock:
                for word in ("one", "two"):
                    await sock.send_str(word)
                    assert await sock.receive_str() == word.upper()

            async def get() -> int:
                async with session.post(f"{base}/upload", data=b"x" * 1000) as response:
                    return len(await response.read())

            assert sum(await asyncio.gather(*(get() for _ in range(50)))) == 50_000
        await asyncio.sleep(0.05 if tls else 0)  # aiohttp's connector closes TLS in the background

    run(new_event_loop, main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_httpx_and_uvicorn(contexts: Any, tls: bool, tmp_path: Path) -> None:
    import httpx
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-size", b"%d" % len(body))]})
        for at in range(0, len(body), 65536):
            await send({"type": "http.response.body", "body": body[at : at + 65536], "more_body": True})
        await send({"type": "http.response.body"})

    server_context, client_context = contexts if tls else (None, False)

    async def main() -> None:
        config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, http="h11", ws="none")
        config.load()
        config.ssl = server_context
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        listening = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(server._serve([listening]))
        while not server.started:
            await asyncio.sleep(0.001)
        url = f"{'https' if tls else 'http'}://127.0.0.1:{listening.getsockname()[1]}/"
        async with httpx.AsyncClient(verify=client_context, trust_env=False) as client:
            response = await client.post(url, content=BIG)
            assert response.content == BIG
            assert response.headers["x-size"] == str(len(BIG))
            answers = await asyncio.gather(*(client.post(url, content=b"x" * n) for n in range(30)))
            assert [len(answer.content) for answer in answers] == list(range(30))
        server.should_exit = True
        await serving
        listening.close()

    run(new_event_loop, main())


def test_uvicorns_own_option(tmp_path: Path) -> None:
    """``uvicorn --loop bateau.interop.asyncio:new_event_loop``."""
    (tmp_path / "site.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': raise RuntimeError\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': type(asyncio.get_running_loop()).__name__.encode()})\n"
    )
    (tmp_path / "site.py").rename(tmp_path / "the_site.py")
    listening = socket.create_server(("127.0.0.1", 0))
    command = (
        f"-m uvicorn --loop bateau.interop.asyncio:new_event_loop --fd {listening.fileno()} --lifespan off the_site:app"
    )
    process = subprocess.Popen(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        pass_fds=[listening.fileno()],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    try:
        with socket.create_connection(listening.getsockname(), 30) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := sock.recv(1000):
                answer += data
        assert (b"NativeEventLoop" if is_native() else b"_UnixSelectorEventLoop") in answer
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        listening.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_websockets(contexts: Any, tls: bool) -> None:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    server_context, client_context = contexts if tls else (None, None)

    async def main() -> None:
        async def echo(sock: Any) -> None:
            async for message in sock:
                await sock.send(message)

        async with serve(echo, "localhost", 0, ssl=server_context) as server:
            port = server.sockets[0].getsockname()[1]
            scheme = "wss" if tls else "ws"
            async with connect(f"{scheme}://localhost:{port}/", ssl=client_context, proxy=None) as sock:
                for message in ("text", b"bytes", BIG[:500_000]):
                    await sock.send(message)
                    assert await sock.recv() == message

    run(new_event_loop, main())


async def tiny_redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Enough of a redis server for a client: SET, GET, and OK to all it says to introduce itself."""
    kept: dict[bytes, bytes] = {}
    while line := await reader.readline():
        words = []
        for _ in range(int(line[1:])):
            size = int((await reader.readline())[1:])
            words.append((await reader.readexactly(size + 2))[:-2])
        match [words[0].upper(), *words[1:]]:
            case [b"SET", key, value]:
                kept[key] = value
                writer.write(b"+OK\r\n")
            case [b"GET", key]:
                writer.write(b"$%d\r\n%b\r\n" % (len(kept[key]), kept[key]) if key in kept else b"$-1\r\n")
            case _:
                writer.write(b"+OK\r\n")
    writer.close()
    await writer.wait_closed()


def test_redis() -> None:
    import redis.asyncio

    async def main() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await tiny_redis(reader, writer)
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22)
        client = redis.asyncio.Redis(port=server.sockets[0].getsockname()[1], protocol=2)
        await client.set("key", BIG)
        assert await client.get("key") == BIG
        assert await client.get("none") is None
        async with client.pipeline(transaction=False) as pipe:
            for n in range(100):
                pipe.set(f"k{n}", n)
                pipe.get(f"k{n}")
            assert (await pipe.execute())[1::2] == [b"%d" % n for n in range(100)]
        await client.aclose()
        await ended.wait()
        server.close()
        await server.wait_closed()

    run(new_event_loop, main())


@pytest.mark.skipif(not shutil.which("initdb") or not shutil.which("postgres"), reason="PostgreSQL is not installed")
@pytest.mark.no_leak_check("the database is a process of its own")
def test_asyncpg() -> None:
    pytest.importorskip("asyncpg")
    # Not pytest's folder: PostgreSQL refuses to be root, and another user may not look into that one.
    with tempfile.TemporaryDirectory() as home:
        user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = {"user": "nobody", "group": "nogroup"}
            shutil.chown(home, **user)
        # A sanitizer that is preloaded is for Python: PostgreSQL's initdb does not end under it.
        environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
        talk_to_postgres(Path(home), user | {"env": environment})


def talk_to_postgres(tmp_path: Path, user: dict[str, Any]) -> None:
    import asyncpg

    data = tmp_path / "data"
    initialized = subprocess.run(
        ["initdb", "-D", data, "-A", "trust", "-U", "me", "-N", "--locale=C", "-E", "UTF8"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        **user,
    )
    assert initialized.returncode == 0, initialized.stderr
    process = subprocess.Popen(
        ["postgres", "-D", data, "-k", tmp_path, "-c", "listen_addresses=", "-F"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        **user,
    )

    async def main() -> None:
        while True:
            try:
                connection = await asyncpg.connect(host=str(tmp_path), user="me", database="postgres")
                break
            except (OSError, asyncpg.CannotConnectNowError):
                assert process.poll() is None
                await asyncio.sleep(0.02)
        assert await connection.fetchval("select $1::int + 1", 41) == 42
        await connection.execute("create table t (n int, b bytea)")
        await connection.copy_records_to_table("t", records=[(n, BIG[:n]) for n in range(1000)])
        rows = await connection.fetch("select * from t order by n")
        assert [row["b"] for row in rows] == [BIG[:n] for n in range(1000)]
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("select 1/0")
        with pytest.raises(TimeoutError):
            await connection.fetch("select pg_sleep(100)", timeout=0.05)
        assert await connection.fetchval("select 1") == 1
        await connection.close()

    try:
        run(new_event_loop, main())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.mark.no_leak_check("gRPC keeps threads and descriptors for the life of the process")
def test_grpc() -> None:
    """In a process of its own: what gRPC keeps is not for the other tests."""
    program = """
import asyncio, grpc, bateau.interop.asyncio
async def main():
    async def double(request, context): return request * 2
    async def count(request, context):
        for i in range(5): yield b"%d" % i
    handlers = {"Double": grpc.unary_unary_rpc_method_handler(double), "Count": grpc.unary_stream_rpc_method_handler(count)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("T", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answers = await asyncio.gather(*(channel.unary_unary("/T/Double")(b"%d" % n) for n in range(20)))
        assert answers == [b"%d" % n * 2 for n in range(20)], answers
        assert [part async for part in channel.unary_stream("/T/Count")(b"")] == [b"0", b"1", b"2", b"3", b"4"]
    await server.stop(None)
    print("done")
bateau.interop.asyncio.run(main())
"""
    pytest.importorskip("grpc")
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "done\n", done.stderr


@needs_native
@pytest.mark.no_leak_check("it is another process")
def test_cpythons_own_tests() -> None:
    """A quick part of them; ``scripts/asyncio_conformance.py`` without arguments runs them all."""
    modules = ["test_buffered_proto", "test_sock_lowlevel", "test_sendfile", "test_server", "test_transports"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "scripts/asyncio_conformance.py", *modules],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if done.returncode == 77:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "native loop" in done.stdout


def test_in_a_simulated_world_it_is_asyncios_loop() -> None:
    """Whose time and network the world decides."""
    from bateau import sim

    async def program() -> Any:
        await asyncio.sleep(1000)
        return type(asyncio.get_running_loop())

    def scenario(world: Any) -> None:
        assert bateau.interop.asyncio.run(program()) is asyncio.SelectorEventLoop
        assert 1000 <= world.now < 1001

    sim.run(scenario)


def test_bateaus_own_code_in_an_asyncio_program() -> None:
    async def main() -> None:
        async with await bateau.net.listen_tcp("127.0.0.1", 0) as listener, bateau.scope(timeout=60) as scope:

            async def serve() -> None:
                async with await listener.accept() as stream:
                    await stream.sendall((await stream.read())[::-1])

            scope.spawn(serve)
            async with await bateau.net.connect_tcp(*listener.getsockname()) as stream:
                await stream.sendall(b"word")
                assert await stream.read() == b"drow"
            assert await bateau.thread.run(lambda: 5) == 5
            parked = scope.spawn(bateau.time.sleep_forever)
            await bateau.time.sleep(0.001)
            parked.cancel()

    run(new_event_loop, main())
