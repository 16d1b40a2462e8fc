"""``ParIter``: a chain whose functions run for many items in parallel. Made by ``AsyncIter.par``."""

from __future__ import annotations

import operator
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast, overload

from ...kernel.errors import user_site
from ..chain import Chain, Moved
from ..stage import Stage, check_count, check_function, is_awaitable
from .executor import Executor, check_executor, sized
from .reducing import Extreme, count_one
from .stage import Par, ParProgress, Plan
from .work import FILTER, FILTER_MAP, FLAT_MAP, INSPECT, MAP, Fold, Step, Work

if TYPE_CHECKING:
    from ..asynciter import AsyncIter

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A")
D = TypeVar("D")

_MISSING: Any = object()


class ParIter(Generic[T_co]):
    """What ``par`` makes of a chain: its steps run on an executor, for chunks of items, results in order (or not).

    Lazy and single-use, as an ``AsyncIter`` is: each step moves it into a new one. Drive it by ``async for``, go back to a chain of single
    items with ``.iter()``, or end it with ``collect``, ``reduce``, ``fold``... Every end is a cancellation point; cancelled, or left by
    ``break``, the workers have ended (each executor says what that means for work under way).

    An item whose function fails raises in its place: the function's own error, with a note that names the item, and the traceback
    of the worker as its cause. Functions may be async on every executor.
    """

    __slots__ = ("_gone", "_plan", "_site", "_stages", "_steps")

    def __init__(
        self, stages: tuple[Stage, ...], site: tuple[str, int], plan: Plan, steps: tuple[Step, ...] = ()
    ) -> None:
        self._stages = stages
        self._site = site
        self._plan = plan
        self._steps = steps
        # Where it went, once it was moved into a further step or an end.
        self._gone: str | None = None

    # -- steps ---------------------------------------------------------------------------------------------------------

    @overload
    def map(self, fn: Callable[[T_co], Awaitable[R]]) -> ParIter[R]: ...
    @overload
    def map(self, fn: Callable[[T_co], R]) -> ParIter[R]: ...
    def map(self, fn: Callable[[Any], Any]) -> ParIter[Any]:
        """``fn(item)`` in place of each item."""
        return self._then(MAP, "map", fn)

    def filter(self, fn: Callable[[T_co], object]) -> ParIter[T_co]:
        """The items for which ``fn(item)`` is true."""
        return self._then(FILTER, "filter", fn)

    @overload
    def filter_map(self, fn: Callable[[T_co], Awaitable[R | None]]) -> ParIter[R]: ...
    @overload
    def filter_map(self, fn: Callable[[T_co], R | None]) -> ParIter[R]: ...
    def filter_map(self, fn: Callable[[Any], Any]) -> ParIter[Any]:
        """``fn(item)`` in place of each item, without those for which it is None."""
        return self._then(FILTER_MAP, "filter_map", fn)

    @overload
    def flat_map(self, fn: Callable[[T_co], Awaitable[Iterable[R]]]) -> ParIter[R]: ...
    @overload
    def flat_map(self, fn: Callable[[T_co], AsyncIterable[R]]) -> ParIter[R]: ...
    @overload
    def flat_map(self, fn: Callable[[T_co], Iterable[R]]) -> ParIter[R]: ...
    def flat_map(self, fn: Callable[[Any], Any]) -> ParIter[Any]:
        """All that the iterable ``fn(item)``, sync or async, gives, in place of each item. It is run through on the worker."""
        return self._then(FLAT_MAP, "flat_map", fn)

    def inspect(self, fn: Callable[[T_co], object]) -> ParIter[T_co]:
        """Call ``fn(item)``, on the worker, for each item that comes by."""
        return self._then(INSPECT, "inspect", fn)

    # -- back to single items ------------------------------------------------------------------------------------------

    def iter(self) -> AsyncIter[T_co]:
        """The results as an ``AsyncIter``, to go on with its combinators.

        At most ``n`` chunks are worked on, and as many more are ready or done (none on ``tasks``), whether results are taken or not. The
        chunk whose results are being taken is one of these until its last one is taken: of items, never more than ``2 * n * chunk`` have
        left the source and were not taken (on ``tasks`` ``n * chunk``).
        """
        return cast("AsyncIter[T_co]", self._chain("iter", Work(self._take("iter"))))

    def __aiter__(self) -> AsyncIter[T_co]:
        return self.iter()

    # -- ends ----------------------------------------------------------------------------------------------------------

    async def collect(self) -> list[T_co]:
        """Every result, in a list."""
        return await self.iter().collect()

    async def for_each(self, fn: Callable[[T_co], object]) -> None:
        """Call ``fn(item)`` on the workers for each item; what it returns stays there. The first error is raised."""
        steps = self._then(INSPECT, "for_each", fn)._take("for_each")
        async with self._chain("for_each", Work(steps, keep="none")) as rest:
            async for _ in rest:
                pass

    async def fold(self, init: Callable[[], A], fn: Callable[[A, T_co], A], combine: Callable[[A, A], A]) -> A:
        """Put all items together: each chunk on its worker, ``fn(accumulator, item)`` from ``init()`` on; then the chunks' accumulators,
        ``combine(left, right)``, here.

        The result is that of a sequential fold if ``combine`` is associative, ``init()`` its neutral element, and ``fn`` fits it. In
        order (``ordered=True``) it need not be commutative. Where rounding makes it not quite associative (floats), the result depends
        on where chunks end: with a fixed ``chunk=`` it is the same on every executor, every time.
        """
        for name, given in (("init", init), ("fn", fn), ("combine", combine)):
            if not callable(given):
                raise TypeError(f".fold() needs a function for {name}, not a {type(given).__name__}")
        self._check_fn(init, "fold")
        self._check_fn(fn, "fold")
        acc = await self._reduced("fold", Fold(init, fn), combine)
        return cast("A", init() if acc is _MISSING else acc)

    @overload
    async def reduce(self, fn: Callable[[T, T], T]) -> T: ...
    @overload
    async def reduce(self, fn: Callable[[T, T], T], initial: T) -> T: ...
    async def reduce(self, fn: Callable[[Any, Any], Any], initial: Any = _MISSING) -> Any:
        """``functools.reduce`` by an associative ``fn``: within each chunk on its worker, then over the chunks here.

        Without items: ``initial``, or ``TypeError`` without one. See ``fold`` for floats.
        """
        check_function(fn, "reduce")
        self._check_fn(fn, "reduce")
        acc = await self._reduced("reduce", Fold(None, fn), fn)
        if initial is not _MISSING:
            return initial if acc is _MISSING else await _settled(fn(initial, acc))
        if acc is _MISSING:
            raise TypeError("reduce() of an empty iterator with no initial value")
        return acc

    async def count(self) -> int:
        """How many items come out."""
        acc = await self._reduced("count", Fold(int, count_one), operator.add)
        return 0 if acc is _MISSING else int(acc)

    @overload
    async def sum(self) -> T_co | int: ...
    @overload
    async def sum(self, start: D) -> T_co | D: ...
    async def sum(self, start: Any = 0) -> Any:
        """``start`` and all items, added up: within each chunk first (see ``fold`` for floats)."""
        acc = await self._reduced("sum", Fold(None, operator.add), operator.add)
        return start if acc is _MISSING else start + acc

    async def min(self, *, key: Callable[[T_co], Any] | None = None, default: Any = _MISSING) -> T_co:
        """The least item, the first of equals; ``default``, or ``ValueError`` without one, if there is none."""
        least: T_co = await self._extreme("min", False, key, default)
        return least

    async def max(self, *, key: Callable[[T_co], Any] | None = None, default: Any = _MISSING) -> T_co:
        """The greatest item, the first of equals; ``default``, or ``ValueError`` without one, if there is none."""
        greatest: T_co = await self._extreme("max", True, key, default)
        return greatest

    async def find(self, fn: Callable[[T_co], object], default: Any = None) -> T_co | None:
        """The first item (unordered: any item) for which ``fn(item)`` is true, or ``default``. The work on the others is given up."""
        steps = self._then(FILTER, "find", fn)._take("find")
        return cast("T_co | None", await self._first("find", steps, default))

    async def any(self, fn: Callable[[T_co], object] = bool) -> bool:
        """Whether ``fn(item)`` is true for any item. The work on the others is given up."""
        steps = self._then(FILTER, "any", fn)._take("any")
        return await self._first("any", steps, _MISSING) is not _MISSING

    async def all(self, fn: Callable[[T_co], object] = bool) -> bool:
        """Whether ``fn(item)`` is true for all items. At the first other one the rest is given up."""
        steps = self._then(MAP, "all", fn)._then(FILTER, "all", operator.not_)._take("all")
        return await self._first("all", steps, _MISSING) is _MISSING

    # -- how -----------------------------------------------------------------------------------------------------------

    def _then(self, kind: int, method: str, fn: Callable[[Any], Any]) -> ParIter[Any]:
        check_function(fn, method)
        self._check_fn(fn, method)
        return ParIter(self._stages, self._site, self._plan, (*self._take(method), Step(kind, method, fn)))

    def _check_fn(self, fn: object, method: str) -> None:
        check: Callable[[object, str], None] | None = getattr(self._plan.executor, "check", None)
        if check is not None:
            check(fn, method)

    def _take(self, into: str) -> tuple[Step, ...]:
        if self._gone is not None:
            raise Moved(f"this iterator {self._gone}; go on with what that returned")
        filename, line = user_site(sys._getframe(2))
        self._gone = f"was moved into .{into}() at {filename}:{line}"
        return self._steps

    def _chain(self, into: str, work: Work) -> AsyncIter[Any]:
        return cast("AsyncIter[Any]", Chain._make((*self._stages, Par(self._plan, work)), self._site))

    async def _reduced(self, into: str, fold: Fold, combine: Callable[[Any, Any], Any]) -> Any:
        acc: Any = _MISSING
        async with self._chain(into, Work(self._take(into), fold=fold)) as parts:
            async for part in parts:
                acc = part if acc is _MISSING else await _settled(combine(acc, part))
        return acc

    async def _extreme(self, name: str, greatest: bool, key: Callable[[Any], Any] | None, default: Any) -> Any:
        if key is not None:
            check_function(key, name)
            self._check_fn(key, name)
        pick = Extreme(greatest, key)
        acc = await self._reduced(name, Fold(None, pick), pick)
        if acc is not _MISSING:
            return acc
        if default is _MISSING:
            raise ValueError(f"{name}() of an iterator without items; give it a default=")
        return default

    async def _first(self, into: str, steps: tuple[Step, ...], default: Any) -> Any:
        async with self._chain(into, Work(steps, keep="first")) as found:
            return await found.next(default)

    # -- misuse --------------------------------------------------------------------------------------------------------

    def __iter__(self) -> NoReturn:
        raise TypeError("this is asynchronous: write `async for item in ...`, or `await it.collect()` for a list")

    def __await__(self) -> NoReturn:
        raise TypeError(
            "an iterator has no single result: end the chain with what you want, as in `await it.collect()`"
        )

    def __repr__(self) -> str:
        steps = [stage.describe() for stage in self._stages]
        return f"<ParIter {'.'.join(steps)}.{self._plan.describe()}{Work(self._steps) if self._steps else ''}>"


