"""Going through a run by hand: after each event the terminal is asked what to do next, while the world stands still."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from ..kernel.errors import PACKAGE_DIR
from .process import Process
from .running import one_run
from .sites import is_inner
from .story import timeline
from .thread import here
from .threads.locks import Lock
from .world import World

HELP = """\
  Enter  the next event          w  who waits on what, in every process
  u TEXT until a line with TEXT  v  the variables of the task that has just run
  c      to the end              q  leave"""


class Stepper:
    """Give ``attach`` to ``prepare=`` of a detailed run. ``ask`` reads a line (default: the terminal's); end of input goes on."""

    def __init__(self, ask: Callable[[], str] | None = None, say: Callable[[str], object] = print) -> None:
        self.ask = ask if ask is not None else _ask_terminal
        self.say = say
        self.shown = 0
        # None: stop at each event. "": never again. Else: at the next line that contains it.
        self.until: str | None = None

    def attach(self, world: World) -> None:
        """Look over the shoulder of this world."""
        self.say(HELP)
        world.after_step = lambda process, task: self.stepped(world, process, task)
        world.after_wait = lambda process: self.stepped(world, process, None)

    def stepped(self, world: World, process: Process, task: Any) -> None:
        """A task has made a step, or (None) a thread waits: show what is new, and ask.

        Outside the world: what is looked at must not change the run.
        """
        outer, here.world = here.world, None
        try:
            self._show(world, task)
        finally:
            here.world = outer

    def _show(self, world: World, task: Any) -> None:
        new = world.events[self.shown :]
        self.shown = len(world.events)
        lines = timeline(new, most=len(new))[1:]
        if not lines:
            return
        self.say("\n".join(lines))
        if self.until is not None and (not self.until or not any(self.until in line for line in lines)):
            return
        self.until = None
        while True:
            try:
                said = self.ask().strip()
            except EOFError:
                said = "c"
            if not said:
                return
            if said == "c":
                self.until = ""
                return
            if said == "q":
                assert world.director is not None
                self.until = ""
                if world.thread is world.director.main:
                    raise KeyboardInterrupt
                world.director.main.interrupt(KeyboardInterrupt())
                return
            if said == "w":
                self.say(world.explain())
            elif said == "v":
                self.say(_variables(world, task))
            elif said.startswith("u ") and said[2:].strip():
                self.until = said[2:].strip()
                return
            else:
                self.say(HELP)


def _ask_terminal() -> str:
    print("(sim) ", end="", flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _variables(world: World, task: Any) -> str:
    """The local variables of each of the program's own frames in the task (None: in the running thread), outermost first."""
    lines: list[str] = []
    for frame in _frames_of_thread() if task is None else _frames_of_task(task):
        code = frame.f_code
        lines.append(f"{code.co_qualname} at {code.co_filename}:{frame.f_lineno}")
        for name, value in frame.f_locals.items():
            lines.append(f"    {name} = {_shown(value, world)[:200]}")
    return "\n".join(lines) or "the task has ended, or has no frame of its own"


def _shown(value: Any, world: World) -> str:
    if isinstance(value, Lock):  # outside it is another one
        return f"<{'locked' if value.state_in(world).count else 'unlocked'} {value.describe()}>"
    try:
        return repr(value)
    except Exception as error:  # a half-made object of the program's, or one that shows itself inside the world only
        return f"<{type(value).__qualname__}, whose repr fails here: {type(error).__name__}>"


def _frames_of_task(task: Any) -> Iterator[FrameType]:
    awaited = task.coro
    while awaited is not None and (frame := getattr(awaited, "cr_frame", None)) is not None:
        if not frame.f_code.co_filename.startswith(PACKAGE_DIR):
            yield frame
        awaited = getattr(awaited, "cr_await", None)


def _frames_of_thread() -> Iterator[FrameType]:
    """Those of the calling thread, without what runs it: it is the one that has stepped."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code is one_run.__code__:
            break
        if not is_inner(code.co_filename):
            frames.append(frame)
        frame = frame.f_back
    yield from reversed(frames)
