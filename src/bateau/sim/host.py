"""The machines of a simulated world: a name, addresses, a clock of their own, a disk, and the processes on them."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..kernel.twin import ClockFields, slots, twinned
from .given import name_of, number
from .net.addresses import canonical
from .process import Process

if TYPE_CHECKING:
    from .disk import Disk
    from .world import World


@twinned("monotonic", "world_time_at")
class HostClock(ClockFields):
    """A host's two clocks. The wall clock may be wrong, drift and jump; the monotonic one only drifts."""

    __slots__ = slots("_at", "_monotonic", "_wall", "rate", "world")

    def __init__(self, world: World, epoch: float) -> None:
        self.world = world
        # Seconds of this clock for each second of virtual time.
        self.rate = 1.0
        # Both clocks at virtual time ``_at``: the last moment when the rate changed, or the clock was set.
        self._at = 0.0
        self._monotonic = 0.0
        self._wall = epoch

    def monotonic(self) -> float:
        """As ``time.monotonic()`` on this host; it starts at 0 with the world."""
        return self._monotonic + (self.world.now - self._at) * self.rate

    def wall(self) -> float:
        """As ``time.time()`` on this host."""
        return self._wall + (self.world.now - self._at) * self.rate

    def world_time_after(self, seconds: float) -> float:
        """The virtual time when this clock will have gone on by ``seconds``; later than now, if ``seconds`` is positive."""
        now = self.world.now
        when = now + seconds / self.rate
        return math.nextafter(now, math.inf) if seconds > 0 and when <= now else when

    def world_time_at(self, monotonic: float) -> float:
        """The first virtual time at which ``monotonic()`` is at least the given value (now, where it is already)."""
        when = self._at + (monotonic - self._monotonic) / self.rate
        while self._monotonic + (when - self._at) * self.rate < monotonic:
            when = math.nextafter(when, math.inf)
        return max(when, self.world.now)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward (or back, negative), as an administrator or NTP does."""
        number("a jump of a clock", seconds, "a number of seconds, forward or (negative) back")
        self._wall += seconds

    def drift(self, rate: float) -> None:
        """From now on the clocks go ``rate`` seconds for each second. What already waits is measured by the old rate."""
        number("a clock's rate", rate, "a number of seconds per second, between 0.1 and 10")
        if not 0.1 <= rate <= 10:
            raise ValueError(f"a clock's rate is between 0.1 and 10 seconds per second, not {rate!r}")
        self._monotonic, self._wall, self._at = self.monotonic(), self.wall(), self.world.now
        self.rate = rate


def require_name(world: World, name: Any, addresses: tuple[Any, ...]) -> None:
    """Raise where no host can be made of this name with these addresses."""
    if not isinstance(name, str):
        raise TypeError(f"a host's name is text, not {name!r}")
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"a host's name is made of letters, digits, '-', '_' and '.', not {name!r}")
    if canonical(name) is not None:
        raise ValueError(f"{name!r} is an address: give the host a name, and addresses after it, host('db', {name!r})")
    for address in addresses:
        ip = canonical(address) if isinstance(address, str) else None
        if ip is None:
            raise ValueError(f"host {name!r}: {address!r} is no IP address")
        other = world.network.owner(ip)
        if other is not None:
            raise ValueError(f"hosts {other.name!r} and {name!r} can't have the same address {ip}")


class SimHost:
    """One machine. ``start`` runs a program on it; ``crash`` and ``restart`` do to it what a power cut does."""

    def __init__(self, world: World, name: str, addresses: tuple[str, ...] = ()) -> None:
        from .world import EPOCH

        self.world = world
        self.name = name
        self.number = len(world.hosts) + 1
        self.addresses = list(addresses) or [f"10.0.{self.number >> 8}.{self.number & 255}"]
        self.clock = HostClock(world, EPOCH)
        self.processes: list[Process] = []
        # What processes that start here find in ``os.environ``, besides what the test itself has there.
        self.environ: dict[str, str] = {}
        # What the parts of the world keep for this host: its disk, its network interfaces, by the part's own name.
        self.parts: dict[str, Any] = {}
        # Without power: nothing that is sent to it arrives, or is answered.
        self.down = False
        self._programs: list[tuple[Callable[..., Any], tuple[Any, ...], str | None]] = []

    def start(
        self, fn: Callable[..., Awaitable[Any]] | Callable[..., Any], *args: Any, name: str | None = None
    ) -> Process:
        """Start the program ``fn(*args)`` in a process of its own; an async function is run on the ``sim`` runtime.

        Returns at once; the program begins when the caller next waits. If it fails and nobody awaits the process, the run
        fails with ``ProcessFailed``.
        """
        if not callable(fn):
            raise TypeError(f"start needs a function, not {type(fn).__name__}: write start(main), not start(main())")
        if name is not None:
            name_of("the name of a process", name)
        self._programs.append((fn, args, name))
        self.down = False
        return Process(self, fn, args, name or str(getattr(fn, "__name__", "program")))

    @property
    def disk(self) -> Disk:
        """Its disk, which survives crashes as far as programs have synced it."""
        found: Disk | None = self.parts.get("disk")
        if found is None:
            from .disk import Disk

            found = self.parts["disk"] = Disk(self)
        return found

    @property
    def running(self) -> list[Process]:
        """The processes that have not ended."""
        return [process for process in self.processes if process.is_alive()]

    def crash(self) -> None:
        """A power cut: every process stops where it is, without any cleanup, and what was not synced to disk may be lost.

        Does not return in a program of this host.
        """
        self.world.trace("crash", f"host {self.name} crashes", host=self.name, actor=self.name)
        self.down = True  # before anything is closed: a power cut says no goodbyes
        for process in self.running:
            process.kill(traced=False)
        for part in self.parts.values():
            crashed = getattr(part, "crashed", None)
            if crashed is not None:
                crashed()
        world = self.world
        if world.thread.process.host is self and not world.in_event:
            world.before_call(world.thread)  # the caller has died with it

    def restart(self) -> list[Process]:
        """After ``crash``: start again every program that was started here, in order. Returns the new processes."""
        if self.running:
            self.crash()
        self.world.trace("restart", f"host {self.name} starts again", host=self.name, actor=self.name)
        programs, self._programs = self._programs, []
        return [self.start(fn, *args, name=name) for fn, args, name in programs]

    def freeze(self) -> None:
        """Stop every process as ``SIGSTOP`` (or a stalled machine) does, until ``thaw``: connections stay, nothing answers."""
        for process in self.running:
            process.freeze()

    def thaw(self) -> None:
        """Undo ``freeze``."""
        for process in self.running:
            process.thaw()

    def __repr__(self) -> str:
        return f"<SimHost {self.name!r} {', '.join(self.addresses)}>"
