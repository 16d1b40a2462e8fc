"""TLS over streams in memory: the rules of streams, the handshake, the ends, cancellation."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest

import bateau
import bateau.ssl
from bateau.io import BufStream, duplex, traced
from bateau.testing.streams import check_stream

HOST = "boat.example"


def sockets():
    return tuple(bateau.net.from_socket(sock) for sock in socket.socketpair())


@pytest.mark.law(9)
@pytest.mark.parametrize("below", ["duplex", "narrow duplex", "sockets", "traced"])
def test_conforms_over(entry, shaken, below) -> None:
    pairs = {
        "duplex": duplex,
        "narrow duplex": lambda: duplex(3000),
        "sockets": sockets,
        "traced": lambda: tuple(traced(end, lambda event: None) for end in duplex()),
    }

    async def main() -> None:
        await check_stream(lambda: shaken(pairs[below]()), bound=1 << 20)

    entry.run(main)


def test_conforms_in_both_versions_of_the_protocol(runtime, versions, shaken) -> None:
    async def main() -> None:
        await check_stream(lambda: shaken(contexts=versions), bound=1 << 20)

    runtime.run(main)


@pytest.mark.parametrize("below", ["duplex", "sockets"])
def test_tls_inside_tls_conforms(entry, shaken, below) -> None:
    async def nested():
        return await shaken(await shaken(duplex() if below == "duplex" else sockets()))

    async def main() -> None:
        await check_stream(nested, bound=1 << 20)

    entry.run(main)


def test_buffered_tls_conforms(runtime, shaken) -> None:
    async def buffered():
        return tuple(BufStream(end) for end in await shaken())

    async def main() -> None:
        await check_stream(buffered, bound=1 << 20)

    runtime.run(main)


def test_over_streams_that_can_only_read_and_write(entry, shaken) -> None:
    class Plain(bateau.io.AsyncStream):
        def __init__(self, raw):
            self.raw = raw

        async def read(self, n=65536, /):
            return await self.raw.read(n)

        async def write(self, data, /):
            await self.raw.write(data)

        def close(self):
            self.raw.close()

        @property
        def closed(self):
            return self.raw.closed

    async def main() -> None:
        await check_stream(
            lambda: shaken(tuple(Plain(end) for end in duplex())), bound=1 << 20, readiness=False, half_close=True
        )

    entry.run(main)


# -- the handshake -------------------------------------------------------------------------------------------------------


def test_first_use_shakes_hands_from_both_directions_at_once(entry, tls) -> None:
    async def main() -> None:
        client, server = tls()
        async with bateau.scope() as scope:
            readers = [scope.spawn(client.read), scope.spawn(server.read)]
            await bateau.yield_now()
            scope.spawn(client.write, b"to the server")
            scope.spawn(server.write, b"to the client")
        assert [task.outcome().unwrap() for task in readers] == [b"to the client", b"to the server"]
        assert client.version() == server.version() == "TLSv1.3"
        assert client.cipher() == server.cipher()
        assert dict(client.getpeercert())["subjectAltName"] == (("DNS", HOST),)
        assert client.getpeercert(True) == client.get_extra_info("ssl_object").getpeercert(True)
        assert client.get_extra_info("cipher") == client.cipher()
        assert client.get_extra_info("sockname") == "duplex a"
        assert client.get_extra_info("nothing", 7) == 7
        client.close()
        server.close()

    entry.run(main)


def test_a_cancelled_handshake_goes_on_later(entry, tls) -> None:
    async def main() -> None:
        client, server = tls()
        for side in (client, server, client):
            with bateau.move_on_after(0.02) as scope:
                await side.do_handshake()
            if not scope.cancelled_caught:
                break
        async with bateau.scope() as scope:
            scope.spawn(client.write, b"after all")
            assert await server.read() == b"after all"
        client.close()
        server.close()

    entry.run(main)


def test_alpn(runtime, ca, tls) -> None:
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(HOST).configure_cert(server_context)
    server_context.set_alpn_protocols(["h2", "http/1.1"])
    client_context = ssl.create_default_context()
    ca.configure_trust(client_context)
    client_context.set_alpn_protocols(["http/1.1"])

    class Contexts:
        client, server = client_context, server_context

    async def main() -> None:
        client, server = tls(contexts=Contexts)
        async with bateau.scope() as scope:
            scope.spawn(server.do_handshake)
            await client.do_handshake()
        assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "http/1.1"
        client.close()
        server.close()

    runtime.run(main)


def test_a_certificate_nobody_vouches_for(entry, contexts) -> None:
    async def main() -> None:
        a, b = duplex()
        client = bateau.ssl.wrap(a, ssl.create_default_context(), server_hostname=HOST)
        server = bateau.ssl.wrap(b, contexts.server, server_side=True)

        async def serve() -> None:
            with pytest.raises(ssl.SSLError, match=r"(?i)unknown.?ca"):
                await server.read()

        async with bateau.scope() as scope:
            scope.spawn(serve)
            with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
                await client.do_handshake()
        with pytest.raises(bateau.Broken, match=r"handshake .* has failed: .*unable to get local issuer"):
            await client.write(b"x")
        await client.aclose()
        await server.aclose()
        assert a.closed
        assert b.closed

    entry.run(main)


def test_the_wrong_host(runtime, contexts) -> None:
    async def main() -> None:
        a, b = duplex()
        client = bateau.ssl.wrap(a, contexts.client, server_hostname="ship.example")
        server = bateau.ssl.wrap(b, contexts.server, server_side=True)

        async def serve() -> None:
            with pytest.raises(ssl.SSLError):
                await server.do_handshake()

        async with bateau.scope() as scope:
            scope.spawn(serve)
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await client.do_handshake()
        client.close()
        server.close()

    runtime.run(main)


def test_a_client_without_the_certificate_that_is_asked_for(runtime, ca) -> None:
    strict = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(HOST).configure_cert(strict)
    ca.configure_trust(strict)
    strict.verify_mode = ssl.CERT_REQUIRED
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)

    async def main() -> None:
        a, b = duplex()
        client = bateau.ssl.wrap(a, trusting, server_hostname=HOST)
        server = bateau.ssl.wrap(b, strict, server_side=True)

        async def serve() -> None:
            with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
                await server.do_handshake()

        async with bateau.scope() as scope:
            scope.spawn(serve)
            await client.do_handshake()  # in TLS 1.3 the client is through before the server has looked
            for _ in range(2):
                with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
                    await client.read()
        client.close()
        server.close()

    runtime.run(main)


def test_a_peer_that_hangs_up_in_mid_handshake(entry, tls) -> None:
    async def main() -> None:
        client, server = tls()
        async with bateau.scope() as scope:
            task = scope.spawn(client.do_handshake, name="client")
            await bateau.yield_now()
            await server.raw.read(10)
            server.close()
            with pytest.raises(bateau.Broken, match="mid-handshake"):
                try:
                    await task
                except bateau.Cancelled:
                    raise task.outcome().error from None
            scope.cancel()
        client.close()

    with pytest.raises(BaseExceptionGroup) as caught:
        entry.run(main)
    assert caught.group_contains(bateau.Broken)


def test_what_is_not_tls(runtime, contexts) -> None:
    async def main() -> None:
        a, b = duplex()
        server = bateau.ssl.wrap(b, contexts.server, server_side=True)
        await a.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError, match=r"(?i)http request|wrong version"):
            await server.read()
        server.close()
        a.close()

    runtime.run(main)


def test_wrong_arguments(contexts) -> None:
    a, b = duplex()
    with pytest.raises(TypeError, match="create_default_context"):
        bateau.ssl.wrap(a, "context")
    with pytest.raises(ValueError, match="server_hostname"):
        bateau.ssl.wrap(a, contexts.client)
    with pytest.raises(AttributeError, match="neither module"):
        bateau.ssl.no_such_name  # noqa: B018
    assert bateau.ssl.create_default_context is ssl.create_default_context
    assert bateau.ssl.SSLError is ssl.SSLError
    a.close()
    b.close()


# -- the end -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suppress", [False, True])
def test_a_truncated_stream_is_not_an_end(entry, shaken, suppress) -> None:
    async def main() -> None:
        client, server = await shaken(suppress_ragged_eofs=suppress)
        await client.write(b"half a mess")
        client.raw.close()  # the attacker
        assert await server.read() == b"half a mess"
        if suppress:
            assert await server.read() == b""
        else:
            for _ in range(2):
                with pytest.raises(bateau.Broken, match="cut off"):
                    await server.read()
        client.close()
        server.close()

    entry.run(main)


def test_what_ends_without_a_goodbye_is_cut_off_whatever_the_context_says(
    runtime, contexts, shaken, monkeypatch
) -> None:
    """The contexts of Python up to 3.11.2 have OpenSSL 3 take a cut for an end. The user's context stays as it is."""
    ignores = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    monkeypatch.setattr(contexts.server, "options", contexts.server.options | ignores)
    before = contexts.server.options

    async def main() -> None:
        client, server = await shaken()
        client.raw.close()
        with pytest.raises(bateau.Broken, match="cut off"):
            await server.read()
        client.close()
        server.close()

    runtime.run(main)
    assert contexts.server.options == before


