"""The rules, by name. A new one is a class of ``Rule`` in this list, a row and a chapter in docs/hazards.md, and a file of cases."""

from __future__ import annotations

from .base import Rule as Rule
from .blocking import BlockingFileCall, NestedBlockOn, SchedulingDelay
from .cancelling import SwallowedCancellation
from .dropped import DroppedWithoutClose, LeftoverTask, NeverAwaited
from .foreign import ForeignAwait
from .locks import LockHeldAcrossIO, ThreadLockAcrossAwait
from .waiting import NeverWaits, SelfWakes

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        BlockingFileCall,
        DroppedWithoutClose,
        ForeignAwait,
        LeftoverTask,
        LockHeldAcrossIO,
        NestedBlockOn,
        NeverAwaited,
        NeverWaits,
        SchedulingDelay,
        SelfWakes,
        SwallowedCancellation,
        ThreadLockAcrossAwait,
    )
}
