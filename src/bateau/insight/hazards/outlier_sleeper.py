"""``outlier_sleeper``: of many tasks that wait at the same line, one has waited far longer than the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..words import duration
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..watch_look import Look, Seen

# So many others are needed to say what is usual, and it takes so many times as long to be unusual.
_OTHERS = 8
_TIMES = 10


class OutlierSleeper(Hazard):
    """Perhaps nobody will wake it."""

    name = "outlier_sleeper"
    title = "A task sleeps far longer than its like"
    threshold = 60.0
    remedy = "look at what it waits on, and who should have ended that; bound the wait with `bateau.timeout` where it depends on a peer"

    def check(self, look: Look) -> Iterable[Found]:
        if not any(look.waited(seen) >= self.limit(seen) for seen in look):
            return
        groups: dict[tuple[str, int, str], list[Seen]] = {}
        for seen in look:
            if seen.token is not None:
                groups.setdefault(seen.site, []).append(seen)
        for group in groups.values():
            if len(group) <= _OTHERS:
                continue
            ages = sorted(look.waited(seen) for seen in group)
            usual = ages[len(ages) * 9 // 10 - 1]
            for seen in group:
                age = look.waited(seen)
                if age >= self.limit(seen) and age > _TIMES * max(usual, 0.001):
                    what = seen.op.describe() if seen.op is not None else "something outside bateau"
                    yield from self.found(
                        seen.key,
                        seen,
                        f"task {seen.name!r} has waited for {duration(age)} ({what}), where {len(group) - 1} others "
                        f"at the same line wait for {duration(usual)} at most, but for a tenth of them",
                    )
