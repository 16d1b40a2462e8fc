"""What was taken from the real world before any simulated one was open, found where it is kept and replaced for as long as doors are open.

Locks first. C's can't be told from inside that a world is running: a simulated thread that waits for one stops the OS thread, and with it
the world. So a module's ``lock = threading.Lock()``, those inside what a module keeps (a cache, a queue, an event), those of ``logging``
and its handlers, and those that a scenario refers to, become locks of ``locks``; outside worlds these are the real ones.

And functions that have doors, where they were taken other than by a name in a module: ``def __init__(self, clock=time.monotonic)``,
``field(default_factory=threading.Lock)`` or ``datetime.now``, ``self.sleep = time.sleep``.

What is looked through: the functions and classes of every module; of the user's own modules everything that hangs on them too, up to
a limit. What is held by C alone (a schema compiled by pydantic, an attribute of an extension type) is not found.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from _queue import SimpleQueue as _RealQueue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import getitem, setitem
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, cast

from ..sites import is_inner
from .locks import Lock, RLock
from .queues import SimpleQueue

_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_INSTALLED = f"{os.sep}site-packages{os.sep}"
# Never looked into: they hold the real things that everything else stands on, or what stands on those is replaced whole.
_LEFT_ALONE = ("threading", "_thread", "importlib", "bateau.sim", "_pytest", "pytest", "multiprocessing", "subprocess")
# Objects to look at from one module, and from one scenario.
MOST_OF_MODULE, MOST_OF_SCENARIO = 20_000, 2_000
_HEAP_TYPE = 1 << 9
# In functions that are doors (see ``sim/doors``).
MARK = "_bateau_door"
_WRAPPERS = frozenset({staticmethod, classmethod})


def _put_default(function: Any, index: int, value: Any) -> None:
    defaults = function.__defaults__
    function.__defaults__ = (*defaults[:index], value, *defaults[index + 1 :])


# How to read and to replace what a thing keeps, by a key that depends on how it is kept.
_Way = tuple[Callable[[Any, Any], Any], Callable[[Any, Any, Any], Any]]
_ITEM: _Way = getitem, setitem
_ATTRIBUTE: _Way = getattr, setattr
_IN_CLASS: _Way = (lambda cls, name: vars(cast("type", cls))[name]), setattr
_DEFAULT: _Way = (lambda function, index: function.__defaults__[index]), _put_default
_SLOT: _Way = (lambda thing, member: member.__get__(thing)), (lambda thing, member, value: member.__set__(thing, value))
# None: it can't be replaced there.
_Where = tuple[_Way, Any, Any] | None


class _Place:
    """Somewhere a real thing is kept."""

    __slots__ = ("adopted", "key", "real", "thing", "way")

    def __init__(self, way: _Way, thing: Any, key: Any, real: Any, adopted: Any) -> None:
        self.way = way
        self.thing = thing
        self.key = key
        self.real = real
        self.adopted = adopted

    def change(self, now: Any, then: Any) -> None:
        """Put ``then`` there, if ``now`` is still what is there: else its owner has changed or dropped it, and that stays."""
        read, put = self.way
        try:
            if read(self.thing, self.key) is now:
                put(self.thing, self.key, then)
        except (AttributeError, LookupError, TypeError, ValueError):
            return


# Those in modules stay known from one opening to the next; those of scenarios are forgotten when the doors are shut.
_lasting: list[_Place] = []
_passing: list[_Place] = []
_looked_through: dict[str, ModuleType] = {}
# By the address of the real lock, which its adopted one keeps alive.
_adopted: dict[int, Any] = {}
# What has a door, by its address: the real thing and what stands for it.
_doors: dict[int, tuple[Any, Any]] = {}
_standing: set[int] = set()
# Methods of C's date classes, of which each look makes a new object: by class and name.
_bound: dict[tuple[Any, str], Any] = {}


def adopt(doors: Iterable[tuple[Any, Any]], bound: dict[tuple[Any, str], Any]) -> None:
    """The doors have been opened: these real things, for which those stand now; and ``bound`` methods of classes made in C."""
    _doors.update((id(real), (real, stands)) for real, stands in doors)
    _standing.update(id(stands) for _, stands in _doors.values())
    _bound.update(bound)
    for place in _lasting:
        place.change(place.real, place.adopted)
    modules: dict[str, Any] = dict(sys.modules)
    for name, module in modules.items():
        if _looked_through.get(name) is not module:
            _looked_through[name] = module
            if isinstance(module, ModuleType) and not name.startswith(_LEFT_ALONE):  # anything may be put there
                _lasting.extend(_in_module(module))
    references: Any = vars(logging)["_handlerList"]
    for reference in tuple(references):
        handler: Any = reference()
        if handler is not None:
            _passing.extend(_replace((_ATTRIBUTE, handler, "lock"), handler.lock))


def adopt_from(scenario: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Look through what a scenario refers to, too. Returns its arguments with the real things among them replaced."""
    _passing.extend(_walk((scenario, *arguments), MOST_OF_SCENARIO))
    replaced = ((each, _replacement(each)) for each in arguments)
    return tuple(each if stands is None else stands for each, stands in replaced)


