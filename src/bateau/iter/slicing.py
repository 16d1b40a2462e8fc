"""Combinators that choose items by their place or by their neighbours: ``take``, ``skip``, ``enumerate``, ``dedup``, ``window``...

An item that failed keeps its place: it counts as one, so that ``.map(fn).take(3)`` and ``.take(3).map(fn)`` ask for the same
items. It is always handed on, where others would be skipped too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .chain import Chain
from .flow import Failure, Need, Signal
from .interior import Interior
from .stage import DROPS, Stage, call, check_count, check_function, turn

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)

_NONE: Any = object()


class Take(Stage):
    """The first ``n`` items."""

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        check_count(n, "take", least=0)
        self.n = n

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        left = self.n
        if not left:
            return
        for item in source:
            yield item
            if isinstance(item, Signal) and not isinstance(item, Failure):
                continue
            left -= 1
            if not left:
                return  # without asking for one more


class TakeWhile(Stage):
    """The items before the first for which ``fn`` is false."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        check_function(fn, "take_while")
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
            else:
                return

    def describe(self) -> str:
        return "take_while"


class Skip(Stage):
    """All but the first ``n`` items."""

    __slots__ = ("n",)

    def __init__(self, n: int, method: str = "skip") -> None:
        check_count(n, method, least=0)
        self.n = n

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        left, need = self.n, Need()
        if left:
            for item in source:
                if not isinstance(item, Signal):
                    left -= 1
                    if left and not left % DROPS:
                        yield turn(need)
                else:
                    yield item
                    left -= isinstance(item, Failure)
                if not left:
                    break
        yield from source


