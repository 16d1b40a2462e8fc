"""``lost_wakeup``: what a task waits for has come, but its loop sleeps on, because nobody woke it.

So it goes where a thread (a C library's, say) completes an asyncio future by ``set_result``, which is for the loop's own thread: the task
is put into the loop's queue, and the loop, which sleeps in its selector, looks there when something else happens to wake it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..words import duration
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..watch_look import Look


class LostWakeup(Hazard):
    """Done, and not told."""

    name = "lost_wakeup"
    title = "Wake-up lost"
    threshold = 0.5
    remedy = (
        "complete the future on its loop: `loop.call_soon_threadsafe(future.set_result, value)`; "
        "or await a `bateau.thread.CallbackFuture()`, which any thread may complete"
    )

    def check(self, look: Look) -> Iterable[Found]:
        # By task: the number of the future (which the task keeps alive as long as this holds), and since when it was seen done.
        last: dict[int, tuple[int, float]] = look.memory.get(self.name, {})
        now: dict[int, tuple[int, float]] = {}
        look.memory[self.name] = now
        if not look.idle:
            return
        for seen in look:
            future = seen.token
            done = getattr(future, "done", None)
            if seen.op is not None or done is None or not done():
                continue
            before = last.get(seen.key)
            since = before[1] if before is not None and before[0] == id(future) else look.now
            now[seen.key] = id(future), since
            if before is not None and look.now - since >= self.limit(seen):
                yield from self.found(
                    (seen.key, id(future)),
                    seen,
                    f"what task {seen.name!r} awaits was completed {duration(look.now - since)} ago or more, off the loop's "
                    f"thread, and the {look.loop.kind} loop, which sleeps, was not woken",
                )
