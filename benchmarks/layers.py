"""What each layer of a stream costs: nanoseconds per call and per layer.

One task writes a message into one end of a pair and reads it from the other, so nothing waits and no task switches: what is
measured is the layers' own code, in CPU time. Each stack is the one named in `over` with one layer more; `layer` is the
difference, for one `write` and one `read` together (both ends of the pair wear the layer).

    .venv/bin/python -m benchmarks.layers [--rounds 5] [--size 64] [--runtime native]
"""

from __future__ import annotations

import argparse
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import bateau
import bateau.ssl
from bateau.io import AsyncStream, BufStream, duplex, split, traced

HOST = "layers.example"
Pair = tuple[AsyncStream, AsyncStream]


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    import trustme

    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "chain.pem"
        certificate = authority.issue_cert(HOST)
        pem.write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
        server.load_cert_chain(pem)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return client, server


async def encrypted(pair: Pair, client: ssl.SSLContext, server: ssl.SSLContext) -> Pair:
    a = bateau.ssl.wrap(pair[0], client, server_hostname=HOST)
    b = bateau.ssl.wrap(pair[1], server, server_side=True)
    async with bateau.scope() as scope:
        scope.spawn(a.do_handshake)
        scope.spawn(b.do_handshake)
    return a, b


async def exchange(pair: Pair, message: bytes, count: int, flush: bool) -> float:
    """CPU seconds of `count` times one write and one read."""
    a, b = pair
    size = len(message)
    began = time.process_time()
    for _ in range(count):
        await a.write(message)
        if flush:
            await a.flush()
        got = 0
        while got < size:
            got += len(await b.read())
    return time.process_time() - began


async def lines(pair: Pair, message: bytes, count: int, flush: bool) -> float:
    """CPU seconds of reading `count` lines that are in the buffer already, as long as there is room for them."""
    a, b = pair
    line = b"x" * (len(message) - 1) + b"\n"
    batch = max(1, 60_000 // len(line))
    spent = 0.0
    for _ in range(0, count, batch):
        await a.write(line * batch)
        await a.flush()
        await b.peek()
        began = time.process_time()
        for _ in range(batch):
            await b.readline()
        spent += time.process_time() - began
    return spent


async def calibrated(measure: Callable[[int], Awaitable[float]], target: float = 0.1) -> float:
    """Nanoseconds per operation, over a run of about `target` CPU seconds."""
    count = 100
    while True:
        spent = await measure(count)
        if spent >= target:
            return spent / count * 1e9
        count = int(count * max(2, min(20, target * 1.2 / max(spent, 1e-6))))


class Halves(AsyncStream):
    """Both halves of `split` as one stream again, for the measurement alone."""

    def __init__(self, stream: AsyncStream) -> None:
        self.reader, self.writer = split(stream)
        self.read = self.reader.read
        self.write = self.writer.write

    def read(self, n: int = 65536, /) -> Awaitable[bytes]:
        raise AssertionError

    def write(self, data, /) -> Awaitable[None]:
        raise AssertionError

    def close(self) -> None:
        self.reader.close()
        self.writer.close()

    @property
    def closed(self) -> bool:
        return self.reader.closed


Stacks = dict[str, tuple[Callable[[], Awaitable[Pair]], str | None, bool]]


def all_stacks() -> Stacks:
    """How a connected pair is made of each stack, the stack that its last layer lies on, and whether a write is flushed."""
    client, server = contexts()

    async def tls(pair: Pair) -> Pair:
        return await encrypted(pair, client, server)

    async def bare() -> Pair:
        return duplex()

    async def sockets() -> Pair:
        import socket

        first, second = socket.socketpair()
        return bateau.net.from_socket(first), bateau.net.from_socket(second)

    def over(below: Callable[[], Awaitable[Pair]], layer: Callable[[AsyncStream], AsyncStream]):
        async def make() -> Pair:
            a, b = await below()
            return layer(a), layer(b)

        return make

    async def one_tls() -> Pair:
        return await tls(duplex())

    async def two_tls() -> Pair:
        return await tls(await one_tls())

    async def socket_tls() -> Pair:
        return await tls(await sockets())

    return {
        "duplex": (bare, None, False),
        "traced": (over(bare, lambda s: traced(s, lambda event: None)), "duplex", False),
        "BufStream, flushed": (over(bare, BufStream), "duplex", True),
        "split": (over(bare, Halves), "duplex", False),
        "TLS": (one_tls, "duplex", False),
        "TLS in TLS": (two_tls, "TLS", False),
        "socketpair": (sockets, None, False),
        "TLS on socketpair": (socket_tls, "socketpair", False),
    }


async def measure_all(size: int, rounds: int) -> None:
    stacks = all_stacks()
    message = bytes(size)
    samples: dict[str, list[float]] = {name: [] for name in (*stacks, "BufStream.readline, buffered")}
    for _ in range(rounds):
        for name, (make, _, flush) in stacks.items():
            pair = await make()
            samples[name].append(await calibrated(lambda n, p=pair, f=flush: exchange(p, message, n, f)))
            for end in pair:
                end.close()
        pair = await stacks["BufStream, flushed"][0]()
        samples["BufStream.readline, buffered"].append(await calibrated(lambda n, p=pair: lines(p, message, n, True)))
        for end in pair:
            end.close()
    show(stacks, samples)


def show(stacks: Stacks, samples: dict[str, list[float]]) -> None:
    print(f"{'stack':32}{'write + read ns':>16}{'±':>6}{'over':>16}{'layer ns':>10}")
    middle = {name: statistics.median(values) for name, values in samples.items()}
    for name, values in samples.items():
        spread = (max(values) - min(values)) / 2 / middle[name]
        base = stacks[name][1] if name in stacks else None
        layer = f"{middle[name] - middle[base]:10.0f}" if base else f"{'':>10}"
        print(f"{name:32}{middle[name]:16.0f}{spread:6.0%}{base or '':>16}{layer}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured; the medians are shown")
    parser.add_argument("--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("--runtime", default="native")
    options = parser.parse_args()
    bateau.run(measure_all, options.size, options.rounds, runtime=options.runtime)


if __name__ == "__main__":
    main()