class SkipWhile(Stage):
    """The items from the first on for which ``fn`` is false."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        check_function(fn, "skip_while")
        self.fn = fn

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        fn, need, dropped = self.fn, Need(), 0
        for item in source:
            skip = item if isinstance(item, Signal) else (yield from call(fn, item, need))
            if isinstance(skip, Signal):
                yield skip
            elif not skip:
                yield item
                break
            else:
                dropped += 1
                if not dropped % DROPS:
                    yield turn(need)
        yield from source

    def describe(self) -> str:
        return "skip_while"


class StepBy(Stage):
    """The first item, and every ``n``-th after it."""

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        check_count(n, "step_by")
        self.n = n

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        n, place, need = self.n, 0, Need()
        for item in source:
            if isinstance(item, Signal):
                yield item
                if not isinstance(item, Failure):
                    continue
            elif place % n == 0:
                yield item
            elif not place % n % DROPS:
                yield turn(need)
            place += 1

    def describe(self) -> str:
        return "step_by"


class Enumerate(Stage):
    """``(index, item)``."""

    __slots__ = ("start",)

    def __init__(self, start: int) -> None:
        if type(start) is not int:
            raise TypeError(f".enumerate() needs a whole number for start, not {start!r}")
        self.start = start

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        index = self.start
        for item in source:
            if not isinstance(item, Signal):
                yield index, item
            else:
                yield item
                if not isinstance(item, Failure):
                    continue
            index += 1


class Dedup(Stage):
    """Each item whose key is not that of one before: of the last one, or with ``ever`` of any."""

    __slots__ = ("ever", "key")

    def __init__(self, key: Callable[[Any], Any] | None, *, ever: bool) -> None:
        if key is not None:
            check_function(key, "unique" if ever else "dedup")
        self.key = key
        self.ever = ever

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        key_of, ever, need, dropped = self.key, self.ever, Need(), 0
        last: Any = _NONE
        seen: set[Hashable] = set()
        for item in source:
            if isinstance(item, Signal):
                yield item
                continue
            key = item if key_of is None else (yield from call(key_of, item, need))
            if isinstance(key, Failure):
                yield key
                continue
            try:
                new = key not in seen if ever else last is _NONE or key != last
                if new:
                    if ever:
                        seen.add(key)
                    last = key
            except Exception as error:  # a key that can't be hashed or compared
                yield Failure(error, item)
                continue
            if new:
                dropped = 0
                yield item
                continue
            dropped += 1
            if dropped >= DROPS:
                dropped = 0
                yield turn(need)

    def describe(self) -> str:
        return "unique" if self.ever else "dedup"


class Window(Stage):
    """The last ``n`` items, at each item from the ``n``-th on."""

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        check_count(n, "window")
        self.n = n

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        n, need = self.n, Need()
        last: deque[Any] = deque(maxlen=n)
        for item in source:
            if isinstance(item, Signal):
                yield item
                continue
            last.append(item)
            if len(last) == n:
                yield tuple(last)
            elif not len(last) % DROPS:
                yield turn(need)


class Chunks(Stage):
    """Lists of ``n`` items."""

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        check_count(n, "chunks")
        self.n = n

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        n, need = self.n, Need()
        chunk: list[Any] = []
        for item in source:
            if not isinstance(item, Signal):
                chunk.append(item)
                if len(chunk) == n:
                    full, chunk = chunk, []
                    yield full
                elif not len(chunk) % DROPS:
                    yield turn(need)
                continue
            if chunk and isinstance(item, Failure):
                cut, chunk = chunk, []
                yield cut
            yield item
        if chunk:
            yield chunk


class Slicing(Chain[T_co]):
    """The combinators of this module."""

    __slots__ = ()

    def take(self, n: int) -> AsyncIter[T_co]:
        """The first ``n`` items; no more than those are asked for. A failed item counts as one."""
        return self._then(Take(n))

    def take_while(self, fn: Callable[[T_co], object]) -> AsyncIter[T_co]:
        """The items before the first for which ``fn(item)``, awaited if it can be, is false. That one is taken, and dropped."""
        return self._then(TakeWhile(fn))

    def skip(self, n: int) -> AsyncIter[T_co]:
        """All but the first ``n`` items. A failed item counts as one, but is raised nevertheless."""
        return self._then(Skip(n))

    def skip_while(self, fn: Callable[[T_co], object]) -> AsyncIter[T_co]:
        """The items from the first on for which ``fn(item)``, awaited if it can be, is false."""
        return self._then(SkipWhile(fn))

    def step_by(self, n: int) -> AsyncIter[T_co]:
        """The first item, and every ``n``-th after it. A failed item counts as one, but is raised nevertheless."""
        return self._then(StepBy(n))

    def enumerate(self, start: int = 0) -> AsyncIter[tuple[int, T_co]]:
        """``(index, item)``, counted from ``start``. A failed item counts as one: its index is left out."""
        return self._then(Enumerate(start))

    def dedup(
        self, key: Callable[[T_co], object] | Callable[[T_co], Awaitable[object]] | None = None
    ) -> AsyncIter[T_co]:
        """The items without those that equal their predecessor, by ``key(item)`` if given. A failed item changes nothing."""
        return self._then(Dedup(key, ever=False))

    def unique(
        self, key: Callable[[T_co], Hashable] | Callable[[T_co], Awaitable[Hashable]] | None = None
    ) -> AsyncIter[T_co]:
        """The items without those that equal any before, by ``key(item)`` if given.

        Every key is remembered, and has to be hashable: memory grows with their number.
        """
        return self._then(Dedup(key, ever=True))

    def window(self, n: int) -> AsyncIter[tuple[T_co, ...]]:
        """A tuple of each ``n`` consecutive items: ``(1, 2), (2, 3), ...``; nothing if there are fewer.

        A failed item is raised in its place, and is in no window.
        """
        return self._then(Window(n))

    def chunks(self, n: int) -> AsyncIter[list[T_co]]:
        """Lists of ``n`` consecutive items; the last one may be shorter.

        A failed item is raised in its place; the chunk before it is cut short, so that nothing is lost with it.
        To give a chunk after a while even if it is not full: ``batch(n, seconds)``.
        """
        return self._then(Chunks(n))
