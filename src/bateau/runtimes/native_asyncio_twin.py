"""The asyncio side of a native program where the C twin was built: the same, over the native loop (``native_loop``).

Theory of operation. The loop's callbacks, timers, descriptors and streams are the native loop's, which is *embedded*: its epoll
set is one descriptor in the engine's reactor, which polls for both, and after each poll the loop has its round. What is done for
each step of a task (publishing it as asyncio's current one, waiting for a future) is ``bateau._native.LoopSideFields``'s and
``LoopFaceFields``'s, so that a program that has imported asyncio takes its steps in C as well. The pure classes define the
behaviour, and do all that is rare.
"""

from __future__ import annotations

import sys
from asyncio import tasks
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..kernel.current import tls
from ..kernel.errors import Deadlock
from ..kernel.explain import explain_deadlock
from ..kernel.task import Task
from ..kernel.twin import native
from .native_asyncio import AsyncioSide, ProgramsLoop, TaskFace, set_current
from .native_loop import NativeEventLoop

if TYPE_CHECKING:
    from .native import NativeEngine

    class _SideFields:
        """What this module uses of ``bateau._native.LoopSideFields``."""

        _table: Any
        _swap: Any
        _face_type: Any

        def __call__(self, task: Task[Any]) -> None: ...

        def _rest(self) -> float | None: ...

        def _spin(self) -> None: ...

        def _iterate(self, polled: bool) -> None: ...

        def _is_waiting(self) -> bool: ...

        def _unpublish(self) -> None: ...

    class _FaceFields:
        """The fields of a face."""

elif native is None:
    raise ImportError("this is the part for the C twin, which is not in use: native_asyncio is the pure one")
else:
    _SideFields, _FaceFields = native.LoopSideFields, native.LoopFaceFields

# asyncio's private parts, which the stubs don't show.
_tasks: Any = tasks


class NativeFace(_FaceFields, TaskFace):
    """A native task as asyncio's libraries see it. Made by ``LoopSideFields`` when the task is first stepped."""


class EmbeddedLoop(ProgramsLoop, NativeEventLoop):
    """The native loop as the running one of a native program."""

    def __init__(self, side: NativeSide) -> None:
        self.bateau_domain = side.engine
        self.bateau_side = side
        task = tls.running.task
        NativeEventLoop.__init__(self)
        tls.running.task = task  # asyncio has asked is_running() meanwhile


class NativeSide(_SideFields, AsyncioSide):
    """See the module's head."""

    loop: EmbeddedLoop

    def __init__(self, engine: NativeEngine) -> None:
        # Up to 3.13 a dict that may be written; from 3.14 on asyncio keeps it with the thread's running loop.
        self._table = _tasks._current_tasks if sys.version_info < (3, 14) else None
        self._swap = set_current
        self._face_type = NativeFace
        self._is_ready = False
        super().__init__(engine)
        self._fd: int = self._private._core_embed()
        engine.add_reader(self._fd, self._became_ready)

    def hook(self) -> Callable[[Task[Any]], None]:
        return self

    def make_loop(self) -> EmbeddedLoop:
        return EmbeddedLoop(self)

    def _became_ready(self) -> None:
        self._is_ready = True

    def advance(self) -> None:
        """Turns of the engine and rounds of asyncio's loop, for as long as both need no poll; the poll; asyncio's round."""
        engine = self.engine
        self._spin()
        if engine.main is not None and engine.main.ended:
            timeout: float | None = 0
        else:
            timeout, due = engine.timeout(), self._rest()
            if due is not None and (timeout is None or due < timeout):
                timeout = due
        if timeout is None and engine.is_stuck():
            raise Deadlock(explain_deadlock(engine.roots))
        engine.reactor.poll(timeout)
        ready, self._is_ready = self._is_ready, False
        self._iterate(ready)

    def is_busy(self) -> bool:
        return bool(self._foreign) or self._is_waiting() or self.has_leftovers()

    def own_fd(self) -> int:
        return self._fd

    def leave(self) -> None:
        self._unpublish()
        self.loop.release_thread()

    def close(self) -> None:
        if self._fd >= 0:
            self.engine.remove_reader(self._fd)
            self._fd = -1
        super().close()
