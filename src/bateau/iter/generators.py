"""``@bateau.generator``: an async generator as easy as an async function."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, ParamSpec, TypeVar, cast, overload

from ..kernel.errors import user_site
from .asynciter import AsyncIter
from .chain import Chain
from .misuse import three_lines
from .opening import FromAsync, is_async_generator
from .sources import iter as iter_of

T = TypeVar("T")
P = ParamSpec("P")


def chain_of(items: Any) -> tuple[Chain[Any], FromAsync | None]:
    """What ``each`` was given, as a chain; and its only stage, if that is an async generator."""
    chain = cast("Chain[Any]", iter_of(items))
    stage = chain._stages[0] if len(chain._stages) == 1 else None
    if isinstance(stage, FromAsync) and is_async_generator(stage.items):
        chain._take("each")
        return chain, stage
    return chain, None


@overload
def generator(fn: staticmethod[P, AsyncIterator[T]], /) -> staticmethod[P, AsyncIter[T]]: ...
@overload
def generator(fn: Callable[P, AsyncIterator[T]], /) -> Callable[P, AsyncIter[T]]: ...
def generator(fn: Any, /) -> Any:
    """Make an ``async def`` with ``yield`` give an ``AsyncIter``: the function's call returns one, and nothing of it runs yet.

    ::

        @bateau.generator
        async def lines(path: str) -> AsyncIterator[str]:
            async with await fs.open(path) as file:
                async for line in file:
                    yield line.rstrip()


        async for line in lines("notes.txt").filter(bool).take(10):
            print(line)

    The body runs in a task of its own, from one ``next`` to the other. It may hold timeouts, scopes, task groups, locks and
    ``async with`` blocks around a ``yield``; none of them reaches the consumer. When the consumer leaves (by the end, by
    ``break``, by an exception, cancelled) the body is closed there and then: at a ``yield`` by ``GeneratorExit``, with ten seconds
    for what its ``finally`` blocks await; in the middle of a wait by ``Cancelled``. An error in the body is raised from the
    consumer's ``next``. A ``next`` that is timed out loses no item. It sees the context variables as they were at the first ``next``.

    To hand over all items of another generator, ``yield each(other())``. Raises ``TypeError`` for a function without ``yield``.
    """
    if isinstance(fn, (staticmethod, classmethod)):
        inner: Any = cast("Any", fn).__func__
        return type(cast("Any", fn))(generator(inner))
    if not isasyncgenfunction(fn):
        raise TypeError(_not_a_generator(fn))

    @wraps(fn)
    def make(*args: Any, **kwargs: Any) -> AsyncIter[Any]:
        return AsyncIter((FromAsync(fn(*args, **kwargs)),), user_site(sys._getframe(1)))

    return make


def _not_a_generator(fn: Any) -> str:
    name = getattr(fn, "__qualname__", None) or repr(fn)
    code = getattr(fn, "__code__", None)
    where = (code.co_filename, code.co_firstlineno) if code is not None else None
    if iscoroutinefunction(fn):
        return three_lines(
            f"@bateau.generator on {name}, which is an async function without `yield`",
            where,
            "`yield` the items in it one by one; or leave the decorator away and await its single result",
        )
    if isgeneratorfunction(fn):
        return three_lines(
            f"@bateau.generator on {name}, which is a plain generator",
            where,
            f"write `async def {cast('str', name).rpartition('.')[2]}`; or leave the decorator away and pass what it gives to bateau.iter(...)",
        )
    return three_lines(
        f"@bateau.generator needs an `async def` function with `yield`, not {name if code else f'a {type(fn).__name__}'}",
        where,
        "write `async def` and `yield` the items; for an iterable or iterator that exists already, bateau.iter(it)",
    )
