"""Where pipelines begin: ``bateau.iter(...)`` and its kin."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Never, TypeVar, cast, overload

from ..kernel.errors import user_site
from .asynciter import AsyncIter
from .callbacks import FromCallback, Overflow, Push
from .chain import Chain
from .delegating import each
from .elements import MISSING
from .opening import FromAsync, FromIterable, as_stages
from .origins import FromFn, FromPoll, Repeat, Unfold
from .par.factories import Executors
from .retrying import Retry
from .sinks import Sink, fan_out, sink
from .stage import Stage

if TYPE_CHECKING:
    from ..time import Missed, Tick

T = TypeVar("T")
S = TypeVar("S")


def source(stage: Stage) -> AsyncIter[Any]:
    """An ``AsyncIter`` that begins with ``stage``."""
    return AsyncIter((stage,), user_site(sys._getframe(2)))


class Iter(Executors):
    """The type of ``bateau.iter``: call it with a source; its methods make the others."""

    __slots__ = ()

    # The rest of this package's public names, so that they are reached through ``bateau.iter`` as well.
    Retry = Retry
    Sink = Sink
    sink = staticmethod(sink)
    fan_out = staticmethod(fan_out)
    each = staticmethod(each)

    if (
        not TYPE_CHECKING
    ):  # those that are only imported for their types, or to be caught: checkers know them by the package

        def __getattr__(self, name: str) -> Any:
            package = sys.modules[__package__]
            if name in package.__all__:
                return vars(package)[name]
            raise AttributeError(f"bateau.iter has no {name!r}")

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

    # -- from a function -----------------------------------------------------------------------------------------------

    @overload
    def from_fn(self, fn: Callable[[], Awaitable[T]], *, until: object = ...) -> AsyncIter[T]: ...
    @overload
    def from_fn(self, fn: Callable[[], T], *, until: object = ...) -> AsyncIter[T]: ...
    def from_fn(self, fn: Callable[[], Any], *, until: object = MISSING) -> AsyncIter[Any]:
        """What ``fn()``, awaited if it can be, gives each time it is called: once for each item that is asked for.

        It ends when ``fn`` raises ``StopAsyncIteration`` (or ``StopIteration``, if it is sync), or gives ``until``. Any other
        error is raised in the place of an item; asked for the next one, ``fn`` is called again.
        """
        return source(FromFn(fn, until))

    @overload
    def unfold(self, state: S, fn: Callable[[S], Awaitable[tuple[T, S] | None]]) -> AsyncIter[T]: ...
    @overload
    def unfold(self, state: S, fn: Callable[[S], tuple[T, S] | None]) -> AsyncIter[T]: ...
    def unfold(self, state: Any, fn: Callable[[Any], Any]) -> AsyncIter[Any]:
        """``item, state = fn(state)``, awaited if it can be, for each item that is asked for, beginning with ``state``.

        It ends when ``fn`` returns None. An error of it is raised in the place of an item; asked for the next one, ``fn`` is
        called with the same state again. As for pages that each name the next: ``unfold(first_url, fetch_page)``.
        """
        return source(Unfold(state, fn))

    @overload
    def from_poll(
        self, fn: Callable[[], Awaitable[T | None]], *, min: float = ..., max: float = ..., nothing: object = ...
    ) -> AsyncIter[T]: ...
    @overload
    def from_poll(
        self, fn: Callable[[], T | None], *, min: float = ..., max: float = ..., nothing: object = ...
    ) -> AsyncIter[T]: ...
    def from_poll(
        self, fn: Callable[[], Any], *, min: float = 0.001, max: float = 0.1, nothing: object = None
    ) -> AsyncIter[Any]:
        """What ``fn()``, awaited if it can be, gives where it is not ``nothing``; for libraries that can only be asked.

        While items come it is asked at once for the next. Where there is nothing it is asked again after an eighth of the time
        since the last item, but at least ``min`` and at most ``max`` seconds: so an item is found late by at most an eighth of
        the gap before it (or ``min``), and a silent source costs next to nothing. Any number of such sources, or
        whatever else, share one thread, so a sync ``fn`` must return at once. Ends and errors are those of ``from_fn``.
        """
        return source(FromPoll(fn, min, max, nothing))

    def from_callback(
        self, register: Callable[[Push[T]], object], *, capacity: int = 64, overflow: Overflow = "error"
    ) -> AsyncIter[T]:
        """What somebody else pushes: ``register(push)`` is called once, and ``push(item)`` from then on, in any thread.

        ``register``, sync or async, connects ``push`` to where the items come from. It returns a function, sync or async, that
        disconnects it, or None; that is called when the pipeline is left, however it is left (within a cleanup budget).
        ``push.end()`` ends the iteration after the items that wait; ``push.fail(error)`` raises ``error`` there.

        A push never waits. At most ``capacity`` items wait for the consumer; ``overflow`` says what is lost where it is slower:
        ``"error"`` drops what comes and raises ``Overflowed`` at its place, after which the iteration can go on;
        ``"drop_oldest"`` and ``"drop_newest"`` lose items silently, ``push.dropped`` counts them.
        """
        return source(FromCallback(register, capacity, overflow))

    # -- simple ones ---------------------------------------------------------------------------------------------------

    def interval(self, period: float, *, missed: Missed = "burst", start: float | None = None) -> AsyncIter[Tick]:
        """The ticks of ``bateau.time.interval``, ``period`` seconds apart, as a pipeline; it ends when its scope is stopped."""
        from ..time import interval

        return source(FromAsync(interval(period, missed=missed, start=start)))

    def once(self, value: T) -> AsyncIter[T]:
        """One item. Raises ``TypeError`` for a coroutine: await it, or give its function to ``from_fn`` and ``take(1)``."""
        if inspect.iscoroutine(value):
            value.close()
            raise TypeError(
                "bateau.iter.once takes a value, not a coroutine; await it first, or write from_fn(function).take(1)"
            )
        return source(Repeat(value, 1, "once"))

    def empty(self) -> AsyncIter[Never]:
        """No item."""
        return source(FromIterable(()))

    def repeat(self, value: T, times: int | None = None) -> AsyncIter[T]:
        """``value`` again and again, for ever or ``times`` times."""
        return source(Repeat(value, times))


iter = Iter()