async def _settled(value: Any) -> Any:
    return await value if is_awaitable(value) else value


class Parallel(Chain[T_co]):
    """The way from an ``AsyncIter`` to a ``ParIter``."""

    __slots__ = ()

    def par(
        self,
        n: int | None = None,
        *,
        on: Executor | None = None,
        ordered: bool = True,
        chunk: int | None = None,
        progress: Callable[[ParProgress], object] | None = None,
    ) -> ParIter[T_co]:
        """From here on the functions of the chain run in parallel, on the executor ``on``: ``bateau.iter.tasks()`` (the default, for async
        functions), ``threads()``, ``processes()``, ``interpreters()``, ``dask()``, or one of your own.

        ``n``: how many chunks of items are worked on at once (by default the executor's number of workers, and never more than that);
        of an executor or shared pool with more workers, ``n`` are used at a time. ``ordered``: results come in
        the order of their items, or as they are done. ``chunk``: items per chunk; None: adapted to a few milliseconds of measured
        work (on ``tasks``: one). ``progress``: called here, after each chunk, with a ``ParProgress``; must not block.
        """
        if n is not None:
            check_count(n, "par")
        if chunk is not None:
            check_count(chunk, "par", name="chunk")
        if progress is not None and not callable(progress):
            raise TypeError(f".par() needs progress= to be a function, not {progress!r}")
        if on is None:
            from .tasks import Tasks

            on = Tasks()
        check_executor(on, ".par()")
        on = sized(on, n)
        plan = Plan(n if n is not None else on.workers, on, ordered, chunk, progress)
        return ParIter(self._take("par"), self._site, plan)
