"""``scheduling_delay``: a step held its loop, and everybody else waited. Seen by ``watch_delay`` while it happens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..words import duration
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..watch_look import Seen
    from ..watch_loops import WatchedLoop


class SchedulingDelay(Hazard):
    """A blocking call or a long computation in a task."""

    name = "scheduling_delay"
    title = "Scheduling delay detected"
    threshold = 0.1
    remedy = (
        "await the async counterpart of the call, or run it elsewhere: `await bateau.thread.run(fn)` for what blocks, "
        "`bateau.offload` or `.par(on=processes())` for what computes"
    )

    def check_stack(
        self, loop: WatchedLoop, seen: Seen | None, stack: list[tuple[str, int, str]], held: float, *, one_step: bool
    ) -> Iterable[Found]:
        """The finding for a loop that has been held for so long, by what that stack (innermost first) shows."""
        filename, lineno, function = stack[0]
        who = f"task {seen.name!r}" if seen is not None else "a callback"
        what = "has held" if one_step else "and others have kept"
        place = f"line {lineno} of {function}"
        return self.found(
            (id(loop.source), filename, lineno),
            seen,
            f"{who} {what} the {loop.kind} loop for {duration(held)} so far, at {place}",
            (filename, lineno),
            evidence=[f"called by {name}:{line} in {fn}" for name, line, fn in stack[1:]],
        )
