"""Tasks: a coroutine, its place in the cancellation tree, and the handle through which others await it."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from .cancellation import CancelNode
from .current import current_task_or_none
from .errors import PACKAGE_DIR, Cancelled, CancelRecord, TaskCancelled, WrongRuntime, line_of
from .foreign import explain_foreign
from .operation import STEP_BUDGET, Guard, Operation
from .recursion import shorten_recursion
from .resource import OUTSIDE, Resource, WaitQueue
from .twin import JoinFields, TaskFields, keep, native, slots, twinned

if TYPE_CHECKING:
    from .host import Host
    from .scope import Scope

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

_counter = 0


def last_number() -> int:
    """The ``id`` of the task made last."""
    return _counter


def count_from(number: int) -> None:
    """Number the tasks made from now on after ``number``. For the simulator, whose runs must not tell how many came before."""
    global _counter
    _counter = number


if not TYPE_CHECKING and native is not None:  # which numbers all tasks
    last_number = native.last_number
    count_from = native.count_from


class Seldom:
    """A field that few tasks ever set: it is kept in a dictionary that only those have.

    Reading one costs about 0.1 us. A slot would cost every task its share of being made, visited by the collector and freed.
    """

    def __init__(self, default: Any) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, task: Task[Any] | None, owner: type | None = None) -> Any:
        if task is None:
            return self
        extra = task._extra
        return self.default if extra is None else extra.get(self.name, self.default)

    def __set__(self, task: Task[Any], value: Any) -> None:
        if task._extra is None:
            task._extra = {}
        task._extra[self.name] = value


class Outcome(Generic[T_co]):
    """How a task ended: with a value, an error, or cancelled (``error`` is then the cancellation)."""

    __slots__ = ("_value", "cancelled", "error")

    def __init__(self, value: Any, error: BaseException | None, cancelled: bool) -> None:
        self._value = value
        self.error = error
        self.cancelled = cancelled

    @property
    def ok(self) -> bool:
        """Whether it returned."""
        return self.error is None

    def unwrap(self) -> T_co:
        """The value; raises the task's error, or ``TaskCancelled``."""
        error = self.error
        if error is None:
            return self._value  # type: ignore[no-any-return]  # a T once it has ended, and unset before
        if self.cancelled:
            raise _as_task_cancelled("the task", error)
        raise error

    def __repr__(self) -> str:
        if self.error is None:
            return f"<Outcome value={self._value!r}>"
        return "<Outcome cancelled>" if self.cancelled else f"<Outcome error={self.error!r}>"


