"""Operations: how everything waits.

A public waiting call returns an ``Operation``: a single-use awaitable that starts at its first step. Its subclass says
what to do in four small sync methods:

- ``poll``        try to have the effect at once; on success put the result in ``value`` and return True
- ``register``    join the resource's queue (the state is PARKED already)
- ``unregister``  leave the queue, without a trace
- ``undo``        give back an effect whose value nobody will receive

Two styles exist. *Handed over* (locks, channels): who makes the wait possible has the effect on the waiter's behalf and
calls ``fire(value)``; from then on the operation is granted, and a cancellation that arrives before the task steps comes
at its next operation (law 11). *Retried* (sockets, ``RetryOperation``): the wake is only a hint, ``poll`` decides.

States: NEW -> DONE (ready at once) | PARKED -> FIRED -> DONE | ABORTED (cancelled: no effect).
"""

from __future__ import annotations

import sys
import warnings
from _thread import get_ident
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from .cancellation import make_cancelled
from .current import foreign_task, tls
from .errors import Stopped, user_site
from .hazard import note, raise_unraisable
from .resource import OUTSIDE, Resource
from .swallowed import check_swallowed
from .twin import CheckpointFields, OperationFields, YieldFields, keep, native, slots, twinned

if TYPE_CHECKING:
    from .task import Task

T = TypeVar("T")

NEW, PARKED, FIRED, DONE, ABORTED = range(5)
STATE_NAMES = ("new", "parked", "fired", "done", "aborted")

# How many operations a task may complete without waiting before it lets the others run (law 13).
STEP_BUDGET = 64


