"""What a simulated run is made of: a clock that jumps from event to event, decisions, and the record of what happened.

Everything that production would leave to the outside (order, faults) is asked of ``choose`` and ``chance``, counted by *stream*, so
that a run is a sparse table of answers and 0 is what production does. Latencies and the like come from generators that belong to a
key (``random``), so that another answer elsewhere does not move them. Who runs, and what a step is, ``world`` says.
"""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from ..kernel.twin import WorldFields, native, twinned

if TYPE_CHECKING:
    from .process import Process
    from .strategy.base import Strategy
    from .thread import SimThread

_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")


class Event:
    """A function to be called at a moment of virtual time."""

    __slots__ = ("args", "background", "fn", "order", "when")

    def __init__(self, when: float, order: int, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        # Whether it alone is no reason for the world to go on: nobody waits for it.
        self.background = False
        self.when = when
        self.order = order
        self.fn: Callable[..., object] | None = fn
        self.args = args

    def __lt__(self, other: Event) -> bool:
        return (self.when, self.order) < (other.when, other.order)

    def cancel(self) -> None:
        """Never call it. Idempotent."""
        self.fn = None
        self.args = ()


if not TYPE_CHECKING and native is not None:
    Event = native.WorldEvent


class Record(NamedTuple):
    """One line of a run's story."""

    at: float
    host: str
    actor: str
    kind: str
    text: str
    data: dict[str, Any]


@twinned("at", "after", "next_event", "run_due", "jump", "choose_step", "chance", known_as="World")
class Timeline(WorldFields):
    """The clock, the decisions and the record of a run. The base of ``World``, which tells the arguments."""

    def __init__(self, seed: int, strategy: Strategy | None, detailed: bool) -> None:
        self.seed = seed
        self.strategy = strategy
        # How likely an await that need not wait lets the others run first.
        self.yields = strategy.yields if strategy is not None else 0.0
        # What the kernel's twin may draw from by itself, instead of asking the strategy.
        self._walk = strategy.walk() if strategy is not None else None
        self.detailed = bool(detailed)
        self.now = 0.0
        self.steps: int = 0
        # The non-zero answers, by stream and index, and how many questions each stream had.
        self.choices: dict[str, dict[int, int]] = {}
        self.asked: dict[str, int] = {}
        self.events: list[Record] = []
        # Called after each task step and each event, with the world; an exception ends the run with it.
        self.checks: list[Callable[[], None]] = []
        # What the run ends with although its program has not: a broken invariant, a failed process.
        self.verdict: BaseException | None = None
        self.over = False
        self.director: Process | None = None
        self._heap: list[Event] = []
        self._order = 0
        self._randoms: dict[str, random.Random] = {}
        self._roll = 0
        self._steps_at_jump: int = 0
        # Whether the function of an event runs: the scheduler's own, which can't wait, whoever has the baton.
        self.in_event = False
        # Whoever holds the baton. Set by the director before anything can ask for it.
        self.thread: SimThread = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]  # see above

    # -- time ------------------------------------------------------------------------------------------------------------

    def at(self, when: float, fn: Callable[..., object], *args: Any) -> Event:
        """Call ``fn(*args)`` in the scheduler at virtual time ``when`` (seconds). Never user code, and it must not block."""
        self._order += 1
        event = Event(when if when > self.now else self.now, self._order, fn, args)
        heapq.heappush(self._heap, event)
        return event

    def after(self, delay: float, fn: Callable[..., object], *args: Any) -> Event:
        """``at``, ``delay`` seconds from now."""
        return self.at(self.now + delay, fn, *args)

    def background_after(self, delay: float, fn: Callable[..., object], *args: Any) -> Event:
        """``after``, for what nobody waits for: when nothing else can happen, the world is stuck in spite of it."""
        event = self.at(self.now + delay, fn, *args)
        event.background = True
        return event

    def next_event(self) -> float | None:
        """When the next event comes, or None."""
        heap = self._heap
        while heap and heap[0].fn is None:
            heapq.heappop(heap)
        return heap[0].when if heap else None

    def run_due(self) -> None:
        """Call what is due now."""
        heap = self._heap
        while heap and heap[0].when <= self.now:
            event = heapq.heappop(heap)
            fn, event.fn = event.fn, None
            if fn is not None:
                outer, self.in_event = self.in_event, True
                try:
                    fn(*event.args)
                finally:
                    self.in_event = outer
                if self.checks:
                    self.check()

    def jump(self, when: float) -> None:
        """Let the clock go on to ``when`` and call what is due."""
        if when > self.now:
            self.now = when
        self._steps_at_jump = self.steps
        self.run_due()

    # -- decisions -------------------------------------------------------------------------------------------------------

    def choose(self, stream: str, n: int) -> int:
        """An ordering decision among ``n``: 0 is what production does."""
        if self.strategy is None or n < 2:
            return 0  # not counted: a replay counts what it is asked
        index = self.asked.get(stream, 0)
        self.asked[stream] = index + 1
        return self._taken(stream, index, self.strategy.choose(stream, n))

    def chance(self, stream: str, p: float) -> bool:
        """A fault decision: whether it happens, with probability ``p``."""
        if self.strategy is None or p <= 0:
            return False
        index = self.asked.get(stream, 0)
        self.asked[stream] = index + 1
        return bool(self._taken(stream, index, self.strategy.chance(stream, p)))

    def choose_step(self, stream: str, ready: Sequence[Any], may_wait: bool) -> int:
        """Who of ``ready`` runs next; ``len(ready)``: nobody yet, the clock goes on first (only if ``may_wait``)."""
        strategy = self.strategy
        if strategy is None:
            return 0
        # Counted only where the strategy is asked: what is replayed must count alike.
        index = self.asked.get(stream, 0)
        self.asked[stream] = index + 1
        value = strategy.step(stream, ready, may_wait)
        if value:
            if stream in self.choices:
                self.choices[stream][index] = value
            else:
                self.choices[stream] = {index: value}
            self._roll = (self._roll * 1_000_003 + value * 31 + index) & 0xFFFFFFFFFFFF
            if self.detailed:
                self._note_choice(stream, ready, value)
        return value

    def _note_choice(self, stream: str, ready: Sequence[Any], value: int) -> None:
        first = getattr(ready[0], "key", None) or ready[0].name
        if value < len(ready):
            text = f"{getattr(ready[value], 'key', None) or ready[value].name} goes before {first}"
        else:
            text = f"time goes on before {first}"
        process = self.thread.process
        self.note("choice", text, host=process.host.name, actor=process.name, stream=stream)

    def _taken(self, stream: str, index: int, value: int) -> int:
        if value:
            self.choices.setdefault(stream, {})[index] = value
            self._roll = (self._roll * 1_000_003 + value * 31 + index) & 0xFFFFFFFFFFFF
        return value

    def random(self, key: str) -> random.Random:
        """The generator of ``key``: the same numbers in each run with this seed, whatever else is asked for."""
        found = self._randoms.get(key)
        if found is None:
            found = self._randoms[key] = random.Random(f"{self.seed}/{key}")
        return found

    # -- the record ------------------------------------------------------------------------------------------------------

    def trace(self, kind: str, text: str, *, host: str | None = None, actor: str | None = None, **data: Any) -> None:
        """Add an event to the run's story."""
        process = self.thread.process
        if host is None:
            host = process.host.name
        if actor is None:
            actor = process.name
        self.events.append(Record(self.now, host, actor, kind, text, data))
        if " at 0x" in text:
            text = _ADDRESS.sub("", text)  # of an object that somebody's repr shows: another in each run
        self._roll = crc32(
            f"{self.now!r}{host}{actor}{kind}{text}".encode("utf-8", "backslashreplace"), self._roll & 0xFFFFFFFF
        )

    def note(self, kind: str, text: str, *, host: str, actor: str, **data: Any) -> None:
        """Like ``trace``, for what only a detailed run records: the digest does not know of it."""
        self.events.append(Record(self.now, host, actor, kind, text, data))

    def digest(self) -> str:
        """Of the whole run so far: every choice, every event, the clock and the steps."""
        return f"{self._roll:012x}-{self.steps:x}-{self.now!r}"

    def check(self) -> None:
        """Ask every invariant."""
        outer, self.in_event = self.in_event, True  # nobody else runs while it is looked
        try:
            for check in self.checks:
                check()
        except BaseException as error:
            self.checks.clear()
            self.end_with(error)
        finally:
            self.in_event = outer

    def end_with(self, error: BaseException) -> None:
        """The run is over, with this error, wherever it was noticed. The running thread does not go on after its next call."""
        if self.verdict is None:
            self.verdict = error
        self.over = True
        assert self.director is not None
        self.director.main.unblock()
