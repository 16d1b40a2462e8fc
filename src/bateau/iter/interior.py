"""Where a pipeline's background work lives: a scope of its own, which is over when the loop around it is.

Theory of operation. A pipeline with nothing in the background needs none of this. One that has (``buffered``, ``prefetch``,
``merge``, a generator's body...) gets a scope, in one of two ways:

- *Entered*: by ``async with pipeline:`` or inside one call that runs to the end (``collect``...). An ordinary scope block of
  the consumer; leaving it cancels and awaits what runs inside.
- *Kept*: ``async for`` alone. A loop has no hook for being left, but the iterator is dropped in that very moment. So the scope
  is the block of a *keeper*, a background task of the innermost scope around the consumer. At the drop the keeper is cancelled,
  and the consumer owes a debt: its next operation, whichever it is, first waits until the keeper has ended. Between ``break``
  and the next wait no other task runs, so nobody can tell this from a loop that awaits its own end.

Invariant: background work is spawned only while ``scope`` is set and open; ``keeper`` is set iff the interior is kept.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ..kernel.cancellation import CancelScope, Listener
from ..kernel.cleanup import DEFAULT_BUDGET, Cleanup
from ..kernel.current import current_task, current_task_or_none
from ..kernel.errors import Cancelled, CancelRecord, ScopeError, TaskCancelled
from ..kernel.hazard import report
from ..kernel.operation import Checkpoint, Guard, Operation
from ..kernel.resource import Resource
from ..kernel.scope import Scope, ShieldedJoin
from ..kernel.starting import Starting
from ..kernel.task import Task

if TYPE_CHECKING:
    from ..kernel.cancellation import CancelNode
    from ..kernel.host import Host

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


# The keepers that no scope holds. Asyncio holds its tasks by weak references only: what is dropped in a cycle would vanish as a
# whole, with its tasks in the middle of their work, instead of being closed.
_roots: dict[Task[Any], None] = {}


class Interior(Resource):
    """The inside of one running pipeline. See the module's head."""

    __slots__ = (
        "_at_end",
        "_context",
        "_deferred",
        "_heard",
        "_opening",
        "_owed",
        "_sources",
        "consumer",
        "keeper",
        "resumable",
        "scope",
        "site",
    )
    kind = "pipeline"

    def __init__(self, site: tuple[str, int], *, resumable: bool) -> None:
        # Whether the consumer, or a stage, may give up a wait and come back for the same item.
        self.resumable = resumable
        self.site = site
        self.scope: Scope | None = None
        self.keeper: Task[None] | None = None
        self._deferred: list[Callable[[], Any]] = []
        # The generators that give the first stages their items, and have not ended.
        self._sources: list[Generator[Any, Any, Any]] = []
        # The task that asked last: it is the one to leave, and to wait for the end then.
        self.consumer: Task[Any] | None = None
        # Its context variables when the scope was opened: what runs inside begins with those, not with what the task that happens
        # to spawn it has made of its own.
        self._context: Context | None = None
        # The keeper's start, while it is under way or its end has not been heard.
        self._opening: Starting[None] | None = None
        # What is to be done at the keeper's end: see ``when_ended``.
        self._at_end: Callable[[], None] | None = None
        # Whether somebody will wait for the keeper's end, and so hear of its errors.
        self._owed = True
        # Whether that one is waiting now, to raise them itself: what they are, if any. Else the scope around the keeper does.
        self._heard: list[Exception] | None = None

    def spawn(self, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, name: str) -> Task[T]:
        """Run ``fn(*args)`` beside the consumer until it ends or the pipeline is left."""
        scope, context = self.scope, self._context
        if scope is None or context is None or (self.keeper is not None and self.keeper.ended):
            raise ScopeError(
                f"the pipeline made at {self.where()} has ended: the scope in which it was first driven is over; "
                "keep the iterator inside that scope, or drive it with `async with` where it is used"
            )
        return context.run(_spawn, scope, fn, args, name)

    def defer(self, fn: Callable[[], Any]) -> None:
        """Call ``fn``, sync or async, once the background work has ended; last deferred first."""
        self._deferred.append(fn)

    def close_later(self, source: Generator[Any, Any, Any]) -> None:
        """Close ``source``, of which a stage takes items, once the background work has ended, unless it ``has_ended`` before."""
        self._sources.append(source)

    def has_ended(self, source: Generator[Any, Any, Any]) -> None:
        """``source`` has nothing to be closed any more."""
        if source in self._sources:
            self._sources.remove(source)

    def close_sources(self) -> list[BaseException]:
        """Close the sources now, last opened first. What they raised; none keeps the others open."""
        errors: list[BaseException] = []
        while self._sources:
            source = self._sources.pop()
            if getattr(source, "gi_running", False):
                continue  # left from within: it is closed when it is dropped
            try:
                source.close()
            except Exception as error:
                errors.append(error)
        return errors

    # -- entered -------------------------------------------------------------------------------------------------------

    async def enter(self) -> None:
        """Open the scope as a block of the current task; ``leave`` must follow."""
        scope = Scope(name="pipeline", site=self.site)
        self.consumer = current_task()
        self._context = copy_context()
        await scope.__aenter__()
        self.scope = scope

    async def leave(self, exc: BaseException | None = None) -> bool | None:
        """End an entered interior: cancel what runs, await it, close what was deferred. Says whether ``exc`` is absorbed.

        What fails meanwhile is raised together with ``exc``, if that is a failure too.
        """
        if self.keeper is not None:  # entered without a scope, of which something had need later

            async def end_keeper() -> None:
                try:
                    await self._end_keeper()
                except Exception as error:
                    raise self._both(exc, [error]) from None

            await self._closing(end_keeper, exc)
            return False
        scope, self.scope = self.scope, None
        if scope is None:
            await self._closing(None, exc)
            return False
        absorbed: bool | None = False

        async def leave_scope() -> None:
            nonlocal absorbed
            absorbed = await scope.__aexit__(type(exc) if exc is not None else None, exc, None)

        await self._closing(leave_scope, exc)
        return absorbed

    async def _closing(self, end: Callable[[], Awaitable[None]] | None, exc: BaseException | None) -> None:
        """``end`` the scope, then close what was deferred: each of the two whatever the other raises."""
        if end is None and not self._deferred and not self._sources:
            return
        try:
            if end is not None:
                await end()
        except BaseException as error:
            await self._run_deferred(error)
            raise
        await self._run_deferred(exc)

    async def _run_deferred(self, exc: BaseException | None = None) -> None:
        """Close the sources and what was deferred. ``exc`` is under way already, and goes with what fails here."""
        errors = self.close_sources()
        if self._deferred:
            await self._call_deferred(errors)
        if errors:
            raise self._both(exc, errors)

    async def _call_deferred(self, errors: list[BaseException]) -> None:
        cancelled: BaseException | None = None
        async with Cleanup(DEFAULT_BUDGET, site=self.site):
            while self._deferred:
                try:
                    result = self._deferred.pop()()
                    if hasattr(result, "__await__"):
                        await result
                except (
                    Cancelled
                ) as error:  # the budget is used up, or foreign code cancelled us: the rest gets its chance
                    cancelled = error
                except Exception as error:
                    errors.append(error)
            if cancelled is not None and not errors:
                raise cancelled

    def _both(self, exc: BaseException | None, errors: list[BaseException]) -> BaseException:
        """What to raise for ``errors`` of the closing, with ``exc`` under way."""
        if exc is not None and not isinstance(exc, Cancelled):
            errors.insert(0, exc)
        if len(errors) == 1:
            return errors[0]
        return BaseExceptionGroup(f"closing the pipeline made at {self.where()} failed", errors)

    # -- kept ----------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Open the scope as the block of a keeper. Cancelled, the keeper goes on opening it, and this is to be asked again."""
        if self._opening is None:
            self._opening = self._start_keeper()
        try:
            await self._opening.wait()
        except Cancelled:
            raise
        except BaseException:
            self._opening = self.keeper = None
            raise
        self._opening = None
        if self.keeper is not None and self.keeper.ended:
            await Checkpoint()  # cancelled in the meantime, like its consumer

    def _start_keeper(self) -> Starting[None]:
        task = current_task()
        around, shielded = _innermost_scope(task)
        status: Starting[None] = Starting()
        self.consumer = task
        self._context = copy_context()
        # A coroutine, not a function: no policy of the scope around may run it a second time.
        coro = self._keep(shielded, status)
        if around is not None:
            keeper = around.spawn(coro, name="pipeline", background=True)
        else:
            keeper = Task(task.host, coro, None, "pipeline", self.site, copy_context())
        self.keeper = status.child = keeper
        keeper.starting = status
        keeper.at_end = {self: self._kept_ended}
        if around is None:
            keeper.background = True  # which says that it is nobody's leftover, should the program end first
            _roots[keeper] = None
            task.host.spawn_root(keeper)
        if shielded:
            _ToldToEnd(self).attach(keeper)
        return status

    async def _keep(self, shielded: bool, status: Starting[None]) -> None:
        # The consumer's shield, if it stands in one: what it does in a cancelled scope, it may do in parallel.
        try:
            with CancelScope(shield=shielded, site=self.site):
                async with Scope(name="pipeline", site=self.site) as self.scope:
                    status.started()
                    if self.keeper is not None and self.keeper.record is not None:
                        self.scope.cancel("its scope has ended")
                    await Kept(self)
        except Exception as error:
            if self._heard is None:
                raise
            self._heard.append(error)

    def when_ended(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` when the keeper has ended, at once if it has; in the place of the one that was given before."""
        if self.keeper is not None and self.keeper.ended:
            fn()
        else:
            self._at_end = fn

    def _kept_ended(self, keeper: Task[None]) -> None:
        _roots.pop(keeper, None)
        fn, self._at_end = self._at_end, None
        if fn is not None:
            fn()
        keeper.children = None  # its listener leads back to it
        status, error = keeper.starting, keeper._error
        if status is not None and not status.is_started and keeper.scope is None:
            status.child_ended(error, keeper.was_cancelled)  # with a scope it does that
        if not self._owed:
            _tell_unseen(keeper, self.site)

    def drop(self) -> None:
        """The iterator was dropped. The keeper ends; its consumer waits for that at its next operation."""
        keeper = self.keeper
        if keeper is None or keeper.ended:
            return
        host = keeper.host
        here = get_ident() == host.thread_id
        if not soon(host, self._leave_behind):
            return
        if not here:
            report(
                "dropped_without_close",
                f"the pipeline made at {self.where()} was dropped on another thread than the one it runs on; "
                "drive it with `async with`, so that it is closed where you leave it",
                self.site,
            )
        task = current_task_or_none() if here else None
        if task is not None and task is self.consumer:
            task.guard = Debt(keeper, task.guard, self.site)
            task.budget = 0
        else:
            # Dropped by the collector in the middle of some other task, which must not wait for what is not its own.
            self._owed = False

    def _leave_behind(self) -> None:
        """Nobody else will close the sources: the keeper does, when what it kept has ended."""
        scope = self.scope
        if self._sources and scope is not None and scope._host is not None:
            scope.defer(self._raise_closing)
        self._cancel()

    def _raise_closing(self) -> None:
        errors = self.close_sources()
        if errors:
            raise self._both(None, errors)

    def _cancel(self) -> None:
        keeper, scope = self.keeper, self.scope
        if keeper is None or keeper.ended:
            return
        if scope is not None:
            scope.cancel("its iterator was left")
        else:
            keeper.cancel("its iterator was left")

    async def close(self) -> None:
        """End a kept interior, and wait until it has ended; from inside of it only the former, its consumer waits."""
        await self._closing(self._end_keeper, None)

    async def _end_keeper(self) -> None:
        keeper = self.keeper
        if keeper is None:
            return
        self._cancel()
        if _is_inside(current_task(), keeper):
            self._owed = False
            return
        heard = self._heard
        if heard is None:
            heard = self._heard = []
        try:
            await ShieldedJoin(keeper)
        except TaskCancelled:
            return
        finally:
            self.keeper = self.scope = self._opening = None
        if heard:
            raise heard.pop()

    # -- as a resource: what the keeper waits on -----------------------------------------------------------------------

    def where(self) -> str:
        """``file:line`` of the pipeline."""
        return f"{self.site[0]}:{self.site[1]}"

    def waiters(self) -> Iterable[Operation[Any]]:
        kept = self.keeper.waiting if self.keeper is not None else None
        return (kept,) if kept is not None and kept.resource is self else ()

    def satisfiers(self) -> Iterable[Task[Any]]:
        consumer = self.consumer
        return (consumer,) if consumer is not None and not consumer.ended else ()

    def describe(self) -> str:
        return f"pipeline ({self.where()})"


class _ToldToEnd(Listener):
    """A keeper in its consumer's shield ends when it is told to itself, at the end of the scope around: the consumer has left
    its shield then, and would wait for ever. Only what reaches it from further out stops at that shield.
    """

    __slots__ = ("interior",)

    def __init__(self, interior: Interior) -> None:
        super().__init__()
        self.interior = interior

    def heard(self) -> None:
        keeper, scope = self.interior.keeper, self.interior.scope
        if keeper is not None and keeper.record is not None and scope is not None and not keeper.ended:
            scope._cancel(CancelRecord("the scope around its pipeline has ended", parent=keeper.record))


class Kept(Operation[None]):
    """The keeper's wait: until the iterator is left, which cancels it."""

    __slots__ = ()

    def register(self) -> None:
        """Nobody fires it."""

    def unregister(self) -> None:
        """It stands in no queue."""

    def describe(self) -> str:
        return f"keeping of {self.resource.describe()}"


class Debt(Guard):
    """The end of a pipeline that was left by a plain ``async for``: its consumer's next operation waits for it first."""

    __slots__ = ("keeper", "site")

    def __init__(self, keeper: Task[None], below: Guard | None, site: tuple[str, int]) -> None:
        self.keeper = keeper
        self.below = below
        self.site = site

    def refuse(self, task: Task[Any], shielded: bool) -> Generator[Any, Any, None]:
        self.unlink(task)
        return self._settle()

    def _settle(self) -> Generator[Any, Any, None]:
        keeper = self.keeper
        try:
            yield from ShieldedJoin(keeper).__await__()
        except TaskCancelled:
            return
        except Exception:
            if keeper.scope is None:
                raise  # else its scope raises it

    def __del__(self) -> None:
        # Its task has ended without another operation: nobody else hears how the keeper failed.
        _tell_unseen(self.keeper, self.site)


def _tell_unseen(keeper: Task[None], site: tuple[str, int]) -> None:
    if keeper.ended and keeper._error is not None and not (keeper.was_cancelled or keeper.error_seen or keeper.scope):
        keeper.error_seen = True
        report("unretrieved_error", f"a pipeline that was left failed to close: {keeper._error!r}", site)


def _spawn(scope: Scope, fn: Callable[..., Any], args: tuple[Any, ...], name: str) -> Task[Any]:
    return scope.spawn(fn, *args, name=name, background=True)


def _is_inside(task: Task[Any], keeper: Task[Any]) -> bool:
    """Whether ``task`` is the keeper or runs in its scope, however deep."""
    inside: Task[Any] | None = task
    while inside is not None and inside is not keeper:
        inside = inside.scope.task if inside.scope is not None else None
    return inside is keeper


def soon(host: Host, fn: Callable[[], object]) -> bool:
    """Call ``fn`` on the thread of ``host``, not now: for finalisers, which may run in the middle of anything, on any thread.

    False if the host has ended, and its tasks with it.
    """

    def call() -> None:
        fn()

    try:
        if get_ident() == host.thread_id:
            host.call_soon(call)
        else:
            host.call_threadsafe(call)
    except RuntimeError:
        return False
    return True


def _innermost_scope(task: Task[Any]) -> tuple[Scope | None, bool]:
    """The innermost scope around ``task`` that takes new tasks, and whether a shield stands in between."""
    shielded = False
    node: CancelNode | None = task.node
    while node is not None and node is not task:
        if isinstance(node, Scope) and not node._closing:
            return node, shielded
        shielded = shielded or node.shielded
        node = node.parent
    return task.scope, shielded or task.shielded
