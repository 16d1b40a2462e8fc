"""``unbounded_growth`` and ``task_explosion``: a queue without a bound that only gets longer, and tasks that only get more."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

from ...channel.ends import End
from ...channel.queue import UNBOUNDED
from ...kernel.errors import PACKAGE_DIR
from .base import Found, Hazard

if TYPE_CHECKING:
    from ..watch_look import Look, Seen

# Items, the line that made it (None: unknown), what it is called.
_Queue: TypeAlias = tuple[Any, "tuple[str, int] | None", str]
# Growing at so many looks in a row is growing.
_LOOKS = 5


class UnboundedGrowth(Hazard):
    """Longer at each look."""

    name = "unbounded_growth"
    title = "Growth without a bound"
    threshold = 1000
    unit = "items"
    remedy = "give the channel a capacity, so that who sends waits for who receives; or receive more, or send less"

    def check(self, look: Look) -> Iterable[Found]:
        last: dict[int, tuple[int, int]] = look.memory.get(self.name, {})
        now: dict[int, tuple[int, int]] = {}
        look.memory[self.name] = now
        for queue, seen in _queues(look).values():
            size, site = len(queue[0]), queue[1]
            before = last.get(id(queue[0]))
            looks = before[1] + 1 if before is not None and size > before[0] else 0
            now[id(queue[0])] = size, looks
            if looks >= _LOOKS and size >= self.limit(seen):
                yield from self.found(
                    id(queue[0]),
                    seen,
                    f"{queue[2]} has no bound, has grown at {looks} looks in a row, and has {size} items",
                    site,
                )


class TaskExplosion(Hazard):
    """Thousands of tasks of one kind at once."""

    name = "task_explosion"
    title = "Task explosion"
    threshold = 10_000
    unit = "tasks"
    remedy = "bound how many run: `bateau.scope(limit=n)`, `bateau.iter(...).map(fn).buffered(n)`, or a few workers that receive from a channel"

    def check(self, look: Look) -> Iterable[Found]:
        if look.total < self.limit(None):
            return
        counts = Counter(site for seen in look.seen if (site := seen.spawn_site or _defined(seen)) is not None)
        # Not every task is looked at where there are very many: those that are stand for all.
        share = look.total / len(look.seen)
        for site, count in counts.items():
            if count * share >= self.limit(None):
                yield from self.found(
                    site, None, f"{round(count * share)} tasks that were made here are alive at once", site
                )


def _defined(seen: Seen) -> tuple[str, int] | None:
    code = getattr(seen.coro, "cr_code", None)
    return None if code is None or code.co_filename.startswith(PACKAGE_DIR) else (code.co_filename, code.co_firstlineno)


def _queues(look: Look) -> dict[int, tuple[_Queue, Seen]]:
    """The queues without a bound that the tasks have in their variables (or in an object of theirs)."""
    asyncio_queue: Any = getattr(sys.modules.get("asyncio"), "Queue", None)
    found: dict[int, tuple[_Queue, Seen]] = {}
    for seen in look:
        kept: list[tuple[ref[Any], tuple[str, int] | None, str]] | None = seen.kept.get("queues")
        if kept is None:
            kept = [
                (ref(queue[0]), *queue[1:])
                for each in _variables(seen)
                if (queue := _queue(each, asyncio_queue)) is not None
            ]
            if seen.token is not None:
                seen.kept["queues"] = kept
        for items, site, words in kept:
            if (queue := items()) is not None:
                found.setdefault(id(queue), ((queue, site, words), seen))
    return found


def _queue(each: Any, asyncio_queue: Any) -> _Queue | None:
    """What this object is, if it is a queue without a bound, or an end of one."""
    if isinstance(each, End):
        state = each._state
        return (state.items, each._site, state.label()) if getattr(state, "capacity", None) == UNBOUNDED else None
    if asyncio_queue is not None and isinstance(each, asyncio_queue):
        queue: Any = each
        return (queue._queue, None, "an asyncio.Queue") if queue.maxsize <= 0 else None
    return None


def _variables(seen: Seen) -> Iterator[Any]:
    """What the variables of a task's frames refer to, and what the attributes of an object there do."""
    for coro in seen.chain():
        if not hasattr(coro, "cr_frame") and not hasattr(coro, "ag_frame"):
            continue
        for each in gc.get_referents(coro):
            yield each
            inner: Any = getattr(each, "__dict__", None)
            if type(inner) is dict and not isinstance(each, type) and not callable(each):
                yield from tuple(inner.values())  # pyright: ignore[reportUnknownArgumentType]  # whatever they are
