"""``thread_lock_across_await``: a task is suspended inside ``with lock:``, where the lock is one for threads.

The next task of this loop that wants the lock blocks the whole loop, the holder included, for ever. A suspended ``with`` block has the
bound ``__exit__`` of its lock on its frame's stack, which the garbage collector's view of the coroutine shows.
"""

from __future__ import annotations

import gc
from _thread import RLock, allocate_lock
from collections.abc import Iterable
from types import AsyncGeneratorType, CoroutineType
from typing import TYPE_CHECKING, Any

from ..tables import exits
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..watch_look import Look

_LOCK_TYPES = (type(allocate_lock()), RLock)


class ThreadLockAcrossAwait(Hazard):
    """The next one to want it blocks the loop."""

    name = "thread_lock_across_await"
    title = "Thread lock held across an await"
    threshold = 0.0
    remedy = "use `bateau.sync.Lock` with `async with`, or release the thread's lock before the await"

    def check(self, look: Look) -> Iterable[Found]:
        for seen in look:
            if look.now - min(seen.since, seen.steady_since) < self.limit(seen):
                continue
            if self.name in seen.kept:
                continue  # looked at before, in this very wait, and there was none
            found = ((coro, lock) for coro in seen.chain() if (lock := held_by(coro)) is not None)
            coro, lock = next(found, (None, None))
            if lock is None and seen.token is not None:
                seen.kept[self.name] = True
            if lock is not None:
                frame = getattr(coro, "cr_frame", None) or getattr(coro, "ag_frame", None)
                site = (frame.f_code.co_filename, frame.f_lineno) if frame is not None else seen.site[:2]
                yield from self.found(
                    (seen.key, id(lock)),
                    seen,
                    f"task {seen.name!r} is suspended inside `with {_name(coro, lock)}`: the next task that wants this lock for threads blocks the loop",
                    site,
                )


def _name(coro: Any, lock: Any) -> str:
    """What the program calls the lock, if that is a global name; else what it is."""
    frame: Any = getattr(coro, "cr_frame", None) or getattr(coro, "ag_frame", None)
    names: dict[str, Any] = frame.f_globals if frame is not None else {}
    found = next((name for name, value in tuple(names.items()) if value is lock), None)
    return found or f"threading.{'RLock' if isinstance(lock, RLock) else 'Lock'}()"


def held_by(coro: Any) -> Any:
    """A lock for threads that is held by a ``with`` block in which that coroutine is suspended, or None."""
    if not isinstance(coro, CoroutineType | AsyncGeneratorType):
        return None
    for owner in exits(gc.get_referents(coro), "__exit__"):
        if isinstance(owner, _LOCK_TYPES):
            return owner
        inner = getattr(owner, "_lock", None)  # threading.Condition
        if isinstance(inner, _LOCK_TYPES) and type(owner).__module__ == "threading":
            return inner
    return None
