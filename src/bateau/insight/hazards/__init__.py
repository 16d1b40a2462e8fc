"""The hazards: what is not an error but should not happen silently, each under the one name that lint, report, console and book share.

Each is one small object with a name, a title, a remedy, a threshold, and a check. Some are reported by the library where they happen
(``reported``); the others are looked for by the watcher (``bateau.insight.watch``). ``docs/hazards.md`` has a chapter for each.
"""

from __future__ import annotations

from .base import Found, Hazard
from .cancellation_ignored import CancellationIgnored
from .channels import ChannelStayedFull, NeverStartedConsumer
from .deadlock import Deadlock
from .growth import TaskExplosion, UnboundedGrowth
from .linted import LINTED
from .lock_held_across_io import LockHeldAcrossIO
from .lost_wakeup import LostWakeup
from .never_awaited import NeverAwaited
from .outlier_sleeper import OutlierSleeper
from .ready_tasks import SelfWakes, Starvation
from .reported import REPORTED
from .scheduling_delay import SchedulingDelay
from .thread_lock_across_await import ThreadLockAcrossAwait
from .unreachable_waker import UnreachableWaker

SCHEDULING_DELAY = SchedulingDelay()
NEVER_AWAITED = NeverAwaited()
UNRETRIEVED = next(hazard for hazard in REPORTED if hazard.name == "unretrieved_error")

# What each look at the tasks is judged by, in this order: whom a deadlock names, the others need not.
LOOKED_FOR: tuple[Hazard, ...] = (
    Deadlock(),
    NeverStartedConsumer(),
    ChannelStayedFull(),
    LostWakeup(),
    CancellationIgnored(),
    ThreadLockAcrossAwait(),
    LockHeldAcrossIO(),
    Starvation(),
    SelfWakes(),
    OutlierSleeper(),
    UnboundedGrowth(),
    TaskExplosion(),
    UnreachableWaker(),
)

_BY_NAME: dict[str, Hazard] = {
    hazard.name: hazard for hazard in (*REPORTED, SCHEDULING_DELAY, NEVER_AWAITED, *LOOKED_FOR)
}

__all__ = [
    "LINTED", "LOOKED_FOR", "NEVER_AWAITED", "SCHEDULING_DELAY", "UNRETRIEVED", "Found", "Hazard", "by_name", "catalogue", "register",
]  # fmt: skip


def catalogue() -> tuple[Hazard, ...]:
    """Every hazard that is reported or looked for at run time, by name."""
    return tuple(_BY_NAME[name] for name in sorted(_BY_NAME))


def register() -> tuple[Hazard, ...]:
    """Every name there is: the catalogue, and what only ``bateau lint`` tells of. The book has a chapter for each."""
    return tuple(sorted((*_BY_NAME.values(), *LINTED), key=lambda hazard: hazard.name))


def by_name(name: str) -> Hazard:
    """The hazard of that name. Raises ``ValueError`` where there is none."""
    try:
        return _BY_NAME[name]
    except KeyError:
        known = ", ".join(sorted(_BY_NAME))
        raise ValueError(f"no hazard is called {name!r}; there are: {known}") from None
