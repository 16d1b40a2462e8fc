"""From what people pass to what a task runs: a function with arguments, a coroutine object, any other awaitable."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from types import CoroutineType
from typing import Any, TypeVar, cast

T = TypeVar("T")


def as_coroutine(
    fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, made: Any = None
) -> Coroutine[Any, Any, Any]:
    """The coroutine of ``fn(*args)`` (or what that call ``made``), or ``fn`` itself if it is one.

    Raises ``TypeError`` that says what to do.
    """
    if isinstance(fn, CoroutineType):
        if args:
            raise TypeError("arguments can't be given with a coroutine object; pass the function instead")
        return fn  # pyright: ignore[reportUnknownVariableType]  # whatever it returns, nobody has said
    if not callable(fn):
        if hasattr(fn, "__await__"):
            return _awaiting(fn)
        raise TypeError(f"expected an async function or a coroutine object, not {type(fn).__name__}")
    result: Any = made if made is not None else fn(*args, **(kwargs or {}))
    if isinstance(result, CoroutineType):
        return cast("Coroutine[Any, Any, Any]", result)
    if hasattr(result, "__await__"):
        coro: Any = _awaiting(result)
        coro.__qualname__ = getattr(fn, "__qualname__", coro.__qualname__)  # the task's name is made of it
        return coro  # type: ignore[no-any-return]  # an Any so that its name may be set; it is a coroutine
    raise TypeError(
        f"{getattr(fn, '__qualname__', fn)!s} returned a {type(result).__name__}, not an awaitable: "
        "spawn needs an async function; for a sync one use scope.spawn_blocking(fn, ...)"
    )


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable
