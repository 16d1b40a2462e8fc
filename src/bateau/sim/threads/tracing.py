"""Choices between any two lines, or opcodes, of a user's code in threads: the options ``threads="lines"`` and ``threads="opcodes"``.

Without them threads are switched only where they synchronise, so what lies between is found only if it matters to a synchronisation.
With ``"lines"`` a thread may be stopped before each line, so that ``balance = read(); write(balance + 1)`` loses updates; with
``"opcodes"`` also in the middle of ``x += 1``. (What the language promises, that is: a given CPython with its global lock switches less often.)

The trace function of a thread is used for it, so debuggers and coverage see nothing in the simulated threads of such a world.
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..sites import is_inner
from ..thread import here

if TYPE_CHECKING:
    from ..world import World

_INSTALLED = f"{os.sep}site-packages{os.sep}"


class Tracing:
    """How the threads of one process are traced."""

    def __init__(self, world: World, opcodes: bool) -> None:
        self.world = world
        self.opcodes = opcodes

    def begin(self) -> None:
        """In a new thread, before the user's function is called."""
        sys.settrace(self._called)

    def begin_here(self) -> None:
        """In the thread that has started another one: from now on there are two, so its own frames matter as well."""
        if sys.gettrace() == self._called:
            return
        world, outer = self.world, sys.gettrace()
        thread = world.thread
        if thread is thread.process.main and thread.process is world.director:
            world.at_close.append(lambda: sys.settrace(outer))
        sys.settrace(self._called)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if _is_users(frame.f_code.co_filename):
                self._attach(frame)
            frame = frame.f_back

    def _attach(self, frame: FrameType) -> None:
        frame.f_trace = self._step
        frame.f_trace_opcodes = self.opcodes

    def _called(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not _is_users(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes = self.opcodes
        return self._step

    def _step(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event in {"line", "opcode"} and here.world is self.world and not self.world.closed:
            self.world.point()
        return self._step


def tracing_of(world: World) -> Tracing | None:
    """What the world's option ``threads`` asks for."""
    mode = world.options.get("threads") or "sync"
    return Tracing(world, mode == "opcodes") if mode != "sync" else None


def _is_users(filename: str) -> bool:
    return not is_inner(filename) and _INSTALLED not in filename
