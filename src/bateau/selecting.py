"""``select``: wait on several things at once, and lose nothing of what was not chosen (law 3).

Theory of operation. An *arm* is a name and something that gives values. If what it gives is an operation, the operation is
registered with its resource only while the select waits, and has its effect only if it is the one chosen: the resource asks
first (``Watcher.claim``), and one arm alone hears yes. Anything else (an async function, say) is a child task of the select
that goes on working while the body runs and holds at most one result until it is taken.

An arm is armed anew when the next wait begins after its delivery: an operation that was not chosen stays the same one over
many waits (a ``sleep`` is not started over), and what came to hand though its wait was cancelled is kept for the next wait.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock, get_ident
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Hashable, Iterable, Iterator, Mapping
from types import CoroutineType, TracebackType
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, overload

from .kernel.errors import Busy, CancelRecord, EndOfStream, ScopeError, Stopped, TaskCancelled, user_site
from .kernel.hazard import report
from .kernel.operation import ABORTED, DONE, FIRED, PARKED, Operation, RetryOperation, Watcher
from .kernel.policy import AllMustSucceed, Policy
from .kernel.resource import Resource
from .kernel.scope import Scope
from .kernel.task import Outcome, Task

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# What an arm may be: a function without arguments that gives a fresh awaitable each time, a stream, or one awaitable.
Arm: TypeAlias = Callable[[], Awaitable[T]] | AsyncIterable[T] | Awaitable[T]
OnLoser: TypeAlias = Callable[[Any, Any], object]

# How a stream says that it is over.
_ENDS = (EndOfStream, Stopped, StopAsyncIteration)


class Event(NamedTuple, Generic[K, T]):
    """What a select delivers: the arm's name and the value."""

    name: K
    value: T


class Chosen(Event[K, T]):
    """What ``await select(...)`` gives: the arm's name and value; ``also`` and ``failed`` tell of the others.

    ``also`` holds the values of arms that had finished as well and that no ``on_loser`` took; ``failed`` the errors of arms
    that failed while they were cancelled.
    """

    also: tuple[Event[Any, Any], ...]
    failed: tuple[Event[Any, Exception], ...]


class _Arm:
    """One arm. Invariants: at most one of ``op``, ``task``, ``outcome`` is set; ``factory`` is None for a single-use arm."""

    __slots__ = ("factory", "key", "made", "op", "outcome", "task", "undo")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.factory: Callable[[], Any] | None = None
        # Made, but neither registered nor started yet: an awaitable that will run as a child.
        self.made: Any = None
        self.op: Operation[Any] | None = None
        self.task: Task[Any] | None = None
        self.outcome: Outcome[Any] | None = None
        # Gives an undelivered effect back, where the operation can.
        self.undo: Callable[[Any], None] | None = None

    @property
    def idle(self) -> bool:
        """Whether it has to be armed."""
        return self.op is None and self.task is None and self.outcome is None and self.made is None


