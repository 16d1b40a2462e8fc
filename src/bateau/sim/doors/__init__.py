"""The doors between real code and the simulated world.

A *door* stands in for a function of the standard library (``time.monotonic``, ``os.read``): called on a thread that belongs to a
world it acts there, called on any other it is the real function. Doors are put in place when the first world opens and taken out
after the last; what other modules took by name before (``from time import monotonic``) is found by a scan of ``sys.modules``.

A part of the world adds its doors with ``@door("time", "monotonic")`` in a module of this package, listed in ``_PARTS``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from ..thread import here
from ..threads.adopting import MARK
from . import importing

F = TypeVar("F", bound=Callable[..., Any])

# The modules of this package that hold doors, imported when a world first opens.
_PARTS: tuple[str, ...] = (
    "clock",
    "dates",
    "entropy",
    "descriptors",
    "files",
    "openfiles",
    "opening",
    "temporary",
    "locking",
    "names",
    "sockets",
    "polling",
    "trio_parts",
    "uvloop_parts",
    "threads",
    "signals",
    "processes",
    "identity",
    "loops",
    "trio_order",
)

# Stands for what a class has from its bases.
INHERITED = object()

# Where the real functions come from, and stay: the import system takes them there, and so do the doors.
_KEEPS = frozenset({"posix", "nt", "_io"})
_SIMULATOR = __name__.rpartition(".")[0]


class Door:
    """One attribute of one module (or class), and what stands there while worlds are open."""

    __slots__ = ("attribute", "inside", "module", "raw", "real", "stand_in")

    def __init__(self, module: str, attribute: str, inside: Any, raw: bool) -> None:
        self.module = module
        self.attribute = attribute
        self.inside = inside
        # Whether ``inside`` itself is put in place (it asks for the world by itself), as for classes.
        self.raw = raw
        self.real: Any = None
        self.stand_in: Any = None

    def owner(self) -> Any:
        """What has the attribute: a module, or a class in it (``module`` is then written ``package.module:Class``)."""
        name, _, inner = self.module.partition(":")
        found: Any = import_module(name)
        return getattr(found, inner) if inner else found

    def open(self) -> bool:
        """Put the stand-in in place; False where this Python has no such attribute."""
        owner = self.owner()
        if not hasattr(owner, self.attribute):
            return False
        before, self.real = (
            self.real,
            vars(owner).get(self.attribute, INHERITED) if isinstance(owner, type) else getattr(owner, self.attribute),
        )
        if self.raw:
            self.stand_in = self.inside
        elif (
            self.stand_in is None or self.real is not before
        ):  # else the same as before: programs may have kept it, and compare
            self.stand_in = _entry(self.real, self.inside)
        setattr(owner, self.attribute, self.stand_in)
        return True

    def shut(self) -> None:
        """Put the real thing back."""
        if self.real is INHERITED:
            delattr(self.owner(), self.attribute)
        else:
            setattr(self.owner(), self.attribute, self.real)


def _entry(real: Any, inside: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(real)
    def door(*args: Any, **kwargs: Any) -> Any:
        world = here.world
        if world is None:
            return real(*args, **kwargs)
        return inside(world, *args, **kwargs)

    door.__dict__[MARK] = True
    return door


_doors: list[Door] = []
_open: list[Door] = []
_taken: list[tuple[ModuleType, str, Any]] = []
_opening: list[Callable[[], object]] = []
_shutting: list[Callable[[], object]] = []
_users = 0
# The modules that were there when the doors were opened.
_known: set[str] = set()


def door(module: str, *attributes: str) -> Callable[[F], F]:
    """Decorate ``fn(world, *args)``: what ``module.attribute(*args)`` does on a thread of a world."""

    def add(fn: F) -> F:
        if fn.__doc__ is None:
            fn.__doc__ = f"What ``{module}.{'``, ``'.join(attributes)}`` does in a world."
        _doors.extend(Door(module, attribute, fn, False) for attribute in attributes)
        return fn

    return add


def stand_in(module: str, attribute: str, thing: Any) -> None:
    """Put ``thing`` itself in place of ``module.attribute``: it must behave as the real one outside any world."""
    _doors.append(Door(module, attribute, thing, True))


def at_opening(fn: Callable[[], object]) -> None:
    """Call ``fn()`` each time when the doors have been put in place."""
    _opening.append(fn)


def at_shutting(fn: Callable[[], object]) -> None:
    """Call ``fn()`` each time when the doors have been taken out again."""
    _shutting.append(fn)


def real(module: str, attribute: str) -> Any:
    """The real ``module.attribute``, also while a door stands in its place."""
    for found in _open:
        if found.module == module and found.attribute == attribute:
            return found.real
    owner = Door(module, attribute, None, True).owner()
    return getattr(owner, attribute)


def standing() -> list[tuple[Any, Any]]:
    """What has a door in a module, and what stands for it now."""
    return [(each.real, each.stand_in) for each in _open if ":" not in each.module]


@contextmanager
def opened() -> Generator[None]:
    """Doors are in place while the block runs (re-entrant, counted)."""
    global _users
    _users += 1
    try:
        if _users == 1:
            _open_all()
        yield
    finally:
        _users -= 1
        if _users == 0:
            _shut_all()


def _open_all() -> None:
    importing.install()
    for part in _PARTS:
        import_module(f"{__name__}.{part}")
    try:
        for each in _doors:
            if each.open():
                _open.append(each)  # noqa: PERF401  # one by one: what was opened is shut if the next fails
        _take_names()
        _known.update(sys.modules)
        for fn in _opening:
            fn()
    except BaseException:
        _shut_all()
        raise


def _shut_all() -> None:
    importing.uninstall()
    while _taken:
        module, name, value = _taken.pop()
        setattr(module, name, value)
    _give_names_back()
    while _open:
        _open.pop().shut()
    for fn in _shutting:
        fn()


def _give_names_back() -> None:
    """Modules that were imported meanwhile have taken stand-ins by name: they get the real things."""
    by_id = {id(each.stand_in): each for each in _open if ":" not in each.module}
    for name, module in tuple(sys.modules.items()):
        if name in _known or name.startswith(_SIMULATOR) or not isinstance(module, ModuleType):  # pyright: ignore[reportUnnecessaryIsInstance]  # it may be anything
            continue
        for attribute, value in tuple(vars(module).items()):
            found = by_id.get(id(value))
            if found is not None and value is found.stand_in:
                setattr(module, attribute, found.real)
    _known.clear()


def _take_names() -> None:
    """Replace what modules took by name (``from time import sleep``), except in the simulator itself."""
    by_id = {id(each.real): each for each in _open if ":" not in each.module}
    for name, module in tuple(sys.modules.items()):
        if name in _KEEPS or name.startswith(_SIMULATOR) or not isinstance(module, ModuleType):  # pyright: ignore[reportUnnecessaryIsInstance]  # it may be anything
            continue
        names = vars(module)
        if by_id.keys().isdisjoint(map(id, tuple(names.values()))):
            continue  # most modules: this look is ten times faster than the next
        for attribute, value in tuple(names.items()):
            found = by_id.get(id(value))
            if found is not None and value is found.real:
                _taken.append((module, attribute, value))
                setattr(module, attribute, found.stand_in)
