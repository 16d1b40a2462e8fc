"""What the primitives of this package have in common."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..kernel.current import current_task_or_none, tls
from ..kernel.operation import Operation
from ..kernel.resource import Flavour, Primitive, WaitQueue
from ..kernel.twin import SyncFields, keep, native, replaced, slots

if TYPE_CHECKING:
    from ..kernel.task import Task


class Nothing:
    """An awaitable that is ready: what an ``__aexit__`` that never suspends returns, without making a coroutine."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return _EXHAUSTED  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # an exhausted iterator is all that await needs


class _True:
    """An awaitable that is ready and gives True: an acquire done on the spot."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, bool]:
        return True
        yield  # type: ignore[unreachable]  # makes it a generator


_EXHAUSTED: Iterator[None] = iter(())
NOTHING = Nothing()
ACQUIRED = _True()
if not TYPE_CHECKING and native is not None:
    replaced.update({"Nothing.__await__": Nothing.__await__, "_True.__await__": _True.__await__})
    NOTHING, ACQUIRED = native.Nothing(), native._True()
    keep(nothing=NOTHING, acquired=ACQUIRED)


class _LocalEntry:
    """Stands for the mutex where there is none."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Nothing to take."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Nothing to give back."""


_LOCAL_ENTRY = _LocalEntry()


class SyncPrimitive(SyncFields, Primitive):
    """A primitive with one queue of waiting operations.

    Invariant: ``_queue`` changes only inside a transition: under ``mutex`` (shared) or on the home thread (local).
    """

    __slots__ = slots("_queue")

    def __init__(self, *, name: str | None, flavour: Flavour | None, queue: WaitQueue | None = None) -> None:
        super().__init__(name=name, flavour=flavour)
        self._queue = queue if queue is not None else WaitQueue()

    def _transition(self) -> Any:
        """For ``with`` around a sync transition. Raises ``WrongRuntime`` on a thread where a local primitive is not at home."""
        mutex = self.mutex
        if mutex is None:
            self.check_thread()
            return _LOCAL_ENTRY
        return mutex

    def _on_the_spot(self) -> Task[Any] | None:
        """For ``__aenter__``, which is awaited at once: the running task, if it may acquire without an operation.

        That is: local, at home, not cancelled, and with step budget left, of which one step is taken. Else None: the
        operation does all this in full.
        """
        task = tls.running.task or current_task_or_none()
        if task is None or self.mutex is not None or task.node.effective is not None or task.budget <= 0:
            return None
        host = task.host
        if self._home is not host or host.foreign_tree:
            return None
        task.budget -= 1
        return task

    def waiters(self) -> Iterable[Operation[Any]]:
        return self._queue

    def _waiting(self) -> str:
        """For ``_fill``: how many wait, if any."""
        count = len(self._queue)
        return f", {count} waiting" if count else ""


class QueuedWait(Operation[Any]):
    """An operation that parks in its primitive's ``_queue``."""

    __slots__ = ()

    def register(self) -> None:
        self.resource._queue.add(self)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # subclasses narrow it

    def unregister(self) -> None:
        self.resource._queue.discard(self)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # as above


def check_count(value: object, what: str, least: int) -> int:
    """``value`` if it is a whole number of at least ``least``; raises ``TypeError`` or ``ValueError`` that say what was given."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{what} must be {least} or more, not {value}")
    return value
