"""Bounded search: every run with at most so many deviations from production, the fewest first.

A run is known by its deviations: at which of its decisions it gave another answer than 0, and which. Behind the last of them it does what
production does, and each decision there is a place for one deviation more. So every run within the bounds is visited exactly once, and
the first failure that is found has as few deviations as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

# (number of the decision in the run, answer), in order.
Deviations = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Bounds:
    """How far runs may be from production's. None: as far as they like.

    ``preemptions``: how many times another runs next than production's choice; ``delays``: how many are passed over by these, together
    (Emmi, Qadeer, Rakamarić: "Delay-bounded scheduling", POPL 2011). ``waits``: how many times the clock goes on although somebody could
    run; ``faults``: how many faults happen; ``yields``: how many awaits that need not wait let the others run first.
    """

    preemptions: int | None = None
    delays: int | None = None
    waits: int | None = 0
    faults: int | None = 1
    yields: int | None = 0

    def __post_init__(self) -> None:
        for name, bound in vars(self).items():
            if bound is not None and not (type(bound) is int and bound >= 0):
                raise ValueError(f"{name} must be a number of times, 0 or more, or None for no bound, not {bound!r}")


class Spent:
    """What a run has used of the bounds so far."""

    __slots__ = ("bounds", "delays", "faults", "preemptions", "waits", "yields")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.preemptions = 0
        self.delays = 0
        self.waits = 0
        self.faults = 0
        self.yields = 0

    def may_wait(self) -> bool:
        """Whether the clock may go on once more."""
        return self.bounds.waits is None or self.waits < self.bounds.waits

    def may_fail(self) -> bool:
        """Whether one fault more may happen."""
        return self.bounds.faults is None or self.faults < self.bounds.faults

    def may_yield(self) -> bool:
        """Whether one await more may let the others run."""
        return self.bounds.yields is None or self.yields < self.bounds.yields

    def most_skipped(self) -> int | None:
        """How many may be passed over at this decision; None: any number."""
        bounds = self.bounds
        if bounds.preemptions is not None and self.preemptions >= bounds.preemptions:
            return 0
        return None if bounds.delays is None else bounds.delays - self.delays

    def skip(self, count: int) -> None:
        """``count`` were passed over."""
        if count:
            self.preemptions += 1
            self.delays += count


class Frontier:
    """The runs that are known and not made yet. ``begin``; then ``decide`` for each decision of the run."""

    def __init__(self) -> None:
        self.runs = 0
        self.exhausted = False
        # (number of deviations, order of discovery, deviations)
        self._heap: list[tuple[int, int, Deviations]] = [(0, 0, ())]
        self._found = 0
        self._given: dict[int, int] = {}
        self._deviations: Deviations = ()
        self._last = -1
        self._at = 0

    def begin(self) -> bool:
        """Start the next run; False if there is none."""
        if not self._heap:
            self.exhausted = True
            return False
        self.runs += 1
        _, _, self._deviations = heappop(self._heap)
        self._given = dict(self._deviations)
        self._last = self._deviations[-1][0] if self._deviations else -1
        self._at = 0
        return True

    def decide(self, n: int) -> int:
        """The answer to a decision that may be answered by 0 to ``n - 1``."""
        at = self._at
        self._at += 1
        if at <= self._last:
            return min(self._given.get(at, 0), n - 1)
        for answer in range(1, n):
            self._found += 1
            heappush(self._heap, (len(self._deviations) + 1, self._found, (*self._deviations, (at, answer))))
        return 0
