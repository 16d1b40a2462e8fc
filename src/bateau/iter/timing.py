"""Combinators that look at the clock: batches that do not wait for ever, rates, quiet periods, time limits, progress.

All times are seconds on the running program's clock (``bateau.now()``), which simulation makes virtual.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ..kernel.cancellation import CancelScope
from ..kernel.current import current_host
from ..time import sleep_until
from .chain import Chain
from .flow import END, Failure, Flow, ItemTimeout, Need, Signal
from .handoff import Handoff, pump
from .interior import Interior
from .newest import Debounce, Sample
from .stage import Stage, call, check_count, check_function

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)

# What a wait that ran out of time gives instead of an item.
_LATE: Final = object()


class Progress(NamedTuple):
    """What ``.progress(fn)`` is told: items so far, seconds since the first was asked for, ``total`` if it was given."""

    items: int
    elapsed: float
    total: int | None
    done: bool

    @property
    def rate(self) -> float:
        """Items per second, on the average so far."""
        return self.items / self.elapsed if self.elapsed > 0 else 0.0

    def __str__(self) -> str:
        of = f"/{self.total}" if self.total is not None else ""
        return f"{self.items}{of} items in {self.elapsed:.1f} s ({self.rate:.0f}/s)"


def check_positive(seconds: object, method: str, name: str) -> float:
    """``seconds``, if it is a number above 0; else raises, naming the method."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f".{method}() needs a number of seconds for {name}, not {seconds!r}")
    if not seconds > 0:
        raise ValueError(f".{method}() needs {name} above 0, not {seconds!r}")
    return float(seconds)


async def take_until(handoff: Handoff[Any], when: float) -> Any:
    """The next item, or ``_LATE`` if there is none by ``when``."""
    item: Any = _LATE
    with CancelScope(at=when):
        item = await handoff.take()
    return item  # noqa: RET504  # the block may have been cut short


def next_item(handoff: Handoff[Any], need: Need, when: float | None) -> Generator[Need, None, Any]:
    """In a stage: the next item, a ``Failure``, ``END``; ``_LATE`` once it is ``when``."""
    yield need.of(handoff.take if when is None else partial(take_until, handoff, when))
    return need.value if need.error is None else Failure(need.error)


class Batch(Stage):
    """Lists of up to ``most`` items; one that is not full goes ``wait`` seconds after its first item came.

    It waits for the next item and for the clock at once, so what is before it runs in a task of its own: a wait that ends by
    the clock costs nothing, the item comes to the next one.
    """

    __slots__ = ("most", "wait")

    def __init__(self, most: int, wait: float) -> None:
        self.most = most
        self.wait = wait

    def background(self, resumable: bool) -> bool:
        return True

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        handoff: Handoff[Any] = Handoff("what comes before .batch()")
        handoff.producer = interior.spawn(pump, Flow(source), handoff, name="pump of batch")
        need = Need()
        batch: list[Any] = []
        due: float | None = None
        while True:
            item = yield from next_item(handoff, need, due)
            if not isinstance(item, Signal) and item is not _LATE:
                batch.append(item)
                if due is None:
                    due = current_host().now() + self.wait
                if len(batch) < self.most:
                    continue
            if batch:
                full, batch, due = batch, [], None
                yield full
            if item is END:
                return
            if isinstance(item, Failure):
                yield item


class Throttle(Stage):
    """At most ``count`` items in any ``per`` seconds; the others wait."""

    __slots__ = ("count", "per")

    def __init__(self, count: int, per: float) -> None:
        self.count = count
        self.per = per

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        need = Need()
        given: deque[float] = deque(maxlen=self.count)
        for item in source:
            if isinstance(item, Signal):
                yield item
                continue
            while len(given) == self.count and (due := given[0] + self.per) > current_host().now():
                yield need.of(partial(sleep_until, due))
            given.append(current_host().now())
            yield item


class Limited:
    """Somebody's work within a time limit, to be awaited. Closed before that, it closes the work, which nobody has begun."""

    __slots__ = ("_begin", "_work")

    def __init__(self, work: Awaitable[Any], begin: Callable[[], Awaitable[Any]]) -> None:
        self._work = work
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._begin().__await__()

    def close(self) -> None:
        """It will not be awaited."""
        Flow._throw_away(Need().of(self._begin, self._work))


