"""anyio's primitives on the kernel's operations: queues of parked operations, granted by hand-over, first come first.

They are not bateau's own primitives under other names, because what anyio promises differs in what a program can see: who may
release, when an acquire lets the others run, what the statistics say, which error is raised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TypeVar

from anyio import (
    CapacityLimiter as BaseCapacityLimiter,
)
from anyio import (
    CapacityLimiterStatistics,
    EventStatistics,
    LockStatistics,
    SemaphoreStatistics,
    WouldBlock,
)
from anyio import Event as BaseEvent
from anyio import Lock as BaseLock
from anyio import Semaphore as BaseSemaphore

from ...kernel.current import current_task
from ...kernel.flow import yield_now
from ...kernel.operation import Operation
from ...kernel.resource import Resource, WaitQueue
from ...kernel.task import Task
from .groups import Turn
from .info import TaskInfo

T = TypeVar("T")


class _Queue(Resource):
    """The queue of one primitive, and what the kernel asks about it. ``who`` gives the tasks that could grant a wait."""

    __slots__ = ("kind", "queue", "tasks")

    def __init__(self, kind: str) -> None:
        self.kind = kind  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # the base has a constant of the class; here it differs by instance
        self.queue = WaitQueue()
        self.tasks: tuple[Task[Any], ...] = ()

    def waiters(self) -> Iterable[Operation[Any]]:
        return self.queue

    def holders(self) -> Iterable[Task[Any]]:
        return self.tasks

    def describe(self) -> str:
        return f"anyio {self.kind} at {id(self):#x}"


class _Wait(Operation[None]):
    """Waiting in the queue until who makes room grants it. ``key``: on whose behalf."""

    __slots__ = ("giver", "key", "queue")

    def __init__(self, queue: _Queue, giver: Any = None, key: Any = None) -> None:
        super().__init__(queue)
        self.queue = queue
        self.giver = giver
        self.key = key

    def register(self) -> None:
        self.queue.queue.add(self)

    def unregister(self) -> None:
        self.queue.queue.discard(self)

    def undo(self, value: None) -> None:
        """The task that was granted it has been closed: the next one in the queue gets it."""
        if self.giver is not None:
            self.giver._take_back(self)

    def describe(self) -> str:
        return f"wait for {self.queue.describe()}"


async def check_cancelled_here() -> None:
    """Raise if the task is cancelled, after the others have had a turn: as on anyio's other backends, where it takes one to deliver."""
    if current_task().node.effective is not None:
        await Turn()
        await yield_now()


class Event(BaseEvent):
    """See ``anyio.Event``."""

    __slots__ = ("_queue", "_set")

    def __new__(cls) -> Event:
        return object.__new__(cls)

    def __init__(self) -> None:
        self._set = False
        self._queue = _Queue("event")

    def set(self) -> None:
        self._set = True
        while (op := self._queue.queue.pop()) is not None:
            op.fire()

    def is_set(self) -> bool:
        return self._set

    async def wait(self) -> None:
        if self._set:
            await yield_now()
        else:
            await _Wait(self._queue)

    def statistics(self) -> EventStatistics:
        return EventStatistics(len(self._queue.queue))


class Lock(BaseLock):
    """See ``anyio.Lock``. Invariant: where nobody owns it, nobody waits for it."""

    __slots__ = ("_fast", "_owner", "_queue")

    def __new__(cls, *, fast_acquire: bool = False) -> Lock:
        return object.__new__(cls)

    def __init__(self, *, fast_acquire: bool = False) -> None:
        self._fast = fast_acquire
        self._owner: Task[Any] | None = None
        self._queue = _Queue("lock")

    async def acquire(self) -> None:
        await check_cancelled_here()
        try:
            self.acquire_nowait()
        except WouldBlock:
            await _Wait(self._queue, self)
            return
        if not self._fast:
            await Turn()

    def acquire_nowait(self) -> None:
        task = current_task()
        if self._owner is task:
            raise RuntimeError("Attempted to acquire an already held Lock")
        if self._owner is not None:
            raise WouldBlock
        self._own(task)

    def locked(self) -> bool:
        return self._owner is not None

    def release(self) -> None:
        if self._owner is None or self._owner is not current_task():
            raise RuntimeError("The current task is not holding this lock")
        self._pass_on()

    def _own(self, task: Task[Any] | None) -> None:
        self._owner = task
        self._queue.tasks = (task,) if task is not None else ()

    def _pass_on(self) -> None:
        op = self._queue.queue.pop()
        self._own(op.task if op is not None else None)
        if op is not None:
            op.fire()

    def _take_back(self, op: _Wait) -> None:
        if self._owner is op.task:
            self._pass_on()

    def statistics(self) -> LockStatistics:
        owner = self._owner
        return LockStatistics(owner is not None, TaskInfo(owner) if owner is not None else None, len(self._queue.queue))


