"""``lock_held_across_io``: others wait for a lock whose holder waits for the world outside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...kernel.resource import OUTSIDE
from ..words import duration
from .base import Found, Hazard

if TYPE_CHECKING:
    from ...kernel.resource import Resource
    from ..watch_look import Look

_LOCKS = frozenset(("lock", "rwlock", "semaphore", "limiter", "condition"))


class LockHeldAcrossIO(Hazard):
    """The lock makes everybody as slow as the other end of a connection."""

    name = "lock_held_across_io"
    title = "Lock held across I/O"
    threshold = 1.0
    remedy = "read and write before taking the lock or after releasing it; hold it for the change of what it guards, and no longer"

    def check(self, look: Look) -> Iterable[Found]:
        told: set[int] = set()
        for seen in look:
            op = seen.op
            if (
                not seen.is_parked
                or op is None
                or op.resource.kind not in _LOCKS
                or look.waited(seen) < self.limit(seen)
            ):
                continue
            for task in tuple(op.resource.holders()):
                holder = look.of(task)
                if holder is None or holder.op is None or holder.key in told:
                    continue
                if holder.is_parked and holder.op.resource.satisfiers() == OUTSIDE and not _is_sleep(holder.op):
                    told.add(holder.key)
                    yield from self.found(
                        (holder.key, id(op.resource)),
                        holder,
                        f"task {holder.name!r} holds {_name(op.resource)} while it waits: {holder.op.describe()}; task "
                        f"{seen.name!r} has waited for the lock for {duration(look.waited(seen))}, at {seen.site[0]}:{seen.site[1]}",
                        sites=(("the lock is awaited", *seen.site[:2]),),
                    )


def _name(lock: Resource) -> str:
    """Without the holder, whom the sentence begins with."""
    name = getattr(lock, "name", None)
    return f"{lock.kind} {name!r}" if name else lock.describe()


def _is_sleep(op: object) -> bool:
    """Sleeping is waiting, but not for anybody."""
    return type(op).__name__ in ("Sleep", "NextTick")