class Select(Resource, Generic[K, T]):
    """A growable select: ``async with Select() as sel``, then ``insert``, ``remove``, ``len``, ``await sel.next()``, iterate.

    ``biased``: look at the arms in the order of their insertion each time, so that the first go first; else those that were
    served last come last, and no busy arm starves another. ``on_end``: what to do with an arm that is over (``EndOfStream``,
    ``StopAsyncIteration``): ``"drop"`` it quietly, or ``"raise"`` an ``EndOfStream``. ``on_loser(name, value)``, sync or
    async, is called for each value that had come but was not taken when the block is left; without it they are in
    ``unclaimed``. An arm that fails is dropped, and its error raised by the wait, with a note that names the arm; an error
    nobody waited for is raised when the block is left, in an ``ExceptionGroup``.
    """

    __slots__ = (
        "_closing",
        "_failed",
        "_left_over",
        "_on_end",
        "_on_loser",
        "_once",
        "_scope",
        "_tasks",
        "_waiting",
        "arms",
        "biased",
        "last",
        "site",
        "unclaimed",
    )
    kind = "select"

    def __init__(
        self,
        arms: Mapping[K, Arm[T]] | None = None,
        /,
        *,
        on_loser: OnLoser | None = None,
        biased: bool = False,
        on_end: Literal["drop", "raise"] = "drop",
    ) -> None:
        if on_end not in ("drop", "raise"):
            raise ValueError(f"on_end must be 'drop' or 'raise', not {on_end!r}")
        if on_loser is not None and not callable(on_loser):  # pyright: ignore[reportUnnecessaryComparison]  # users are not type-checked
            raise TypeError(f"on_loser must be a function of a name and a value, not {type(on_loser).__name__}")
        # In the order in which they are looked at: not biased, the one served last is moved to the end.
        self.arms: dict[K, _Arm] = {}
        self.biased = biased
        self._on_loser = on_loser
        self._on_end = on_end
        self._once = False
        self._closing = False
        self._tasks: dict[Task[Any], _Arm] = {}
        self._scope: Scope | None = None
        self._waiting: Next[K, T] | None = None
        self._left_over: list[Event[Any, Any]] = []
        self._failed: list[Event[Any, Exception]] = []
        self.site = user_site(sys._getframe(1))
        self.last: K | None = None
        self.unclaimed: tuple[Event[Any, Any], ...] = ()
        for key, arm in (arms or {}).items():
            self.insert(key, arm)

    # -- the arms ----------------------------------------------------------------------------------------------------

    def insert(self, key: K, arm: Arm[T], /) -> None:
        """Add an arm under a key of its own. Not a cancellation point; a wait that is going on takes it in.

        ``arm``: a function without arguments giving an awaitable, called again after each delivery (``rx.recv``, an async
        function); an async iterator; or a single awaitable, whose arm ends with its one result. Raises ``ValueError`` for
        a key that is in use, ``TypeError`` for what is no arm.
        """
        if key in self.arms:
            raise ValueError(f"this select has an arm {key!r} already; remove it first, or use another name")
        made = _Arm(key)
        source: Any = arm
        if isinstance(source, Task):
            made.made = source.join()
        elif hasattr(source, "__anext__"):
            made.factory = source.__anext__
        elif hasattr(source, "__aiter__"):
            made.factory = source.__aiter__().__anext__
        elif hasattr(source, "__await__"):
            made.made = source
        elif callable(source):
            made.factory = source
        else:
            raise TypeError(
                f"arm {key!r} is a {type(source).__name__}; it must be a function that gives an awaitable, "
                "an async iterator, or an awaitable"
            )
        self.arms[key] = made
        if self._scope is not None:
            self._arm(made)
            if self._waiting is not None:
                self._waiting.hint()

    def remove(self, key: K, /) -> None:
        """Take an arm out. A child task of it is cancelled; a result of its that nobody took counts as a loser's.

        Raises ``KeyError`` for an unknown key. Not a cancellation point: the child may still be cleaning up.
        """
        arm = self.arms.pop(key)
        if arm.task is not None:
            arm.task.cancel("its arm was removed from the select")
        if arm.op is not None and arm.op.state is PARKED:
            arm.op.abort()
        if arm.op is not None and arm.op.state is FIRED:
            _harvest(arm)
        if arm.outcome is not None:
            self._lose(arm)
        if self._waiting is not None and not self.arms:
            self._waiting.hint()

    def __len__(self) -> int:
        return len(self.arms)

    def __contains__(self, key: object) -> bool:
        return key in self.arms

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self.arms))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def next(self) -> Next[K, T]:
        """Await it: the next ``Event``. A cancellation point; cancelled or timed out, nothing is lost, so call it again.

        Raises an arm's error, ``EndOfStream`` when no arm is left, ``Busy`` if another task waits here already.
        """
        return Next(self)

    def __aiter__(self) -> Select[K, T]:
        return self

    def __anext__(self) -> Next[K, T]:
        return Next(self, at_end=StopAsyncIteration)

    async def __aenter__(self) -> Select[K, T]:
        if self._scope is not None or self._closing:
            raise ScopeError(f"{self.describe()} has been entered before; make a new one for each block")
        scope = Scope(name="select", policy=_Children(self), site=self.site)
        await scope.__aenter__()
        self._scope = scope
        if self._on_loser is not None:
            scope.defer(self._dispose)
        for arm in tuple(self.arms.values()):
            self._arm(arm)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        scope = self._scope
        if scope is None:
            raise ScopeError(f"{self.describe()} has not been entered")
        self._close()
        try:
            absorbed = await scope.__aexit__(exc_type, exc, tb)
        finally:
            if self._on_loser is None:
                self.unclaimed = tuple(self._left_over)
        return absorbed

    # -- arming and taking -------------------------------------------------------------------------------------------

    def _arm(self, arm: _Arm) -> None:
        """Make the next awaitable of an idle arm; start it if it has to run as a child."""
        if arm.idle and arm.factory is not None:
            try:
                made: Any = arm.factory()
                if not hasattr(made, "__await__"):
                    raise TypeError(f"arm {arm.key!r} gave a {type(made).__name__}, not an awaitable")
                arm.made = made
            except Exception as error:
                arm.outcome = Outcome(None, error, False)
                return
        made = arm.made
        if isinstance(made, Operation) and self._direct(arm, made):
            made.state = ABORTED  # it is ours now, and will not be awaited by itself
            arm.op, arm.made = made, None
        elif made is not None and self._scope is not None:
            arm.made = None
            task = self._scope.spawn(made, name=f"select arm {arm.key!r}", background=True)
            task._site_code = self.site
            arm.task = task
            self._tasks[task] = arm

    def _direct(self, arm: _Arm, op: Operation[Any]) -> bool:
        """Whether an operation can be taken back and tried again, so that it need not run as a child."""
        again = arm.factory is not None or self._once or isinstance(op, Next)
        return op.selectable and (again or not isinstance(op, RetryOperation))

    def _child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        arm = self._tasks.pop(task, None)
        error = task._error
        if error is not None and not isinstance(error, Exception) and not task.was_cancelled:
            return AllMustSucceed().child_ended(scope, task)
        task.error_seen = True
        if arm is None:
            return True
        if self._closing or self.arms.get(arm.key) is not arm:
            arm.task = None
            if task.was_cancelled or isinstance(error, _ENDS):
                return True
            if error is None:
                self._left_over.append(Event(arm.key, task._value))
                return True
            assert isinstance(error, Exception)
            if self._once:
                self._failed.append(Event(arm.key, error))
            return self._once
        arm.task = None
        arm.outcome = _outcome_of(task)
        if self._waiting is not None:
            self._waiting.hint()
        return True

    def _take(self, arm: _Arm) -> Outcome[Any]:
        """Hand out an arm's result; whoever was served last is looked at last."""
        outcome = arm.outcome
        assert outcome is not None
        arm.outcome = arm.undo = None
        self.last = arm.key
        if arm.factory is None or outcome.error is not None:
            self.arms.pop(arm.key, None)
        elif not self.biased:
            self.arms.pop(arm.key, None)
            self.arms[arm.key] = arm
        return outcome

    # -- the end -----------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Nothing will be taken any more: sort out what has come."""
        self._closing = True
        for arm in self.arms.values():
            if arm.outcome is not None:
                self._lose(arm)
            if isinstance(arm.made, CoroutineType):
                arm.made.close()  # it never started
        if self._waiting is not None:
            self._waiting.hint()

    def _lose(self, arm: _Arm) -> None:
        outcome, arm.outcome = arm.outcome, None
        assert outcome is not None
        error = outcome.error
        if error is None:
            if arm.undo is not None:
                arm.undo(outcome.unwrap())
            else:
                self._left_over.append(Event(arm.key, outcome.unwrap()))
        elif isinstance(error, Exception) and not isinstance(error, _ENDS):
            _note(error, arm.key, self)
            if self._once or self._scope is None:
                self._failed.append(Event(arm.key, error))
            else:
                self._scope._errors.append(error)

    async def _dispose(self) -> None:
        """Give every loser's value to ``on_loser``, whatever it raises for the others."""
        assert self._on_loser is not None
        errors: list[Exception] = []
        while self._left_over:
            event = self._left_over.pop(0)
            try:
                result: Any = self._on_loser(event.name, event.value)
                if hasattr(result, "__await__"):
                    await result
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup("on_loser failed", errors)

    # -- as a resource -------------------------------------------------------------------------------------------------

    def waiters(self) -> Iterable[Operation[Any]]:
        return (self._waiting,) if self._waiting is not None else ()

    def satisfiers(self) -> Iterable[Task[Any]] | Literal["outside"]:
        found: dict[Task[Any], None] = {}
        for arm in self.arms.values():
            if arm.task is not None:
                found[arm.task] = None
            elif arm.op is not None:
                who = arm.op.resource.satisfiers()
                if isinstance(who, str):
                    return "outside"
                found.update(dict.fromkeys(who))
        return tuple(found)

    def describe(self) -> str:
        arms = [f"{arm.key}: {arm.op.describe()}" if arm.op is not None else f"{arm.key}" for arm in self.arms.values()]
        shown = "; ".join(arms[:4]) + (f"; and {len(arms) - 4} more" if len(arms) > 4 else "")
        return f"select ({self.site[0]}:{self.site[1]}) over [{shown}]"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


