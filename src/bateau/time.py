"""Sleeping, ticking, and reading the clock: the async counterpart of Python's ``time``.

Inside a program all times are those of the running program's clock (``bateau.now()``), which is virtual in simulation;
outside any they are Python's own.
"""

from __future__ import annotations

import math
import time as _time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

from .kernel.cancellation import check_seconds
from .kernel.current import current_task, current_task_or_none
from .kernel.errors import Busy, Stopped
from .kernel.operation import ABORTED, DONE, NEW, PARKED, STEP_BUDGET, Operation, yield_once
from .kernel.resource import Resource
from .kernel.swallowed import check_swallowed
from .kernel.twin import SleepFields, keep, native, slots, twinned
from .scopes import deadline, fail_after, move_on_after, timeout

if TYPE_CHECKING:
    from .kernel.host import Timer
    from .kernel.task import Task

__all__ = [
    "Interval",
    "Tick",
    "deadline",
    "fail_after",
    "interval",
    "monotonic",
    "move_on_after",
    "sleep",
    "sleep_forever",
    "sleep_until",
    "time",
    "timeout",
]


class _Clock(Resource):
    """What a sleep waits on."""

    __slots__ = ()
    kind = "the clock"

    def satisfiers(self) -> Literal["outside"]:
        return "outside"

    def describe(self) -> str:
        return self.kind


class _Never(Resource):
    """What an endless sleep waits on. Nobody is among its satisfiers, so it never hides a deadlock."""

    __slots__ = ()
    kind = "nothing: it sleeps for ever"

    def describe(self) -> str:
        return self.kind


_CLOCK = _Clock()
keep(clock=_CLOCK)
_NEVER = _Never()


@twinned("__await__", final=True)
class Sleep(SleepFields, Operation[None]):
    """One sleep, or the wait until a point in time. Cancelled, it just ends; its timer is taken back at once."""

    __slots__ = slots("seconds", "timer", "when")

    def __init__(self, seconds: float | None, when: float | None) -> None:
        endless = (seconds if when is None else when) == math.inf
        # The base's __init__, written out.
        self.resource = _NEVER if endless else _CLOCK
        self.state = NEW
        self.value = None
        self.error = None
        self.task = None
        self.watcher = None
        self.seconds = seconds
        self.when = when
        self.timer: Any = None

    def begin(self, task: Task[Any]) -> bool:
        """As the base's, in one: nobody shares a sleep."""
        self.task = task
        if self.poll():
            self.state = DONE
            return True
        self.state = PARKED
        self.register()
        return False

    def poll(self) -> bool:
        # The length counts from the first step, not from the call: that is when the sleeper begins to sleep.
        task = self.task
        assert task is not None
        now = task.host.now()
        if self.when is None:
            assert self.seconds is not None
            self.when = now + self.seconds
        return self.when <= now

    def register(self) -> None:
        task, when = self.task, self.when
        assert task is not None and when is not None
        if when != math.inf:
            self.timer = task.host.set_timer(when, self)

    def unregister(self) -> None:
        timer, self.timer = self.timer, None
        if timer is not None:
            assert self.task is not None
            self.task.host.clear_timer(timer)

    def _due(self) -> None:
        if self.state is PARKED and self.claim():
            self.timer = None
            self.fire(None)

    def describe(self) -> str:
        if self.resource is _NEVER:
            return "sleep_forever"
        return f"sleep of {self.seconds:g} s" if self.seconds is not None else f"sleep until {self.when:g}"

    def __await__(self) -> Generator[Any, Any, None]:
        """The base's, save that a sleep whose time has come lets the others run once: nobody sleeps for nothing."""
        if self.state is NEW and (self.seconds == 0 or self.when is not None):
            task = current_task()
            if self.seconds == 0 or (self.when is not None and self.when <= task.host.now()):
                return self._pass_turn(task)
        # Not ``super()``, which is the twin's here.
        return Operation.__await__(self)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # of whatever

    def _pass_turn(self, task: Task[Any]) -> Generator[Any, Any, None]:
        self.state = ABORTED
        host = task.host
        if task.node.effective is not None or (host.foreign_tree and host.is_cancelled(task)):
            check_swallowed(task)
            yield from host.raise_cancelled(task)
        task.budget = STEP_BUDGET
        yield from yield_once(task)
        self.state = DONE


