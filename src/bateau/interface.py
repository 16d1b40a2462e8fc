"""``Interface``: abstract classes with async methods, checked when a class that implements one is made.

Python's ``abc`` asks whether a method is there, not how it is called: an ``async def`` that is overridden by a ``def`` fails
only when somebody awaits it, far from the mistake. Here the class statement itself fails and says where and what to do.

Two questions are asked of each method. What may a caller do with the call that the interface *declares* (await it, iterate
over it with ``async for``, enter it with ``async with``, or just use the value)? And what does the override *allow*? An answer that
can't be known (``Any``, a type variable, a name that exists for type checkers only) is never a reason to refuse.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from types import FunctionType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin

Use = Literal["await", "async for", "async with"]

_UNKNOWN: Final = object()
_MISSING: Final = object()
_DUNDERS: Final[dict[Use, str]] = {"await": "__await__", "async for": "__aiter__", "async with": "__aenter__"}
# What an annotation is called for which there is no object (it was imported for type checkers only).
_BY_NAME: Final[dict[str, type]] = {
    "AsyncContextManager": AbstractAsyncContextManager,
    **{
        kind.__name__: kind
        for kind in (Awaitable, Coroutine, AsyncIterator, AsyncIterable, AsyncGenerator, AbstractAsyncContextManager)
    },
}
_FIX: Final[dict[Use, str]] = {
    "await": "make it `async def`, or annotate what it returns: `-> Awaitable[...]`",
    "async for": "make it an async generator (`async def` with `yield`), or annotate it: `-> AsyncIterator[...]`",
    "async with": "decorate an async generator with contextlib.asynccontextmanager, or annotate it: "
    "`-> AbstractAsyncContextManager[...]`",
}


class Interface(ABC):  # noqa: B024  # its subclasses have the abstract methods
    """A base for abstract classes with async methods: an override that can't be used as declared is refused at once.

        class Store(bateau.Interface):
            @abstractmethod
            async def get(self, key: str) -> bytes: ...

        class Memory(Store):
            def get(self, key: str) -> bytes: ...      # TypeError here, not when somebody awaits it

    An async method may be overridden by an ``async def``, or by a ``def`` that is annotated as returning an awaitable (an
    operation, a task, ``Awaitable[...]``); the same goes for async iterators and async context managers. A method that is not
    async may not be overridden by one that is. Inherited implementations count as well: what is checked is what a call would
    find. Raises ``TypeError``, naming the class, the method, both lines and the fix, from the ``class`` statement.
    """

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        problems = [problem for name, declared in _declared(cls) for problem in _check(cls, name, declared)]
        if problems:
            raise TypeError("\n".join(problems))


def _declared(cls: type) -> Iterator[tuple[str, tuple[type, Any]]]:
    """Each method that an interface above ``cls`` declares, with that interface: the furthest one, whose word all must keep."""
    found: dict[str, tuple[type, Any]] = {}
    for base in cls.__mro__[1:]:
        if issubclass(base, Interface) and base is not Interface:
            found.update((name, (base, value)) for name, value in vars(base).items() if _function(value) is not None)
    yield from found.items()


def _check(cls: type, name: str, declared: tuple[type, Any]) -> Iterator[str]:
    """Why the method ``name`` of ``cls`` can't stand for the declared one; nothing if it can."""
    interface, declaration = declared
    owner, override = next((base, vars(base)[name]) for base in cls.__mro__ if name in vars(base))
    wanted, given = _function(declaration), _function(override)
    if override is declaration or wanted is None or given is None:
        return
    use = _declared_use(wanted, interface)
    allowed = _allowed_uses(given, owner)
    if use is _UNKNOWN or allowed is _UNKNOWN:
        return
    if use is None:
        how = _how_async(given)
        if how is None:
            return
        reason = f"callers don't await it, but the override is {how}"
        fix = "make it a plain `def`, or the declaration async"
    elif use in allowed:
        return
    else:
        reason = f"callers use it with `{use}`, but the override is {_how_async(given) or _how_sync(given)}"
        fix = _FIX[cast("Use", use)]
        if use == "await" and inspect.isasyncgenfunction(given):
            fix = "declare it as `def ... -> AsyncIterator[...]`, without `async`, if callers are to iterate over it"
    yield (
        f"{cls.__qualname__}.{name} ({_line(given)}) can't override {interface.__qualname__}.{name} ({_line(wanted)}): "
        f"{reason}; {fix}"
    )


