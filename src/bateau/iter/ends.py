"""The ends of a chain: what runs it through and gives one result.

Those with a function are made of the stages of combinators: ``fold`` is the last item of a ``scan``, ``find`` the first of a
``filter``. So there is one place where a user's function, sync or async, is called.
"""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, overload

from ..kernel.errors import BateauError
from ..kernel.operation import Checkpoint
from .chain import Chain, Run
from .elements import MISSING, Filter, Map, Scan
from .flow import END, Failure, Need, Signal, look_around
from .interior import Interior
from .slicing import Skip
from .stage import Stage, call, check_function

if TYPE_CHECKING:
    from ..channel import Sender

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")


class NoItems(BateauError, ValueError):
    """An end that gives one of the items was given none, and no ``default=``."""


class Keyed(Stage):
    """``(key(item), item)``."""

    __slots__ = ("key", "method")

    def __init__(self, key: Callable[[Any], Any], method: str) -> None:
        check_function(key, method)
        self.key = key

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        key_of, need = self.key, Need()
        for item in source:
            key = item if isinstance(item, Signal) else (yield from call(key_of, item, need))
            yield key if isinstance(key, Signal) else (key, item)


def _ignore(item: object) -> None:
    """What is done with items of which only the coming matters."""


async def _drain(
    chain: Chain[Any], into: str, take: Callable[[Any], object], *stages: Stage, anywhere: bool = False
) -> None:
    """Run all of ``chain``, with ``stages`` after it, and give each item to ``take``. ``anywhere``: see ``Flow.drain``."""
    await Checkpoint()
    async with Run[Any]((*chain._take(into), *stages), chain._site) as flow:
        await flow.drain(take, anywhere=anywhere)