def sleep(seconds: float) -> Sleep:
    """Await it: suspend this task for ``seconds`` (0: only let every other ready task run once).

    A cancellation point; cancelled, it ends at once. Never wakes early. Raises ``ValueError`` for a negative time and
    ``TypeError`` for what is no number, when called. ``math.inf`` sleeps until cancelled.
    """
    if check_seconds(seconds) is None:
        raise TypeError("sleep takes a number of seconds, not None; use sleep_forever() to sleep until cancelled")
    return Sleep(seconds, None)


keep(sleep=sleep)
if not TYPE_CHECKING and native is not None:
    sleep = native.sleep


def sleep_until(when: float) -> Sleep:
    """Await it: suspend this task until ``bateau.now() >= when``; a time in the past only lets the others run once.

    A cancellation point; cancelled, it ends at once. Raises ``TypeError`` or ``ValueError`` for what is no time.
    """
    _check_time(when, "when")
    return Sleep(None, when)


def sleep_forever() -> Sleep:
    """Await it: suspend this task until it is cancelled. Nobody will wake it, and deadlock reports know that."""
    return Sleep(math.inf, None)


def monotonic() -> float:
    """The running program's clock in seconds, the one of ``bateau.now()`` and of deadlines; outside any, Python's."""
    task = current_task_or_none()
    return task.host.now() if task is not None else _time.monotonic()


def time() -> float:
    """Seconds since the epoch: the running program's wall clock, virtual in simulation; outside any, Python's."""
    task = current_task_or_none()
    return task.host.wall_time() if task is not None else _time.time()


def _check_time(when: object, what: str) -> None:
    if isinstance(when, bool) or not isinstance(when, (int, float)):
        raise TypeError(f"{what} must be a time on the clock of bateau.now(), in seconds, not {type(when).__name__}")
    if math.isnan(when):
        raise ValueError(f"{what} must be a time, not NaN")


# -- intervals ---------------------------------------------------------------------------------------------------------

Missed = Literal["burst", "skip", "delay"]


class Tick:
    """One tick of an interval: its number, when it was due (on the program's clock), and how late it came, in seconds.

    ``index`` counts from 0. Where ticks are skipped it jumps, so that ``due == start + index * period`` stays true.
    """

    __slots__ = ("due", "index", "lateness")

    def __init__(self, index: int, due: float, lateness: float) -> None:
        self.index = index
        self.due = due
        self.lateness = lateness

    def __repr__(self) -> str:
        return f"<tick {self.index}, {self.lateness:.6f} s late>"


class Interval:
    """Made by ``interval``: an async iterator of ``Tick``, for one task at a time.

    Invariants: the next tick is number ``_index``, due at ``_origin + _steps * period``: multiples of the period, never
    sums, so nothing drifts. ``_parked`` is the operation that waits for it, if one does.
    """

    __slots__ = ("_index", "_origin", "_parked", "_steps", "missed", "period")

    def __init__(self, period: float, missed: Missed, start: float | None) -> None:
        self.period = period
        self.missed: Missed = missed
        self._origin = start
        self._index = 0
        self._steps = 0
        self._parked: NextTick | None = None

    def reset(self) -> None:
        """Begin anew: the next tick is due one period from now. Its index goes on counting. Not a cancellation point."""
        self._origin = monotonic()
        self._steps = 1
        if self._parked is not None:
            self._parked.rearm()

    def tick(self) -> NextTick:
        """Await it: the next tick, outside ``async for`` (in ``select``, say). As there, but a stop raises ``Stopped``.

        A cancellation point; cancelled, the tick is still to come.
        """
        return NextTick(self, Stopped("the scope was asked to stop"))

    def __aiter__(self) -> Interval:
        return self

    def __anext__(self) -> NextTick:
        return NextTick(self, StopAsyncIteration())

    def __repr__(self) -> str:
        return f"<interval of {self.period:g} s, next tick {self._index}>"

    def due(self, now: float) -> float:
        """When the next tick is due; the first is due when it is first asked for, unless a start was given."""
        if self._origin is None:
            self._origin = now
        return self._origin + self._steps * self.period

    def take(self, now: float, *, was_missed: bool) -> Tick:
        """The tick that is due now. ``was_missed``: its time had passed before it was asked for."""
        due = self.due(now)
        tick = Tick(self._index, due, max(0.0, now - due))
        step = 1
        if was_missed and self.missed == "skip":
            step = max(1, math.floor((now - due) / self.period) + 1)
        elif was_missed and self.missed == "delay":
            self._origin = now
            self._steps = 0
        self._index += step
        self._steps += step
        return tick


