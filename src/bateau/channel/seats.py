"""Who sits at the ends of a channel: the open ends, the tasks that use them, and the lines that made them.

A wait on a channel can only be explained (law 16) by who stands at the other end. Python does not say who holds a
reference, so an end remembers the tasks that have used it, weakly. An open end that nobody alive has used may be in
anybody's hands, and then the answer is ``"outside"``: an explanation may be incomplete, but never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal
from weakref import ref

from ..kernel.operation import PARKED

if TYPE_CHECKING:
    from ..kernel.operation import Operation
    from ..kernel.task import Task

Site = tuple[str, int]


class Seat:
    """One open end. The end has it, and its channel's state; it is given up when the end is closed or dropped.

    Invariant: ``user_id`` is the id of the task that used the end last, and that task is in ``users``.
    """

    __slots__ = ("_limit", "by_threads", "site", "user_id", "users")

    def __init__(self, site: Site) -> None:
        self.site = site
        self.user_id = 0
        self.users: dict[int, ref[Task[Any]]] = {}
        # Plain threads used it as well, who are no tasks.
        self.by_threads = False
        self._limit = 8

    def note(self, task: Task[Any]) -> None:
        """``task`` uses this end. Hot paths call it only where ``user_id`` differs."""
        self.user_id = task.id
        users = self.users
        if task.id not in users:
            users[task.id] = ref(task)
            if len(users) > self._limit:  # a task per request: forget those that have ended, now and then
                self.users = {each.id: ref(each) for each in (*self.alive(), task)}
                self._limit = 2 * len(self.users) + 8

    def alive(self) -> list[Task[Any]]:
        """The tasks that have used this end and have not ended, first come first."""
        found = [user() for user in tuple(self.users.values())]
        return [task for task in found if task is not None and not task.ended]


def users_of(seats: Iterable[Seat]) -> Iterable[Task[Any]] | Literal["outside"]:
    """The tasks at these ends: nobody if there is no end, ``"outside"`` if some end is in unknown hands."""
    found: dict[Task[Any], None] = {}
    for seat in tuple(seats):
        alive = seat.alive()
        if not alive or seat.by_threads:
            return "outside"
        found.update(dict.fromkeys(alive))
    return tuple(found)


def unused(op: Operation[Any], seats: Iterable[Seat], what: str) -> str:
    """For the description of a parked ``op``: a remark about the open ends that no living task has used, or nothing.

    A sender that somebody forgot to close is the usual reason why a receiver waits for ever; this names its line.
    """
    if op.state is not PARKED:
        return ""
    sites = [seat.site for seat in tuple(seats) if not seat.by_threads and not seat.alive()]
    if not sites:
        return ""
    more = f" and {len(sites) - 1} more" if len(sites) > 1 else ""
    return f"; not in use by any task: the {what} made at {sites[0][0]}:{sites[0][1]}{more}"