def _function(value: Any) -> Callable[..., Any] | None:
    """The callable in a class's attribute, or None if it is something else."""
    if isinstance(value, (staticmethod, classmethod)):
        value = cast("Any", value).__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, (functools.partialmethod, functools.partial)):
        return _function(cast("Any", value).func)
    elif isinstance(value, functools.cached_property):
        value = cast("Any", value).func
    return cast("Callable[..., Any]", value) if isinstance(value, FunctionType) else None


def _declared_use(fn: Callable[..., Any], owner: type) -> Any:
    """What callers are told to do with a call: a ``Use``, None for nothing in particular, or ``_UNKNOWN``."""
    shape = _shape(fn)
    if shape is not None:
        return shape
    kind = _result(fn, owner)
    if kind in (_UNKNOWN, _MISSING):
        return None if kind is _MISSING else _UNKNOWN
    if hasattr(kind, "__await__"):
        return "await"
    if kind in (AsyncIterator, AsyncIterable, AsyncGenerator):
        return "async for"
    return "async with" if kind is AbstractAsyncContextManager else None


def _allowed_uses(fn: Callable[..., Any], owner: type) -> Any:
    """Everything that a call gives can be used for: a set of ``Use``, or ``_UNKNOWN``."""
    shape = _shape(fn)
    if shape is not None:
        return {shape}
    kind = _result(fn, owner)
    if inspect.isgeneratorfunction(fn) or kind is _MISSING:
        return set[Use]()
    return kind if kind is _UNKNOWN else {use for use, dunder in _DUNDERS.items() if hasattr(kind, dunder)}


def _shape(fn: Callable[..., Any]) -> Use | None:
    """What the function's own form tells, seen through decorators; None for a plain one."""
    if isinstance(fn, FunctionType) and fn.__globals__.get("__name__") == "contextlib":
        inner = getattr(fn, "__wrapped__", None)
        return "async with" if inspect.isasyncgenfunction(inner) else None
    if inspect.iscoroutinefunction(fn):
        return "await"
    if inspect.isasyncgenfunction(fn):
        return "async for"
    inner = getattr(fn, "__wrapped__", None)
    return _shape(inner) if inner is not None else None


def _result(fn: Callable[..., Any], owner: type) -> Any:
    """The class that the function is annotated to return, ``_MISSING`` without an annotation, or ``_UNKNOWN``."""
    inner = inspect.unwrap(fn)
    try:
        note = inner.__annotations__.get("return", _MISSING)
    except NameError:  # annotations that are evaluated late name something for type checkers only
        return _UNKNOWN
    if isinstance(note, str):
        text = note
        try:
            # The class is being made, so its own name is not defined yet.
            note = eval(text, getattr(inner, "__globals__", {}), {owner.__name__: owner})
        except Exception:
            head = text.partition("[")[0].rpartition(".")[2].strip("'\" ")
            return _BY_NAME.get(head, _UNKNOWN)
    if note is _MISSING:
        return _MISSING
    if note is None:
        return type(None)
    kind = get_origin(note) or note
    if kind in (Union, UnionType):
        # Some of the members may be awaitable: nobody can tell. If none is, it is a plain value.
        members = [get_origin(member) or member for member in get_args(note)]
        plain = all(isinstance(member, type) and not _is_async(member) for member in members)
        return object if plain and object not in members else _UNKNOWN
    if kind in (Any, object) or isinstance(kind, TypeVar) or not isinstance(kind, type):
        return _UNKNOWN
    return kind


def _is_async(kind: type) -> bool:
    return any(hasattr(kind, dunder) for dunder in _DUNDERS.values())


def _how_async(fn: Callable[..., Any]) -> str | None:
    shape = _shape(fn)
    return {None: None, "await": "`async def`", "async for": "an async generator"}.get(
        shape, "an async context manager"
    )


def _how_sync(fn: Callable[..., Any]) -> str:
    return "a sync generator" if inspect.isgeneratorfunction(fn) else "a plain `def`"


def _line(fn: Callable[..., Any]) -> str:
    code = inspect.unwrap(fn).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"
