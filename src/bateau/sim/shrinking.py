"""From the choices of a failed run to as few and as small ones as still make it fail in the same way.

Every candidate is run, so what is returned has been seen to fail; nothing is concluded. The passes, from coarse to fine: no choices at
all; kinds of streams and whole streams away; ranges of choices away (delta debugging: Zeller, Hildebrandt, "Simplifying and isolating
failure-inducing input", 2002); single ones away, moving those behind by a little, since a choice less can make a program ask fewer
questions before the next; lower values; earlier questions; one away for a change of another. They are repeated until none of them finds anything.

Invariant: each candidate that is accepted is smaller than the one before (fewer choices; else a lower sum of answers; else earlier
questions), so that it ends, and the same failure with the same program always gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .strategy.base import Choices

# One non-zero answer: its stream, the number of its question, the answer.
Entry = tuple[str, int, int]
Entries = tuple[Entry, ...]

DEFAULT_MAX_RUNS = 500
# So many choices are few: trading one for another is tried pair by pair.
MOST_TO_TRADE = 12


def shrink(choices: Choices, still_fails: Callable[[Choices], bool], *, max_runs: int = DEFAULT_MAX_RUNS) -> Choices:
    """The smallest choices found for which ``still_fails`` is true, in at most ``max_runs`` calls of it.

    ``choices`` themselves are taken to fail and are not tried; they are returned if nothing smaller fails. What ``still_fails`` raises is
    passed on.
    """
    return Shrinker(choices, still_fails, max_runs=max_runs).shrink()


class Shrinker:
    """One shrinking. ``runs`` counts the calls of ``still_fails``; ``finished`` says that it ended before they were used up."""

    def __init__(
        self, choices: Choices, still_fails: Callable[[Choices], bool], *, max_runs: int = DEFAULT_MAX_RUNS
    ) -> None:
        if max_runs < 0:
            raise ValueError(f"max_runs must be 0 or more, not {max_runs!r}")
        self.best: Entries = entries_of(choices)
        self.still_fails = still_fails
        self.max_runs = max_runs
        self.runs = 0
        self.finished = False
        self._tried: set[Entries] = {self.best}

    def shrink(self) -> Choices:
        """Do it, and return the choices that are left."""
        try:
            self._to_a_fixed_point()
            self.finished = True
        except _OutOfRunsError:
            pass
        return choices_of(self.best)

    def _to_a_fixed_point(self) -> None:
        if self._accept(()):
            return
        self._drop_groups(lambda entry: entry[0].partition(" ")[0])
        self._drop_groups(lambda entry: entry[0])
        before: Entries | None = None
        while before != self.best:
            before = self.best
            self._drop_ranges()
            self._drop_and_move()
            self._lower()
            self._move_earlier()
            if before == self.best:
                self._trade()

    # -- trying --------------------------------------------------------------------------------------------------------

    def _accept(self, candidate: Entries) -> bool:
        """Run it, unless it is known or not smaller; if it fails it is the best from now on."""
        if candidate in self._tried or not weight(candidate) < weight(self.best):
            return False
        if self.runs >= self.max_runs:
            raise _OutOfRunsError
        self._tried.add(candidate)
        self.runs += 1
        if not self.still_fails(choices_of(candidate)):
            return False
        self.best = candidate
        return True

    # -- the passes ----------------------------------------------------------------------------------------------------

    def _drop_groups(self, group: Callable[[Entry], str]) -> None:
        # The largest first: most of the work is then done by few runs.
        sizes: dict[str, int] = {}
        for entry in self.best:
            name = group(entry)
            sizes[name] = sizes.get(name, 0) + 1
        for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
            self._accept(tuple(entry for entry in self.best if group(entry) != name))

    def _drop_ranges(self) -> None:
        """Ever shorter ranges away, down to single choices."""
        length = len(self.best)
        while length:
            # From the end: what came late in the run is more often without effect on the failure.
            start = len(self.best)
            while start > 0:
                start = max(0, start - length)
                self._accept(self.best[:start] + self.best[start + length :])
            length //= 2

    def _drop_and_move(self) -> None:
        position = len(self.best) - 1
        while position >= 0:
            if position < len(self.best):
                for by in (-1, 1, -2, 2):
                    rest = self.best[:position] + self.best[position + 1 :]
                    if self._accept(moved(rest, position, self.best[position][0], by)):
                        break
            position -= 1

    def _trade(self) -> None:
        """One away for a change of another: two ways of holding a task back can need each other. Takes many runs, so it is for few."""
        if len(self.best) > MOST_TO_TRADE:
            return
        for dropped in range(len(self.best) - 1, -1, -1):
            for place in range(len(self.best)):
                if dropped < len(self.best) and place < len(self.best) and place != dropped:
                    self._trade_one(dropped, place)

    def _trade_one(self, dropped: int, place: int) -> None:
        rest = {entry[:2]: entry[2] for at, entry in enumerate(self.best) if at not in (dropped, place)}
        stream, index, answer = self.best[place]
        for more, later in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1)):
            key = (stream, index + later)
            if answer + more > 0 and index + later >= 0 and key not in rest:
                changed = {**rest, key: answer + more}
                if self._accept(tuple(sorted((*where, what) for where, what in changed.items()))):
                    return

    def _lower(self) -> None:
        for position in range(len(self.best)):
            for answer in _below(self.best[position][2]):
                stream, index, _ = self.best[position]
                if self._accept((*self.best[:position], (stream, index, answer), *self.best[position + 1 :])):
                    break

    def _move_earlier(self) -> None:
        for position in range(len(self.best)):
            stream, index, answer = self.best[position]
            room = index
            if position and self.best[position - 1][0] == stream:
                room -= self.best[position - 1][1] + 1
            for by in _steps(room):
                if self._accept(moved(self.best, position, stream, -by)):
                    break
                alone = (stream, index - by, answer)
                if self._accept((*self.best[:position], alone, *self.best[position + 1 :])):
                    break


def entries_of(choices: Choices) -> Entries:
    """The non-zero answers as a sorted tuple."""
    return tuple(
        (stream, index, answer)
        for stream, answers in sorted(choices.items())
        for index, answer in sorted(answers.items())
        if answer
    )


def choices_of(entries: Entries) -> Choices:
    """The reverse of ``entries_of``."""
    choices: Choices = {}
    for stream, index, answer in entries:
        choices.setdefault(stream, {})[index] = answer
    return choices


def weight(entries: Entries) -> tuple[int, int, int]:
    """What shrinking makes smaller: how many answers, how large they are, how late they come."""
    return len(entries), sum(entry[2] for entry in entries), sum(entry[1] for entry in entries)


def moved(entries: Entries, start: int, stream: str, by: int) -> Entries:
    """The answers of ``stream`` from position ``start`` on moved by ``by`` questions; unchanged where that can't be."""
    tail = [(entry[0], entry[1] + by, entry[2]) if entry[0] == stream else entry for entry in entries[start:]]
    if start < len(entries) and entries[start][0] == stream:
        first = tail[0][1]
        if first < 0 or (start and entries[start - 1][0] == stream and entries[start - 1][1] >= first):
            return entries
    return (*entries[:start], *tail)


def _below(answer: int) -> Iterator[int]:
    """Lower answers worth trying, the lowest first."""
    yield from sorted({1, answer // 2, answer - 1} - {0, answer})


def _steps(room: int) -> Iterator[int]:
    """Distances worth trying, the longest first."""
    while room > 0:
        yield room
        room //= 2


class _OutOfRunsError(Exception):
    """``max_runs`` are used up."""
