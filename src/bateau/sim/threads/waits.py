"""What a thread waits for, and who could end that: for explanations, and for finding threads that wait for each other in a ring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Stuck
from ..sites import running_at, standing_at
from ..thread import BLOCKED, SimThread

if TYPE_CHECKING:
    from ..world import World


class Wait:
    """Given to ``World.block``; its ``str`` says what is waited for at the moment when it is asked."""

    __slots__ = ("timed",)

    def __init__(self, timed: bool) -> None:
        self.timed = timed

    def certain(self) -> SimThread | None:
        """The only thread that can end this wait, where that is known for sure."""
        return None


def report_ring(world: World, thread: SimThread, what: Wait) -> None:
    """``thread`` is about to wait for ``what``: if that closes a ring of threads of which each waits for the next, tell the director.

    The world may have more to do (a timer that comes again for ever), so it can't be left to the moment when nothing is.
    """
    ring: list[tuple[SimThread, Wait]] = [(thread, what)]
    following = what.certain()
    while following is not None and following is not thread:
        wait = following.waits_for
        if following.state is not BLOCKED or not isinstance(wait, Wait) or wait.timed:
            return
        if any(following is each for each, _ in ring):
            return  # a ring that this thread is not in; it was reported
        ring.append((following, wait))
        following = wait.certain()
    if following is None or len(ring) < 2:
        return
    lines = ["threads wait for each other in a ring, and will for ever:"]
    for each, wait in ring:
        site = running_at() if each is thread else standing_at(each.os_ident)
        where = f" at {site[0]}:{site[1]} in {site[2]}" if site is not None else ""
        lines.append(f"  thread {each.process.actor(each)!r}{where} waits: {wait}")
    assert world.director is not None
    director = world.director.main
    error = Stuck("\n".join(lines))
    if director is thread:
        raise error
    director.interrupt(error)
