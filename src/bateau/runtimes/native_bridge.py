"""When asyncio appears in a native program: at its start, or in the middle of a step that imports it.

Nothing here imports asyncio. A finder at the head of ``sys.meta_path`` waits for its first import and then gives the
engines of the importing thread their asyncio side (``native_asyncio``); the engines of other threads get theirs before their
next step. (A step that is under way on another thread can't be given one: the running loop is the thread's own. There asyncio
says "no running event loop", and ``kernel/foreign.py`` why.) The finder is there only while a native program runs, and only
until asyncio has been imported.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ..kernel.task import Task
    from .native import NativeEngine

# The running native engines, innermost last.
_running: list[NativeEngine] = []


def asyncio_is_ready() -> bool:
    """Whether asyncio has been imported, wholly."""
    module = sys.modules.get("asyncio")
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def is_simulated() -> bool:
    """Whether this thread is one of a simulated world's, where nothing in C may wait for real descriptors by a real clock."""
    simulation = sys.modules.get("bateau.sim.thread")
    return simulation is not None and simulation.here.world is not None


@contextmanager
def asyncio_side(engine: NativeEngine) -> Generator[None]:
    """While the block runs, ``engine`` is an asyncio event loop as soon as asyncio is imported."""
    _running.append(engine)
    if asyncio_is_ready():
        attach(engine)
    elif _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    try:
        yield
    finally:
        _running.remove(engine)
        if engine.aio is not None:
            engine.aio.leave()
        if not _running and _finder in sys.meta_path:
            sys.meta_path.remove(_finder)


def attach(engine: NativeEngine) -> None:
    """Give ``engine``, which runs on this thread, its asyncio side, and make it this thread's running loop."""
    if engine.aio is None:
        engine.aio = engine.asyncio_side()
    engine.aio.enter()


def _asyncio_imported() -> None:
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    here = get_ident()
    for engine in tuple(_running):
        if engine.thread_id == here:
            attach(engine)
        elif engine.aio is None:
            # Its thread may be giving it its side now, and this may come later: the hook is right in either case.
            engine.on_step = partial(_attach_before_step, engine)


def _attach_before_step(engine: NativeEngine, task: Task[Any]) -> None:
    """On the engine's own thread: another one has imported asyncio (or is about to have)."""
    if asyncio_is_ready():
        attach(engine)
        publish = engine.on_step = engine.aio.hook()
        publish(task)


class _Finder:
    """Finds asyncio the ordinary way, with a loader that tells when it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "asyncio":
            return None
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = cast("Any", _TellingLoader(spec.loader))
                    return spec
        return None


class _TellingLoader:
    """The real loader, with a word at the end; it takes itself out of the module's spec before that."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _asyncio_imported()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


_finder: Any = _Finder()
