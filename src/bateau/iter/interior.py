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
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ..kernel.cancellation import CancelScope
from ..kernel.cleanup import DEFAULT_BUDGET, Cleanup
from ..kernel.current import current_task, current_task_or_none
from ..kernel.errors import Cancelled, ScopeError, TaskCancelled
from ..kernel.hazard import report
from ..kernel.operation import Guard, Operation
from ..kernel.resource import Resource
from ..kernel.scope import Scope, ShieldedJoin
from ..kernel.starting import Starting
from ..kernel.task import Task

if TYPE_CHECKING:
    from ..kernel.cancellation import CancelNode
    from ..kernel.host import Host

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Interior(Resource):
    """The inside of one running pipeline. See the module's head."""

    __slots__ = ("_deferred", "keeper", "resumable", "scope", "site")
    kind = "pipeline"

    def __init__(self, site: tuple[str, int], *, resumable: bool) -> None:
        # Whether the consumer may give up a wait and come back for the same item.
        self.resumable = resumable
        self.site = site
        self.scope: Scope | None = None
        self.keeper: Task[None] | None = None
        self._deferred: list[Callable[[], Any]] = []

    def spawn(self, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, name: str) -> Task[T]:
        """Run ``fn(*args)`` beside the consumer until it ends or the pipeline is left."""
        scope = self.scope
        if scope is None or (self.keeper is not None and self.keeper.ended):
            raise ScopeError(
                f"the pipeline made at {self.where()} has ended: the scope in which it was first driven is over; "
                "keep the iterator inside that scope, or drive it with `async with` where it is used"
            )
        return scope.spawn(fn, *args, name=name, background=True)

    def defer(self, fn: Callable[[], Any]) -> None:
        """Call ``fn``, sync or async, once the background work has ended; last deferred first."""
        self._deferred.append(fn)

    # -- entered -------------------------------------------------------------------------------------------------------

    async def enter(self) -> None:
        """Open the scope as a block of the current task; ``leave`` must follow."""
        scope = Scope(name="pipeline", site=self.site)
        await scope.__aenter__()
        self.scope = scope

    async def leave(self, exc: BaseException | None = None) -> bool | None:
        """End an entered interior: cancel what runs, await it, close what was deferred. Says whether ``exc`` is absorbed."""
        if self.keeper is not None:  # entered without a scope, of which something had need later
            await self.close()
            return False
        scope, self.scope = self.scope, None
        try:
            if scope is None:
                return False
            return await scope.__aexit__(type(exc) if exc is not None else None, exc, None)
        finally:
            await self._run_deferred()

    async def _run_deferred(self) -> None:
        if not self._deferred:
            return
        errors: list[BaseException] = []
        async with Cleanup(DEFAULT_BUDGET, site=self.site):
            while self._deferred:
                try:
                    result = self._deferred.pop()()
                    if hasattr(result, "__await__"):
                        await result
                except Cancelled:
                    if not self._deferred:
                        raise
                except Exception as error:
                    errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup(f"closing the pipeline made at {self.where()} failed", errors)

    # -- kept ----------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Open the scope as the block of a keeper. Cancelled, it leaves no keeper behind."""
        task = current_task()
        around, shielded = _innermost_scope(task)
        status: Starting[None] = Starting()
        if around is not None:
            keeper = around.spawn(self._keep, shielded, status, name="pipeline", background=True)
        else:
            coro = self._keep(shielded, status)
            keeper = Task(task.host, coro, name="pipeline", site=self.site, context=copy_context())
        self.keeper = status.child = keeper
        keeper.starting = status
        if around is None:
            task.host.spawn_root(keeper)
        try:
            await status.wait()
        except BaseException:
            keeper.starting = None
            await self.close()
            raise

    async def _keep(self, shielded: bool, status: Starting[None]) -> None:
        # The consumer's shield, if it stands in one: what it does in a cancelled scope, it may do in parallel.
        with CancelScope(shield=shielded, site=self.site):
            async with Scope(name="pipeline", site=self.site) as self.scope:
                status.started()
                await Kept(self)

    def drop(self) -> None:
        """The iterator was dropped. The keeper ends; whoever dropped it waits for that at its next operation."""
        keeper = self.keeper
        if keeper is None or keeper.ended:
            return
        host = keeper.host
        try:
            # Never at once: the finaliser that brings us here may run in the middle of anything.
            if get_ident() == host.thread_id:
                host.call_soon(self._cancel)
            else:
                report(
                    "dropped_without_close",
                    f"the pipeline made at {self.where()} was dropped on another thread than the one it runs on; "
                    "drive it with `async with`, so that it is closed where you leave it",
                    self.site,
                )
                host.call_threadsafe(self._cancel)
        except RuntimeError:
            return  # the host has ended, and its tasks with it
        task = current_task_or_none()
        if task is not None and task.host is host and task is not keeper:
            task.guard = Debt(keeper, task.guard)
            task.budget = 0

    def _cancel(self) -> None:
        keeper, scope = self.keeper, self.scope
        if keeper is None or keeper.ended:
            return
        if scope is not None:
            scope.cancel("its iterator was left")
        else:
            keeper.cancel("its iterator was left")

    async def close(self) -> None:
        """End a kept interior, and wait until it has ended."""
        keeper = self.keeper
        if keeper is not None and not keeper.ended:
            self._cancel()
            with suppress(TaskCancelled):
                await ShieldedJoin(keeper)
        await self._run_deferred()

    # -- as a resource: what the keeper waits on -----------------------------------------------------------------------

    def where(self) -> str:
        """``file:line`` of the pipeline."""
        return f"{self.site[0]}:{self.site[1]}"

    def describe(self) -> str:
        return f"pipeline ({self.where()})"


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

    __slots__ = ("keeper",)

    def __init__(self, keeper: Task[None], below: Guard | None) -> None:
        self.keeper = keeper
        self.below = below

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


def soon(host: Host, fn: Callable[[], object]) -> bool:
    """Call ``fn`` on the thread of ``host``, not now: for finalisers, which may run in the middle of anything, on any thread.

    False if the host has ended, and its tasks with it.
    """
    try:
        if get_ident() == host.thread_id:
            host.call_soon(lambda: fn() and None)
        else:
            host.call_threadsafe(lambda: fn() and None)
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
