"""The native engine as an asyncio event loop: asyncio libraries run in native programs.

Theory of operation. ``NativeLoop`` is asyncio's own selector loop with one thing replaced: its selector. Each
``select(timeout)`` first gives the kernel's engine a turn and then polls the engine's reactor, in which the selector's own
epoll is one more fd. From the moment asyncio is imported, the program is driven by ``loop._run_once()``, so callbacks,
timers, transports, debug mode and executors are asyncio's, unchanged.

A native task that awaits an asyncio future suspends until that future is done. To asyncio it shows a ``TaskFace``, which
has what libraries ask of ``asyncio.current_task()``: edge-triggered ``cancel``, ``cancelling``, ``uncancel``, callbacks.

An eager asyncio task (3.12) takes its first step in the middle of the native task's that makes it. asyncio publishes and takes
back its own current task there; ours is ``tls.running.task``, which the loop clears when it is asked ``is_running()``, as each eager
start does. For the rest of that step the current task is the one that asyncio names: the eager task, then the native one's face.
"""

from __future__ import annotations

import asyncio
import selectors
from _thread import get_ident
from asyncio import events, futures, tasks
from collections.abc import Callable, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any

from ..kernel.current import tls
from ..kernel.errors import CancelRecord, Deadlock
from ..kernel.explain import explain_deadlock
from ..kernel.task import Task
from .asyncio_host import adopt_cancelled_error, cancel_leftovers, outermost_cancelled, report_leftovers

if TYPE_CHECKING:
    from .native import NativeEngine

# asyncio's private parts, which the stubs don't show: used here and nowhere else.
_tasks: Any = tasks
_futures: Any = futures
_swap_current: Callable[[Any, Any], Any] | None = getattr(_tasks, "_swap_current_task", None)


def set_current(loop: asyncio.AbstractEventLoop, face: TaskFace | None) -> None:
    """Publish what ``asyncio.current_task()`` returns."""
    if _swap_current is not None:
        try:
            _swap_current(loop, face)
        except KeyError:  # Python 3.12, when there was none and there is to be none
            return
        except RuntimeError:
            # Python 3.14 keeps it with the thread's running loop. Where that is not this one (any more: left before, or this is
            # a forked child), there is none to take back.
            if face is not None:
                raise
    elif face is not None:
        _tasks._current_tasks[loop] = face
    else:
        _tasks._current_tasks.pop(loop, None)


class _TurningSelector(selectors.EpollSelector):
    """asyncio's selector; waiting on it turns the engine."""

    def __init__(self, side: AsyncioSide) -> None:
        super().__init__()
        self._side = side
        self.is_ready = False
        side.engine.add_reader(self.fileno(), self._became_ready)

    def _became_ready(self) -> None:
        self.is_ready = True

    def select(self, timeout: float | None = None) -> list[Any]:
        self._side.turn_and_poll(timeout)
        if not self.is_ready:
            return []
        self.is_ready = False
        return super().select(0)

    def close(self) -> None:
        self._side.engine.remove_reader(self.fileno())
        super().close()


class ProgramsLoop(asyncio.SelectorEventLoop):
    """The running loop of a native program, whatever it is made of. It can't be run or stopped by hand: the program does that."""

    bateau_side: AsyncioSide
    bateau_domain: NativeEngine

    def is_running(self) -> bool:
        task = tls.running.task
        if task is not None and task.host is self.bateau_domain:
            # Perhaps an eager start: see the module's head. The engine sets it again for each step.
            tls.running.task = None
        return super().is_running()

    def stop(self) -> None:
        raise RuntimeError("this loop belongs to a running bateau program; cancel a scope of it instead of stopping it")

    def claim_thread(self) -> None:
        """Be this thread's running loop, as ``run_forever`` would make it."""
        self._thread_id = get_ident()
        events._set_running_loop(self)

    def release_thread(self) -> None:
        """Undo ``claim_thread``."""
        self._thread_id = None  # type: ignore[assignment]  # typeshed has an int; asyncio sets it so
        events._set_running_loop(None)


