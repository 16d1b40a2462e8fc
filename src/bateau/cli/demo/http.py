"""An HTTP/1.1 client of one connection: h11 parses, ``bateau.net`` carries, ``bateau.ssl`` encrypts."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import bateau
from bateau import net, ssl

MAX_READ = 65536


class Response:
    """A whole response: status, headers (lower-case names), body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Site:
    """A server, by the root of its URLs. Raises ``ValueError`` for what is no http or https URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"need a URL of the form http[s]://host[:port]/path, not {url!r}")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        # As the Host header wants it: with brackets around an IPv6 address, without a user's name.
        self.name = parts.netloc.rpartition("@")[2]
        self.tls: Any = ssl.create_default_context() if parts.scheme == "https" else None


class Connection:
    """One keep-alive connection. After an error or a ``Connection: close`` it is no longer ``usable``."""

    def __init__(self, stream: Any, host: str) -> None:
        import h11

        self._h11 = h11
        self._stream = stream
        self._host = host
        self._state: Any = h11.Connection(our_role=h11.CLIENT)
        self.usable = True

    @classmethod
    async def open(cls, site: Site) -> Connection:
        """Connect. A cancellation point; cancelled or failed, nothing is left open."""
        stream: Any = await net.connect_tcp(site.host, site.port)
        if site.tls is not None:
            stream = ssl.wrap(stream, site.tls, server_hostname=site.host)
            try:
                await stream.do_handshake()
            except BaseException:
                stream.close()
                raise
        return cls(stream, site.name)

    async def get(self, path: str) -> Response:
        """Fetch ``path``. A cancellation point; cancelled or failed, the connection is closed."""
        try:
            return await self._get(path)
        except BaseException as error:
            self.close()
            if isinstance(error, self._h11.RemoteProtocolError):
                raise bateau.Broken(f"the server broke off, or speaks no HTTP: {error}") from error
            raise

    async def _get(self, path: str) -> Response:
        h11, state = self._h11, self._state
        request = h11.Request(
            method="GET", target=path, headers=[("Host", self._host), ("User-Agent", "bateau-demo"), ("Accept", "*/*")]
        )
        await self._stream.write(state.send(request) + state.send(h11.EndOfMessage()))
        status = 0
        headers: dict[str, str] = {}
        body = bytearray()
        while True:
            event = state.next_event()
            if event is h11.NEED_DATA:
                # b"" at the end of the stream is what h11 wants to hear as well.
                state.receive_data(await self._stream.read(MAX_READ))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise bateau.Broken("the server closed the connection before it answered")
        if state.our_state is h11.DONE and state.their_state is h11.DONE:
            state.start_next_cycle()
        else:
            self.close()
        return Response(status, headers, bytes(body))

    def close(self) -> None:
        """Close at once."""
        self.usable = False
        self._stream.close()


class Pool:
    """Idle connections to one server, used last-in first-out. Belongs to a scope: ``scope.own(pool)``."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._idle: list[Connection] = []

    async def get(self, path: str) -> Response:
        """Fetch over an idle connection, or a new one. A kept connection that the server has closed is replaced once."""
        while self._idle:
            connection = self._idle.pop()
            try:
                return self._done(connection, await connection.get(path))
            except OSError:
                continue  # it went stale while idle, which says nothing about the server
        connection = await Connection.open(self.site)
        return self._done(connection, await connection.get(path))

    def _done(self, connection: Connection, response: Response) -> Response:
        if connection.usable:
            self._idle.append(connection)
        return response

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()
