"""What decides a run: the interface of strategies, and what all of them need.

A run of a simulated program is a table of answers, counted for each *stream* of questions by itself: ``{stream: {index: answer}}``,
of which only the non-zero answers are kept. 0 is always what production does: the oldest ready task goes on, no fault happens. A
strategy gives the answers; whoever asks (``World``) keeps the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from random import Random as Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..running import Run

# The non-zero answers of a run: by stream, by the number of the question in that stream (from 0).
Choices = dict[str, dict[int, int]]
# Who may run next: a kernel task or a simulated thread. Strategies look at little more than its identity.
Actor = Any
# Names an actor in every run of the same program: how it came about, whatever the order of the others. See ``ActorKeys``.
Key = tuple[str | int, ...]
# Of a random walk: what draws for the order, what draws for faults, how likely the clock goes on first, and what stretches the rest.
Walk = tuple[Callable[[], float], Callable[[], float], float, float]

# How often the clock goes on although somebody could run. Seldom: on a machine that is not overloaded a program's steps take no
# time beside its timeouts, and each such choice can make a timeout fire early.
WAITS = 0.01
# How often an await that need not wait lets the others run first.
YIELDS = 0.1


class Strategy:
    """Answers what production leaves to chance. One object serves a whole exploration; this one does what production does.

    ``begin`` opens a run and ``end`` closes it; a run that is given up (``KeyboardInterrupt``) has no ``end``. Answers must depend on
    nothing but the seed, the earlier runs and what was asked in this run.
    """

    name = "production"
    # How likely a task's next await is to let the others run first although its step budget is not used up, which every public await
    # may do (law 13). Each such decision is a ``chance`` of the stream "yields ...".
    yields = 0.0
    # Whether ``only`` is to be called. It costs a call for each step that leaves no choice, so only some ask for it.
    follows = False

    # Whether it follows what is done inside of steps, instruction by instruction: then the pure kernel makes them.
    watches = False

    def begin(self, seed: int) -> bool:
        """A new run starts. False: there is nothing left to explore, and the run must not take place."""
        return True

    def step(self, stream: str, ready: Sequence[Actor], may_wait: bool) -> int:
        """Who runs next: an index into ``ready``, or (only if ``may_wait``) ``len(ready)``: nobody yet, the clock goes on first.

        Asked whenever there is a choice: two are ready, or one and ``may_wait``.
        """
        return 0

    def only(self, stream: str, actor: Actor) -> None:
        """``actor`` runs next and there was no choice. Called only if ``follows``."""

    def chance(self, stream: str, p: float) -> int:
        """Whether a fault of probability ``p`` happens: 0 or 1. Asked where ``p`` is above 0."""
        return 0

    def choose(self, stream: str, n: int) -> int:
        """Another decision among ``n`` (2 or more)."""
        return 0

    def walk(self) -> Walk | None:
        """Asked when a run has begun: the generators of a random walk, if this is one and nothing else, so that the kernel's twin may draw
        by itself. They are drawn from as ``Random`` does.
        """
        return None

    def end(self, run: Run) -> None:
        """The run is over; ``run`` is its record."""


class Seeded(Strategy):
    """The base of strategies that draw lots: the n-th run depends on its seed (and on what earlier runs have taught).

    Order and faults draw from generators of their own, so that a fault more or less in a program does not reorder its tasks.
    ``waits`` is the probability that the clock goes on first, where it may.
    """

    yields = YIELDS

    def __init__(self, *, waits: float = WAITS) -> None:
        if not 0 <= waits < 1:
            raise ValueError(f"waits is a probability: 0 or more and below 1, not {waits!r}")
        self.waits = waits
        self._start(0)

    def begin(self, seed: int) -> bool:
        self._start(seed)
        return True

    def _start(self, seed: int) -> None:
        # Of a string the generator takes a SHA-512, which is the same everywhere, and neighbouring seeds have nothing in common.
        self._order = Generator(f"{seed}/order")
        self._draw: Callable[[], float] = self._order.random
        self._faults = Generator(f"{seed}/faults")

    def chance(self, stream: str, p: float) -> int:
        return 1 if self._faults.random() < p else 0

    def choose(self, stream: str, n: int) -> int:
        return int(self._order.random() * n)


_id_of = attrgetter("id")


def identities(actors: Iterable[Actor]) -> list[Any]:
    """What to remember the actors of one stream by during one run: numbers where they have one, since a table of the objects would keep
    ended tasks alive. Two streams may use the same numbers.

    Never ``id()``: addresses differ between runs, and are used again.
    """
    try:
        return list(map(_id_of, actors))
    except AttributeError:  # simulated threads have no number of that kind, and live as long as their world anyway
        return list(actors)


class ActorKeys:
    """Names for actors that are the same in each run of a program, whatever the order: the path of spawns that led to each.

    Task objects are new in each run, and numbers given in the order of birth depend on the schedule. What does not is "the second
    that was spawned by the first that was spawned by main". The parent is who ran last before the newcomer was first seen: no
    cooperation of the kernel is needed, but every step has to be shown (``Strategy.follows``).

    The parts of a key are the stream and, down the path, how many newcomers the parent had made before.
    """

    def __init__(self) -> None:
        # By stream and identity.
        self._keys: dict[str, dict[Any, Key]] = {}
        self._children: dict[Key, int] = {}
        self._last: dict[str, Key] = {}

    def see(self, stream: str, ready: Sequence[Actor]) -> list[Key]:
        """The keys of those who are ready, in their order; newcomers are named."""
        known = self._keys.get(stream)
        if known is None:
            known = self._keys[stream] = {}
        found: list[Key] = []
        for actor, identity in zip(ready, identities(ready), strict=True):
            key = known.get(identity)
            if key is None:
                key = known[identity] = self._name(stream, actor)
            found.append(key)
        return found

    def ran(self, stream: str, key: Key) -> None:
        """Of those last seen in ``stream``, the one with this key runs now."""
        self._last[stream] = key

    def _name(self, stream: str, actor: Actor) -> Key:
        own = getattr(actor, "key", None)
        if isinstance(own, str):  # a simulated thread knows such a name itself
            return stream, own
        parent = self._last.get(stream, (stream,))
        count = self._children.get(parent, 0)
        self._children[parent] = count + 1
        return (*parent, count)

    def key(self, stream: str, actor: Actor) -> Key:
        """The key of one that was seen before. Raises ``KeyError`` if it was not."""
        return self._keys[stream][identities((actor,))[0]]

    def of_identity(self, stream: str, identity: Any) -> Key | None:
        """The key of the one whose entry in ``identities`` is this; None if it was not seen."""
        return self._keys.get(stream, {}).get(identity)
