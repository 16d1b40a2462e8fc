"""Read by mypy and pyright, never run: what a ``@bateau.generator`` gives, with its arguments and its item type kept."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import assert_type

import bateau
from bateau.iter import each


@bateau.generator
async def numbers(n: int, *, step: int = 1) -> AsyncIterator[int]:
    yield n + step


@bateau.generator
async def annotated_as_generator() -> AsyncGenerator[str, None]:
    yield ""


@bateau.generator
async def walk(depth: int) -> AsyncIterator[int]:
    yield depth
    yield each(walk(depth - 1))
    yield each([1, 2])
    yield each(lambda: numbers(1))


class Store:
    @bateau.generator
    async def rows(self, table: str) -> AsyncIterator[bytes]:
        yield table.encode()

    @staticmethod
    @bateau.generator
    async def static() -> AsyncIterator[float]:
        yield 1.0

    @classmethod
    @bateau.generator
    async def of_class(cls) -> AsyncIterator[complex]:
        yield 1j


async def main() -> None:
    assert_type(numbers(1, step=2), bateau.AsyncIter[int])
    assert_type(annotated_as_generator(), bateau.AsyncIter[str])
    assert_type(walk(3).map(str), bateau.AsyncIter[str])
    assert_type(Store().rows("a"), bateau.AsyncIter[bytes])
    assert_type(Store.static(), bateau.AsyncIter[float])
    assert_type(Store.of_class(), bateau.AsyncIter[complex])
    assert_type(await numbers(1).next(), int)
    assert_type(await numbers(1).next(None), int | None)
    assert_type(await walk(1).collect(), list[int])
    async for row in Store().rows("a"):
        assert_type(row, bytes)
    numbers("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Store().rows()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    list(numbers(1))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await numbers(1)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
