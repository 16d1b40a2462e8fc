"""``cancellation_ignored``: a task was cancelled long ago, and is still there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...kernel.cancellation import CancelNode
from ...kernel.cleanup import Cleanup
from ..words import duration
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..watch_look import Look, Seen


class CancellationIgnored(Hazard):
    """Cancelled, and not ended: in a shield without an end, in a foreign wait that catches cancellations, or in a computation."""

    name = "cancellation_ignored"
    title = "Cancellation ignored"
    threshold = 5.0
    remedy = (
        "end after cleaning up: raise the cancellation again, give the shield an end (`bateau.cleanup(seconds)`), "
        "and let long computations pass a `bateau.checkpoint()`"
    )

    def check(self, look: Look) -> Iterable[Found]:
        first: dict[int, float] = look.memory.setdefault(self.name, {})
        now: dict[int, float] = {}
        for seen in look:
            why = _cancelled(seen)
            if why is None:
                continue
            since = now[seen.key] = first.get(seen.key, look.now)
            if look.now - since >= self.limit(seen):
                yield from self.found(
                    seen.key,
                    seen,
                    f"task {seen.name!r} was cancelled {duration(look.now - since)} ago or more ({why}), and has not ended",
                )
        look.memory[self.name] = now


def _cancelled(seen: Seen) -> str | None:
    """Why a task that has not ended is cancelled, if it is, and it is not cleaning up within a budget."""
    task = seen.task
    if task is None:
        cancelling = getattr(seen.native, "cancelling", None)
        if cancelling is not None:
            return "by asyncio" if cancelling() and not seen.native.done() else None
        status = getattr(seen.native, "_cancel_status", None)
        return "by trio" if status is not None and status.effectively_cancelled else None
    node: CancelNode | None = task.node
    while node is not None:
        if isinstance(node, Cleanup):
            return None  # it has a budget, whose overrun is told
        if node.effective is not None:
            return str(node.effective)
        if node is task:
            break
        node = node.parent
    parent = task.parent
    if parent is not None and parent.effective is not None and not task.shielded:
        return str(parent.effective)
    return None
