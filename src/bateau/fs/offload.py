"""How file operations leave the runtime's thread: each logical operation is one job on a worker thread (but see ``now``).

Disk calls block, whatever flags their descriptor has. A cancelled operation is awaited and its value kept (see ``thread.run``),
so a file's position and content are always what its last awaited operation made them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar

from .. import thread
from ..kernel.cancellation import CancelScope
from ..kernel.flow import checkpoint

T = TypeVar("T")
U = TypeVar("U")
P = ParamSpec("P")


def mirror(fn: Callable[P, T], doc: str) -> Callable[P, Coroutine[Any, Any, T]]:
    """The async twin of the sync ``fn``: same signature, one hop to a worker thread. ``doc`` says what it does."""
    name = fn.__name__
    # A function of ``os`` is looked up at each call: who puts another in its place (the simulator does) means this one, too.
    in_os = getattr(os, name, None) is fn

    @wraps(fn)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        now: Callable[P, T] = getattr(os, name) if in_os else fn
        return await thread.run(lambda: now(*args, **kwargs))

    call.__doc__ = (
        f"{doc}\n\nThe async form of ``{fn.__module__}.{fn.__qualname__}``, with its arguments and errors. A cancellation "
        "point: cancelled before a thread has begun, nothing happened; later, it is finished first."
    )
    call.__module__ = "bateau.fs"
    return call


async def finish(fn: Callable[[], T]) -> T:
    """Run ``fn`` even in a cancelled scope, for closing and deleting; afterwards a cancellation check."""
    kept: list[T] = []
    with CancelScope(shield=True):
        kept.append(await thread.run(fn))
    await checkpoint()
    return kept[0]


class Batches(Generic[T, U]):
    """An async iterator over a sync one that blocks: ``size`` items per hop, each shown through ``convert``.

    Iterating is a cancellation point; cancelled, no item is lost. ``aclose`` closes the sync iterator, which otherwise happens
    when it is exhausted or dropped.
    """

    def __init__(self, make: Callable[[], Iterable[T]], convert: Callable[[T], U], size: int = 64) -> None:
        self._make: Callable[[], Iterable[T]] | None = make
        self._convert = convert
        self._size = size
        self._source: Iterator[T] | None = None
        # Fetched and not yet given out, last one first.
        self._ready: list[T] = []
        self._error: BaseException | None = None
        self._ended = False

    def __aiter__(self) -> AsyncIterator[U]:
        return self

    async def __anext__(self) -> U:
        if not self._ready and not self._ended and self._error is None:
            await thread.run(self._fetch)
        else:
            await checkpoint()
        if self._ready:
            return self._convert(self._ready.pop())
        error, self._error = self._error, None
        if error is not None:
            self._ended = True
            raise error
        raise StopAsyncIteration

    def _fetch(self) -> None:
        """In the thread. Results are left in ``self``, so that a cancelled ``__anext__`` loses none of them."""
        items: list[T] = []
        try:
            if self._make is not None:
                make, self._make = self._make, None
                self._source = iter(make())
            assert self._source is not None
            for _ in range(self._size):
                items.append(next(self._source))  # noqa: PERF401  # what came before an error is kept
        except StopIteration:
            self._ended = True
        except BaseException as error:
            self._error = error
        items.reverse()
        self._ready = items

    async def aclose(self) -> None:
        """Stop iterating and free what the iteration holds. Runs in a cancelled scope too, then raises."""
        self._ended = True
        self._ready.clear()
        self._make = None
        source, self._source = self._source, None
        close = getattr(source, "close", None)
        if close is not None:
            await finish(close)
        else:
            await checkpoint()

    async def __aenter__(self) -> Batches[T, U]:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
