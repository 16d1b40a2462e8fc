"""``retry``: run the functions before it again, for an item that failed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..kernel.current import current_host
from ..time import sleep_until
from .chain import Chain
from .flow import Failure, Need, Signal
from .interior import Interior
from .stage import Stage, check_count, depth, per_item_from, sees_failures

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)


def _check(name: str, value: object, least: int, unit: str = "") -> None:
    """Raise unless ``value`` is a number of at least ``least``, and a finite one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"retry needs a number{f' of {unit}' if unit else ''} for {name}, not {value!r}")
    if not value >= least or (value == math.inf and name != "longest"):  # a nan is not at least anything
        raise ValueError(f"retry needs a finite {name} of {least} or more, not {value!r}")


class Retry:
    """When to try again: ``times`` at most, after ``delay`` seconds, each delay ``factor`` times the last, up to ``longest``.

    ``on`` is the exception type, or types, worth another try. ``jitter`` (0 to 1) is the random part of each delay, so that
    many who failed together do not come back together.
    """

    __slots__ = ("delay", "factor", "jitter", "longest", "on", "times")

    def __init__(
        self,
        times: int = 3,
        *,
        delay: float = 0.1,
        factor: float = 2.0,
        longest: float = 30.0,
        jitter: float = 0.0,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> None:
        check_count(times, "retry", name="times")
        _check("delay", delay, 0, "seconds")
        _check("factor", factor, 1)
        _check("longest", longest, 0, "seconds")
        _check("jitter", jitter, 0)
        if jitter > 1:
            raise ValueError(f"retry needs a jitter between 0 and 1, not {jitter!r}")
        kinds: tuple[Any, ...] = on if isinstance(on, tuple) else (on,)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise TypeError(f"retry needs exception classes for on=, not {on!r}")
        self.times = times
        self.delay = delay
        self.factor = factor
        self.longest = longest
        self.jitter = jitter
        self.on = kinds

    def wait(self, failures: int) -> float:
        """How long to wait, in seconds, after the given number of failures."""
        try:
            delay = min(self.longest, self.delay * self.factor ** (failures - 1))
        except OverflowError:  # after a thousand failures or so
            delay = self.longest if self.delay else 0.0
        return delay * (1 - self.jitter * random.random())  # no secret depends on it

    def again(self, error: BaseException, failures: int) -> bool:
        """Whether ``error``, the item's ``failures``-th, is worth another try."""
        return failures <= self.times and isinstance(error, self.on)


class _Dropped(Signal):
    """The functions before have dropped the item (``filter``)."""

    __slots__ = ()


class Retrying(Stage):
    """The per-item stages ``inner``, tried again for an item that failed."""

    __slots__ = ("frames", "inner", "policy", "sees_failures")
    per_item = True

    def __init__(self, policy: Retry, inner: tuple[Stage, ...]) -> None:
        self.policy = policy
        self.inner = inner
        self.sees_failures = sees_failures(inner)
        self.frames = 2 + depth(inner)

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        policy, need, dropped = self.policy, Need(), _Dropped()
        waiting: list[Any] = []

        def feed() -> Iterator[Any]:
            while True:
                yield waiting.pop() if waiting else dropped

        inner: Iterator[Any] = feed()
        for stage in self.inner:
            inner = stage.flow(inner, interior)
        for item in source:
            # What had failed before is for a `catch` among the functions, but nobody can try it again.
            failed_before = isinstance(item, Failure) and self.sees_failures
            if isinstance(item, Signal) and not failed_before:
                yield item
                continue
            failures = 0
            waiting.append(item)
            for result in inner:
                if isinstance(result, Need):
                    yield result
                    continue
                if isinstance(result, Failure) and not failed_before:
                    failures += 1
                    if policy.again(result.error, failures):
                        yield need.of(partial(sleep_until, current_host().now() + policy.wait(failures)))
                        if (
                            need.error is not None
                        ):  # a `timeout` after it has cut the wait: it is for all tries together
                            yield Failure(need.error, item)
                            break
                        waiting.append(item)
                        continue
                    if failures > 1:
                        result.error.add_note(f"tried {failures} times")
                if result is not dropped:
                    yield result
                break

    def describe(self) -> str:
        return "".join(f"{stage.describe()}." for stage in self.inner) + "retry"


class Retries(Chain[T_co]):
    """The combinator of this module."""

    __slots__ = ()

    def retry(self, policy: Retry | int = 3) -> AsyncIter[T_co]:
        """Run the functions right before it (``map``, ``filter``, ``timeout``...) again for an item that failed.

        ``policy`` is a ``Retry``, or how often to try again. The last error is raised in the item's place. Before
        ``buffered(n)`` each of the n retries by itself. Raises ``TypeError`` where no function stands right before it: a
        source can't be asked again for what it failed to give.
        """
        if isinstance(policy, int):
            policy = Retry(policy)
        elif not isinstance(policy, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f".retry() needs a bateau.iter.Retry or a number of times, not {policy!r}")
        self._check_fresh()
        split = per_item_from(self._stages)
        if split == len(self._stages):
            raise TypeError(".retry() must stand right after the function it runs again, as in .map(fetch).retry(3)")
        stages = self._take("retry")
        made: AsyncIter[T_co] = self._make((*stages[:split], Retrying(policy, stages[split:])), self._site)
        return made
