"""Combinators that look at one item at a time: map, filter and their kin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .chain import Chain
from .flow import Failure, Need, Signal
from .interior import Interior
from .stage import Stage, call, check_function, is_awaitable

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")


class Map(Stage):
    """``fn`` of each item."""

    __slots__ = ("fn",)
    per_item = True

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        check_function(fn, "map")
        self.fn = fn

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        fn, need = self.fn, Need()
        for item in source:
            if isinstance(item, Signal):
                yield item
                continue
            try:
                value = fn(item)
            except Exception as error:
                yield Failure(error, item)
                continue
            if is_awaitable(value):
                yield need.of(lambda item=item: fn(item), value)  # type: ignore[misc]  # consumed before the next item
                value = need.value if need.error is None else Failure(need.error, item)
            yield value


class Filter(Stage):
    """The items for which ``fn`` is true."""

    __slots__ = ("fn",)
    per_item = True

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        check_function(fn, "filter")
        self.fn = fn

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        fn, need = self.fn, Need()
        for item in source:
            if isinstance(item, Signal):
                yield item
                continue
            keep = yield from call(fn, item, need)
            if isinstance(keep, Failure):
                yield keep
            elif keep:
                yield item


class Elements(Chain[T_co]):
    """The combinators of this module."""

    __slots__ = ()

    @overload
    def map(self, fn: Callable[[T_co], Awaitable[R]]) -> AsyncIter[R]: ...
    @overload
    def map(self, fn: Callable[[T_co], R]) -> AsyncIter[R]: ...
    def map(self, fn: Callable[[Any], Any]) -> AsyncIter[Any]:
        """``fn(item)`` in place of each item; what it returns is awaited if it can be.

        One call at a time; follow it by ``buffered(n)`` to have ``n`` of them under way. A wait of ``fn`` that is cancelled
        (a timed-out ``next``) is begun again, with the same item, when the iterator is driven again.
        """
        return self._then(Map(fn))

    def filter(self, fn: Callable[[T_co], object]) -> AsyncIter[T_co]:
        """The items for which ``fn(item)``, awaited if it can be, is true."""
        return self._then(Filter(fn))
