"""First stages that are fed by a function: ``from_fn``, ``unfold``, ``from_poll``; and ``repeat``."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

from ..kernel.current import current_host
from ..time import sleep_until
from .elements import MISSING
from .flow import Failure, Need
from .interior import Interior
from .stage import PLAIN, Stage, check_count, check_function, is_awaitable

# What an asking function says with StopIteration or StopAsyncIteration.
_OVER: Any = object()

# How long a poll waits, as a part of the time since something last came. So an item is found at most this much later than it
# could have been, measured by the gap before it, and a source that is silent for long costs next to nothing.
EAGERNESS = 1 / 8


def _ask(fn: Callable[[], Any], item: Any, need: Need) -> Generator[Need, None, Any]:
    """``fn()``, awaited if it can be; ``_OVER``; or the ``Failure`` of it, to which ``item`` belongs."""
    try:
        value = fn()
    except (StopIteration, StopAsyncIteration):
        return _OVER
    except Exception as error:
        return Failure(error, item)
    if type(value) in PLAIN or not is_awaitable(value):
        return value
    yield need.of(fn, value)
    if need.error is None:
        return need.value
    if isinstance(need.error, StopAsyncIteration):
        return _OVER
    return Failure(need.error, item)


class FromFn(Stage):
    """What ``fn()`` gives, again and again."""

    __slots__ = ("fn", "until")

    def __init__(self, fn: Callable[[], Any], until: Any) -> None:
        _check(fn, "from_fn")
        self.fn = fn
        self.until = until

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        fn, until, need = self.fn, self.until, Need()
        while True:
            value = yield from _ask(fn, None, need)
            if value is _OVER:
                return
            if until is not MISSING and not isinstance(value, Failure):
                try:
                    if value is until or value == until:
                        return
                except Exception as error:
                    value = Failure(error)
            yield value

    def describe(self) -> str:
        return f"from_fn({_name(self.fn)})"


class Unfold(Stage):
    """``item, state = fn(state)``, again and again."""

    __slots__ = ("fn", "state")

    def __init__(self, state: Any, fn: Callable[[Any], Any]) -> None:
        _check(fn, "unfold")
        self.state = state
        self.fn = fn

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        fn, state, need = self.fn, self.state, Need()
        while True:
            step: Any = yield from _ask(partial(fn, state), state, need)
            if step is None or step is _OVER:
                return
            if isinstance(step, Failure):
                yield step
            elif not _is_pair(step):
                yield Failure(
                    TypeError(
                        f"the function of unfold must return (item, next state), or None at the end; not {step!r}"
                    ),
                    state,
                )
            else:
                item, state = step
                yield item

    def describe(self) -> str:
        return f"unfold({_name(self.fn)})"


class FromPoll(Stage):
    """What ``fn()`` gives, asked again after a while where it has nothing."""

    __slots__ = ("fn", "max", "min", "nothing")

    def __init__(self, fn: Callable[[], Any], min: float, max: float, nothing: Any) -> None:
        _check(fn, "from_poll")
        limits: dict[str, object] = {"min": min, "max": max}
        for name, value in limits.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"from_poll needs a number of seconds for {name}, not {value!r}")
        if not 0 < min <= max < math.inf:
            raise ValueError(f"from_poll needs 0 < min <= max, in seconds; not min={min!r}, max={max!r}")
        self.fn = fn
        self.min = min
        self.max = max
        self.nothing = nothing

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        fn, nothing, need = self.fn, self.nothing, Need()
        now = current_host().now
        last = now()
        while True:
            value = yield from _ask(fn, None, need)
            if value is _OVER:
                return
            if value is nothing or (not isinstance(value, Failure) and nothing is not None and value == nothing):
                here = now()
                due = here + min(self.max, max(self.min, (here - last) * EAGERNESS))
                yield need.of(partial(sleep_until, due))
                if need.error is not None:
                    yield Failure(need.error)
            else:
                yield value
                last = now()

    def describe(self) -> str:
        return f"from_poll({_name(self.fn)})"


class Repeat(Stage):
    """One value, ``times`` times."""

    __slots__ = ("times", "value")

    def __init__(self, value: Any, times: int | None, method: str = "repeat") -> None:
        if times is not None:
            check_count(times, method, least=0, name="times")
        self.value = value
        self.times = times

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        value, left = self.value, self.times
        while left is None:
            yield value
        for _ in range(left):
            yield value

    def describe(self) -> str:
        return f"repeat({self.times})" if self.times is not None else "repeat"


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2  # pyright: ignore[reportUnknownArgumentType]  # of whatever


def _check(fn: object, source: str) -> None:
    try:
        check_function(fn, source)
    except TypeError as error:
        raise TypeError(str(error).replace(f".{source}()", f"bateau.iter.{source}")) from None


def _name(fn: object) -> str:
    return getattr(fn, "__qualname__", type(fn).__name__)
