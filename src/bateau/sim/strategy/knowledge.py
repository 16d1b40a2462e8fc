"""What ``watching`` knows of Python's own types and functions: which only look, which change something, which do what is followed.

Whatever is not listed here is taken to do anything.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import Any, Final, cast

from ...kernel.errors import PACKAGE_DIR

# What ``type`` gives, for type checkers.
class_of = cast("Callable[[Any], type[Any]]", type)


class Mark:
    """See the marks below."""

    def __init__(self, word: str) -> None:
        self._word = word

    def __repr__(self) -> str:
        return f"<{self._word}>"


# What an instruction has left on the stack, where it is not an object: not known; a new object; something that can be awaited and
# whose waiting is followed; an iterator over something that nobody changes; a generator, which is followed.
UNKNOWN: Final = Mark("unknown")
NEW: Final = Mark("new")
AWAITABLE: Final = Mark("awaitable")
PRIVATE_ITERATOR: Final = Mark("private iterator")
GENERATOR: Final = Mark("generator")

# The places of footprints that are no attributes: the items of containers, the position of iterators, the state of resources, the
# local variables of generators, the numbers that tasks get.
ITEMS, POSITION, STATE, FRAME, NUMBERS = "[]", "iter", "state", "frame", "task numbers"

# Types whose instances never change, those whose instances are nothing but their items, and iterators over these. All of them exactly:
# a subclass may do anything.
IMMUTABLE: frozenset[Any] = frozenset(
    {int, float, complex, bool, str, bytes, type(None), range, type(...), type(NotImplemented)}
)
CONTAINERS: frozenset[Any] = frozenset({list, dict, set, deque, bytearray, tuple, frozenset})
_NO_DICT: dict[int, int] = {}
_ITERATED: tuple[Any, ...] = (
    list[int](), (), _NO_DICT, _NO_DICT.values(), _NO_DICT.items(), set[int](), range(0), range(1 << 70), "", b"", deque[int](),
)  # fmt: skip
ITERATORS: frozenset[Any] = frozenset(class_of(iter(each)) for each in _ITERATED)

# C functions and types that may be called: what they look at is the items of what they are given, whose own methods are followed.
LOOKING_CALLS = (
    len, isinstance, issubclass, callable, id, hash, repr, str, format, abs, round, divmod, pow, ord, chr, bin, hex, ascii,
    int, float, bool, complex, slice,
)  # fmt: skip
# Those that go through an iterable: safe for containers and generators, while other iterators may call anything.
ITERATING_CALLS = (
    next, min, max, sum, any, all, sorted, list, tuple, set, frozenset, dict, deque, bytes, bytearray,
)  # fmt: skip
# Of these, what gives an immutable value, and what gives a new container.
PLAIN_CALLS = (
    len, isinstance, issubclass, callable, id, hash, repr, str, format, ord, chr, bin, hex, ascii, int, float, bool, complex,
)  # fmt: skip
MAKING_CALLS = (sorted, list, tuple, set, frozenset, dict, deque, bytes, bytearray)
# Methods of strings that may read attributes of what they are given.
FORMATTING_METHODS = {"format", "format_map"}
# Attributes through which code looks at frames, functions and objects from behind.
REFLECTIVE = frozenset(
    "__dict__ __globals__ __builtins__ __closure__ cell_contents f_locals f_globals f_builtins f_back gi_frame cr_frame ag_frame "
    "tb_frame args".split()
)

# Methods of containers that change nothing, and those that change the container only.
READING_METHODS = {
    "get", "items", "keys", "values", "copy", "count", "index", "issubset", "issuperset", "isdisjoint", "union", "intersection",
    "difference", "symmetric_difference", "__len__", "__contains__", "__getitem__",
}  # fmt: skip
CHANGING_METHODS = {
    "append", "appendleft", "extend", "extendleft", "insert", "pop", "popleft", "popitem", "remove", "discard", "add", "clear",
    "update", "setdefault", "sort", "reverse", "rotate", "difference_update", "intersection_update", "__setitem__", "__delitem__",
}  # fmt: skip
# Of the latter, those that go through what they are given; and those that do not compare items.
ITERATING_METHODS = {"extend", "extendleft", "update", "difference_update", "intersection_update"}
APPENDING_METHODS = {"append", "appendleft", "insert", "popleft", "popitem", "clear", "reverse", "rotate"}

# How much is known of the iterator of a loop: nobody else can change what it goes through; it goes through a container; nothing.
PRIVATE, OVER_ITEMS, ANY = range(3)


class IteratorOf:
    """Something new that goes through a container: an iterator, a dictionary's view. ``gives_pairs``: in new tuples."""

    __slots__ = ("container", "gives_pairs")

    def __init__(self, container: Any, *, gives_pairs: bool = False) -> None:
        self.container = container
        self.gives_pairs = gives_pairs


