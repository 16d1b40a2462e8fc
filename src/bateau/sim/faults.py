"""What may go wrong in a world by itself, and how likely; and ``buggify``, with which code says where it wants to be tried harder.

Faults come three ways: by *script* (the scenario calls ``world.partition(...)``, ``host.crash()``), by *probability* (the rates
below, each asked of ``World.chance`` under a stream of its own, so that a run records and the shrinker removes them one by one), and by
the *explorer* (crash everywhere, cancel everywhere).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from .thread import here

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


@dataclass(frozen=True)
class Faults:
    """How likely each fault is, as probabilities from 0 to 1; ``Faults()`` is a world in which nothing goes wrong by itself.

    What "each" means is said at each field. ``Faults.some()`` is a rough day, ``Faults.many()`` a bad one.
    """

    # Network. Each datagram: lost, delivered twice, delayed so that later ones overtake it.
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    # Each segment of a stream: its connection is reset; it is delayed by a retransmission (0.2 to 1 s); it comes in two parts.
    reset: float = 0.0
    retransmit: float = 0.0
    split: float = 0.0
    # Each connect: refused, or never answered. Each lookup of a name: fails.
    refuse: float = 0.0
    dns: float = 0.0
    # Disk. Each write: accepts fewer bytes than given; fails with EIO. Each read: returns fewer bytes; fails with EIO.
    short_write: float = 0.0
    short_read: float = 0.0
    io_error: float = 0.0
    # Each write: the disk is full (ENOSPC). Each read after a crash of its host: a bit has flipped in a block written before.
    disk_full: float = 0.0
    corrupt: float = 0.0
    # At a crash, each write that was not synced: it is lost (else it survives), or only its first blocks survive.
    unsynced_lost: float = 0.5
    unsynced_torn: float = 0.1
    # Each second of each host (other than the test's): it crashes and starts again after ``downtime`` seconds; it stands still.
    crash: float = 0.0
    freeze: float = 0.0
    downtime: float = 1.0
    # Each second of each pair of hosts: they can't reach each other, for ``partition_time`` seconds.
    partition: float = 0.0
    partition_time: float = 2.0
    # Each second of each host: its wall clock jumps, by up to ``clock_jump_by`` seconds to either side.
    clock_jump: float = 0.0
    clock_jump_by: float = 5.0
    # Each ``buggify`` point that says nothing else.
    buggify: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            most = 1 if each.name not in {"downtime", "partition_time", "clock_jump_by"} else float("inf")
            if not isinstance(value, int | float) or not 0 <= value <= most:
                raise ValueError(f"Faults({each.name}=...) must be from 0 to {most}, not {value!r}")

    @classmethod
    def some(cls, **changed: float) -> Faults:
        """A rough day: every kind of fault now and then; ``changed`` fields as given."""
        return replace(
            cls(
                loss=0.02, duplicate=0.01, reorder=0.02, reset=0.005, retransmit=0.02, split=0.02, refuse=0.02, dns=0.01, short_write=0.05,
                short_read=0.05, io_error=0.001, crash=0.02, freeze=0.02, partition=0.02, clock_jump=0.01, buggify=0.05,
            ),
            **changed,
        )  # fmt: skip

    @classmethod
    def many(cls, **changed: float) -> Faults:
        """A bad day: five times ``some``."""
        some = cls.some()
        rates = {
            each.name: min(1.0, getattr(some, each.name) * 5)
            for each in fields(cls)
            if getattr(some, each.name) != each.default
        }
        return replace(cls(**rates), **changed)


NONE = Faults()


@dataclass(frozen=True)
class Latency:
    """How long something takes: uniform between ``least`` and ``most`` seconds, and with probability ``tail`` up to ten times ``most``."""

    least: float = 0.0005
    most: float = 0.002
    tail: float = 0.01

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, int | float):
                raise TypeError(f"Latency({each.name}=...) is a number, not {value!r}")
        if not 0 <= self.least <= self.most < float("inf") or not 0 <= self.tail <= 1:
            raise ValueError(f"a latency needs 0 <= least <= most, both finite, and 0 <= tail <= 1, not {self}")

    def draw(self, random: Random) -> float:
        """One value, in seconds. Always two draws, so that one value does not move the next."""
        where, tail = random.random(), random.random()
        if tail < self.tail:
            return self.most * (1 + 9 * where)
        return self.least + (self.most - self.least) * where


def buggify(name: str, p: float | None = None) -> bool:
    """Whether this point of the program should do its rare, legal worst now: always False outside a simulated world.

    Production code says where trouble is worth trying: ``if sim.buggify("slow flush"): await time.sleep(5)``. ``p`` is the probability;
    None takes that of the world's ``Faults``. Costs one look at a thread-local object in production. Not a cancellation point.
    """
    world = here.world
    if world is None:
        return False
    if p is not None:
        from .given import probability  # late: it needs this module

        probability(f"p of buggify({name!r})", p)
    if world.chance(f"buggify {name}", world.faults.buggify if p is None else p):
        world.trace("buggify", name)
        return True
    return False


def decide(world: Any, stream: str, p: float, tell: Callable[[], str] | None = None) -> bool:
    """``world.chance`` for a fault, told in the story when it happens."""
    if p <= 0 or not world.chance(stream, p):
        return False
    world.trace("fault", tell() if tell is not None else stream)
    return True
