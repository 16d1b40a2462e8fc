"""What bateau needs of a trio run besides its tasks: timers, calls from other threads, descriptor callbacks, and the seat.

Everything here uses trio's public low-level interface, with one liberty: the message that ``wait_task_rescheduled`` and
``wait_readable`` yield is taken out of their coroutines, so that our operations can yield it themselves.
"""

from __future__ import annotations

import heapq
import math
import os
from _thread import get_ident
from collections import deque
from collections.abc import Callable, Generator
from types import coroutine
from typing import TYPE_CHECKING, Any
from weakref import ref

import trio

from ..kernel.errors import Busy, CancelRecord
from ..kernel.host import Host
from .trio_helpers import Helpers, abort_always

if TYPE_CHECKING:
    from ..kernel.operation import Operation
    from ..kernel.task import Task

_SUCCEEDED = trio.lowlevel.Abort.SUCCEEDED
_FAILED = trio.lowlevel.Abort.FAILED


def _message_of(waiting: Any) -> Any:
    """The message that the coroutine ``waiting`` of trio's yields first."""
    return waiting.send(None)


_PAUSE = _message_of(trio.lowlevel.cancel_shielded_checkpoint())
# Yielded only where trio sees a cancellation: it is delivered at the yield itself.
_AT_ONCE = _message_of(trio.lowlevel.wait_task_rescheduled(abort_always))


@coroutine
def _awaiting(waiting: Generator[Any, Any, bool]) -> Generator[Any, Any, bool]:
    return (yield from waiting)


class Seat:
    """Where a task sits in trio: its trio task, the message that parks it, and what must be undone to end the wait.

    Invariant: the trio task's ``custom_sleep_data`` is this seat iff it is parked here and not yet rescheduled.
    """

    __slots__ = ("abandoned", "host", "message", "ready", "ref", "task", "undo")

    def __init__(self, host: TrioServices, task: Task[Any] | None, reference: ref[trio.lowlevel.Task]) -> None:
        self.host = host
        self.task = task
        self.ref = reference
        self.message: Any = None  # made when the task first parks
        # Takes an fd out of trio's poller; trio's own abort function of that wait.
        self.undo: Callable[[Any], Any] | None = None
        # Whether a wait that shares another's place in the poller was ended by an event.
        self.ready = False
        # Trio scopes of this task that another task has tried to leave.
        self.abandoned: list[trio.CancelScope] = []

    def sit(self) -> Any:
        """Park: the message to yield."""
        native = self.ref()
        assert native is not None
        native.custom_sleep_data = self
        if self.task is not None and self.host.instrument is not None:
            self.host.instrument.park(self.task)
        if self.message is None:
            self.message = _message_of(trio.lowlevel.wait_task_rescheduled(self.abort))
        return self.message

    def at_once(self) -> Any:
        """The message that raises the pending cancellation."""
        return _AT_ONCE

    def wake(self) -> None:
        """Reschedule the task if it is parked here."""
        native = self.ref()
        if native is not None and native.custom_sleep_data is self:
            undo, self.undo = self.undo, None
            if undo is not None:
                undo(_never_raises)
            if self.task is not None and self.host.instrument is not None:
                self.host.instrument.wake(self.task)
            trio.lowlevel.reschedule(native)

    def abort(self, raise_cancel: Any) -> trio.lowlevel.Abort:
        """Trio wants to deliver a cancellation (or Ctrl-C) to the parked task: may it?"""
        task = self.task
        if task is not None:
            self.host.sync(task)
            operation = task.waiting
            if operation is not None:
                if operation.shielded:
                    _keep_interrupt(operation, raise_cancel)
                    return _FAILED
                if not operation.abort():
                    return _FAILED  # granted already: its value is delivered, and the next wait raises (law 11)
        undo, self.undo = self.undo, None
        return _SUCCEEDED if undo is None else undo(raise_cancel)

    def unseat(self) -> None:
        """The task has ended: cut the cycles."""
        self.task = None
        self.message = None
        self.undo = None


def _never_raises() -> None:
    """Given to an abort function where nothing is cancelled."""


def _keep_interrupt(operation: Operation[Any], raise_cancel: Any) -> None:
    """Ctrl-C while a scope waits for its children: the scope keeps it and cancels them, as a nursery would."""
    from ..kernel.leaving import Drain

    if not isinstance(operation, Drain):
        return
    try:
        raise_cancel()
    except trio.Cancelled:
        return  # trio repeats it at the next checkpoint
    except BaseException as interrupt:
        interrupt.__traceback__ = None
        operation.scope._errors.append(interrupt)
        operation.scope._cancel(CancelRecord(f"{type(interrupt).__name__}", site=operation.scope.site))


class TrioTimer:
    """One pending call. Cancelled timers stay in the heap as husks until they come up or are the majority."""

    __slots__ = ("fn", "host", "order", "when")

    def __init__(self, host: TrioServices, when: float, order: int, fn: Callable[[], None]) -> None:
        self.host = host
        self.when = when
        self.order = order
        self.fn: Callable[[], None] | None = fn

    def __lt__(self, other: TrioTimer) -> bool:
        return (self.when, self.order) < (other.when, other.order)

    def cancel(self) -> None:
        """Never call ``fn``."""
        if self.fn is not None:
            self.fn = None
            self.host._timer_cancelled(self)


