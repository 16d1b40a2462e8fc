"""The tables of a snapshot while it is being made: each frame, stack and resource once, everything else by its id.

Also where a coroutine is suspended, through every ``await`` below it. Nothing here runs the program's own code, takes a lock of
it, or touches local variables by way of ``f_locals`` (which would keep them alive); it may be called from any thread.

One effect remains where there is no C form of it: CPython makes a frame object for each suspended coroutine that is looked at, and keeps
it until that ends.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import repeat
from types import (
    BuiltinMethodType,
    CellType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodDescriptorType,
    MethodType,
)
from typing import Any, cast

from ..kernel import operation
from ..kernel.errors import PACKAGE_DIR
from ..kernel.explain import INSTALLED, STDLIB
from . import model
from .model import Whose, make

# More of a runaway recursion than anybody reads.
DEEPEST = 1000
MOST_WAITERS = 1000

_GENERATOR_LIKE = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable")
_PLAIN = (CoroutineType, GeneratorType, type(None))
_OPERATIONS = operation.__file__
_PACKAGES = tuple({PACKAGE_DIR, os.path.realpath(PACKAGE_DIR) + os.sep})


def whose(filename: str) -> Whose:
    """Whose code is in this file."""
    if filename.startswith(_PACKAGES):
        return "bateau"
    if filename.startswith(INSTALLED) or f"{os.sep}site-packages{os.sep}" in filename:
        return "package"
    if filename.startswith((STDLIB, "<frozen ")):
        return "stdlib"
    return "user"


# What `Stacks.of` answers for a chain with links that only Python can follow.
_NOT_KNOWN = -2


def native_part(name: str) -> Any:
    """A part of the C module; None where it was not built, or ``BATEAU_PURE`` is 1."""
    if os.environ.get("BATEAU_PURE") == "1":
        return None
    try:
        return getattr(import_module("bateau._native"), name, None)
    except ImportError:
        return None


def native_stacks() -> Any:
    """What reads stacks in C, without frame objects; None where there is none."""
    made = native_part("Stacks")
    return made(_OPERATIONS) if made is not None else None


def steady(read: Callable[[], Iterable[Any]]) -> list[Any]:
    """A list of what another thread may be changing. Empty if it never holds still, which a finite number of tries shows."""
    for _ in range(100):
        try:
            return list(read())
        except (RuntimeError, KeyError):  # it changed while it was being read
            continue
    return []


def steady_copy(things: Iterable[Any]) -> list[Any]:
    """``steady`` for a collection that is there, and may change."""
    return steady(lambda: things)


def next_in_chain(awaited: Any) -> Any:
    """What a coroutine (or generator) is awaiting, or None."""
    found = getattr(awaited, "cr_await", None)
    if found is None:
        found = getattr(awaited, "gi_yieldfrom", None)
        if found is None:
            found = getattr(awaited, "ag_await", None)
    if found is not None and type(found).__name__ in _GENERATOR_LIKE:
        # Such an object hides what it drives; the collector knows.
        for inner in gc.get_referents(found):
            if hasattr(inner, "cr_frame") or hasattr(inner, "ag_frame") or hasattr(inner, "gi_frame"):
                return inner
    return found


def chain_of(coro: Any) -> Iterator[Any]:
    """The coroutine and everything it awaits, outermost first; the last may be something else (a future)."""
    awaited = coro
    for _ in range(DEEPEST):
        if awaited is None:
            return
        yield awaited
        awaited = next_in_chain(awaited)


def referents(coro: Any) -> list[Any]:
    """The values of a suspended coroutine's local variables and of its value stack, in no promised order."""
    found = gc.get_referents(coro)
    for value in found:
        if type(value) is CellType:  # a variable that an inner function uses as well
            found.extend(gc.get_referents(value))
    return found


def exits(values: Iterable[Any], name: str) -> Iterator[Any]:
    """What the ``with`` blocks among a coroutine's ``referents`` are open on: the objects whose ``name`` (``__aexit__``) stands on its stack.

    Until Python 3.13 as a bound method; from 3.14 on as a function with the object after it.
    """
    before: Any = None
    for value in values:
        if isinstance(value, MethodType | BuiltinMethodType):
            if value.__name__ == name:
                yield value.__self__
        elif isinstance(before, FunctionType | MethodDescriptorType) and before.__name__ == name:
            kind = cast("type[object]", type(value))
            if getattr(kind, name, None) is before:  # else it is a variable that happens to stand before another
                yield value
        before = value


