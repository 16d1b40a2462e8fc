"""Several attributes of an object in one read, for what there are a hundred thousand of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from struct import Struct
from typing import Any

from .cache import native_part
from .frames import struct_of
from .objects import MANAGED_DICT, Objects, TypeInfo

# More are read in Python.
_MOST_FIELDS = 32


class Plan:
    """How to read the attributes of one type: one structure, and where in it each attribute is; ``fast`` is the C form of that, or None."""

    __slots__ = ("fast", "flags", "layout", "numbers", "pick", "rest", "same")

    def __init__(
        self, objects: Objects, info: TypeInfo, names: Sequence[str], numbers_from: int, flags_from: int
    ) -> None:
        wanted: list[tuple[int, str]] = []
        missing: list[str] = []
        places: dict[str, int] = {}
        # Those that are objects, and have to be decoded; what C keeps as a number is read as the value itself.
        decoded = [index for index, name in enumerate(names) if name not in info.numbers]
        self.numbers = tuple(index for index in decoded if numbers_from <= index < flags_from)
        self.flags = tuple(index for index in decoded if index >= flags_from)
        for name in names:
            number = info.numbers.get(name)
            if number is not None:
                kind = number.format.lstrip("<0123456789x")
                places[name] = number.size - Struct(f"<{kind}").size
                wanted.append((places[name], kind))
            elif name in info.slots:
                places[name] = info.slots[name]
                wanted.append((places[name], "Q"))
            else:
                missing.append(name)
        self.layout = struct_of(wanted)
        self.fast: Any = None
        native = native_part("Record")
        if native is not None and objects.memory.window is not None and len(wanted) <= _MOST_FIELDS:
            self.fast = native(objects.memory.window, tuple(wanted)).read
        order = sorted(places.values())
        # What is missing is in an instance's dictionary, if there are any; else it is the same for all.
        self.rest = tuple(missing)
        self.same: tuple[tuple[int, int], ...] | None = None
        if not info.dict_offset and not info.flags & MANAGED_DICT:
            self.same = tuple((names.index(name), 0) for name in missing)
        chosen = [order.index(places[name]) for name in names if name in places]
        self.pick: Callable[[Any], Any] = (
            itemgetter(*chosen) if len(chosen) > 1 else lambda raw: tuple(raw[at] for at in chosen)
        )


class Fields:
    """Reads the attributes ``names`` of objects of any type: slots, and members of C structures.

    ``pointers`` of them come first and are addresses (0 for None and for what an object does not have), then ``numbers``, then
    ``flags``.
    """

    def __init__(
        self, objects: Objects, pointers: Sequence[str], numbers: Sequence[str] = (), flags: Sequence[str] = ()
    ) -> None:
        self.objects = objects
        self.names = (*pointers, *numbers, *flags)
        self._flags_from = len(pointers) + len(numbers)
        self._numbers_from = len(pointers)
        self._plans: dict[int, Plan] = {}

    def read(self, address: int) -> list[Any]:
        """The values, in the order of the names. Raises ``Fault``."""
        objects = self.objects
        kind = objects.memory.word(address + 8)
        plan = self._plans.get(kind)
        if plan is None:
            plan = self._plans[kind] = Plan(
                objects, objects.type_at(kind), self.names, self._numbers_from, self._flags_from
            )
        none = objects.none
        values: list[Any] | None = plan.fast(address, none) if plan.fast is not None else None
        if values is None:
            raw = plan.pick(objects.memory.unpack(plan.layout, address))
            values = [0 if value == none else value for value in raw]
        if plan.same is not None:
            for index, value in plan.same:
                values.insert(index, value)
        elif plan.rest:
            self._add_missing(address, plan, values)
        for index in plan.numbers:
            value = values[index]
            values[index] = objects.integer(value) if value else 0
        true = objects.true
        for index in plan.flags:
            values[index] = values[index] == true
        return values

    def _add_missing(self, address: int, plan: Plan, values: list[Any]) -> None:
        """What is in no slot may be in the instance's dictionary, or its class's to say."""
        for name in plan.rest:
            value = self.objects.path(address, name)
            values.insert(self.names.index(name), value)
