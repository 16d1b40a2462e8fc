"""The select itself: its arms, their children, and what becomes of results that nobody takes."""

from __future__ import annotations

import sys
import typing
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
)
from types import TracebackType
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

from ..kernel.errors import ScopeError, user_site
from ..kernel.hazard import report
from ..kernel.operation import ABORTED, FIRED, NEW, PARKED, Operation, RetryOperation
from ..kernel.policy import AllMustSucceed, Policy
from ..kernel.resource import Resource
from ..kernel.scope import Scope
from ..kernel.task import Outcome, Task
from .waiting import ENDS, ArmState, Event, Next, harvest, note_arm, outcome_of

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# What an arm may be: a function without arguments that gives a fresh awaitable each time, a stream, or one awaitable.
Arm: TypeAlias = Callable[[], Awaitable[T]] | AsyncIterable[T] | Awaitable[T]
# Called with the name of an arm and the value that nobody took; may be async.
OnLoser: TypeAlias = Callable[[Any, Any], object]


class Chosen(Event[K, T]):
    """What ``await select(...)`` gives: the arm's name and value; ``also`` and ``failed`` tell of the others.

    ``also`` holds the values of arms that had finished as well and that no ``on_loser`` took; ``failed`` the errors of arms
    that failed while they were cancelled.
    """

    also: tuple[Event[Any, Any], ...]
    failed: tuple[Event[Any, Exception], ...]


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
        "idle",
        "live",
        "ready",
        "ready_first",
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
        if on_loser is not None and not callable(on_loser):
            raise TypeError(f"on_loser must be a function of a name and a value, not {type(on_loser).__name__}")
        # In the order of their insertion.
        self.arms: dict[K, ArmState] = {}
        # An arm that has a result is in ``ready``, oldest first; one that has to be armed is in ``idle`` as well; one whose
        # child is running is in neither, so that thousands of them cost a wait nothing; all others are in ``live``, the one
        # served last standing last.
        self.live: dict[ArmState, None] = {}
        self.ready: dict[ArmState, None] = {}
        self.idle: list[ArmState] = []
        # Results and operations take turns.
        self.ready_first = True
        self.biased = biased
        self._on_loser = on_loser
        self._on_end = on_end
        self._once = False
        self._closing = False
        self._tasks: dict[Task[Any], ArmState] = {}
        self._scope: Scope | None = None
        self._waiting: Next[K, T] | None = None
        self._left_over: list[Event[Any, Any]] = []
        self._failed: list[Event[Any, Exception]] = []
        self.site = _site()
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
        if self._scope is not None:
            self._scope.check_thread("insert into")
        made = ArmState(key)
        source: Any = arm
        if getattr(source, "state", NEW) is not NEW and isinstance(arm, Operation):
            raise RuntimeError(
                f"arm {key!r} was awaited or given to a select before; each call gives a single-use awaitable"
            )
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
        self.live[made] = None
        if self._scope is not None:
            self._arm(made)
            if self._waiting is not None:
                self._waiting.hint()

    def remove(self, key: K, /) -> None:
        """Take an arm out. A child task of it is cancelled; a result of its that nobody took counts as a loser's.

        Raises ``KeyError`` for an unknown key. Not a cancellation point: the child may still be cleaning up.
        """
        if self._scope is not None:
            self._scope.check_thread("remove from")
        arm = self.arms.pop(key)
        self.live.pop(arm, None)
        self.ready.pop(arm, None)
        if arm.task is not None:
            arm.task.cancel("its arm was removed from the select")
        if arm.op is not None and arm.op.state is PARKED:
            arm.op.abort()
        if arm.op is not None and arm.op.state is FIRED:
            harvest(arm)
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
    ) -> bool | None:
        scope = self._scope
        if scope is None:
            raise ScopeError(f"{self.describe()} has not been entered")
        self._close()
        try:
            absorbed = await scope.__aexit__(exc_type, exc, tb)
        finally:
            self._scope = None  # its policy refers to us: freed now, not when the collector comes
            if self._on_loser is None:
                self.unclaimed = tuple(self._left_over)
        return absorbed

    # -- arming and taking -------------------------------------------------------------------------------------------

    def _arm(self, arm: ArmState) -> None:
        """Make the next awaitable of an idle arm; start it if it has to run as a child."""
        made: Any
        if arm.idle and arm.factory is not None:
            try:
                made = arm.factory()
                if not hasattr(made, "__await__"):
                    raise TypeError(f"arm {arm.key!r} gave a {type(made).__name__}, not an awaitable")
                arm.made = made
            except Exception as error:
                arm.outcome = Outcome(None, error, False)
                self._settled(arm)
                return
        made = arm.made
        if made is None:
            return
        if self._direct(arm, made):
            made.state = ABORTED  # it is ours now, and will not be awaited by itself
            arm.op, arm.made = made, None
        elif self._scope is not None:
            arm.made = None
            task: Task[Any] = self._scope.spawn(made, name=f"select arm {arm.key!r}", background=True)
            task._site_code = self.site
            arm.task = task
            self._tasks[task] = arm
            self.live.pop(arm, None)

    def _direct(self, arm: ArmState, made: Any) -> bool:
        """Whether it is an operation that can be taken back and tried again, so that it need not run as a child."""
        if not isinstance(made, Operation) or not made.selectable:
            return False
        return arm.factory is not None or self._once or isinstance(made, Next) or not isinstance(made, RetryOperation)

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
            if task.was_cancelled or isinstance(error, ENDS):
                return True
            if error is None:
                self._left_over.append(Event(arm.key, task._value))
                return True
            assert isinstance(error, Exception)
            if self._once:
                self._failed.append(Event(arm.key, error))
            return self._once
        arm.task = None
        arm.outcome = outcome_of(task)
        self._settled(arm)
        if self._waiting is not None:
            self._waiting.hint()
        return True

    def _settled(self, arm: ArmState) -> None:
        """An arm has come to a result, which waits to be taken."""
        self.live.pop(arm, None)
        self.ready[arm] = None

    def _take(self, arm: ArmState) -> Outcome[Any]:
        """Hand out an arm's result; whoever was served last is looked at last."""
        outcome = arm.outcome
        assert outcome is not None
        arm.outcome = arm.undo = None
        self.last = arm.key
        self.live.pop(arm, None)
        self.ready.pop(arm, None)
        if arm.factory is None or outcome.error is not None:
            self.arms.pop(arm.key, None)
        else:
            self.live[arm] = None
            self.idle.append(arm)
        return outcome

    # -- the end -----------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Nothing will be taken any more: sort out what has come."""
        self._closing = True
        for arm in self.arms.values():
            if arm.outcome is not None:
                self._lose(arm)
            made: Any = arm.made
            if isinstance(made, Coroutine):
                made.close()  # it never started
        if self._waiting is not None:
            self._waiting.hint()

    def _lose(self, arm: ArmState) -> None:
        outcome, arm.outcome = arm.outcome, None
        assert outcome is not None
        error = outcome.error
        if error is None:
            if arm.undo is not None:
                arm.undo(outcome.unwrap())
            else:
                self._left_over.append(Event(arm.key, outcome.unwrap()))
        elif isinstance(error, Exception) and not isinstance(error, ENDS) and not outcome.cancelled:
            note_arm(error, arm.key, self)
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


def _site() -> tuple[str, int]:
    """Where the select was made; ``Select[int, str]()`` is called from inside typing."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename == typing.__file__ and frame.f_back is not None:
        frame = frame.f_back
    return user_site(frame)


class _Children(Policy):
    """The ends of the arms' tasks are the select's business."""

    def __init__(self, select: Select[Any, Any]) -> None:
        self.select = select

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        return self.select._child_ended(scope, task)


async def next_outcome(select: Select[K, T]) -> tuple[K, Outcome[T]]:
    """The next arm that has come to an end of some kind, and how; for ``race``."""
    event: Any = await Next(select, raw=True)
    found: tuple[K, Outcome[T]] = event
    return found


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
        chosen: Chosen[K, T] = Chosen(event.name, event.value)
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