class _Children(Policy):
    """The ends of the arms' tasks are the select's business."""

    def __init__(self, select: Select[Any, Any]) -> None:
        self.select = select

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        return self.select._child_ended(scope, task)


class Next(RetryOperation[Event[K, T]], Watcher):
    """One wait of a select.

    Invariants: while PARKED, each arm that is an operation is PARKED with this as its watcher (or FIRED). ``_gate`` is held
    from the first granted claim until the next parking, so no second arm commits. ``_end`` is held from what ends the parking
    (a grant, a hint, an abort) until the next; it makes that end one, whichever thread it comes from.
    """

    __slots__ = ("_at_end", "_end", "_gate", "_raw", "_registering", "_wake_sent")
    resource: Select[K, T]

    def __init__(
        self,
        select: Select[K, T],
        *,
        at_end: type[BaseException] = EndOfStream,
        raw: bool = False,
    ) -> None:
        super().__init__(select)
        self._gate = allocate_lock()
        self._end = allocate_lock()
        self._at_end = at_end
        # For ``race`` and one-shot selects: deliver outcomes, failures and ends included, instead of raising.
        self._raw = raw
        self._registering = False
        self._wake_sent = False

    # -- trying ------------------------------------------------------------------------------------------------------

    def poll(self) -> bool:
        select = self.resource
        if select._waiting is not None and select._waiting is not self:
            other = select._waiting.task
            raise Busy(f"{select.describe()} is being waited on by task {other.name if other else '?'!r} already")
        if select._closing or (select._scope is None and not select._once):
            problem = "has been left" if select._closing else "has not been entered: write `async with` around it"
            raise ScopeError(f"{select.describe()} {problem}")
        select._waiting = self
        done = False
        try:
            while (arm := self._pick()) is not None:
                outcome = select._take(arm)
                error = outcome.error
                if self._raw:
                    self.value = (arm.key, outcome)
                elif error is None:
                    self.value = Event(arm.key, outcome.unwrap())
                elif isinstance(error, _ENDS) and select._on_end == "drop":
                    self._withdraw()
                    continue
                else:
                    done = True
                    raise _named(error, arm.key, select)
                done = True
                return True
            if not select.arms:
                done = True
                raise self._at_end(*(() if self._at_end is StopAsyncIteration else (f"{select.kind}: no arm is left",)))
            return False
        except BaseException:
            done = True
            raise
        finally:
            if done:
                self._gate.acquire(False)  # what has not been granted by now has lost
                self._let_go()

    def _pick(self) -> _Arm | None:
        """An arm with a result, if need be by trying the operations: in order, but the simulator may choose the first."""
        select = self.resource
        task = self.task
        assert task is not None
        arms = list(select.arms.values())
        for arm in arms:
            if arm.op is not None and arm.op.state is FIRED:
                _harvest(arm)
            elif arm.idle or arm.made is not None:
                select._arm(arm)
        choose = getattr(task.host, "choose", None)
        if choose is not None and len(arms) > 1 and not select.biased:
            first = choose(len(arms))
            arms = arms[first:] + arms[:first]
        for arm in arms:
            if arm.outcome is not None:
                return arm
            if arm.op is not None and arm.op.state is not PARKED and _try(arm, arm.op, task):
                return arm
        return None

    # -- parking -----------------------------------------------------------------------------------------------------

    def register(self) -> None:
        select = self.resource
        task = self.task
        assert task is not None
        fired = False
        self._registering = True
        self._wake_sent = False
        if self._end.locked():
            self._end.release()
        for arm in select.arms.values():
            op = arm.op
            if op is not None and op.state not in (PARKED, FIRED):
                op.watcher = self
                _park(arm, op, task)
            fired = fired or arm.outcome is not None or (arm.op is not None and arm.op.state is FIRED)
            if fired or self.state is FIRED:
                break
        self._registering = False
        if fired and self._end.acquire(False):
            self.state = FIRED

    def wait_hint(self, task: Task[Any]) -> Generator[Any, Any, None]:
        if self.state is FIRED and not self._wake_sent:
            return
        try:
            yield from super().wait_hint(task)
        except BaseException:
            self._let_go()
            raise

    def unregister(self) -> None:
        self._let_go()

    def abort(self) -> bool:
        if self.state is not PARKED or not self._end.acquire(False):
            return False
        self.state = ABORTED
        self._let_go()
        return True

    def _let_go(self) -> None:
        """This wait is over: nobody waits here any more, and nothing is registered."""
        if self.resource._waiting is self:
            self.resource._waiting = None
        self._withdraw()

    def _withdraw(self) -> None:
        """Take every operation back; one that was granted meanwhile keeps its result, to be taken later."""
        for arm in self.resource.arms.values():
            op = arm.op
            if op is None:
                continue
            if op.state is PARKED:
                op.abort()  # waits, under the resource's lock, for a grant that is on its way from another thread
            op.watcher = None
            if op.state is FIRED and _harvest(arm):
                continue
            if isinstance(op, Next):
                op._let_go()
            elif arm.factory is not None and isinstance(op, RetryOperation):
                arm.op = None  # between two tries nothing has happened: the next one begins with a fresh operation
        if self._gate.locked():
            self._gate.release()

    # -- being told ----------------------------------------------------------------------------------------------------

    def claim(self, op: Operation[Any]) -> bool:
        return self._gate.acquire(False)

    def fired(self, op: Operation[Any]) -> None:
        if not isinstance(op, RetryOperation):
            self._gate.acquire(False)  # granted without asking (a timer, the end of a task): the others need not try
        self.hint()

    def hint(self) -> None:
        """There may be a result: end the parking, once. From any thread."""
        if self.state is not PARKED or not self._end.acquire(False):
            return
        task = self.task
        assert task is not None
        here = task.host.thread_id == get_ident()
        if here and self._registering:
            self.state = FIRED  # the task has not parked yet and will see it
            return
        self._wake_sent = True
        self.state = FIRED
        if self.watcher is not None:
            self.watcher.fired(self)
        elif here:
            task.host.wake(task)
        else:
            task.host.wake_threadsafe(task)

    @property
    def ends_on_stop(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether an arm does; asked while parked."""
        arms = self.resource.arms.values()
        return self.state is PARKED and any(arm.op is not None and arm.op.ends_on_stop for arm in arms)

    def end_by_stop(self) -> None:
        for arm in tuple(self.resource.arms.values()):
            op = arm.op
            if op is not None and op.ends_on_stop and op.state is PARKED and op.abort():
                arm.op = None
                arm.outcome = Outcome(None, Stopped("the scope was asked to stop"), False)
        self.hint()

    def describe(self) -> str:
        return self.resource.describe()


# -- one operation of an arm -------------------------------------------------------------------------------------------


def _try(arm: _Arm, op: Operation[Any], task: Task[Any]) -> bool:
    """Try to have the effect of an arm's operation now. True: the arm has an outcome."""
    resource = op.resource
    mutex = resource.mutex
    op.task = task
    try:
        if op.ends_on_stop and task.node.stopping is not None:
            raise Stopped("the scope was asked to stop")
        if mutex is None:
            resource.check_home(task.host)
            done = op.poll()
        else:
            with mutex:
                done = op.poll()
    except Exception as error:
        op.error, done = error, True
    if done:
        _conclude(arm, op)
    return done


def _park(arm: _Arm, op: Operation[Any], task: Task[Any]) -> None:
    """Register an arm's operation; of a shared resource, in one transition with another try."""
    mutex = op.resource.mutex
    op.task = task
    try:
        if mutex is None:
            op.state = PARKED
            op.register()
            return
        with mutex:
            done = op.poll()
            if not done:
                op.state = PARKED
                op.register()
    except Exception as error:
        op.error, done = error, True
    if done:
        _conclude(arm, op)


def _harvest(arm: _Arm) -> bool:
    """A fired operation: take its result into the arm. False if it was a hint to try again."""
    op = arm.op
    assert op is not None
    if isinstance(op, RetryOperation) and op.error is None:
        op.state = ABORTED
        return False
    _conclude(arm, op)
    return True


def _conclude(arm: _Arm, op: Operation[Any]) -> None:
    op.state = DONE
    op.watcher = None
    arm.op = None
    arm.outcome = Outcome(op.value, op.error, False)
    arm.undo = op.undo if type(op).undo is not Operation.undo else None


def _outcome_of(task: Task[Any]) -> Outcome[Any]:
    error = task._error
    if not task.was_cancelled:
        return Outcome(task._value, error, False)
    record: CancelRecord | None = getattr(error, "record", None)
    cancelled = TaskCancelled(f"{task.describe()} was cancelled{f': {record}' if record else ''}", record)
    cancelled.__cause__ = error
    return Outcome(None, cancelled, False)


def _note(error: BaseException, key: Any, select: Select[Any, Any]) -> None:
    error.add_note(f"in arm {key!r} of the select at {select.site[0]}:{select.site[1]}")


def _named(error: BaseException, key: Any, select: Select[Any, Any]) -> BaseException:
    """The error to raise for an arm."""
    if isinstance(error, StopAsyncIteration):  # it would end somebody's loop in silence
        error = EndOfStream(f"arm {key!r} has ended")
    _note(error, key, select)
    return error


async def next_outcome(select: Select[K, T]) -> tuple[K, Outcome[T]]:
    """The next arm that has come to an end of some kind, and how; for ``race``."""
    found: Any = await Next(select, raw=True)
    return found  # type: ignore[no-any-return]


# -- the fixed form ----------------------------------------------------------------------------------------------------


class Selection(Select[K, T]):
    """What ``select`` gives: await it for one event, or enter it to iterate over many."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Chosen[K, T]]:
        return self._choose().__await__()

    async def _choose(self) -> Chosen[K, T]:
        if self._scope is not None or self._closing:
            raise RuntimeError(f"{self.describe()} was awaited or entered before; call select again")
        if not self.arms:
            raise ValueError("select needs at least one arm")
        self._once = True
        for arm in self.arms.values():
            self._arm(arm)
        try:
            if self._on_loser is not None or any(arm.made is not None for arm in self.arms.values()):
                async with self:
                    event = await Next(self)
            else:
                try:
                    event = await Next(self)
                finally:
                    self._close()
        except BaseException:
            report_unclaimed(self)
            raise
        chosen = Chosen(*event)
        chosen.also = tuple(self._left_over)
        chosen.failed = tuple(self._failed)
        return chosen


def report_unclaimed(select: Select[Any, Any]) -> None:
    """A wait for one event ends with an error: what had come besides can be given to nobody, so say what it was."""
    for event in select._left_over:
        if event.value is not None:
            report(
                "unclaimed_result",
                f"arm {event.name!r} had finished with {event.value!r} when the wait for it ended; give the select on_loser=",
                select.site,
            )


@overload
def select(
    arms: Mapping[K, Arm[T]],
    /,
    *,
    on_loser: OnLoser | None = None,
    biased: bool = False,
    on_end: Literal["drop", "raise"] = "drop",
) -> Selection[K, T]: ...
@overload
def select(
    *,
    on_loser: OnLoser | None = None,
    biased: bool = False,
    on_end: Literal["drop", "raise"] = "drop",
    **named: Arm[T],
) -> Selection[str, T]: ...
def select(
    arms: Mapping[Any, Arm[Any]] | None = None,
    /,
    *,
    on_loser: OnLoser | None = None,
    biased: bool = False,
    on_end: Literal["drop", "raise"] = "drop",
    **named: Arm[Any],
) -> Selection[Any, Any]:
    """Wait on several things at once, losing nothing of what is not chosen. Arms are given by name, or as a mapping.

    Over many events, each arm being armed again after its delivery, while the others go on as they were::

        async with bateau.select(row=rx.recv, tick=interval.next, done=task.join) as events:
            async for name, value in events:
                ...

    For one event, after which the other operations have had no effect and the other children are cancelled and awaited::

        name, value = await bateau.select(row=rx.recv(), late=bateau.time.sleep(1))

    What an arm may be: see ``Select.insert``; ``biased``, ``on_end``, ``on_loser``: see ``Select`` (three names no arm can
    have, unless in a mapping). Awaiting it gives a ``Chosen``; its ``also`` has the values that had come besides. Each wait
    is a cancellation point, and a cancelled wait loses nothing; leaving the block awaits the arms' children.
    Raises an arm's error with a note naming the arm, ``EndOfStream`` if every arm has ended.
    """
    selection: Selection[Any, Any] = Selection(arms, on_loser=on_loser, biased=biased, on_end=on_end)
    for name, arm in named.items():
        selection.insert(name, arm)
    return selection
