"""Semaphore: a number of permits, handed over in the order of asking; and its bounded form.

A permit goes straight from who releases it to the first waiter. Hence the invariant: where a permit is free, nobody waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..kernel.current import current_task_or_none
from ..kernel.operation import Operation
from ..kernel.resource import OUTSIDE, Flavour
from ..kernel.twin import SemaphoreAcquireFields, SemaphoreFields, slots, twinned
from .base import ACQUIRED, NOTHING, Nothing, SyncPrimitive, check_count
from .places import PlacedAcquire, PlaceQueue, Ticket, TicketMixin

if TYPE_CHECKING:
    from ..kernel.task import Task


class SemaphoreStatistics(NamedTuple):
    """The state of a ``Semaphore`` at one moment: free permits, the most there may be (None: no bound), waiters."""

    value: int
    max_value: int | None
    tasks_waiting: int


@twinned("acquire", "release", "__aenter__", "__aexit__")
class Semaphore(SemaphoreFields, SyncPrimitive):
    """``value`` permits; ``async with semaphore:`` takes one and gives it back. Waiters are served in order.

    Anybody may release, also who never acquired. ``max_value`` bounds the free permits: a release beyond it raises
    ``ValueError``. Raises ``ValueError`` for a negative ``value`` or one above ``max_value``.
    """

    __slots__ = slots("_held", "_value", "max_value")
    kind = "semaphore"
    _queue: PlaceQueue

    def __init__(
        self,
        value: int = 1,
        *,
        max_value: int | None = None,
        name: str | None = None,
        flavour: Flavour | None = None,
    ) -> None:
        super().__init__(name=name, flavour=flavour, queue=PlaceQueue())
        self._value = check_count(value, "value", 0)
        if max_value is not None and check_count(max_value, "max_value", 0) < value:
            raise ValueError(f"max_value must be at least value ({value}), not {max_value}")
        self.max_value = max_value
        # Which tasks took how many permits, for reports alone: a permit has no owner, so a release by somebody else is
        # booked to the one who has held longest.
        self._held: dict[Task[Any], int] = {}

    # -- acquiring -----------------------------------------------------------------------------------------------------

    def acquire(self) -> Operation[bool]:
        """Wait for a permit; gives True. A cancellation point; cancelled, it had no effect."""
        return _Acquire(self)

    def try_acquire(self) -> bool:
        """Take a permit if one is free, else return False: threading's ``acquire(blocking=False)``. Never waits."""
        with self._transition():
            if not self._value:
                return False
            self._value -= 1
            self._note_taken(current_task_or_none())
            return True

    def ticket(self) -> Ticket:
        """A place in the queue for acquiring in several attempts, each with its own timeout (see ``Ticket``). Never waits."""
        with self._transition():
            place = self._queue.draw()
        return Ticket(self, place, lambda ticket: _TicketAcquire(self, ticket))

    def __aenter__(self) -> Awaitable[bool]:
        if self._value and (task := self._on_the_spot()) is not None:
            self._value -= 1
            self._note_taken(task)
            return ACQUIRED
        return _Acquire(self)

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> Nothing:
        self.release()
        return NOTHING

    # -- releasing -----------------------------------------------------------------------------------------------------

    def release(self, n: int = 1) -> None:
        """Give back ``n`` permits, to those who wait first. Never suspends. Callable from anywhere the flavour allows.

        Raises ``ValueError`` for ``n`` below 1, or if there would be more than ``max_value`` (then nothing is given back).
        """
        if n != 1:
            check_count(n, "n", 1)
        with self._transition():
            if self.max_value is not None and self._value + n - len(self._queue) > self.max_value:
                raise ValueError(
                    f"{self.describe()} was released too often: it may have {self.max_value} permits; "
                    "release once for each acquire"
                )
            self._note_returned(current_task_or_none(), n)
            for _ in range(n):
                self._give()

    def _give(self) -> None:
        op = self._queue.pop()
        if op is None:
            self._value += 1
        else:
            self._note_taken(op.task)
            op.fire(True)

    # -- who has the permits -------------------------------------------------------------------------------------------

    def _note_taken(self, task: Task[Any] | None) -> None:
        if task is None:
            return
        held = self._held
        try:
            held[task] = held.get(task, 0) + 1
            if len(held) > 256:
                self._held = {task: count for task, count in held.items() if not task.ended}
        except MemoryError:  # the permit counts, not the report: nobody loses it for that
            pass

    def _note_returned(self, task: Task[Any] | None, n: int) -> None:
        held = self._held
        for _ in range(n):
            if task is None or task not in held:
                task = next(iter(held), None)
                if task is None:
                    return
            if held[task] == 1:
                del held[task]
            else:
                held[task] -= 1

    # -- seeing --------------------------------------------------------------------------------------------------------

    @property
    def value(self) -> int:
        """How many permits are free."""
        return self._value

    def locked(self) -> bool:
        """Whether no permit is free, so that an acquire would wait."""
        return not self._value

    def statistics(self) -> SemaphoreStatistics:
        """Free permits, their bound, and how many tasks wait."""
        return SemaphoreStatistics(self._value, self.max_value, len(self._queue))

    def holders(self) -> tuple[Task[Any], ...]:
        """The tasks that took permits and, as far as can be known, have them still."""
        return tuple(task for task in tuple(self._held) if not task.ended)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        return self.holders() if self.mutex is None else OUTSIDE

    def _fill(self) -> str:
        bound = f"/{self.max_value}" if self.max_value is not None else ""
        return f" ({self._value}{bound} free{self._waiting()})"


class BoundedSemaphore(Semaphore):
    """A ``Semaphore`` that may never have more free permits than the ``value`` it began with."""

    __slots__ = ()

    def __init__(self, value: int = 1, *, name: str | None = None, flavour: Flavour | None = None) -> None:
        super().__init__(value, max_value=value, name=name, flavour=flavour)


@twinned(final=True, known_as="semaphore acquire")
class _Acquire(SemaphoreAcquireFields, PlacedAcquire):
    """Waiting for a permit."""

    __slots__ = ()
    resource: Semaphore

    def poll(self) -> bool:
        semaphore = self.resource
        if not semaphore._value:
            return False
        semaphore._value -= 1
        semaphore._note_taken(self.task)
        self.value = True
        return True

    def register(self) -> None:
        self.resource._queue.join(self)

    def unregister(self) -> None:
        self.resource._queue.discard(self)

    def undo(self, value: Any) -> None:
        semaphore = self.resource
        mutex = semaphore.mutex
        if mutex is None:
            semaphore._note_returned(self.task, 1)
            semaphore._give()
        else:
            with mutex:
                semaphore._note_returned(self.task, 1)
                semaphore._give()


class _TicketAcquire(TicketMixin, _Acquire):
    """The same, keeping its place."""

    __slots__ = ("ticket",)

    def __init__(self, semaphore: Semaphore, ticket: Ticket) -> None:
        super().__init__(semaphore)
        self.ticket = ticket
