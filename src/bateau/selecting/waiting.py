"""One wait of a select: trying, registering and taking back the operations of its arms, of which one is chosen."""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from collections.abc import Callable, Generator, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ..kernel.errors import Busy, CancelRecord, EndOfStream, ScopeError, Stopped, TaskCancelled
from ..kernel.operation import ABORTED, DONE, FIRED, PARKED, Operation, RetryOperation, Watcher
from ..kernel.task import Outcome, Task

if TYPE_CHECKING:
    from .core import Select

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_BASE: Any = Operation

# How a stream says that it is over.
ENDS = (EndOfStream, Stopped, StopAsyncIteration)


class Event(NamedTuple, Generic[K, T]):
    """What a select delivers: the arm's name and the value."""

    name: K
    value: T


class ArmState:
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


class Next(RetryOperation[Event[K, T]], Watcher):
    """One wait of a select.

    Invariants: while PARKED, each arm that is an operation is PARKED with this as its watcher (or FIRED). ``_gate`` is held
    from the first granted claim until the next parking, so no second arm commits. ``_end`` is held from what ends the parking
    (a grant, a hint, an abort) until the next; it makes that end one, whichever thread it comes from.
    """

    __slots__ = ("_at_end", "_end", "_gate", "_raw", "_registered", "_registering", "_wake_sent")
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
        # Whether operations of the arms may be parked; and whether they are being parked right now.
        self._registered = False
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
        done = False
        try:
            while (arm := self._pick()) is not None:
                outcome = select._take(arm)
                error = outcome.error
                if error is not None and not self._raw:
                    if isinstance(error, ENDS) and select._on_end == "drop":
                        self._withdraw()
                        continue
                    raise _named(error, arm.key, select)
                self.value = (arm.key, outcome) if self._raw else Event(arm.key, outcome.unwrap())
                done = True
                return True
            if not select.arms:
                raise self._at_end(*(() if self._at_end is StopAsyncIteration else (f"{select.kind}: no arm is left",)))
            return False
        except BaseException:
            done = True
            raise
        finally:
            if done:
                self._let_go()

    def _pick(self) -> ArmState | None:
        """An arm with a result, if need be by trying the operations."""
        select = self.resource
        task = self.task
        assert task is not None
        while select.idle:
            idle = select.idle.pop()
            if select.arms.get(idle.key) is idle:
                select._arm(idle)
        if self._gate.locked():  # one has been granted: it comes first
            for arm in tuple(select.live):
                if arm.op is not None and arm.op.state is FIRED and harvest(arm):
                    select._settled(arm)
        for arm in self._order(task):
            op = arm.op
            if op is not None and op.state is FIRED and harvest(arm):
                select._settled(arm)
            if arm.outcome is not None:
                if arm.outcome.cancelled and _is_cancelled(task):
                    continue  # by what cancels this wait as well, and is about to be raised
                select.ready_first = False
                return arm
            if op is not None and op.state is not PARKED and _try(arm, op, task):
                select.ready_first = True
                return arm
        return None

    def _order(self, task: Task[Any]) -> Iterator[ArmState]:
        """Whom to look at first: who was served last comes last, and results and operations take turns.

        ``biased``: in the order of insertion. The simulator chooses with whom to begin.
        """
        select = self.resource
        choose = getattr(task.host, "choose", None)
        if select.biased:
            yield from tuple(select.arms.values())
        elif choose is not None:
            arms = [*select.ready, *select.live]
            first = choose(len(arms)) if len(arms) > 1 else 0
            yield from arms[first:] + arms[:first]
        elif select.ready_first or self._gate.locked():
            yield from select.ready  # not copied: there may be thousands, and whoever takes one stops here
            yield from tuple(select.live)
        else:
            yield from tuple(select.live)
            yield from select.ready

    # -- parking -----------------------------------------------------------------------------------------------------

    def register(self) -> None:
        select = self.resource
        task = self.task
        assert task is not None
        fired = bool(select.ready)
        select._waiting = self
        self._registered = True
        self._registering = True
        self._wake_sent = False
        if self._end.locked():
            self._end.release()
        for arm in select.live:
            op = arm.op
            if op is not None and op.state not in (PARKED, FIRED):
                op.watcher = self
                _park(arm, op, task)
            fired = fired or arm.outcome is not None or (arm.op is not None and arm.op.state is FIRED)
            if fired or self.state is FIRED:
                break
        for arm in tuple(select.live):
            if arm.outcome is not None:
                select._settled(arm)
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
            if self.state is FIRED:
                self._let_go()  # nothing has been taken; what has come stays with its arm
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
        if not self._registered:
            return
        self._registered = False
        self._gate.acquire(False)  # what has not been granted by now has lost
        select = self.resource
        for arm in tuple(select.live):
            op = arm.op
            if op is None:
                continue
            if op.state is PARKED:
                op.abort()  # waits, under the resource's lock, for a grant that is on its way from another thread
            op.watcher = None
            if op.state is FIRED and harvest(arm):
                select._settled(arm)
            elif arm.factory is not None and isinstance(op, RetryOperation) and not isinstance(op, Next):
                arm.op = None  # between two tries nothing has happened: the next one begins with a fresh operation
                select.idle.append(arm)
        if self._gate.locked():
            self._gate.release()

    # -- being told ----------------------------------------------------------------------------------------------------

    def claim(self, op: Operation[Any] | None = None) -> bool:
        # A hint has no effect yet, so it excludes nobody; what it leads to is decided by the next try.
        return isinstance(op, RetryOperation) or self._gate.acquire(False)

    def fired(self, op: Operation[Any]) -> None:
        if not isinstance(op, RetryOperation):
            self._gate.acquire(False)  # granted without asking (a timer, the end of a task): the others need not try
        self.hint()

    def waits_for(self) -> Iterator[Operation[Any]]:
        for arm in self.resource.live:
            if arm.op is not None:
                yield from arm.op.waits_for()

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
    def ends_on_stop(self) -> bool:  # type: ignore[override]  # the base has a constant of the class; here it depends on the arms
        """Whether an arm does; asked while parked."""
        arms = self.resource.live
        return self.state is PARKED and any(arm.op is not None and arm.op.ends_on_stop for arm in arms)

    def end_by_stop(self) -> None:
        for arm in tuple(self.resource.live):
            op = arm.op
            if op is not None and op.ends_on_stop and op.state is PARKED and op.abort():
                arm.op = None
                arm.outcome = Outcome(None, Stopped("the scope was asked to stop"), False)
                self.resource._settled(arm)
        self.hint()

    def describe(self) -> str:
        return self.resource.describe()