class NextTick(Operation[Tick]):
    """Waiting for the next tick of an interval. Cancelled, the tick is still to come. Ends when its scope is stopped."""

    __slots__ = ("ending", "interval", "timer")
    ends_on_stop = True

    def __init__(self, interval: Interval, ending: Exception) -> None:
        super().__init__(_CLOCK)
        self.interval = interval
        self.ending = ending
        self.timer: Timer | None = None

    def poll(self) -> bool:
        task, interval = self.task, self.interval
        assert task is not None
        other = interval._parked
        if other is not None:
            name = repr(other.task.name) if other.task is not None else "?"
            self.error = Busy(
                f"task {name} waits for the next tick of this interval already; task {task.name!r} needs one of its own"
            )
            return True
        now = task.host.now()
        due = interval.due(now)
        if due > now:
            return False
        self.value = interval.take(now, was_missed=due < now)
        return True

    def register(self) -> None:
        self.interval._parked = self
        self._arm()

    def unregister(self) -> None:
        self.interval._parked = None
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()

    def rearm(self) -> None:
        """The interval was reset meanwhile."""
        if self.timer is not None:
            self.timer.cancel()
        self._arm()

    def _arm(self) -> None:
        task = self.task
        assert task is not None
        self.timer = task.host.call_at(self.interval.due(task.host.now()), self._due)

    def _due(self) -> None:
        if self.state is PARKED and self.claim():
            task, interval = self.task, self.interval
            assert task is not None
            self.timer = None
            interval._parked = None
            self.fire(interval.take(task.host.now(), was_missed=False))

    def end_by_stop(self) -> None:
        if self.abort():
            self.fail(self.ending)

    def describe(self) -> str:
        return f"tick {self.interval._index} of an interval of {self.interval.period:g} s"

    def __await__(self) -> Generator[Any, Any, Tick]:
        try:
            return (yield from super().__await__())
        except Stopped:
            raise self.ending from None


def interval(period: float, *, missed: Missed = "burst", start: float | None = None) -> Interval:
    """Ticks, ``period`` seconds apart, for ``async for tick in ...``, until the scope is asked to stop.

    The first tick comes when it is first asked for, or at ``start`` (a time on the clock of ``bateau.now()``). Ticks are
    due at multiples of the period from there, however long the body takes, and never drift. ``missed`` says what follows
    on a tick whose time had passed before it was asked for: ``"burst"`` delivers the missed ones one after the other,
    ``"skip"`` goes on with the next multiple still to come, ``"delay"`` counts anew from the late tick.
    Raises ``ValueError`` for a period that is not above 0 or an unknown ``missed``, ``TypeError`` for what is no number.
    """
    if check_seconds(period, "period") is None:
        raise TypeError("period must be a number of seconds, not None")
    if not 0 < period < math.inf:
        raise ValueError(f"period must be above 0 and finite, not {period!r}")
    if missed not in ("burst", "skip", "delay"):
        raise ValueError(f"missed must be 'burst', 'skip' or 'delay', not {missed!r}")
    if start is not None:
        _check_time(start, "start")
    return Interval(period, missed, start)