@twinned("_begin", "finish", "__await__", "join")
class Task(TaskFields, CancelNode, Resource, Generic[T_co]):
    """A running piece of a program; await it for its result.

    ``await task`` returns the task's value or raises its error; a cancelled task raises ``TaskCancelled`` in a stranger,
    and inside a failing scope the await raises ``Cancelled``. It is a cancellation point; cancelling the wait does not
    cancel the task.

    Invariants: ``node`` is the innermost node entered and not left (the task itself at first). ``waiting`` is set exactly
    while the task is parked in one of our operations. ``ended`` is final, and set before anyone is told. Once it has ended
    and everyone was told, it no longer refers to itself (``task``, ``node``): it goes with the last handle, and the garbage
    collector has no part in it (it took a sixth of the cost of a short task). ``_value`` is set once it has ended,
    ``error_seen`` once it has ended with an error; ``host_task`` and ``parked`` may be unset where an engine drives.
    """

    __slots__ = slots(
        "_error",
        "_extra",
        "_name",
        "_site_code",
        "_site_offset",
        "_value",
        "at_end",
        "background",
        "budget",
        "context",
        "coro",
        "delivered",
        "ended",
        "error_seen",
        "face",
        "foreign",
        "guard",
        "host",
        "host_task",
        "id",
        "joiners",
        "node",
        "parked",
        "scheduled",
        "scope",
        "send",
        "started",
        "starting",
        "throwing",
        "waiting",
    )
    kind = "task"

    # For scheduling policies: see ``bateau.scheduling``.
    priority = Seldom(0)
    # For supervision: makes the coroutine anew.
    factory = Seldom(None)
    # The stack of a boxed recursion.
    boxes = Seldom(None)
    # The coroutines above this one, where it is resumed directly: see ``direct``.
    aside = Seldom(None)
    if not TYPE_CHECKING:  # which take them from CancelNode
        on_stop_calls = Seldom(None)
        given = Seldom(0)
        host_data = Seldom(None)

    def __init__(
        self,
        host: Host,
        coro: Coroutine[Any, Any, T_co] | None,
        scope: Scope | None = None,
        name: str | None = None,
        site: FrameType | tuple[str, int] = ("<unknown>", 0),
        context: Context | None = None,
    ) -> None:
        self._begin(host, coro, scope, name, context)
        self._not_started()
        # Where it was spawned: a (file, line) pair, or a code object and an offset into it, from which the line is worked
        # out only when somebody asks (saves 0.1 us per spawn, and keeps no frame alive).
        if isinstance(site, tuple):
            self._site_code: CodeType | tuple[str, int] = site
            self._site_offset = 0
        else:
            self._site_code = site.f_code
            self._site_offset = site.f_lasti

    def _begin(
        self,
        host: Host,
        coro: Coroutine[Any, Any, T_co] | None,
        scope: Scope | None,
        name: str | None,
        context: Context | None,
    ) -> None:
        """Set every field but the site and those of ``_not_started``. ``Scope.spawn`` calls this instead of ``__init__``: CPython 3.11 calls a function written in
        Python without leaving the interpreter's loop, and an ``__init__`` not (0.05 us).
        """
        global _counter
        _counter = self.id = _counter + 1
        self.children = None
        self.task = self
        self.record = None
        self.node: CancelNode = self
        self.host = host
        # The host's ``foreign_tree``, where every operation looks.
        self.foreign = host.foreign_tree
        self.coro = coro
        # ``coro.send``, kept by an engine from the second suspension on (False: it has had its first): making the bound method at
        # each step costs 30 ns, and having it in 100,000 tasks that only sleep costs a collector that visits them more than that.
        self.send: Any = None
        self.scope = scope
        if scope is None:
            self.parent = None
            self.effective = None
            self.stopping = None
        else:
            self.parent = scope
            self.effective = scope.effective
            self.stopping = scope.stopping
        self.context = context
        self._name = name
        self._error: BaseException | None = None
        self._extra: dict[str, Any] | None = None
        self.ended = False
        self.background = False
        self.budget = STEP_BUDGET
        self.waiting: Operation[Any] | None = None
        # The cancellation last raised in this task, until it is seen to have done its work (law 8).
        self.delivered: BaseException | None = None
        self.joiners: WaitQueue | None = None
        # An exception to throw at the next step, and the face it shows to asyncio.
        self.throwing: BaseException | None = None
        self.face: Any = None
        # Told when the coroutine has ended, by key: the locks that others wait for while this task holds them.
        self.at_end: dict[object, Callable[[Task[Any]], None]] | None = None
        # For ``scope.start``: the status object whose failure goes to the starter, not to the policy.
        self.starting: Any = None
        # What must not stay open over a wait (the borrow of a ``Cell``); ``yield_once`` asks it.
        self.guard: Guard | None = None

    def _not_started(self) -> None:
        """Set what ``Scope.spawn`` sets otherwise, or not at all, for a task that goes straight into an engine's queue."""
        self.started = False
        # Whether it is in a ready queue.
        self.scheduled = False
        # Of hosts that ride on another loop: its native task there, and what it is parked on.
        self.host_task: Any = None
        self.parked: Any = None

    # -- the handle ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name given at spawn, or one made of the function and a number."""
        name = self._name
        if name is None:
            base = getattr(self.coro, "__qualname__", None) or "task"
            name = self._name = f"{base}-{self.id - self.host.first_id}"
        return name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def spawn_site(self) -> tuple[str, int]:
        """File and line of the ``spawn`` that made it."""
        return line_of(self._site_code, self._site_offset)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.ended

    @property
    def was_cancelled(self) -> bool:
        """Whether it has ended with a cancellation."""
        return isinstance(self._error, Cancelled)

    def cancel(self, reason: str = "task cancelled") -> bool:
        """Cancel this task: from now on each of its operations raises ``Cancelled``, until it ends.

        Returns at once (not a cancellation point), whether this was news. Await the task to know that it has ended.
        Raises ``WrongRuntime`` on another thread than the task's own.
        """
        if self.ended:
            return False
        self._check_thread("cancel")
        caller = current_task_or_none()
        record = CancelRecord(reason, task_name=caller.name if caller is not None else None)
        return self._cancel(record)

    def stop(self, reason: str = "asked to stop") -> None:
        """Ask this task to stop: the first phase, see ``Scope.stop``. From the runtime's thread only, as ``cancel``."""
        if self.ended:
            return
        self._check_thread("stop")
        caller = current_task_or_none()
        self._stop(CancelRecord(reason, task_name=caller.name if caller is not None else None))

    def _check_thread(self, verb: str) -> None:
        host = self.host
        if host.thread_id != get_ident():
            raise WrongRuntime(
                f"can't {verb} task {self.name!r} from thread {get_ident()}: it lives in {host.describe()}; hand the call over "
                f"(`bateau.thread.from_thread.run_sync(task.{verb})` from a worker thread, or a `bateau.thread.portal()`), or "
                "cancel a token of its scope, which works from any thread"
            )

    def outcome(self) -> Outcome[T_co]:
        """How it ended; raises ``RuntimeError`` while it has not."""
        if not self.ended:
            raise RuntimeError(f"task {self.name!r} has not ended yet; await it first")
        self.error_seen = True
        return Outcome(self._value, self._error, self.was_cancelled)

    def __await__(self) -> Generator[Any, Any, T_co]:
        return Join(self).__await__()

    def join(self) -> Join[T_co]:
        """The operation that ``await task`` runs, for ``select``."""
        return Join(self)

    # -- the end -------------------------------------------------------------------------------------------------------

    def finish(self, value: Any, error: BaseException | None) -> None:
        """The coroutine has ended; called once, by the host. First the scope learns it, then those who wait."""
        if self.ended:
            return
        self.ended = True
        self.context = None
        self.delivered = None
        self._value = value
        if error is not None:
            self._failed(error)
        if self.host.instrument is not None:
            self.host.instrument.end(self, error)
        scope = self.scope
        if scope is not None:
            scope.child_ended(self)
        if self.ended:  # a supervisor may have restarted it
            self.task = None
            if self.node is self:  # else a scope was left open in it: whoever leaves that will be told so
                self.node = NOWHERE
            if self.joiners is not None:
                self._tell_joiners()
        if self.at_end is not None:
            self._tell_watchers()

    def _tell_joiners(self) -> None:
        assert self.joiners is not None
        while (op := self.joiners.pop()) is not None:
            self.error_seen = True
            settle(op, self)

    def _tell_watchers(self) -> None:
        calls, self.at_end = self.at_end, None
        for call in tuple((calls or {}).values()):
            call(self)

    def _failed(self, error: BaseException) -> None:
        """It ends with an error: make that error say where it comes from."""
        self._error = error
        self.error_seen = False
        self.waiting = None  # a coroutine that was closed may not have come by there
        if isinstance(error, Cancelled):
            _drop_our_frames(error)
            return
        if isinstance(error, RecursionError):
            shorten_recursion(error)
        explain_foreign(error, self)
        _note_spawn_site(error, self.name, self.spawn_site)

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return self.joiners or ()

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        return (self,) if not self.ended else OUTSIDE

    def describe(self) -> str:
        return f"task {self.name!r}"

    def __repr__(self) -> str:
        if self.ended:
            state = "cancelled" if self.was_cancelled else "failed" if self._error is not None else "done"
        elif self.waiting is not None:
            state = f"waiting: {self.waiting.describe()}"
        else:
            state = "active"
        return f"<Task {self.name!r} {state}>"


