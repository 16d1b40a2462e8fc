"""RWLock: many readers or one writer, served in the order of asking.

Fairness. There is one queue. Readers at its head are let in together; a reader that comes while a writer waits stands
behind that writer, so a stream of readers never starves writers; and readers behind a writer come before the next writer,
so a stream of writers never starves readers. Invariant: where somebody waits, the first of the queue can't be let in yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..kernel.operation import Operation
from ..kernel.resource import OUTSIDE, Flavour
from .base import NOTHING, Nothing, SyncPrimitive
from .errors import AbandonedLock, OwnershipError
from .owners import Owner, caller, has_ended, name_of, owner_of, tasks_among, unwatch_end, watch_end

if TYPE_CHECKING:
    from ..kernel.task import Task


class RWLockStatistics(NamedTuple):
    """The state of an ``RWLock`` at one moment. Owners are tasks, or the idents of plain threads."""

    readers: tuple[Owner, ...]
    writer: Owner | None
    readers_waiting: int
    writers_waiting: int


class RWLock(SyncPrimitive):
    """Many may read at once, or one write: ``async with lock.read():``, ``async with lock.write():``. Not re-entrant.

    Served in the order of asking: no reader overtakes a waiting writer, and readers that wait together are let in together.
    A task can't hold it twice (a reader that becomes a writer would wait for itself): ``OwnershipError``. A task that ends
    while it holds the lock leaves it abandoned: whom that keeps out gets ``AbandonedLock``.
    """

    __slots__ = ("_readers", "_watching", "_writer")
    kind = "rwlock"
    needs_all = True

    def __init__(self, *, name: str | None = None, flavour: Flavour | None = None) -> None:
        super().__init__(name=name, flavour=flavour)
        self._writer: Owner | None = None
        self._readers: dict[Owner, None] = {}
        # Whether holders are watched: from the first who waits until the queue is empty.
        self._watching = False

    # -- acquiring -----------------------------------------------------------------------------------------------------

    def read(self) -> Side:
        """For ``async with lock.read():``. Entering is a cancellation point, leaving never suspends."""
        return Side(self, writes=False)

    def write(self) -> Side:
        """For ``async with lock.write():``. Entering is a cancellation point, leaving never suspends."""
        return Side(self, writes=True)

    def acquire_read(self) -> Operation[bool]:
        """Wait until this task may read; gives True. A cancellation point; cancelled, it had no effect.

        Raises ``OwnershipError`` if this task holds the lock, ``AbandonedLock`` if a holder that keeps it out has ended.
        """
        return _Acquire(self, writes=False)

    def acquire_write(self) -> Operation[bool]:
        """Wait until this task may write; gives True. A cancellation point; cancelled, it had no effect.

        Raises ``OwnershipError`` if this task holds the lock, ``AbandonedLock`` if a holder that keeps it out has ended.
        """
        return _Acquire(self, writes=True)

    def try_acquire_read(self) -> bool:
        """Start reading if that is possible at once, else return False. Never waits, and overtakes nobody who does.

        Raises ``AbandonedLock`` if a holder that keeps it out has ended.
        """
        with self._transition():
            return self._try(caller(), writes=False)

    def try_acquire_write(self) -> bool:
        """Start writing if nobody holds the lock, else return False. Never waits.

        Raises ``AbandonedLock`` if a holder that keeps it out has ended.
        """
        with self._transition():
            return self._try(caller(), writes=True)

    def _try(self, me: Owner, *, writes: bool) -> bool:
        if self._writer is None and not self._queue and not (writes and self._readers):
            if me in self._readers:
                return False
            self._take(me, writes=writes)
            return True
        dead = self._dead_holder()
        if dead is not None:
            raise self._abandoned(dead)
        return False

    def _take(self, owner: Owner, *, writes: bool) -> None:
        if writes:
            self._writer = owner
        else:
            self._readers[owner] = None

    # -- releasing -----------------------------------------------------------------------------------------------------

    def release_read(self) -> None:
        """Stop reading. Never suspends. Raises ``OwnershipError`` unless the caller reads."""
        me = caller()
        with self._transition():
            if me not in self._readers:
                raise self._not_mine(me, "reading")
            self._drop(me, writes=False)

    def release_write(self) -> None:
        """Stop writing. Never suspends. Raises ``OwnershipError`` unless the caller writes."""
        me = caller()
        with self._transition():
            if self._writer is None or self._writer != me:
                raise self._not_mine(me, "writing")
            self._drop(me, writes=True)

    def _drop(self, owner: Owner, *, writes: bool) -> None:
        if self._watching:
            unwatch_end(owner, self)
        if writes:
            self._writer = None
        else:
            del self._readers[owner]
        self._serve()

    def _not_mine(self, me: Owner, what: str) -> OwnershipError:
        return OwnershipError(
            f"{name_of(me)} can't end {what} of {self.describe()}: it is not {what}; release it where it was acquired"
        )

    # -- the queue -----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Let in from the head of the queue whoever can be: one writer, or all readers up to the next writer."""
        queue = self._queue
        while (op := queue.peek()) is not None:
            assert isinstance(op, _Acquire)
            if self._writer is not None or (op.writes and self._readers):
                break
            queue.discard(op)
            if op.claim():
                self._take(op.owner, writes=op.writes)
                op.fire(True)
        if not queue:
            if self._watching:
                self._watching = False
                for holder in self._holding():
                    unwatch_end(holder, self)
        else:
            self._watch()

    def _watch(self) -> None:
        """Somebody waits: learn of the end of each holder."""
        self._watching = True
        for holder in self._holding():
            watch_end(holder, self, self._holder_ended)

    def _holding(self) -> tuple[Owner, ...]:
        return (self._writer,) if self._writer is not None else tuple(self._readers)

    def _dead_holder(self) -> Owner | None:
        return next((holder for holder in self._holding() if has_ended(holder)), None)

    def _holder_ended(self, task: Task[Any]) -> None:
        mutex = self.mutex
        if mutex is None:
            self._abandon(task)
        else:
            with mutex:
                self._abandon(task)

    def _abandon(self, task: Task[Any]) -> None:
        """A dead writer keeps everybody out; a dead reader keeps out the writers, and those they kept waiting go on."""
        if task not in self._holding():
            return
        for op in self._queue:
            if self._writer is task or (isinstance(op, _Acquire) and op.writes):
                self._queue.discard(op)
                if op.claim():
                    op.fail(self._abandoned(task))
        self._serve()

    def _abandoned(self, owner: Owner) -> AbandonedLock:
        label = f"{self.kind} {self.name!r}" if self.name else f"{self.kind} at {id(self):#x}"
        return AbandonedLock(
            f"{name_of(owner)} ended while it held {label}, which nobody can get any more; "
            "hold it with `async with`, which releases it whatever happens"
        )

    # -- seeing --------------------------------------------------------------------------------------------------------

    def locked(self) -> bool:
        """Whether somebody reads or writes."""
        return self._writer is not None or bool(self._readers)

    def statistics(self) -> RWLockStatistics:
        """Who reads, who writes, and how many wait for either."""
        writers = sum(isinstance(op, _Acquire) and op.writes for op in self._queue)
        return RWLockStatistics(tuple(self._readers), self._writer, len(self._queue) - writers, writers)

    def holders(self) -> tuple[Task[Any], ...]:
        return tasks_among(*self._holding())

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        holding = self._holding()
        return OUTSIDE if any(isinstance(holder, int) for holder in holding) else tasks_among(*holding)

    def _fill(self) -> str:
        if self._writer is not None:
            state = f"written by {name_of(self._writer)}"
        elif self._readers:
            state = f"read by {', '.join(map(name_of, self._readers))}"
        else:
            state = "free"
        return f" ({state}{self._waiting()})"


