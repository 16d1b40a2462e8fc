"""``join`` and ``race``: several awaitables at once, all of which have ended when the call returns (law 3)."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, TypeAlias, TypeVar, overload

from .kernel.errors import CancelRecord, user_site
from .kernel.policy import Policy
from .kernel.scope import Scope
from .kernel.task import Task
from .selecting.core import OnLoser, Select, next_outcome, report_unclaimed
from .selecting.waiting import Event

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")

# An awaitable, or a function without arguments that gives one.
Given: TypeAlias = Awaitable[T] | Callable[[], Awaitable[T]]


class _AllOrError(Policy):
    """The first failure cancels the rest; a single error is raised as it is, several as a group."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        error = task._error
        if error is not None and not task.was_cancelled:
            task.error_seen = True
            self.errors.append(error)
            cause = f"{task.describe()} failed with {type(error).__name__}"
            scope._cancel(CancelRecord(cause, task_name=task.name, cause=error, site=task.spawn_site))
        return True

    def conclude(self, scope: Scope) -> BaseException | None:
        for error in self.errors:
            if isinstance(error, (KeyboardInterrupt, SystemExit)) or len(self.errors) == 1:
                return error
        return BaseExceptionGroup(f"{len(self.errors)} arms of a join failed", self.errors) if self.errors else None


@overload
async def join(*, limit: int | None = None) -> tuple[()]: ...
@overload
async def join(a: Given[A], /, *, limit: int | None = None) -> tuple[A]: ...
@overload
async def join(a: Given[A], b: Given[B], /, *, limit: int | None = None) -> tuple[A, B]: ...
@overload
async def join(a: Given[A], b: Given[B], c: Given[C], /, *, limit: int | None = None) -> tuple[A, B, C]: ...
@overload
async def join(
    a: Given[A], b: Given[B], c: Given[C], d: Given[D], /, *, limit: int | None = None
) -> tuple[A, B, C, D]: ...
@overload
async def join(
    a: Given[A], b: Given[B], c: Given[C], d: Given[D], e: Given[E], /, *, limit: int | None = None
) -> tuple[A, B, C, D, E]: ...
@overload
async def join(
    a: Given[A], b: Given[B], c: Given[C], d: Given[D], e: Given[E], f: Given[F], /, *, limit: int | None = None
) -> tuple[A, B, C, D, E, F]: ...
@overload
async def join(many: Iterable[Given[T]], /, *, limit: int | None = None) -> list[T]: ...
@overload
async def join(*given: Given[T], limit: int | None = None) -> tuple[T, ...]: ...
async def join(*given: Any, limit: int | None = None) -> Any:
    """Run everything given at the same time, each in a child task, and return the results in the order given.

    Takes awaitables (operations, coroutine objects, tasks...) and functions without arguments that give one; or a single
    iterable of them, for which the result is a list. ``limit`` bounds how many run at once. The first failure cancels the
    rest, which are awaited; then a single error is raised as it is, several in an ``ExceptionGroup``. To have all outcomes,
    errors included, use ``bateau.scope(policy=bateau.Collect())``. A cancellation point: cancelled, all children are
    cancelled and awaited first. Raises ``TypeError``, before anything runs, for what can't be awaited.
    """
    many = len(given) == 1 and not _can_be_awaited(given[0])
    if many:
        if not hasattr(given[0], "__iter__"):
            raise TypeError(f"join takes awaitables, functions, or one iterable of them, not {type(given[0]).__name__}")
        given = tuple(given[0])
    _check(given, "join")
    site = user_site(sys._getframe(1))
    tasks: list[Task[Any]] = []
    async with Scope(name="join", policy=_AllOrError(), limit=limit, site=site) as scope:
        for one in given:
            task = scope.spawn(one)
            task._site_code = site
            tasks.append(task)
    results = [task.outcome().unwrap() for task in tasks]
    return results if many else tuple(results)


class Won(Generic[T]):
    """Who won a race: ``index`` among the arms, ``name`` (if it was given one) and ``value``.

    ``also`` has the values of arms that finished all the same while they were cancelled; ``failed`` the errors of arms that
    failed, before the end or while cancelled. Both are events whose ``name`` is the arm's name or index.
    """

    __slots__ = ("also", "failed", "index", "name", "value")
    __match_args__ = ("index", "name", "value")

    def __init__(self, index: int, name: str | None, value: T) -> None:
        self.index = index
        self.name = name
        self.value = value
        self.also: tuple[Event[int | str, Any], ...] = ()
        self.failed: tuple[Event[int | str, Exception], ...] = ()

    def __repr__(self) -> str:
        return f"Won(index={self.index}, name={self.name!r}, value={self.value!r})"


@overload
async def race(a: Given[A], /, *, on_loser: OnLoser | None = None) -> Won[A]: ...
@overload
async def race(a: Given[A], b: Given[B], /, *, on_loser: OnLoser | None = None) -> Won[A | B]: ...
@overload
async def race(a: Given[A], b: Given[B], c: Given[C], /, *, on_loser: OnLoser | None = None) -> Won[A | B | C]: ...
@overload
async def race(
    a: Given[A], b: Given[B], c: Given[C], d: Given[D], /, *, on_loser: OnLoser | None = None
) -> Won[A | B | C | D]: ...
@overload
async def race(*given: Given[T], on_loser: OnLoser | None = None, **named: Given[T]) -> Won[T]: ...
async def race(*given: Any, on_loser: OnLoser | None = None, **named: Any) -> Won[Any]:
    """Run everything given at the same time; the first to *succeed* wins, and the others are cancelled and awaited.

    Takes what ``join`` takes, by position or by name. Operations have their effect only if they win; anything else runs in a
    child task. What a loser returned all the same goes to ``on_loser(name, value)``, sync or async (``name``: the arm's name
    or index), or else to ``also`` of the result. If every arm fails, their errors are raised in an ``ExceptionGroup``.
    A cancellation point: cancelled, every child is cancelled and awaited first. Raises ``ValueError`` without an arm.
    """
    names: list[int | str] = [*range(len(given)), *named]
    arms = (*given, *named.values())
    _check(arms, "race")
    if not arms:
        raise ValueError("race needs at least one arm")
    select: Select[int | str, Any] = Select(on_loser=on_loser)
    select._once = True
    select.site = user_site(sys._getframe(1))
    for name, arm in zip(names, arms, strict=True):
        select.insert(name, arm)
    won: Won[Any] | None = None
    failed: list[Event[int | str, Exception]] = []
    try:
        async with select:
            while len(select) and won is None:
                name, outcome = await next_outcome(select)
                if outcome.error is None:
                    won = Won(names.index(name), name if isinstance(name, str) else None, outcome.unwrap())
                elif isinstance(outcome.error, Exception):
                    failed.append(Event(name, outcome.error))
    except BaseException:
        report_unclaimed(select)
        raise
    failed += select._failed
    if won is None:
        raise ExceptionGroup("every arm of the race failed", [event.value for event in failed])
    won.also = tuple(select._left_over)
    won.failed = tuple(failed)
    return won


def _can_be_awaited(given: Any) -> bool:
    return hasattr(given, "__await__") or callable(given)


def _check(given: tuple[Any, ...], what: str) -> None:
    """Raise ``TypeError`` for what can't be awaited, before anything runs; coroutines given beside it are closed."""
    for index, one in enumerate(given):
        if not _can_be_awaited(one):
            for other in given:
                if isinstance(other, Coroutine):
                    other.close()
            raise TypeError(
                f"argument {index} of {what} is a {type(one).__name__}; "
                "it must be an awaitable, or a function without arguments that gives one"
            )
