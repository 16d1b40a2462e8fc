"""Where the work of a parallel chain runs: the interface of an *executor*, and what all of ours share.

An ``Executor`` is a recipe; ``start`` makes a running ``Pool`` of it. A pipeline starts one for itself and closes it when its loop is
left. ``async with executor as pool:`` starts one that several pipelines (and ``offload``) share: a pool is an executor itself.

An executor of one's own is an object with the members of ``Executor``. What it is given to run is a ``Work``: call ``work(items)`` in any
thread or process that is not the runtime's (it can be pickled if its functions can), or ``await work.run(items)`` in a task;
either gives an ``Outcome``, to be handed back as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast

from ...kernel.errors import BateauError, ScopeError, user_site
from ...kernel.scope import Scope
from .work import Outcome, Work

E = TypeVar("E", bound="Executor")


class WorkerDied(BateauError, RuntimeError):
    """A worker ended in the middle of its work: killed, crashed, or by ``os._exit``. What it had was not finished.

    ``items`` are the items it had, ``returncode`` its exit status (``-N``: ended by signal N; None where unknown), ``stderr`` the
    end of what it had written to its standard error.
    """

    def __init__(
        self, message: str, items: Sequence[Any] = (), returncode: int | None = None, stderr: str = ""
    ) -> None:
        super().__init__(message)
        self.items = tuple(items)
        self.returncode = returncode
        self.stderr = stderr


class Pool(Protocol):
    """Running workers."""

    def submit(self, work: Work, items: list[Any]) -> Awaitable[Outcome]:
        """Await it: ``work`` done for ``items``, on the next free worker. Asked from several tasks at once.

        What fails for an item is in the outcome; what it raises itself (``WorkerDied``) concerns all of ``items``. Cancelled, it must not
        end before nothing of this call runs any more, or say in its documentation why that can't be.
        """
        ...

    async def close(self) -> None:
        """Nothing more will be submitted: let the workers end, and await that. Called once. Cancelled, they are ended the hard way."""
        ...


class Executor(Protocol):
    """Something that can start workers. Optional members: see ``Recipe``."""

    @property
    def workers(self) -> int:
        """How many chunks it works on at the same time."""
        ...

    async def start(self, scope: Scope) -> Pool:
        """Start, or get ready to start, the workers. Tasks it needs are spawned into ``scope`` (``background=True``), whose end,
        also by cancellation, must leave nothing behind.
        """
        ...


class Recipe:
    """The base of our executors: a number of workers, and ``async with``.

    An executor of one's own may derive from it, or have only the members of ``Executor``.
    """

    # For messages and ``repr``.
    kind = "executor"
    # Seconds of work that a chunk should hold; None: chunks of one item, because items wait rather than work.
    chunk_seconds: float | None = 0.005
    # How many chunks are kept ready per worker, besides the one it works on.
    ahead = 1

    def __init__(self, n: int | None = None) -> None:
        if n is not None:
            if type(n) is not int:
                raise TypeError(f"{self.kind}() needs a whole number of workers, not {n!r}")
            if n < 1:
                raise ValueError(f"{self.kind}() needs 1 or more workers, not {n}")
        self.n = n
        self._site = user_site(sys._getframe(1))
        self._scope: Scope | None = None
        self._pool: Pool | None = None

    @property
    def workers(self) -> int:
        """How many chunks it works on at the same time: what it was told, or one per CPU."""
        return self.n if self.n is not None else cpus()

    def sized(self, n: int) -> Recipe:
        """This recipe with ``n`` workers, if it was not told how many."""
        if self.n is not None:
            return self
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.n = n
        other._scope = other._pool = None
        return other

    def check(self, fn: object, method: str) -> None:
        """Raise ``TypeError`` for a function of ``.method()`` that these workers could never be given."""

    async def start(self, scope: Scope) -> Pool:
        """See ``Executor.start``."""
        raise NotImplementedError

    async def __aenter__(self) -> SharedPool:
        if self._scope is not None:
            raise ScopeError(f"{self!r} has been entered already; make one for each `async with` block")
        scope = Scope(name=repr(self), site=self._site)
        await scope.__aenter__()
        self._scope = scope
        try:
            self._pool = await self.start(scope)
        except BaseException as error:
            self._scope = None
            await scope.__aexit__(type(error), error, error.__traceback__)
            raise
        return SharedPool(self, self._pool)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        scope, self._scope = self._scope, None
        pool, self._pool = self._pool, None
        assert scope is not None and pool is not None
        if exc is None:
            try:
                await pool.close()
            except BaseException as error:
                await scope.__aexit__(type(error), error, error.__traceback__)
                raise
        return await scope.__aexit__(exc_type, exc, tb)

    def __repr__(self) -> str:
        return f"{self.kind}({'' if self.n is None else self.n})"


class SharedPool:
    """A running pool that belongs to the ``async with`` block that opened it; pipelines may use it as their executor."""

    def __init__(self, recipe: Recipe, pool: Pool) -> None:
        self.recipe = recipe
        self.pool = pool
        self.kind = recipe.kind
        self.chunk_seconds = recipe.chunk_seconds
        self.ahead = recipe.ahead
        self.check = recipe.check

    @property
    def workers(self) -> int:
        """How many chunks it works on at the same time."""
        return self.recipe.workers

    async def start(self, scope: Scope) -> Pool:
        """Itself: it runs already."""
        if self.recipe._pool is not self.pool:
            raise ScopeError(f"the `async with` block of {self.recipe!r} has been left, and its workers with it")
        return self

    def submit(self, work: Work, items: list[Any]) -> Awaitable[Outcome]:
        """See ``Pool.submit``."""
        return self.pool.submit(work, items)

    async def close(self) -> None:
        """Whoever opened it closes it."""

    def __repr__(self) -> str:
        return repr(self.recipe)


def check_executor(executor: object, where: str) -> None:
    """Raise ``TypeError`` unless ``executor`` is one."""
    if isinstance(executor, type) or not hasattr(executor, "start") or not hasattr(executor, "workers"):
        raise TypeError(
            f"{where} needs on= to be an executor, as made by bateau.iter.tasks(), threads(n), processes(n), interpreters(n) or dask(), "
            f"not {executor!r}"
        )


def sized(executor: E, n: int | None) -> E:
    """``executor`` with ``n`` workers, where that was left open."""
    return cast("E", executor.sized(n)) if n is not None and isinstance(executor, Recipe) else executor


def cpus() -> int:
    """How many CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except AttributeError:
        return os.cpu_count() or 1
