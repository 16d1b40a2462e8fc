"""Combinators that have several items under way at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from .buffering import Buffered
from .chain import Chain
from .stage import Stage, check_count

if TYPE_CHECKING:
    from .asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)


class Concurrent(Chain[T_co]):
    """The combinators of this module."""

    __slots__ = ()

    def _buffered(self, n: int, *, ordered: bool, method: str) -> AsyncIter[T_co]:
        check_count(n, method)
        stages = self._take(method)
        split = len(stages)
        while split > 1 and stages[split - 1].per_item:
            split -= 1
        if split == len(stages):
            raise TypeError(
                f".{method}({n}) has nothing to do for several items at once: put it right after the function that takes "
                f"the time, as in .map(fetch).{method}({n}); to fetch items ahead of their use, .prefetch({n})"
            )
        stage: Stage = Buffered(n, stages[split:], ordered=ordered, method=method)
        return self._make((*stages[:split], stage), self._site)  # type: ignore[no-any-return]

    def buffered(self, n: int) -> AsyncIter[T_co]:
        """Run the functions right before it (``map``, ``filter``...) for up to ``n`` items at once; results keep their order.

        Never are more than ``n`` items claimed from what comes before and not yet taken by the consumer. The work goes on while
        the consumer's body runs, and has ended when its loop is left. An item that fails raises in its place, in order.
        """
        return self._buffered(n, ordered=True, method="buffered")

    def buffered_unordered(self, n: int) -> AsyncIter[T_co]:
        """Like ``buffered``, but results come in the order in which they are done."""
        return self._buffered(n, ordered=False, method="buffered_unordered")

    def prefetch(self, n: int) -> AsyncIter[T_co]:
        """Fetch up to ``n`` items ahead of their use, while the consumer's body runs. One at a time; the order is kept."""
        check_count(n, "prefetch")
        return self._then(Buffered(n, (), ordered=True, method="prefetch"))
