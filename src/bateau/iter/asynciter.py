"""``AsyncIter``: all combinators under one name."""

from __future__ import annotations

from typing import TypeVar

from .chain import Chain
from .concurrent import Concurrent
from .elements import Elements
from .ends import Ends
from .grouping import Grouping
from .joining import Joining
from .merging import Merging
from .misuse import name_remedies
from .par.pariter import Parallel
from .retrying import Retries
from .sharing import Sharing
from .sinks import Sinks
from .slicing import Slicing
from .timing import Timing

T_co = TypeVar("T_co", covariant=True)


class AsyncIter(
    Elements[T_co],
    Slicing[T_co],
    Joining[T_co],
    Parallel[T_co],
    Concurrent[T_co],
    Merging[T_co],
    Sharing[T_co],
    Ends[T_co],
    Grouping[T_co],
    Timing[T_co],
    Retries[T_co],
    Sinks[T_co],
):
    """An asynchronous iterator with combinators, made by ``bateau.iter(...)`` or by a ``@bateau.generator``.

    Lazy: nothing runs until it is driven, by ``async for``, by ``next()``, or by one of the ends (``collect``, ``for_each``...).
    Each combinator moves it into a new one, which has to be used from then on. What it runs in the background has ended when the
    loop around it is left; ``async with it:`` makes that so at the end of the block even if other names still refer to it.
    """

    __slots__ = ()


Chain._make = AsyncIter
name_remedies(AsyncIter)