@twinned("__del__")
class Operation(OperationFields, Generic[T]):
    """One wait of one task on one resource. See the module's head for what a subclass provides."""

    __slots__ = slots("__weakref__", "error", "resource", "state", "task", "value", "watcher")

    # Waits that must not be abandoned (a scope waiting for its children) ignore cancellation until granted.
    shielded = False
    # Waits that end with ``Stopped`` when their scope is asked to stop (accept loops, iterators).
    ends_on_stop = False
    # Whether a select may try, register and take back this operation by itself. False for those that do something before
    # their end (a write in several pieces): a select then awaits them in a child task.
    selectable = True
    # Whether a grant is an effect that must not be lost to a native cancellation (law 11). False for a scope's wait for its
    # children, which is asked again anyway, and would otherwise raise the same cancellation twice.
    keeps_grant = True

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.state = NEW
        self.value: Any = None
        self.error: BaseException | None = None
        self.task: Task[Any] | None = None
        # Told instead of the task when this operation is fired: the select that waits on several.
        self.watcher: Watcher | None = None

    # -- what a subclass provides ------------------------------------------------------------------------------------

    def poll(self) -> bool:
        """Try to have the effect now, without waiting. True: done, the result is in ``value``."""
        return False

    def register(self) -> None:
        """Join the queue of those to be fired."""
        raise NotImplementedError

    def unregister(self) -> None:
        """Leave the queue; nothing happened."""
        raise NotImplementedError

    def undo(self, value: Any) -> None:
        """The effect happened but its value can't be delivered (the coroutine was closed): give it back."""

    def waits_for(self) -> Iterable[Operation[Any]]:
        """The operations any of which would end this wait: itself, or what a select has among its arms."""
        return (self,)

    def describe(self) -> str:
        """The verb and the resource, for messages: ``acquire of lock 'db'``."""
        return f"{type(self).__name__} on {self.resource.describe()}"

    # -- granting (called by the resource) ---------------------------------------------------------------------------

    def claim(self) -> bool:
        """The resource wants to grant this operation: may it? A select says no once it has chosen another arm."""
        watcher = self.watcher
        return watcher is None or watcher.claim(self)

    def fire(self, value: Any = None) -> None:
        """Grant a parked operation, which the caller has taken out of its queue: its effect has happened."""
        self.value = value
        self._fired()

    def fail(self, error: BaseException) -> None:
        """End a parked operation with an error, instead of granting it."""
        self.error = error
        self._fired()

    def _fired(self) -> None:
        self.state = FIRED
        watcher = self.watcher
        if watcher is not None:
            watcher.fired(self)
            return
        task = self.task
        assert task is not None
        host = task.host
        if self.resource.mutex is None or host.thread_id == get_ident():
            host.wake(task)
        else:
            host.wake_threadsafe(task)

    # -- the life of a wait ------------------------------------------------------------------------------------------

    def begin(self, task: Task[Any]) -> bool:
        """Have the effect at once (True) or join the queue (False), as one transition of a shared resource."""
        self.task = task
        resource = self.resource
        mutex = resource.mutex
        if mutex is None:
            resource.check_home(task.host)
            if self.poll():
                self.state = DONE
                return True
            self.state = PARKED
            self.register()
            return False
        with mutex:
            if self.poll():
                self.state = DONE
                return True
            self.state = PARKED
            self.register()
            return False

    def abort(self) -> bool:
        """Take a parked operation back without effect. False if it had been granted before: then the grant counts."""
        mutex = self.resource.mutex
        if mutex is None:
            if self.state is not PARKED:
                return False
            self.unregister()
            self.state = ABORTED
            return True
        with mutex:
            if self.state is not PARKED:
                return False
            self.unregister()
            self.state = ABORTED
            return True

    def end_by_stop(self) -> None:
        """The scope was asked to stop: a stop-aware wait ends with ``Stopped``."""
        if self.abort():
            self.fail(Stopped("the scope was asked to stop"))

    def __await__(self) -> Generator[Any, Any, T]:
        if self.state is not NEW:
            raise RuntimeError(
                f"this {type(self).__name__} was awaited before; each call gives a single-use awaitable, so call again"
            )
        self.state = ABORTED  # until it begins: an operation that raises before that had no effect
        task = tls.running.task or foreign_task()
        host = task.host
        if not self.shielded:
            if task.node.effective is not None or task.foreign and host.is_cancelled(task):
                check_swallowed(task)
                yield from host.raise_cancelled(task)
            if self.ends_on_stop and task.node.stopping is not None:
                raise Stopped("the scope was asked to stop")
        task.budget -= 1
        if task.budget < 0:
            task.budget = STEP_BUDGET
            yield from yield_once(task, self.shielded)
        if not self.begin(task):
            # Suspend until it is fired or aborted; waking without either is spurious, and harmless. Written out here, since a
            # generator of its own would be one object more per waiting task for the collector to visit.
            task.waiting = self
            try:
                while True:
                    sent = yield host.park(task)
                    if host.resumed is not None:
                        host.resumed(task)
                    if self.state is FIRED:
                        self.state = DONE
                        break
                    if self.state is ABORTED:
                        if not task.foreign:
                            break
                        host.resume_aborted(task, sent)
            except BaseException as exc:
                _thrown(self, task, exc)
            finally:
                task.waiting = None
                task.budget = STEP_BUDGET
            if self.state is ABORTED:
                # As ``resume_aborted`` does; here, since each frame it passes on its way out is a tenth of the cost of a cancelled task.
                raise make_cancelled(task)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.value  # type: ignore[no-any-return]  # a subclass's T: `poll` or `fire` has put it there

    def __del__(self) -> None:
        if self.state is NEW:
            warn_never_awaited(self)


class Watcher:
    """What an operation tells instead of waking its task (the interface; ``select`` implements it)."""

    __slots__ = ()

    def claim(self, op: Operation[Any] | None = None) -> bool:
        """May ``op`` be granted? Atomic: of several operations racing, at most one hears True."""
        raise NotImplementedError

    def fired(self, op: Operation[Any]) -> None:
        """``op`` was granted (or failed)."""
        raise NotImplementedError