class Side:
    """The reading or the writing side of an ``RWLock``, for ``async with``."""

    __slots__ = ("_lock", "_writes")

    def __init__(self, lock: RWLock, *, writes: bool) -> None:
        self._lock = lock
        self._writes = writes

    def __aenter__(self) -> Operation[bool]:
        return _Acquire(self._lock, writes=self._writes)

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> Nothing:
        if self._writes:
            self._lock.release_write()
        else:
            self._lock.release_read()
        return NOTHING


class _Acquire(Operation[bool]):
    """Waiting to read or write. ``owner`` is set from polling on."""

    __slots__ = ("owner", "writes")
    resource: RWLock

    def __init__(self, lock: RWLock, *, writes: bool) -> None:
        super().__init__(lock)
        self.writes = writes

    def poll(self) -> bool:
        lock = self.resource
        me = self.owner = owner_of(self)
        if me in lock._readers or lock._writer == me:
            raise OwnershipError(
                f"{name_of(me)} {'writes' if lock._writer == me else 'reads'} under {lock.describe()} already and would wait "
                "for itself: it is not re-entrant, and a reader can't become a writer"
            )
        self.value = lock._try(me, writes=self.writes)
        return bool(self.value)

    def register(self) -> None:
        lock = self.resource
        lock._queue.add(self)
        lock._watch()
        dead = lock._dead_holder()
        if dead is not None:  # it ended on its own thread between our look and our watch
            lock._queue.discard(self)
            raise lock._abandoned(dead)

    def unregister(self) -> None:
        lock = self.resource
        lock._queue.discard(self)
        lock._serve()  # a writer that gives up may have kept readers waiting

    def undo(self, value: Any) -> None:
        lock = self.resource
        mutex = lock.mutex
        if mutex is None:
            lock._drop(self.owner, writes=self.writes)
        else:
            with mutex:
                lock._drop(self.owner, writes=self.writes)

    def describe(self) -> str:
        return f"acquire to {'write' if self.writes else 'read'} of {self.resource.describe()}"
