"""Finding runtimes by name: our own, and those that others register under the entry-point group ``bateau.runtimes``."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, cast

from ..kernel.errors import Unsupported
from .base import CONTRACT_VERSION, Runtime

# Name, module and class. A module is imported when its runtime is first asked for.
_OWN: dict[str, tuple[str, str]] = {
    "native": (".native", "NativeRuntime"),
    "asyncio": (".asyncio", "AsyncioRuntime"),
    "uvloop": (".asyncio", "UvloopRuntime"),
    "trio": (".trio", "TrioRuntime"),
    "sim": ("..sim.runtime", "SimRuntime"),
}
_GROUP = "bateau.runtimes"
_made: dict[str, Runtime] = {}
_registered: dict[str, type[Runtime]] = {}


def register(runtime: type[Runtime]) -> None:
    """Make a runtime class known under its ``name``, without an entry point."""
    if runtime.name in _OWN:
        raise ValueError(f"the name {runtime.name!r} is taken by bateau's own runtime")
    _registered[runtime.name] = runtime


def _entry_points() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=_GROUP)}


def names() -> list[str]:
    """Every known runtime, available here or not: ours first."""
    return [*_OWN, *sorted({*_registered, *_entry_points()} - {*_OWN})]


def get(name: str | Runtime | None = None) -> Runtime:
    """The runtime of that name; None: the one of ``BATEAU_RUNTIME``, else the default of this platform.

    Raises ``ValueError`` for an unknown name (listing the known ones) and ``Unsupported`` for one that can't run here.
    """
    if isinstance(name, Runtime):
        return name
    if name is None:
        name = os.environ.get("BATEAU_RUNTIME") or default_name()
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(f"runtime must be a name or a runtime object, not {type(name).__name__}")
    runtime = _made.get(name)
    if runtime is None:
        runtime = _made[name] = _load(name)()
        if runtime.contract_version != CONTRACT_VERSION:
            raise Unsupported(
                f"runtime {name!r} was written for contract version {runtime.contract_version}; "
                f"this bateau has version {CONTRACT_VERSION}"
            )
    problem = runtime.unavailable()
    if problem is not None:
        raise Unsupported(f"runtime {name!r} can't run here: {problem}")
    return runtime


def _load(name: str) -> type[Runtime]:
    if name in _OWN:
        module, cls = _OWN[name]
        return cast("type[Runtime]", getattr(import_module(module, __package__), cls))
    if name in _registered:
        return _registered[name]
    point = _entry_points().get(name)
    if point is None:
        raise ValueError(f"unknown runtime {name!r}; known: {', '.join(names())}")
    return cast("type[Runtime]", point.load())


def default_name() -> str:
    """``native`` on Linux, ``asyncio`` elsewhere."""
    return "native" if sys.platform.startswith("linux") else "asyncio"


def why_unavailable(name: str) -> str | None:
    """Why runtime ``name`` can't run here, or None if it can. For listings: never raises for a known name."""
    try:
        get(name)
    except (Unsupported, ImportError) as error:
        return str(error)
    return None
