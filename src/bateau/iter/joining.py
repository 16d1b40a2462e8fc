"""Combinators with more than one source: ``chain``, ``zip``, ``flat_map``, ``flatten``, ``cycle``.

Any source will do: an iterable, an async iterable, a generator function, an ``AsyncIter`` (which is moved in). One source is asked
at a time; to have them work at once, give them as ``AsyncIter`` with ``prefetch(n)``, or ``merge`` them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from ..kernel.errors import BateauError
from .chain import Chain
from .flow import END, Failure, Need, Signal
from .interior import Interior
from .nesting import nested
from .opening import as_stages, background
from .stage import DROPS, Stage, call, check_count, check_function, depth, gives_up, open_stages, turn

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

# What combinators take as a further source.
Source: TypeAlias = AsyncIterable[R] | Iterable[R] | Callable[[], AsyncIterable[R]]


class Uneven(BateauError, ValueError):
    """The sources of ``zip(..., strict=True)`` are not of the same length; ``row`` are the items that stayed without company."""

    def __init__(self, message: str, row: tuple[Any, ...]) -> None:
        super().__init__(message)
        self.row = row


class Chained(Stage):
    """One part after the other, each opened when the one before has ended. It is the first stage: what ``chain`` is called on is
    a part like the others, so that it ends with its last item.
    """

    __slots__ = ("frames", "gives_up", "parts")

    def __init__(self, parts: tuple[tuple[Stage, ...], ...]) -> None:
        self.parts = parts
        self.gives_up = any(map(gives_up, parts))
        self.frames = 5 + max(map(depth, parts))

    def background(self, resumable: bool) -> bool:
        return any(background(part, resumable) for part in self.parts)

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        for part in self.parts:
            yield from nested(part, interior)

    def describe(self) -> str:
        first, *others = (".".join(stage.describe() for stage in part) for part in self.parts)
        return f"{first}.chain({', '.join(others)})"


class FlatMap(Stage):
    """All items of what ``fn`` gives for each item."""

    __slots__ = ("fn", "method")

    def __init__(self, fn: Callable[[Any], Any], method: str = "flat_map") -> None:
        check_function(fn, method)
        self.fn = fn
        self.method = method

    def background(self, resumable: bool) -> bool:
        return True  # nobody knows yet what its parts will want

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        fn, need, dropped = self.fn, Need(), 0
        for item in source:
            part = item if isinstance(item, Signal) else (yield from call(fn, item, need))
            if isinstance(part, Signal):
                yield part
                continue
            if type(part) is list or type(part) is tuple:
                yield from part
                if part:
                    dropped = 0
            else:
                try:
                    stages = as_stages(part, self.method)
                except Exception as error:
                    yield Failure(error, item)
                    continue
                yield from nested(stages, interior)
            dropped += 1  # each may have been empty; nobody counts what it gave
            if dropped >= DROPS:
                dropped = 0
                yield turn(need)

    def describe(self) -> str:
        return self.method


class Zip(Stage):
    """Rows of one item of each source."""

    __slots__ = ("frames", "gives_up", "others", "rest", "strict")

    def __init__(
        self, others: tuple[tuple[Stage, ...], ...], *, strict: bool, rest: Callable[[Any], Any] | None
    ) -> None:
        if rest is not None:
            check_function(rest, "zip")
            if strict:
                raise TypeError(".zip() takes rest= or strict=True, not both: what is left over is the error's `row`")
        self.others = others
        self.gives_up = any(map(gives_up, others))
        self.frames = 5 + max(map(depth, others), default=0)
        self.strict = strict
        self.rest = rest

    def background(self, resumable: bool) -> bool:
        return any(background(stages, resumable) for stages in self.others)

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        sources = [source, *(open_stages(stages, interior) for stages in self.others)]
        while True:
            row: list[Any] = []
            failures: list[Failure] = []
            for each in sources:
                item = yield from _pull(each)
                if item is END:
                    yield from failures  # no error is lost because its row stays incomplete
                    good = tuple(item for item in row if not isinstance(item, Failure))
                    yield from self._end(sources, len(row), good)
                    return
                row.append(item)
                if isinstance(item, Failure):
                    failures.append(item)
            yield _failed_row(row, failures) if failures else tuple(row)

    def _end(self, sources: list[Iterator[Any]], ended: int, row: tuple[Any, ...]) -> Iterator[Any]:
        """The source at index ``ended`` was asked and has ended; those before it gave one more item each: ``row``."""
        if self.rest is not None and row:
            done = yield from call(self.rest, row, Need())
            if isinstance(done, Failure):
                yield done
        if not self.strict:
            return
        if ended:
            others = f"sources 1 to {ended}" if ended > 1 else "source 1"
            yield Failure(Uneven(f"source {ended + 1} of .zip() is shorter than {others}", row), row)
            return
        for number, each in enumerate(sources[1:], 2):
            item = yield from _pull(each)
            if isinstance(item, Failure):
                yield item
            elif item is not END:
                yield Failure(Uneven(f"source {number} of .zip() is longer than source 1", (item,)), (item,))
                return


def _failed_row(row: list[Any], failures: list[Failure]) -> Failure:
    # What came with the failed ones is not out of reach: a `.catch()` is given the row.
    items = tuple(item.item if isinstance(item, Failure) else item for item in row)
    errors = [failure.error for failure in failures]
    error = errors[0] if len(errors) == 1 else BaseExceptionGroup("several items of a row failed", errors)
    return Failure(error, items)


def _pull(source: Iterator[Any]) -> Generator[Signal, None, Any]:
    """The next item of ``source``, its ``Failure``, or ``END``; what else it signals is handed on."""
    while True:
        item = next(source, END)
        if not isinstance(item, Signal) or item is END or isinstance(item, Failure):
            return item
        yield item


class Cycle(Stage):
    """All items, again and again."""

    __slots__ = ("times",)

    def __init__(self, times: int | None) -> None:
        if times is not None:
            check_count(times, "cycle", least=0, name="times")
        self.times = times

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        if self.times == 0:
            return
        kept: list[Any] = []
        for item in source:
            if not isinstance(item, Signal) and self.times != 1:
                kept.append(item)
            yield item
        left = self.times
        while kept and left != 1:
            left = left - 1 if left is not None else None
            yield from kept


class Joining(Chain[T_co]):
    """The combinators of this module."""

    __slots__ = ()

    def chain(self, *others: Source[R]) -> AsyncIter[T_co | R]:
        """These items, then those of each of ``others``, which are opened only when it is their turn.

        What a source ran in the background has ended before the next one is opened.
        """
        parts: list[tuple[Stage, ...]] = []
        for part in (self._take("chain"), *(as_stages(other, "chain") for other in others)):
            # A part that is nothing but a chain itself: its parts beside ours, so that any number can be put on, one by one.
            if len(part) == 1 and isinstance(part[0], Chained):
                parts += part[0].parts
            else:
                parts.append(part)
        made: AsyncIter[T_co | R] = self._make((Chained(tuple(parts)),), self._site)
        return made

    @overload
    def flat_map(self, fn: Callable[[T_co], Awaitable[Source[R]]]) -> AsyncIter[R]: ...
    @overload
    def flat_map(self, fn: Callable[[T_co], Source[R]]) -> AsyncIter[R]: ...
    def flat_map(self, fn: Callable[[Any], Any]) -> AsyncIter[Any]:
        """The items of ``fn(item)`` for each item, one after the other.

        ``fn``, sync or async, gives an iterable, an async iterable, a generator function or an ``AsyncIter``. It is called when
        its first item is asked for. What the sub-iterator ran has ended before the next one begins, and, when the loop around
        the whole is left early, with the rest of the pipeline; an async generator is closed.
        """
        return self._then(FlatMap(fn))

    def flatten(self: Chain[Source[R]]) -> AsyncIter[R]:
        """The items of each item, one after the other: ``flat_map`` where each item is a source already."""
        return self._then(FlatMap(_itself, "flatten"))

    @overload
    def zip(
        self, a: Source[A], /, *, strict: bool = False, rest: Callable[[tuple[T_co | A, ...]], object] | None = None
    ) -> AsyncIter[tuple[T_co, A]]: ...
    @overload
    def zip(
        self,
        a: Source[A],
        b: Source[B],
        /,
        *,
        strict: bool = False,
        rest: Callable[[tuple[T_co | A | B, ...]], object] | None = None,
    ) -> AsyncIter[tuple[T_co, A, B]]: ...
    @overload
    def zip(
        self,
        a: Source[A],
        b: Source[B],
        c: Source[C],
        /,
        *,
        strict: bool = False,
        rest: Callable[[tuple[T_co | A | B | C, ...]], object] | None = None,
    ) -> AsyncIter[tuple[T_co, A, B, C]]: ...
    @overload
    def zip(
        self, *others: Source[Any], strict: bool = False, rest: Callable[[tuple[Any, ...]], object] | None = None
    ) -> AsyncIter[tuple[Any, ...]]: ...
    def zip(
        self, *others: Source[Any], strict: bool = False, rest: Callable[[Any], object] | None = None
    ) -> AsyncIter[Any]:
        """Rows: a tuple of one item of each source. The sources are asked in turn, this one first.

        It ends with the first source that is asked and has ended. The sources before that one have then given one item each to
        a row that stays incomplete; those after it have not been asked. Where such items must not be lost (they came from a
        channel, say), ``rest`` is called with a tuple of them, and awaited if it can be. ``strict=True`` raises ``Uneven``, whose
        ``row`` is that tuple, unless all sources have ended: those after the first are asked once more to know it.

        A row is as good as its items: if one failed, its error is raised in the row's place (several: in an ``ExceptionGroup``), so
        that the sources stay in step. The others are dropped with it, unless a ``catch`` takes the row from there.
        """
        mine = self._take("zip")
        stage = Zip(tuple(as_stages(other, "zip") for other in others), strict=strict, rest=rest)
        made: AsyncIter[Any] = self._make((*mine, stage), self._site)
        return made

    def cycle(self, times: int | None = None) -> AsyncIter[T_co]:
        """All items again and again, for ever or ``times`` times in all. They are kept in memory; failed ones are raised once."""
        return self._then(Cycle(times))


def _itself(item: Any) -> Any:
    return item
