"""Combinators that have several items under way at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..kernel.errors import TaskCancelled
from ..kernel.scope import Scope, ShieldedJoin
from .buffering import DROPPED, Buffer, Work
from .chain import Chain, Run
from .elements import Map
from .flow import Failure, Flow, Signal
from .interior import Interior
from .stage import Stage, check_count, check_function, depth, per_item_from, sees_failures

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)


class Buffered(Stage):
    """Several items at once, through the per-item stages that stood right before it."""

    __slots__ = ("frames", "inner", "method", "n", "ordered", "scope")

    def __init__(
        self, n: int, inner: tuple[Stage, ...], *, ordered: bool, method: str, scope: Scope | None = None
    ) -> None:
        self.n = n
        self.inner = inner
        self.frames = 4 + depth(inner)
        self.ordered = ordered
        self.method = method
        # Where the work runs; None: inside the pipeline.
        self.scope = scope

    def background(self, resumable: bool) -> bool:
        return self.scope is None

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        spawn: Callable[..., Any] = interior.spawn
        if self.scope is not None:
            spawn = partial(self.scope.spawn, background=True)
        buffer = Buffer(
            Flow(_carried(source) if sees_failures(self.inner) else source),
            spawn,
            self.n,
            f"{self.method}({self.n})",
            interior.where(),
            ordered=self.ordered,
            make_work=partial(worker_of, self.inner, interior) if self.inner else None,
            plain_work=only_function(self.inner) is not None,
        )
        if self.scope is not None:
            interior.defer(partial(_end_workers, buffer))
        return Items(buffer, self.scope is not None)

    def describe(self) -> str:
        inner = "".join(f"{stage.describe()}." for stage in self.inner)
        return f"{inner}{self.method}({self.n})"


class Items(Iterator[Any]):
    """The generator of a ``Buffered``, with a short way for whoever drives it to the end as the last stage."""

    __slots__ = ("_gen", "drain")

    def __init__(self, buffer: Buffer, own_scope: bool) -> None:
        self._gen = _items(buffer, own_scope)
        self.drain = buffer.drain

    def __iter__(self) -> Iterator[Any]:
        return self._gen

    def __next__(self) -> Any:
        return next(self._gen)


def _items(buffer: Buffer, own_scope: bool) -> Iterator[Any]:
    try:
        yield from buffer.items()
    finally:
        buffer.close(cancel=own_scope)


async def _end_workers(buffer: Buffer) -> None:
    """End the workers that run in a scope of the user's, and wait for that. What fails in them is that scope's to raise."""
    buffer.cancel()
    for task in tuple(buffer.workers):
        with suppress(TaskCancelled, Exception):
            await ShieldedJoin(task)


class Carried:
    """A failed item on its way to a worker's stages, among which is one that looks at it; others go by them."""

    __slots__ = ("failure",)

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def _carried(source: Iterator[Any]) -> Iterator[Any]:
    for item in source:
        yield Carried(item) if isinstance(item, Failure) else item


def worker_of(stages: tuple[Stage, ...], interior: Interior) -> Work:
    """What one worker does with an item: ``stages``, run for one item at a time. Called once for each worker."""
    only = only_function(stages)
    if only is not None:
        return only
    waiting: list[Any] = []

    def feed() -> Iterator[Any]:
        while True:
            yield waiting.pop() if waiting else _NOTHING

    gen: Iterator[Any] = feed()
    for stage in stages:
        gen = stage.flow(gen, interior)
    flow: Flow[Any] = Flow(gen)

    async def work(item: Any) -> Any:
        waiting.append(item.failure if type(item) is Carried else item)
        result = await flow.next()
        return DROPPED if result is _NOTHING else result

    return work


def only_function(stages: tuple[Stage, ...]) -> Callable[[Any], Any] | None:
    """The function that is all that ``stages`` do with an item, if so it is."""
    if len(stages) == 1 and isinstance(stages[0], Map) and len(stages[0].fns) == 1:
        return stages[0].fns[0]
    return None


class _Nothing(Signal):
    """Fed to a worker's stages behind its item: it comes out in the place of one that they dropped."""

    __slots__ = ()


_NOTHING = _Nothing()


def ignore(_: object) -> None:
    """Where items go of which only the work on them was wanted."""


class Concurrent(Chain[T_co]):
    """The combinators of this module."""

    __slots__ = ()

    def _buffered(self, n: int, *, ordered: bool, method: str, scope: Scope | None = None) -> AsyncIter[T_co]:
        check_count(n, method)
        stages = self._take(method)
        split = per_item_from(stages)
        if split == len(stages):
            raise TypeError(
                f".{method}({n}) has nothing to do for several items at once: put it right after the function that takes "
                f"the time, as in .map(fetch).{method}({n}); to fetch items ahead of their use, .prefetch({n})"
            )
        stage: Stage = Buffered(n, stages[split:], ordered=ordered, method=method, scope=scope)
        made: AsyncIter[T_co] = self._make((*stages[:split], stage), self._site)
        return made

    def buffered(self, n: int) -> AsyncIter[T_co]:
        """Run the functions right before it (``map``, ``filter``...) for up to ``n`` items at once; results keep their order.

        Never are more than ``n`` items claimed from what comes before and not yet taken by the consumer. The work goes on while
        the consumer's body runs, and has ended when its loop is left. An item that fails raises in its place, in order. Each
        function runs in one of at most ``n`` tasks, which keep the context variables they set from one item to the next.
        """
        return self._buffered(n, ordered=True, method="buffered")

    def buffered_unordered(self, n: int) -> AsyncIter[T_co]:
        """Like ``buffered``, but results come in the order in which they are done."""
        return self._buffered(n, ordered=False, method="buffered_unordered")

    def buffered_in(self, n: int, scope: Scope) -> AsyncIter[T_co]:
        """Like ``buffered``, with the work in ``scope``, as background tasks of it: under its deadline and its cancellation.

        When the loop is left the work is cancelled; ``scope`` awaits it at its end (``aclose`` and ``async with`` at once). If
        ``scope`` is cancelled first, ``TaskCancelled`` is raised in the place of the items under way, and nothing comes after.
        """
        if not isinstance(scope, Scope):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f".buffered_in() needs a scope to run in, not a {type(scope).__name__}: bateau.scope()")
        return self._buffered(n, ordered=True, method="buffered_in", scope=scope)

    def prefetch(self, n: int) -> AsyncIter[T_co]:
        """Fetch up to ``n`` items ahead of their use, while the consumer's body runs. One at a time; the order is kept."""
        check_count(n, "prefetch")
        return self._then(Buffered(n, (), ordered=True, method="prefetch"))

    async def for_each_concurrent(self, n: int, fn: Callable[[T_co], Awaitable[object] | object]) -> None:
        """Call ``fn(item)`` for every item, awaited if it can be, for up to ``n`` items at once. The first failure is raised.

        A cancellation point. When it returns or raises, what it ran has ended: cancelled where it was under way, and awaited.
        """
        check_count(n, "for_each_concurrent")
        check_function(fn, "for_each_concurrent")
        stage = Buffered(n, (Map(fn),), ordered=False, method="for_each_concurrent")
        async with Run[Any]((*self._take("for_each_concurrent"), stage), self._site) as flow:
            await flow.drain(ignore, anywhere=True)
