"""What every end of every channel has in common: it is used by tasks, cloned, closed, or dropped.

A dropped end counts as closed. The interpreter may notice the drop anywhere: in another thread, or in the middle of a
transition of the same channel. The first is handled here (``_vacate``). For the second, operations look again after they
have joined a queue, and closing touches no queue that a transition of an end still alive could be walking.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from ..kernel.current import current_task_or_none
from ..kernel.errors import Closed
from ..kernel.hazard import report
from ..kernel.resource import Primitive, WaitQueue
from ..kernel.twin import EndFields, slots
from .seats import Seat, Site

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultTypeVar

    from ..kernel.task import Task

    # What goes through. Type checkers take it to be Any where nobody says (PEP 696; before 3.13 only they know it).
    T = DefaultTypeVar("T", default=Any)
else:
    T = TypeVar("T")


class State(Primitive):
    """What the ends of one channel share: the base."""

    __slots__ = ()

    def label(self) -> str:
        """Kind and name, without the fill."""
        return f"{self.kind} {self.name!r}" if self.name else f"{self.kind} at {id(self):#x}"

    def report_lost(self, why: str, items: Iterable[object], site: Site) -> None:
        """Items went where nobody will receive them, and nobody closed anything: say so.

        Not where a task is being cancelled, or outside any: a program that ends early takes its queues with it.
        """
        task = None if sys.is_finalizing() else current_task_or_none()
        if task is not None and task.node.effective is None:
            report("dropped_without_close", f"{self.label()}: {why}; lost: {listed(items)}", site)


class End(EndFields):
    """One end. For ``with`` and ``async with``, which close it.

    Invariants: ``_seat`` is None iff this end is closed. ``_at_home`` is the id of the task that used this end last, if
    that task needs no further check (see ``_come_home``), else 0; it is 0 once closed.
    """

    __slots__ = slots("__weakref__", "_at_home", "_seat", "_site", "_state")
    word: ClassVar[str] = "end"
    _state: Any  # a State, of the kind that the end's class says

    def __init__(self, state: State, site: Site) -> None:
        self._state = state
        self._site = site
        self._seat: Seat | None = Seat(site)
        self._at_home = 0

    def _come_home(self, task: Task[Any]) -> bool:
        """May ``task`` take the short way: is this end open and local, and the task on its runtime, with no tree above?

        Task ids are never used twice, so the answer stays true for this task until the end is closed.
        """
        seat = self._seat
        state: State = self._state
        if seat is None or state.mutex is not None or state._home is not task.host or task.foreign:
            return False
        seat.note(task)
        self._at_home = task.id
        return True

    def _gone(self, seat: Seat) -> None:
        """Take ``seat`` out of the state, and tell those who wait. Called under the mutex of a shared channel."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether this end was closed. Its clones are ends of their own."""
        return self._seat is None

    def close(self) -> None:
        """Give up this end; closing it again does nothing. Never suspends.

        What waits at this very end raises ``Closed``, without effect.
        """
        seat = self._seat
        if seat is None:
            return
        state: State = self._state
        if state.mutex is None:
            state.check_thread()
            self._seat = None
            self._at_home = 0
            self._gone(seat)
        else:
            with state.mutex:
                self._seat = None
                self._gone(seat)

    def _closed_error(self) -> Closed:
        return Closed(f"this {self.word} of {self._state.label()} was closed, and can't be used any more")

    def _check(self) -> Seat:
        """For sync methods: raise unless this end is open and at home."""
        seat = self._seat
        if seat is None:
            raise self._closed_error()
        if self._state.mutex is None:
            self._state.check_thread()
        return seat

    def _use(self) -> None:
        """The same, and note who uses it."""
        seat = self._check()
        task = current_task_or_none()
        if task is None:
            seat.by_threads = True
        elif seat.user_id != task.id:
            seat.note(task)

    def __bool__(self) -> bool:
        return True  # an end of an empty channel is still an end

    def __repr__(self) -> str:
        shut = "closed " if self._seat is None else ""
        return f"<{shut}{self.word} of {self._state.describe()}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        seat = getattr(self, "_seat", None)
        if seat is not None:
            self._seat = None
            _vacate(self, seat)


def _vacate(end: End, seat: Seat) -> None:
    """An end was dropped, in whatever thread the interpreter noticed it: take its seat out where that is safe."""
    state: State = end._state
    if state.mutex is not None:
        with state.mutex:
            end._gone(seat)
        return
    try:
        state.check_thread()
    except RuntimeError:
        home = state._home
        assert home is not None
        try:
            home.call_threadsafe(lambda: end._gone(seat))
            return
        except RuntimeError:
            pass  # that program has ended, and nobody waits any more
    end._gone(seat)


def fail_own(queue: WaitQueue, end: End) -> None:
    """``end`` is being closed: end what waits at it."""
    for op in queue:
        if getattr(op, "end", None) is end:
            queue.discard(op)
            if op.claim():
                op.fail(end._closed_error())


def listed(items: Iterable[object]) -> str:
    """The first few items, shortened, for a message. May be asked while the interpreter shuts down."""
    found = list(items)
    try:
        from reprlib import repr as short_repr
    except ImportError:
        return f"{len(found)} items"
    shown = [
        f"{len(item)} bytes" if isinstance(item, (bytes, bytearray)) else short_repr(item)  # a chunk may be huge
        for item in found[:3]
    ]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(shown) + more


def check_capacity(capacity: object, least: int, hint: str = "") -> int:
    """``capacity`` if it is a whole number from ``least`` on; raises ``TypeError`` or ``ValueError`` that say so."""
    if not isinstance(capacity, int) or isinstance(capacity, bool):
        given = "nothing" if capacity is None else type(capacity).__name__
        raise TypeError(f"capacity must be a whole number, not {given}{hint}")
    if capacity < least:
        raise ValueError(f"capacity must be {least} or more, not {capacity}")
    return capacity
