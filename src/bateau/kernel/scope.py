"""Scopes: where tasks live. A scope's block ends when its last child has ended, not before (law 1).

Theory of operation. A scope is a node of the cancellation tree that also owns tasks. Leaving its block goes through four
steps, in this order: wait for the foreground children; cancel and wait for the background ones; run what was deferred
(last in, first out), under the cleanup budget; leave the node and raise what is to be raised. The waits are shielded: a
scope can't be left early, cancellation reaches the children instead.

What is raised: if any child failed, a group of all failures (the body's included). If only the body failed, its own
exception, unwrapped. Else a cancellation that is not this scope's own.
"""

from __future__ import annotations

from _thread import get_ident
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import copy_context
from sys import _getframe
from types import CoroutineType, FrameType, FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

from .cancellation import Cancellable, check_seconds, deliver, leave
from .cleanup import DEFAULT_BUDGET
from .coroutines import as_coroutine
from .current import current_task_or_none
from .errors import BateauError, Cancelled, CancelRecord, ScopeError, TaskCancelled, WrongRuntime, user_site
from .host import Host, Timer
from .leaving import FROM_OUTSIDE, Drain, others_ended, run_deferred, to_raise, wait_for_children
from .leaving import ShieldedJoin as ShieldedJoin  # noqa: PLC0414  # so that others may import it from here
from .operation import Checkpoint, Operation
from .policy import AllMustSucceed, Policy
from .resource import Resource
from .restarting import hurry, restart
from .starting import Starting
from .task import Task
from .twin import Children, ScopeFields, keep, slots, twinned

if TYPE_CHECKING:
    from .token import Token

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Set by the package: runs a sync function on a worker thread. The kernel itself has no threads.
run_blocking: Callable[..., Coroutine[Any, Any, Any]] | None = None

# The default policy. It keeps nothing, so all scopes share it, and know by its identity that a success needs no thought.
ALL_MUST_SUCCEED = AllMustSucceed()
keep(all_must_succeed=ALL_MUST_SUCCEED, as_coroutine=as_coroutine, default_budget=DEFAULT_BUDGET)

_new_task: Callable[[type[Task[Any]]], Task[Any]] = Task.__new__