def give_back() -> None:
    """The doors have been shut: everything is as it was."""
    for place in (*_passing, *_lasting):
        place.change(place.adopted, place.real)
    _passing.clear()
    _doors.clear()
    _standing.clear()


# -- looking ---------------------------------------------------------------------------------------------------------------


def _in_module(module: ModuleType) -> Iterator[_Place]:
    file = getattr(module, "__file__", None)
    names = vars(module)
    if file and not is_inner(file) and _INSTALLED not in file:
        yield from _walk((names,), MOST_OF_MODULE)
        return
    for name, value in tuple(names.items()):
        if type(value) is _LOCK or type(value) is _RLOCK:
            yield from _replace((_ITEM, names, name), value)
        elif id(value) in _standing or getattr(value, "__module__", None) != module.__name__:
            continue
        elif type(value) is FunctionType:
            yield from _in_function(value)
        elif isinstance(value, type):
            for child, place in _children(value):
                yield from _replace(place, child)
                inner = child.__func__ if type(child) in _WRAPPERS else child
                if type(inner) is FunctionType:
                    yield from _in_function(inner)


def _in_function(function: FunctionType) -> Iterator[_Place]:
    if MARK not in function.__dict__ and (function.__defaults__ or function.__kwdefaults__ or function.__closure__):
        for child, place in _children(function):
            yield from _replace(place, child)
            if type(child) is CellType:
                for content, place_in_cell in _children(child):
                    yield from _replace(place_in_cell, content)


def _walk(roots: Iterable[Any], most: int) -> Iterator[_Place]:
    todo: deque[Any] = deque(roots)
    seen: set[int] = set(map(id, todo))
    while todo and most:
        most -= 1
        for child, place in _children(todo.popleft()):
            found = tuple(_replace(place, child))
            if found:
                yield from found
            elif id(child) not in seen and _is_worth(child):
                seen.add(id(child))
                todo.append(child)


def _children(thing: Any) -> Iterator[tuple[Any, _Where]]:
    """What ``thing`` refers to, and how that could be replaced in it."""
    kind = cast("Any", type(thing))
    if kind is dict:
        for key, value in tuple(thing.items()):
            yield value, (_ITEM, thing, key)
    elif kind is list:
        for index, value in enumerate(tuple(thing)):
            yield value, (_ITEM, thing, index)
    elif kind in {tuple, set, frozenset, deque}:
        for value in tuple(thing):
            yield value, None
    elif kind is FunctionType:
        yield from ((cell, None) for cell in thing.__closure__ or ())
        for index, value in enumerate(thing.__defaults__ or ()):
            yield value, (_DEFAULT, thing, index)
        named: dict[str, Any] = thing.__kwdefaults__ or {}
        for name, value in tuple(named.items()):
            yield value, (_ITEM, named, name)
    elif kind is CellType:
        try:
            yield thing.cell_contents, (_ATTRIBUTE, thing, "cell_contents")
        except ValueError:  # it is empty
            return
    elif kind is MethodType:
        yield thing.__self__, None
        yield thing.__func__, None
    elif kind in _WRAPPERS:
        yield thing.__func__, None
    elif kind is property:
        yield from ((each, None) for each in (thing.fget, thing.fset, thing.fdel))
    elif isinstance(thing, type):
        for name, value in tuple(vars(thing).items()):
            yield value, (_IN_CLASS, thing, name)
    else:
        yield from _of_instance(thing, kind)


