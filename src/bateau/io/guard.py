"""Who uses a stream now: the errors of using one end twice at once, and the turns of those who share one on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import ref

from ..kernel.current import current_task, current_task_or_none
from ..kernel.errors import Busy, Closed
from ..kernel.operation import Operation
from ..kernel.resource import Resource, WaitQueue
from ..kernel.twin import SlotFields, slots

if TYPE_CHECKING:
    from ..kernel.task import Task


def busy(stream: str, verb: str, first: Task[Any] | None) -> Busy:
    """The error of a task that wants to ``verb`` ("read", "write") on ``stream`` while ``first`` does."""
    here = current_task_or_none()
    second = repr(here.name) if here is not None else "code outside any task"
    holder = f"task {first.name!r}" if first is not None else "another task"
    remedy = (
        "let one task read and hand out what it gets through a channel, or put a lock around each whole exchange"
        if verb == "read"
        else "share a cloneable sender (bateau.io.split(stream)[1].clone()), or put a lock around each whole message"
    )
    return Busy(f"{holder} is in the middle of a {verb} on {stream}, and task {second} wants to {verb}; {remedy}")


def closed(stream: str) -> Closed:
    """The error of using ``stream`` after its ``close``."""
    return Closed(f"{stream} was closed on this side; open a new one")


def check_size(n: int) -> int:
    """``n`` if it can be a number of bytes to read; the error says what was given instead."""
    if isinstance(n, bool) or not isinstance(n, int):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f"the number of bytes to read must be an int, not {type(n).__name__}")
    if n < 0:
        raise ValueError(
            f"the number of bytes to read must be 0 or more, not {n}; loop until b'' to read to the end of the stream"
        )
    return n


class Slot(SlotFields):
    """One end of a stream, held for the length of one call: ``with slot:``. A second task gets ``Busy`` at once.

    Invariant: ``task`` is not None exactly while a call of that task is under way.
    """

    __slots__ = slots("stream", "task", "verb")

    def __init__(self, stream: object, verb: str) -> None:
        self.stream = ref(stream)  # weak: what streams hold must not wait for the collector
        self.verb = verb
        self.task: Task[Any] | None = None

    def __enter__(self) -> None:
        if self.task is not None:
            raise self.error()
        self.task = current_task()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.task = None

    def check(self) -> None:
        """Raise ``Busy`` if a call is under way: for calls that don't wait."""
        if self.task is not None:
            raise self.error()

    def error(self) -> Busy:
        """The ``Busy`` that names both tasks."""
        return busy(title(self.stream()), self.verb, self.task)


def title(stream: object) -> str:
    """What messages call ``stream``: its own ``describe()``, if it has one."""
    describe = getattr(stream, "describe", None)
    return str(describe()) if describe is not None else f"{type(stream).__name__} at {id(stream):#x}"


class Turn(Resource):
    """Turns at something that tasks share by design (a half of a stream, a TLS engine): FIFO, ``async with turn:``.

    Like a lock, but a part of its owner: never seen by users except as what a task waits for. Entering is a cancellation
    point; leaving never suspends.

    Invariant: ``owner`` is the task inside; it is None only if nobody waits.
    """

    __slots__ = ("_queue", "label", "owner")
    kind = "turn"

    def __init__(self, label: str) -> None:
        self.label = label
        self.owner: Task[Any] | None = None
        self._queue = WaitQueue()

    def acquire(self) -> Operation[None]:
        """Await it: until it is this task's turn. Cancelled, it has left the queue."""
        return _Acquire(self)

    def try_acquire(self) -> bool:
        """Take the turn if nobody has it. Not a cancellation point."""
        if self.owner is not None:
            return False
        self.owner = current_task()
        return True

    def release(self) -> None:
        """Pass the turn on to the first in the queue."""
        op = self._queue.pop()
        if op is None:
            self.owner = None
        else:
            self.owner = op.task
            op.fire()

    async def __aenter__(self) -> None:
        await _Acquire(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()

    def waiters(self) -> Iterable[Operation[Any]]:
        return self._queue

    def holders(self) -> Iterable[Task[Any]]:
        return (self.owner,) if self.owner is not None else ()

    def describe(self) -> str:
        return f"turn at {self.label}"


class _Acquire(Operation[None]):
    """``Turn.acquire``."""

    __slots__ = ()
    resource: Turn

    def poll(self) -> bool:
        turn = self.resource
        if turn.owner is not None:
            return False
        turn.owner = self.task
        return True

    def register(self) -> None:
        self.resource._queue.add(self)

    def unregister(self) -> None:
        self.resource._queue.discard(self)

    def undo(self, value: Any) -> None:
        self.resource.release()

    def describe(self) -> str:
        return f"wait for a {self.resource.describe()}"
