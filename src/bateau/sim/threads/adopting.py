"""The locks that were made before any world was open, found where they are kept and replaced for as long as doors are open.

C's locks can't be told from inside that a world is running: a simulated thread that waits for one stops the OS thread, and with it the
world. So a module's ``lock = threading.Lock()``, those inside what a module keeps (a cache, a queue, an event), those of the ``logging``
module and of its handlers, and those that a scenario refers to, become locks of ``locks``; outside worlds these are the real ones.

What is looked through: the globals of every module; of the user's own modules everything that hangs on them too, up to a limit.
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
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, cast

from ..sites import is_inner
from .locks import Lock, RLock
from .queues import SimpleQueue

_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_INSTALLED = f"{os.sep}site-packages{os.sep}"
# Never looked into: they hold the real locks that everything else stands on, or what stands on those is replaced whole.
_LEFT_ALONE = ("threading", "_thread", "importlib", "bateau.sim", "_pytest", "pytest", "multiprocessing", "subprocess")
# Objects to look at from one module, and from one scenario.
MOST_OF_MODULE, MOST_OF_SCENARIO = 20_000, 2_000
_HEAP_TYPE = 1 << 9

Setter = Callable[[Any], object]


class _Place:
    """Somewhere a real lock is kept."""

    __slots__ = ("adopted", "real", "set")

    def __init__(self, set: Setter, real: Any, adopted: Any) -> None:
        self.set = set
        self.real = real
        self.adopted = adopted


# Those in modules stay known from one opening to the next; those of scenarios are forgotten when the doors are shut.
_lasting: list[_Place] = []
_passing: list[_Place] = []
_looked_through: dict[str, ModuleType] = {}
# By the address of the real lock, which its adopted one keeps alive.
_adopted: dict[int, Any] = {}


def adopt() -> None:
    """The doors have been opened."""
    for place in _lasting:
        place.set(place.adopted)
    modules: dict[str, Any] = dict(sys.modules)
    for name, module in modules.items():
        if _looked_through.get(name) is not module:
            _looked_through[name] = module
            if isinstance(module, ModuleType) and not name.startswith(_LEFT_ALONE):  # anything may be put there
                _lasting.extend(_in_module(module))
    references: Any = vars(logging)["_handlerList"]
    for reference in tuple(references):
        handler: Any = reference()
        if handler is not None and _is_real(handler.lock):
            _passing.extend(_replace(_attribute(handler, "lock"), handler.lock))


def adopt_from(scenario: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Look through what a scenario refers to, too. Returns its arguments with the locks among them replaced."""
    _passing.extend(_walk((scenario, *arguments), MOST_OF_SCENARIO))
    return tuple(_adopted_for(each) if _is_real(each) else each for each in arguments)


def give_back() -> None:
    """The doors have been shut: everything is as it was."""
    for place in (*_passing, *_lasting):
        place.set(place.real)
    _passing.clear()


# -- looking ---------------------------------------------------------------------------------------------------------------


def _in_module(module: ModuleType) -> Iterator[_Place]:
    file = getattr(module, "__file__", None)
    if not file or is_inner(file) or _INSTALLED in file:
        names: Any = vars(module)
        for name, value in tuple(names.items()):
            if _is_real(value):
                yield from _replace(_item(names, name), value)
    else:
        yield from _walk((vars(module),), MOST_OF_MODULE)


def _walk(roots: Iterable[Any], most: int) -> Iterator[_Place]:
    todo: deque[Any] = deque(roots)
    seen: set[int] = set(map(id, todo))
    while todo and most:
        most -= 1
        for child, place in _children(todo.popleft()):
            if place is not None and _is_real(child):
                yield from _replace(place, child)
            elif id(child) not in seen and _is_worth(child):
                seen.add(id(child))
                todo.append(child)


def _children(thing: Any) -> Iterator[tuple[Any, Setter | None]]:
    """What ``thing`` refers to, and how that could be replaced in it."""
    kind = cast("Any", type(thing))
    if kind is dict:
        for key, value in tuple(thing.items()):
            yield value, _item(thing, key)
    elif kind is list:
        for index, value in enumerate(tuple(thing)):
            yield value, _item(thing, index)
    elif kind in {tuple, set, frozenset, deque}:
        for value in tuple(thing):
            yield value, None
    elif kind is FunctionType:
        yield from ((cell, None) for cell in thing.__closure__ or ())
        yield thing.__defaults__, None
        yield thing.__kwdefaults__, None
    elif kind is CellType:
        try:
            yield thing.cell_contents, _attribute(thing, "cell_contents")
        except ValueError:  # it is empty
            return
    elif kind is MethodType:
        yield thing.__self__, None
        yield thing.__func__, None
    elif isinstance(thing, type):
        for name, value in tuple(vars(thing).items()):
            yield value, _attribute(thing, name)
    else:
        yield from _of_instance(thing, kind)


def _of_instance(thing: Any, kind: type) -> Iterator[tuple[Any, Setter | None]]:
    names: dict[str, Any] | None = getattr(thing, "__dict__", None)
    if isinstance(names, dict):
        for name, value in tuple(names.items()):
            if name != "_tstate_lock":  # a thread's own, which the interpreter releases
                yield value, _item(names, name)
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            member = base.__dict__.get(slot)
            if gc.is_tracked(thing) and member is not None and hasattr(member, "__set__"):
                try:
                    yield member.__get__(thing, kind), _slot(member, thing)
                except AttributeError:  # nothing is in it
                    continue


def _is_worth(child: Any) -> bool:
    """Whether a lock might hang on it."""
    kind = cast("Any", type(child))
    if not gc.is_tracked(child) and kind not in {CellType, dict, tuple}:
        return False
    if kind in {dict, list, tuple, set, frozenset, deque, FunctionType, CellType, MethodType}:
        return True
    if isinstance(child, ModuleType) or not kind.__flags__ & _HEAP_TYPE:
        return isinstance(child, type) and bool(child.__flags__ & _HEAP_TYPE) and _is_users(child)
    return _is_users(child) if isinstance(child, type) else not kind.__module__.startswith(_LEFT_ALONE[2:])


def _is_users(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    return bool(file) and not is_inner(str(file)) and _INSTALLED not in str(file)


def _is_real(value: Any) -> bool:
    kind = cast("Any", type(value))
    if kind is BuiltinMethodType:  # ``Condition`` keeps methods of its lock
        return type(value.__self__) in (_LOCK, _RLOCK)
    return kind is _LOCK or kind is _RLOCK or kind is _RealQueue


# -- replacing -------------------------------------------------------------------------------------------------------------


def _replace(place: Setter, real: Any) -> Iterator[_Place]:
    if type(real) is BuiltinMethodType:
        made = getattr(_adopted_for(real.__self__), real.__name__, None)
        if made is None:
            return
    else:
        made = _adopted_for(real)
    try:
        place(made)
    except (AttributeError, TypeError):  # what keeps it does not let go
        return
    yield _Place(place, real, made)


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


def _item(container: Any, key: Any) -> Setter:
    def put(value: Any) -> None:
        container[key] = value

    return put


def _attribute(thing: Any, name: str) -> Setter:
    return lambda value: setattr(thing, name, value)


def _slot(member: Any, thing: Any) -> Setter:
    return lambda value: member.__set__(thing, value)
