"""Modules that a simulated program imports for the first time are found and executed outside its world.

They stay when the world has ended: what they make when they are executed (locks, clocks' values, open files) must be real. And the
machinery of imports, with its caches and the hooks of others in it, must not meet a simulated disk.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

from ..thread import here


@contextmanager
def outside() -> Generator[None]:
    """The calling thread belongs to no world while the block runs."""
    world, here.world = here.world, None
    try:
        yield
    finally:
        here.world = world


# What to call with a module right after it has been executed during a run, by its name.
executed: dict[str, Callable[[ModuleType], object]] = {}


class _Finder:
    """Stands first in ``sys.meta_path`` while doors are open; finds what the others find."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if here.world is None:
            return None
        with outside():
            for finder in sys.meta_path:
                spec = None if finder is self else finder.find_spec(fullname, path, target)
                if spec is not None:
                    if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                        spec.loader = cast("Any", _Loader(spec.loader))
                    return spec
        return None


class _Loader:
    """The real loader, which it puts back into the module before that is executed."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        with outside():
            module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self._loader
        # What it imports in its turn is imported outside as well, and comes by no finder of ours: so all are looked for.
        waiting = [name for name in executed if name not in sys.modules or name == module.__name__]
        with outside():
            self._loader.exec_module(module)
        for name in waiting:
            if name in sys.modules:
                executed[name](sys.modules[name])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


_finder: Any = _Finder()


# What importlib makes its locks with must stay real: a module's lock is made before any finder is asked, and outlives the run.
_bootstrap: Any = sys.modules["_frozen_importlib"]
_real_thread = ModuleType("_thread")
_thread: Any = _bootstrap._thread
vars(_real_thread).update(_thread.__dict__)


def install() -> None:
    """Stand first among the finders."""
    sys.meta_path.insert(0, _finder)
    _bootstrap._thread = _real_thread


def uninstall() -> None:
    """Leave."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
        _bootstrap._thread = sys.modules["_thread"]
