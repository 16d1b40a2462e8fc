"""The host used where bateau itself drives: a ready queue, timers, and ``turn``.

It does no I/O: a *driver* supplies ``now()``, ``poll(timeout)`` and a thread-safe ``wake()``, and calls ``turn``. Every
ordering decision is one call of ``choose(n)``; in production there is no chooser and the answer is 0, the oldest.
"""

from __future__ import annotations

from _thread import get_ident
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from .cancellation import CancelNode
from .current import tls
from .direct import put_back
from .errors import Cancelled, CancelRecord, Deadlock
from .explain import all_tasks, explain_deadlock
from .foreign import foreign_trap_error
from .hazard import raise_unraisable
from .host import Host
from .operation import FIRED, PARKED, Operation
from .task import Task
from .timers import EngineTimer, Pending, Timers
from .twin import EngineFields, keep, native, twinned

# Task steps between two looks at the world outside while there is always something to run.
TURN_BUDGET = 256

# Turns with nothing to step for want of memory, until the program is given up.
PATIENCE = 1000


class Driver(Protocol):
    """What an engine needs of the world outside."""

    def poll(self, timeout: float | None) -> None:
        """Wait at most ``timeout`` seconds (None: until something happens) and call the callbacks of what is ready."""
        ...

    def now(self) -> float:
        """The clock, in seconds."""
        ...

    def wake(self) -> None:
        """From any thread: end a ``poll`` that blocks, or make the next one return at once."""
        ...


class SchedulingPolicy(Protocol):
    """Which ready task runs next. The engine's default is a FIFO; see ``bateau.scheduling`` for a worked example."""

    def push(self, task: Task[Any]) -> None:
        """``task`` became ready."""
        ...

    def pop(self) -> Task[Any]:
        """Take out the next task to step; called only when not empty."""
        ...

    def __len__(self) -> int: ...


class _Park:
    """What our operations yield to this engine."""

    def __repr__(self) -> str:
        return "<park>"


PARK = _Park()
keep(park=PARK, monotonic=monotonic)


