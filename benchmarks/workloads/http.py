"""A plaintext web server: uvicorn on each loop, under wrk.

One operation is one response. The load is ``wrk -t1 -c64`` for a second, on another core where there is one, without pipelining. Only the
server's CPU time is counted, from before wrk's start to after its end.

Cases
  plaintext  an ASGI application that answers "Hello, world!", under uvicorn with httptools (the parser of ``uvicorn[standard]``; the
             note says if h11 had to do), no access log, no proxy headers.

Where semantics differ
  * None between the loops: the same uvicorn, the same application.
  * The floor is a server in C (``c/echo_server.c``) that answers each end of a header with one fixed response, and parses nothing.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..model import Case, Measured, Stopwatch, Workload
from ..programs import program, start_load

CONNECTIONS = 64
HOST = "127.0.0.1"


def wrk(port: int) -> subprocess.Popen[bytes]:
    """Start one second of load."""
    command = ("wrk", "-t1", f"-c{CONNECTIONS}", "-d1s", f"http://{HOST}:{port}/")
    return start_load(*command, stdout=subprocess.PIPE)


def take(said: bytes, clock: Stopwatch) -> None:
    """Take wrk's account; raise RuntimeError if a response was missing or no success."""
    text = said.decode()
    if re.search(r"Socket errors|Non-2xx", text) or not (found := re.search(r"(\d+) requests in", text)):
        raise RuntimeError(f"wrk is not content:\n{text}")
    clock.operations = (clock.operations or 0) + int(found[1])


def asyncio_side() -> Mapping[str, Measured]:
    import asyncio

    import uvicorn

    try:
        import httptools  # noqa: F401  # only whether it is there: uvicorn takes it then

        parser = "httptools"
    except ImportError:
        parser = "h11"

    async def application(
        scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"Hello, world!"})

    async def plaintext(n: int, clock: Stopwatch) -> None:
        if parser != "httptools":
            clock.note = f"parsed by {parser}: httptools is not installed"
        config = uvicorn.Config(
            application, HOST, 0, loop="none", http=parser, lifespan="off", ws="none", log_level="warning",
            access_log=False, proxy_headers=False, backlog=4096,
        )  # fmt: skip
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        for _ in range(n):
            with clock:
                load = wrk(port)
                assert load.stdout is not None
                said = await asyncio.get_running_loop().run_in_executor(None, load.stdout.read)
            load.stdout.close()
            load.wait()
            take(said, clock)
        server.should_exit = True
        await serving

    return {"plaintext": plaintext}


def floor_side() -> Mapping[str, Measured]:
    async def plaintext(n: int, clock: Stopwatch) -> None:
        command = [program("echo_server"), "http"]
        for _ in range(n):
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
                assert server.stdout is not None
                assert server.stdin is not None
                said, _ = wrk(int(server.stdout.readline())).communicate()
                server.stdin.close()
                clock.add(*map(float, server.stdout.readline().split()))
            take(said, clock)

    return {"plaintext": plaintext}


WORKLOAD = Workload(
    "http",
    "Plaintext over HTTP: uvicorn under wrk",
    (
        Case(
            "plaintext",
            "response",
            fixed=1,
            busy=False,
            lasts=2.0,
            tiny=1,
            programs=("echo_server",),
            tools=("wrk",),
        ),
    ),
    {"asyncio": asyncio_side, "floor": floor_side},
)
