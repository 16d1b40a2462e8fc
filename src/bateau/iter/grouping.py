"""Combinators that put items together by what they are: ``group_by`` and ``partition``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .chain import Chain
from .elements import Map
from .flow import Failure, Need, Signal
from .interior import Interior
from .stage import DROPS, Stage, call, check_function, is_awaitable, turn

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")

_NONE: Any = object()


class GroupBy(Stage):
    """Runs of neighbours with equal keys."""

    __slots__ = ("key",)

    def __init__(self, key: Callable[[Any], Any]) -> None:
        check_function(key, "group_by")
        self.key = key

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        need = Need()
        current: Any = _NONE
        group: list[Any] = []
        for item in source:
            if isinstance(item, Need):
                yield item
                continue
            key = item if isinstance(item, Signal) else (yield from call(self.key, item, need))
            same = False
            if group and not isinstance(key, Failure):
                try:
                    same = bool(key == current)
                except Exception as error:  # keys that can't be compared
                    key = Failure(error, item)
            failed = isinstance(key, Failure)
            if group and not same:
                found, group = group, []
                yield current, found
            if failed:
                yield key
            else:
                current = key
                group.append(item)
                if not len(group) % DROPS:
                    yield turn(need)
        if group:
            yield current, group

    def describe(self) -> str:
        return "group_by"


class Grouping(Chain[T_co]):
    """The combinators of this module."""

    __slots__ = ()

    @overload
    def group_by(self, key: Callable[[T_co], Awaitable[K]]) -> AsyncIter[tuple[K, list[T_co]]]: ...
    @overload
    def group_by(self, key: Callable[[T_co], K]) -> AsyncIter[tuple[K, list[T_co]]]: ...
    def group_by(self, key: Callable[[Any], Any]) -> AsyncIter[Any]:
        """``(key, items)`` for each run of neighbours that have the same ``key(item)``, as ``itertools.groupby`` does.

        The items of a run are a list, held until the run is over: sort or batch before, if runs are long. A failed item ends
        the run before it and raises in its place.
        """
        return self._then(GroupBy(key))

    def partition(
        self, fn: Callable[[T_co], object], *, limit: int = 64, unbounded: bool = False
    ) -> tuple[AsyncIter[T_co], AsyncIter[T_co]]:
        """Two iterators: the items for which ``fn(item)`` is true, and the others. ``fn``, sync or async, is called once for each.

        They share one source: when one is ``limit`` items behind the other, the other waits (as for ``tee``). So read them in two
        tasks; ``unbounded=True`` keeps whatever has not been read.
        """
        check_function(fn, "partition")

        pairs: AsyncIter[tuple[bool, T_co]] = self._then(Map(partial(_judged, fn)))
        yes, no = pairs.tee(2, limit=limit, unbounded=unbounded)
        return yes.filter(_is_true).map(_item), no.filter(_is_false).map(_item)


def _judged(fn: Callable[[Any], object], item: Any) -> Any:
    found = fn(item)
    return _judged_late(found, item) if is_awaitable(found) else (bool(found), item)


async def _judged_late(found: Any, item: Any) -> tuple[bool, Any]:
    return bool(await found), item


def _is_true(pair: tuple[bool, Any]) -> bool:
    return pair[0]


def _is_false(pair: tuple[bool, Any]) -> bool:
    return not pair[0]


def _item(pair: tuple[bool, Any]) -> Any:
    return pair[1]