class Guard:
    """What stands before the next wait of its task (the interface): a borrow of a ``Cell``, which must not stay open over it;
    a debt, which must be settled first.

    Opening one sets the task's ``budget`` to 0, so that its next operation, whichever it is, comes by ``yield_once`` and meets
    it there before it has begun: what nobody uses costs no operation anything. Guards of one task form a chain, the youngest
    first: ``task.guard -> below -> ...``.
    """

    __slots__ = ("below",)
    below: Guard | None

    def refuse(self, task: Task[Any], shielded: bool) -> Generator[Any, Any, None] | None:
        """``task`` is about to wait: raise, or give what has to be waited for first. A ``shielded`` wait (the end of a scope)
        must go on: only remember it.
        """
        raise NotImplementedError

    def unlink(self, task: Task[Any]) -> None:
        """Take this guard out of its task's chain, wherever it stands there."""
        guard = task.guard
        if guard is self:
            task.guard = self.below
            return
        while guard is not None and guard.below is not self:
            guard = guard.below
        if guard is not None:
            guard.below = self.below


def _thrown(op: Operation[Any], task: Task[Any], exc: BaseException) -> None:
    """Foreign code threw ``exc`` into the parked operation: a native cancellation, or the closing of the coroutine."""
    if op.state is PARKED and op.abort():
        raise exc
    if op.state is ABORTED:
        raise exc
    # Granted before: the value counts. A cancellation comes at the next wait; a closed coroutine gives the value back.
    op.state = DONE
    if isinstance(exc, GeneratorExit):
        if op.error is None:
            op.undo(op.value)
        raise exc
    if not op.keeps_grant:
        raise exc
    task.host.rearm(task, exc)


keep(thrown=_thrown, operation_await=Operation.__await__)  # pyright: ignore[reportUnknownMemberType]  # an Operation of any T


def settle_guards(task: Task[Any], shielded: bool) -> Generator[Any, Any, None]:
    """Ask the guards of a task that is about to wait, the youngest first, until none is left or one lets the wait go on."""
    while (guard := task.guard) is not None:
        first = guard.refuse(task, shielded)
        if first is None:
            return  # a borrow, over which a shielded wait goes on
        yield from first


def yield_once(task: Task[Any], shielded: bool = False) -> Generator[Any, Any, None]:
    """Let the others run once, and check for cancellation after it."""
    if task.guard is not None:
        yield from settle_guards(task, shielded)
    host = task.host
    yield host.pause(task)
    if not shielded and (task.node.effective is not None or task.foreign and host.is_cancelled(task)):
        yield from host.raise_cancelled(task)


