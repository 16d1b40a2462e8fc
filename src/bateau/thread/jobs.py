"""One function on a worker thread, and the operation that waits for it.

Theory of operation. ``run`` gives an operation. When it begins, it makes a ``Job`` and hands it to the run's ``Workers``,
which start it at once or queue it. The job's end is posted to the host's thread, and there grants the operation. In between
the job may post *requests* (``from_thread.run``): they wake the waiting task, which does them itself, in the middle of its
wait. So async code called from the thread runs in the very task that started the thread: under its scopes, with its
cancellation, and leaving no task behind.

Cancellation. A queued job is taken back without effect. A running one is told (``check_cancelled`` raises in it) and awaited:
what it returns is returned, and the cancellation comes at the task's next wait; nothing that was opened or read is lost.
"""

from __future__ import annotations

import sys
from _thread import _local, allocate_lock
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, TypeVar, cast

from ..kernel.cancellation import CancelScope, make_cancelled
from ..kernel.current import current_task, tls
from ..kernel.errors import Cancelled, CancelRecord, user_site
from ..kernel.hazard import report
from ..kernel.host import Host
from ..kernel.operation import ABORTED, DONE, FIRED, NEW, PARKED, STEP_BUDGET, Operation, yield_once
from ..kernel.resource import OUTSIDE, Resource
from ..kernel.swallowed import check_swallowed
from ..kernel.task import Task
from .workers import Permit, workers_of

T = TypeVar("T")


class JobCancelled(Cancelled):
    """What ``check_cancelled`` raises in the thread; the waiting task turns it into its host's own type."""

    __slots__ = ()


class _ThreadState(_local):
    # Invariant: set exactly while a worker thread runs the function of that job.
    job: Job | None = None
    # What the function has opened for this thread (a loop of ``block_on``): closed with it, since its next user is a stranger.
    at_end: Callable[[], None] | None = None


state = _ThreadState()


class Request:
    """Something a worker thread asks its runtime to do, while it waits."""

    __slots__ = ("answered", "context", "error", "fn", "value")

    def __init__(self, fn: Callable[[], Any], context: Context) -> None:
        self.fn = fn
        self.context = context
        self.value: Any = None
        self.error: BaseException | None = None
        self.answered = allocate_lock()
        self.answered.acquire()

    def answer(self, value: Any, error: BaseException | None) -> None:
        """Called once, on the host's thread."""
        self.value = value
        self.error = error
        self.answered.release()


class Job:
    """One call of one function on a worker thread.

    Invariants: ``started`` once a thread has it; ``abandoned`` (a reason) once nobody waits for it any more, then its result is
    dropped and its requests are refused. Both change on the host's thread only. ``cancelled`` is read by the worker.
    """

    __slots__ = (
        "abandoned",
        "cancelled",
        "context",
        "counted",
        "error",
        "fn",
        "host",
        "label",
        "op",
        "release",
        "request",
        "site",
        "started",
        "value",
        "workers",
    )

    def __init__(self, op: ThreadRun[Any], host: Host, fn: Callable[[], Any], counted: bool) -> None:
        self.op = op
        self.host = host
        self.fn: Callable[[], Any] | None = fn
        self.label = op.label
        self.site = op.site
        self.counted = counted
        self.workers = workers_of(host)
        self.context: Context | None = copy_context()
        self.started = False
        self.abandoned: str | None = None
        self.cancelled: CancelRecord | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.request: Request | None = None
        self.release = host.hold(f"worker thread running {self.label}")

    # -- on the worker thread --------------------------------------------------------------------------------------------

    def main(self) -> None:
        """Run the function and post its end."""
        fn, context = self.fn, self.context
        assert fn is not None and context is not None
        self.fn = self.context = None
        state.job = self
        try:
            if "sniffio" in sys.modules:
                context.run(_unset_sniffio)
            self.value = context.run(fn)
            at_end = state.at_end
            if at_end is not None:
                at_end()
        except BaseException as error:
            self.error = error
            _close_quietly(error)
        finally:
            state.job = state.at_end = None
            del fn, context
        try:
            self.host.call_threadsafe(self.ended)
        except RuntimeError:  # its loop is gone (an abandoned function, or a loop that was closed under a running task)
            self.abandoned = self.abandoned or "its runtime has ended"
            self._drop()

    def ask(self, fn: Callable[[], Any]) -> Any:
        """Let the waiting task do ``fn()`` (awaiting what it returns if it is a coroutine), and wait for the answer."""
        request = Request(fn, copy_context())
        try:
            self.host.call_threadsafe(lambda: self._asked(request))
        except RuntimeError:
            if self.abandoned is not None:
                raise JobCancelled(self.cancelled or CancelRecord(self.abandoned, site=self.site)) from None
            raise RuntimeError(f"{self.label} can't call back: {self.host.describe()} has ended") from None
        request.answered.acquire()
        error, request.error = request.error, None
        if error is None:
            return request.value
        try:
            raise error
        finally:
            del error

    # -- on the host's thread ----------------------------------------------------------------------------------------------

    def _asked(self, request: Request) -> None:
        if self.abandoned is not None:
            record = self.cancelled or CancelRecord(self.abandoned, site=self.site)
            request.answer(None, JobCancelled(record))
            return
        task = self.op.task
        assert task is not None
        self.request = request
        self.workers.give_back(self)
        self.host.wake(task)

    def answer(self, request: Request, value: Any, error: BaseException | None) -> None:
        """Let the thread go on."""
        self.request = None
        self.workers.retake(self)
        request.answer(value, error)

    def ended(self) -> None:
        """The function has returned or raised."""
        self.workers.jobs.pop(self, None)
        self.workers.give_back(self)
        if self.abandoned is not None:
            self._drop()
            return
        self.release()
        op = self.op
        if op.state is not PARKED:
            return
        error, self.error = self.error, None
        if error is not None:
            op.fail(error)
        else:
            op.fire(self.value)
        self.value = None

    def tell(self, task: Task[Any]) -> None:
        """The waiting task was cancelled: ``check_cancelled`` raises from now on."""
        if self.cancelled is None:
            self.cancelled = task.node.effective or CancelRecord("cancelled by code outside bateau", site=self.site)

    def abandon(self, reason: str) -> None:
        """Nobody waits for it any more."""
        self.abandoned = reason
        self.workers.jobs.pop(self, None)
        self.release()
        request = self.request
        if request is not None:
            self.answer(request, None, JobCancelled(CancelRecord(reason, site=self.site)))

    def _drop(self) -> None:
        error, self.error = self.error, None
        self.value = None
        if error is not None and not isinstance(error, Cancelled):
            report(
                "unretrieved_error",
                f"{self.label} failed in its thread after it had been abandoned ({self.abandoned}): {error!r}",
                self.site,
            )


