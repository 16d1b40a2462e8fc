"""How anything that can be iterated becomes the first stage of a pipeline, or of a part of one (``chain``, ``zip``, ``flat_map``...)."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from itertools import chain
from types import AsyncGeneratorType
from typing import Any, cast

from .bodies import Body
from .chain import Chain
from .flow import Failure, ItemTimeout, Need
from .handoff import Handoff, close_iterator, items_of
from .interior import Interior
from .stage import Stage, gives_up


class FromIterable(Stage):
    """A plain iterable.

    A generator is closed where the pipeline is left, by whoever leaves it (see ``Interior.close_later``), who gets what its ``finally``
    raises. Anything else that can be closed, a file say, is its owner's.
    """

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = items

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        try:
            items: Iterator[Any] = iter(self.items)
            generator = _as_generator(items)
            if generator is not None:
                interior.close_later(generator)
            # `chain` keeps our own end from being handed down: what it raised there would pass for an item's failure.
            yield from chain(items) if hasattr(items, "close") else items
            if generator is not None:
                interior.has_ended(generator)
        except Exception as error:
            yield Failure(error)

    def describe(self) -> str:
        return f"iter({type(self.items).__name__})"


class FromAsync(Stage):
    """An async iterable.

    One whose ``__anext__`` is an operation of ours can be asked by the consumer itself: a cancelled operation took nothing. An
    async generator always runs in a task of its own: the scopes it holds open at a ``yield`` must neither be the consumer's nor be
    entered by one worker of ``buffered`` and left by another. Any other iterator, which a cancelled wait may destroy, does so
    unless a single call drives it to the end, without a ``timeout`` after it, and nobody can come back.
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
        alone = self.own_task or is_async_generator(self.items)
        return alone or (resumable and not resumes(self.items))

    def flow(self, source: Iterator[Any], interior: Interior) -> Iterator[Any]:
        items: AsyncIterator[Any]
        background = self.background(interior.resumable)
        items = self.items
        if background:
            handoff: Handoff[Any] = Handoff(self.describe())
            body = Body(items, handoff, self.describe(), interior.site)
            handoff.producer = interior.spawn(body.run, name=self.describe())
            yield from items_of(handoff.take)
            return
        if not resumes(items):
            interior.defer(lambda: close_iterator(items))
        need = Need()
        while True:
            yield need.of(items.__anext__)
            if isinstance(need.error, StopAsyncIteration):
                return
            if need.error is None:
                yield need.value
                continue
            yield Failure(need.error)
            if not isinstance(need.error, ItemTimeout):  # that is not the source's: the wait for it was given up
                return

    def describe(self) -> str:
        if is_async_generator(self.items):
            return f"{self.items.__qualname__}()"
        return f"iter({type(self.items).__name__})"


def _as_generator(items: object) -> Generator[Any, Any, Any] | None:
    return cast("Any", items) if isinstance(items, Generator) else None


def is_async_generator(items: object) -> bool:
    """Whether ``items`` is an async generator: code of somebody's that stands at a ``yield``."""
    return isinstance(items, AsyncGeneratorType)


def resumes(items: Any) -> bool:
    """Whether a cancelled ``__anext__`` of ``items`` leaves it as it was, to be asked again.

    True of everything of ours (laws 9 and the rule for operations); others say so with a true attribute ``resumable_next``.
    """
    # Whose method it is: where the twin has it, its module is not told, and the class's is.
    owner = next((cls for cls in type(items).__mro__ if "__anext__" in vars(cls)), None)
    ask: Any = getattr(items, "__anext__", None)
    module = getattr(ask, "__module__", None) or (owner.__module__ if owner is not None else "")
    return module.startswith("bateau.") or bool(getattr(items, "resumable_next", False))


def as_stages(items: Any, method: str) -> tuple[Stage, ...]:
    """The stages that give the items of ``items``: an iterable, an async iterable, a generator function, or an ``AsyncIter``,
    which is moved into ``method``. Raises ``TypeError`` for anything else.
    """
    if isinstance(items, Chain):
        return items._take(method)
    plain = hasattr(items, "__aiter__") or hasattr(items, "__iter__")
    given: Any = items() if callable(items) and not plain else items
    if isinstance(given, Chain):
        return given._take(method)
    if hasattr(given, "__aiter__"):
        return (FromAsync(given),)
    if hasattr(given, "__iter__"):
        return (FromIterable(given),)
    what = type(given).__name__
    if inspect.iscoroutine(given):
        given.close()  # it will never run: the error below says so, without a warning beside it
        what = "a coroutine: await it first, or use .map() with the function"
    called = f"bateau.{method}" if method == "iter" else f".{method}()"
    raise TypeError(f"{called} takes an iterable, an async iterable or a generator function, not {what}")


def background(stages: tuple[Stage, ...], resumable: bool) -> bool:
    """Whether any of ``stages`` runs something beside the consumer."""
    resumable = resumable or gives_up(stages)
    return any(stage.background(resumable) for stage in stages)
