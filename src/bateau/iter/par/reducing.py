"""The functions of the ends that reduce: at module level, so that they can be sent to other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def count_one(count: int, item: object) -> int:
    """One more."""
    return count + 1


class Extreme:
    """The greater, or lesser, of two; the left one of equals."""

    def __init__(self, greatest: bool, key: Callable[[Any], Any] | None) -> None:
        self.greatest = greatest
        self.key = key

    def __call__(self, left: Any, right: Any) -> Any:
        key = self.key
        a, b = (left, right) if key is None else (key(left), key(right))
        return right if (b > a if self.greatest else b < a) else left


class Spread:
    """``fn(*args)`` for a tuple of arguments."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, args: tuple[Any, ...]) -> Any:
        return self.fn(*args)

    def __repr__(self) -> str:
        return getattr(self.fn, "__qualname__", None) or repr(self.fn)
