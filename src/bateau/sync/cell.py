"""Cell: a value whose borrow may not be held over an await, so that no read-modify-write is ever interleaved.

An open borrow is the ``guard`` of its task: the task's next operation is refused before it begins (see ``kernel.operation.Guard``).
What the kernel can't refuse (an await of foreign code, the end of a scope) shows at the latest where another borrow meets
the open one. In the shared flavour a borrow also holds the mutex, so that other threads wait for its end.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..kernel.current import current_task_or_none
from ..kernel.operation import Guard
from ..kernel.resource import Flavour, Primitive
from .errors import BorrowError

if TYPE_CHECKING:
    from ..kernel.task import Task

T = TypeVar("T")

# Seconds for which a thread waits for another thread's borrow. A borrow spans no wait, so it is over at once; one that
# lasts this long is held over something that blocks, and saying so beats waiting for ever.
_PATIENCE = 10.0


class Cell(Primitive, Generic[T]):
    """A guarded value. ``with cell.borrow() as value:`` reads; ``with cell.borrow_mut() as ref:`` may change it.

    Many may read at once, or one change. Inside the block no bateau operation may be awaited: it raises ``BorrowError`` that
    names the borrow's line, before it has had any effect. A borrow that meets another (a change meets anything) raises too.
    """

    __slots__ = ("_borrows", "_value")
    kind = "cell"

    def __init__(self, value: T, *, name: str | None = None, flavour: Flavour | None = None) -> None:
        super().__init__(name=name, flavour=flavour)
        self._value = value
        # The open borrows, in order: any number that read, or one that changes.
        self._borrows: list[_Borrow[T]] = []

    def borrow(self) -> Borrow[T]:
        """For ``with``: gives the value, to read. Never waits for other tasks.

        Entering raises ``BorrowError`` while somebody changes it.
        """
        return Borrow(self, _site())

    def borrow_mut(self) -> BorrowMut[T]:
        """For ``with``: gives a reference whose ``value`` can be read and set. Never waits for other tasks.

        Entering raises ``BorrowError`` while anybody else borrows it.
        """
        return BorrowMut(self, _site())

    def update(self, fn: Callable[[T], T]) -> T:
        """Replace the value by ``fn(value)``, in one step, and return the new value. ``fn`` is a sync function.

        Raises ``BorrowError`` while anybody borrows it, ``TypeError`` if ``fn`` returns a coroutine; what ``fn`` raises leaves the
        value as it was.
        """
        with BorrowMut(self, _site()) as ref:
            result = fn(ref.value)
            if hasattr(result, "__await__") and hasattr(result, "close"):
                cast("Any", result).close()
                raise TypeError("update needs a sync function: the cell may not be held over an await")
            ref.value = result
            return result

    def _open(self, borrow: _Borrow[T]) -> None:
        mutex = self.mutex
        if mutex is None:
            self.check_thread()
        elif not mutex.acquire(timeout=_PATIENCE):
            open_ = next(iter(self._borrows), None)
            raise BorrowError(
                f"{self._label()} has been borrowed for {_PATIENCE:g} s by another thread"
                f"{f', at {open_.where()}' if open_ is not None else ''}: it is held over something that waits"
            )
        for other in self._borrows:
            if borrow.changes or other.changes:
                if mutex is not None:
                    mutex.release()
                raise BorrowError(
                    f"{self._label()} can't be borrowed{' to change it' if borrow.changes else ''} here: it is borrowed at "
                    f"{other.where()} by {other.who()}, and that borrow is still open; end it first, "
                    "and never hold one over an await"
                )
        self._borrows.append(borrow)

    def _close(self, borrow: _Borrow[T]) -> None:
        self._borrows.remove(borrow)
        if self.mutex is not None:
            self.mutex.release()

    def _label(self) -> str:
        return f"{self.kind} {self.name!r}" if self.name else f"{self.kind} at {id(self):#x}"

    def holders(self) -> tuple[Task[Any], ...]:
        return tuple(borrow.task for borrow in tuple(self._borrows) if borrow.task is not None)

    def _fill(self) -> str:
        borrow = next(iter(self._borrows), None)
        return f" (borrowed at {borrow.where()} by {borrow.who()})" if borrow is not None else " (not borrowed)"


class _Borrow(Guard, Generic[T]):
    """One borrow, for one ``with`` block.

    Invariant: while open in a task, it is in the chain ``task.guard -> below -> ...``, and the task's budget is 0. ``budget`` is
    what the task had before the first of the chain, and is given back when the last one closes.
    """

    __slots__ = ("budget", "cell", "held_over", "opened", "site", "task", "thread")
    changes = False

    def __init__(self, cell: Cell[T], site: tuple[str, int]) -> None:
        self.cell = cell
        self.site = site
        self.task: Task[Any] | None = None
        self.below = None
        self.budget = 0
        self.thread = 0
        self.held_over = False
        self.opened = False

    def _enter(self) -> None:
        if self.opened:
            raise BorrowError("this borrow was used before; call borrow() for each block")
        self.opened = True
        self.thread = get_ident()
        self.task = task = current_task_or_none()
        self.cell._open(self)
        if task is not None:
            below = task.guard
            self.below = below
            self.budget = below.budget if isinstance(below, _Borrow) else task.budget
            task.guard = self
            task.budget = 0

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        task = self.task
        if task is not None:
            self._unchain(task)
        self.cell._close(self)
        if self.held_over and exc is None:
            raise BorrowError(self._message("was held while its task waited for the end of a scope"))

    def _unchain(self, task: Task[Any]) -> None:
        self.unlink(task)
        if task.guard is None:
            task.budget = self.budget

    def refuse(self, task: Task[Any], shielded: bool) -> None:
        task.budget = 0  # so that the next operation is refused as well
        if shielded:
            self.held_over = True
            return
        raise BorrowError(self._message("is still open at an await; end the block before it"))

    def _message(self, what: str) -> str:
        return f"the borrow of {self.cell._label()} at {self.where()} by {self.who()} {what}"

    def where(self) -> str:
        """``file:line`` of the borrow."""
        return f"{self.site[0]}:{self.site[1]}"

    def who(self) -> str:
        """The task that borrows, or its thread."""
        return f"task {self.task.name!r}" if self.task is not None else f"thread {self.thread}"


class Borrow(_Borrow[T]):
    """A borrow to read; made by ``Cell.borrow``."""

    __slots__ = ()

    def __enter__(self) -> T:
        self._enter()
        return self.cell._value


class BorrowMut(_Borrow[T]):
    """A borrow to change; made by ``Cell.borrow_mut``. Inside its block, ``value`` is the cell's."""

    __slots__ = ("_active",)
    changes = True

    def __enter__(self) -> BorrowMut[T]:
        self._active = False
        self._enter()
        self._active = True
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._active = False
        super().__exit__(exc_type, exc, tb)

    @property
    def value(self) -> T:
        """The cell's value. Raises ``BorrowError`` outside the block."""
        self._check()
        return self.cell._value

    @value.setter
    def value(self, value: T) -> None:
        self._check()
        self.cell._value = value

    def _check(self) -> None:
        if not self._active:
            raise BorrowError(self._message("is over; take what you need out of it inside the block"))


def _site() -> tuple[str, int]:
    frame = sys._getframe(2)
    return frame.f_code.co_filename, frame.f_lineno
