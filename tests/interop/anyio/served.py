"""A small ASGI server over anyio and h11, so that Starlette and FastAPI run on the backend over real sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import h11
from anyio.abc import SocketAttribute, SocketStream


@asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[str]:
    """Serve ``app`` on a free port while the block runs; gives the base URL."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, lambda stream: _serve(app, stream))
        yield f"http://127.0.0.1:{port}"
        group.cancel_scope.cancel()


async def _serve(app: Any, stream: SocketStream) -> None:
    async with stream:
        connection = h11.Connection(h11.SERVER)
        while True:
            request = await _next(connection, stream)
            if not isinstance(request, h11.Request):
                return
            await _answer(app, connection, stream, request)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()


async def _next(connection: h11.Connection, stream: SocketStream) -> Any:
    while (event := connection.next_event()) is h11.NEED_DATA:
        try:
            connection.receive_data(await stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            connection.receive_data(b"")
    return event


async def _answer(app: Any, connection: h11.Connection, stream: SocketStream, request: h11.Request) -> None:
    path, _, query = request.target.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method.decode(),
        "scheme": "http",
        "path": path.decode(),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    start: dict[str, Any] = {}

    async def receive() -> dict[str, Any]:
        event = await _next(connection, stream)
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        return await anyio.sleep_forever()  # a disconnect would be told here; no test closes in the middle

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        if start:
            head = h11.Response(status_code=start["status"], headers=start["headers"])
            start.clear()
            await stream.send(connection.send(head))
        data = connection.send(h11.Data(message.get("body", b"")))
        if not message.get("more_body"):
            data += connection.send(h11.EndOfMessage())
        if data:
            await stream.send(data)

    await app(scope, receive, send)
