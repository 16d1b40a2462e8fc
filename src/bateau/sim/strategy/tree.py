"""The tree of all runs of a program, visited depth first, leaving out orders that are known not to matter.

Each run goes down one path. A node is a decision: who makes the next step, or a choice within a step (a fault happens or not). Two runs
that differ only in the order of neighbouring *independent* steps are the same to everybody in the program, and one of them is
enough. Which steps are independent is known from their footprints once they have been made.

The method is source-DPOR (Abdulla, Aronsson, Jonsson, Sagonas: "Optimal dynamic partial order reduction", POPL 2014), which refines
Flanagan's and Godefroid's of POPL 2005. After each run, each *race* in it (two dependent steps of different actors with nothing ordered
between them, the later not made possible by the earlier) must also be tried the other way round: before the earlier step some actor
is noted that leads there. *Sleep sets* (Godefroid) leave out what was tried already: an actor whose step was tried from a node sleeps
in the subtrees of its siblings, until a step is made that depends on it. A run in which all who could go on sleep is *redundant*:
nothing below is explored any more.

Invariants of a node at which an actor is chosen: ``done`` and ``chosen`` are among ``wanted``; nobody in ``sleep`` is ever chosen; everything
is reproduced up to and including the node, so that its actors have the same keys in each run that comes by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from .base import Key
from .footprint import EVERYTHING, Footprint, Places, meet


class NotReproducible(RuntimeError):
    """A program did something else although it was given the same answers."""


class _Actors:
    """A node at which the next step is given to somebody."""

    __slots__ = (
        "chosen",
        "done",
        "fixed",
        "footprint",
        "index",
        "keys",
        "met",
        "redundant",
        "sleep",
        "varies",
        "wanted",
    )

    def __init__(self, keys: tuple[Key, ...], sleep: dict[Key, Footprint], index: int, met: int) -> None:
        self.keys = keys
        self.sleep = sleep
        # The number of its step among the steps of the run, and how many objects had numbers before it.
        self.index = index
        self.met = met
        free = [key for key in keys if key not in sleep]
        self.redundant = not free
        self.chosen = free[0] if free else keys[0]
        # Whose steps happen only where they can't be put off or brought forward: see ``Tree.actors``.
        self.fixed: Collection[Key] = ()
        # Who is to be tried from here, in the order in which that was noticed.
        self.wanted: dict[Key, None] = {self.chosen: None}
        self.done: dict[Key, Footprint] = {}
        # Of the chosen actor's step: joined over the choices within the step, if it has such (``varies``).
        self.footprint: Footprint | None = None
        self.varies = False

    def next_wanted(self) -> Key | None:
        return next((key for key in self.wanted if key not in self.done and key not in self.sleep), None)


class _Choice:
    """A node at which a step chooses among ``n``."""

    __slots__ = ("answer", "n", "stream")

    def __init__(self, stream: str, n: int) -> None:
        self.stream = stream
        self.n = n
        self.answer = 0


class _Step:
    """A step of the current run."""

    __slots__ = ("completes", "enabler", "footprint", "key", "node")

    def __init__(self, node: _Actors, enabler: int | None) -> None:
        self.node = node
        self.key = node.chosen
        # The step that made the actor ready.
        self.enabler = enabler
        self.footprint: Footprint = EVERYTHING
        # Who had waited for this step and others like it, and for what: see ``Footprint``.
        self.completes: Mapping[Key, Places] = {}


class Tree:
    """All runs of one program. ``begin``; then ``actors`` and ``choice`` as the run asks, ``made`` after each step; ``end``.

    ``reduce=False`` visits every path. ``runs`` counts those begun, ``redundant`` those that ended asleep.
    """

    def __init__(self, *, reduce: bool = True) -> None:
        self.reduce = reduce
        self.runs = 0
        self.redundant = 0
        self.exhausted = False
        self._path: list[_Actors | _Choice] = []
        self._at = 0
        self._steps: list[_Step] = []
        # For each step a bit for every earlier step that must come before it. Steps before ``_fresh`` are those of the run before:
        # their races are known.
        self._pasts: list[int] = []
        self._fresh = 0
        # By stream: who was ready and not chosen at the last node; and by key, the step that made it ready.
        self._waiting: dict[str, frozenset[Key]] = {}
        self._enablers: dict[Key, int] = {}
        self._asleep = False

    def begin(self) -> bool:
        """Start the next run; False if there is none."""
        if self.exhausted:
            return False
        self.runs += 1
        self._at = 0
        self._steps.clear()
        self._waiting.clear()
        self._enablers.clear()
        self._asleep = False
        return True

    def actors(self, stream: str, keys: Sequence[Key], *, met: int, fixed: Collection[Key] = ()) -> int:
        """Who of ``keys`` makes the next step: an index. ``met`` is how many objects have numbers so far (see ``footprint``).

        ``fixed`` are those whose steps concern everybody, and happen when everything else has come to rest or because this very
        question was answered so: another thread, the clock. Where there are such all ``keys`` are tried, whatever the footprints say; so
        no race with such a step has to be reversed somewhere else.
        """
        self._note_newcomers(stream, keys)
        if self._asleep:
            return 0
        if self._at < len(self._path):
            node = self._path[self._at]
            if not isinstance(node, _Actors) or node.keys != tuple(keys):
                raise _not_reproducible(stream, node, keys)
        else:
            node = _Actors(tuple(keys), self._sleep(), len(self._steps), met)
            if node.redundant:
                self._asleep = True
                self.redundant += 1
                return 0
            node.fixed = fixed
            if fixed or not self.reduce:
                node.wanted.update(dict.fromkeys(keys))
            self._path.append(node)
        self._at += 1
        self._steps.append(_Step(node, self._enablers.get(node.chosen)))
        self._waiting[stream] = frozenset(keys) - {node.chosen}
        return node.keys.index(node.chosen)

    def choice(self, stream: str, n: int) -> int:
        """What the running step chooses."""
        if self._asleep:
            return 0
        if self._at < len(self._path):
            node = self._path[self._at]
            if not isinstance(node, _Choice) or (node.stream, node.n) != (stream, n):
                raise _not_reproducible(stream, node, n)
        else:
            node = _Choice(stream, n)
            self._path.append(node)
        if self._steps:
            self._steps[-1].node.varies = True
        self._at += 1
        return node.answer

    def made(self, footprint: Footprint, completes: Mapping[Key, Places] | None = None) -> None:
        """The last step has been made, and has touched that. ``completes``: that of the footprint, by key."""
        if self._asleep or not self._steps:
            return
        step = self._steps[-1]
        step.footprint = footprint
        step.completes = completes or {}
        node = step.node
        if node.varies and node.footprint is not None:
            footprint = node.footprint.joined(footprint)
        node.footprint = footprint

    def end(self) -> None:
        """The run is over: note what it has shown, and find the next path."""
        if self.reduce:
            self._find_races()
        while self._path:
            node = self._path[-1]
            if isinstance(node, _Choice):
                if node.answer + 1 < node.n:
                    node.answer += 1
                    self._fresh = self._steps_up_to(len(self._path) - 1)
                    return
            else:
                node.done[node.chosen] = (node.footprint or EVERYTHING).before(node.met)
                following = node.next_wanted()
                if following is not None:
                    node.chosen = following
                    node.footprint = None
                    node.varies = False
                    self._fresh = node.index
                    return
            self._path.pop()
        self.exhausted = True

    # -- inside --------------------------------------------------------------------------------------------------------

    def _note_newcomers(self, stream: str, keys: Sequence[Key]) -> None:
        """Whoever was not waiting at the last node has been made ready by the last step."""
        if self._steps:
            waiting = self._waiting.get(stream, frozenset())
            for key in keys:
                if key not in waiting:
                    self._enablers[key] = len(self._steps) - 1

    def _sleep(self) -> dict[Key, Footprint]:
        """Who sleeps at the new node: those who slept at the last one or were tried from it, and do not depend on its step."""
        if not self.reduce or not self._steps:
            return {}
        last = self._steps[-1]
        node = last.node
        return {
            key: footprint
            for key, footprint in (*node.sleep.items(), *node.done.items())
            if key != last.key and not footprint.conflicts(last.footprint)
        }

    def _steps_up_to(self, place: int) -> int:
        """The number of the step that the choice at ``place`` in the path belongs to."""
        for node in reversed(self._path[:place]):
            if isinstance(node, _Actors):
                return node.index
        return 0

    def _find_races(self) -> None:
        steps, pasts = self._steps, self._pasts
        del pasts[self._fresh :]
        for j in range(len(pasts), len(steps)):
            step = steps[j]
            past = 0
            for i in range(j - 1, -1, -1):
                if past >> i & 1:
                    continue
                earlier = steps[i]
                ordered = earlier.key == step.key or i == step.enabler or self._counted(earlier, step)
                if ordered or earlier.footprint.conflicts(step.footprint):
                    if not ordered and step.key not in step.node.fixed:
                        self._reverse(i, j, past)
                    past |= pasts[i] | 1 << i
            pasts.append(past)

    def _counted(self, earlier: _Step, step: _Step) -> bool:
        """Whether ``step`` was made possible by the last of several that added to the same place, of which ``earlier`` is one."""
        if step.enabler is None or not earlier.footprint.adds:
            return False
        places = self._steps[step.enabler].completes.get(step.key)
        return places is not None and meet(earlier.footprint.adds, places)

    def _reverse(self, i: int, j: int, past: int) -> None:
        """Steps ``i`` and ``j`` race: note at the node of ``i`` somebody who leads to ``j`` before ``i``.

        ``past`` are the steps after ``i`` that must come before ``j``.
        """
        steps, pasts = self._steps, self._pasts
        node = steps[i].node
        # What need not come after ``i``, and then ``j``. Whoever can go first in this leads there.
        rest = [k for k in range(i + 1, j) if not pasts[k] >> i & 1]
        inside = sum(1 << k for k in rest)
        leading = [steps[k].key for k in rest if not pasts[k] & inside]
        if not past & inside:
            leading.append(steps[j].key)
        if any(key in node.wanted for key in leading):
            return
        possible = [key for key in leading if key in node.keys]
        # If none of them could run there (they belong to another program, say), everybody is tried.
        node.wanted.update(dict.fromkeys(possible[:1] or node.keys))


def _not_reproducible(stream: str, node: _Actors | _Choice, now: object) -> NotReproducible:
    before = node.keys if isinstance(node, _Actors) else f"a choice of {node.stream!r} among {node.n}"
    return NotReproducible(
        f"the same answers led to another question in {stream!r}: {before} before, {now} now; the program depends on something that "
        "is not simulated (the real clock, an address, the order of a set, state left over from the run before)"
    )
