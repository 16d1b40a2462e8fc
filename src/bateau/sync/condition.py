"""Condition: waiting, under a lock, until what the lock guards has changed.

``wait`` is two waits in one operation: for the notification, in whose registration the lock is released (so none can come
between), and for the lock again, in whose queue the notifier puts it: those who are notified get the lock in their order.
The lock is taken again whatever happens, also when cancelled: the caller's ``async with`` will release it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from ..kernel.cancellation import make_cancelled
from ..kernel.current import current_task
from ..kernel.errors import Cancelled
from ..kernel.operation import NEW, STEP_BUDGET, Operation, _thrown
from ..kernel.resource import Flavour
from ..kernel.twin import ConditionFields, ConditionWaitFields, keep, slots, twinned
from .base import Nothing, SyncPrimitive, check_count
from .errors import AbandonedLock, OwnershipError
from .lock import Lock, LockStatistics, _Acquire
from .owners import Owner, caller, name_of, owner_of
from .places import PlacedAcquire

T = TypeVar("T")


class ConditionStatistics(NamedTuple):
    """The state of a ``Condition`` at one moment: how many wait to be notified, and the state of its lock."""

    tasks_waiting: int
    lock_statistics: LockStatistics


@twinned("wait", "notify", "notify_all", "__aenter__", "__aexit__")
class Condition(ConditionFields, SyncPrimitive):
    """Tasks wait, under ``lock`` (one of its own unless given), until others notify them: ``async with condition:``.

    It has the flavour of its lock. ``wait``, ``notify`` and ``notify_all`` raise ``OwnershipError`` unless the caller holds the
    lock. Raises ``TypeError`` for a ``lock`` that is not a ``Lock``, ``ValueError`` for a ``flavour`` that is not the lock's.
    """

    __slots__ = slots("lock")
    kind = "condition"

    def __init__(self, lock: Lock | None = None, *, name: str | None = None, flavour: Flavour | None = None) -> None:
        if lock is None:
            lock = Lock(name=name, flavour=flavour)
        elif not isinstance(lock, Lock):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"lock must be a bateau.sync.Lock, not {type(lock).__name__}")
        elif flavour is not None and flavour != lock.flavour:
            raise ValueError(f"flavour is {flavour!r}, but the lock's is {lock.flavour!r}; a condition has its lock's")
        super().__init__(name=name, flavour=lock.flavour)
        # One transition covers both queues: the lock is released and the wait begun in one.
        self.mutex = lock.mutex
        self.lock = lock

    # -- the lock ------------------------------------------------------------------------------------------------------

    def acquire(self) -> Operation[bool]:
        """Acquire the lock (see ``Lock.acquire``)."""
        return self.lock.acquire()

    def try_acquire(self) -> bool:
        """Take the lock if it is free, else return False. Never waits."""
        return self.lock.try_acquire()

    def release(self) -> None:
        """Release the lock (see ``Lock.release``)."""
        self.lock.release()

    def locked(self) -> bool:
        """Whether the lock is held."""
        return self.lock.locked()

    def __aenter__(self) -> Awaitable[bool]:
        return self.lock.__aenter__()

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> Nothing:
        return self.lock.__aexit__(exc_type, exc, tb)

    # -- waiting and notifying -----------------------------------------------------------------------------------------

    def wait(self) -> Operation[bool]:
        """Release the lock, wait to be notified, acquire the lock again; gives True.

        A cancellation point. The lock is held again also when this raises; a cancelled wait has used up no notification.
        Look at the condition again afterwards: another task may have been faster. ``wait_for`` does that.
        """
        return _Wait(self)

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """Wait until ``predicate()``, a sync function, is true; returns what it gave. The lock is held when it is called.

        A cancellation point unless it is true at once; cancellation leaves what ``wait`` leaves.
        """
        while not (result := predicate()):
            await self.wait()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake the ``n`` tasks that have waited longest (or all, if fewer wait). Never suspends."""
        check_count(n, "n", 0)
        with self._transition():
            self._check_held("notify")
            self._notify(n)

    def notify_all(self) -> None:
        """Wake all who wait. Never suspends."""
        with self._transition():
            self._check_held("notify")
            self._notify(len(self._queue))

    def _notify(self, n: int) -> None:
        """Move the first waiters on to the queue of the lock, in order."""
        while n and (op := self._queue.pop()) is not None:
            n -= 1
            assert isinstance(op, _Wait)
            op.turn_to_lock(self.lock)

    def _check_held(self, what: str) -> None:
        me = caller()
        if self.lock._owner is None or self.lock._owner != me:
            raise _not_held(self, name_of(me), what)

    # -- seeing --------------------------------------------------------------------------------------------------------

    def statistics(self) -> ConditionStatistics:
        """How many tasks wait to be notified, and the state of the lock."""
        return ConditionStatistics(len(self._queue), self.lock.statistics())

    def _fill(self) -> str:
        return f" ({len(self._queue)} waiting)"


