"""The small public calls on the running task: checkpoint, stopping, now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .current import current_host, current_task, foreign_task, tls
from .operation import NEW, Checkpoint, YieldNow
from .twin import keep, native, replaced


def checkpoint() -> Checkpoint:
    """Await it: a cancellation check, and a turn for the others if this task's step budget is used up.

    A cancellation point; cancelled, it had no effect.
    """
    return Checkpoint()


def passes() -> bool:
    """What composite calls ask before an effect that needs no wait: True counts it as a step, as ``checkpoint`` would.

    False where awaiting a checkpoint would raise or suspend; then the caller awaits one, which decides. Not public.
    """
    task = tls.running.task or foreign_task()
    if task.budget > 0 and task.node.effective is None and not (task.foreign and task.host.is_cancelled(task)):
        task.budget -= 1
        return True
    return False


keep(passes=passes)


def yield_now() -> YieldNow:
    """Await it: let every other ready task run once. A cancellation point, before and after the turn."""
    op = YieldNow()
    op.state = NEW
    return op


def stopping() -> bool:
    """Whether the current task was asked to stop (phase one; see ``Scope.stop``)."""
    return current_task().node.stopping is not None


def now() -> float:
    """The running program's clock, in seconds: monotonic, with an arbitrary start; virtual in simulation."""
    return current_host().now()


if not TYPE_CHECKING and native is not None:
    replaced.update(checkpoint=checkpoint, yield_now=yield_now)
    checkpoint = native.checkpoint
    yield_now = native.yield_now
