"""Watching steps: what a step has read and written, as far as that can be proven; else it has touched everything.

Python programs share plain objects that nobody instruments. So a step is followed instruction by instruction (``sys.settrace``): each that
may touch something shared is accounted for (``bytecode`` says which, ``effects`` what), down to the object where its identity is known,
else by the name of what was touched, in any object. bateau's own functions are not followed but known (``trusted``), as are some of
Python's (``knowledge``). Everything else that is not understood makes the footprint ``EVERYTHING``: any other call into C, an import, an
unusual instruction.

What this rests on, besides the tables: tasks change nothing outside Python and bateau without such a call; and nobody looks at
another task's local variables, except through a generator that several share (its frame counts as one object).
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

from ...kernel.errors import PACKAGE_DIR
from ...kernel.leaving import Drain
from ...kernel.operation import NextTurn
from ...kernel.task import Task
from ...time import _CLOCK, _NEVER
from .bytecode import Plan, plan_of
from .effects import Effects, Values
from .footprint import EVERYTHING, Footprint
from .knowledge import FRAME, NUMBERS, STATE, is_bateaus_frame
from .trusted import condition_holds, ends_quietly, ends_the_program, kind_of, resource_of

# Functions that are called when the step has been made: what follows is the engine's and the world's.
AFTER_STEP = {"World.stepped", "World.choose_step", "Exhaustive.step", "Exhaustive.only", "StepWatcher.stop"}

_PROBE = """
class Thing:
    read = changed = 0

def changes(thing):
    thing.changed = thing.read
"""


class StepWatcher(Effects):
    """Tells the footprints of the steps of kernel tasks. One per exploration; ``reset`` before each run.

    ``works`` says whether this Python reports instructions at all; ``lost``, why steps had to be taken to touch everything.
    """

    def __init__(self) -> None:
        super().__init__()
        # What is known of functions: a plan to follow, or a kind of ``trusted``, or "" (everything).
        self._known: dict[CodeType, Plan | str] = {}
        self._running = False
        # By ``id`` of a frame that runs, the values of its instructions.
        self._values: dict[int, Values] = {}
        self.works = self._works()

    # -- the interface -----------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """A new run starts: objects get their numbers anew."""
        self._stop_tracing()
        self._forget()

    def met(self) -> int:
        """How many objects have numbers so far."""
        return self._met

    def start(self) -> None:
        """Follow what this thread does from now on."""
        if not self.works or sys.gettrace() is not None:
            return  # a debugger or a coverage tool is at work: nothing is proven
        self._footprint = Footprint()
        self._lost = False
        self._values.clear()
        self._running = True
        # CPython 3.12 sends events of instructions only if some frame had asked for them before tracing begins.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._called)

    def stop(self) -> Footprint:
        """The footprint of what was done since ``start``; of everything if there was no start."""
        if not self._running:
            return EVERYTHING
        self._stop_tracing()
        return EVERYTHING if self._lost else self._footprint

    def _stop_tracing(self) -> None:
        if self._running:
            self._running = False
            if sys.gettrace() == self._called:
                sys.settrace(None)

    def _works(self) -> bool:
        """Whether this Python reports instructions: tried on a function that changes something."""
        if not hasattr(sys, "settrace"):
            return False
        space: dict[str, Any] = {}
        exec(compile(_PROBE, "<probe>", "exec"), space)  # not in a file of bateau's, whose functions are not followed
        self.works = True
        self.start()
        space["changes"](space["Thing"]())
        found = self.stop()
        self.reset()
        return not found.everything and ".changed" in found.writes and ".read" in found.reads

    # -- following -----------------------------------------------------------------------------------------------------------

    def _called(self, frame: FrameType, event: str, arg: Any) -> Any:
        """A function is called, or a coroutine goes on."""
        code = frame.f_code
        known = self._known.get(code)
        if known is None:
            known = self._known[code] = self._find_out(code)
        if isinstance(known, Plan):
            self._follow(frame, known)
            return self._instruction
        if known == "step over":
            sys.settrace(None)
        elif self._lost:
            return None
        elif known == "state" or known == "first":
            self._trusted(known, frame)
        elif (
            known == "inner"
            and is_bateaus_frame(frame.f_back)
            or known == "if"
            and condition_holds(code, frame.f_locals)
        ):
            return None
        elif known != "own":
            self._everything(f"{code.co_qualname} was called")
        return None

    def _follow(self, frame: FrameType, plan: Plan) -> None:
        frame.f_trace = self._instruction  # CPython 3.13 wants to see it before it is asked for instructions
        frame.f_trace_lines = False
        # Even where all is lost the frame gets its trace function: CPython 3.11 does not report a call where an exception is thrown into
        # a coroutine, and a later step may have to notice that.
        frame.f_trace_opcodes = not self._lost
        if not self._lost:
            self._values[id(frame)] = Values(plan.again)
            if plan.shared_frame:
                self._footprint.write(FRAME, None)

    def _find_out(self, code: CodeType) -> Plan | str:
        if code.co_filename.startswith(PACKAGE_DIR):
            if code.co_qualname in AFTER_STEP:
                return "step over"
            return kind_of(code)
        try:
            return plan_of(code)
        except (ValueError, KeyError):  # an instruction was misunderstood
            return ""

    def _trusted(self, kind: str, frame: FrameType) -> None:
        values = frame.f_locals
        first: Any = values.get(frame.f_code.co_varnames[0])
        if kind == "first":
            if isinstance(first, Task):
                if frame.f_code.co_name == "_begin":
                    self._footprint.write(NUMBERS, 0)
                elif frame.f_code.co_name == "finish" and ends_the_program(first):
                    self._everything("a task without a scope ended")
                    return
                self._footprint.write(STATE, self._number(first))
            return
        try:
            resource = resource_of(first)
        except (TypeError, AttributeError):
            self._everything(f"{frame.f_code.co_qualname} was called on something else")
            return
        if ends_quietly(frame.f_code, values):
            number = self._number(resource)
            self._footprint.add(STATE, number)
            if isinstance(first, Drain) and first.task is not None:
                self._footprint.completes.setdefault(first.task.id, {}).setdefault(STATE, set()).add(number)
        elif resource is not _CLOCK and resource is not _NEVER and not isinstance(resource, NextTurn):
            self._footprint.write(STATE, self._number(resource))

    def _instruction(self, frame: FrameType, event: str, arg: Any) -> Any:
        """An instruction of a followed function is about to run (or something else happens in it)."""
        if event == "opcode":
            plan = self._known[frame.f_code]
            values = self._values.get(id(frame))
            if self._lost or values is None:
                frame.f_trace_opcodes = False
            elif isinstance(plan, Plan):
                action = plan.actions.get(frame.f_lasti)
                if action is not None:
                    self.do(frame, values, action)
        elif event == "return":
            self._values.pop(id(frame), None)
        elif id(frame) not in self._values:  # an exception was thrown into it: it goes on without having been called
            plan = self._known[frame.f_code]
            if isinstance(plan, Plan):
                self._follow(frame, plan)
        return self._instruction
