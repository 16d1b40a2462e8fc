"""What type checkers infer of sources, element-wise combinators and ends; checked by pyright and mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Never, TypeGuard, assert_type

import bateau
from bateau.channel import Receiver, Sender
from bateau.iter import AsyncIter, Push
from bateau.time import Tick


async def fetch(n: int) -> bytes:
    return b"x" * n


async def maybe(n: int) -> str | None:
    return str(n) if n else None


async def numbers() -> AsyncIterator[int]:
    yield 1


def plain_numbers() -> Iterator[int]:
    yield 1


def ready() -> int | None:
    return None


async def maybe_ready() -> int | None:
    return None


def times(count: int, text: str) -> str:
    return text * count


def is_text(value: str | int) -> TypeGuard[str]:
    return isinstance(value, str)


async def ten_steps() -> None:
    chain = (
        bateau.iter(range(10))
        .map(fetch)
        .map(len)
        .filter(lambda n: n > 1)
        .filter_map(maybe)
        .enumerate()
        .map(lambda both: both[0] * 1.5)
        .chunks(3)
        .flat_map(lambda chunk: chunk)
        .zip(numbers())
        .window(2)
    )
    assert_type(chain, AsyncIter[tuple[tuple[float, int], ...]])
    assert_type(await chain.collect(), list[tuple[tuple[float, int], ...]])


async def sources(rx: Receiver[bytes]) -> None:
    assert_type(bateau.iter([1]), AsyncIter[int])
    assert_type(bateau.iter(numbers()), AsyncIter[int])
    assert_type(bateau.iter(numbers), AsyncIter[int])
    assert_type(bateau.iter(plain_numbers), AsyncIter[int])
    assert_type(bateau.iter(rx), AsyncIter[bytes])
    assert_type(bateau.iter(bateau.iter([""])), AsyncIter[str])
    assert_type(bateau.iter.from_fn(lambda: 1), AsyncIter[int])
    assert_type(bateau.iter.from_fn(rx.recv), AsyncIter[bytes])
    assert_type(bateau.iter.from_poll(ready), AsyncIter[int])
    assert_type(bateau.iter.from_poll(maybe_ready), AsyncIter[int])

    async def page(url: str) -> tuple[bytes, str] | None:
        return b"", url

    assert_type(bateau.iter.unfold("first", page), AsyncIter[bytes])

    def register(push: Push[float]) -> None:
        assert_type(push(1.0), bool)

    assert_type(bateau.iter.from_callback(register), AsyncIter[float])
    assert_type(bateau.iter.interval(1), AsyncIter[Tick])
    assert_type(bateau.iter.once(1), AsyncIter[int])
    assert_type(bateau.iter.empty(), AsyncIter[Never])
    assert_type(bateau.iter.repeat("x", 3), AsyncIter[str])


async def elements(it: AsyncIter[int], mixed: AsyncIter[str | int], pairs: AsyncIter[tuple[int, str]]) -> None:
    assert_type(it.map(str), AsyncIter[str])
    assert_type(pairs.starmap(times), AsyncIter[str])
    assert_type(mixed.filter(is_text), AsyncIter[str])
    assert_type(it.filter(fetch), AsyncIter[int])
    assert_type(it.filter_map(lambda n: str(n) if n else None), AsyncIter[str])
    assert_type(it.inspect(print), AsyncIter[int])
    assert_type(it.scan("", lambda text, n: text + str(n)), AsyncIter[str])
    assert_type(it.catch(ValueError), AsyncIter[int])
    assert_type(it.catch(ValueError, lambda error, item: None), AsyncIter[int | None])
    assert_type(it.catch((OSError, ValueError), lambda error, item: str(error)), AsyncIter[int | str])
    assert_type(it.take(1).take_while(bool).skip(1).skip_while(fetch).step_by(2), AsyncIter[int])
    assert_type(it.dedup().unique(lambda n: n % 2), AsyncIter[int])
    assert_type(it.enumerate(), AsyncIter[tuple[int, int]])
    assert_type(it.window(2), AsyncIter[tuple[int, ...]])
    assert_type(it.chunks(2), AsyncIter[list[int]])
    assert_type(it.cycle(2), AsyncIter[int])


async def several(
    it: AsyncIter[int], texts: AsyncIter[str], nested: AsyncIter[list[bytes]], rx: Receiver[bytes]
) -> None:
    assert_type(it.chain([1]), AsyncIter[int])
    assert_type(it.chain(texts), AsyncIter[int | str])
    assert_type(it.flat_map(lambda n: [str(n)]), AsyncIter[str])
    assert_type(it.flat_map(lambda n: numbers()), AsyncIter[int])
    assert_type(it.flat_map(lambda n: bateau.iter([b""])), AsyncIter[bytes])
    assert_type(nested.flatten(), AsyncIter[bytes])
    assert_type(it.zip(texts), AsyncIter[tuple[int, str]])
    assert_type(it.zip(rx, numbers(), strict=True), AsyncIter[tuple[int, bytes, int]])
    assert_type(it.zip([""], [b""], [1.0], rest=print), AsyncIter[tuple[int, str, bytes, float]])


async def ends(it: AsyncIter[int], texts: AsyncIter[str], mixed: AsyncIter[str | int], tx: Sender[int]) -> None:
    assert_type(await it.collect(), list[int])
    assert_type(await it.collect(set), set[int])
    assert_type(await it.collect(tuple), tuple[int, ...])
    assert_type(await it.map(lambda n: (str(n), n)).collect(dict), dict[str, int])
    assert_type(await it.for_each(fetch), None)
    assert_type(await it.into_channel(tx), None)
    assert_type(await it.count(), int)
    assert_type(await it.fold("", lambda text, n: text + str(n)), str)
    assert_type(await it.reduce(max), int)
    assert_type(await it.reduce(lambda a, b: a + b, default=None), int | None)
    assert_type(await it.sum(), int)
    assert_type(await it.map(float).sum(), float)
    assert_type(await it.sum(start=b""), bytes)
    assert_type(await texts.join(", "), str)
    assert_type(await it.first(), int)
    assert_type(await it.first(None), int | None)
    assert_type(await it.last(default=""), int | str)
    assert_type(await it.nth(3), int)
    assert_type(await it.find(lambda n: n > 3), int)
    assert_type(await mixed.find(is_text), str)
    assert_type(await it.find(fetch, None), int | None)
    assert_type(await it.any(), bool)
    assert_type(await it.all(lambda n: n > 3), bool)
    assert_type(await it.min(), int)
    assert_type(await it.max(key=fetch, default=None), int | None)
    async for item in it.map(str):
        assert_type(item, str)
    await it.join()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await texts.into_channel(tx)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
