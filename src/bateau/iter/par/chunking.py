"""Cutting a pipeline into chunks that are worth sending, and putting what comes back together again.

A chunk should hold a few milliseconds of work: less, and sending it costs more than doing it; more, and workers are idle at the end,
cancellation is slow, and memory fills. How long an item takes is measured where the work is done, and the size follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from time import perf_counter
from typing import Any

from ..flow import Failure, Signal
from .work import Outcome

# A chunk never holds more items than this, however cheap they are.
MOST_ITEMS = 8192
# Seconds for which a plain source may be asked in one go before the chunk is sent as it is (law 13).
GATHERING_SECONDS = 0.002


class Chunk:
    """Items on their way to a worker; ``start`` is the number of the first of them in the pipeline."""

    __slots__ = ("items", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.items: list[Any] = []


class Done:
    """A chunk that came back."""

    __slots__ = ("chunk", "outcome")

    def __init__(self, chunk: Chunk, outcome: Outcome) -> None:
        self.chunk = chunk
        self.outcome = outcome


class Sizes:
    """How many items the next chunk gets. ``size`` is that number, ``cost`` the measured seconds per item (None: not known yet)."""

    __slots__ = ("_goal", "cost", "fixed", "size")

    def __init__(self, chunk: int | None, goal: float | None) -> None:
        self.fixed = chunk is not None or goal is None
        self.size = chunk or 1
        self.cost: float | None = None
        self._goal = goal or 0.0

    def learn(self, items: int, seconds: float) -> None:
        """A chunk of ``items`` took ``seconds`` of work. The size shrinks at once, and at most quadruples."""
        if not items:
            return
        measured = seconds / items
        # Half of it is news: a single slow item must not undo what was learned from thousands.
        self.cost = measured if self.cost is None else (self.cost + measured) / 2
        if not self.fixed:
            wanted = round(self._goal / self.cost) if self.cost > 0 else MOST_ITEMS
            self.size = max(1, min(wanted, self.size * 4, MOST_ITEMS))


def gather(source: Iterator[Any], sizes: Sizes) -> Iterator[Any]:
    """Chunks of what ``source`` gives. One of adaptive size is sent as it is when the source has to wait; a fixed size is exact."""
    number = 0
    chunk = Chunk(0)
    began = 0.0
    for item in source:
        if isinstance(item, Signal):
            if chunk.items and (isinstance(item, Failure) or not sizes.fixed):
                yield chunk
                chunk = Chunk(number)
            yield item
            continue
        if not chunk.items:
            began = perf_counter()
        chunk.items.append(item)
        number += 1
        held = len(chunk.items)
        late = not sizes.fixed and held % 32 == 0 and perf_counter() - began > GATHERING_SECONDS
        if held >= sizes.size or late:
            yield chunk
            chunk = Chunk(number)
    if chunk.items:
        yield chunk


def spread(flow: Iterator[Any], where: str, release: Callable[[], None]) -> Iterator[Any]:
    """The results of the chunks one by one, each failed item in its place. ``where`` names the chain in the notes of errors.

    ``release`` is called for each chunk when its last result is handed on, or where there is none.
    """
    for done in flow:
        if isinstance(done, Done):
            results, troubles = done.outcome.results, done.outcome.troubles
            taken = 0
            for trouble in troubles:
                yield from results[taken : trouble.at]
                taken = trouble.at
                item = None
                if trouble.number >= 0:  # else it is a result that could not be sent, and says so itself
                    item = done.chunk.items[trouble.number]
                    note(trouble.error, done.chunk.start + trouble.number, item, trouble.method, where)
                if trouble is troubles[-1] and taken == len(results):
                    release()
                yield Failure(trouble.error, item)
            if taken < len(results):
                yield from islice(results, taken, len(results) - 1)
                release()
                yield results[-1]
            elif not troubles:
                release()
        elif isinstance(done, Failure):
            release()
            yield Failure(done.error, done.item.items) if isinstance(done.item, Chunk) else done
        else:
            yield done


def note(error: BaseException, number: int, item: object, method: str, where: str) -> None:
    """Say at ``error`` which item it is about."""
    error.add_note(f"item {number} of {where}, in .{method}(): {shown(item)}")


def shown(value: object, limit: int = 200) -> str:
    """Its ``repr``, for a message: never fails, never long."""
    try:
        text = repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr failed: {error!r}>"
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
