"""Whether C code holds the interpreter of a process (a regular expression, a big sort): then no thread of it answers anybody."""

from __future__ import annotations

import time

from ..errors import InsightError
from .interpreter import find_python
from .process import ProcessMemory

# Seconds between two looks, many times what a thread of Python code keeps the interpreter for.
_PAUSE = 0.05
_AGENT = ("insight/agent.py", "insight/peer.py")


def is_held(pid: int) -> bool:
    """Whether one thread, at one place, had the interpreter at two looks, and it is not the agent's. False where that can't be read.

    Asked about a process whose agent has not answered for some time: by itself it would only be a hint.
    """
    first = _holder(pid)
    if first is None:
        return False
    time.sleep(_PAUSE)
    return _holder(pid) == first


def _holder(pid: int) -> tuple[int, int, int] | None:
    """The thread that has the interpreter, and where it is: its ident, the frame, the line. None for the agent's own, and nobody."""
    try:
        python = find_python(ProcessMemory(pid))
        for interpreter in python.interpreters():
            for thread in python.threads(interpreter):
                if thread.holds_gil:
                    if not thread.stack or any(step.link.code.file.endswith(_AGENT) for step in thread.stack):
                        return None
                    inner = thread.stack[-1]
                    return thread.ident, inner.frame, inner.link.line
    except (InsightError, OSError):
        return None
    return None
