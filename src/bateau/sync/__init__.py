"""Synchronisation between tasks: the names are those of ``threading`` and ``asyncio``, and more.

Every primitive is made without a runtime and works on each of them. Inside a running program it is ``local`` (one
runtime, no lock taken); made outside of any, or with ``flavour="shared"``, it may be used from several runtimes and plain
threads at once. Waiting calls are cancellation points, first come first served, and lose nothing when cancelled; releasing
never suspends.
"""

from __future__ import annotations

from .barrier import Barrier as Barrier
from .barrier import BarrierStatistics as BarrierStatistics
from .blocking import wait_in_thread as wait_in_thread
from .cell import Borrow as Borrow
from .cell import BorrowMut as BorrowMut
from .cell import Cell as Cell
from .condition import Condition as Condition
from .condition import ConditionStatistics as ConditionStatistics
from .errors import AbandonedLock as AbandonedLock
from .errors import BorrowError as BorrowError
from .errors import BrokenBarrierError as BrokenBarrierError
from .errors import OwnershipError as OwnershipError
from .event import Event as Event
from .event import EventStatistics as EventStatistics
from .limiter import Limiter as Limiter
from .limiter import LimiterStatistics as LimiterStatistics
from .lock import Lock as Lock
from .lock import LockStatistics as LockStatistics
from .notify import Notify as Notify
from .notify import NotifyStatistics as NotifyStatistics
from .once import Once as Once
from .oncemap import OnceMap as OnceMap
from .oncemap import OnceMapStatistics as OnceMapStatistics
from .places import Ticket as Ticket
from .rwlock import RWLock as RWLock
from .rwlock import RWLockStatistics as RWLockStatistics
from .semaphore import BoundedSemaphore as BoundedSemaphore
from .semaphore import Semaphore as Semaphore
from .semaphore import SemaphoreStatistics as SemaphoreStatistics