def _drop_our_frames(error: BaseException) -> None:
    """Cut the end of a cancellation's traceback that is bateau's own: those frames hold the task, and the task its error.

    Ten thousand cancelled tasks are then freed as they end, and not by the garbage collector, which took half of the time.
    """
    found = error.__traceback__
    last = None
    while found is not None:
        if not found.tb_frame.f_code.co_filename.startswith(PACKAGE_DIR):
            last = found
        found = found.tb_next
    if last is not None:
        last.tb_next = None
    else:
        error.__traceback__ = None


# The innermost node of every task that has ended: nothing reaches it.
NOWHERE = CancelNode()
keep(nowhere=NOWHERE, cancelled=Cancelled, package_dir=PACKAGE_DIR)


@twinned(final=True)
class Join(JoinFields, Operation[T]):
    """Waiting for a task to end."""

    __slots__ = slots("target")

    def __init__(self, target: Task[T]) -> None:
        super().__init__(target)
        self.target = target

    def poll(self) -> bool:
        if not self.target.ended:
            return False
        self.target.error_seen = True
        _settle_now(self, self.target)
        return True

    def register(self) -> None:
        if self.target is self.task:
            raise RuntimeError(f"task {self.target.name!r} awaits itself; it would never end")
        if self.target.joiners is None:
            self.target.joiners = WaitQueue()
        self.target.joiners.add(self)

    def unregister(self) -> None:
        if self.target.joiners is not None:
            self.target.joiners.discard(self)

    def describe(self) -> str:
        return f"await of {self.target.describe()}"


def _settle_now(op: Operation[Any], task: Task[Any]) -> None:
    """Put the outcome of ``task`` into an operation that has not parked."""
    error = task._error
    if error is None:
        op.value = task._value
    elif task.was_cancelled:
        op.error = _as_task_cancelled(f"task {task.name!r}", error)
    else:
        op.error = error


def settle(op: Operation[Any], task: Task[Any]) -> None:
    """Fire a parked operation with the outcome of ``task``."""
    _settle_now(op, task)
    if op.error is not None:
        op.fail(op.error)
    else:
        op.fire(op.value)


keep(settle=settle)


def _as_task_cancelled(who: str, error: BaseException) -> TaskCancelled:
    record = error.record if isinstance(error, Cancelled) else None
    reason = f": {record}" if record is not None else ""
    result = TaskCancelled(f"{who} was cancelled{reason}", record)
    result.__cause__ = error
    return result


def _note_spawn_site(error: BaseException, name: str, site: tuple[str, int]) -> None:
    """Tracebacks end where the task began; this note leads on to who spawned it (law 18)."""
    if site[0] == "<unknown>":
        return  # a program's main task: nobody spawned it
    try:
        error.add_note(f"in task {name!r}, spawned at {site[0]}:{site[1]}")
    except (AttributeError, TypeError):
        return  # an exception that takes no notes is still delivered
