"""The words of the harness: what a case, a workload and a stopwatch are.

Imported by every measured process, so it must stay light: above all it must not import asyncio, whose presence would
change what bateau's native runtime does.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType


class Stopwatch:
    """CPU and wall time between ``start`` and ``stop``, summed over all uses.

    A case wraps what it measures in ``with clock:`` and leaves its preparations outside. CPU time is that of the whole
    process (user + system), so a thread that a system starts in secret is counted too; what other processes took (a
    server in C, forked workers) they tell themselves, and it is added by ``add``.
    """

    __slots__ = ("_began", "memory", "note", "operations", "system", "tiny", "user", "wall")

    def __init__(self, *, tiny: bool = False) -> None:
        self.tiny = tiny
        """Nobody looks at the figure, only whether it comes: a load of a given duration may be shorter."""
        self.user = self.system = self.wall = 0.0
        self.memory = 0
        """Bytes, in cases that measure memory."""
        self.operations: int | None = None
        """How many operations were done, where it is not the case's to choose (a load of a given duration)."""
        self.note = ""
        """What a reader of the figure must know about this run: a size that was cut down, a latency."""
        self._began: tuple[float, float, float] | None = None

    @property
    def cpu(self) -> float:
        """User + system seconds."""
        return self.user + self.system

    def start(self) -> None:
        """Begin to count; raises RuntimeError if already counting."""
        if self._began is not None:
            raise RuntimeError("the stopwatch is already running: a case may not nest `with clock:`")
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._began = (usage.ru_utime, usage.ru_stime, time.perf_counter())

    def stop(self) -> None:
        """Stop counting; raises RuntimeError if not counting."""
        wall = time.perf_counter()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        if self._began is None:
            raise RuntimeError("the stopwatch was stopped before it was started")
        self.user += usage.ru_utime - self._began[0]
        self.system += usage.ru_stime - self._began[1]
        self.wall += wall - self._began[2]
        self._began = None

    def add(self, user: float, system: float, wall: float = 0.0) -> None:
        """Count seconds that another process has measured of itself."""
        self.user += user
        self.system += system
        self.wall += wall

    def __enter__(self) -> Stopwatch:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


Measured = Callable[[int, Stopwatch], Awaitable[None]]
"""One case on one side: does *n* operations, the measured part under the stopwatch."""

Side = Callable[[], Mapping[str, Measured]]
"""All cases of one workload for one family. A function, so that a process imports only the library it measures."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing measured.

    ``fixed`` is the number of operations of one repetition where that number is part of the question ("100k tasks in
    one scope"); repetitions are then calibrated. Without it the number of operations itself is calibrated, as a
    multiple of ``multiple``.
    """

    name: str
    operation: str
    fixed: int | None = None
    fixed_quick: int | None = None
    multiple: int = 1
    families: tuple[str, ...] | None = None
    """The only families that can express the case; None: all of the workload's."""
    busy: bool = True
    """Never idle while measured: wall time well above CPU time then means that others took the core."""
    unit: str = "ns"
    """What the figure is: "ns" of CPU time, or "bytes" of memory, per operation."""
    lasts: float | None = None
    """About how many seconds one run takes, where that can't be chosen (a load of a given duration): then there is nothing to
    calibrate, and no warm-up."""
    tiny: int | None = None
    """How many operations ``--check`` asks for; None: about 20."""
    programs: tuple[str, ...] = ()
    """The C programs of ``benchmarks/c`` that the case needs on every system; without them it is left out."""
    tools: tuple[str, ...] = ()
    """The commands that it needs on the PATH."""

    @property
    def calibrated(self) -> bool:
        """Whether it has to be found out how often it must be repeated to last."""
        return self.lasts is None and self.unit == "ns"

    def size(self, quick: bool) -> int | None:
        """The fixed size of one repetition, or None where it is calibrated."""
        return self.fixed_quick if quick and self.fixed_quick is not None else self.fixed


@dataclass(frozen=True, slots=True)
class Workload:
    """Some cases and the code of each family for them."""

    name: str
    title: str
    cases: tuple[Case, ...]
    sides: Mapping[str, Side]

    def runs_on(self, case: Case, family: str) -> bool:
        """Whether the family has code for the case."""
        return family in self.sides and (case.families is None or family in case.families)

    def case(self, name: str) -> Case:
        """The case of that name; raises KeyError if there is none."""
        for case in self.cases:
            if case.name == name:
                return case
        raise KeyError(name)