class Tables:
    """See the module's head. ``now``: the monotonic time at which it began."""

    def __init__(self) -> None:
        self.frames: list[model.Frame] = []
        self.stacks: list[tuple[int, ...]] = []
        self.tasks: dict[int, dict[str, Any]] = {}
        self.scopes: dict[int, dict[str, Any]] = {}
        self.resources: dict[int, dict[str, Any]] = {}
        self.runtimes: dict[int, dict[str, Any]] = {}
        self.timers: list[model.Timer] = []
        self.fds: list[model.Fd] = []
        self.offloads: list[model.Offload] = []
        self.gaps: list[str] = []
        # By code (kept alive beside it, so that its address stays its own) and instruction.
        self._points: dict[tuple[int, int], int] = {}
        self._codes: dict[int, CodeType] = {}
        self._sites: dict[tuple[str, int, str], int] = {}
        self._stack_ids: dict[tuple[int, ...], int] = {}
        self._whose: dict[str, Whose] = {}
        self._waiting: dict[int, bool] = {}
        # The C form of `stack_of`, or None; and for each of its stacks the one here.
        self._fast = native_stacks()
        self._fast_ids: list[int | None] = []
        # Things whose address is an id in this snapshot, kept so that no other gets the same one meanwhile.
        self.kept: list[Any] = []

    def gap(self, text: str) -> None:
        """Say, once, that something could not be read."""
        if text not in self.gaps and len(self.gaps) < 100:
            self.gaps.append(text)

    # -- frames --------------------------------------------------------------------------------------------------------

    def site(self, file: str, line: int, function: str = "") -> int:
        """The index of a line."""
        key = (file, line, function)
        index = self._sites.get(key)
        if index is None:
            owner = self._whose.get(file)
            if owner is None:
                owner = self._whose[file] = whose(file)
            index = self._sites[key] = len(self.frames)
            self.frames.append(make(model.Frame, {"file": file, "line": line, "function": function, "whose": owner}))
        return index

    def point(self, code: CodeType, lasti: int) -> int:
        """The index of an instruction's line: lines are worked out once for each."""
        key = (id(code), lasti)
        index = self._points.get(key)
        if index is None:
            self._codes[id(code)] = code
            line = code.co_firstlineno
            for start, end, number in code.co_lines():
                if start <= lasti < end:
                    line = number or line
                    break
            index = self._points[key] = self.site(code.co_filename, line, code.co_qualname)
        return index

    def stack_id(self, indices: list[int]) -> int | None:
        """The index of a stack; None for an empty one."""
        if not indices:
            return None
        key = tuple(indices)
        index = self._stack_ids.get(key)
        if index is None:
            index = self._stack_ids[key] = len(self.stacks)
            self.stacks.append(key)
        return index

    def stack_of(self, coro: Any) -> int | None:
        """Where a suspended coroutine is, through everything it awaits."""
        if self._fast is not None and coro is not None:
            known: int = self._fast.of(coro)
            if known >= len(self._fast_ids):
                for places in self._fast.stacks[len(self._fast_ids) :]:
                    self._fast_ids.append(self.stack_id([self.point(code, lasti) for code, lasti in places]))
            if known != _NOT_KNOWN:
                return self._fast_ids[known] if known >= 0 else None
        indices: list[int] = []
        points = self._points
        awaited = coro
        while awaited is not None and len(indices) < DEEPEST:
            kind = type(awaited)  # pyright: ignore[reportUnknownVariableType]  # of whatever
            if kind is CoroutineType:  # written out: this runs for each frame of 100,000 tasks
                frame: FrameType | None = awaited.cr_frame
                inner = awaited.cr_await
            elif kind is GeneratorType:
                if self._is_waiting(awaited.gi_code):
                    break
                frame = awaited.gi_frame
                inner = awaited.gi_yieldfrom
            else:
                frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
                frame = frame or getattr(awaited, "gi_frame", None)
                inner = next_in_chain(awaited)
            if frame is None:
                break
            code = frame.f_code
            lasti = frame.f_lasti
            index = points.get((id(code), lasti))
            indices.append(self.point(code, lasti) if index is None else index)
            if inner is not None and type(inner) not in _PLAIN:
                inner = next_in_chain(awaited)
            awaited = inner
        return self.stack_id(indices)

    def native_look(self, clock: Callable[[Any], float]) -> Any:
        """What reads tasks of the native kernel in C; None where there is none. ``clock``: the time of a host."""
        made = native_part("Look")
        return (
            made(self._fast, self._fast_ids, self.stack_of, self.point, model.Wait, clock) if made is not None else None
        )

    def _is_waiting(self, code: CodeType) -> bool:
        """Whether this is how an operation of bateau's waits: what it waits for is told by the operation, in better words, and no
        frame object need be made for it.
        """
        known = self._waiting.get(id(code))
        if known is None:
            self._codes[id(code)] = code
            known = self._waiting[id(code)] = code.co_filename == _OPERATIONS
        return known

    def stack_of_frame(self, frame: FrameType | None) -> int | None:
        """The stack of a thread: the frame and all its callers. A thread that runs meanwhile may tear it; it stays harmless."""
        indices: list[int] = []
        while frame is not None and len(indices) < DEEPEST:
            indices.append(self.point(frame.f_code, frame.f_lasti))
            frame = frame.f_back
        indices.reverse()
        return self.stack_id(indices)

    # -- the end -------------------------------------------------------------------------------------------------------

    def table(self, name: str, cls: type[Any]) -> tuple[Any, ...]:
        """One of the tables by id, as objects."""
        found = cast("dict[int, dict[str, Any]]", getattr(self, name))
        return tuple(map(make, repeat(cls), found.values()))


def describe(thing: Any, otherwise: str = "") -> str:
    """``thing.describe()``. It may meet a state that is half changed, or be a user's own: then its type has to do."""
    try:
        return str(thing.describe())
    except Exception as error:
        return failed_description(thing, error, otherwise)


def failed_description(thing: Any, error: Exception, otherwise: str = "") -> str:
    """What stands for a description that can't be had."""
    return f"{otherwise or type(thing).__name__} (its description failed: {type(error).__name__})"


def thread_names() -> dict[int, Any]:
    """The process's threads by ident, as far as ``threading`` knows them."""
    threading = sys.modules.get("threading")
    return dict(threading._active) if threading is not None else {}