@twinned("spawn", "child_ended", "__aenter__", "__aexit__")
class Scope(ScopeFields, Cancellable, Resource):
    """Owns the tasks spawned in it. Made by ``bateau.scope()``; use with ``async with``.

    Entering is not a cancellation point. Leaving waits for every child, and is one: a cancellation from outside is
    raised after the children have ended.

    Invariants: ``_foreground`` and ``_background`` count the children that have not ended, those queued for ``limit``
    included; ``_running`` counts the foreground children that hold a place under ``limit``. ``_host`` is set from entering on.
    """

    __slots__ = slots(
        "_background",
        "_closing",
        "_deferred",
        "_delayed",
        "_drain",
        "_ending",
        "_errors",
        "_foreground",
        "_host",
        "_queued",
        "_running",
        "_token",
        "cleanup_budget",
        "limit",
        "name",
        "native",
        "policy",
    )
    kind = "scope"
    needs_all = True

    def __init__(
        self,
        *,
        name: str | None = None,
        policy: Policy | None = None,
        limit: int | None = None,
        seconds: float | None = None,
        at: float | None = None,
        shield: bool = False,
        cleanup_budget: float = DEFAULT_BUDGET,
        site: tuple[str, int] | None = None,
    ) -> None:
        if site is None:
            site = user_site(_getframe(1))
        self._set_up(name, policy, limit, seconds, at, shield, cleanup_budget, site)

    def _set_up(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # each is called by name
        self,
        name: str | None,
        policy: Policy | None,
        limit: int | None,
        seconds: float | None,
        at: float | None,
        shield: bool,
        cleanup_budget: float,
        site: tuple[str, int] | FrameType,
    ) -> None:
        """What ``__init__`` does. ``bateau.scope`` calls it directly: 0.5 us less than through the keywords of a class."""
        Cancellable._set_up(self, seconds, at, shield, site)
        if limit is not None and not (type(limit) is int and limit >= 1):
            raise ValueError(f"limit must be a whole number of tasks, 1 or more, not {limit!r}")
        self.name = name or ""
        self.policy = policy if policy is not None else ALL_MUST_SUCCEED
        self.limit = limit
        self.cleanup_budget = cleanup_budget
        self.native: Any = None
        self._host: Host | None = None
        self._closing = False
        # The background has been told to end: what is spawned into it from now on is told at once.
        self._ending = False
        self._foreground = 0
        self._background = 0
        self._running = 0
        self._errors: list[BaseException] = []
        self._queued: deque[Task[Any]] | None = None
        self._delayed: dict[Task[Any], Timer] | None = None
        self._deferred: list[tuple[Callable[..., Any], tuple[Any, ...]]] | None = None
        self._drain: Drain | None = None
        self._token: Token | None = None

    # -- spawning ------------------------------------------------------------------------------------------------------

    @overload
    def spawn(
        self,
        fn: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        name: str | None = None,
        background: bool = False,
        priority: int = 0,
    ) -> Task[T]: ...
    @overload
    def spawn(
        self,
        fn: Coroutine[Any, Any, T],
        /,
        *,
        name: str | None = None,
        background: bool = False,
        priority: int = 0,
    ) -> Task[T]: ...
    def spawn(  # type: ignore[misc]  # mypy can't match *Ts with *args: Any
        self, fn: Any, /, *args: Any, name: str | None = None, background: bool = False, priority: int = 0
    ) -> Task[Any]:
        """Start ``fn(*args)`` (an async function, or a coroutine object) as a child task and return its handle.

        Returns at once; not a cancellation point. The child always runs up to its first wait, even if the scope is
        cancelled meanwhile, so that what it was given can be cleaned up. ``background=True``: cancelled when the body and
        the others have ended. ``priority`` is for scheduling policies. Raises ``ScopeError`` on a scope that is not open.
        """
        host = self._host
        if host is None or self._closing or host.thread_id != get_ident():
            host = self._check_open(fn)
        coro: Any
        if type(fn) is FunctionType and not args:
            coro = fn()  # as below, for half of the price
        else:
            coro = fn if type(fn) is CoroutineType else fn(*args) if callable(fn) else None  # pyright: ignore[reportUnknownVariableType]  # checked in the next line
        if type(coro) is not CoroutineType or coro is fn:
            coro = as_coroutine(fn, args, made=coro)
        task: Task[Any] = _new_task(Task)
        task._begin(host, coro, self, name, copy_context())  # pyright: ignore[reportUnknownArgumentType]  # of any T: the overloads say which
        frame = _getframe(1)
        task._site_code = frame.f_code
        task._site_offset = frame.f_lasti
        if self.policy is not ALL_MUST_SUCCEED and coro is not fn and self.policy.restarts:
            task.factory = (fn, args, copy_context())
        if priority:
            task.priority = priority
        if (
            not host.fifo
            or background
            or self.limit is not None
            or self.effective is not None
            or host.instrument is not None
        ):
            task._not_started()
            self._admit(task, background)
            return task
        # ``_admit`` written out for what is usual (measured: a short task costs a tenth less).
        if self.children is None:
            self.children = Children()
        self.children[task] = None
        self._foreground += 1
        task.started = True
        task.scheduled = True
        try:
            host.ready.append(task)
        except MemoryError:
            host.starved = True
        return task

    def spawn_blocking(self, fn: Callable[[*Ts], T], /, *args: *Ts, name: str | None = None) -> Task[T]:
        """Run the sync ``fn(*args)`` on a worker thread, as a child task; the handle awaits its result.

        Cancelling the handle does not kill the thread; the scope waits until the function has returned.
        """
        if run_blocking is None:
            raise RuntimeError("worker threads are not available: bateau's kernel is used without the bateau package")
        host = self._check_open(fn)
        task: Task[T] = Task(
            host,
            run_blocking(fn, *args),
            scope=self,
            name=name or getattr(fn, "__qualname__", None),
            site=_getframe(1),
            context=copy_context(),
        )
        self._admit(task, False)
        return task

    async def start(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, name: str | None = None) -> Any:
        """Spawn ``fn(*args, task_status=...)`` and wait until it calls ``task_status.started(value)``; returns the value.

        A cancellation point. If the child fails before it is started, its error is raised here; if this wait is
        cancelled, the child is cancelled and awaited first.
        """
        host = self._check_open(fn)
        status: Starting[Any] = Starting()
        coro = as_coroutine(fn, args, {"task_status": status})
        task = Task(host, coro, scope=self, name=name, site=_getframe(1), context=copy_context())
        task.starting = status
        status.child = task
        self._admit(task, False)
        try:
            return await status.wait()
        except BaseException:
            task.starting = None  # nobody waits for its start any more: from here on the policy hears of its end
            if not task.ended:
                task.cancel("the wait for its start was cancelled")
                await self._wait_for_end(task)
            raise

    async def _wait_for_end(self, task: Task[Any]) -> None:
        """Wait for a task that was cancelled, however it ends: its scope knows."""
        try:
            await ShieldedJoin(task)
        except (TaskCancelled, Exception):
            return

    def _check_open(self, fn: Any) -> Host:
        host = self._host
        wrong: type[BateauError] = ScopeError
        if self.task is None:
            problem = "it has not been entered: write `async with scope:` around it"
        elif host is None or (self._closing and not (self._foreground or self._background)):
            problem = "it has ended"
        elif host.thread_id != get_ident():
            wrong = WrongRuntime
            problem = (
                f"this is thread {get_ident()}, and it lives in {host.describe()}; hand the call over: "
                "`bateau.thread.from_thread.run_sync(scope.spawn, fn)` from a worker thread, or a `bateau.thread.portal()`"
            )
        else:
            return host
        if isinstance(fn, CoroutineType):
            fn.close()
        raise wrong(f"can't spawn into {self.describe()}: {problem}")

    def _admit(self, task: Task[Any], background: bool) -> None:
        if self.children is None:
            self.children = Children()
        self.children[task] = None
        if task.host.instrument is not None:
            task.host.instrument.spawn(task)
        if background:
            task.background = True
            self._background += 1
        else:
            self._foreground += 1
            if self.limit is not None:
                if self._running >= self.limit:
                    if self._queued is None:
                        self._queued = deque()
                    self._queued.append(task)
                    return
                self._running += 1
        task.started = True
        task.host.start(task)
        if task.effective is not None:
            deliver(task)
        if background and self._ending:
            task._cancel(others_ended(self))

    def _launch(self, task: Task[Any]) -> None:
        """Start a task that waited for its place, or for its restart."""
        task.started = True
        if task.host.instrument is not None:
            task.host.instrument.spawn(task)
        task.host.start(task)
        if task.effective is not None:
            deliver(task)

    # -- the ends of children ------------------------------------------------------------------------------------------

    def child_ended(self, task: Task[Any]) -> None:
        """Called by the task, once each time it ends."""
        children = self.children
        assert children is not None
        del children[task]
        if self.limit is not None and not task.background:
            self._running -= 1
        error = task._error
        if task.starting is not None or self.policy is not ALL_MUST_SUCCEED:
            self._judge(task)
            if not task.ended:
                return  # restarted: it still counts
        elif error is not None:
            if not isinstance(error, Cancelled):
                self._judge(task)
            elif self.record is not None:
                self.cancelled_caught = True
        if task.background:
            self._background -= 1
        else:
            self._foreground -= 1
        if self._queued and (self.limit is None or self._running < self.limit):
            self._running += 1
            self._launch(self._queued.popleft())
        drain = self._drain
        if drain is not None and not self._foreground and drain.satisfied():
            self._drain = None
            drain.fire(None)

    def _judge(self, task: Task[Any]) -> None:
        """Not the usual end of a child: who waits for its start or the policy has a say in what it means."""
        error = task._error
        starting = task.starting
        if starting is not None and not starting.is_started:
            starting.child_ended(error, task.was_cancelled)
        elif not self._dealt_with(task) and error is not None and not task.was_cancelled:
            task.error_seen = True
            self._errors.append(error)
        if task.ended and self.record is not None and task.was_cancelled:
            self.cancelled_caught = True

    def _dealt_with(self, task: Task[Any]) -> bool:
        """Ask the policy. One that fails itself is a failure of the scope; the counting goes on."""
        try:
            return self.policy.child_ended(self, task)
        except BaseException as failure:
            self._errors.append(failure)
            self._cancel(CancelRecord("the scope's policy failed", cause=failure, site=self.site))
            return False

    def restart(self, task: Task[Any], delay: float) -> None:
        """For supervision: run the task's function again, ``delay`` seconds from now, under the same handle.

        A task whose restart is delayed keeps its place under ``limit``. Asked to stop meanwhile, it is given up.
        """
        restart(self, task, delay)

    def hurry(self, task: Task[Any]) -> None:
        """A delayed restart is due, or must not be waited for any longer."""
        hurry(self, task)

    # -- stopping ------------------------------------------------------------------------------------------------------

    def stop(self, grace: float | None = None, reason: str = "asked to stop") -> None:
        """Ask everything inside to stop: phase one. Not a cancellation point.

        ``bateau.stopping()`` turns true, ``on_stop`` callbacks run, accept loops and iterators end, running work goes on.
        After ``grace`` seconds (None: never) the scope is cancelled: phase two.
        """
        grace = check_seconds(grace, "grace")
        self.check_thread("stop")
        task = current_task_or_none()
        record = CancelRecord(reason, task_name=task.name if task is not None else None)
        self._stop(record)
        if grace is not None and self._host is not None and self.record is None:
            when = self._host.now() + grace
            if self.deadline_at is None or when < self.deadline_at:
                self._disarm()
                self.deadline_at = when
                self.relative = grace
                self._arm(self._host)

    @property
    def token(self) -> Token:
        """A token view of this scope, for other threads and for code that polls or wants to be called back.

        It fires when the scope is stopped or cancelled, from wherever; cancelling or stopping it does so to the scope.
        Raises ``ScopeError`` on a scope that has not been entered.
        """
        if self._token is None:
            from .token import ScopeToken

            if self._host is None:
                raise ScopeError(f"{self.describe()} has no token yet: write `async with scope:` around it")
            self._token = ScopeToken(self, self._host)
        return self._token

    # -- what must be closed -------------------------------------------------------------------------------------------

    def own(self, obj: T) -> T:
        """Close ``obj`` (its ``aclose()`` or ``close()``) when the scope ends, after the children. Returns ``obj``."""
        close = getattr(obj, "aclose", None) or getattr(obj, "close", None)
        if close is None:
            raise TypeError(f"a {type(obj).__name__} has neither aclose() nor close(); use scope.defer(fn, ...)")
        self.defer(close)
        return obj

    def defer(self, fn: Callable[[*Ts], Any], /, *args: *Ts) -> None:
        """Call ``fn(*args)``, sync or async, when the scope ends: after the children, last deferred first."""
        if not callable(fn):
            raise TypeError(f"defer needs a function, not {type(fn).__name__}")
        if self._host is None:
            problem = "has not been entered" if self.task is None else "has ended"
            raise ScopeError(f"can't defer in {self.describe()}: it {problem}")
        self.check_thread("defer in")
        if self._deferred is None:
            self._deferred = []
        self._deferred.append((fn, args))

    # -- the block -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Scope:
        self._host = host = self._enter().host
        if host.foreign_tree:
            await host.open_scope(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
        native: BaseException | None = None,
    ) -> bool | None:
        # ``native``: a cancellation that foreign code threw into the wait for the children, while the twin had that.
        host, parent, task = self._host, self.parent, self.task
        assert host is not None and parent is not None and task is not None
        if current_task_or_none() is not task:
            leave(self, exc)  # raises, naming both tasks
        self._closing = True
        cancelled = native
        failure: BaseException | None = None
        if native is not None and self.effective is None:
            self._cancel(CancelRecord(FROM_OUTSIDE))
        if exc is not None:
            host.sync(task)
            cancelled, failure = host.split_cancelled(exc)
            if failure is not None:
                self._cancel(CancelRecord(f"the body failed with {type(exc).__name__}", task_name=task.name, cause=exc))
            elif self.effective is None:
                self._cancel(CancelRecord(FROM_OUTSIDE, task_name=task.name))
        if self._foreground or self._background or task.budget <= 0:
            cancelled = await wait_for_children(self, cancelled)
        else:
            task.budget -= (
                1  # nothing to wait for: counted all the same, so that a loop of empty scopes lets others run
            )
        if self._deferred:
            cancelled = await run_deferred(self, cancelled)
        if host.foreign_tree:
            cancelled = await host.close_scope(self, cancelled)
        own = self.record is None or self.record.reason is not FROM_OUTSIDE
        absorbed: bool | None = False
        try:
            absorbed = leave(self, cancelled, own)
        except ScopeError as misuse:
            if not self._errors:
                raise
            self._errors.append(misuse)  # what the children failed with must not be lost behind it
        if not own:
            self.cancelled_caught = False  # its children were cut short, but not by itself
        self._host = None
        error = to_raise(self, failure)
        if error is not None:
            if cancelled is not None and not absorbed and parent.effective is None and not host.foreign_tree:
                host.rearm(task, cancelled)  # a native cancellation must not be lost behind the errors
            if error is exc:
                return False
            try:
                raise error
            finally:
                del error, failure, cancelled, exc, native  # the traceback holds this frame: a cycle otherwise
        if cancelled is not None:
            if absorbed or cancelled is exc:
                return absorbed
            raise cancelled
        if parent.effective is not None or (host.foreign_tree and host.is_cancelled(task)):
            await Checkpoint()
        return False

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return (self._drain,) if self._drain is not None else ()

    def satisfiers(self) -> tuple[Task[Any], ...]:
        return self.tasks

    @property
    def tasks(self) -> tuple[Task[Any], ...]:
        """The children that have not ended, in the order they were spawned."""
        found: list[Task[Any]] = [child for child in self.children or () if isinstance(child, Task)]
        return tuple(found)

    def describe(self) -> str:
        label = f"scope {self.name!r}" if self.name else "scope"
        return f"{label} ({self.site[0]}:{self.site[1]})"

    def __repr__(self) -> str:
        return f"<{self.describe()}, {self._foreground + self._background} tasks>"
