"""Limiter: a bound on how many work at once, whose tokens have borrowers and whose size can be changed.

Other than a semaphore's permit, a token belongs to a borrower, one each: a task, or any hashable object on whose behalf
tasks act. Invariant: where a token is free, nobody waits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from ..kernel.operation import Operation
from ..kernel.resource import OUTSIDE, Flavour
from ..kernel.task import Task
from .base import NOTHING, Nothing, QueuedWait, SyncPrimitive, check_count
from .errors import OwnershipError
from .owners import caller, name_of, owner_of

if TYPE_CHECKING:
    from .owners import Owner


class LimiterStatistics(NamedTuple):
    """The state of a ``Limiter`` at one moment. ``borrowers`` stand in the order in which they got their tokens."""

    borrowed_tokens: int
    total_tokens: float
    borrowers: tuple[object, ...]
    tasks_waiting: int


class Limiter(SyncPrimitive):
    """At most ``total_tokens`` borrowers at once: ``async with limiter:``. Waiters are served in order.

    A borrower has at most one token: borrowing again raises ``OwnershipError``, and so does returning what was not
    borrowed. ``total_tokens`` may be changed at any time, and may be ``math.inf``.
    """

    __slots__ = ("_borrowers", "_pending", "_total")
    kind = "limiter"

    def __init__(self, total_tokens: float, *, name: str | None = None, flavour: Flavour | None = None) -> None:
        super().__init__(name=name, flavour=flavour)
        self._total = _check_tokens(total_tokens)
        self._borrowers: dict[Hashable, None] = {}
        # The borrowers on whose behalf somebody waits.
        self._pending: set[Hashable] = set()

    # -- the size ------------------------------------------------------------------------------------------------------

    @property
    def total_tokens(self) -> float:
        """How many may borrow at once. Raising it lets waiters in; lowering it takes no token from those who have one."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, total_tokens: float) -> None:
        total = _check_tokens(total_tokens)
        with self._transition():
            self._total = total
            self._serve()

    @property
    def borrowed_tokens(self) -> int:
        """How many tokens are borrowed."""
        return len(self._borrowers)

    @property
    def available_tokens(self) -> float:
        """How many tokens are free; 0 where more are borrowed than there may be."""
        return max(0, self._total - len(self._borrowers))

    # -- borrowing -----------------------------------------------------------------------------------------------------

    def acquire(self) -> Operation[bool]:
        """Wait for a token for this task; gives True. A cancellation point; cancelled, it had no effect.

        Raises ``OwnershipError`` if this task has one already.
        """
        return _Acquire(self, None)

    def acquire_on_behalf_of(self, borrower: Hashable) -> Operation[bool]:
        """Wait for a token for ``borrower``; gives True. A cancellation point; cancelled, it had no effect.

        Raises ``OwnershipError`` if ``borrower`` has one or one is being waited for, ``TypeError`` if it is not hashable.
        """
        hash(borrower)
        return _Acquire(self, borrower)

    def try_acquire(self) -> bool:
        """Take a token for this task (or plain thread) if one is free, else return False. Never waits.

        Raises ``OwnershipError`` if this task has one already.
        """
        return self.try_acquire_on_behalf_of(caller())

    def try_acquire_on_behalf_of(self, borrower: Hashable) -> bool:
        """Take a token for ``borrower`` if one is free, else return False. Never waits.

        Raises ``OwnershipError`` if ``borrower`` has one already.
        """
        with self._transition():
            self._check_new(borrower)
            if len(self._borrowers) >= self._total:
                return False
            self._borrowers[borrower] = None
            return True

    def _check_new(self, borrower: Hashable) -> None:
        if borrower in self._borrowers:
            raise OwnershipError(
                f"{_title(borrower)} has a token of {self.describe()} already; a borrower has at most one"
            )
        if borrower in self._pending:
            raise OwnershipError(
                f"somebody waits for a token of {self.describe()} on behalf of {_title(borrower)} already"
            )

    def __aenter__(self) -> Operation[bool]:
        return _Acquire(self, None)

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> Nothing:
        self.release()
        return NOTHING

    # -- returning -----------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Return this task's token. Never suspends. Raises ``OwnershipError`` if it has none."""
        self.release_on_behalf_of(caller())

    def release_on_behalf_of(self, borrower: Hashable) -> None:
        """Return the token of ``borrower``. Never suspends. Raises ``OwnershipError`` if it has none."""
        with self._transition():
            if borrower not in self._borrowers:
                raise OwnershipError(f"{_title(borrower)} has no token of {self.describe()} to return")
            del self._borrowers[borrower]
            self._serve()

    def _serve(self) -> None:
        while len(self._borrowers) < self._total and (op := self._queue.pop()) is not None:
            borrower = cast("_Acquire", op).borrower
            self._pending.discard(borrower)
            self._borrowers[borrower] = None
            op.fire(True)

    # -- seeing --------------------------------------------------------------------------------------------------------

    def statistics(self) -> LimiterStatistics:
        """Tokens borrowed and in all, the borrowers, and how many tasks wait."""
        return LimiterStatistics(len(self._borrowers), self._total, tuple(self._borrowers), len(self._queue))

    def holders(self) -> tuple[Task[Any], ...]:
        return tuple(
            borrower  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # of any result
            for borrower in tuple(self._borrowers)
            if isinstance(borrower, Task)
        )

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        holders = self.holders()
        return holders if self.mutex is None or len(holders) == len(self._borrowers) > 0 else OUTSIDE

    def _fill(self) -> str:
        return f" ({len(self._borrowers)}/{self._total:g} borrowed{self._waiting()})"


class _Acquire(QueuedWait):
    """Waiting for a token. ``borrower`` None means the task itself, and is resolved by ``poll``."""

    __slots__ = ("borrower",)
    resource: Limiter

    def __init__(self, limiter: Limiter, borrower: Hashable | None) -> None:
        super().__init__(limiter)
        self.borrower: Hashable = borrower

    def poll(self) -> bool:
        limiter = self.resource
        if self.borrower is None:
            self.borrower = owner_of(self)
        limiter._check_new(self.borrower)
        if len(limiter._borrowers) >= limiter._total:
            return False
        limiter._borrowers[self.borrower] = None
        self.value = True
        return True

    def register(self) -> None:
        super().register()
        self.resource._pending.add(self.borrower)

    def unregister(self) -> None:
        super().unregister()
        self.resource._pending.discard(self.borrower)

    def undo(self, value: Any) -> None:
        limiter = self.resource
        mutex = limiter.mutex
        if mutex is None:
            self._give_back(limiter)
        else:
            with mutex:
                self._give_back(limiter)

    def _give_back(self, limiter: Limiter) -> None:
        limiter._borrowers.pop(self.borrower, None)
        limiter._serve()

    def describe(self) -> str:
        return f"acquire of {self.resource.describe()}"


def _title(borrower: Hashable) -> str:
    return name_of(cast("Owner", borrower)) if isinstance(borrower, Task) else repr(borrower)


def _check_tokens(total: float) -> float:
    if total == float("inf"):
        return total
    return check_count(total, "total_tokens", 1)