def _of_instance(thing: Any, kind: type) -> Iterator[tuple[Any, _Where]]:
    held: Any = getattr(thing, "__dict__", None)
    if cast("Any", type(held)) is dict:
        names = cast("dict[str, Any]", held)
        for name, value in tuple(names.items()):
            if name != "_tstate_lock":  # a thread's own, which the interpreter releases
                yield value, (_ITEM, names, name)
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            member = base.__dict__.get(slot)
            if member is not None and hasattr(member, "__set__"):
                try:
                    yield member.__get__(thing, kind), (_SLOT, thing, member)
                except AttributeError:  # nothing is in it
                    continue


def _is_worth(child: Any) -> bool:
    """Whether a lock might hang on it."""
    kind = cast("Any", type(child))
    if id(child) in _standing or (kind is FunctionType and MARK in child.__dict__):
        return False
    if kind in {FunctionType, CellType, MethodType, property} or kind in _WRAPPERS:
        return True
    if kind in {dict, list, tuple, set, frozenset, deque}:
        return len(child) > 0
    if not gc.is_tracked(child):
        return False
    if isinstance(child, type):
        return bool(child.__flags__ & _HEAP_TYPE) and _is_users(child)
    return (
        bool(kind.__flags__ & _HEAP_TYPE)
        and not issubclass(kind, ModuleType)
        and not str(kind.__module__).startswith(_LEFT_ALONE[2:])
    )


def _is_users(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    return bool(file) and not is_inner(str(file)) and _INSTALLED not in str(file)


# -- replacing -------------------------------------------------------------------------------------------------------------


def _replacement(value: Any) -> Any:
    """What stands for ``value`` in worlds; None if that is itself."""
    kind = cast("Any", type(value))
    if kind is _LOCK or kind is _RLOCK or kind is _RealQueue:
        return _adopted_for(value)
    door = _doors.get(id(value))
    if door is not None and door[0] is value:
        return door[1]
    if kind is BuiltinFunctionType and value.__self__ is not None:
        owner = value.__self__
        if type(owner) is _LOCK or type(owner) is _RLOCK:  # ``Condition`` keeps methods of its lock
            return getattr(_adopted_for(owner), value.__name__, None)
        return _bound.get((owner, value.__name__)) if isinstance(owner, type) else None
    if kind in _WRAPPERS:
        inner = _replacement(value.__func__)
        return None if inner is None else kind(inner)
    if kind is partial:
        inner = _replacement(value.func)
        return None if inner is None else partial(inner, *value.args, **value.keywords)
    return None


def _replace(where: _Where, real: Any) -> Iterator[_Place]:
    if where is None:
        return
    made = _replacement(real)
    if made is None:
        return
    way, thing, key = where
    if way is _IN_CLASS and type(made) is FunctionType and type(real) is not FunctionType:
        made = staticmethod(made)  # C's functions do not become methods; what stands for them is Python's and would
    try:
        way[1](thing, key, made)
    except Exception:  # what keeps it does not let go: a metaclass, a descriptor, a frozen class may raise anything
        return
    yield _Place(way, thing, key, real, made)


def _adopted_for(real: Any) -> Any:
    made = _adopted.get(id(real))
    if made is None:
        if type(real) is _LOCK:
            made = Lock(None, real=real)
        elif type(real) is _RLOCK:
            made = RLock(None, real=real)
        else:
            made = SimpleQueue.adopting(real)
        _adopted[id(real)] = made
    return made
