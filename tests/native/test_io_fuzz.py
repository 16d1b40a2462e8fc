"""What comes from outside into the calls of files and datagram sockets: any buffer, any address. As Python's own, and never beside the buffer."""

from __future__ import annotations

import array
import random
import socket
from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau import fs, net
from bateau.kernel import twin

pytestmark = pytest.mark.skipif(twin.native is None, reason="the calls in C were not built")


def buffers(chance: random.Random) -> Any:
    """Something to read into, or what only looks like it."""
    size = chance.choice((0, 1, 7, 8, 64, 4096, 9000, 200_000))
    view = memoryview(bytearray(size * 2))
    return chance.choice(
        [
            lambda: bytearray(size),
            lambda: view[: size // 2],
            lambda: view[::2],  # not in one piece
            lambda: view[::-1],
            lambda: memoryview(bytearray(size * 8)).cast("d"),
            lambda: memoryview(bytearray(max(size, 1) * 4)).cast("B", (2, max(size, 1) * 2)),
            lambda: array.array("H", bytes(size * 2)),
            lambda: bytes(size),  # not to be written
            lambda: memoryview(bytes(size)),
            lambda: "text",
            lambda: None,
            lambda: size,
        ]
    )()


def content(buffer: Any) -> Any:
    try:
        return bytes(buffer) if not isinstance(buffer, int) else buffer
    except TypeError:
        return buffer


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("buffering", [-1, 0, 7])
def test_any_buffer_is_filled_as_by_python(tmp_path: Path, seed: int, buffering: int) -> None:
    path = tmp_path / "data"
    path.write_bytes(random.Random(0).randbytes(20_000))

    async def main() -> None:
        chance, other = random.Random(seed), random.Random(seed)
        with open(path, "rb", buffering=buffering) as its:
            async with fs.open(path, "rb", buffering=buffering) as mine:
                for _ in range(60):
                    place = chance.choice((0, 5, 19_990, 20_000, 30_000))
                    assert place == other.choice((0, 5, 19_990, 20_000, 30_000))
                    assert await mine.seek(place) == its.seek(place)
                    one, two = buffers(chance), buffers(other)
                    raised: type[Exception] | None = None
                    expected = None
                    try:
                        expected = its.readinto(two)  # type: ignore[attr-defined]
                    except Exception as error:
                        raised = type(error)
                    if raised is not None:
                        with pytest.raises(raised):
                            await mine.readinto(one)
                    else:
                        assert await mine.readinto(one) == expected
                        assert await mine.tell() == its.tell()
                    assert content(one) == content(two)

    bateau.run(main, runtime="native")


HOSTS = (
    "127.0.0.1",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "fe80::1%1",
    "1.2.3",
    "256.1.1.1",
    "::1\0",
    "\udc80",
    "x" * 300,
    "",
    None,
    5,
    b"127.0.0.1",
)
NUMBERS = (
    0,
    1,
    80,
    65535,
    65536,
    -1,
    1 << 20,
    (1 << 20) - 1,
    (1 << 32) - 1,
    1 << 32,
    1 << 64,
    -(1 << 70),
    True,
    1.5,
    "80",
    None,
)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_any_address_is_sent_to_or_refused(family: socket.AddressFamily) -> None:
    """What is an address goes out, to the port that it names; everything else raises: a bad argument, or what the system says of it."""
    chance = random.Random(family)
    here = "127.0.0.1" if family == socket.AF_INET else "::1"

    def address(port: int) -> Any:
        kind = chance.random()
        if kind < 0.2:
            return chance.choice(((here, port), (here, port, 0, 0)[: 2 if family == socket.AF_INET else 4]))
        parts = [
            chance.choice(HOSTS),
            chance.choice((port, *NUMBERS)),
            chance.choice(NUMBERS),
            chance.choice(NUMBERS),
            chance.choice(NUMBERS),
        ]
        made = parts[: chance.choice((0, 1, 2, 2, 2, 3, 4, 4, 4, 5))]
        return chance.choice((tuple, tuple, tuple, list))(made)

    async def main() -> None:
        try:
            there = await net.udp((here, 0))
        except OSError:
            pytest.skip("this machine has no such addresses")
        async with there, await net.udp((here, 0)) as sender:
            port, sent = there.getsockname()[1], 0
            for number in range(400):
                to = address(port)
                try:
                    with bateau.fail_after(20):
                        await sender.sendto(b"%d" % number, to)
                except (TypeError, ValueError, OverflowError, OSError):
                    continue
                assert type(to) is tuple and len(to) >= 2
                if to[0] == here and to[1] == port:
                    data, origin = await there.recvfrom()
                    assert data == b"%d" % number and origin == sender.getsockname()
                    sent += 1
            assert sent > 20

    bateau.run(main, runtime="native")