class NativeLoop(ProgramsLoop):
    """The loop in pure Python: asyncio's own over our selector."""

    def __init__(self, side: AsyncioSide) -> None:
        self.bateau_domain = side.engine
        self.bateau_side = side
        task = tls.running.task
        super().__init__(side.make_selector())
        tls.running.task = task  # asyncio has asked is_running() meanwhile


class AsyncioSide:
    """What an engine gets when asyncio is imported."""

    # The descriptors that the loop watches for itself: its self-pipe.
    own_fds = 1

    def __init__(self, engine: NativeEngine) -> None:
        adopt_cancelled_error()
        self.engine = engine
        self.loop = self.make_loop()
        self._private: Any = self.loop
        # The task whose step is under way (also while an eager task's is, inside it); None between the engine's turns.
        self.stepping: Task[Any] | None = None
        # Native tasks suspended in an asyncio future: who completes those, we can't know.
        self._foreign: dict[Task[Any], None] = {}
        self._leftovers: list[asyncio.Task[Any]] = []
        # Tasks that let the others run, until asyncio's callbacks have had their round.
        self._yielding: list[Task[Any]] = []
        engine.on_foreign = self._await_future
        engine.deliver_foreign = self._deliver
        engine.on_step = self.hook()
        engine.on_yield = self._yielded
        engine.own_tree = False
        engine.native_cancelling = lambda task: task.face.cancelling() if task.face is not None else 0
        engine.exact_cancelled_type = asyncio.CancelledError

    def hook(self) -> Callable[[Task[Any]], None]:
        """What the engine calls before each step."""
        return self._publish

    def make_selector(self) -> selectors.BaseSelector:
        """The loop's selector, which turns the engine."""
        return _TurningSelector(self)

    def make_loop(self) -> ProgramsLoop:
        """The loop itself."""
        return NativeLoop(self)

    def enter(self) -> None:
        """Become this thread's running loop; also in the middle of a step."""
        self.loop.claim_thread()
        if tls.running.task is not None and tls.running.task.host is self.engine:
            self._publish(tls.running.task)

    def leave(self) -> None:
        """The session's run is over."""
        set_current(self.loop, None)
        self.loop.release_thread()

    # -- driving -------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """One round of asyncio's loop, which turns the engine inside its select."""
        self._private._run_once()

    def wake_yielding(self) -> None:
        """Asyncio's callbacks have had their round: those that let them go first may run."""
        if self._yielding:
            yielding, self._yielding = self._yielding, []
            for task in yielding:
                task.scheduled = False
                self.engine.wake(task)

    def turn_and_poll(self, timeout: float | None) -> None:
        """The inside of ``select``: see the module's head."""
        engine, loop = self.engine, self._private
        self.wake_yielding()
        engine.turn()
        self.stepping = None
        set_current(loop, None)
        if loop._ready or self._yielding or (engine.main is not None and engine.main.ended):
            timeout = 0
        else:
            due = engine.timeout()
            if due is not None and (timeout is None or due < timeout):
                timeout = due
            scheduled = loop._scheduled
            if scheduled and timeout is not None:  # a timer may have been set during the turn
                timeout = min(timeout, max(0.0, scheduled[0].when() - loop.time()))
            elif scheduled:
                timeout = max(0.0, scheduled[0].when() - loop.time())
        if timeout is None and engine.is_stuck():
            raise Deadlock(explain_deadlock(engine.roots))
        engine.reactor.poll(timeout)

    def is_busy(self) -> bool:
        """Whether asyncio may still bring something: a deadlock can't be proven then."""
        loop = self._private
        if self._foreign or loop._scheduled or loop._ready:
            return True
        return len(loop._selector.get_map()) > self.own_fds or self.has_leftovers()

    def own_fd(self) -> int:
        """The fd of the selector inside the reactor: not a wait of the program's."""
        return int(self._private._selector.fileno())

    # -- the end -------------------------------------------------------------------------------------------------------

    def has_leftovers(self) -> bool:
        """Whether tasks made by foreign ``create_task`` are still alive."""
        return bool(asyncio.all_tasks(self.loop))

    def cancel_leftovers(self) -> None:
        """They are roots outside every scope: cancel and report them (the caller drives until they have ended)."""
        self._leftovers = cancel_leftovers(self.loop)

    def report_leftovers(self) -> None:
        """They have ended."""
        leftovers, self._leftovers = self._leftovers, []
        report_leftovers(leftovers)

    def close(self) -> None:
        """Free asyncio's loop and its threads."""
        executor = self._private._default_executor
        if executor is not None:
            executor.shutdown(wait=True)
        self.leave()
        self.loop.close()

    # -- tasks that await asyncio's futures ----------------------------------------------------------------------------

    def is_mid_step(self, task: Task[Any]) -> bool:
        """Whether ``task`` runs now, itself or by way of what it called: a nested ``block_on``, an eager task."""
        return task is self.stepping or task in self.engine._mid_step

    def _publish(self, task: Task[Any]) -> None:
        """``task`` is about to step."""
        face = task.face
        if face is None:
            face = task.face = TaskFace(task, self.loop)
        elif face._fut_waiter is not None:  # it is being resumed; kept until now, as an asyncio task does
            face._fut_waiter = None
            self._foreign.pop(task, None)
        self.stepping = task
        set_current(self.loop, face)

    def _yielded(self, task: Task[Any]) -> bool:
        """``await asyncio.sleep(0)`` (or a checkpoint of ours) lets asyncio's tasks run too, before the task goes on."""
        if task.scheduled or not self._private._ready:
            return False
        task.scheduled = True
        self._yielding.append(task)
        return True

    def _await_future(self, task: Task[Any], future: Any) -> bool:
        blocking = getattr(future, "_asyncio_future_blocking", None)
        if blocking is None:
            return False
        if not blocking or _futures._get_loop(future) is not self.loop:
            problem = "is attached to a different loop" if blocking else "was yielded without `await`"
            task.throwing = RuntimeError(f"task {task.name!r} got the future {future!r}, which {problem}")
            self.engine.wake(task)
            return True
        future._asyncio_future_blocking = False
        face: TaskFace = task.face
        face._fut_waiter = future
        self._foreign[task] = None
        future.add_done_callback(face.wake_up, context=task.context)
        if task.throwing is not None and future.cancel(*task.throwing.args[:1]):
            task.throwing = None  # a cancellation asked for while it ran: the future carries it now
        elif task.throwing is not None:
            self.engine.wake(task)
        elif task.node.effective is not None:
            self._deliver(task)
        return True

    def deliver_at_yield(self, task: Task[Any]) -> None:
        """A task in a cancelled scope let the others run by a bare yield (``asyncio.sleep(0)``), maybe a foreign one."""
        if task.throwing is not None:
            return  # another's cancellation, which must keep its own message; if the task goes on, its next wait comes by here
        holder = outermost_cancelled(task)
        if holder is not None and not holder.given and task.face is not None:
            holder.given += 1
            task.face.cancel(task.node.effective)

    def _deliver(self, task: Task[Any]) -> None:
        """Our own scope was cancelled: a foreign await gets one native cancellation per cancelled scope."""
        face: TaskFace | None = task.face
        if face is None or face._fut_waiter is None or face._fut_waiter.done():
            return  # it runs, or will: its next operation of ours raises, its next foreign one comes by here
        holder = outermost_cancelled(task)
        if holder is not None and not holder.given:
            holder.given += 1
            face.cancel(task.node.effective)