def test_threads_that_share_a_context_each_get_an_engine_that_tells_a_cut() -> None:
    """While one of them has taken the option off, another must not see that as the user's, nor have it put back before its turn."""
    ignores = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    made: list[int] = []

    class Context(ssl.SSLContext):
        def wrap_bio(self, *args, **kwargs):
            time.sleep(0)  # another thread's turn
            made.append(self.options & ignores)
            return super().wrap_bio(*args, **kwargs)

    shared = Context(ssl.PROTOCOL_TLS_CLIENT)
    shared.options |= ignores
    first, _second = duplex()

    def make() -> None:
        for _ in range(100):
            bateau.ssl.TLSStream(first, shared, False, HOST, False, None)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 300
    assert not any(made)
    assert shared.options & ignores == ignores


def test_unwrap_goes_on_in_plain_text(entry, shaken) -> None:
    async def main() -> None:
        client, server = await shaken()
        await client.write(b"secret")

        async def serve() -> None:
            assert await server.read() == b"secret"
            assert await server.read() == b""
            plain, early = await server.unwrap()
            assert early == b""
            await plain.write(b"in the open")

        async with bateau.scope() as scope:
            scope.spawn(serve)
            plain, early = await client.unwrap()
            while len(early) < 11:
                early += await plain.read()
        assert early == b"in the open"
        assert client.closed
        with pytest.raises(bateau.Closed):
            await client.read()
        plain.close()
        server.raw.close()

    entry.run(main)


