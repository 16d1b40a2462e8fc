"""One look at a loop: its tasks, what each waits on, and since when, as far as the watcher has seen.

The kernel takes no time when a task parks, which keeps parking cheap. So how long a wait lasts is known from its being seen again: a
look finds the same operation (or, of foreign waits, the same future) where the last one found it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from ..kernel.cancellation import CancelNode
from ..kernel.explain import sites_of
from ..kernel.operation import PARKED, Operation
from ..kernel.task import Task

if TYPE_CHECKING:
    from .watch_loops import WatchedLoop

# At most so many tasks of one loop are looked at, oldest first: what a look costs, and keeps, has a bound.
MOST_TASKS = 20_000

# After so many tasks, a pause is thought of.
_BREATH = 32

T = TypeVar("T")
_NOWHERE = ("<unknown>", 0, "?")


class Seen:
    """One task at one look: ``task`` is bateau's record of it and ``native`` the loop's own, either of which may be None."""

    __slots__ = ("coro", "key", "kept", "native", "op", "since", "steady_since", "task", "token")

    def __init__(self, task: Task[Any] | None, native: Any) -> None:
        self.task = task
        self.native = native
        self.key = id(native) if task is None else id(task)
        # The operation it waits in, until somebody has granted it: from then on it is ready.
        op = task.waiting if task is not None else None
        self.op: Operation[Any] | None = op if op is not None and op.state == PARKED else None
        self.coro: Any = task.coro if task is not None and task.coro is not None else _coro_of(native)
        # What it waits on: while this stays the same, it is the same wait.
        self.token: object = self.op if self.op is not None or op is not None else _foreign_wait(task, native)
        # When this wait was first seen, and when the task was first seen at its place without waiting for anything.
        self.since = 0.0
        self.steady_since = 0.0
        # What was worked out of the place where it waits, by whoever did: it is true for as long as the same wait lasts.
        self.kept: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The task's name."""
        if self.task is not None:
            return self.task.name
        get_name = getattr(self.native, "get_name", None)
        return get_name() if get_name is not None else str(self.native.name)

    @property
    def spawn_site(self) -> tuple[str, int] | None:
        """Where it was spawned, if that is known."""
        site = self.task.spawn_site if self.task is not None else None
        return site if site is not None and site[0] != "<unknown>" else None

    @property
    def context(self) -> Context | None:
        """Its context variables, if it can be asked for them."""
        if self.task is not None and self.task.context is not None:
            return self.task.context
        found: Any = getattr(self.native, "context", None)
        if found is None and sys.version_info >= (3, 12) and hasattr(self.native, "get_context"):
            found = self.native.get_context()
        return found if isinstance(found, Context) else None

    @property
    def site(self) -> tuple[str, int, str]:
        """File, line and function of the user's where it is suspended."""
        found: tuple[str, int, str] | None = self.kept.get("site")
        if found is None:
            own, innermost = sites_of(self.coro)
            found = self.kept["site"] = own or innermost or _NOWHERE
        return found

    @property
    def is_parked(self) -> bool:
        """Whether it waits in an operation of bateau's, which nobody has granted yet."""
        return self.op is not None and self.op.state is PARKED

    @property
    def has_ended(self) -> bool:
        """Whether it has ended since."""
        if self.task is not None:
            return self.task.ended
        done = getattr(self.native, "done", None)
        return bool(done()) if done is not None else getattr(self.native, "_cancel_status", self) is None

    def chain(self) -> Iterator[Any]:
        """Its coroutine, what that awaits, and so on inwards."""
        awaited: Any = self.coro
        while awaited is not None:
            yield awaited
            awaited = (
                getattr(awaited, "cr_await", None)
                or getattr(awaited, "ag_await", None)
                or getattr(awaited, "gi_yieldfrom", None)
            )

    def nodes(self) -> Iterator[CancelNode]:
        """The scopes it is in, the innermost first, and those around its own."""
        node: CancelNode | None = self.task.node if self.task is not None else None
        while node is not None:
            yield node
            node = node.parent


