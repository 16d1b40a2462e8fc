"""The timers of an engine: a heap of times, and beside it who is to be told.

Theory of operation. A timer is a number. ``waiters`` says whom it tells, the heap when; so cancelling one is taking its number out of a
dictionary, and what is left of it in the heap is a husk, dropped when its time comes or when husks are the majority. What is
set goes into the heap only when the clock is looked at next, once for many steps: most timeouts are over by then, and never see it.

The heap's entries are tuples of two numbers, of which the garbage collector lets go at once, and who waits is told itself, not by
a method made for it: 100,000 sleepers are two objects less each for the collector to visit (measured: a quarter of what they cost).

Native engines have their own (``_native/timer.c``); on them these are for engines that the twin does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import NamedTuple, Protocol

# How many husks are kept at any rate: to sweep fewer of them is not worth its while.
FEW_HUSKS = 64


class Waiter(Protocol):
    """Who is told when a timer is due."""

    def _due(self) -> None: ...


class Timers:
    """See the module's head.

    Invariants: a timer is set iff its number is in ``_fresh`` (with its time and waiter) or in ``_waiters``; in the latter case the
    heap has one entry for it, ``(when, number)``. ``heap`` is one list for ever (tools read its length).
    """

    __slots__ = ("_fresh", "_number", "_waiters", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int]] = []
        self._waiters: dict[int, Waiter] = {}
        # Set since the clock was looked at last.
        self._fresh: dict[int, tuple[float, Waiter]] = {}
        self._number = 0

    def set(self, when: float, waiter: Waiter) -> int:
        """Tell ``waiter`` at ``when``. Returns the timer's number, for ``clear``."""
        self._number = number = self._number + 1
        self._fresh[number] = when, waiter
        return number

    def clear(self, timer: int) -> None:
        """Cancel a timer; harmless where it was due before, or cancelled."""
        if self._fresh.pop(timer, None) is None and self._waiters.pop(timer, None) is not None:
            husks = len(self.heap) - len(self._waiters)
            if husks > FEW_HUSKS and husks * 2 > len(self.heap):
                self._sweep()

    def _sweep(self) -> None:
        waiters = self._waiters
        self.heap[:] = [entry for entry in self.heap if entry[1] in waiters]
        heapify(self.heap)

    def _gather(self) -> None:
        """The clock is being looked at: what was set since goes into the heap. Where memory is short for it, it stays where it is, and
        the next look tries again (what is in both by then is told once, and a husk the second time).
        """
        heap, waiters, fresh = self.heap, self._waiters, self._fresh
        try:
            for number, (when, waiter) in fresh.items():
                waiters[number] = waiter
                heappush(heap, (when, number))
        except MemoryError:
            return
        fresh.clear()

    def run(self, now: float) -> None:
        """Tell all that are due, in the order of their times; of the same time, in the order in which they were set."""
        heap, waiters = self.heap, self._waiters
        if self._fresh:
            self._gather()
        while heap and heap[0][0] <= now:
            waiter = waiters.pop(heappop(heap)[1], None)
            if waiter is not None:
                waiter._due()
                if self._fresh:
                    self._gather()

    def first(self) -> float | None:
        """When the first timer of the heap is due, cancelled or not; None if it is empty."""
        if self._fresh:
            self._gather()
        return self.heap[0][0] if self.heap else None

    def first_set(self) -> float | None:
        """When the first timer that was not cancelled is due, or None. Drops the husks before it."""
        heap = self.heap
        if self._fresh:
            self._gather()
            if self._fresh:
                return -inf  # memory is short: look again at once
        while heap and heap[0][1] not in self._waiters:
            heappop(heap)
        return heap[0][0] if heap else None

    def __bool__(self) -> bool:
        """Whether a timer is set."""
        return bool(self._waiters or self._fresh)

    def pending(self) -> list[Pending]:
        """The timers that are set, in no order; for who looks at a program. May be called on any thread."""
        found = [Pending(when, _called(one), number) for number, (when, one) in tuple(self._fresh.items())]
        waiters = dict(self._waiters)
        return found + [
            Pending(when, _called(waiters[number]), number) for when, number in tuple(self.heap) if number in waiters
        ]


class TimersOfAWorld(Timers):
    """Those of a simulated engine: what was set and cancelled between two looks at the clock is in the heap as well. There a husk is a
    reason to ask what comes next, and both kernels must ask the same.
    """

    __slots__ = ()

    def set(self, when: float, waiter: Waiter) -> int:
        number = super().set(when, waiter)
        self._gather()
        return number


class Pending(NamedTuple):
    """A timer that is set, as tools see it: when it is due, what will be called, its number."""

    when: float
    fn: Callable[[], None]
    number: int


def _called(waiter: Waiter) -> Callable[[], None]:
    found = waiter.fn if isinstance(waiter, EngineTimer) else waiter._due
    assert found is not None
    return found


class EngineTimer:
    """What ``Engine.call_at`` returns: a pending call, ``fn`` None once it was called or cancelled."""

    __slots__ = ("_number", "_timers", "fn", "when")

    def __init__(self, timers: Timers, when: float, fn: Callable[[], None]) -> None:
        self.when = when
        self.fn: Callable[[], None] | None = fn
        self._timers = timers
        self._number = timers.set(when, self)

    def _due(self) -> None:
        fn, self.fn = self.fn, None
        if fn is not None:
            fn()

    def cancel(self) -> None:
        """Never call ``fn``."""
        self.fn = None
        self._timers.clear(self._number)