class ThreadRun(Operation[T]):
    """Waiting for a function on a worker thread. Made by ``bateau.thread.run``."""

    __slots__ = ("abandon_on_cancel", "counted", "fn", "job", "label", "native", "permit", "site")
    selectable = False  # a function that runs in a thread can not be taken back

    def __init__(
        self, fn: Callable[[], T], label: str, *, abandon_on_cancel: bool, counted: bool, permit: Permit | None = None
    ) -> None:
        self.fn: Callable[[], T] | None = fn
        self.label = label
        self.site = user_site(sys._getframe(1))
        self.abandon_on_cancel = abandon_on_cancel
        self.counted = counted
        # The caller's own limiter, where there is one.
        self.permit = permit
        self.job: Job | None = None
        # A cancellation by foreign code, met while the function could not be left.
        self.native: BaseException | None = None
        super().__init__(_NOT_YET)

    def register(self) -> None:
        task, fn = self.task, self.fn
        assert task is not None and fn is not None
        self.fn = None
        self.job = Job(self, task.host, fn, self.counted)
        self.resource = self.job.workers
        self.job.workers.admit(self.job)

    def unregister(self) -> None:
        """There is no queue to leave; see ``abort``."""

    def abort(self) -> bool:
        """A queued job had no effect. A running one is told; it is left alone only if that was agreed on."""
        job = self.job
        if self.state is not PARKED or job is None:
            return False
        task = self.task
        assert task is not None
        job.tell(task)
        if not job.started:
            job.workers.withdraw(job)
        elif not self.abandon_on_cancel:
            return False
        self.state = ABORTED
        job.abandon(f"its caller was cancelled: {job.cancelled.reason if job.cancelled is not None else ''}")
        return True

    def undo(self, value: Any) -> None:
        """The function has run; there is nobody left to give its value to."""

    def describe(self) -> str:
        return f"run of {self.label} in a thread"

    def __await__(self) -> Generator[Any, Any, T]:
        if self.state is not NEW:
            raise RuntimeError(
                "this thread.run was awaited before; each call gives a single-use awaitable, so call again"
            )
        task = current_task()
        host = task.host
        self.state = ABORTED
        if _is_cancelled(task):
            check_swallowed(task)
            yield from host.raise_cancelled(task)
        task.budget -= 1
        if task.budget < 0:
            task.budget = STEP_BUDGET
            yield from yield_once(task)
        self.begin(task)
        yield from self._wait(task)
        native, self.native = self.native, None
        error, self.error = self.error, None
        if error is not None:
            yield from _raise(task, error, native)
        if native is not None:
            host.rearm(task, native)
        # Not kept here: the worker thread, on its way out of the job, may hold this operation for a while longer, and what
        # the caller drops (an open file) must be free at once.
        value, self.value = self.value, None
        return cast("T", value)

    def _wait(self, task: Task[Any]) -> Generator[Any, Any, None]:
        """Until the function has ended; do what it asks for in between."""
        host, job = task.host, self.job
        assert job is not None
        while True:
            task.waiting = self
            try:
                sent = yield host.park(task)
                if host.resumed is not None:
                    host.resumed(task)
                if self.state is ABORTED:
                    host.resume_aborted(task, sent)
            except BaseException as exc:
                if not self._goes_on(job, exc):
                    raise
            finally:
                task.waiting = None
                task.budget = STEP_BUDGET
            if self.state is FIRED:
                self.state = DONE
                self.job = None
                return
            request = job.request
            if request is not None:
                yield from self._serve(task, job, request)
                if job.cancelled is not None and self.abort():
                    yield from host.raise_cancelled(task)

    def _serve(self, task: Task[Any], job: Job, request: Request) -> Generator[Any, Any, None]:
        """Do one request in the waiting task; what it raises goes to the thread."""
        value: Any = None
        failed: BaseException | None = None
        try:
            value = request.context.run(request.fn)
            if isinstance(value, Coroutine):
                coro = cast("Any", value)
                value = None
                if self.native is not None:  # foreign code cancels once, and would let it run on
                    coro.close()
                    raise JobCancelled(job.cancelled)
                if self.permit is not None:
                    yield from self._give_back(self.permit, coro)
                value = yield from _in_context(request.context, coro)
        except GeneratorExit as exc:
            self._goes_on(job, exc)
            raise
        except BaseException as error:
            failed = error
        if self.permit is not None and not self.permit.held:
            failed = (yield from self._take_again(self.permit, task, job)) or failed
        if _is_cancelled(task):  # it came while the task was elsewhere than in the wait for the thread
            job.tell(task)
        job.answer(request, None if failed is not None else value, failed)
        failed = None  # its traceback holds this frame

    @staticmethod
    def _give_back(permit: Permit, coro: Any) -> Generator[Any, Any, None]:
        try:
            yield from permit.__aexit__(None, None, None).__await__()
        except BaseException:
            coro.close()
            raise

    def _take_again(self, permit: Permit, task: Task[Any], job: Job) -> Generator[Any, Any, BaseException | None]:
        """The request is done: the function goes on once its limiter lets it, also under cancellation, since what the request
        has given must reach it. Returns the limiter's own failure.
        """
        try:
            with CancelScope(shield=True):
                yield from permit.__aenter__().__await__()
        except GeneratorExit as exc:
            self._goes_on(job, exc)
            raise
        except (
            Cancelled
        ) as exc:  # foreign code's: the function goes on without, is told, and the cancellation comes after it
            self.native = self.native or exc
            job.tell(task)
        except BaseException as error:
            return error
        return None

    def _goes_on(self, job: Job, exc: BaseException) -> bool:
        """``exc`` was thrown into the wait. Cancellations are kept for later, unless the job can be left."""
        if self.state is ABORTED:
            return False
        if isinstance(exc, Cancelled):
            if self.state is PARKED and self.abort():
                return False
            self.native = exc
            return True
        if self.state is PARKED:  # the coroutine is being closed: there will be no task to wait in
            self.state = ABORTED
            if not job.started:
                job.workers.withdraw(job)
            job.abandon(f"its caller was ended by {type(exc).__name__}")
        return False


