"""The stream conformance kit, on the streams of bateau.io; and the kit itself, on streams that lie."""

from __future__ import annotations

import pytest

import bateau
from bateau.io import AsyncStream, BufStream, DuplexStream, duplex, traced
from bateau.testing.streams import check_stream

BOUND = 1 << 20


def wrapped(wrap):
    return lambda: tuple(wrap(end) for end in duplex())


PAIRS = {
    "duplex": duplex,
    "narrow duplex": lambda: duplex(1000),
    "buffered": wrapped(BufStream),
    "buffered with tiny buffers": wrapped(lambda end: BufStream(end, 10, 10)),
    "traced": wrapped(lambda end: traced(end, lambda event: None)),
    "buffered, traced, buffered": wrapped(lambda end: BufStream(traced(BufStream(end), lambda event: None))),
}


@pytest.mark.law(9)
@pytest.mark.parametrize("pair", PAIRS)
def test_streams_conform(entry, pair) -> None:
    async def main() -> list[str]:
        return await check_stream(PAIRS[pair], bound=BOUND)

    assert len(entry.run(main)) == 20


class Deaf(AsyncStream):
    """A minimal wrapper: only what is abstract."""

    def __init__(self, raw: AsyncStream) -> None:
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


def test_a_minimal_wrapper_conforms_as_far_as_it_goes(entry) -> None:
    async def main() -> list[str]:
        ran = await check_stream(wrapped(Deaf), bound=BOUND, half_close=False, readiness=False)
        # What it lacks, the layers above do without.
        await check_stream(wrapped(lambda end: BufStream(Deaf(end))), bound=BOUND, half_close=False, readiness=False)
        return ran

    assert "half_close" not in entry.run(main)


class Unbounded(Deaf):
    def __init__(self, raw):
        super().__init__(raw)
        self.backlog = bytearray()

    async def write(self, data, /):
        self.backlog += data
        await bateau.checkpoint()


class Lossy(Deaf):
    async def read(self, n=65536, /):
        data = await self.raw.read(n)
        await bateau.yield_now()  # cancelled here, the data is gone
        return data


class Sticky(Deaf):
    def close(self):
        pass


@pytest.mark.parametrize(
    ("liar", "rule"),
    [(Unbounded, "backpressure"), (Lossy, "cancelled_read"), (Sticky, "closed")],
)
def test_the_kit_sees_through_liars(runtime, liar, rule) -> None:
    async def main() -> None:
        with pytest.raises(AssertionError, match=rule):
            await check_stream(
                wrapped(liar), bound=BOUND, half_close=False, readiness=False, busy=False, seconds=2, only=rule
            )

    runtime.run(main)


def test_all_failures_are_told_at_once() -> None:
    async def main() -> None:
        with pytest.raises(AssertionError, match="checks of the stream failed") as caught:
            await check_stream(wrapped(Deaf), bound=BOUND, seconds=2, only="read")
        assert "readiness" in str(caught.value)

    bateau.run(main)


def test_a_hang_is_a_failure_too() -> None:
    class Silent(DuplexStream):
        def write(self, data, /):
            return bateau.checkpoint()

    async def main() -> None:
        a, b = duplex()
        with pytest.raises(AssertionError, match="timeout of"):
            await check_stream(lambda: (Silent("x", a._in, a._out), b), seconds=0.05, only="arrives")

    bateau.run(main)
