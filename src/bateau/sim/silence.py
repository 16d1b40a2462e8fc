"""What the dead would say is not said: destructors that run while a world is taken apart have no effect, and nobody to tell."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ..kernel import current
from ..kernel.errors import HazardWarning
from ..kernel.task import Task
from .thread import Killed, here


@contextmanager
def the_dead_are_silent() -> Generator[None]:
    """While the block runs, hazards are not reported ("was dropped without being closed": it was, by a power cut), nor is what destructors
    raise on threads of the world: each simulated call raises ``Killed`` in them, and what they make of it is nobody's.
    """
    told = sys.unraisablehook

    def tell(args: Any) -> None:
        if here.world is None and not isinstance(args.exc_value, Killed):
            told(args)

    sys.unraisablehook = tell
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HazardWarning)
            yield
    finally:
        sys.unraisablehook = told


# How often one task of the dead may try to wait while it is closed, before it is let.
MOST_WAITS = 1000
# Those that would not end: referred to for good, since being freed would close them again.
_undead: list[Any] = []


def close_dead(grave: Any) -> None:
    """Close the coroutine of a task of the dead (or a coroutine of asyncio's). What its cleanup raises comes out.

    A loop in it that swallows every error and waits again would go on for ever, since nothing can be waited for here. After a
    thousand times it is let wait, and has thereby refused to be closed.
    """
    if not isinstance(grave, Task):
        grave.close()
        return
    task: Task[Any] = grave  # pyright: ignore[reportUnknownVariableType]  # of whatever
    if task.coro is None:
        return
    waits = 0

    def stubborn() -> Task[Any] | None:
        nonlocal waits
        waits += 1
        if waits <= MOST_WAITS:
            return None
        task.node.effective = task.node.stopping = None
        return task

    current.finders.append(stubborn)
    try:
        task.coro.close()
    finally:
        current.finders.remove(stubborn)
        if waits > MOST_WAITS:
            current.forget_hint()
            _undead.append(task)