def _is_cancelled(task: Task[Any]) -> bool:
    return task.node.effective is not None or (task.host.foreign_tree and task.host.is_cancelled(task))


def _in_context(context: Context, coro: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """``yield from coro``, with each of its steps in ``context``: it sees the thread's variables."""
    step = _sender(coro, None)
    while True:
        try:
            trap = context.run(step)
        except StopIteration as stop:
            value: T = stop.value
            return value
        try:
            sent = yield trap
        except BaseException as exc:
            step = _thrower(coro, exc)
        else:
            step = _sender(coro, sent)


def _sender(coro: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: coro.send(value)


def _thrower(coro: Coroutine[Any, Any, Any], exc: BaseException) -> Callable[[], Any]:
    return lambda: coro.throw(exc)


def _raise(task: Task[Any], error: BaseException, native: BaseException | None) -> Generator[Any, Any, None]:
    """Raise what the function raised, in the form the task's own code expects."""
    host = task.host
    if isinstance(error, JobCancelled):
        if native is not None:
            raise native
        if _is_cancelled(task):
            yield from host.raise_cancelled(task)
        raise make_cancelled(task, error.record)
    if native is not None and error is not native:
        host.rearm(task, native)
    if isinstance(error, StopIteration):
        raise RuntimeError("the function in the thread raised StopIteration, which can't leave an await") from error
    raise error


def _unset_sniffio() -> None:
    """The thread runs no async library, whatever its caller does."""
    sys.modules["sniffio"].current_async_library_cvar.set(None)


class _NotYet(Resource):
    """What a run waits on before it has begun."""

    __slots__ = ()
    kind = "worker threads"

    def satisfiers(self) -> Any:
        return OUTSIDE


_NOT_YET = _NotYet()


def _close_quietly(error: BaseException) -> None:
    """After a failure: what ``at_end`` raises is added to it as a note, so that neither hides the other."""
    at_end = state.at_end
    if at_end is not None:
        try:
            at_end()
        except BaseException as other:
            error.add_note(f"and closing what the thread had opened failed: {other!r}")


def in_worker() -> bool:
    """Whether this is a worker thread, running a function (and not a runtime of its own inside it)."""
    return state.job is not None and tls.running.task is None
