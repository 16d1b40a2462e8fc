"""``each(items)``: what a ``@bateau.generator`` yields to hand over all items of another iterator (an ``async yield from``)."""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, NoReturn, TypeVar, cast, overload

from ..kernel.errors import user_site
from ..kernel.hazard import raise_unraisable
from .misuse import three_lines

T = TypeVar("T")


class Each:
    """All items of ``items``, to be yielded as one thing. See ``each``."""

    __slots__ = ("_site", "_taken", "items")

    def __init__(self, items: Any, site: tuple[str, int]) -> None:
        self._taken = True  # nothing to complain about unless it was made
        if not (hasattr(items, "__aiter__") or hasattr(items, "__iter__") or callable(items)):
            raise TypeError(
                three_lines(
                    f"each() takes something to iterate over, not a {type(items).__name__}",
                    site,
                    "write `yield each(iterator)` for many items, `yield item` for one",
                )
            )
        self.items = items
        self._site = site
        self._taken = False

    def take(self) -> Any:
        """Its items, for whoever hands them over."""
        self._taken = True
        return self.items

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"each(...) stands for many items and has no {name!r}: it is only good for `yield each(...)`"
        )

    def __del__(self) -> None:
        if self._taken:
            return
        text = three_lines(
            "each(...) was made and never yielded: its items went nowhere",
            self._site,
            "write `yield each(...)` inside a @bateau.generator",
        )
        try:
            warnings.warn_explicit(text, RuntimeWarning, *self._site)
        except RuntimeWarning as error:
            raise_unraisable(error)


@overload
def each(items: AsyncIterable[T], /) -> T: ...
@overload
def each(items: Iterable[T], /) -> T: ...
@overload
def each(items: Callable[[], AsyncIterable[T]], /) -> T: ...
def each(items: Any, /) -> Any:
    """To be yielded by a ``@bateau.generator``: hands over every item of ``items`` in its name, then the generator goes on.

    It is to async generators what ``yield from`` is to plain ones: an error of ``items`` is raised at the ``yield``, and a
    generator left meanwhile closes ``items`` first. Where ``items`` is itself a generator's, its items go to the consumer
    directly, however deep the recursion: walking a tree of depth d costs no more per item than walking a list, which an
    ``async for ...: yield item`` at each level would.

    To type checkers it gives *an* item, so that the generator's annotation stays ``AsyncIterator[T]``.
    """
    return cast("Any", Each(items, user_site(sys._getframe(1))))
