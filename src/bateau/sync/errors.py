"""The errors of misuse that only the primitives raise."""

from __future__ import annotations

from ..kernel.errors import BateauError


class OwnershipError(BateauError, RuntimeError):
    """A lock was released by somebody who does not hold it, or acquired again by the one who does."""


class AbandonedLock(BateauError, RuntimeError):
    """The task that holds the lock has ended without releasing it: nobody can ever get it."""


class BrokenBarrierError(BateauError, RuntimeError):
    """The barrier was aborted or reset while tasks waited, or its action failed."""


class BorrowError(BateauError, RuntimeError):
    """A cell is borrowed where it may not be: over a wait, or twice at once. The message names the borrow's line."""
