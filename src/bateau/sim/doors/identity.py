"""What the order of sets depends on: tasks and futures of asyncio, futures of executors and threads are hashed by a number, not by address.

``asyncio.wait`` returns sets, ``all_tasks`` is one, a task group cancels its tasks in the order of one. Addresses differ from run to run;
here the order follows from the seed (and differs between seeds, as it should: no program may depend on it). Also the names that asyncio
gives tasks are counted in each process from 1.

Objects of a program's own classes that define no ``__hash__`` keep their addresses: the order of a set of them is not under control.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import _base
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..thread import here
from ..threads.table import table_of
from . import at_opening, at_shutting, door, importing, stand_in

if TYPE_CHECKING:
    from ..world import World

_MASK = (1 << 61) - 1


def mixed(world: World) -> int:
    """A number for a new object: all different, in an order that only the seed knows."""
    number = (table_of(world).next("identity") + world.seed * 7919 + world.thread.process.pid * 104729) & _MASK
    number = (number * 0x9E3779B97F4A7C15) & _MASK
    return number ^ number >> 31


def _hash(self: Any) -> int:
    try:
        number: int = self._bateau_hash
        return number
    except AttributeError:  # made outside
        return object.__hash__(self)


# -- executors and threads -------------------------------------------------------------------------------------------------

_Future: Any = _base.Future
_real_future_init, _real_thread_init = _Future.__init__, threading.Thread.__init__
stand_in("concurrent.futures._base:Future", "__hash__", _hash)
stand_in("threading:Thread", "__hash__", _hash)


@door("concurrent.futures._base:Future", "__init__")
def future_init(world: World, future: Any, *args: Any, **kwargs: Any) -> None:
    future._bateau_hash = mixed(world)
    _real_future_init(future, *args, **kwargs)


@door("threading:Thread", "__init__")
def thread_init(world: World, thread: Any, *args: Any, **kwargs: Any) -> None:
    thread._bateau_hash = mixed(world)
    _real_thread_init(thread, *args, **kwargs)


@door("concurrent.futures._base:_AcquireFutures", "__init__")
def acquire_futures(world: World, acquiring: Any, futures: Any) -> None:
    """The order in which ``wait`` takes their locks: by address."""
    acquiring.futures = sorted(futures, key=hash)


# -- asyncio, where a program uses it ----------------------------------------------------------------------------------------


class _Meta(type):
    """What is a task (or future) of asyncio is one of these classes that stand for it."""

    real: type

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real) if "real" in cls.__dict__ else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.real) if "real" in cls.__dict__ else super().__subclasscheck__(subclass)


def _numbered_init(real: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # it is the method of the classes made below
        world = here.world
        if world is not None:
            self._bateau_hash = mixed(world)
        real.__init__(self, *args, **kwargs)

    return __init__


def _named_init(real: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # it is the method of a class, put there by hand
        world = here.world
        if world is not None:
            self._bateau_hash = mixed(world)
            number = table_of(world).next("Task-%d")
            if kwargs.get("name") is None:
                kwargs["name"] = f"Task-{number}"
        real.__init__(self, *args, **kwargs)

    return __init__


def _class_for(real: Any, init: Any) -> Any:
    names = {
        "real": real,
        "__init__": init(real),
        "__hash__": _hash,
        "__module__": real.__module__,
        "__qualname__": real.__qualname__,
        "__doc__": real.__doc__,
    }
    return _Meta(real.__name__, (real,), names)


def _ordered(real: Any) -> Any:
    """``all_tasks`` with a set whose order follows from the hashes of the tasks alone.

    asyncio keeps them in one set for the whole interpreter: where each stands in it depends on all that were in it before.
    """

    def all_tasks(loop: Any = None) -> set[Any]:
        found: set[Any] = real(loop)
        return found if here.world is None else set(sorted(found, key=hash))  # noqa: C414  # where they stand depends on the order

    all_tasks.__doc__ = real.__doc__
    return all_tasks


# For each module and name: the real class, or function.
_replaced: list[tuple[Any, str, Any]] = []
_made: dict[Any, Any] = {}


def _replace(module: str, name: str, init: Any) -> None:
    owner = sys.modules.get(module)
    real = getattr(owner, name, None)
    if real is None or isinstance(real, _Meta) or real in _made.values():
        return
    stands = _made.get(real)
    if stands is None:
        stands = _made[real] = _ordered(real) if init is None else _class_for(real, init)
    _replaced.append((owner, name, real))
    setattr(owner, name, stands)


def _open(module: ModuleType | None = None) -> None:
    for package in ("asyncio.futures", "asyncio"):
        _replace(package, "Future", _numbered_init)
    for package in ("asyncio.tasks", "asyncio"):
        _replace(package, "Task", _named_init)
        _replace(package, "all_tasks", None)


def _shut() -> None:
    while _replaced:
        owner, name, real = _replaced.pop()
        setattr(owner, name, real)


at_opening(_open)
at_shutting(_shut)
importing.executed["asyncio"] = _open
