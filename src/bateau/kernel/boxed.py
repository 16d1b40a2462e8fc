"""Recursion of any depth: ``@boxed`` functions await each other on a stack of their own instead of the interpreter's.

Theory of operation. Awaiting a coroutine makes each resume walk the whole chain of awaits, and a chain of a thousand meets
the recursion limit. A call of a boxed function gives a ``Boxed``. The outermost one that is awaited becomes the
*trampoline*: it keeps the coroutines of all boxed calls below it in a list and resumes only the last. A nested one, when
awaited, yields itself (a *marker*); the marker passes through whatever unboxed coroutines and generators lie between, up
to the trampoline, which puts the nested call's coroutine on top of its list. When the top ends, its value or exception is
given to the one below, at the very await that had yielded the marker. So a resume costs the same at any depth, and
exceptions, cancellation and ``close`` unwind in a loop.

Whether a trampoline lies below is known from ``task.boxes``: set exactly while a trampoline of that task is being resumed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator
from functools import update_wrapper
from types import CoroutineType, FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

from .current import current_task_or_none

T = TypeVar("T")
P = ParamSpec("P")

NEW, CALLED, ROOT, CLOSED = range(4)

_CO_COROUTINE = 0x80  # inspect's flag, without importing inspect

# A traceback longer than this is cut in the middle, to this many entries at each end.
_TRACEBACK_LIMIT = 64
_TRACEBACK_KEEP = 8


class Boxed(Coroutine[Any, Any, T]):
    """A call of a boxed function: a coroutine like any other, to be awaited or spawned once.

    Invariants: ``_coro`` is set while NEW. CALLED means that a trampoline runs the coroutine and this object only hands
    over its end. ROOT means that this is the trampoline, and ``_stack`` holds the suspended coroutines, outermost first;
    it is empty once the call has ended.
    """

    __slots__ = ("__weakref__", "_coro", "_stack", "_state")

    def __init__(self, coro: CoroutineType[Any, Any, Any]) -> None:
        self._coro: CoroutineType[Any, Any, Any] | None = coro
        self._state = NEW
        self._stack: list[CoroutineType[Any, Any, Any]] = []

    def __await__(self) -> Generator[Any, Any, T]:
        if self._state is not NEW:
            raise RuntimeError("cannot reuse already awaited boxed call; call the function again")
        return self  # pyright: ignore[reportReturnType]  # it has a generator's methods, all that await asks for

    def __iter__(self) -> Boxed[T]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        """Resume it, as ``coroutine.send``."""
        state = self._state
        if state is ROOT:
            return self._run(value, None)
        if state is CALLED:  # resumed by the trampoline: the call has returned ``value``
            self._state = CLOSED
            raise StopIteration(value)
        return self._first(value, None)

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> Any:
        """Throw an exception in where it is suspended, as ``coroutine.throw``."""
        error: BaseException
        if isinstance(typ, BaseException):
            error = typ
        else:
            error = val if isinstance(val, BaseException) else typ() if val is None else typ(val)
        if tb is not None:
            error.__traceback__ = tb
        state = self._state
        if state is ROOT:
            return self._run(None, error)
        if state is CALLED:
            self._state = CLOSED
            raise error
        return self._first(None, error)

    def close(self) -> None:
        """Close every call on the stack, innermost first, as ``coroutine.close`` does for a chain of awaits."""
        if self._state is NEW:
            self._state = CLOSED
            if self._coro is not None:
                self._coro.close()
                self._coro = None
        elif self._state is ROOT:
            self._state = CLOSED
            self._unwind()

    def __del__(self) -> None:
        # The stack must be closed from the top, and with the trampoline of whatever task is running now out of the way.
        if self._state is ROOT and self._stack:
            self.close()

    # -- running -------------------------------------------------------------------------------------------------------

    def _first(self, value: Any, error: BaseException | None) -> Any:
        coro, self._coro = self._coro, None
        if coro is None:
            raise RuntimeError("cannot reuse already awaited boxed call; call the function again")
        task = current_task_or_none()
        if error is None and task is not None and task.boxes is not None:
            self._state = CALLED
            # Handed over in the marker's field, so that no chain of references runs through the whole recursion.
            self._coro = coro
            return self
        self._state = ROOT
        self._stack.append(coro)
        return self._run(value, error)

    def _run(self, value: Any, error: BaseException | None) -> Any:
        """Resume the top of the stack, and go on until something is to be yielded to the runtime or the call has ended."""
        task = current_task_or_none()
        if task is None:
            return self._loop(value, error)
        outer, task.boxes = task.boxes, self
        try:
            return self._loop(value, error)
        finally:
            task.boxes = outer

    def _loop(self, value: Any, error: BaseException | None) -> Any:
        stack = self._stack
        if not stack:
            raise RuntimeError("cannot reuse already awaited boxed call; call the function again")
        cut = failures = 0
        while True:
            top = stack[-1]
            try:
                if error is None:
                    trap: Any = top.send(value)
                else:
                    trap = top.throw(error)
                    error = None
            except StopIteration as stop:
                del stack[-1]
                value, error = stop.value, None
            except BaseException as raised:
                del stack[-1]
                if raised is not error:
                    cut = failures = 0
                failures += 1
                cut += _trim(raised, failures % _TRACEBACK_KEEP == 0 or not stack)
                error = raised
            else:
                if _is_call(trap):
                    stack.append(trap._coro)
                    trap._coro = None
                    value = None
                    continue
                return trap
            # Outside the handlers, so that what the next one raises does not get this exception as its context.
            if not stack:
                self._state = CLOSED
                if error is None:
                    raise StopIteration(value)
                if cut:
                    error.add_note(f"{cut} frames of boxed calls left out of the middle of this traceback")
                try:
                    raise error
                finally:
                    del (
                        error
                    )  # a frame that holds the exception that holds the frame would live until the collector comes

    def _unwind(self) -> None:
        task = current_task_or_none()
        outer = None
        if task is not None:
            # A boxed call awaited in a finally block has no trampoline left to yield to: it becomes one.
            outer, task.boxes = task.boxes, None
        error: BaseException | None = None
        stack = self._stack
        try:
            while stack:
                error = _close_one(stack.pop(), error)
        finally:
            if task is not None:
                task.boxes = outer
        if error is not None:
            try:
                raise error
            finally:
                del error

    # -- as a coroutine, for those who look ----------------------------------------------------------------------------

    @property
    def cr_await(self) -> Any:
        """What the innermost call awaits."""
        top = self._top()
        return top.cr_await if top is not None else None

    @property
    def cr_frame(self) -> FrameType | None:
        """The innermost call's frame."""
        top = self._top()
        return top.cr_frame if top is not None else None

    @property
    def cr_running(self) -> bool:
        """Whether it is being resumed now."""
        top = self._top()
        return top is not None and top.cr_running

    @property
    def depth(self) -> int:
        """How many boxed calls are on this trampoline's stack."""
        return len(self._stack)

    @property
    def calls(self) -> tuple[CoroutineType[Any, Any, Any], ...]:
        """The coroutines on the stack, outermost first."""
        return tuple(self._stack)

    def _top(self) -> CoroutineType[Any, Any, Any] | None:
        return self._stack[-1] if self._stack else self._coro

    def __repr__(self) -> str:
        return f"<boxed call {getattr(self._top(), '__qualname__', '(ended)')}, {len(self._stack)} deep>"


