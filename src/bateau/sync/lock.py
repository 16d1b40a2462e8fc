"""Lock: mutual exclusion with a known owner, handed over in the order of asking.

Ownership is handed over: ``release`` makes the first waiter the owner before it steps, so nobody barges in between and no
permit is ever in flight. Hence the invariant: where nobody owns the lock, nobody waits for it.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from collections.abc import Awaitable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from ..kernel.cancellation import check_seconds
from ..kernel.current import current_task_or_none, tls
from ..kernel.errors import user_site
from ..kernel.explain import suspended_at
from ..kernel.hazard import report
from ..kernel.operation import PARKED, Operation
from ..kernel.resource import OUTSIDE, Flavour
from ..kernel.twin import LockAcquireFields, LockFields, keep, slots, twinned
from .base import ACQUIRED, NOTHING, Nothing, SyncPrimitive
from .errors import AbandonedLock, OwnershipError
from .owners import Owner, caller, has_ended, name_of, owner_of, tasks_among, unwatch_end, watch_end
from .places import PlacedAcquire, PlaceQueue, Ticket, TicketMixin

if TYPE_CHECKING:
    from ..kernel.host import Timer
    from ..kernel.task import Task


class LockStatistics(NamedTuple):
    """The state of a ``Lock`` at one moment. ``owner`` is a task, or the ident of a plain thread."""

    locked: bool
    owner: Owner | None
    tasks_waiting: int


@twinned("acquire", "release", "__aenter__", "__aexit__")
class Lock(LockFields, SyncPrimitive):
    """A mutual exclusion lock for tasks: ``async with lock:``. Not re-entrant.

    Those who wait get it in the order in which they asked. The task that acquired it must release it; where no task runs,
    the plain thread is the owner. Misuse raises ``OwnershipError``: a release by another, a second acquire by the owner
    (which would wait for itself). A task that ends while it holds the lock leaves it abandoned: whoever waits or asks later
    gets ``AbandonedLock``, which names that task.

    ``patience`` in seconds: a wait longer than this is reported once as the hazard ``lock_held_long``, naming holder, waiter
    and the line at which the holder waits. None: never.
    """

    __slots__ = slots("_owner", "_watched", "patience")
    kind = "lock"
    held_by = "_owner"
    _queue: PlaceQueue

    def __init__(
        self, *, name: str | None = None, flavour: Flavour | None = None, patience: float | None = None
    ) -> None:
        super().__init__(name=name, flavour=flavour, queue=PlaceQueue())
        self.patience = check_seconds(patience, "patience")
        self._owner: Owner | None = None
        # Whether the owner's ``at_end`` may have an entry of ours: it has one while somebody waits.
        self._watched = False

    # -- acquiring -----------------------------------------------------------------------------------------------------

    def acquire(self) -> Operation[bool]:
        """Wait until the lock is this task's own; gives True. A cancellation point; cancelled, it had no effect.

        Raises ``OwnershipError`` if this task has it already, ``AbandonedLock`` if its owner has ended.
        """
        return _Acquire(self)

    def try_acquire(self) -> bool:
        """Take the lock if it is free, else return False: threading's ``acquire(blocking=False)``. Never waits.

        Raises ``AbandonedLock`` if its owner has ended.
        """
        with self._transition():
            owner = self._owner
            if owner is None:
                task = current_task_or_none()
                self._owner = task if task is not None else get_ident()
                return True
            if has_ended(owner):
                raise self._abandoned(owner)
            return False

    def ticket(self) -> Ticket:
        """A place in the queue for acquiring in several attempts, each with its own timeout (see ``Ticket``). Never waits."""
        with self._transition():
            place = self._queue.draw()
        return Ticket(self, place, lambda ticket: _TicketAcquire(self, ticket))

    def __aenter__(self) -> Awaitable[bool]:
        if self._owner is None and (task := self._on_the_spot()) is not None:
            self._owner = task
            return ACQUIRED
        return _Acquire(self)

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> Nothing:
        self.release()
        return NOTHING

    def __enter__(self) -> None:
        raise TypeError(
            "a bateau Lock is taken with `async with lock:` (from a plain thread: try_acquire, wait_in_thread)"
        )

    def __exit__(self, *exc_info: object) -> None:
        """Only here so that ``with lock:`` comes to the message of ``__enter__``."""

    # -- releasing -----------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Give the lock to the first who waits, or free it. Never suspends.

        Raises ``OwnershipError`` unless the calling task (or plain thread) is the owner.
        """
        me: Owner = tls.running.task or caller()
        mutex = self.mutex
        if mutex is None:
            if self._owner is not me:
                self._check_release(me)
            self._pass_on()
            return
        with mutex:
            if self._owner is not me:
                self._check_release(me)
            self._pass_on()

    def _check_release(self, me: Owner) -> None:
        self.check_thread()
        owner = self._owner
        if owner != me:
            held = f"is held by {name_of(owner)}" if owner is not None else "is not held"
            raise OwnershipError(
                f"{name_of(me)} can't release {self._label()}: it {held}; release it where it was acquired"
            )

    def _pass_on(self) -> None:
        """The owner gives it up: the first waiter becomes the owner."""
        if self._watched:
            self._watched = False
            assert self._owner is not None
            unwatch_end(self._owner, self)
        op = self._queue.pop()
        if op is None:
            self._owner = None
            return
        acquire = cast("_Acquire", op)
        self._owner = acquire.owner
        if self._queue:
            self._watch()
        acquire.fire(True)

    # -- the owner's end -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Somebody waits: learn of the owner's end."""
        owner = self._owner
        assert owner is not None
        self._watched = True
        watch_end(owner, self, self._owner_ended)

    def _owner_ended(self, task: Task[Any]) -> None:
        mutex = self.mutex
        if mutex is None:
            self._abandon(task)
        else:
            with mutex:
                self._abandon(task)

    def _abandon(self, task: Task[Any]) -> None:
        if self._owner is task:
            while (op := self._queue.pop()) is not None:
                op.fail(self._abandoned(task))

    def _abandoned(self, owner: Owner) -> AbandonedLock:
        return AbandonedLock(
            f"{name_of(owner)} ended while it held {self._label()}, which nobody can get any more; "
            "hold it with `async with`, which releases it whatever happens"
        )

    # -- seeing --------------------------------------------------------------------------------------------------------

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._owner is not None

    def statistics(self) -> LockStatistics:
        """Whether it is held, by whom, and how many tasks wait."""
        return LockStatistics(self._owner is not None, self._owner, len(self._queue))

    def holders(self) -> tuple[Task[Any], ...]:
        return tasks_among(self._owner)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        return OUTSIDE if isinstance(self._owner, int) else tasks_among(self._owner)

    def _label(self) -> str:
        return f"{self.kind} {self.name!r}" if self.name else f"{self.kind} at {id(self):#x}"

    def _fill(self) -> str:
        owner = self._owner
        if owner is None:
            return " (free)"
        ended = ", which has ended" if has_ended(owner) else ""
        return f" (held by {name_of(owner)}{ended}{self._waiting()})"