class _Dates:
    """What is kept of a task until the next look, which keeps nothing alive."""

    __slots__ = ("kept", "since", "steady_since", "token", "who")

    def __init__(self, one: Seen) -> None:
        self.who = _weakly(one.task if one.task is not None else one.native)
        self.token = _weakly(one.token)
        self.since = one.since
        self.steady_since = one.steady_since
        self.kept = one.kept

    def is_of(self, one: Seen) -> bool:
        """Whether this is the same task, in the same wait."""
        return _same(self.who, one.task if one.task is not None else one.native) and _same(self.token, one.token)


def _weakly(value: object) -> object:
    """A weak reference, or where there is none to be had, the object's number."""
    if value is None:
        return None
    try:
        return ref(value)
    except TypeError:
        return id(value)


def _same(kept: object, value: object) -> bool:
    """Whether ``kept``, which ``_weakly`` made, is of this object."""
    if kept is None or value is None:
        return kept is value
    return kept() is value if isinstance(kept, ref) else kept == id(value)


class Look:
    """What one look at one loop has found; ``memory`` is each hazard's own, kept from look to look."""

    def __init__(
        self,
        loop: WatchedLoop,
        now: float,
        before: Look | None,
        *,
        idle: bool = False,
        blocked_until: float = 0.0,
        breathe: Callable[[], None] | None = None,
    ) -> None:
        self.loop = loop
        self.now = now
        # Whether the loop waits for the world, and until when a step of it was known to hold it.
        self.idle = idle
        self.blocked_until = blocked_until
        self._breathe = breathe
        self.memory: dict[str, Any] = {} if before is None else before.memory
        self.seen: list[Seen] = []
        self.by_task: dict[int, Seen] = {}
        pairs = list(loop.pairs())
        self.total = len(pairs)
        known = before._dates if before is not None else {}
        self._dates: dict[int, _Dates] = {}
        for task, native in self.slowly(islice(pairs, MOST_TASKS)):
            one = Seen(task, native)
            self._date(one, known.get(one.key))
            self.seen.append(one)
            if task is not None:
                self.by_task[id(task)] = one

    def __iter__(self) -> Iterator[Seen]:
        """The tasks, one after the other, with pauses in which the program goes on."""
        return self.slowly(self.seen)

    def slowly(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with pauses in which the program goes on."""
        breathe = self._breathe
        if breathe is None:
            yield from items
            return
        for number, item in enumerate(items):
            if not number % _BREATH:
                breathe()
            yield item

    def _date(self, one: Seen, last: _Dates | None) -> None:
        one.since = one.steady_since = self.now
        if last is None or not last.is_of(one):
            return
        if one.token is None:
            one.steady_since = last.steady_since
        else:
            one.since = last.since
            one.kept = last.kept

    def forget(self) -> None:
        """Let go of the tasks, keeping their dates for the next look.

        What has ended meanwhile may be kept alive by us alone. It is handed to its loop to be dropped there: what is destroyed with it
        (results, streams) belongs to that thread.
        """
        self._dates = {one.key: _Dates(one) for one in self.seen}
        self.by_task = {}
        self.seen, seen = [], self.seen
        ended = [one for one in seen if one.has_ended]
        seen.clear()
        if ended:
            try:
                self.loop.ping(ended.clear)
            except RuntimeError:
                return

    def waited(self, seen: Seen) -> float:
        """For how many seconds that task has been seen in the wait that it is in; 0 if it is in none."""
        return self.now - seen.since if seen.token is not None else 0.0

    def of(self, task: Task[Any]) -> Seen | None:
        """What this look has of that task."""
        return self.by_task.get(id(task))


def _coro_of(native: Any) -> Any:
    get_coro = getattr(native, "get_coro", None)
    return get_coro() if get_coro is not None else getattr(native, "coro", None)


def _foreign_wait(task: Task[Any] | None, native: Any) -> object:
    """What a task that is in no operation of ours waits on, or None: it is ready, running, or can't be asked."""
    if native is None:
        face = task.face if task is not None else None
        return getattr(face, "_fut_waiter", None)
    if hasattr(native, "_fut_waiter"):
        return native._fut_waiter
    # trio: what can abort its wait is made for each wait anew, and gone when it is rescheduled.
    return getattr(native, "_abort_func", None)
