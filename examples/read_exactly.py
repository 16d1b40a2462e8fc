"""Read exactly 1024 bytes from a TCP server, twice: with Python's sockets, and with bateau. Compare the two functions."""

import socket
import sys

import bateau
from bateau import io, net


def read_sync(host: str, port: int) -> bytes:
    with socket.create_connection((host, port)) as stream:
        with stream.makefile("rb") as reader:
            return reader.read(1024)


async def read_async(host: str, port: int) -> bytes:
    async with await net.connect_tcp(host, port) as stream:
        async with io.BufReader(stream) as reader:
            return await reader.readexactly(1024)


if __name__ == "__main__":
    host, port = sys.argv[1], int(sys.argv[2])
    first, second = read_sync(host, port), bateau.run(read_async, host, port)
    print(f"sync: {len(first)} bytes, async: {len(second)} bytes, equal: {first == second}")
