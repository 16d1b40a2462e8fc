"""Once: a value that is made once, by whoever comes first; or set once.

The maker runs in its own task, so its cancellation is its own: then, or if it fails, the next who waits becomes the maker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, cast, overload

from ..kernel.flow import checkpoint
from ..kernel.operation import Operation
from ..kernel.resource import OUTSIDE, Flavour
from .base import QueuedWait, SyncPrimitive
from .errors import OwnershipError
from .owners import Owner, name_of, owner_of, tasks_among

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from ..kernel.task import Task

T = TypeVar("T")
D = TypeVar("D")
Ts = TypeVarTuple("Ts")

# States of a Once. EMPTY -> MAKING -> FULL, or back to EMPTY where the maker failed and nobody waits to make it.
_EMPTY, _MAKING, _FULL = range(3)
# What a waiter is told when it is its turn to make the value.
_YOURS = object()
_MISSING: Any = object()


class Once(SyncPrimitive, Generic[T]):
    """A value made once: ``await once.run(fn)`` gives the value, and calls ``fn`` only if nobody has before.

    If the call fails, its caller gets the error; if it is cancelled, its caller is; and the next who waits calls *its* function.
    Or a cell that is set once: ``once.set(value)``, ``await once.wait()``.
    """

    __slots__ = ("_maker", "_state", "_value")
    kind = "once"
    held_by = "_maker"

    def __init__(self, *, name: str | None = None, flavour: Flavour | None = None) -> None:
        super().__init__(name=name, flavour=flavour)
        self._state = _EMPTY
        self._value: Any = None
        self._maker: Owner | None = None

    async def run(self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts) -> T:
        """The value; if there is none and nobody makes it, call ``fn(*args)`` and keep what it returns.

        A cancellation point. Cancelled while another makes the value, it had no effect; cancelled while it makes the value, the
        next who waits takes over. Raises what ``fn`` raises, here alone; ``OwnershipError`` if ``fn`` itself asks for the value.
        """
        if not callable(fn):
            raise TypeError(f"run needs an async function, not {type(fn).__name__}")
        if self._state == _FULL:
            await checkpoint()
            return cast("T", self._value)
        if await _Ask(self) is not _YOURS:
            return cast("T", self._value)
        try:
            value = await fn(*args)
        except BaseException:
            with self._transition():
                self._hand_over()
            raise
        with self._transition():
            self._fill_in(value)
        return value

    def set(self, value: T) -> None:
        """Set the value and give it to all who wait. Never suspends. Raises ``RuntimeError`` if it is set or being made."""
        with self._transition():
            if self._state == _FULL:
                raise RuntimeError(f"{self.describe()} has its value; it can be set only once")
            if self._state == _MAKING:
                raise RuntimeError(f"{self.describe()} can't be set: its value is being made")
            self._fill_in(value)

    def wait(self) -> Operation[T]:
        """Wait until there is a value, without making it; gives the value. A cancellation point; no effect if cancelled."""
        return _Wait(self)

    def is_set(self) -> bool:
        """Whether there is a value."""
        return self._state == _FULL

    @overload
    def get(self) -> T: ...
    @overload
    def get(self, default: D) -> T | D: ...
    def get(self, default: Any = _MISSING) -> Any:
        """The value, or ``default`` while there is none; without a default raises ``LookupError``. Never waits."""
        if self._state == _FULL:
            return self._value
        if default is not _MISSING:
            return default
        raise LookupError(f"{self.describe()} has no value yet; await run(fn) or wait()")

    def _fill_in(self, value: T) -> None:
        self._state, self._value, self._maker = _FULL, value, None
        while (op := self._queue.pop()) is not None:
            op.fire(value)

    def _hand_over(self) -> None:
        """The maker gave up: the next who would make it does so; those who only wait, wait on."""
        self._state, self._maker = _EMPTY, None
        for op in self._queue:
            if isinstance(op, _Ask):
                self._queue.discard(op)
                if op.claim():
                    self._state, self._maker = _MAKING, op.owner
                    op.fire(_YOURS)
                    return

    def holders(self) -> tuple[Task[Any], ...]:
        return tasks_among(self._maker)

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        if self._maker is None or isinstance(self._maker, int):
            return () if self.mutex is None else OUTSIDE
        return (self._maker,)

    def _fill(self) -> str:
        if self._state == _FULL:
            return " (has its value)"
        made = f"being made by {name_of(self._maker)}" if self._maker is not None else "no value yet"
        return f" ({made}{self._waiting()})"


class _Wait(QueuedWait):
    """Waiting for the value."""

    __slots__ = ()
    resource: Once[Any]

    def poll(self) -> bool:
        once = self.resource
        self.value = once._value
        return once._state == _FULL

    def describe(self) -> str:
        return f"wait for {self.resource.describe()}"


class _Ask(_Wait):
    """Waiting for the value, or for the turn to make it. ``owner`` is set from polling on."""

    __slots__ = ("owner",)

    def poll(self) -> bool:
        if super().poll():
            return True
        once = self.resource
        me = self.owner = owner_of(self)
        if once._state == _EMPTY:
            once._state, once._maker = _MAKING, me
            self.value = _YOURS
            return True
        if once._maker == me:
            raise OwnershipError(
                f"{name_of(me)} makes the value of {once.describe()} and asks for it: it would wait for itself"
            )
        return False

    def undo(self, value: Any) -> None:
        if value is _YOURS:
            once = self.resource
            if once.mutex is None:
                once._hand_over()
            else:
                with once.mutex:
                    once._hand_over()
