"""Faults by probability that happen to whole hosts and links: crashes, freezes, partitions, jumping clocks.

Once each virtual second, for each host and pair of hosts, the world is asked whether it happens now (``Faults``). The director's own
host is spared crashes and freezes: it is the test. It stops asking when ``world.calm()`` was called, so that a scenario can say:
from here on everything works, and now it must come right.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from .faults import decide

if TYPE_CHECKING:
    from .host import SimHost
    from .world import World

# Virtual seconds between two looks.
PERIOD = 1.0


class Chaos:
    """One per world that has such faults.

    Invariant: while ``calm`` is false there is one background event outstanding that looks again.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.calm = False
        world.background_after(PERIOD, self.look)

    def look(self) -> None:
        """Decide what happens in this second."""
        if self.calm:
            return
        world, faults = self.world, self.world.faults
        victims = [host for host in world.hosts.values() if world.director is None or host is not world.director.host]
        for host in victims:
            if host.running and decide(world, f"crash {host.name}", faults.crash):
                host.crash()
                world.after(faults.downtime, self._restart, host)
            elif host.running and decide(world, f"freeze {host.name}", faults.freeze):
                host.freeze()
                world.after(faults.downtime, host.thaw)
            seconds = faults.clock_jump_by
            if decide(world, f"clock {host.name}", faults.clock_jump):
                by = world.random(f"clock {host.name}").uniform(-seconds, seconds)
                world.trace("fault", f"the clock of {host.name} jumps by {by:.3f} s", host=host.name, actor=host.name)
                host.clock.jump(by)
        if faults.partition:
            for a, b in combinations(victims, 2):
                if decide(world, f"partition {a.name}|{b.name}", faults.partition):
                    world.partition(a.name, b.name)
                    world.after(faults.partition_time, world.heal, a.name, b.name)
        world.background_after(PERIOD, self.look)

    def _restart(self, host: SimHost) -> None:
        if not host.running:
            host.restart()


def start(world: World) -> None:
    """Begin, if the world's faults ask for any of it."""
    faults = world.faults
    if faults.crash or faults.freeze or faults.partition or faults.clock_jump:
        world.chaos = Chaos(world)
