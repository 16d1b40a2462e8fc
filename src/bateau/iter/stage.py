"""What a pipeline is made of before it runs: a list of stages, the first of which is its source."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..kernel.flow import yield_now
from ..kernel.operation import STEP_BUDGET
from .flow import Failure, Need

if TYPE_CHECKING:
    from .interior import Interior


class Stage:
    """One step of a pipeline, as a recipe: ``flow`` makes the generator that runs it, once, when the pipeline is driven."""

    __slots__ = ()

    # Whether it looks at one item at a time and remembers nothing between two: then ``buffered`` may run it for several
    # items at once, and ``par`` on other workers.
    per_item = False
    # Whether it does something with what failed before it (``catch``), where others only hand that on.
    sees_failures = False
    # Whether it may give up a wait of what stands before it, and ask again (``timeout``).
    gives_up = False
    # How many Python frames it stands on top of what is before it, at most: to drive it, to close it, to ask it something.
    frames = 1
    # Whether two of this type beside each other are made one (``after``).
    fuses = False

    def background(self, resumable: bool) -> bool:
        """Whether it runs something beside the consumer, for which the pipeline must have a scope.

        ``resumable``: whoever asks may give up a wait and come back (the consumer iterates by hand, a stage after this one
        ``gives_up``); not so where one call runs to the end.
        """
        return False

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        """The generator that pulls ``source`` and yields items and signals."""
        raise NotImplementedError

    def after(self, before: Stage) -> Stage | None:
        """One stage that does what ``before`` and then this one do, at a lower price; None if there is none."""
        return None

    def describe(self) -> str:
        """How it reads in a chain: its method's name."""
        return type(self).__name__.lower()


def open_stages(stages: tuple[Stage, ...], interior: Interior) -> Iterator[Any]:
    """The generator of a whole chain. Nothing of it has run yet."""
    flow: Iterator[Any] = iter(())
    for stage in fused(stages):
        flow = stage.flow(flow, interior)
    return flow


def fused(stages: tuple[Stage, ...]) -> list[Stage]:
    """``stages``, neighbours put together where they can be."""
    found: list[Stage] = []
    for stage in stages:
        both = stage.after(found[-1]) if found else None
        if both is None:
            found.append(stage)
        else:
            found[-1] = both
    return found


def sees_failures(stages: tuple[Stage, ...]) -> bool:
    """Whether any of ``stages`` does something with what failed before it."""
    return any(stage.sees_failures for stage in stages)


def gives_up(stages: tuple[Stage, ...]) -> bool:
    """Whether any of ``stages`` may give up a wait, so that those before it must bear that."""
    return any(stage.gives_up for stage in stages)


def depth(stages: tuple[Stage, ...]) -> int:
    """How many Python frames ``stages`` have on top of each other, at most."""
    total = 0
    before: Stage | None = None
    for stage in stages:
        if not (stage.fuses and type(stage) is type(before)):
            total += stage.frames
        before = stage
    return total


def per_item_from(stages: tuple[Stage, ...]) -> int:
    """From which index on ``stages`` look at one item at a time; its length if the last one does not.

    A time limit that no function stands before is not among them: it is for the source.
    """
    split = len(stages)
    while split > 1 and stages[split - 1].per_item:
        split -= 1
    while split < len(stages) and stages[split].gives_up:
        split += 1
    return split


# Types of which is known that their objects can't be awaited. Stages look here before they ask ``is_awaitable``: a set lookup
# per item, where the call would be as dear as the user's function (measured: it was a third of a chain of small functions).
PLAIN: set[type] = set()
_awaitable_types: set[type] = set()


def is_awaitable(value: object) -> bool:
    """Whether ``value`` is to be awaited (a coroutine, an operation, a task...)."""
    kind = type(value)
    if kind in PLAIN:
        return False
    if kind in _awaitable_types:
        return True
    if inspect.isgenerator(value):
        return inspect.isawaitable(value)  # one made by types.coroutine, or a plain one: told apart by the object only
    if len(PLAIN) + len(_awaitable_types) > 1000:
        PLAIN.clear()  # types made at run time without end must not pile up
        _awaitable_types.clear()
    found = hasattr(kind, "__await__") and not getattr(kind, "_await_is_misuse", False)
    (_awaitable_types if found else PLAIN).add(kind)
    return found


# A stage that gives nothing for so many items in a row lets the others run (law 13): ``yield turn(need)``. Nobody outside it
# could: it would loop for ever over an endless source of which it wants nothing.
DROPS = STEP_BUDGET


def turn(need: Need) -> Need:
    """What a stage yields to let the others run once."""
    return need.of(yield_now)


def check_function(fn: object, method: str) -> None:
    """Raise ``TypeError`` unless ``fn`` can be called."""
    if not callable(fn):
        what = "a coroutine object: pass the function itself, without calling it" if inspect.iscoroutine(fn) else ""
        raise TypeError(f".{method}() needs a function, not {what or f'a {type(fn).__name__}'}")


def check_count(value: object, method: str, least: int = 1, name: str = "n") -> None:
    """Raise unless ``value`` is a whole number of at least ``least``."""
    if type(value) is not int:
        raise TypeError(f".{method}() needs a whole number for {name}, not {value!r}")
    if value < least:
        raise ValueError(f".{method}() needs {name} of at least {least}, not {value}")


def call(fn: Callable[..., Any], item: Any, need: Need) -> Generator[Need, None, Any]:
    """Run a user's function inside a stage, as ``result = yield from ...``.

    The result is what it gave, awaited if it can be, or a ``Failure`` with what it raised. A cancelled wait begins an operation of
    ours anew; a coroutine goes on, and its result is waited for when the iterator is driven again (see ``Need``).
    """
    try:
        value = fn(item)
    except Exception as error:
        return Failure(error, item)
    if type(value) in PLAIN or not is_awaitable(value):
        return value
    yield need.of(partial(fn, item), value)
    if need.error is not None:
        return Failure(need.error, item)
    return need.value
