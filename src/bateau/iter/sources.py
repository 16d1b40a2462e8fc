"""Where pipelines begin: ``bateau.iter(...)`` and its kin."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar, cast, overload

from ..kernel.errors import user_site
from .asynciter import AsyncIter
from .chain import Chain
from .flow import Failure, Need
from .handoff import Handoff, close_iterator, from_handoff, pump_iterator
from .interior import Interior
from .retrying import Retry
from .sinks import Sink, fan_out, sink
from .stage import Stage

T = TypeVar("T")


class FromIterable(Stage):
    """A plain iterable."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = items

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        try:
            yield from self.items
        except Exception as error:
            yield Failure(error)

    def describe(self) -> str:
        return f"iter({type(self.items).__name__})"


class FromAsync(Stage):
    """An async iterable.

    One whose ``__anext__`` is an operation of ours can be asked by the consumer itself: a cancelled operation took nothing. Any
    other (an async generator, foreign code) would be destroyed by a cancelled wait, and its scopes and context would be the
    consumer's: it runs in a task of its own, unless a single call drives it to the end and nobody can come back.
    """

    __slots__ = ("_begun", "items", "own_task")

    def __init__(self, items: AsyncIterable[Any], *, own_task: bool = False) -> None:
        self.items: Any = items
        self.own_task = own_task  # even where one call drives it to the end
        self._begun = False

    def background(self, resumable: bool) -> bool:
        if not self._begun:
            self._begun = True
            self.items = self.items.__aiter__()
        return self.own_task or (resumable and not resumes(self.items))

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        items: AsyncIterator[Any]
        background = self.background(interior.resumable)
        items = self.items
        if background:
            handoff: Handoff[Any] = Handoff(self.describe())
            handoff.producer = interior.spawn(pump_iterator, items, handoff, name=self.describe())
            yield from from_handoff(handoff)
            return
        if not resumes(items):
            interior.defer(lambda: close_iterator(items))
        need = Need()
        while True:
            yield need.of(items.__anext__)
            if isinstance(need.error, StopAsyncIteration):
                return
            if need.error is not None:
                yield Failure(need.error)
                return
            yield need.value

    def describe(self) -> str:
        return f"iter({getattr(self.items, '__qualname__', type(self.items).__name__)})"


def resumes(items: Any) -> bool:
    """Whether a cancelled ``__anext__`` of ``items`` leaves it as it was, to be asked again.

    True of everything of ours (laws 9 and the rule for operations); others say so with a true attribute ``resumable_next``.
    """
    ask: Any = getattr(items, "__anext__", None)
    return getattr(ask, "__module__", "").startswith("bateau.") or bool(getattr(items, "resumable_next", False))


def source(stage: Stage) -> AsyncIter[Any]:
    """An ``AsyncIter`` that begins with ``stage``."""
    return AsyncIter((stage,), user_site(sys._getframe(2)))


class Iter:
    """The type of ``bateau.iter``: call it with a source; its methods make the others."""

    __slots__ = ()

    # The rest of this package's public names, so that they are reached through ``bateau.iter`` as well.
    Retry = Retry
    Sink = Sink
    sink = staticmethod(sink)
    fan_out = staticmethod(fan_out)

    @overload
    def __call__(self, items: AsyncIterable[T], /) -> AsyncIter[T]: ...
    @overload
    def __call__(self, items: Iterable[T], /) -> AsyncIter[T]: ...
    @overload
    def __call__(self, items: Callable[[], AsyncIterator[T]], /) -> AsyncIter[T]: ...
    @overload
    def __call__(self, items: Callable[[], Iterator[T]], /) -> AsyncIter[T]: ...
    def __call__(self, items: Any, /) -> AsyncIter[Any]:
        """An ``AsyncIter`` over an iterable, an async iterable (a channel's receiver, say), or a generator function.

        Raises ``TypeError`` for anything else.
        """
        plain = hasattr(items, "__aiter__") or hasattr(items, "__iter__")
        given: Any = items() if callable(items) and not plain else items
        if isinstance(given, Chain):
            return cast("AsyncIter[Any]", given)
        if hasattr(given, "__aiter__"):
            return source(FromAsync(given))
        if hasattr(given, "__iter__"):
            return source(FromIterable(given))
        raise TypeError(
            f"bateau.iter takes an iterable, an async iterable or a generator function, not {type(items).__name__}"
        )


iter = Iter()