@twinned(
    "wake",
    "start",
    "turn",
    "_share_context",
    "call_at",
    "timeout",
    "_run_timers",
    "_has_timer",
    "_next_timer",
    "_live_timer",
)
class Engine(EngineFields, Host):
    """The kernel's own host. One per thread and run.

    Invariant: a task has ``scheduled`` set iff it is in the ready queue (or postponed while it is mid-step further up the
    stack of a nested turn). Where memory was short for the queue, ``starved`` is set, and the next turn restores it.
    """

    name = "engine"

    def __init__(
        self,
        driver: Driver,
        *,
        policy: SchedulingPolicy | None = None,
        choose: Callable[[int], int] | None = None,
    ) -> None:
        super().__init__()
        self.driver = driver
        self.now = driver.now  # type: ignore[method-assign]  # one call less on a hot path
        self.thread_id = get_ident()
        self.ready: deque[Task[Any]] = _ready_queue(type(self))
        self.policy = policy
        self.fifo = policy is None
        self.choose = choose
        # Tasks outside every scope: the program's main, and the engine's own helpers. Insertion-ordered.
        self.roots: dict[Task[Any], None] = {}
        self.holds: dict[int, str] = {}
        self._hold_ids = 0
        # Set by a bridge that understands what foreign awaitables yield; returns False if it does not.
        self.on_foreign: Callable[[Task[Any], Any], bool] | None = None
        self.deliver_foreign: Callable[[Task[Any]], None] | None = None
        # A task lets the others run: True says that it was taken, and will be woken once they have (there are others of asyncio's).
        self.on_yield: Callable[[Task[Any]], bool] | None = None
        self.on_step: Callable[[Task[Any]], None] | None = None
        # What asyncio's side counts; until it is there, ``own_tree`` is true.
        self.native_cancelling: Callable[[Task[Any]], int] | None = None
        self.own_tree = True
        self.exact_cancelled_type: type[BaseException] = Cancelled
        # The task whose end ends the run: after it, nothing must block.
        self.main: Task[Any] | None = None
        # The asyncio side of an engine that is an asyncio loop as well, once asyncio is imported.
        self.aio: Any = None
        self._soon: deque[Callable[[], None]] = deque()
        self._inbox: deque[Callable[[], None]] = deque()
        self._closed = False
        self.timers = timers = self.make_timers()
        self._timers = timers.heap  # where tools that read another process's memory find how many there are
        if native is None:  # the twin keeps its own
            self.set_timer = timers.set  # type: ignore[method-assign]  # a call less for each, as with ``now``
            self.clear_timer = timers.clear  # type: ignore[method-assign]  # as above
        # The parked operation that last showed that another thread could still free something.
        self._beyond: Operation[Any] | None = None
        self._hungry_turns = 0
        self._mid_step: list[Task[Any]] = []
        self._postponed: list[Task[Any]] = []

    def make_timers(self) -> Timers:
        """Called once."""
        return Timers()

    # -- the five operations -------------------------------------------------------------------------------------------

    def current(self) -> Task[Any] | None:
        return tls.running.task

    def park(self, task: Task[Any]) -> Any:
        if self.instrument is not None:
            self.instrument.park(task)
        return PARK

    def wake(self, task: Task[Any]) -> None:
        if not task.scheduled and not task.ended:
            task.scheduled = True
            if self.instrument is not None:
                self.instrument.wake(task)
            if self.policy is None:
                try:
                    self.ready.append(task)
                except MemoryError:  # who wakes has had its effect already, so a wake can't fail
                    self.starved = True
            else:
                self.policy.push(task)

    def deliver(self, task: Task[Any]) -> None:
        # Our own operations check for themselves; only a wait on something foreign needs the bridge.
        if self.deliver_foreign is not None:
            self.deliver_foreign(task)

    def enter_node(self, node: CancelNode) -> None:
        if self.native_cancelling is not None and node.task is not None:
            node.host_data = self.native_cancelling(node.task)

    def leave_node(self, node: CancelNode, exc: BaseException | None) -> bool | None:
        task = node.task
        if self.native_cancelling is None or task is None or task.face is None:
            return None
        for _ in range(node.given):
            task.face.uncancel()
        node.given = 0
        if isinstance(exc, Cancelled) and self.native_cancelling(task) > (node.host_data or 0):
            return False
        return None

    def cancel_native(self, node: CancelNode) -> None:
        """There is no native tree: ours is the one."""

    def cancelled_type(self) -> type[BaseException]:
        return self.exact_cancelled_type

    def new_cancelled(self, record: CancelRecord) -> BaseException:
        return self.exact_cancelled_type(record)

    def rearm(self, task: Task[Any], exc: BaseException) -> None:
        face = task.face
        if face is None:
            raise exc
        face.rearm(exc)

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def start(self, task: Task[Any]) -> None:
        if self.policy is None:
            self.ready.append(task)
        else:
            self.policy.push(task)
        task.scheduled = True

    def spawn_root(self, task: Task[Any]) -> None:
        """Start a task that belongs to no scope: the main task, or a helper of the engine's own."""
        self.roots[task] = None
        task.started = True
        self._share_context(task)
        if self.instrument is not None:
            self.instrument.spawn(task)
        self.wake(task)

    def _share_context(self, task: Task[Any]) -> None:
        """The twin steps a root and what it spawns in one context while none of them sets a variable; here each has its own."""

    # -- services ------------------------------------------------------------------------------------------------------

    def call_at(self, when: float, fn: Callable[[], None]) -> EngineTimer:
        return EngineTimer(self.timers, when, fn)

    def call_soon(self, fn: Callable[[], None]) -> None:
        self._soon.append(fn)

    def call_threadsafe(self, fn: Callable[[], None]) -> None:
        if self._closed:
            raise RuntimeError(f"{self.describe()} has ended")
        self._inbox.append(fn)
        if self.is_closed():  # it closed in between: either ``close`` has run it, or nobody will
            try:
                self._inbox.remove(fn)
            except ValueError:
                return
            raise RuntimeError(f"{self.describe()} has ended")
        self.driver.wake()

    def hold(self, what: str) -> Callable[[], None]:
        self._hold_ids += 1
        key = self._hold_ids
        self.holds[key] = what

        def release() -> None:
            self.holds.pop(key, None)

        return release

    def pending_timers(self) -> list[Pending]:
        """The timers that are set, in no order; for who looks at a program. May be called on any thread."""
        mine = self.timers.pending()
        return mine if native is None else [*mine, *native.EngineFields._pending_timers(self)]

    # -- the turn ------------------------------------------------------------------------------------------------------

    def turn(self, budget: int = TURN_BUDGET) -> None:
        """Run what is due: calls from other threads, timers, then at most ``budget`` task steps."""
        if self.starved:
            self._recover()
        self._run_calls()
        if self.timers or native is not None:  # the twin keeps its own
            self._run_timers()
        self._steps(budget)
        if self.instrument is not None:
            self.instrument.idle()

    def _steps(self, budget: int) -> None:
        ready = self.ready
        if self.policy is not None or self.choose is not None:
            self._turn_by_policy(budget)
            return
        if self._mid_step or self.on_step is not None:
            try:
                while ready and budget:
                    budget -= 1
                    self.step(ready.popleft())
            except BaseException:
                self._after_interrupt()
                raise
            return
        # ``step`` written out for the common case: a third of a switch is saved (measured: 0.9 us against 1.4 us).
        popleft, append = ready.popleft, ready.append
        running = tls.running
        outer = running.task
        observe = self.instrument.step if self.instrument is not None else None
        try:
            for _ in range(budget):
                if not ready or self.on_step is not None:  # a step may import asyncio: the rest takes the long way
                    break
                task = popleft()
                context = task.context
                if context is None or task.throwing is not None:  # it has ended; or something is to be thrown into it
                    self.step(task)
                    continue
                task.scheduled = False
                if observe is not None:
                    observe(task)
                running.task = task
                kept = task.send
                try:
                    send = kept or task.coro.send  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # it has not ended
                    trap = context.run(send, None)
                except StopIteration as stop:
                    running.task = outer
                    if task.scope is None or task.face is not None:
                        self._ended(task, stop.value, None)
                    else:
                        task.finish(stop.value, None)  # no root, and no asyncio in sight: nobody else to tell
                except BaseException as error:
                    running.task = outer
                    self._raised(task, error)
                else:
                    if (
                        send is not kept and task.send is kept
                    ):  # else another coroutine of it is resumed directly from now on
                        task.send = send if kept is False else False
                    if trap is None:
                        task.scheduled = True
                        try:
                            append(task)
                        except MemoryError:
                            self.starved = True
                    elif trap is not PARK or task.throwing is not None:
                        running.task = outer
                        self._trapped(task, trap)
        except BaseException:
            self._after_interrupt()
            raise
        finally:
            running.task = outer

    def _after_interrupt(self) -> None:
        """A signal's handler has raised between two steps, or memory was short, so that a task may be neither queued nor stepped. Which,
        nobody can know: all are queued again, since a wake too many is harmless (but for a foreign wait, and asyncio's do not lose any).
        """
        self._requeue(everyone=True)

    def _requeue(self, *, everyone: bool) -> None:
        """Queue the tasks that are not queued: those that should be, or ``everyone`` who does not wait for something foreign."""
        if self.policy is not None:
            return
        yielding = self.aio._yielding if self.aio is not None else ()
        queued = {id(task) for task in (*self.ready, *self._postponed, *yielding)}
        for task in all_tasks(self.roots):
            if not task.started or task.ended or task.coro is None or id(task) in queued or task in self._mid_step:
                continue
            if task.scheduled if not everyone else _waits_for_nothing_foreign(task):
                task.scheduled = True
                self.ready.append(task)

    def _recover(self) -> None:
        """Queue the tasks for which memory was short. Raises ``MemoryError`` where it still is, and nothing else could be done meanwhile."""
        try:
            self._requeue(everyone=False)
            self.starved = False
            self._hungry_turns = 0
        except MemoryError:
            self._hungry_turns += 1
            if not self.ready and self._hungry_turns > PATIENCE:
                raise

    def advance(self) -> None:
        """One turn and one poll. Raises ``Deadlock`` where nothing can ever happen again."""
        self.turn()
        self._poll()

    def _poll(self) -> None:
        """After a turn: wait for what comes from outside, unless there is something to do."""
        # In this very turn the program may have ended, or become an asyncio loop, which polls in its own way.
        if (self.main is not None and self.main.ended) or self.aio is not None:
            return
        timeout = self.timeout()
        if timeout is None and self.is_stuck():
            raise Deadlock(explain_deadlock(self.roots))
        self.driver.poll(timeout)

    def _turn_by_policy(self, budget: int) -> None:
        policy, choose, ready = self.policy, self.choose, self.ready
        while budget:
            budget -= 1
            if policy is not None:
                if not len(policy):
                    return
                self.step(policy.pop())
            else:
                if not ready:
                    return
                assert choose is not None
                index = choose(len(ready)) if len(ready) > 1 else 0
                task = ready[index]
                del ready[index]
                self.step(task)

    def _run_calls(self) -> None:
        for queue in (self._inbox, self._soon):
            for _ in range(len(queue)):
                queue.popleft()()

    def _run_timers(self) -> None:
        self.timers.run(self.now())

    def timeout(self) -> float | None:
        """How long a poll may block: 0 with work waiting, None with no timer."""
        if self.ready or self._soon or self._inbox or self.starved or (self.policy is not None and len(self.policy)):
            return 0
        when = self._live_timer()
        return None if when is None else max(0.0, when - self.now())

    def _next_timer(self) -> float | None:
        """When the first timer of the heap is due, cancelled or not; None if it is empty."""
        return self.timers.first()

    def _live_timer(self) -> float | None:
        """When the first timer that was not cancelled is due, or None. Drops the husks before it."""
        return self.timers.first_set()

    def step(self, task: Task[Any]) -> None:
        """Resume ``task`` once."""
        if self._mid_step and task in self._mid_step:
            self._postponed.append(task)  # suspended further up this very stack; see ``nested``
            return
        task.scheduled = False
        if task.ended:
            return
        self._resume(task)
        del task  # see the end of `_resume`

    def _resume(self, task: Task[Any], *, ended_inside: bool = False) -> None:
        """``ended_inside``: go on with the step in which a coroutine has ended that was resumed directly."""
        coro, context = task.coro, task.context
        assert coro is not None and context is not None
        running = tls.running
        outer, running.task = running.task, task
        try:
            if self.instrument is not None and not ended_inside:
                self.instrument.step(task)
            if self.on_step is not None:
                self.on_step(task)
            throwing = task.throwing
            if throwing is None or ended_inside:  # it is thrown where it waits next
                trap = context.run(coro.send, None)
            else:
                task.throwing = None
                trap = context.run(coro.throw, throwing)
        except BaseException as raised:
            error = raised
        else:
            running.task = outer
            self._trapped(task, trap)
            return
        # Outside the handler: what is resumed now (see ``direct``) does not do so because of this error.
        running.task = outer
        try:
            self._raised(task, error)
        finally:
            # From 3.12 on the traceback's frames refer to this one and its callers', which must not keep the task that keeps the error.
            del task, coro, error

    def _raised(self, task: Task[Any], error: BaseException) -> None:
        """The coroutine has ended: with a value, if this is a ``StopIteration``."""
        if getattr(task.coro, "cr_frame", None) is not None:
            # It has not: a signal's handler raised just after it was suspended (or before it was resumed). Let it arrive inside.
            task.throwing = error
            self.wake(task)
            return
        if isinstance(error, StopIteration):
            self._ended(task, error.value, None)
            return
        tb = error.__traceback__
        error.__traceback__ = tb.tb_next if tb is not None else None  # without the frame of the engine
        self._ended(task, None, error)

    def _trapped(self, task: Task[Any], trap: Any) -> None:
        """The coroutine has suspended with ``trap``."""
        if trap is PARK:
            if task.throwing is not None:  # a native cancellation asked for while it ran
                self.wake(task)
        elif trap is None:
            if self.on_yield is None or not self.on_yield(task):
                self.wake(task)
            if task.node.effective is not None and self.aio is not None:
                self.aio.deliver_at_yield(task)
        else:
            if self.instrument is not None:
                self.instrument.park(task)
            if self.on_foreign is None or not self.on_foreign(task, trap):
                task.throwing = foreign_trap_error(self, task, trap)
                self.wake(task)

    def _ended(self, task: Task[Any], value: Any, error: BaseException | None) -> None:
        aside = task.aside if self.resumes_directly else None
        if aside is not None:
            put_back(task, aside, value, error)
            del error  # it is told to the frame that gets it, and not to keep that frame alive
            self._resume(task, ended_inside=True)
            return
        self.roots.pop(task, None)
        task.finish(value, error)
        if task.face is not None:
            task.face.ended()

    def nested(self, task: Task[Any]) -> _Nested:
        """While a sync call inside ``task``'s step turns this engine, that task can't be stepped: put it aside."""
        return _Nested(self, task)

    def outside_waits(self) -> list[str]:
        """What could still wake something: names of timers and holds. Subclasses add fds."""
        found = list(self.holds.values())
        if self._has_timer():
            found.append("a timer")
        return found

    def _has_timer(self) -> bool:
        return bool(self.timers)

    def is_stuck(self) -> bool:
        """Asked when nothing is ready and no timer is set: whether nothing can ever happen again."""
        # Threads go on while it is asked: what they have sent meanwhile is looked for last.
        return not self.outside_waits() and not self._waits_on_another_thread() and not self._inbox

    def _waits_on_another_thread(self) -> bool:
        """Whether a task waits on a shared resource that somebody elsewhere could free. Such waits hold nothing: the
        question is asked only here, where the answer matters, and the last answer is tried first.
        """
        last = self._beyond
        if last is not None and last.state is PARKED and _is_beyond(last, self):
            return True
        for task in all_tasks(self.roots):
            op = task.waiting
            if op is None:
                continue
            for one in op.waits_for():
                if one.resource.mutex is not None and _is_beyond(one, self):
                    self._beyond = one
                    return True
        self._beyond = None
        return False

    def is_closed(self) -> bool:
        """Whether it has ended, on whatever thread it runs."""
        return self._closed

    def close(self) -> None:
        """Nothing will be stepped any more; calls from other threads are refused, those that came in time are made."""
        self._closed = True
        self._release()
        while self._inbox:
            call = self._inbox.popleft()
            try:
                call()
            except Exception as error:
                raise_unraisable(error, f"a call from another thread failed while {self.describe()} closed")

    def _release(self) -> None:
        """The twin leaves tasks and timers that are alive out of the garbage collector's lists: these will not end any more."""
        if native is not None:
            native.EngineFields._drop_timers(self)
            for task in all_tasks(self.roots):
                native.track(task)


