"""Going through a run by hand: after each event the terminal is asked what to do next, while the world stands still."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .process import Process
from .story import timeline
from .thread import here
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

    def stepped(self, world: World, process: Process, task: Any) -> None:
        """A task has made a step: show what is new, and ask. Outside the world: what is looked at must not change the run."""
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
                raise KeyboardInterrupt
            if said == "w":
                self.say(world.explain())
            elif said == "v":
                self.say(_variables(task))
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


def _variables(task: Any) -> str:
    """The local variables of each of the task's own frames, outermost first."""
    from ..kernel.errors import PACKAGE_DIR

    lines: list[str] = []
    awaited = task.coro
    while awaited is not None and (frame := getattr(awaited, "cr_frame", None)) is not None:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE_DIR):
            lines.append(f"{code.co_qualname} at {code.co_filename}:{frame.f_lineno}")
            for name, value in frame.f_locals.items():
                try:
                    shown = repr(value)
                except Exception as error:  # a half-made object of the program's
                    shown = f"<repr failed: {error!r}>"
                lines.append(f"    {name} = {shown[:200]}")
        awaited = getattr(awaited, "cr_await", None)
    return "\n".join(lines) or "the task has ended, or has no frame of its own"
