"""For how long a lock, a permit or a place has been held: at least, worked out from one look to the next.

Nobody takes the time when a lock changes hands, which keeps locks cheap. Two things prove a lower bound nevertheless. Who holds it and
waits for something else has held it for as long as that wait lasts. And where somebody has waited for it since the look before, and it was
held then by who holds it now, it has not changed hands in between: who waits is served in order, so whoever had given it away would
have to stand behind that waiter to get it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Waiters of one resource that are asked how long they have waited: the first have as a rule waited longest.
_ASKED = 8
# Waits are told in thousandths of a second.
_ROUNDED = 0.001


class HoldTimes:
    """What one reader remembers between its looks: numbers alone, and of what was held at the last look only."""

    def __init__(self) -> None:
        # By resource and holder: since when, at least. A task's number and a thread's can't be mixed up: see ``_holders``.
        self._since: dict[tuple[int, int, bool], float] = {}
        self._last: float | None = None

    def note(self, resources: Mapping[int, dict[str, Any]], tasks: Mapping[int, dict[str, Any]], now: float) -> None:
        """Fill in ``held`` wherever somebody holds something. ``now``: when the looks' times of waiting end, in seconds."""
        before, since = self._since, dict[tuple[int, int, bool], float]()
        for number, fields in resources.items():
            if "holders" not in fields and "holder_threads" not in fields:
                continue
            lasting = max((_waited(tasks.get(one)) for one in fields.get("waiters", ())[:_ASKED]), default=0.0)
            steady = self._last is not None and lasting + _ROUNDED >= now - self._last
            held: list[float] = []
            for holder, is_thread in _holders(fields):
                key = number, holder, is_thread
                own = now if is_thread else now - _waited(tasks.get(holder))
                at = since[key] = min(own, before.get(key, now) if steady else now)
                held.append(round(now - at, 3))
            fields["held"] = tuple(held)
        self._since, self._last = since, now


def _holders(fields: Mapping[str, Any]) -> list[tuple[int, bool]]:
    tasks = [(holder, False) for holder in fields.get("holders", ())]
    return [*tasks, *((holder, True) for holder in fields.get("holder_threads", ()))]


def _waited(fields: Mapping[str, Any] | None) -> float:
    """For how many seconds that task has been in the wait it is in; 0 if it is in none, or it is not known."""
    if fields is None or fields["state"] != "waiting":
        return 0.0
    wait = fields.get("waits")
    return (wait.waited or 0.0) if wait is not None else 0.0
