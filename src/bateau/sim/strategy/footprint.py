"""Footprints: what a step has touched, so that two steps can be told to be independent (their order does not matter).

A footprint may say too much, never too little: where it is not known what was touched, it is ``EVERYTHING``.

A place is a name and a number: an attribute's name and the number of its object, for instance. Numbers are given to objects in the
order in which a run meets them, so that they mean the same in another run as long as both have done the same until then. None stands
for "some object, not known which".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Numbers of objects, by the name of what was touched in them.
Places = dict[str, set[int | None]]


class Footprint:
    """What one step has read, written, and added to. ``everything``: nobody knows, so it is taken to conflict with any other step.

    Two steps that *add* to the same place do not conflict: the end of either of two children is to their scope the same in both orders.
    Where one of them was the last that somebody has waited for, ``completes`` says who (an identity, see ``base.identities``) and where.
    """

    __slots__ = ("adds", "completes", "everything", "reads", "writes")

    def __init__(self, *, everything: bool = False) -> None:
        self.everything = everything
        self.reads: Places = {}
        self.writes: Places = {}
        self.adds: Places = {}
        self.completes: dict[Any, Places] = {}

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

    def add(self, name: str, number: int | None) -> None:
        """The step has added to what is there, in a way that is the same before and after others that only add."""
        self.adds.setdefault(name, set()).add(number)

    def conflicts(self, other: Footprint) -> bool:
        """Whether the order of the two steps may matter: one has written what the other has read or written."""
        if self.everything or other.everything:
            return True
        return (
            (bool(self.writes) and (meet(self.writes, other.writes) or meet(self.writes, other.reads)))
            or (bool(other.writes) and meet(self.reads, other.writes))
            or (bool(self.adds) and (meet(self.adds, other.writes) or meet(self.adds, other.reads)))
            or (bool(other.adds) and (meet(self.writes, other.adds) or meet(self.reads, other.adds)))
        )

    def joined(self, other: Footprint) -> Footprint:
        """What either of them has touched."""
        found = Footprint(everything=self.everything or other.everything)
        if not found.everything:
            for one in (self, other):
                for name, numbers in one.reads.items():
                    found.reads.setdefault(name, set()).update(numbers)
                for name, numbers in one.writes.items():
                    found.writes.setdefault(name, set()).update(numbers)
                for name, numbers in one.adds.items():
                    found.adds.setdefault(name, set()).update(numbers)
        return found

    def before(self, met: int) -> Footprint:
        """The same for another run, which agrees with this one only in the first ``met`` numbers: the others may be any object."""
        found = Footprint(everything=self.everything)
        found.reads = _blurred(self.reads, met)
        found.writes = _blurred(self.writes, met)
        found.adds = _blurred(self.adds, met)
        return found

    def __repr__(self) -> str:
        if self.everything:
            return "<Footprint of everything>"
        return f"<Footprint reads {self.reads} writes {self.writes} adds {self.adds}>"


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
