"""Doors of ``datetime``: ``now``, ``utcnow`` and ``today`` ask the host's clock.

C's classes can't be changed, so in ``datetime.datetime`` and ``date`` stand classes derived from them. Nothing is ever an instance of those:
calling them makes real dates, of which all arithmetic, pickling and comparing is as always; and what is a date to one is one to the
other. Classes that programs have derived before get the three methods themselves, unless they have some of their own.

What was taken *bound* before (``default_factory=datetime.now`` of a dataclass) can't be found, and tells the real time.
"""

from __future__ import annotations

import copyreg
import datetime as dt
import sys
import warnings
from typing import Any

from ..thread import here
from . import at_opening, at_shutting, stand_in
from .clock import wall

RealDate: Any = dt.date
RealDateTime: Any = dt.datetime
_UTC = dt.UTC
_methods: dict[str, Any] = {**vars(RealDate), **vars(RealDateTime)}


class _Facade(type):
    """The class of the two stand-ins, and of what is derived from them while they stand."""

    real: type

    def _stands(cls) -> bool:
        return "real" in cls.__dict__

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.real(*args, **kwargs) if cls._stands() else super().__call__(*args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real) if cls._stands() else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.real) if cls._stands() else super().__subclasscheck__(subclass)

    def __eq__(cls, other: object) -> bool:
        return cls is other or (cls._stands() and other is cls.real)

    def __hash__(cls) -> int:
        return hash(cls.real) if cls._stands() else super().__hash__()


def _real_of(cls: Any) -> Any:
    """What to call C's method on: a stand-in's real class, or a derived class itself."""
    return cls.__dict__.get("real", cls)


def _now(cls: Any, tz: Any = None) -> Any:
    """The host's wall clock, as ``datetime.now``; without ``tz`` the local time, which is UTC."""
    world = here.world
    real = _real_of(cls)
    if world is None:
        return _methods["now"].__get__(None, real)(tz)
    if tz is not None:
        return real.fromtimestamp(wall(world), tz)
    return real.fromtimestamp(wall(world), _UTC).replace(tzinfo=None)


def _utcnow(cls: Any) -> Any:
    if here.world is None:
        return _methods["utcnow"].__get__(None, _real_of(cls))()
    if sys.version_info >= (3, 12):
        warnings.warn(
            "datetime.datetime.utcnow() is deprecated: use datetime.datetime.now(datetime.UTC)",
            DeprecationWarning,
            stacklevel=2,
        )
    return _now(cls)


def _today(cls: Any) -> Any:
    return _now(cls)


def _today_of_date(cls: Any) -> Any:
    world = here.world
    real = _real_of(cls)
    if world is None:
        return _methods["today"].__get__(None, real)()
    return real.fromtimestamp(wall(world))


def _stand_for(real: type, **methods: Any) -> Any:
    names: dict[str, Any] = {name: classmethod(method) for name, method in methods.items()}
    names |= {"real": real, "__module__": "datetime", "__qualname__": real.__qualname__, "__doc__": real.__doc__}
    made = _Facade(real.__name__, (real,), names)
    stand_in("datetime", real.__name__, made)
    return made


date = _stand_for(RealDate, today=_today_of_date)
datetime = _stand_for(RealDateTime, now=_now, utcnow=_utcnow, today=_today)


# -- pickling --------------------------------------------------------------------------------------------------------------


def _reduce_datetime(value: Any) -> Any:
    # By the name "datetime.datetime", as ever; under which the stand-in is found while it stands, so it must be the one that is named.
    return datetime, value.__reduce_ex__(4)[1]


def _reduce_date(value: Any) -> Any:
    return date, value.__reduce__()[1]


def _register() -> None:
    copyreg.pickle(RealDateTime, _reduce_datetime)
    copyreg.pickle(RealDate, _reduce_date)


def _unregister() -> None:
    copyreg.dispatch_table.pop(RealDateTime, None)
    copyreg.dispatch_table.pop(RealDate, None)


at_opening(_register)
at_shutting(_unregister)

# -- classes derived before ------------------------------------------------------------------------------------------------

_given: list[tuple[type, str]] = []


def _give_methods() -> None:
    for cls in _derived(RealDateTime):
        _give(cls, RealDateTime, now=_now, utcnow=_utcnow, today=_today)
    for cls in _derived(RealDate):
        if not issubclass(cls, RealDateTime):
            _give(cls, RealDate, today=_today_of_date)


def _derived(cls: type) -> list[type]:
    subclasses: list[type] = type.__subclasses__(cls)
    found = [each for each in subclasses if not isinstance(each, _Facade)]
    return [*found, *(deeper for each in found for deeper in _derived(each))]


def _give(cls: type, real: type, **methods: Any) -> None:
    for name, method in methods.items():
        if _inherits(cls, real, name):
            try:
                setattr(cls, name, classmethod(method))
            except TypeError:  # a class made in C
                continue
            _given.append((cls, name))


def _inherits(cls: type, real: type, name: str) -> bool:
    """Whether the method comes from C's class and from nobody in between."""
    for base in cls.__mro__:
        if name in vars(base):
            return base is real or base is RealDate
    return False


def _take_methods() -> None:
    while _given:
        cls, name = _given.pop()
        delattr(cls, name)


at_opening(_give_methods)
at_shutting(_take_methods)