def _is_call(trap: Any) -> bool:
    """Whether what was yielded is a nested call that is to be put on the stack."""
    return type(trap) is Boxed and trap._state is CALLED and trap._coro is not None


def _close_one(coro: CoroutineType[Any, Any, Any], error: BaseException | None) -> BaseException | None:
    """Close one level, or throw in the error that closing the level above raised. Returns the error left, if any."""
    try:
        if error is None:
            coro.close()
        else:
            coro.throw(error)
            coro.close()
            return RuntimeError("coroutine ignored GeneratorExit")
    except (StopIteration, GeneratorExit):
        return None
    except BaseException as raised:
        return raised
    return None


def _trim(error: BaseException, shorten: bool) -> int:
    """Drop the trampoline's own entry; ``shorten``: cut the middle out of a long traceback. Returns how many went.

    Done while a recursion unwinds, so that a hundred thousand frames are freed as they end instead of being kept alive by
    the traceback.
    """
    tb = error.__traceback__
    first = tb.tb_next if tb is not None else None
    if first is None:
        return 0
    error.__traceback__ = first
    if not shorten:
        return 0
    entries: list[TracebackType] = []
    found: TracebackType | None = first
    while found is not None:
        entries.append(found)
        found = found.tb_next
    if len(entries) <= _TRACEBACK_LIMIT:
        return 0
    chain: TracebackType | None = entries[-_TRACEBACK_KEEP]
    for entry in reversed(entries[:_TRACEBACK_KEEP]):
        chain = TracebackType(chain, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    error.__traceback__ = chain
    return len(entries) - 2 * _TRACEBACK_KEEP


def boxed(fn: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate an async function that recurses, directly or through others: any depth works, at a constant cost per resume.

    ``@bateau.boxed`` calls that await each other (with unboxed functions between them or not) run on a coroutine stack kept
    by the task, so there is no ``RecursionError``, and an exception from any depth has a short traceback. Everything else is
    as with a plain async function: its values, errors, cancellation, methods, and other runtimes' awaitables inside. There is
    no limit of depth, so a runaway recursion ends only when memory does. Raises ``TypeError`` for what is not an async
    function. A call costs a little more than an unboxed one: decorate what recurses deeply, not everything.
    """
    code = getattr(fn, "__code__", None)
    if not callable(fn) or not getattr(code, "co_flags", _CO_COROUTINE) & _CO_COROUTINE:  # type: ignore[redundant-expr]  # users are not type-checked
        raise TypeError(f"boxed needs an async function, not {getattr(fn, '__qualname__', None) or type(fn).__name__}")

    def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        coro = fn(*args, **kwargs)
        if not isinstance(coro, CoroutineType):
            raise TypeError(f"boxed needs an async function: {fn!r} returned a {type(coro).__name__}")
        return Boxed(coro)

    update_wrapper(call, fn)
    if sys.version_info >= (3, 12):
        from inspect import markcoroutinefunction

        markcoroutinefunction(call)  # for frameworks that ask before they call
    return call