class Ends(Chain[T_co]):
    """The ends of this module.

    Each is a cancellation point; cancelled, everything the chain runs is ended and awaited. The first item that failed ends it the
    same way, and its error is raised. Those that need not see every item (``first``, ``nth``, ``find``, ``any``, ``all``) end it as soon
    as they know. Functions may be sync or async. Where there was no item to give, ``default`` is given, or ``NoItems`` raised.
    """

    __slots__ = ()

    async def _pick(self, into: str, *stages: Stage) -> Any:
        """The first item, or ``END``; the rest is closed."""
        await Checkpoint()
        async with Run[Any]((*self._take(into), *stages), self._site) as flow:
            item = await flow.next()
            if isinstance(item, Failure):
                await look_around(item.error)
                raise item.error
            return item

    async def _last(self, into: str, *stages: Stage) -> Any:
        last: Any = END

        def take(item: Any) -> None:
            nonlocal last
            last = item

        await _drain(self, into, take, *stages)
        return last

    # -- everything ----------------------------------------------------------------------------------------------------

    @overload
    async def collect(self) -> list[T_co]: ...
    @overload
    async def collect(self, into: Callable[[list[T_co]], R]) -> R: ...
    async def collect(self, into: Callable[[Any], Any] | None = None) -> Any:
        """Every item, in a list; or what ``into`` (``set``, ``tuple``, ``dict`` for pairs...) makes of it."""
        if into is not None:
            check_function(into, "collect")
        found: list[Any] = []
        await _drain(self, "collect", found.append, anywhere=True)
        return found if into is None else into(found)

    async def for_each(self, fn: Callable[[T_co], object]) -> None:
        """Call ``fn(item)`` for every item, one at a time, and await what it returns if it can be."""
        check_function(fn, "for_each")
        await _drain(self, "for_each", _ignore, Map(fn))

    async def into_channel(self: Chain[T], sender: Sender[T]) -> None:
        """Send every item into a channel, and wait while it is full. The sender is left open: close it to tell the receivers.

        Raises ``Broken`` when all receivers have gone; the item that could not be sent is dropped with the rest.
        """
        send = getattr(sender, "send", None)
        if send is None:
            raise TypeError(f".into_channel() needs the sending end of a channel, not {type(sender).__name__}")
        await _drain(self, "into_channel", _ignore, Map(send))

    async def count(self) -> int:
        """How many items there are."""
        count = 0

        def take(item: object) -> None:
            nonlocal count
            count += 1

        await _drain(self, "count", take)
        return count

    # -- one made of all -----------------------------------------------------------------------------------------------

    @overload
    async def fold(self, initial: R, fn: Callable[[R, T_co], Awaitable[R]]) -> R: ...
    @overload
    async def fold(self, initial: R, fn: Callable[[R, T_co], R]) -> R: ...
    async def fold(self, initial: Any, fn: Callable[[Any, Any], Any]) -> Any:
        """``state = fn(state, item)`` for each item, beginning with ``initial``: the last state."""
        last = await self._last("fold", Scan(fn, initial, "fold"))
        return initial if last is END else last

    @overload
    async def reduce(self, fn: Callable[[Any, T_co], Awaitable[T_co]]) -> T_co: ...
    @overload
    async def reduce(self, fn: Callable[[Any, T_co], T_co]) -> T_co: ...
    @overload
    async def reduce(self, fn: Callable[[Any, T_co], Awaitable[T_co]], default: D) -> T_co | D: ...
    @overload
    async def reduce(self, fn: Callable[[Any, T_co], T_co], default: D) -> T_co | D: ...
    async def reduce(self, fn: Callable[[Any, Any], Any], default: Any = MISSING) -> Any:
        """``fold`` that begins with the first item."""
        return _or_default(await self._last("reduce", Scan(fn, MISSING, "reduce")), default, "reduce")

    @overload
    async def sum(self: Chain[int]) -> int: ...
    @overload
    async def sum(self: Chain[float]) -> float: ...
    @overload
    async def sum(self: Chain[Any], start: R) -> R: ...
    async def sum(self: Chain[Any], start: Any = 0) -> Any:
        """``start``, and every item added to it."""
        total = start

        def take(item: Any) -> None:
            nonlocal total
            total = total + item  # not in place: `start` is the caller's

        await _drain(self, "sum", take)
        return total

    async def join(self: Chain[str], separator: str = "") -> str:
        """The items, which are strings, as one, with ``separator`` between them."""
        found: list[str] = []
        await _drain(self, "join", found.append)
        return separator.join(found)

    # -- one of them ---------------------------------------------------------------------------------------------------

    @overload
    async def first(self) -> T_co: ...
    @overload
    async def first(self, default: D) -> T_co | D: ...
    async def first(self, default: Any = MISSING) -> Any:
        """The first item; nothing after it is asked for."""
        return _or_default(await self._pick("first"), default, "first")

    @overload
    async def last(self) -> T_co: ...
    @overload
    async def last(self, default: D) -> T_co | D: ...
    async def last(self, default: Any = MISSING) -> Any:
        """The last item."""
        return _or_default(await self._last("last"), default, "last")

    @overload
    async def nth(self, n: int) -> T_co: ...
    @overload
    async def nth(self, n: int, default: D) -> T_co | D: ...
    async def nth(self, n: int, default: Any = MISSING) -> Any:
        """The item at index ``n``, counted from 0; nothing after it is asked for."""
        return _or_default(await self._pick("nth", Skip(n, "nth")), default, "nth")

    @overload
    async def find(self, fn: Callable[[T_co], TypeGuard[R]]) -> R: ...
    @overload
    async def find(self, fn: Callable[[T_co], object]) -> T_co: ...
    @overload
    async def find(self, fn: Callable[[T_co], TypeGuard[R]], default: D) -> R | D: ...
    @overload
    async def find(self, fn: Callable[[T_co], object], default: D) -> T_co | D: ...
    async def find(self, fn: Callable[[Any], object], default: Any = MISSING) -> Any:
        """The first item for which ``fn(item)`` is true; nothing after it is asked for."""
        return _or_default(await self._pick("find", Filter(fn, "find")), default, "find")

    async def any(self, fn: Callable[[T_co], object] | None = None) -> bool:
        """Whether ``fn(item)``, or without ``fn`` the item itself, is true for any item. False if there are none."""
        stages = (Map(fn),) if fn is not None else ()
        return await self._pick("any", *stages, Filter(bool)) is not END

    async def all(self, fn: Callable[[T_co], object] | None = None) -> bool:
        """Whether ``fn(item)``, or without ``fn`` the item itself, is true for every item. True if there are none."""
        stages = (Map(fn),) if fn is not None else ()
        return await self._pick("all", *stages, Filter(operator.not_)) is END

    @overload
    async def min(self, key: Callable[[T_co], object] | None = None) -> T_co: ...
    @overload
    async def min(self, key: Callable[[T_co], object] | None = None, *, default: D) -> T_co | D: ...
    async def min(self, key: Callable[[T_co], object] | None = None, *, default: Any = MISSING) -> Any:
        """The least item, or the one with the least ``key(item)``; of several the first."""
        return _or_default(await self._most("min", key, operator.lt), default, "min")

    @overload
    async def max(self, key: Callable[[T_co], object] | None = None) -> T_co: ...
    @overload
    async def max(self, key: Callable[[T_co], object] | None = None, *, default: D) -> T_co | D: ...
    async def max(self, key: Callable[[T_co], object] | None = None, *, default: Any = MISSING) -> Any:
        """The greatest item, or the one with the greatest ``key(item)``; of several the first."""
        return _or_default(await self._most("max", key, operator.gt), default, "max")

    async def _most(self, into: str, key: Callable[[Any], object] | None, better: Callable[[Any, Any], Any]) -> Any:
        best: Any = END
        best_key: Any = None

        def take(item: Any) -> None:
            nonlocal best, best_key
            rank, item = item if key is not None else (item, item)
            if best is END or better(rank, best_key):
                best, best_key = item, rank

        stages = (Keyed(key, into),) if key is not None else ()
        await _drain(self, into, take, *stages)
        return best


def _or_default(item: Any, default: Any, method: str) -> Any:
    if item is not END:
        return item
    if default is MISSING:
        raise NoItems(f".{method}() found no item to give; give it a default= for that case")
    return default
