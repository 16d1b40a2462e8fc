"""Which tests are bateau's, and on which runtimes they run.

A test is bateau's if it says so (``@runtimes``, ``@virtual_time``, ``@simulate``, ``@pytest.mark.bateau``), if the project says so for
every async test (``bateau_mode = auto``), or if the command line does (``--bateau-runtime``). Marked for another plugin, or claimed by one
in its own automatic mode, it is that plugin's; only ``--bateau-runtime`` takes asyncio's, and only to runtimes on which asyncio runs.
"""

from __future__ import annotations

import inspect
from typing import Any, NoReturn

import pytest

from . import options
from .marks import PIN, RUNTIMES, SIMULATE
from .options import Settings

# On which runtimes code written for asyncio runs.
ASYNCIO_FAMILY = ("native", "asyncio", "uvloop", "sim")
# The marks that say that a test is ours.
EXPLICIT = (RUNTIMES, SIMULATE, PIN, "bateau")


def inner(obj: Any) -> Any:
    """The user's function: inside ``@given``, what hypothesis calls."""
    fn = getattr(getattr(obj, "hypothesis", None), "inner_test", obj)
    return getattr(fn, "__bateau_inner__", fn)


def is_async(fn: Any) -> bool:
    """Whether ``fn`` is an async function or an async generator function."""
    return inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)


def _marked_for(node: Any) -> str | None:
    """The other plugin whose mark the test has. One in automatic mode puts it there by itself, which says nothing."""
    for name in ("asyncio", "anyio", "trio"):
        if node.get_closest_marker(name) is not None and node.config.pluginmanager.hasplugin(name):
            return name if name != automatic(node.config) else None
    return None


def automatic(config: pytest.Config) -> str | None:
    """The other plugin that takes every async test, if one does."""
    for name in ("asyncio", "anyio"):
        if config.pluginmanager.hasplugin(name):
            mode = config.getoption(f"{name}_mode", default=None) or config.getini(f"{name}_mode")
            if mode == "auto":
                return name
    if config.pluginmanager.hasplugin("trio") and config.getini("trio_mode"):
        return "trio"
    return None


def claim(metafunc: pytest.Metafunc) -> tuple[str, ...] | None:
    """The runtimes on which this test is to run, or None: it is not ours."""
    node: Any = metafunc.definition
    given = options.settings(metafunc.config)
    explicit = [name for name in EXPLICIT if node.get_closest_marker(name) is not None]
    if not explicit and given.chosen is None and not given.auto:
        return None
    fn = inner(node.obj)
    async_test = inspect.iscoroutinefunction(fn)
    if explicit:
        return _explicit(metafunc, fn, given)
    owner = _marked_for(node) or automatic(metafunc.config)
    if not async_test:
        fixtures = _async_fixtures(metafunc)
        if not fixtures:
            return None
        owner = owner or _owner_of(fixtures)
    if owner == "asyncio" and given.chosen is not None:
        return tuple(name for name in given.chosen if name in ASYNCIO_FAMILY) or None
    return given.names if owner is None else None


def _explicit(metafunc: Any, fn: Any, given: Settings) -> tuple[str, ...] | None:
    """The runtimes of a test that is marked as ours; refuses what can't work."""
    node = metafunc.definition
    other = _marked_for(node)
    if other is not None:
        refuse(node, f"is marked for bateau and for {other}'s plugin; only one can run it: take one of the marks away")
    if inspect.isasyncgenfunction(fn):
        refuse(node, "is an async generator: a test may not `yield`")
    simulated = {SIMULATE, PIN} & nearest(node, RUNTIMES, SIMULATE, PIN)
    names = _names_of(node, simulated, given)
    problem = options.unknown(names)
    if problem is not None:
        refuse(node, f"has @runtimes with an {problem}")
    if not inspect.iscoroutinefunction(fn) and not simulated and not _async_fixtures(metafunc):
        if any(mark.name in EXPLICIT for mark in getattr(fn, "pytestmark", ())):
            refuse(node, "is marked for bateau, and is neither an async function nor uses an async fixture")
        return None  # a plain test among others, in a class or module that is marked
    return names


def _names_of(node: Any, simulated: set[str], given: Settings) -> tuple[str, ...]:
    mark = node.get_closest_marker(RUNTIMES) if not simulated or RUNTIMES in nearest(node, *EXPLICIT) else None
    if mark is None:
        return ("sim",) if simulated else given.names
    if simulated and "sim" not in mark.args:
        refuse(node, f"is to be simulated and to run on {', '.join(mark.args)}: add 'sim' to @runtimes")
    return tuple(dict.fromkeys(mark.args))


def refuse(node: Any, why: str) -> NoReturn:
    """Fail the collection of the test: ``why`` follows its name."""
    pytest.fail(f"{node.nodeid} {why}", pytrace=False)


def nearest(node: Any, *names: str) -> set[str]:
    """Which of the marks stand nearest to the test: on itself, else on its class, else on its module."""
    for each in reversed(node.listchain()):
        found = {mark.name for mark in each.own_markers}.intersection(names)
        if found:
            return found
    return set()


def _async_fixtures(metafunc: Any) -> list[Any]:
    """The functions of the async fixtures that the test asks for."""
    return [defs[-1].func for defs in metafunc._arg2fixturedefs.values() if is_async(defs[-1].func)]


def _owner_of(fixtures: list[Any]) -> str | None:
    """The plugin by whose decorator one of the fixtures was made."""
    for name in ("asyncio", "trio"):
        if any(getattr(getattr(fn, "__func__", fn), f"_force_{name}_fixture", False) for fn in fixtures):
            return name
    return None
