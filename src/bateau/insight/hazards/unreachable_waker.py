"""``unreachable_waker``: a task waits on something that nobody else refers to any more, so nobody can ever end the wait.

What refers to what only the garbage collector knows. Asking it stops the program for as long as it takes to visit every object, so this is
checked for ``watch(deep=True)`` alone, once for each wait, some time after it has begun.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from ...kernel.resource import Primitive
from ..words import duration
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..watch_look import Look, Seen

# At most so many objects are visited on the way from the resource to the program.
_MOST = 200


class UnreachableWaker(Hazard):
    """Nobody is left who could set, release or send."""

    name = "unreachable_waker"
    title = "Nobody is left to end this wait"
    threshold = 10.0
    deep = True
    remedy = (
        "keep what the task waits on where the one that should end the wait can reach it; if nobody should, don't wait"
    )

    def check(self, look: Look) -> Iterable[Found]:
        for seen in look:
            op = seen.op
            if op is None or not seen.is_parked or not isinstance(op.resource, Primitive):
                continue
            if tuple(op.resource.holders()) or look.waited(seen) < self.limit(seen):
                continue
            lost: bool | None = seen.kept.get(self.name)
            if lost is None:
                lost = seen.kept[self.name] = not _is_reachable(seen)
            if lost:
                yield from self.found(
                    (seen.key, id(op)),
                    seen,
                    f"task {seen.name!r} has waited for {duration(look.waited(seen))}: {op.describe()}, "
                    "to which nothing else in the program refers",
                )


def _is_reachable(seen: Seen) -> bool:
    """Whether something refers to the resource but the wait itself."""
    op = seen.op
    assert op is not None
    # The wait's own: the operation, the resource's queue, the suspended frames of the task.
    own = {id(op), id(op.resource), id(seen), id(seen.kept)}
    own.update(id(coro) for coro in seen.chain())
    own.update(id(frame) for coro in seen.chain() if (frame := getattr(coro, "cr_frame", None)) is not None)
    todo: list[Any] = [op.resource]
    own.add(id(todo))
    visited = 0
    while todo:
        target = todo.pop()
        each: Any
        for each in gc.get_referrers(target):
            if id(each) in own or each is todo:
                continue
            visited += 1
            if isinstance(each, FrameType):
                if each.f_code.co_filename == __file__:
                    continue
                return True
            kind = type(each).__name__
            if visited > _MOST or kind in ("module", "coroutine", "async_generator", "generator", "cell"):
                return True
            if kind == "dict" and {"__name__", "__builtins__"} <= set(each):
                return True  # a module's globals
            own.add(id(each))
            todo.append(each)
    return False
