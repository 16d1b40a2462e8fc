"""Counters of every task: how long it ran, how long it was ready and had to wait for its turn, who woke it how often.

They are kept from ``count()`` on, for as long as somebody wants them (a console does): two clock readings and a few additions per
step. They appear in snapshots as ``Task.stats``:

===============  ===================================================================================================
``steps``        times it was resumed
``busy``         seconds it ran
``scheduled``    seconds between being woken and being resumed
``idle``         seconds it was neither: it waited
``wakes``        times it was made ready
``self_wakes``   of these, by itself while it ran (a ``checkpoint``, a ``sleep(0)``)
``late_N``       resumes that came later than 2^(N-1) and at most 2^N microseconds after the wake; ``late_0``: at most one
===============  ===================================================================================================

Where another loop drives (asyncio, trio) a step is counted where the task begins and where it goes on after a wait of ours; when it
stops running is not told, so ``busy`` there is the time to its next wait of ours.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from ..kernel import instrument
from ..kernel.instrument import Instrument
from . import collect
from .hazards.settings import is_muted
from .steps import Lasted
from .unsuspended import NAME as NEVER_WAITS
from .unsuspended import Unsuspended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..kernel.host import Host
    from ..kernel.task import Task
    from .model import Finding
    from .tables import Tables

# Above 2^24 us, 17 s, nobody asks how late exactly.
MOST_LATE = 24


class Counters:
    """The counters of one task, in nanoseconds."""

    __slots__ = ("busy", "late", "scheduled", "seen", "self_wakes", "steps", "wakes", "whole", "woken")

    def __init__(self, now: int, *, whole: bool = False) -> None:
        self.seen = now
        # Whether it is counted from its spawn on, and may be listed as one that never waits.
        self.whole = whole
        self.steps = self.wakes = self.self_wakes = 0
        self.busy = self.scheduled = 0
        # When it was made ready; 0: it is not.
        self.woken = 0
        self.late: dict[int, int] = {}

    def as_stats(self, now: int, running_since: int) -> dict[str, float]:
        """As a snapshot shows them. ``running_since``: if it is in a step, when that began; else 0."""
        busy = self.busy + (now - running_since if running_since else 0)
        scheduled = self.scheduled + (now - self.woken if self.woken else 0)
        stats: dict[str, float] = {
            "steps": self.steps,
            "busy": busy / 1e9,
            "scheduled": scheduled / 1e9,
            "idle": max(0, now - self.seen - busy - scheduled) / 1e9,
            "wakes": self.wakes,
            "self_wakes": self.self_wakes,
        }
        for bucket, times in sorted(self.late.items()):
            stats[f"late_{bucket}"] = times
        return stats


class Counting(Instrument):
    """The observer of one host.

    Invariant: ``running`` is the task in the middle of a step, since ``since``; both are written by the host's own thread alone, and
    read by whoever takes a snapshot, who may see a step more or less.
    """

    __slots__ = ("rides", "running", "since", "tasks")

    def __init__(self, *, rides: bool = False) -> None:
        # Whether another loop drives, so that a step may have begun later than we were told.
        self.rides = rides
        self.tasks: dict[int, Counters] = {}
        self.running: int | None = None
        self.since = 0

    def spawn(self, task: Task[Any]) -> None:
        """It is counted from here on."""
        self.tasks[task.id] = Counters(perf_counter_ns(), whole=not is_muted(NEVER_WAITS, task.context))

    def wake(self, task: Task[Any]) -> None:
        """It is ready from here on."""
        now = perf_counter_ns()
        one = self._of(task, now)
        one.wakes += 1
        one.woken = now
        if self.running == task.id:
            one.self_wakes += 1

    def step(self, task: Task[Any]) -> None:
        """The one before has stopped running, this one starts."""
        now = perf_counter_ns()
        self._stop(now)
        one = self._of(task, now)
        one.steps += 1
        if one.woken:
            late = now - one.woken
            one.woken = 0
            one.scheduled += late
            bucket = min((late // 1000).bit_length(), MOST_LATE)
            one.late[bucket] = one.late.get(bucket, 0) + 1
        self.running = task.id
        self.since = now

    def idle(self) -> None:
        """Nobody runs."""
        self._stop(perf_counter_ns())

    def park(self, task: Task[Any]) -> None:
        """Where another loop drives this is the end of a step, as far as we are told."""
        one = self.tasks.get(task.id)
        if one is not None:
            one.woken = 0  # it has run since: in the turn in which the counting began nobody tells of steps
        if task.host.rides and self.running == task.id:
            self._stop(perf_counter_ns())

    def end(self, task: Task[Any], error: BaseException | None) -> None:
        """It is counted no more."""
        if self.running == task.id:
            self.running = None
        one = self.tasks.pop(task.id, None)
        if one is not None and one.whole and error is None and not task.host.rides:
            unsuspended.ended(task, one.steps)

    def stats(self, task: Task[Any]) -> dict[str, float] | None:
        """The counters of ``task``, or None if it has none."""
        one = self.tasks.get(task.id)
        if one is None:
            return None
        return one.as_stats(perf_counter_ns(), self.since if self.running == task.id else 0)

    def _of(self, task: Task[Any], now: int) -> Counters:
        one = self.tasks.get(task.id)
        if one is None:  # it was there before the counting
            one = self.tasks[task.id] = Counters(now)
        return one

    def _stop(self, now: int) -> None:
        if self.running is not None:
            one = self.tasks.get(self.running)
            if one is not None:
                one.busy += now - self.since
            self.running = None


_counting: dict[int, Counting] = {}
# Which functions never suspend, for as long as somebody counts.
unsuspended = Unsuspended()
_users = 0
_remove: Callable[[], None] | None = None


def _for_host(host: Host) -> Counting:
    found = _counting.get(id(host))
    if found is None:
        found = _counting[id(host)] = Counting(rides=host.rides)
    return found


def _stats(task: Task[Any]) -> dict[str, float] | None:
    found = _counting.get(id(task.host))
    return found.stats(task) if found is not None else None


def running_for(number: int) -> Lasted | None:
    """For how long the step of that task has lasted, if one is under way on any host that is counted."""
    for host in tuple(_counting.values()):
        if host.running == number:
            return Lasted((perf_counter_ns() - host.since) / 1e9, at_most=host.rides)
    return None


def _findings(tables: Tables) -> Iterable[Finding]:
    return unsuspended.findings(tables)


def count() -> Callable[[], None]:
    """Count from now on. Returns the function that ends it (harmless when called again); with the last one the counters are gone."""
    global _users, _remove, unsuspended
    if _users == 0:
        _remove = instrument.install(_for_host)
        unsuspended = Unsuspended()
        collect.stats_sources.append(_stats)
        collect.finding_sources.append(_findings)
    _users += 1
    ended = False

    def stop() -> None:
        nonlocal ended
        global _users
        if ended:
            return
        ended = True
        _users -= 1
        if _users == 0:
            assert _remove is not None
            _remove()
            collect.stats_sources.remove(_stats)
            collect.finding_sources.remove(_findings)
            _counting.clear()

    return stop
