"""The small public calls on the running task: checkpoint, stopping, now."""

from __future__ import annotations

from typing import Literal

from .current import current_host, current_task
from .operation import Checkpoint
from .resource import OUTSIDE, Resource


class _Turn(Resource):
    """What a checkpoint waits on: its next turn."""

    __slots__ = ()
    kind = "next turn"

    def satisfiers(self) -> Literal["outside"]:
        return OUTSIDE


_TURN = _Turn()


def checkpoint() -> Checkpoint:
    """Await it: a cancellation check, and a turn for the others if this task's step budget is used up.

    A cancellation point; cancelled, it had no effect.
    """
    return Checkpoint(_TURN, False)


def yield_now() -> Checkpoint:
    """Await it: let every other ready task run once. A cancellation point, before and after the turn."""
    return Checkpoint(_TURN, True)


def stopping() -> bool:
    """Whether the current task was asked to stop (phase one; see ``Scope.stop``)."""
    return current_task().node.stopping is not None


def now() -> float:
    """The running program's clock, in seconds: monotonic, with an arbitrary start; virtual in simulation."""
    return current_host().now()