def _is_cancelled_by_another(waiter: Any) -> bool:
    """Whether a future brings a cancellation already that was not sent by a scope of ours: the first one's message stays."""
    return waiter.cancelled() and not isinstance(getattr(waiter, "_cancel_message", None), CancelRecord)


class TaskFace:
    """A native task as asyncio's libraries see it. Cancellation through it is asyncio's: once, and counted."""

    _asyncio_future_blocking = False

    def __init__(self, task: Task[Any], loop: ProgramsLoop) -> None:
        self._task = task
        self._bateau = task  # where the finder of current tasks looks, in every current task of an asyncio loop
        self._loop = loop
        self._cancels = 0
        self._fut_waiter: Any = None
        self._callbacks: list[tuple[Callable[[Any], object], Context | None]] = []

    # -- cancellation --------------------------------------------------------------------------------------------------

    @property
    def _must_cancel(self) -> bool:
        return self._task.throwing is not None

    def cancel(self, msg: Any = None) -> bool:
        """Throw one ``CancelledError`` at the point where the task is, or will next be, suspended."""
        task = self._task
        if task.ended:
            return False
        self._cancels += 1
        waiter = self._fut_waiter
        if waiter is not None and (waiter.cancel(msg=msg) or _is_cancelled_by_another(waiter)):
            return True
        pending = task.throwing
        task.throwing = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        if not isinstance(pending, asyncio.CancelledError):
            task.throwing.__context__ = pending  # an error (a future of another loop was awaited): still to be seen
        # Else what it waits for is done, and that will wake it; or it runs, and meets it when it suspends.
        if waiter is None and not self._loop.bateau_side.is_mid_step(task):
            task.host.wake(task)
        return True

    def cancelling(self) -> int:
        """How many cancellations were asked for and not taken back."""
        return self._cancels

    def uncancel(self) -> int:
        """Take one back."""
        if self._cancels:
            self._cancels -= 1
            if not self._cancels:  # as asyncio does since 3.13: what is taken back must not hit what comes next
                self._task.throwing = None
        return self._cancels

    def rearm(self, exc: BaseException) -> None:
        """A cancellation met a wait that had been granted: it comes at the next one. The count stays."""
        self._task.throwing = exc

    def wake_up(self, future: Any) -> None:
        """The awaited future is done; it hands over its result or error itself when the task resumes."""
        if future is self._fut_waiter:  # else it was thrown out of that wait, and may be in another one by now
            self._task.host.wake(self._task)

    # -- what else libraries ask of a task -----------------------------------------------------------------------------

    def get_loop(self) -> ProgramsLoop:
        """The running loop."""
        return self._loop

    def get_name(self) -> str:
        """The task's name."""
        return self._task.name

    def set_name(self, value: object) -> None:
        """Rename the task."""
        self._task.name = str(value)

    def get_coro(self) -> Any:
        """Its coroutine."""
        return self._task.coro

    def get_context(self) -> Any:
        """Its context."""
        return self._task.context

    def get_stack(self, *, limit: int | None = None) -> list[Any]:
        """Its frames, outermost first."""
        frames: list[Any] = []
        awaited: Any = self._task.coro
        while awaited is not None and (frame := getattr(awaited, "cr_frame", None)) is not None:
            frames.append(frame)
            awaited = awaited.cr_await
        return frames if limit is None else frames[-limit:]

    def done(self) -> bool:
        """Whether it has ended."""
        return self._task.ended

    def cancelled(self) -> bool:
        """Whether it ended by cancellation."""
        return self._task.was_cancelled

    def result(self) -> Any:
        """Its value; raises its error."""
        if not self._task.ended:
            raise asyncio.InvalidStateError("Result is not set.")
        if self._task._error is not None:
            raise self._task._error
        return self._task._value

    def exception(self) -> BaseException | None:
        """Its error; raises its cancellation."""
        if not self._task.ended:
            raise asyncio.InvalidStateError("Exception is not set.")
        if self._task.was_cancelled and self._task._error is not None:
            raise self._task._error
        return self._task._error

    def add_done_callback(self, fn: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Call ``fn(self)`` soon after its end."""
        if self._task.ended:
            self._loop.call_soon(fn, self, context=context)
        else:
            self._callbacks.append((fn, context))

    def remove_done_callback(self, fn: Callable[[Any], object]) -> int:
        """Take ``fn`` out; returns how many were found."""
        kept = [pair for pair in self._callbacks if pair[0] != fn]
        removed = len(self._callbacks) - len(kept)
        self._callbacks = kept
        return removed

    def ended(self) -> None:
        """Told by the engine."""
        # Nobody needs it there any more, and each would keep the other for the garbage collector.
        self._task.face = None
        callbacks, self._callbacks = self._callbacks, []
        for fn, context in callbacks:
            self._loop.call_soon(fn, self, context=context)

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self._task.ended:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    __iter__ = __await__

    def __repr__(self) -> str:
        return f"<TaskFace of {self._task!r}>"
