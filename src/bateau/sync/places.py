"""Places in a queue that outlive a wait: an acquire that timed out and is tried again keeps its turn (law 12).

A ticket draws its place when it is made, as at a counter. While nobody waits on it, the ticket is skipped, so that an idle
or forgotten ticket never holds up the others; whenever it is awaited, it stands in its place, before all who came later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..kernel.operation import Operation
from ..kernel.resource import Resource, WaitQueue
from ..kernel.twin import PlacedFields, PlaceQueueFields, slots


class PlacedAcquire(PlacedFields, Operation[bool]):
    """The base of the operations that wait in a ``PlaceQueue``. ``place`` is set from registering on."""

    __slots__ = slots("place")
    if TYPE_CHECKING:
        place: int
    ticket: Ticket | None = None

    def describe(self) -> str:
        return f"acquire of {self.resource.describe()}"


class PlaceQueue(PlaceQueueFields, WaitQueue):
    """A FIFO in which each operation has a number.

    Invariant: the numbers of the operations in it rise from head to tail.
    """

    __slots__ = slots("_drawn")

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0

    def draw(self) -> int:
        """The next place."""
        self._drawn += 1
        return self._drawn

    def join(self, op: PlacedAcquire) -> None:
        """Add a parked operation: at the end, or where its ticket stood."""
        ticket = op.ticket
        if ticket is None:
            op.place = self.draw()
            self.add(op)
            return
        place = op.place = ticket.place
        later = [other for other in self if isinstance(other, PlacedAcquire) and other.place > place]
        if len(later) == len(self):
            self.add_first(op)
            return
        self.add(op)
        for other in later:
            self.discard(other)
            self.add(other)


class Ticket:
    """A place in the queue of a lock or semaphore, for acquiring in several attempts. Made by its ``ticket()``.

    ``await ticket`` acquires, as ``acquire()`` does, in the place drawn when the ticket was made; if the wait is cancelled or
    timed out, the place is kept, and awaiting the ticket again waits in it. While nobody awaits it, others may go ahead. Single use: once it has acquired, it is used up.
    In ``with lock.ticket() as ticket:`` the place is given up at the end of the block; what was acquired stays acquired.
    """

    __slots__ = ("_make", "_resource", "place", "used", "waiting")

    def __init__(self, resource: Resource, place: int, make: Callable[[Ticket], Operation[bool]]) -> None:
        self._resource = resource
        self._make = make
        self.place = place
        self.used = False
        self.waiting: Operation[bool] | None = None

    def acquire(self) -> Operation[bool]:
        """The operation that ``await ticket`` runs, for ``select``. A cancellation point; cancelled, it had no effect.

        Raises ``RuntimeError`` if the ticket is used up, given up or being awaited.
        """
        if self.used:
            raise RuntimeError(
                f"this ticket of {self._resource.describe()} has acquired (or was closed); take a new one with ticket()"
            )
        if self.waiting is not None:
            raise RuntimeError(f"this ticket of {self._resource.describe()} is being awaited by another task already")
        return self._make(self)

    def __await__(self) -> Generator[Any, Any, bool]:
        return self.acquire().__await__()

    def close(self) -> None:
        """Give the place up. What the ticket has acquired stays acquired. Harmless if done before."""
        self.used = True

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "used up" if self.used else f"place {self.place}"
        return f"<ticket of {self._resource.describe()}, {state}>"


class TicketMixin(PlacedAcquire):
    """What an acquire through a ticket does besides: it tells the ticket how it went."""

    __slots__ = ()

    def poll(self) -> bool:
        ticket = self.ticket
        assert ticket is not None
        if ticket.used or ticket.waiting is not None:
            ticket.acquire()  # raises, saying which
        done = super().poll()
        ticket.used = done
        return done

    def register(self) -> None:
        assert self.ticket is not None
        super().register()
        self.ticket.waiting = self

    def unregister(self) -> None:
        assert self.ticket is not None
        super().unregister()
        self.ticket.waiting = None

    def fire(self, value: Any = None) -> None:
        assert self.ticket is not None
        self.ticket.waiting = None
        self.ticket.used = True
        super().fire(value)

    def fail(self, error: BaseException) -> None:
        assert self.ticket is not None
        self.ticket.waiting = None
        super().fail(error)
