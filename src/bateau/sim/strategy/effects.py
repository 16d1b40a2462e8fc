"""The effects of instructions: what each action of a ``Plan`` adds to the footprint of the running step."""

from __future__ import annotations

from collections.abc import Callable
from types import (
    BuiltinFunctionType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any
from weakref import ref

from ...channel.mpmc import Receiver
from ...kernel.twin import replaced
from . import instructions as code_
from .footprint import Footprint
from .instructions import Action, Producer
from .knowledge import (
    ANY,
    APPENDING_METHODS,
    AWAITABLE,
    CHANGING_METHODS,
    CONTAINERS,
    FORMATTING_METHODS,
    GENERATOR,
    IMMUTABLE,
    ITEMS,
    ITERATING_CALLS,
    ITERATING_METHODS,
    ITERATORS,
    LOOKING_CALLS,
    MAKING_CALLS,
    NEW,
    OVER_ITEMS,
    PLAIN_CALLS,
    POSITION,
    PRIVATE,
    PRIVATE_ITERATOR,
    READING_METHODS,
    REFLECTIVE,
    UNKNOWN,
    BoundTo,
    IteratorOf,
    Mark,
    class_of,
    given_by,
    in_class,
    is_among,
    is_bateaus_class,
    is_made_in_python,
    is_plain,
    iterates_in_python,
    said,
    slots_of_bateau,
)

_GETATTRIBUTE: Any = object.__getattribute__


def _self_of(callee: Any) -> Any:
    return callee.__self__


class Values(dict[Producer, Any]):
    """What the instructions of one frame have left in this step, by their offsets: objects, or marks of ``knowledge``."""

    __slots__ = ("again",)

    def __init__(self, again: frozenset[Producer]) -> None:
        # Producers whose values are used by several instructions.
        self.again = again

    def take(self, producer: Producer) -> Any:
        """The value of an operand. It is not kept for longer than it is needed, so that no object lives longer for being watched."""
        return self.get(producer, UNKNOWN) if producer in self.again else self.pop(producer, UNKNOWN)


class Effects:
    """The footprint of the running step, and what has to be known of a run to add to it."""

    def __init__(self) -> None:
        # Why steps were taken to touch everything, and how often.
        self.lost: dict[str, int] = {}
        self._footprint = Footprint()
        # Whether the running step is taken to touch everything.
        self._lost = False
        self._slots: set[str] | None = None
        self._forget()

    def _forget(self) -> None:
        """A new run starts: objects get their numbers anew."""
        # By ``id``: the object (or a weak reference to it), and its number.
        self._numbers: dict[int, tuple[Any, int]] = {}
        self._met = 0
        self._plain: dict[type, bool] = {}
        # By function and instruction, over all frames of this run: the worst that a loop went through; and how a ``with`` block is left:
        # by a function written in Python, which gives something that can be awaited.
        self._iterators: dict[tuple[CodeType, Producer], int] = {}
        self._exits: dict[tuple[CodeType, Producer], tuple[bool, bool]] = {}

    def _everything(self, why: str) -> None:
        """Nothing is known any more of this step."""
        if not self._lost:
            self._lost = True
            self.lost[why] = self.lost.get(why, 0) + 1

    def do(self, frame: FrameType, values: Values, action: Action) -> None:
        """Account for one action of a function's plan, which is about to happen in ``frame``."""
        _DOING[action[0]](self, frame, values, action)

    # -- objects -------------------------------------------------------------------------------------------------------------

    def _number(self, thing: Any) -> int:
        """The number of an object in this run. What can be referred to weakly is not kept alive by it."""
        key = id(thing)
        found = self._numbers.get(key)
        if found is not None:
            held = found[0]
            if held is thing or (type(held) is ref and held() is thing):
                return found[1]
        number = self._met
        self._met = number + 1
        try:
            held = ref(thing)
        except TypeError:
            held = thing
        self._numbers[key] = (held, number)
        return number

    def _is_bateaus(self, name: str) -> bool:
        """Whether some class of bateau's has a slot of that name: its own code changes it without being followed."""
        if self._slots is None:
            self._slots = set(slots_of_bateau())
        return name in self._slots

    def _is_plain(self, cls: type) -> bool:
        found = self._plain.get(cls)
        if found is None:
            found = self._plain[cls] = is_plain(cls)
        return found

    def _reads(self, place: str, thing: Any) -> None:
        self._footprint.read(place, None if thing is UNKNOWN else self._number(thing))

    def _writes(self, place: str, thing: Any) -> None:
        self._footprint.write(place, None if thing is UNKNOWN else self._number(thing))

    def _look_at(self, thing: Any) -> None:
        """C code may look into ``thing``: at its items, and theirs, if it is a container."""
        if thing is not NEW and type(thing) not in IMMUTABLE:
            self._footprint.read(ITEMS, None)

    def _go_through(self, thing: Any) -> None:
        """C code goes through all of ``thing``."""
        kind = class_of(thing)
        if thing is NEW or thing is PRIVATE_ITERATOR or thing is GENERATOR or kind in IMMUTABLE:
            return
        if kind in CONTAINERS:
            self._reads(ITEMS, thing)
        elif kind in ITERATORS:
            self._footprint.read(ITEMS, None)
            self._writes(POSITION, thing)
        elif isinstance(thing, IteratorOf):
            self._reads(ITEMS, thing.container)
        elif not (kind is GeneratorType or (not isinstance(thing, Mark) and iterates_in_python(kind))):
            self._everything(f"a loop over {said(thing)}")

    # -- actions: values -----------------------------------------------------------------------------------------------------

    def _do_const(self, frame: FrameType, values: Values, action: Action) -> None:
        values[action[1]] = action[2]

    def _do_local(self, frame: FrameType, values: Values, action: Action) -> None:
        values[action[1]] = frame.f_locals.get(action[2], UNKNOWN)

    def _do_locals(self, frame: FrameType, values: Values, action: Action) -> None:
        found = frame.f_locals
        values[action[1]] = found.get(action[2], UNKNOWN)
        values[action[3]] = found.get(action[4], UNKNOWN)

    def _do_cell(self, frame: FrameType, values: Values, action: Action) -> None:
        self._footprint.read(f"cell {action[2]}", None)
        values[action[1]] = frame.f_locals.get(action[2], UNKNOWN)

    def _do_set_cell(self, frame: FrameType, values: Values, action: Action) -> None:
        self._footprint.write(f"cell {action[1]}", None)

    def _do_global(self, frame: FrameType, values: Values, action: Action) -> None:
        _, own, name = action
        found = frame.f_globals
        self._footprint.read(f".{name}", self._number(found))
        values[own] = found[name] if name in found else frame.f_builtins.get(name, UNKNOWN)

    def _do_set_global(self, frame: FrameType, values: Values, action: Action) -> None:
        self._footprint.write(f".{action[1]}", self._number(frame.f_globals))

    def _do_fresh(self, frame: FrameType, values: Values, action: Action) -> None:
        values[action[1]] = NEW

    def _do_function(self, frame: FrameType, values: Values, action: Action) -> None:
        values[action[1]] = values.take(action[2])  # its code, which says enough

    def _do_plain(self, frame: FrameType, values: Values, action: Action) -> None:
        values[action[1]] = None

    # -- actions: attributes -------------------------------------------------------------------------------------------------

    def _do_attr(self, frame: FrameType, values: Values, action: Action) -> None:
        _, own, base, name = action
        thing = values.take(base)
        values[own] = UNKNOWN
        if name in REFLECTIVE:
            self._everything(f".{name} was used")
        elif not isinstance(thing, Mark):
            values[own] = self._attribute(thing, name)
        elif thing is not NEW:
            self._footprint.read(f".{name}", None)
            if self._is_bateaus(name):
                self._everything(f".{name} of an unknown object was read")

    def _attribute(self, thing: Any, name: str) -> Any:
        """Account for reading ``thing.name``, and find what that gives without running anything of the program's."""
        cls = class_of(thing)
        if isinstance(thing, ModuleType):
            found = vars(thing)
            self._footprint.read(f".{name}", self._number(found))
            return found.get(name, UNKNOWN)
        raw = in_class(cls, name)
        if cls in IMMUTABLE or cls in CONTAINERS:
            return BoundTo(thing, raw) if isinstance(raw, MethodDescriptorType) else UNKNOWN
        if isinstance(thing, type) or cls.__getattribute__ is not _GETATTRIBUTE:
            self._footprint.read(f".{name}", None)  # a class inherits, a proxy reads elsewhere
            function = in_class(thing, name) if isinstance(thing, type) else None
            return function if isinstance(function, FunctionType) else UNKNOWN
        self._footprint.read(f".{name}", self._number(thing))
        if isinstance(raw, MemberDescriptorType):
            if is_bateaus_class(raw.__objclass__):
                self._everything(f"{cls.__name__}.{name} was read")
            try:
                return raw.__get__(thing)
            except AttributeError:
                return UNKNOWN
        if raw is not None and hasattr(class_of(raw), "__set__"):
            return UNKNOWN  # a property: what it calls is followed
        attributes: Any = getattr(thing, "__dict__", None)
        if class_of(attributes) is dict and name in attributes:
            if is_bateaus_class(cls):
                self._everything(f"{cls.__name__}.{name} was read")
            return attributes[name]
        return BoundTo(thing, raw) if isinstance(raw, FunctionType | MethodDescriptorType) else UNKNOWN

    def _do_set_attr(self, frame: FrameType, values: Values, action: Action) -> None:
        _, base, name = action
        thing = values.take(base)
        if name in REFLECTIVE or (name.startswith("__") and name.endswith("__")):
            self._everything(f".{name} was set")
        elif thing is NEW:
            return
        elif isinstance(thing, Mark):
            self._footprint.write(f".{name}", None)
            if self._is_bateaus(name):
                self._everything(f".{name} of an unknown object was set")
        elif isinstance(thing, ModuleType):
            self._footprint.write(f".{name}", self._number(vars(thing)))
        elif isinstance(thing, type):
            self._footprint.write(f".{name}", None)  # each instance may have it
        elif self._is_plain(class_of(thing)):
            self._footprint.write(f".{name}", self._number(thing))
        else:
            self._everything(f".{name} of {said(thing)} was set")

    def _do_raise(self, frame: FrameType, values: Values, action: Action) -> None:
        self._footprint.write(".__traceback__", None)  # that of an exception which several may have

    # -- actions: containers -------------------------------------------------------------------------------------------------

    def _do_item(self, frame: FrameType, values: Values, action: Action) -> None:
        thing = values.take(action[1])
        if type(thing) in CONTAINERS:
            self._reads(ITEMS, thing)
        else:
            self._change_items(thing)  # a defaultdict adds what is missing

    def _do_set_item(self, frame: FrameType, values: Values, action: Action) -> None:
        self._change_items(values.take(action[1]))

    def _change_items(self, thing: Any) -> None:
        kind = class_of(thing)
        if thing is NEW or kind in IMMUTABLE:
            return
        if isinstance(thing, Mark):
            self._footprint.write(ITEMS, None)
        elif kind in CONTAINERS:
            self._writes(ITEMS, thing)
        elif not self._is_plain(kind):
            self._everything(f"an item of {said(thing)} was used")

    def _do_look(self, frame: FrameType, values: Values, action: Action) -> None:
        for producer in action[1:]:
            self._look_at(values.take(producer))

    def _do_compare(self, frame: FrameType, values: Values, action: Action) -> None:
        for producer in action[2:]:
            self._look_at(values.take(producer))
        values[action[1]] = None

    def _do_in_place(self, frame: FrameType, values: Values, action: Action) -> None:
        left, right = (values.take(producer) for producer in action[1:])
        if type(left) in IMMUTABLE:
            self._look_at(right)
        elif type(left) in CONTAINERS:
            self._change_items(left)
            self._go_through(right)
        else:
            # If it is a list after all, ``right`` is gone through, whatever it is; a number in a variable is the usual case.
            self._change_items(left)
            if type(right) not in IMMUTABLE and type(right) not in CONTAINERS:
                self._everything("an augmented assignment to something unknown")

    def _do_iter(self, frame: FrameType, values: Values, action: Action) -> None:
        _, own, producer = action
        thing = values.take(producer)
        kind = class_of(thing)
        private = thing is NEW or kind in IMMUTABLE
        place = (frame.f_code, own)
        grade = PRIVATE if private else OVER_ITEMS if kind in CONTAINERS else ANY
        before = self._iterators.get(place, PRIVATE)
        self._iterators[place] = max(before, grade)
        values[own] = PRIVATE_ITERATOR if private else IteratorOf(thing) if kind in CONTAINERS else UNKNOWN
        if isinstance(thing, IteratorOf):  # a view of a dictionary, say, and not an iterator yet
            self._iterators[place] = max(before, OVER_ITEMS)
            values[own] = thing
        elif thing is GENERATOR or kind is GeneratorType or kind in ITERATORS:
            values[own] = thing

    def _do_iterate(self, frame: FrameType, values: Values, action: Action) -> None:
        self._go_through(values.take(action[1]))

    def _do_next(self, frame: FrameType, values: Values, action: Action) -> None:
        _, own, producer = action
        thing = values.get(producer, UNKNOWN)  # not taken: a loop comes by here again
        values[own] = NEW if isinstance(thing, IteratorOf) and thing.gives_pairs else UNKNOWN
        if thing is UNKNOWN:  # made in an earlier step, perhaps
            grade = self._iterators.get((frame.f_code, producer), ANY)
            if grade == PRIVATE:
                return
            if grade == OVER_ITEMS:
                self._footprint.read(ITEMS, None)
                return
        self._go_through(thing)

    # -- actions: calls ------------------------------------------------------------------------------------------------------

    def _do_call(self, frame: FrameType, values: Values, action: Action) -> None:
        _, own, producer, arguments, keywords = action
        leaves = self._exits.get((frame.f_code, producer))
        if leaves is not None:  # the end of a ``with``, whose manager was seen when the block was entered
            if leaves[0]:
                values[own] = AWAITABLE if leaves[1] else UNKNOWN
            else:
                self._everything("a block was left that an unknown manager had entered")
            return
        given = [values.take(argument) for argument in arguments]
        values[own] = self._call(values.take(producer), given, keywords)

    def _call(self, callee: Any, given: list[Any], keywords: bool) -> Any:
        """Account for calling ``callee``; what the call gives, as far as that is known."""
        if type(callee) is MethodType:
            callee = BoundTo(callee.__self__, callee.__func__)
        function = callee.function if isinstance(callee, BoundTo) else callee
        if replaced and isinstance(callee, BuiltinFunctionType):
            function = _pure_form(callee)
        if isinstance(function, FunctionType):
            return given_by(function.__code__)
        if isinstance(callee, CodeType):
            return given_by(callee)  # a function that was just made: a comprehension
        if (
            isinstance(callee, type)
            and callee not in IMMUTABLE
            and callee not in CONTAINERS
            and is_made_in_python(callee)
        ):
            return UNKNOWN
        if keywords:  # a ``key=`` that is called by C code
            self._everything(f"a call of {said(callee)} with keywords")
            return UNKNOWN
        if isinstance(callee, BoundTo):
            return self._call_method(callee.owner, function.__name__, given)
        if type(callee) is BuiltinFunctionType and class_of(_self_of(callee)) in CONTAINERS:
            return self._call_method(_self_of(callee), callee.__name__, given)
        return self._call_builtin(callee, given)

    def _call_builtin(self, callee: Any, given: list[Any]) -> Any:
        if callee is range:
            return NEW
        if is_among(callee, LOOKING_CALLS):
            for each in given:
                self._look_at(each)
            return None if is_among(callee, PLAIN_CALLS) else UNKNOWN
        if is_among(callee, ITERATING_CALLS):
            self._call_iterating(given)
            return NEW if is_among(callee, MAKING_CALLS) else UNKNOWN
        if callee is enumerate and len(given) == 1 and class_of(given[0]) in CONTAINERS:
            return IteratorOf(given[0], gives_pairs=True)
        self._everything(f"a call of {said(callee)}")
        return UNKNOWN

    def _call_iterating(self, given: list[Any]) -> None:
        self._footprint.read(ITEMS, None)  # what is compared may be containers again
        for each in given:
            self._go_through(each)

    def _call_method(self, owner: Any, name: str, given: list[Any]) -> Any:
        kind = class_of(owner)
        if kind in IMMUTABLE and name not in FORMATTING_METHODS:
            self._call_iterating(given)
            return NEW
        if kind in CONTAINERS and name in READING_METHODS:
            self._call_iterating(given if name not in {"get", "count", "index"} else [])
            if name in {"items", "keys", "values"}:
                return IteratorOf(owner, gives_pairs=name == "items")
            return NEW if name == "copy" else UNKNOWN
        if kind in CONTAINERS and name in CHANGING_METHODS:
            self._writes(ITEMS, owner)
            if name in ITERATING_METHODS:
                self._call_iterating(given)
            elif name not in APPENDING_METHODS:
                self._footprint.read(ITEMS, None)  # items are compared
            return UNKNOWN
        self._everything(f"a call of {name} of {said(owner)}")
        return UNKNOWN

    def _do_await(self, frame: FrameType, values: Values, action: Action) -> None:
        thing = values.take(action[2])
        if thing is AWAITABLE or isinstance(thing, CoroutineType):
            return
        if not isinstance(thing, Mark) and isinstance(in_class(class_of(thing), "__await__"), FunctionType):
            return
        self._everything(f"{said(thing)} was awaited")

    def _do_enter(self, frame: FrameType, values: Values, action: Action) -> None:
        _, own, producer, enters, leaves = action
        thing = values.take(producer)
        enter, leave = (in_class(class_of(thing), name) for name in (enters, leaves))
        place = (frame.f_code, own)
        if isinstance(thing, Mark) or not isinstance(enter, FunctionType) or not isinstance(leave, FunctionType):
            self._exits[place] = (False, False)
            self._everything(f"{said(thing)} was entered")
            return
        python, awaitable = self._exits.get(place, (True, True))
        self._exits[place] = (python, awaitable and given_by(leave.__code__) is AWAITABLE)
        # The instruction leaves two values; the one that is awaited next is what entering gave. The other is asked for by ``_exits``.
        values[own] = given_by(enter.__code__)

    def _do_async_iter(self, frame: FrameType, values: Values, action: Action) -> None:
        _, own, producer = action
        thing = values.take(producer)
        place = (frame.f_code, own)
        known = isinstance(thing, Receiver)
        self._iterators[place] = max(self._iterators.get(place, PRIVATE), PRIVATE if known else ANY)
        if not known:
            self._everything(f"an async loop over {said(thing)}")

    def _do_async_next(self, frame: FrameType, values: Values, action: Action) -> None:
        if self._iterators.get((frame.f_code, action[1]), ANY) != PRIVATE:
            self._everything("an async loop over something unknown")

    def _do_everything(self, frame: FrameType, values: Values, action: Action) -> None:
        self._everything(action[1])


_DOING: dict[str, Callable[[Effects, FrameType, Values, Action], None]] = {
    code_.CONST: Effects._do_const,
    code_.LOCAL: Effects._do_local,
    code_.LOCALS: Effects._do_locals,
    code_.CELL: Effects._do_cell,
    code_.SET_CELL: Effects._do_set_cell,
    code_.GLOBAL: Effects._do_global,
    code_.SET_GLOBAL: Effects._do_set_global,
    code_.ATTR: Effects._do_attr,
    code_.SET_ATTR: Effects._do_set_attr,
    code_.ITEM: Effects._do_item,
    code_.SET_ITEM: Effects._do_set_item,
    code_.LOOK: Effects._do_look,
    code_.COMPARE: Effects._do_compare,
    code_.ITERATE: Effects._do_iterate,
    code_.ITER: Effects._do_iter,
    code_.NEXT: Effects._do_next,
    code_.IN_PLACE: Effects._do_in_place,
    code_.RAISE: Effects._do_raise,
    code_.CALL: Effects._do_call,
    code_.AWAIT: Effects._do_await,
    code_.ASYNC_ITER: Effects._do_async_iter,
    code_.ASYNC_NEXT: Effects._do_async_next,
    code_.ENTER: Effects._do_enter,
    code_.FRESH: Effects._do_fresh,
    code_.FUNCTION: Effects._do_function,
    code_.PLAIN: Effects._do_plain,
    code_.EVERYTHING: Effects._do_everything,
}


def _pure_form(callee: Any) -> Any:
    """The function of the pure kernel in whose place a function of its twin stands: what it does is known. Else ``callee``."""
    owner = _self_of(callee)
    if isinstance(owner, ModuleType):
        return replaced.get(callee.__name__, callee) if owner.__name__ == "bateau._native" else callee
    names = (f"{cls.__name__}.{callee.__name__}" for cls in type(owner).__mro__ if cls.__module__.startswith("bateau."))
    return next((replaced[name] for name in names if name in replaced), callee)
