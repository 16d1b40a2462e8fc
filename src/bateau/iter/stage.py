"""What a pipeline is made of before it runs: a list of stages, the first of which is its source."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .flow import Failure, Need

if TYPE_CHECKING:
    from .interior import Interior


class Stage:
    """One step of a pipeline, as a recipe: ``flow`` makes the generator that runs it, once, when the pipeline is driven."""

    __slots__ = ()

    # Whether it looks at one item at a time and remembers nothing between two: then ``buffered`` may run it for several
    # items at once, and ``par`` on other workers.
    per_item = False

    def background(self, resumable: bool) -> bool:
        """Whether it runs something beside the consumer, for which the pipeline must have a scope.

        ``resumable``: the consumer may give up a wait and come back (it iterates by hand); not so where one call runs to
        the end.
        """
        return False

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        """The generator that pulls ``source`` and yields items and signals."""
        raise NotImplementedError

    def describe(self) -> str:
        """How it reads in a chain: its method's name."""
        return type(self).__name__.lower()


def open_stages(stages: tuple[Stage, ...], interior: Interior) -> Iterator[Any]:
    """The generator of a whole chain. Nothing of it has run yet."""
    flow: Iterator[Any] = iter(())
    for stage in stages:
        flow = stage.flow(flow, interior)
    return flow


# Types met as results of plain functions, and whether they can be awaited: asking each object costs more than the call.
_awaitable_types: dict[type, bool] = {}


def is_awaitable(value: object) -> bool:
    """Whether ``value`` can be awaited (a coroutine, an operation, a task...)."""
    kind = type(value)
    found = _awaitable_types.get(kind)
    if found is None:
        if len(_awaitable_types) > 1000:
            _awaitable_types.clear()  # types made at run time without end must not pile up
        found = hasattr(kind, "__await__") or (inspect.isgenerator(value) and inspect.isawaitable(value))
        if not inspect.isgenerator(value):
            _awaitable_types[kind] = found
    return found


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

    The result is what it gave, awaited if it can be, or a ``Failure`` with what it raised. A wait that is cancelled calls ``fn(item)`` again when
    the iterator is driven again.
    """
    try:
        value = fn(item)
    except Exception as error:
        return Failure(error, item)
    if not is_awaitable(value):
        return value
    yield need.of(partial(fn, item), value)
    if need.error is not None:
        return Failure(need.error, item)
    return need.value