def test_unwrap_loses_no_data(runtime, shaken) -> None:
    async def main() -> None:
        client, server = await shaken()
        await server.write(b"not read yet")
        with pytest.raises(bateau.Broken, match="still has data"):
            await client.unwrap()
        assert await client.read() == b"not read yet"
        client.close()
        server.close()

    runtime.run(main)


@pytest.mark.law(9)
def test_after_a_torn_write_there_is_no_clean_end(entry, shaken) -> None:
    data = bytes(1_000_000)

    async def main() -> None:
        client, server = await shaken()
        with bateau.move_on_after(0.05):
            await client.write(data)
        with pytest.raises(bateau.Broken, match="was cut off after") as caught:
            await client.write(b"more")
        assert 0 <= caught.value.sent < len(data)
        await client.aclose()
        got = 0
        with pytest.raises(bateau.Broken):
            while part := await server.read():
                got += len(part)
        assert got >= caught.value.sent
        await server.aclose()

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_wait_for_room_tears_nothing(runtime, shaken) -> None:
    async def main() -> None:
        client, server = await shaken()
        with pytest.raises(bateau.WouldBlock):
            while True:
                client.try_write(bytes(1000))
        with bateau.move_on_after(0.02):
            await client.write(b"never began")
        got = bytearray()
        async with bateau.scope() as scope:

            async def drain() -> None:
                while not got.endswith(b"end"):
                    got.extend(await server.read())

            scope.spawn(drain)
            await client.write(b"end")
        assert got.strip(b"\0") == b"end"
        client.close()
        server.close()

    runtime.run(main)


def test_readers_do_not_wait_for_writers(runtime, shaken) -> None:
    """Both sides write more than fits before either reads: a reader that waited for the writer's turn would hang here."""

    async def main() -> None:
        client, server = await shaken(duplex(1000))
        size = 300_000

        async def read(stream) -> int:
            got = 0
            while got < size:
                got += len(await stream.read())
            return got

        async with bateau.scope() as scope, bateau.timeout(20):
            for stream in (client, server):
                scope.spawn(stream.write, bytes(size))
            await bateau.yield_now()
            for stream in (client, server):
                scope.spawn(read, stream)
        client.close()
        server.close()

    runtime.run(main)