@twinned("__await__", final=True, known_as="condition wait")
class _Wait(ConditionWaitFields, PlacedAcquire):
    """Waiting to be notified, then for the lock: a notified operation stays parked and moves to the queue of the lock.

    Registering releases the lock. From being notified on, it can't be aborted: it will have the lock, and a cancellation comes
    at the next wait. Invariant: ``resource`` is the condition until it is notified, the lock from then on; their mutex is one.
    """

    __slots__ = slots("condition", "notified", "owner")
    selectable = False  # its end is the lock, which belongs to the task that waits
    resource: SyncPrimitive

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition)
        self.condition = condition
        self.notified = False
        self.owner: Owner | None = None

    def __await__(self) -> Generator[Any, Any, bool]:
        fresh = self.state is NEW
        wait: Any = Operation.__await__(self)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # its annotation is the base's: of whatever
        return self._keeping_the_lock(wait) if fresh else wait  # which says that it was awaited before

    def _keeping_the_lock(self, wait: Generator[Any, Any, bool]) -> Generator[Any, Any, bool]:
        """Do ``wait``, and hold the lock afterwards, however it has ended."""
        condition = self.condition
        lock = condition.lock
        try:
            yield from wait
        except (OwnershipError, AbandonedLock, GeneratorExit):
            raise  # the lock was not given up, can't be had again, or this coroutine is closed and can't wait
        except BaseException:
            # A wait that was cancelled before it began has not given the lock up (``owner`` is unknown then).
            if self.owner is not None and lock._owner != self.owner:
                yield from _reacquire(lock)
            if self.notified:  # the host could not keep a native cancellation for later: somebody else is to be woken
                with condition._transition():
                    condition._notify(1)
            raise
        if lock._owner != self.owner:  # a native cancellation, kept for later, ended the wait for the lock
            with condition._transition():
                lock._queue.discard(self)
            yield from _reacquire(lock)
        return True

    def _rest(self, thrown: BaseException | None) -> Generator[Any, Any, bool]:
        """For the twin, whose parked wait was aborted, or had an exception ``thrown`` into it: what there is left to do."""
        return self._keeping_the_lock(self._ended(thrown))

    def _ended(self, thrown: BaseException | None) -> Generator[Any, Any, bool]:
        """The end of a wait that was suspended; see ``_wait`` and ``Operation.__await__``."""
        task = self.task
        assert task is not None
        try:
            if thrown is None:
                raise make_cancelled(task)
            _thrown(self, task, thrown)
        finally:
            task.waiting = None
            task.budget = STEP_BUDGET
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return True
        yield  # type: ignore[unreachable]  # makes it a generator

    def poll(self) -> bool:
        condition = self.condition
        me = self.owner = owner_of(self)
        if condition.lock._owner is None or condition.lock._owner != me:
            raise _not_held(condition, name_of(me), "wait")
        return False

    def register(self) -> None:
        self.condition._queue.add(self)
        self.condition.lock._pass_on()

    def unregister(self) -> None:
        self.condition._queue.discard(self)

    def abort(self) -> bool:
        return not self.notified and super().abort()

    def turn_to_lock(self, lock: Lock) -> None:
        """It is notified. The notifier holds the lock, or (handing on a notification) it may be free."""
        self.notified = True
        self.resource = lock
        if lock._owner is None:
            lock._owner = self.owner
            self.fire(True)
            return
        lock._queue.join(self)
        if not lock._watched:
            lock._watch()

    def undo(self, value: Any) -> None:
        condition = self.condition
        if condition.mutex is None:
            self._hand_on(condition)
        else:
            with condition.mutex:
                self._hand_on(condition)

    def _hand_on(self, condition: Condition) -> None:
        lock = condition.lock
        if lock._owner == self.owner:
            lock._pass_on()
        else:
            lock._queue.discard(self)
        condition._notify(1)

    def describe(self) -> str:
        return f"{'acquire of' if self.notified else 'wait for'} {self.resource.describe()}"


keep(condition_rest=_Wait._rest)


class _Reacquire(_Acquire):
    """Taking the lock again, whether cancelled or not."""

    __slots__ = ()
    shielded = True


def _reacquire(lock: Lock) -> Generator[Any, Any, None]:
    """Take the lock again, shielded from our cancellations; a native one is kept for the next wait."""
    native: BaseException | None = None
    while True:
        try:
            yield from _Reacquire(lock).__await__()
            break
        except Cancelled as exc:
            native = native or exc
    if native is not None:
        task = current_task()
        task.host.rearm(task, native)


def _not_held(condition: Condition, who: str, what: str) -> OwnershipError:
    return OwnershipError(f"{who} must hold the lock to {what}; write `async with condition:` around it: {condition!r}")
