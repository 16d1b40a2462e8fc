"""What lies between two hosts: one ``Link`` per direction, with its delay, its bandwidth and what goes wrong on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..faults import Latency
from ..given import number, probability

if TYPE_CHECKING:
    from random import Random

    from ..faults import Faults
    from ..host import SimHost
    from ..world import World


@dataclass(frozen=True)
class Quality:
    """How good a link is. The probabilities are those of ``Faults`` where they are None; on top of them nothing is added."""

    latency: Latency = field(default_factory=Latency)
    # Bytes per second, None: no limit.
    bandwidth: float | None = None
    # Each datagram: lost, delivered twice, overtaken by later ones. On a stream a loss is a retransmission.
    loss: float | None = None
    duplicate: float | None = None
    reorder: float | None = None
    # Each segment of a stream: its connection is reset, it comes late, it comes in two parts.
    reset: float | None = None
    retransmit: float | None = None
    split: float | None = None
    # Each connect: refused, or never answered.
    refuse: float | None = None

    def __post_init__(self) -> None:
        if self.bandwidth is not None:
            meaning = "more than 0 bytes per second, or None for no limit"
            number("bandwidth", self.bandwidth, meaning)
            if self.bandwidth <= 0:
                raise ValueError(f"bandwidth is {meaning}, not {self.bandwidth!r}")
        for name in ("loss", "duplicate", "reorder", "reset", "retransmit", "split", "refuse"):
            value = getattr(self, name)
            if value is not None:
                probability(name, value)


PERFECT = Quality(Latency(0, 0, 0), None, 0, 0, 0, 0, 0, 0, 0)


class Link:
    """One direction of a connection between two hosts.

    Invariants: ``free_at`` is when the last byte that was handed to it has left, where it has a bandwidth. ``local`` iff it leads
    from a host to itself: it delivers at once and has no faults.
    """

    __slots__ = (
        "_asked",
        "_draw",
        "_troubled",
        "cut",
        "dst",
        "free_at",
        "local",
        "name",
        "quality",
        "random",
        "src",
        "world",
    )

    def __init__(self, world: World, src: SimHost, dst: SimHost, quality: Quality) -> None:
        self.world = world
        self.src = src
        self.dst = dst
        self.name = f"{src.name}>{dst.name}"
        self.local = src is dst
        self.quality = PERFECT if self.local else quality
        self.random: Random = world.random(f"latency {self.name}")
        self._draw = self.random.random
        # Whether nothing comes through at all.
        self.cut = False
        self.free_at = 0.0
        # Of which quality and faults ``_troubled`` tells: neither ever changes, they are replaced.
        self._asked: tuple[Quality | None, Faults | None] = (None, None)
        self._troubled = True

    @property
    def works(self) -> bool:
        """Whether what is sent now would arrive."""
        return not self.cut and not self.dst.down

    def delay(self, size: int = 0) -> float:
        """Seconds until something of ``size`` bytes that is sent now arrives."""
        quality = self.quality
        latency = quality.latency
        if latency.__class__ is Latency:  # ``draw`` written out
            draw = self._draw
            where, tail = draw(), draw()
            if tail < latency.tail:
                delay = latency.most * (1 + 9 * where)
            else:
                delay = latency.least + (latency.most - latency.least) * where
        else:
            delay = latency.draw(self.random)
        if quality.bandwidth is not None:
            now = self.world.now
            self.free_at = max(now, self.free_at) + size / quality.bandwidth
            delay += self.free_at - now
        return delay

    def is_troubled(self) -> bool:
        """Whether anything can go wrong with a segment of a stream here now."""
        quality, faults = self.quality, self.world.faults
        if quality is not self._asked[0] or faults is not self._asked[1]:
            self._asked = quality, faults
            kinds = ("reset", "retransmit", "split")
            self._troubled = bool(quality.loss) or any(self.probability(kind) > 0 for kind in kinds)
        return self._troubled

    def probability(self, fault: str) -> float:
        """How likely ``fault`` is here now."""
        own: float | None = getattr(self.quality, fault)
        return own if own is not None else getattr(self.world.faults, fault)

    def happens(self, fault: str, tell: str) -> bool:
        """Ask the world whether ``fault`` happens to what is sent now, and record it."""
        p = self.probability(fault)
        if p <= 0 or not self.world.chance(f"{fault} {self.name}", p):
            return False
        self.world.trace("fault", tell, host=self.src.name, actor=self.src.name, link=self.name, fault=fault)
        return True

    def __repr__(self) -> str:
        return f"<Link {self.name}{' (cut)' if self.cut else ''}>"
