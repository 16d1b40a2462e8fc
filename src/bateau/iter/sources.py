"""Where pipelines begin: ``bateau.iter(...)`` and its kin."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar, cast, overload

from ..kernel.errors import user_site
from .asynciter import AsyncIter
from .chain import Chain
from .opening import as_stages
from .retrying import Retry
from .sinks import Sink, fan_out, sink
from .stage import Stage

T = TypeVar("T")


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
        if isinstance(items, Chain):
            return cast("AsyncIter[Any]", items)
        return AsyncIter(as_stages(items, "iter"), user_site(sys._getframe(1)))


iter = Iter()
