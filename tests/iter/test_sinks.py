"""Sinks: where the items of a chain go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bateau
from bateau.channel import channel
from bateau.iter import Sink, fan_out, sink
from support.entries import Entry, Runtime
from support.waiting import until


class Recording(Sink[int]):
    def __init__(self, fail_at: int | None = None, *, fail_close: bool = False) -> None:
        self.got: list[int] = []
        self.fail_at = fail_at
        self.fail_close = fail_close
        self.flushed = 0
        self.closed = 0

    async def send(self, item: int) -> None:
        await bateau.checkpoint()
        if item == self.fail_at:
            raise OSError(f"no room for {item}")
        self.got.append(item)

    async def flush(self) -> None:
        self.flushed += 1

    async def aclose(self) -> None:
        self.closed += 1
        if self.fail_close:
            raise OSError("close failed")


def test_send_all_sends_flushes_and_leaves_open(entry: Entry) -> None:
    into = Recording()

    async def main() -> int:
        return await bateau.iter(range(5)).send_all(into)

    assert entry.run(main) == 5
    assert (into.got, into.flushed, into.closed) == ([0, 1, 2, 3, 4], 1, 0)


def test_forward_closes_also_after_a_failure(entry: Entry) -> None:
    into = Recording(fail_at=3)

    async def main() -> None:
        with pytest.raises(OSError, match="no room for 3"):
            await bateau.iter(range(5)).forward(into)

    entry.run(main)
    assert (into.got, into.closed) == ([0, 1, 2], 1)


def test_forward_closes_when_cancelled(entry: Entry) -> None:
    into = Recording()

    async def main() -> None:
        async def never(x: int) -> int:
            await bateau.time.sleep_forever()
            return x

        with bateau.move_on_after(0.02):
            await bateau.iter(range(5)).map(never).forward(into)

    entry.run(main)
    assert (into.got, into.closed) == ([], 1)


def test_a_failed_item_is_raised_after_those_before_it_were_sent(runtime: Runtime) -> None:
    into = Recording()

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await bateau.iter([2, 1, 0, 5]).map(lambda x: 10 // x).send_all(into)

    runtime.run(main)
    assert into.got == [5, 10]


def test_a_channel_holds_the_chain_back(entry: Entry) -> None:
    async def main() -> tuple[list[int], int]:
        pulled = 0

        def count(x: int) -> int:
            nonlocal pulled
            pulled += 1
            return x

        tx, rx = channel[int](2)
        async with bateau.scope() as s:
            s.spawn(bateau.iter(range(50)).map(count).forward, tx)
            await until(lambda: pulled >= 3)
            await bateau.time.sleep(0.02)
            ahead = pulled
            return [item async for item in rx], ahead

    found, ahead = entry.run(main)
    assert found == list(range(50))
    assert ahead == 3  # two in the channel, one waiting to get in


@pytest.mark.real_os("it looks at a real file")
def test_a_stream_takes_bytes_or_what_is_encoded(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "lines"

    async def main() -> int:
        a, b = bateau.io.duplex()
        async with bateau.scope() as s:
            s.spawn(bateau.iter(["one", "two"]).forward, sink(a, encode=lambda line: f"{line}\n".encode()))
            found = await bateau.io.BufReader(b).read(100)
            while not found.endswith(b"two\n"):
                found += await bateau.io.BufReader(b).read(100)
            await b.aclose()
        return path.write_bytes(found)

    assert runtime.run(main) == 8
    assert path.read_text() == "one\ntwo\n"


def test_fan_out_waits_for_the_slowest_and_closes_all(entry: Entry) -> None:
    fast, slow, plain = Recording(), Recording(), list[int]()

    async def main() -> int:
        tx, rx = channel[int](1)
        async with bateau.scope() as s:
            task = s.spawn(bateau.iter(range(6)).forward, fan_out(fast, slow, plain.append, tx))
            await until(lambda: len(fast.got) >= 2)
            await bateau.time.sleep(0.02)
            assert len(fast.got) == 2  # the channel has one, and one waits
            assert [item async for item in rx] == list(range(6))
            return await task

    assert entry.run(main) == 6
    assert fast.got == slow.got == plain == list(range(6))
    assert fast.closed == slow.closed == 1


def test_fan_out_raises_what_one_sink_raises_and_closes_the_others(runtime: Runtime) -> None:
    good, bad = Recording(), Recording(fail_at=1)

    async def main() -> None:
        with pytest.raises(OSError, match="no room"):
            await bateau.iter(range(3)).forward(fan_out(good, bad))

    runtime.run(main)
    assert good.closed == bad.closed == 1


def test_every_sink_of_a_fan_out_is_closed_whatever_the_others_raise(runtime: Runtime) -> None:
    bad, worse, good = Recording(fail_close=True), Recording(fail_close=True), Recording()

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await bateau.iter(range(1)).forward(fan_out(bad, worse, good))
        assert len(caught.value.exceptions) == 2

    runtime.run(main)
    assert good.closed == 1


def test_a_sink_is_checked_when_its_class_is_made() -> None:
    with pytest.raises(TypeError, match="send"):

        class Wrong(Sink[int]):
            def send(self, item: int) -> None:  # type: ignore[override]  # the mistake that is refused
                pass


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: sink(3), TypeError, "can't be used as a sink"),
        (lambda: sink(print, encode=bytes), TypeError, "byte streams"),
        (lambda: fan_out(), ValueError, "at least one"),
    ],
)
def test_bad_arguments_are_refused_at_once(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