class _Nested:
    """See ``Engine.nested``."""

    def __init__(self, engine: Engine, task: Task[Any]) -> None:
        self.engine = engine
        self.task = task

    def __enter__(self) -> None:
        self.engine._mid_step.append(self.task)
        self._saved = tls.running.task
        tls.running.task = None

    def __exit__(self, *exc_info: object) -> None:
        engine = self.engine
        tls.running.task = self._saved
        engine._mid_step.pop()
        if engine.on_step is not None:
            engine.on_step(self.task)
        postponed, engine._postponed = engine._postponed, []
        for task in postponed:
            task.scheduled = False
            engine.wake(task)


# What the C twin does by itself: an engine whose class overrides one of these does without it.
_TWINNED = (
    "turn wake start park pause deliver rearm raise_cancelled resume_aborted is_cancelled step enter_node leave_node call_at arm "
    "timeout _run_timers _has_timer _next_timer _live_timer now new_cancelled cancelled_type _trapped _raised _ended"
).split()


def _ready_queue(kind: type[Engine]) -> deque[Task[Any]]:
    if native is None or any(getattr(kind, name) is not getattr(Engine, name) for name in _TWINNED):
        return deque()
    queue: deque[Task[Any]] = native.Deque()
    return queue


def _waits_for_nothing_foreign(task: Task[Any]) -> bool:
    face = task.face
    return face is None or face._fut_waiter is None or face._fut_waiter.done()


def _is_beyond(op: Operation[Any], host: Host) -> bool:
    """Whether somebody elsewhere could free ``op``, or has just done so. They go on meanwhile, so it takes one look."""
    with op.resource.mutex:
        if op.state is FIRED:
            return True
        satisfiers = op.resource.satisfiers()
    if isinstance(satisfiers, str):
        return True
    return any(task.host is not host for task in satisfiers)
