"""Footprints: what a step has touched, so that two steps can be told to be independent (their order does not matter).

A footprint may say too much, never too little: where it is not known what was touched, it is ``EVERYTHING``.

A place is a name and a number: an attribute's name and the number of its object, for instance. Numbers are given to objects in the
order in which a run meets them, so that they mean the same in another run as long as both have done the same until then. None stands
for "some object, not known which".
"""

from __future__ import annotations

from collections.abc import Iterable

# Numbers of objects, by the name of what was touched in them.
Places = dict[str, set[int | None]]


class Footprint:
    """What one step has read and written. ``everything``: nobody knows, so it is taken to conflict with any other step."""

    __slots__ = ("everything", "reads", "writes")

    def __init__(self, *, everything: bool = False) -> None:
        self.everything = everything
        self.reads: Places = {}
        self.writes: Places = {}

    @classmethod
    def of(cls, reads: Iterable[str] = (), writes: Iterable[str] = ()) -> Footprint:
        """One of named places that are each a single thing."""
        found = cls()
        for name in reads:
            found.read(name, 0)
        for name in writes:
            found.write(name, 0)
        return found

    def read(self, name: str, number: int | None) -> None:
        """The step has read there."""
        self.reads.setdefault(name, set()).add(number)

    def write(self, name: str, number: int | None) -> None:
        """The step has written there."""
        self.writes.setdefault(name, set()).add(number)

    def conflicts(self, other: Footprint) -> bool:
        """Whether the order of the two steps may matter: one has written what the other has read or written."""
        if self.everything or other.everything:
            return True
        return meet(self.writes, other.writes) or meet(self.writes, other.reads) or meet(self.reads, other.writes)

    def joined(self, other: Footprint) -> Footprint:
        """What either of them has touched."""
        found = Footprint(everything=self.everything or other.everything)
        if not found.everything:
            for one in (self, other):
                for name, numbers in one.reads.items():
                    found.reads.setdefault(name, set()).update(numbers)
                for name, numbers in one.writes.items():
                    found.writes.setdefault(name, set()).update(numbers)
        return found

    def before(self, met: int) -> Footprint:
        """The same for another run, which agrees with this one only in the first ``met`` numbers: the others may be any object."""
        found = Footprint(everything=self.everything)
        found.reads = _blurred(self.reads, met)
        found.writes = _blurred(self.writes, met)
        return found

    def __repr__(self) -> str:
        if self.everything:
            return "<Footprint of everything>"
        return f"<Footprint reads {self.reads} writes {self.writes}>"


EVERYTHING = Footprint(everything=True)
NOTHING = Footprint()


def meet(one: Places, other: Places) -> bool:
    """Whether the same place may be among both."""
    for name, numbers in one.items():
        others = other.get(name)
        if others is not None and (None in numbers or None in others or not numbers.isdisjoint(others)):
            return True
    return False


def _blurred(places: Places, met: int) -> Places:
    return {
        name: {number if number is not None and number < met else None for number in numbers}
        for name, numbers in places.items()
    }
