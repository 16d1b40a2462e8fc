"""Exhaustive exploration, for small tests: every order that can matter, or every one within bounds.

Without bounds on the order the tree of all runs is visited depth first, and orders that differ only in independent steps are visited
once (``tree``). What is independent is *proven* from what a step did (``watching``); where nothing is proven, nothing is left out. With
bounds (``preemptions``, ``delays``) every run within them is visited, the one closest to production first (``frontier``); there nothing is
left out, since the runs that a reduction keeps may be those beyond the bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..thread import SimThread, here
from .base import Actor, ActorKeys, Key, Strategy
from .footprint import EVERYTHING, Footprint
from .frontier import Bounds, Frontier, Spent
from .tree import Tree

if TYPE_CHECKING:
    from ..running import Run

# Who makes the next step where the clock goes on first.
CLOCK: Key = ("the clock",)


class Watcher(Protocol):
    """What tells the footprints of steps; ``watching.StepWatcher`` unless a test has a better one."""

    def reset(self) -> None:
        """A new run starts."""
        ...

    def start(self) -> None:
        """A task's step is about to be made on the calling thread."""
        ...

    def stop(self) -> Footprint:
        """The step begun last has been made (or nothing is known of it)."""
        ...

    def met(self) -> int:
        """How many objects have numbers so far."""
        ...


class Exhaustive(Strategy):
    """Every order of tasks and threads that can matter; or all within bounds (see ``Bounds``), if ``preemptions`` or ``delays`` are given.

    In one run: ``waits`` is how often the clock may go on although somebody could run, ``faults`` how many faults may happen, ``yields`` how
    often an await that need not wait lets the others run first. None means no bound, which need never end. ``reduce=False``: leave nothing out. ``redundant`` counts the runs that turned out to
    be like earlier ones. When it is through, ``begin`` says False, and ``exhausted`` is True.

    Reduction costs time: each step is traced (ten times slower). It is off where a debugger or a coverage tool traces already, and
    nothing is left out while invariants are checked after each step (they see every order) or faults are tried there.
    """

    name = "exhaustive"
    follows = True
    watches = True

    def __init__(
        self,
        *,
        preemptions: int | None = None,
        delays: int | None = None,
        waits: int | None = 0,
        faults: int | None = 1,
        yields: int | None = 0,
        reduce: bool = True,
        watcher: Watcher | None = None,
    ) -> None:
        self.bounds = Bounds(preemptions, delays, waits, faults, yields)
        self.yields = 0.0 if yields == 0 else 1.0
        bounded = preemptions is not None or delays is not None
        self._frontier = Frontier() if bounded else None
        self._tree = Tree(reduce=reduce)
        if watcher is None and reduce and not bounded:
            from .watching import StepWatcher

            watcher = StepWatcher()
        self._watcher = watcher if reduce and not bounded else None
        self._spent = Spent(self.bounds)
        self._keys = ActorKeys()
        # Where the last step was chosen.
        self._stream = ""
        # Whether a run is open that ``end`` has not closed.
        self._open = False

    @property
    def runs(self) -> int:
        """How many runs there were."""
        return (self._frontier or self._tree).runs

    @property
    def redundant(self) -> int:
        """How many of them turned out to be like earlier ones."""
        return self._tree.redundant

    @property
    def exhausted(self) -> bool:
        """Whether everything was visited."""
        return (self._frontier or self._tree).exhausted

    def begin(self, seed: int) -> bool:
        if self._open:
            self._close()
        self._spent = Spent(self.bounds)
        self._keys = ActorKeys()
        if self._watcher is not None:
            self._watcher.reset()
        self._open = (self._frontier or self._tree).begin()
        return self._open

    def end(self, run: Run) -> None:
        self._close()

    def _close(self) -> None:
        self._open = False
        self._step_made()
        if self._frontier is None:
            self._tree.end()
        elif not self._frontier._heap:
            self._frontier.exhausted = True

    # -- order -----------------------------------------------------------------------------------------------------------

    def step(self, stream: str, ready: Sequence[Actor], may_wait: bool) -> int:
        may_wait = may_wait and self._spent.may_wait()
        if self._frontier is not None:
            return self._within_bounds(self._frontier, len(ready), may_wait)
        self._step_made()
        keys = self._keys.see(stream, ready)
        index = self._next(stream, keys, ready[0], may_wait)
        if index < len(keys):
            self._step_begins(stream, keys[index], ready[index])
        else:
            self._spent.waits += 1
        return index

    def only(self, stream: str, actor: Actor) -> None:
        if self._frontier is None:
            self._step_made()
            keys = self._keys.see(stream, (actor,))
            self._next(stream, keys, actor, False)
            self._step_begins(stream, keys[0], actor)

    def _within_bounds(self, frontier: Frontier, n: int, may_wait: bool) -> int:
        spent = self._spent
        most = spent.most_skipped()
        options = n if most is None else min(n, most + 1)
        answer = frontier.decide(options + may_wait)
        if answer == options:
            spent.waits += 1
            return n
        spent.skip(answer)
        return answer

    def _next(self, stream: str, keys: list[Key], first: Actor, may_wait: bool) -> int:
        watcher = self._watcher
        met = watcher.met() if watcher is not None else 0
        # Threads run on until they block: what such a stretch is, and what it will have touched, depends on choices within it.
        fixed = keys if isinstance(first, SimThread) else [CLOCK] if may_wait else ()
        return self._tree.actors(stream, [*keys, CLOCK] if may_wait else keys, met=met, fixed=fixed)

    def _step_begins(self, stream: str, key: Key, actor: Actor) -> None:
        self._stream = stream
        self._keys.ran(stream, key)
        if self._watcher is not None and not isinstance(actor, SimThread):
            self._watcher.start()

    def _step_made(self) -> None:
        footprint = self._watcher.stop() if self._watcher is not None else EVERYTHING
        world = here.world
        if world is not None and (world.checks or world.after_step is not None or world.at_block is not None):
            # What is done after each step is not followed: invariants, which see each order, and faults at each point.
            footprint = EVERYTHING
        completes = {
            key: places
            for identity, places in footprint.completes.items()
            if (key := self._keys.of_identity(self._stream, identity)) is not None
        }
        self._tree.made(footprint, completes)

    # -- choices within a step ---------------------------------------------------------------------------------------------

    def chance(self, stream: str, p: float) -> int:
        spent = self._spent
        if stream.startswith("yields "):
            answer = self.choose(stream, 2) if spent.may_yield() else 0
            spent.yields += answer
        else:
            answer = self.choose(stream, 2) if spent.may_fail() else 0
            spent.faults += answer
        return answer

    def choose(self, stream: str, n: int) -> int:
        if self._frontier is not None:
            return self._frontier.decide(n)
        # Which number a question has in its stream is no dependency: all answers to each are tried.
        return self._tree.choice(stream, n)