class RetryOperation(Operation[T]):
    """An operation whose wake is only a hint: ``poll`` is asked again, until it has had its effect.

    Its cancellation never loses anything: between two polls nothing has happened.
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, T]:
        if self.state is not NEW:
            raise RuntimeError(
                f"this {type(self).__name__} was awaited before; each call gives a single-use awaitable, so call again"
            )
        self.state = ABORTED
        task = tls.running.task or foreign_task()
        host = task.host
        if task.node.effective is not None or task.foreign and host.is_cancelled(task):
            check_swallowed(task)
            yield from host.raise_cancelled(task)
        if self.ends_on_stop and task.node.stopping is not None:
            raise Stopped("the scope was asked to stop")
        task.budget -= 1
        if task.budget < 0:
            task.budget = STEP_BUDGET
            yield from yield_once(task)
        waited = False
        while not self.begin(task):
            if waited:  # a cancellation or stop that came after the hint found nothing parked to abort
                if task.node.effective is not None or task.foreign and host.is_cancelled(task):
                    self.abort()
                    yield from host.raise_cancelled(task)
                elif self.ends_on_stop and task.node.stopping is not None and self.abort():
                    raise Stopped("the scope was asked to stop")
            waited = True
            yield from self.wait_hint(task)
            if self.error is not None:
                error, self.error = self.error, None
                raise error
        return self.value  # type: ignore[no-any-return]  # a subclass's T: `poll` or `fire` has put it there

    def wait_hint(self, task: Task[Any]) -> Generator[Any, Any, None]:
        """Suspend until there may be something to poll for. Hosts with a better way to wait for an fd take it here."""
        host = task.host
        task.waiting = self
        try:
            while True:
                sent = yield host.park(task)
                if host.resumed is not None:
                    host.resumed(task)
                if self.state is FIRED:
                    return
                if self.state is ABORTED:
                    host.resume_aborted(task, sent)
        except BaseException:
            if self.state is PARKED:
                self.abort()
            raise
        finally:
            task.waiting = None
            task.budget = STEP_BUDGET


class NextTurn(Resource):
    """What a checkpoint waits on."""

    __slots__ = ()
    kind = "next turn"

    def satisfiers(self) -> Literal["outside"]:
        return OUTSIDE

    def describe(self) -> str:
        return "the next turn"


@twinned("__await__", final=True)
class Checkpoint(CheckpointFields, Operation[None]):
    """``checkpoint()``: a cancellation check, and a turn for the others if the step budget is used up.

    Made at every step of many programs, so making one runs no Python code: what an instance starts with is the class's, and
    only its ``state`` is ever set (measured: a switch costs a fifth less than with an ``__init__``).
    """

    if not TYPE_CHECKING:
        __init__ = object.__init__
        resource = NextTurn()
        if native is None:
            state = NEW
        else:
            __slots__ = ()
    else:

        def __init__(self) -> None: ...

    selectable = False  # there is no queue to join

    def __await__(self) -> Generator[Any, Any, None]:
        if self.state is not NEW:
            raise RuntimeError("this checkpoint was awaited before; each call gives a single-use awaitable")
        self.state = DONE
        task = tls.running.task or foreign_task()
        if task.node.effective is not None or task.foreign and task.host.is_cancelled(task):
            check_swallowed(task)
            yield from task.host.raise_cancelled(task)
        task.budget -= 1
        if task.budget < 0:
            task.budget = STEP_BUDGET
            yield from yield_once(task)


@twinned("__await__", final=True)
class YieldNow(YieldFields, Operation[None]):
    """``yield_now()``: a cancellation check, and a turn for the others.

    What makes one sets its ``state`` and nothing else (measured: a switch costs a twentieth less than with a first state in the
    class, as a checkpoint has it, which is seldom made to yield).
    """

    __slots__ = ()
    if not TYPE_CHECKING:
        __init__ = object.__init__
        resource = Checkpoint.resource
    else:

        def __init__(self) -> None: ...

    selectable = False

    def __await__(self) -> Generator[Any, Any, None]:
        if self.state is not NEW:
            raise RuntimeError("this yield was awaited before; each call gives a single-use awaitable")
        self.state = DONE
        task = tls.running.task
        if task is None:
            return (yield from _yield_abroad(foreign_task()))
        if task.node.effective is not None:
            check_swallowed(task)
            yield from task.host.raise_cancelled(task)
        task.budget = STEP_BUDGET
        if task.guard is not None:
            yield from settle_guards(task, False)
        yield None
        if task.node.effective is not None:
            yield from task.host.raise_cancelled(task)


def _yield_abroad(task: Task[Any]) -> Generator[Any, Any, None]:
    """``YieldNow`` where another loop drives, whose way to let others run is its own."""
    host = task.host
    if task.node.effective is not None or task.foreign and host.is_cancelled(task):
        check_swallowed(task)
        yield from host.raise_cancelled(task)
    task.budget = STEP_BUDGET
    if task.guard is not None:
        yield from settle_guards(task, False)
    yield host.pause(task)
    if task.foreign:
        yield host.pause(task)  # trio shuffles each round: only after a second one has every other task run
    if task.node.effective is not None or task.foreign and host.is_cancelled(task):
        yield from host.raise_cancelled(task)


def warn_never_awaited(op: Operation[Any]) -> None:
    """An operation was made and dropped. The finaliser runs in the very statement that dropped it, hence the line."""
    site = user_site(sys._getframe(1).f_back)  # no frame at all, where the interpreter itself dropped it
    message = f"{op.describe()} was never awaited: nothing happened"
    note("never_awaited", message, site)
    try:
        warnings.warn_explicit(message, RuntimeWarning, *site)
    except RuntimeWarning as error:
        raise_unraisable(error)
