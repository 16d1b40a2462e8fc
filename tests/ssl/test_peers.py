"""TLS against real peers: Python's own `ssl` on a blocking socket in a thread, and the openssl program."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

import bateau
import bateau.net
import bateau.ssl

HOST = "boat.example"
DATA = os.urandom(700_000)


class Peer:
    """A sync function in a thread; leaving joins it and raises what it raised."""

    def __init__(self, fn, *args) -> None:
        self.error = None

        def run() -> None:
            try:
                fn(*args)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.thread.join(20)
        assert not self.thread.is_alive(), "the peer hangs"
        if self.error is not None:
            raise self.error


def test_our_server_and_pythons_client(entry, versions) -> None:
    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.settimeout(20)
            with versions.client.wrap_socket(raw, server_hostname=HOST, suppress_ragged_eofs=False) as sock:
                for at in range(0, len(DATA), 100_000):
                    part = DATA[at : at + 100_000]
                    sock.sendall(part)
                    echoed = b""
                    while len(echoed) < len(part):
                        echoed += sock.recv(65536)
                    assert echoed == part
                assert sock.unwrap() is not None  # their close_notify, and ours in answer

    async def main() -> None:
        async with await bateau.net.listen_tcp("127.0.0.1", 0) as listener:
            with Peer(client, listener.port):
                async with bateau.ssl.wrap(await listener.accept(), versions.server, server_side=True) as tls:
                    while data := await tls.read():
                        await tls.write(data)
                    assert tls.version() == versions.server.maximum_version.name.replace("_", ".")

    entry.run(main)


def test_our_client_and_pythons_server(entry, versions) -> None:
    def serve(listening) -> None:
        raw, _ = listening.accept()
        raw.settimeout(20)
        with raw, versions.server.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False) as sock:
            got = b""
            while len(got) < len(DATA):
                got += sock.recv(65536)
            assert got == DATA
            sock.sendall(got)
            sock.unwrap()

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening, Peer(serve, listening):
            raw = await bateau.net.connect_tcp(*listening.getsockname())
            async with bateau.ssl.wrap(raw, versions.client, server_hostname=HOST) as tls:
                await tls.write(DATA)
                got = bytearray()
                while data := await tls.read():
                    got += data
                assert got == DATA
                assert tls.get_extra_info("peername") == listening.getsockname()

    entry.run(main)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
def test_our_server_and_openssl_s_client(runtime, ca, contexts, tmp_path) -> None:
    """Among others the key update of TLS 1.3, which Python can't ask for: our engine must answer while it reads."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes(ca.cert_pem.bytes())
    lines: list[bytes] = []

    def client(port: int) -> None:
        command = [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{port}",
            "-servername",
            HOST,
            "-CAfile",
            str(authority),
        ]
        command += ["-verify_return_error", "-verify_hostname", HOST, "-tls1_3"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with process:
            # A line "K" asks for new keys in both directions.
            process.stdin.write(b"before\n")
            process.stdin.flush()
            assert answer(process) == b"seen before\n"
            process.stdin.write(b"K\n")
            process.stdin.flush()
            while b"KEYUPDATE" not in process.stdout.readline():
                pass
            process.stdin.write(b"after\n")
            process.stdin.flush()
            assert answer(process) == b"seen after\n"
            process.stdin.write(b"Q\n")
            process.stdin.flush()

    def answer(process) -> bytes:
        while not (line := process.stdout.readline()).startswith(b"seen"):
            assert line, "s_client ended early"
        return line

    async def main() -> None:
        async with await bateau.net.listen_tcp("127.0.0.1", 0) as listener:
            with Peer(client, listener.port):
                tls = bateau.ssl.wrap(await listener.accept(), contexts.server, server_side=True)
                async with bateau.io.BufStream(tls) as stream:
                    async for line in stream:
                        lines.append(line)
                        await stream.write(b"seen " + line)
                        await stream.flush()

    runtime.run(main)
    assert lines == [b"before\n", b"after\n"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
def test_our_client_and_openssl_s_server(runtime, ca, tmp_path) -> None:
    certificate = ca.issue_cert(HOST)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(chain), "-key", str(key), "-www"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        while b"ACCEPT" not in process.stdout.readline():
            pass

        async def main() -> bytes:
            raw = await bateau.net.connect_tcp("127.0.0.1", port)
            async with bateau.ssl.wrap(raw, context, server_hostname=HOST, suppress_ragged_eofs=True) as tls:
                await tls.write(b"GET / HTTP/1.0\r\n\r\n")
                got = bytearray()
                while data := await tls.read():
                    got += data
                return bytes(got)

        assert b"s_server" in runtime.run(main)
    finally:
        process.terminate()
        process.stdout.close()
        process.wait(10)