keep(lock_owner_ended=Lock._owner_ended)


@twinned(final=True, known_as="lock acquire")
class _Acquire(LockAcquireFields, PlacedAcquire):
    """Waiting to own a lock. ``owner`` is set from registering on."""

    __slots__ = slots("owner", "timer")
    resource: Lock

    def poll(self) -> bool:
        lock = self.resource
        held = lock._owner
        if held is None:
            task = self.task
            lock._owner = task if task is not None else get_ident()
            self.value = True
            return True
        if held == owner_of(self):
            raise OwnershipError(
                f"{name_of(held)} holds {lock._label()} already and would wait for itself; this lock is not re-entrant"
            )
        if has_ended(held):
            raise lock._abandoned(held)
        return False

    def register(self) -> None:
        lock = self.resource
        self.owner = owner_of(self)
        lock._queue.join(self)
        if not lock._watched:
            lock._watch()
            if has_ended(lock._owner):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # held, or we would not wait
                self._owner_gone(lock)
        self.timer: Timer | None = None
        if lock.patience is not None and self.task is not None:
            host = self.task.host
            self.timer = host.call_at(host.now() + lock.patience, self._tell)

    def _owner_gone(self, lock: Lock) -> None:
        """It ended on its own thread between our look and our watch."""
        owner = lock._owner
        assert owner is not None
        lock._queue.discard(self)
        raise lock._abandoned(owner)

    def unregister(self) -> None:
        self.resource._queue.discard(self)
        if self.timer is not None:
            self.timer.cancel()

    def undo(self, value: Any) -> None:
        lock = self.resource
        mutex = lock.mutex
        if mutex is None:
            lock._pass_on()
        else:
            with mutex:
                lock._pass_on()

    def _fired(self) -> None:
        timer, task = self.timer, self.task
        if timer is not None and task is not None and task.host.thread_id == get_ident():
            timer.cancel()  # from another thread it stays, and finds that nobody waits
        super()._fired()

    def _tell(self) -> None:
        lock, task = self.resource, self.task
        self.timer = None
        owner = lock._owner
        if self.state is not PARKED or owner is None or task is None:
            return
        site = suspended_at(task) or user_site(sys._getframe(0))
        where = "runs"
        if not isinstance(owner, int):
            at = suspended_at(owner)
            if at is not None:
                where = f"is at {at[0]}:{at[1]} in {at[2]}"
            if owner.waiting is not None:
                where += f", waiting: {owner.waiting.describe()}"
        report(
            "lock_held_long",
            f"task {task.name!r} has waited {lock.patience:g} s for {lock._label()}, held by {name_of(owner)}, which {where}; "
            "do the waiting before taking the lock, or guard less with it",
            (site[0], site[1]),
        )


class _TicketAcquire(TicketMixin, _Acquire):
    """The same, keeping its place."""

    __slots__ = ("ticket",)

    def __init__(self, lock: Lock, ticket: Ticket) -> None:
        super().__init__(lock)
        self.ticket = ticket
