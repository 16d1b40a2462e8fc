"""What the combining parts promise a type checker: join, race, select, tokens, run variables, boxed, Runner."""

from __future__ import annotations

from typing import Any, assert_type

import bateau
from bateau.channel import Receiver
from bateau.combine import Won
from bateau.kernel.errors import CancelRecord
from bateau.selecting import Chosen, Event, Select


async def number() -> int:
    return 1


async def text(n: int = 0) -> str:
    return "x" * n


async def joins(rx: Receiver[bytes], task: bateau.Task[float]) -> None:
    assert_type(await bateau.join(number(), text()), tuple[int, str])
    assert_type(await bateau.join(number, text, rx.recv(), task), tuple[int, str, bytes, float])
    assert_type(await bateau.join([number(), number()], limit=2), list[int])
    assert_type(await bateau.join(number()), tuple[int])
    assert_type(await bateau.join(), tuple[()])


async def races(rx: Receiver[bytes]) -> None:
    assert_type(await bateau.race(number(), text()), Won[int | str])
    assert_type(await bateau.race(number, rx.recv(), text), Won[int | bytes | str])
    assert_type(await bateau.race(a=number, b=number()), Won[int])
    won = await bateau.race(number())
    assert_type(won.value, int)
    assert_type(won.name, str | None)


async def selects(rx: Receiver[bytes]) -> None:
    assert_type(await bateau.select(a=rx.recv, b=rx.recv()), Chosen[str, bytes])
    name, value = await bateau.select({1: number, 2: number})
    assert_type(name, int)
    assert_type(value, int)
    async with bateau.select(a=rx, b=rx.recv) as events:
        async for name_, item in events:
            assert_type(name_, str)
            assert_type(item, bytes)
    async with Select[int, str]() as growable:
        growable.insert(1, text)
        assert_type(await growable.next(), Event[int, str])


def tokens() -> None:
    token = bateau.token()
    assert_type(token, bateau.Token)
    assert_type(token.cancel(), bool)
    assert_type(token.record, CancelRecord | None)
    assert_type(token.child(), bateau.Token)


async def waits(token: bateau.Token, scope: bateau.Scope) -> None:
    assert_type(await token.wait(), CancelRecord)
    assert_type(scope.token, bateau.Token)
    async with token.scope(name="x") as inner:
        assert_type(inner, bateau.Scope)


counter: bateau.RunVar[int] = bateau.RunVar("counter", default=0)


def run_variables() -> None:
    assert_type(counter.get(), int)
    assert_type(counter.get(None), int | None)
    counter.reset(counter.set(1))


@bateau.boxed
async def deep(n: int, *, tag: str = "") -> list[str]:
    return [tag, *await deep(n - 1, tag=tag)] if n else []


class Tree:
    @bateau.boxed
    async def size(self, scale: int) -> int:
        return scale


async def recursion(tree: Tree) -> None:
    assert_type(await deep(3, tag="a"), list[str])
    assert_type(await tree.size(2), int)


def runners() -> None:
    with bateau.Runner(runtime="native") as runner:
        assert_type(runner.run(text, 3), str)
        assert_type(runner.run(number), int)


def refused(rx: Receiver[bytes]) -> Any:
    """Each of these is an error to the checker; an ignore that is not needed would be one too."""
    counter.set("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    deep("x")  # type: ignore[arg-type,unused-coroutine]  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
    return rx