class Timeout(Stage):
    """An item may take ``seconds``; else it fails in its place with ``ItemTimeout``.

    It gives up waits of what stands before it. Who waited gets the error as the outcome, and says it in the item's place; one
    that takes no notice and waits on (``throttle`` for its clock, a ``filter`` for its turn) has it said here.
    """

    __slots__ = ("seconds",)
    per_item = True
    gives_up = True

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        mine = Need()
        due: float | None = None
        late: Failure | None = None  # what has not been said yet
        for item in source:
            if not isinstance(item, Need):
                due = late = None
                yield item
                continue
            if late is not None:
                try:
                    yield late
                except GeneratorExit:
                    Flow._throw_away(item)
                    raise
                due = late = None
            if due is None:
                due = current_host().now() + self.seconds
            yield self._limited(item, due, mine)
            item.value, item.error = mine.value, mine.error
            if isinstance(mine.error, ItemTimeout):
                late = Failure(mine.error)
        if late is not None:
            yield late

    def _limited(self, need: Need, due: float, mine: Need) -> Need:
        """``need``, within what is left of the time."""
        first, need.first = need.first, None
        assert need.again is not None
        again = partial(self._within, need.again, due)
        return mine.of(again, None if first is None else Limited(first, partial(self._within, lambda: first, due)))

    async def _within(self, ask: Callable[[], Awaitable[Any]], due: float) -> Any:
        with CancelScope(at=due) as limit:
            return await ask()
        raise ItemTimeout(f"an item took longer than {self.seconds:g} s [{limit.site[0]}:{limit.site[1]}]")


class Report(Stage):
    """Tells a function how far it is, at most every so often, and at the end."""

    __slots__ = ("every", "fn", "total")

    def __init__(self, fn: Callable[[Progress], object], every: float, total: int | None) -> None:
        self.fn = fn
        self.every = every
        self.total = total

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        need = Need()
        now = current_host().now
        begin = told = now()
        count = 0
        for item in source:
            if not isinstance(item, Signal):
                count += 1
                if (at := now()) - told >= self.every:
                    told = at
                    failed = yield from call(self.fn, Progress(count, at - begin, self.total, False), need)
                    if isinstance(failed, Failure):
                        yield failed
            yield item
        failed = yield from call(self.fn, Progress(count, now() - begin, self.total, True), need)
        if isinstance(failed, Failure):
            yield failed

    def describe(self) -> str:
        return "progress"


class Timing(Chain[T_co]):
    """The combinators of this module."""

    __slots__ = ()

    def batch(self, most: int, wait: float) -> AsyncIter[list[T_co]]:
        """Lists of up to ``most`` items, never empty; one that is not full is given ``wait`` seconds after its first item.

        What comes before runs in a task of its own, at most one item ahead. A failed item raises in its place, after the
        batch of what came before it; the last batch is what is left at the end.
        """
        check_count(most, "batch", name="most")
        return self._then(Batch(most, check_positive(wait, "batch", "wait")))

    def throttle(self, count: int, per: float = 1.0) -> AsyncIter[T_co]:
        """Give at most ``count`` items in any ``per`` seconds. None is dropped: the others wait, and so does their source."""
        check_count(count, "throttle", name="count")
        return self._then(Throttle(count, check_positive(per, "throttle", "per")))

    def debounce(self, seconds: float) -> AsyncIter[T_co]:
        """Only the items after which nothing came for ``seconds``, and the last one. The others are dropped: that is its use."""
        return self._then(Debounce(check_positive(seconds, "debounce", "seconds")))

    def sample(self, seconds: float) -> AsyncIter[T_co]:
        """The newest item every ``seconds``, and the last one. Those in between are dropped: that is its use."""
        return self._then(Sample(check_positive(seconds, "sample", "seconds")))

    def timeout(self, seconds: float) -> AsyncIter[T_co]:
        """Let each item take at most ``seconds``, from when it is asked for, to come through what stands before.

        One that takes longer fails in its place with ``ItemTimeout`` (a ``TimeoutError``), and the iteration can go on: a
        function that was at it is cancelled; a source is not, what it was at comes later. After a function and before
        ``buffered(n)`` it limits each of the n calls by itself; right after the source, the wait for that.
        """
        return self._then(Timeout(check_positive(seconds, "timeout", "seconds")))

    def progress(
        self, fn: Callable[[Progress], object | Awaitable[object]], *, every: float = 1.0, total: int | None = None
    ) -> AsyncIter[T_co]:
        """Call ``fn`` (sync or async) with a ``Progress`` as items pass, at most once in ``every`` seconds, and at the end.

        ``total`` is how many items there will be, if you know. What ``fn`` raises is raised in place.
        """
        check_function(fn, "progress")
        return self._then(Report(fn, check_positive(every, "progress", "every"), total))
