"""Callbacks, promises and futures on one side, awaitables on the other (H03).

``CallbackFuture`` is completed from anywhere (a C library's callback, a plain thread, another runtime) and awaited anywhere.
``wrap_future`` and ``as_future`` translate ``concurrent.futures.Future`` in both directions.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..kernel.current import current_task_or_none
from ..kernel.errors import TaskCancelled, user_site
from ..kernel.hazard import report
from ..kernel.operation import DONE, FIRED, PARKED, Operation
from ..kernel.resource import OUTSIDE, Primitive, WaitQueue
from ..kernel.task import Join, Task

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


class CallbackFuture(Primitive, Generic[T]):
    """A value that will come from outside: completed once, from any thread; awaited any number of times, on any runtime.

    Completing it and waiting for it are transitions under one lock, so a wake can't be lost, whichever comes first and wherever.
    An error that nobody ever took is reported when the future is dropped (the hazard ``unretrieved_error``).
    """

    __slots__ = ("_done", "_error", "_seen", "_site", "_value", "_waiters")
    kind = "callback future"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name, flavour="shared")
        self._site = user_site(sys._getframe(1))
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._seen = False
        self._waiters = WaitQueue()

    def set_result(self, value: T) -> None:
        """Complete it with ``value``; everybody who waits gets it. From any thread. Raises ``RuntimeError`` if it is complete."""
        self._settle(value, None)

    def set_exception(self, error: BaseException) -> None:
        """Complete it with an error, which every wait raises. From any thread. Raises ``RuntimeError`` if it is complete."""
        if not isinstance(error, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f"set_exception needs an exception, not {type(error).__name__}")
        self._settle(None, error)

    def done(self) -> bool:
        """Whether it is complete. From any thread."""
        return self._done

    def wait(self) -> Operation[T]:
        """The operation that ``await future`` runs, for ``select``. A cancellation point; cancelled, it had no effect."""
        return _Wait(self)

    def __await__(self) -> Generator[Any, Any, T]:
        return _Wait(self).__await__()

    def result(self, timeout: float | None = None) -> T:
        """Block this plain thread until it is complete, at most ``timeout`` seconds; then raise ``TimeoutError``.

        Not for a runtime's own thread, where it raises ``RuntimeError``: await the future there.
        """
        if not self._done and current_task_or_none() is not None:
            raise RuntimeError("result() would block this thread's own runtime; await the future instead")
        woken = allocate_lock()
        woken.acquire()
        waiter = _PlainWait(self, woken)
        if not waiter.begin_plain():
            try:
                acquired = woken.acquire(timeout=-1 if timeout is None else timeout)
            except BaseException:
                waiter.abort()
                raise
            if not acquired and waiter.abort():
                raise TimeoutError(f"{self.describe()} was not complete within {timeout or 0:g} s")
        self._seen = True
        if self._error is not None:
            raise self._error
        return cast("T", self._value)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        with self.mutex:
            if self._done:
                raise RuntimeError(f"{self.describe()} is complete already; it takes one result or one exception")
            self._done = True
            self._value, self._error = value, error
            while (op := self._waiters.pop()) is not None:
                if error is not None:
                    self._seen = True
                    op.fail(error)
                else:
                    op.fire(value)

    def waiters(self) -> Any:
        return self._waiters

    def satisfiers(self) -> Any:
        return OUTSIDE

    def describe(self) -> str:
        label = f"{self.kind} {self.name!r}" if self.name else self.kind
        return f"{label} (made at {self._site[0]}:{self._site[1]})"

    def __del__(self) -> None:
        error = getattr(self, "_error", None)
        if error is not None and not self._seen:
            report("unretrieved_error", f"{self.describe()} failed and nobody asked: {error!r}", self._site)


class _Wait(Operation[T]):
    """Waiting for a callback future. The outside may complete it at any time, so no deadlock is proven meanwhile."""

    __slots__ = ("future", "release")

    def __init__(self, future: CallbackFuture[T]) -> None:
        super().__init__(future)
        self.future = future
        self.release: Callable[[], None] | None = None

    def poll(self) -> bool:
        future = self.future
        if future._done:
            future._seen = True
            self.value, self.error = future._value, future._error
        return future._done

    def register(self) -> None:
        self.future._waiters.add(self)
        assert self.task is not None
        self.release = self.task.host.hold(self.future.describe())

    def unregister(self) -> None:
        self.future._waiters.discard(self)
        release, self.release = self.release, None
        if release is not None:
            release()

    def _fired(self) -> None:
        super()._fired()
        release, self.release = self.release, None
        task = self.task
        if release is not None and task is not None:
            # Behind the wake, and on the host's thread: the hold must not end while the wake is on its way.
            try:
                task.host.call_threadsafe(release)
            except RuntimeError:
                return  # the run has ended, and its holds with it

    def describe(self) -> str:
        return f"await of {self.future.describe()}"


class _PlainWait(_Wait[Any]):
    """The same wait, by a thread without a runtime."""

    __slots__ = ("woken",)

    def __init__(self, future: CallbackFuture[Any], woken: Any) -> None:
        super().__init__(future)
        self.woken = woken
        self.state = DONE  # until it parks: a plain wait is never awaited, and needs no warning about it

    def begin_plain(self) -> bool:
        """True if the future is complete already."""
        with self.future.mutex:
            if self.poll():
                return True
            self.state = PARKED
            self.future._waiters.add(self)
            return False

    def _fired(self) -> None:
        self.state = FIRED
        self.woken.release()


def wrap_future(future: Future[T]) -> CallbackFuture[T]:
    """A ``concurrent.futures.Future`` (of any executor) as something to await, on any runtime, any number of times.

    A future that is cancelled raises ``TaskCancelled`` in those who wait. Cancelling a wait leaves the future running; call
    its ``cancel()`` to take back work that has not begun.
    """
    if not hasattr(future, "add_done_callback") or not hasattr(future, "set_running_or_notify_cancel"):
        raise TypeError(f"wrap_future needs a concurrent.futures.Future, not {type(future).__name__}")
    wrapped: CallbackFuture[T] = CallbackFuture()
    wrapped._site = user_site(sys._getframe(1))

    def done(future: Future[T]) -> None:
        if future.cancelled():
            wrapped.set_exception(TaskCancelled("the future was cancelled"))
            wrapped._seen = True  # cancelling is no failure: nothing is unretrieved
            return
        error = future.exception()
        if error is not None:
            wrapped.set_exception(error)
        else:
            wrapped.set_result(future.result())

    future.add_done_callback(done)
    return wrapped


class _FutureJoin(Join[Any]):
    """Waits for a task on behalf of a ``concurrent.futures.Future``."""

    __slots__ = ("future",)

    def __init__(self, target: Task[Any], future: Future[Any]) -> None:
        super().__init__(target)
        self.future = future
        self.state = PARKED

    def _fired(self) -> None:
        self.state = DONE
        error, self.error = self.error, None
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self.value)


def as_future(task: Task[T]) -> Future[T]:
    """A task as a ``concurrent.futures.Future``, for threads and libraries that take those.

    It completes when the task has ended, with its value or error (``TaskCancelled`` if the task was cancelled). Waiting for it
    counts as taking the error. It can't be cancelled; cancel the task. From the task's own thread.
    """
    from concurrent.futures import Future

    if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
        raise TypeError(
            f"as_future needs a bateau task, not {type(task).__name__}; spawn the function, or use portal.spawn(fn) from a thread"
        )
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    join = _FutureJoin(task, future)
    if join.poll():
        join._fired()
    else:
        join.register()
    return future