def _is_cancelled(task: Task[Any]) -> bool:
    return task.node.effective is not None or (task.foreign and task.host.is_cancelled(task))


# -- one operation of an arm -------------------------------------------------------------------------------------------


def _try(arm: ArmState, op: Operation[Any], task: Task[Any]) -> bool:
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


def _park(arm: ArmState, op: Operation[Any], task: Task[Any]) -> None:
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


def harvest(arm: ArmState) -> bool:
    """A fired operation: take its result into the arm. False if it was a hint to try again."""
    op = arm.op
    assert op is not None
    if isinstance(op, RetryOperation) and op.error is None:
        op.state = ABORTED
        return False
    _conclude(arm, op)
    return True


def _conclude(arm: ArmState, op: Operation[Any]) -> None:
    op.state = DONE
    op.watcher = None
    arm.op = None
    arm.outcome = Outcome(op.value, op.error, False)
    arm.undo = op.undo if type(op).undo is not _BASE.undo else None


def outcome_of(task: Task[Any]) -> Outcome[Any]:
    """How an arm's child ended, for whoever takes it: its being cancelled counts as a failure."""
    error = task._error
    if not task.was_cancelled:
        return Outcome(task._value, error, False)
    record: CancelRecord | None = getattr(error, "record", None)
    cancelled = TaskCancelled(f"{task.describe()} was cancelled{f': {record}' if record else ''}", record)
    cancelled.__cause__ = error
    return Outcome(None, cancelled, True)


def note_arm(error: BaseException, key: Any, select: Select[Any, Any]) -> None:
    """Note on an error which arm it comes from."""
    error.add_note(f"in arm {key!r} of the select at {select.site[0]}:{select.site[1]}")


def _named(error: BaseException, key: Any, select: Select[Any, Any]) -> BaseException:
    """The error to raise for an arm."""
    if isinstance(error, StopAsyncIteration):  # it would end somebody's loop in silence
        error = EndOfStream(f"arm {key!r} has ended")
    note_arm(error, key, select)
    return error