class BoundTo:
    """A method found on an object: what calling it would call."""

    __slots__ = ("function", "owner")

    def __init__(self, owner: Any, function: Any) -> None:
        self.owner = owner
        self.function = function


def said(thing: Any) -> str:
    """For ``lost``: a word for what could not be followed."""
    if isinstance(thing, Mark):
        return "something " + repr(thing)[1:-1]
    if isinstance(thing, BoundTo):
        return f"{getattr(thing.function, '__name__', '?')} of {said(thing.owner)}"
    return getattr(thing, "__qualname__", None) or f"a {type(thing).__name__}"


def in_class(cls: type, name: str) -> Any:
    """What a class or a base of it has under that name, as it stands there; None if nothing."""
    for each in cls.__mro__:
        if name in each.__dict__:
            return each.__dict__[name]
    return None


def is_bateaus_class(cls: type) -> bool:
    """Whether it is defined in the package."""
    return cls.__module__ == "bateau" or cls.__module__.startswith("bateau.")


def is_bateaus_frame(frame: FrameType | None) -> bool:
    """Whether the function that runs in ``frame`` is the package's."""
    return frame is not None and frame.f_code.co_filename.startswith(PACKAGE_DIR)


def is_plain(cls: type) -> bool:
    """Whether its instances have attributes alone, of which no C code knows: a class written in Python, not bateau's, down to ``object``."""
    return cls.__setattr__ in _PLAIN_SETTERS and all(
        each in _PLAIN_BASES or (_is_written_in_python(each) and not is_bateaus_class(each)) for each in cls.__mro__
    )


def _is_written_in_python(cls: type) -> bool:
    """A class made in C may have a state of its own, and then its instances are larger than those of its base for no reason in Python."""
    own, base = cls.__dict__, cls.__base__
    assert base is not None  # only ``object`` has none
    if "__slots__" in own:
        return True
    grown = cls.__basicsize__ - base.__basicsize__
    return grown == 0 or (("__dict__" in own or "__weakref__" in own) and grown <= _EMPTY_SIZE)


class _Empty:
    pass


_EMPTY_SIZE = _Empty.__basicsize__ - object.__basicsize__
_PLAIN_BASES = (object, BaseException, Exception)
_PLAIN_SETTERS: tuple[Any, ...] = (object.__setattr__, BaseException.__setattr__)


def iterates_in_python(cls: type) -> bool:
    """Whether going through its instances calls nothing but functions written in Python, which are followed."""
    own = in_class(cls, "__iter__")
    return isinstance(own, FunctionType) and bool(own.__code__.co_flags & _GENERATOR)


def is_among(thing: Any, others: tuple[Any, ...]) -> bool:
    """Whether it is one of ``others`` itself, whatever it says it equals."""
    return any(thing is each for each in others)


def is_made_in_python(cls: type) -> bool:
    """Whether making an instance runs nothing but functions written in Python, which are followed."""
    if type(cls) is not type or (is_bateaus_class(cls) and not isinstance(in_class(cls, "__init__"), FunctionType)):
        return False
    exception = issubclass(cls, BaseException)
    new, init = in_class(cls, "__new__"), in_class(cls, "__init__")
    plain_new = (
        new is object.__dict__["__new__"] or isinstance(getattr(new, "__func__", new), FunctionType) or exception
    )
    plain_init = init is object.__dict__["__init__"] or isinstance(init, FunctionType) or exception
    return plain_new and plain_init


def given_by(code: CodeType) -> Any:
    """What is known of what a function returns. What bateau's functions return can be awaited, if anybody does so."""
    if code.co_flags & _COROUTINE or code.co_filename.startswith(PACKAGE_DIR):
        return AWAITABLE
    return GENERATOR if code.co_flags & _GENERATOR else UNKNOWN


_GENERATOR, _COROUTINE = 0x20, 0x80


def slots_of_bateau() -> list[str]:
    """The names of all attributes that the package's classes keep in slots."""
    found: list[str] = []
    for name, module in list(sys.modules.items()):
        if name == "bateau" or name.startswith("bateau."):
            for thing in list(vars(module).values()):
                if isinstance(thing, type):
                    for each in thing.__mro__:
                        slots = each.__dict__.get("__slots__", ())
                        found.extend((slots,) if isinstance(slots, str) else slots)
    return found