class _Watch:
    """A descriptor with a callback: a helper task that waits again and again."""

    __slots__ = ("fd", "fn", "seat", "write")

    def __init__(self, fd: int, write: bool, fn: Callable[[], None]) -> None:
        self.fd = fd
        self.write = write
        self.fn: Callable[[], None] | None = fn
        self.seat: Seat | None = None

    def stop(self) -> None:
        """No further call; trio's poller forgets the fd before this returns."""
        self.fn = None
        if self.seat is not None:
            self.seat.wake()


class TrioServices(Host):
    """The services of ``TrioHost``. One helper task, spawned when first needed, runs timers and ``call_soon``.

    Invariants: ``_server`` parks with itself as ``custom_sleep_data`` replaced by this host; ``_alarm`` is the scope it
    parks in, whose deadline is that of the first timer. ``_waited`` has a key for each fd and direction that one of ours
    waits for in trio's poller (which takes one waiter each), with the seats that share that wait.
    """

    def __init__(self) -> None:
        super().__init__()
        # Whether the run is over, as far as we were told; then nothing of it is left to take out or to wake.
        self._closed = False
        self._clock: Callable[[], float] = trio.current_time  # which raises outside a run
        self._token: trio.lowlevel.TrioToken | None = None
        self._early: deque[Callable[[], None]] = deque()
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[TrioTimer] = []
        self._timer_order = 0
        self._husks = 0
        self._helpers = Helpers()
        self._server: trio.lowlevel.Task | None = None
        self._alarm: trio.CancelScope | None = None
        self._waited: dict[tuple[int, bool], list[Seat]] = {}
        self._watches: dict[tuple[int, bool], _Watch] = {}

    def attach_services(self) -> None:
        """The trio run on this thread is ours now."""
        self.thread_id = get_ident()
        self._clock = trio.lowlevel.current_clock().current_time
        self._token = trio.lowlevel.current_trio_token()
        while self._early:
            self._token.run_sync_soon(self._early.popleft())

    def sync(self, task: Task[Any]) -> None:
        """See ``TrioHost.sync``."""
        raise NotImplementedError

    def pause(self, task: Task[Any]) -> Any:
        return _PAUSE

    # -- time and calls ------------------------------------------------------------------------------------------------

    def forked(self) -> None:
        # That a run is going on is a thread-local of trio's, which the child inherits and trio never asks the process about.
        context = getattr(getattr(trio._core, "_run", None), "GLOBAL_RUN_CONTEXT", None)
        for name in ("task", "runner"):
            if hasattr(context, name):
                delattr(context, name)

    def now(self) -> float:
        return self._clock()

    def call_at(self, when: float, fn: Callable[[], None]) -> TrioTimer:
        self._timer_order += 1
        timer = TrioTimer(self, when, self._timer_order, fn)
        heapq.heappush(self._timers, timer)
        if self._timers[0] is timer:
            self._set_alarm(when)
        return timer

    def call_soon(self, fn: Callable[[], None]) -> None:
        self._soon.append(fn)
        self._serve_soon()

    def call_threadsafe(self, fn: Callable[[], None]) -> None:
        if self._token is None:
            self._early.append(fn)  # the run is about to start
        else:
            self._token.run_sync_soon(fn)

    def _set_alarm(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.deadline = when
        elif self._server is None:
            self._spawn_server()

    def _serve_soon(self) -> None:
        server = self._server
        if server is None:
            self._spawn_server()
        elif server.custom_sleep_data is self and getattr(server, "_next_send_fn", None) is None:
            # The second question is for calls out of a destructor, which the collector may run in the middle of trio's own reschedule().
            trio.lowlevel.reschedule(server)

    def _spawn_server(self) -> None:
        try:
            self._server = self._helpers.spawn(self._serve, name="bateau timers and calls")
        except RuntimeError:
            # The run is shutting down and takes no new tasks; calls still have a way, timers have no time left.
            if self._token is not None and self._soon:
                self._token.run_sync_soon(self._soon.popleft())

    async def _serve(self) -> None:
        server = trio.lowlevel.current_task()
        try:
            while True:
                self._run_calls()
                self._run_timers()
                if self._soon:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    continue
                with trio.CancelScope(deadline=self._first_timer()) as self._alarm:
                    server.custom_sleep_data = self
                    await trio.lowlevel.wait_task_rescheduled(abort_always)
                self._alarm = None
        finally:
            self._alarm = None
            self._server = None
            self._run_calls()

    def _run_calls(self) -> None:
        soon = self._soon
        for _ in range(len(soon)):
            soon.popleft()()

    def _run_timers(self) -> None:
        while self._first_timer() <= self.now():
            timer = heapq.heappop(self._timers)
            fn, timer.fn = timer.fn, None
            if fn is not None:
                fn()

    def _first_timer(self) -> float:
        timers = self._timers
        while timers and timers[0].fn is None:
            heapq.heappop(timers)
            self._husks -= 1
        return timers[0].when if timers else math.inf

    def _timer_cancelled(self, timer: TrioTimer) -> None:
        self._husks += 1
        if self._timers and self._timers[0] is timer:
            first = self._first_timer()
            if self._alarm is not None:
                self._alarm.deadline = first
        if self._husks > 64 and self._husks * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if timer.fn is not None]
            heapq.heapify(self._timers)
            self._husks = 0

    # -- descriptors ---------------------------------------------------------------------------------------------------

    def wait_fd(self, fd: int, write: bool) -> Generator[Any, Any, bool]:
        """``yield from`` it in an operation's wait: until ``fd`` may be ready, or the operation was fired or aborted.

        Costs no task and no callback. Returns whether there was an event. Raises ``OSError`` for an fd that can't be watched.
        """
        from ..kernel.current import current_task

        return self._wait_fd(current_task().host_task, fd, write)

    def _wait_fd(self, seat: Seat, fd: int, write: bool) -> Generator[Any, Any, bool]:
        key = (fd, write)
        sharing = self._waited.get(key)
        if sharing is not None:
            sharing.append(seat)
            seat.ready = False
            try:
                sent = yield seat.sit()
            finally:
                if seat in sharing:
                    sharing.remove(seat)
            self._resumed(seat, sent)
            return seat.ready
        waiting: Any = trio.lowlevel.wait_writable(fd) if write else trio.lowlevel.wait_readable(fd)
        try:
            message = _message_of(waiting)
        except trio.BusyResourceError:
            direction = "writable" if write else "readable"
            raise Busy(f"code outside bateau is already waiting for fd {fd} to become {direction}") from None
        sharing = self._waited[key] = []
        seat.undo = message.abort_func
        try:
            sent = yield seat.sit()
            if seat.undo is not None:  # trio's poller ended the wait
                seat.undo = None
                for other in sharing:
                    other.ready = True
                self._end_poll(waiting, sent)
                return True
        finally:
            undo, seat.undo = seat.undo, None
            if undo is not None:  # the coroutine is being closed
                undo(_never_raises)
            waiting.close()
            del self._waited[key]
            for other in sharing:  # they try again, and one of them takes the place in the poller
                other.wake()
        self._resumed(seat, sent)
        return False

    @staticmethod
    def _end_poll(waiting: Any, sent: Any) -> None:
        try:
            waiting.send(sent)
        except (StopIteration, trio.ClosedResourceError):
            return  # the operation tries again, and meets the closed fd itself

    def _resumed(self, seat: Seat, sent: Any) -> None:
        """Raise what was sent, if it is a cancellation."""
        try:
            sent.unwrap()
        except trio.Cancelled as exc:
            if seat.task is not None:
                self.tag(seat.task, exc)
            raise
        except trio.ClosedResourceError:
            return

    def tag(self, task: Task[Any], exc: BaseException) -> None:
        """See ``TrioHost.tag``."""
        raise NotImplementedError

    def add_reader(self, fd: int, fn: Callable[[], None]) -> None:
        self._add_watch(fd, False, fn)

    def remove_reader(self, fd: int) -> None:
        self._remove_watch(fd, False)

    def add_writer(self, fd: int, fn: Callable[[], None]) -> None:
        self._add_watch(fd, True, fn)

    def remove_writer(self, fd: int) -> None:
        self._remove_watch(fd, True)

    def _add_watch(self, fd: int, write: bool, fn: Callable[[], None]) -> None:
        watch = self._watches.get((fd, write))
        if watch is not None:
            watch.fn = fn
            return
        if os.name == "posix":
            os.fstat(fd)  # a closed fd is told here, and not later by the task
        watch = self._watches[fd, write] = _Watch(fd, write, fn)
        try:
            self._helpers.spawn(self._watch, watch, name=f"bateau watch of fd {fd}")
        except BaseException:
            del self._watches[fd, write]
            raise

    def _remove_watch(self, fd: int, write: bool) -> None:
        watch = self._watches.pop((fd, write), None)
        if watch is not None:
            watch.stop()

    async def _watch(self, watch: _Watch) -> None:
        native = trio.lowlevel.current_task()
        watch.seat = Seat(self, None, ref(native))
        try:
            while watch.fn is not None:
                try:
                    if not await _awaiting(self._wait_fd(watch.seat, watch.fd, watch.write)):
                        continue
                except PermissionError:  # a regular file: always ready
                    await trio.lowlevel.checkpoint()
                except OSError:  # closed behind our back: whoever waits tries, and meets the error
                    self._call(watch)
                    return
                self._call(watch)
        except trio.Cancelled:
            self._closed = True  # only the end of the run cancels a helper
            raise
        finally:
            watch.seat.unseat()
            watch.seat = None
            if self._watches.get((watch.fd, watch.write)) is watch:
                del self._watches[watch.fd, watch.write]

    @staticmethod
    def _call(watch: _Watch) -> None:
        if watch.fn is not None:
            watch.fn()