class Semaphore(BaseSemaphore):
    """See ``anyio.Semaphore``. Invariant: while somebody waits, the value is 0."""

    __slots__ = ("_max", "_queue", "_value")

    def __new__(cls, initial_value: int, *, max_value: int | None = None, fast_acquire: bool = False) -> Semaphore:
        return object.__new__(cls)

    def __init__(self, initial_value: int, *, max_value: int | None = None, fast_acquire: bool = False) -> None:
        super().__init__(initial_value, max_value=max_value, fast_acquire=fast_acquire)
        self._value = initial_value
        self._max = max_value
        self._queue = _Queue("semaphore")

    async def acquire(self) -> None:
        await check_cancelled_here()
        try:
            self.acquire_nowait()
        except WouldBlock:
            await _Wait(self._queue, self)
            return
        if not self._fast_acquire:
            await Turn()

    def acquire_nowait(self) -> None:
        if self._value == 0:
            raise WouldBlock
        self._value -= 1

    def release(self) -> None:
        if self._max is not None and self._value == self._max:
            raise ValueError("semaphore released too many times")
        op = self._queue.queue.pop()
        if op is not None:
            op.fire()
        else:
            self._value += 1

    def _take_back(self, op: _Wait) -> None:
        self.release()

    @property
    def value(self) -> int:
        return self._value

    @property
    def max_value(self) -> int | None:
        return self._max

    def statistics(self) -> SemaphoreStatistics:
        return SemaphoreStatistics(len(self._queue.queue))


class CapacityLimiter(BaseCapacityLimiter):
    """See ``anyio.CapacityLimiter``. Invariant: somebody waits only while no token is free."""

    __slots__ = ("_borrowers", "_queue", "_total")

    def __new__(cls, total_tokens: float) -> CapacityLimiter:
        return object.__new__(cls)

    def __init__(self, total_tokens: float) -> None:
        # Ordered, so that what statistics() tells does not depend on hashes.
        self._borrowers: dict[object, None] = {}
        self._queue = _Queue("capacity limiter")
        self._total: float = 0
        self.total_tokens = total_tokens

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.release()

    @property
    def total_tokens(self) -> float:
        return self._total

    @total_tokens.setter
    def total_tokens(self, value: float) -> None:
        if not isinstance(value, int) and not math.isinf(value):
            raise TypeError("total_tokens must be an int or math.inf")
        if value < 0:
            raise ValueError("total_tokens must be >= 0")
        self._total = value
        self._hand_out()

    @property
    def borrowed_tokens(self) -> int:
        return len(self._borrowers)

    @property
    def available_tokens(self) -> float:
        return self._total - len(self._borrowers)

    def _hand_out(self) -> None:
        while len(self._borrowers) < self._total:
            op: Any = self._queue.queue.pop()
            if op is None:
                break
            self._borrowers[op.key] = None
            op.fire()
        self._told()

    def _told(self) -> None:
        self._queue.tasks = tuple(one for one in self._borrowers if isinstance(one, Task))  # pyright: ignore[reportUnknownArgumentType]  # of whatever

    def acquire_nowait(self) -> None:
        self.acquire_on_behalf_of_nowait(current_task())

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        if borrower in self._borrowers:
            raise RuntimeError("this borrower is already holding one of this CapacityLimiter's tokens")
        if self._queue.queue or len(self._borrowers) >= self._total:
            raise WouldBlock
        self._borrowers[borrower] = None
        self._told()

    async def acquire(self) -> None:
        await self.acquire_on_behalf_of(current_task())

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await check_cancelled_here()
        try:
            self.acquire_on_behalf_of_nowait(borrower)
        except WouldBlock:
            await _Wait(self._queue, self, borrower)
        else:
            await Turn()

    def release(self) -> None:
        self.release_on_behalf_of(current_task())

    def release_on_behalf_of(self, borrower: object) -> None:
        if borrower not in self._borrowers:
            raise RuntimeError("this borrower isn't holding any of this CapacityLimiter's tokens")
        del self._borrowers[borrower]
        self._hand_out()

    def _take_back(self, op: _Wait) -> None:
        if op.key in self._borrowers:
            self.release_on_behalf_of(op.key)

    def statistics(self) -> CapacityLimiterStatistics:
        return CapacityLimiterStatistics(
            self.borrowed_tokens, self.total_tokens, tuple(self._borrowers), len(self._queue.queue)
        )
