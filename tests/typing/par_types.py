"""What type checkers infer of parallel chains, offload and graphs; checked by pyright and mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import bateau
from bateau import ParIter, offload
from bateau.iter import AsyncIter


async def fetch(n: int) -> bytes:
    return b"x" * n


def size(data: bytes) -> float:
    return len(data) / 2


def maybe(n: float) -> str | None:
    return str(n) if n else None


async def lines(text: str) -> AsyncIterator[str]:
    yield text


def longer(a: str, b: str) -> str:
    return max(a, b, key=len)


def tally(count: int, text: str) -> int:
    return count + len(text)


def plus(a: int, b: int) -> int:
    return a + b


def step(key: str, value: float, around: dict[str, float]) -> float:
    return value + sum(around.values())


async def chain() -> None:
    par = bateau.iter(range(3)).par(2, on=bateau.iter.processes(2))
    assert_type(par, ParIter[int])
    fetched = par.map(fetch)
    assert_type(fetched, ParIter[bytes])
    texts = fetched.map(size).filter(bool).filter_map(maybe).inspect(print)
    assert_type(texts, ParIter[str])
    assert_type(texts.iter(), AsyncIter[str])
    assert_type(texts.flat_map(lines), ParIter[str])
    assert_type(texts.flat_map(str.split), ParIter[str])
    assert_type(await texts.collect(), list[str])
    assert_type(await texts.reduce(longer), str)
    assert_type(await texts.fold(int, tally, plus), int)
    assert_type(await texts.count(), int)
    assert_type(await texts.min(key=len), str)
    assert_type(await texts.find(bool), str | None)
    assert_type(await texts.any(), bool)
    async for text in texts:
        assert_type(text, str)


async def others() -> None:
    assert_type(await offload(longer, "a", "b", size=2), str)
    async with bateau.iter.threads(2) as pool:
        assert_type(await offload(size, b"abc", on=pool), float)
        assert_type(bateau.iter([1]).par(on=pool), ParIter[int])
    graph = bateau.iter.graph({"a": 1.0}, {"a": ["a"]})
    assert_type(await graph.run(step, 3, on=bateau.iter.dask()), dict[str, float])
