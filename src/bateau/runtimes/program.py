"""A program: one run of a main function on one session, whatever the runtime.

It gives the program its root scope, turns Ctrl-C into the two phases (stop, then cancel), and lets other threads and
runtimes spawn into it and wait for what they spawned.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..kernel.current import current_task
from ..kernel.direct import resumed_directly
from ..kernel.errors import Cancelled, TaskCancelled, user_site
from ..kernel.foreign import explain_foreign
from ..kernel.hazard import report
from ..kernel.host import Host
from ..kernel.operation import Operation
from ..kernel.policy import Policy
from ..kernel.resource import Primitive, WaitQueue
from ..kernel.scope import Scope
from ..kernel.task import Task
from . import forking, interrupts

if TYPE_CHECKING:
    from .base import Runtime, Session

T = TypeVar("T")


class Program:
    """See the module's head."""

    def __init__(self, runtime: Runtime, host: Host) -> None:
        self.runtime = runtime
        self.host = host
        # Where ``rt.spawn`` spawns: set while the main function runs.
        self.root: Scope | None = None
        # What Ctrl-C stops and cancels: set until the last task has ended.
        self._interruptible: Scope | None = None
        self.interrupts = 0
        self._pid = os.getpid()
        # Where the program was started, for messages: its own task runs under the frames of its host, which nobody wrote.
        self._site = user_site(sys._getframe(1))
        forking.watch(host)

    def run(self, session: Session, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        """Run the main function to its end, with signals and ``rt.spawn`` in place."""
        if not callable(fn):
            raise TypeError(
                f"run needs an async function, not a {type(fn).__name__}; write run(main) instead of run(main())"
            )
        outer, self.runtime._program = self.runtime._program, self
        restore = self._catch_interrupts()
        try:
            return session.run(lambda: self._main(fn, args))
        except Exception:
            if os.getpid() != self._pid:
                raise forking.forked_error() from None
            from ..kernel.tracebacks import show_at_the_end  # it needs what most programs never load

            show_at_the_end()
            raise
        except Cancelled:
            if self.interrupts > 1:
                raise KeyboardInterrupt from None
            raise
        finally:
            restore()
            self.runtime._program = outer

    async def _main(self, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        async with Scope(name="program", policy=_CrossErrors(), site=self._site) as root:
            self.root = self._interruptible = root
            try:
                result = fn(*args)
                if not hasattr(result, "__await__"):
                    raise TypeError(
                        f"{getattr(fn, '__qualname__', fn)!s} returned a {type(result).__name__}, not an awaitable: "
                        "the main function must be an async function"
                    )
                # No frame of ours between the loop and the main function: it is resumed with each step of the program's own task.
                if self.host.resumes_directly and type(result) is CoroutineType:
                    result = resumed_directly(cast("CoroutineType[Any, Any, T]", result))
                value = await result
            except (RuntimeError, TypeError, AttributeError) as error:
                explain_foreign(error, current_task())
                raise
            finally:
                self.root = None
        self._interruptible = None
        if root.cancelled_caught:
            if self.interrupts > 1:
                raise KeyboardInterrupt
            assert root.record is not None
            raise self.host.new_cancelled(root.record)
        return value

    # -- Ctrl-C --------------------------------------------------------------------------------------------------------

    def _catch_interrupts(self) -> Callable[[], None]:
        """Install the two-phase SIGINT handler, on the main thread and only over Python's own. Returns the undoing."""
        import signal

        try:
            if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                return _nothing
            signal.signal(signal.SIGINT, self._interrupted)
        except ValueError:  # not the main thread: signals are not ours to handle
            return _nothing

        def restore() -> None:
            if signal.getsignal(signal.SIGINT) == self._interrupted:
                signal.signal(signal.SIGINT, signal.default_int_handler)

        return restore

    def _interrupted(self, signum: int, frame: Any) -> None:
        self.interrupts += 1
        if self.interrupts == 3:
            frame = interrupts.found_at(frame, Program._interrupted.__code__)
        if self.interrupts > 3 or (self.interrupts == 3 and not interrupts.in_the_loop(frame)):
            raise KeyboardInterrupt
        try:
            self.host.call_threadsafe((self._stop, self._cancel, self._break_shields)[self.interrupts - 1])
        except RuntimeError:  # the loop has ended: nothing is left to stop
            raise KeyboardInterrupt from None

    def _stop(self) -> None:
        if self._interruptible is not None:
            if sys.stderr.isatty():
                print("\nstopping (Ctrl-C again cancels)", file=sys.stderr)
            self._interruptible.stop(reason="Ctrl-C")

    def _cancel(self) -> None:
        if self._interruptible is not None:
            self._interruptible.cancel("Ctrl-C, twice")

    def _break_shields(self) -> None:
        if self._interruptible is not None:
            interrupts.break_shields(self._interruptible)

    # -- spawning from elsewhere -----------------------------------------------------------------------------------------

    def spawn(self, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], name: str | None) -> CrossTask[T]:
        """See ``Runtime.spawn``."""
        cross: CrossTask[T] = CrossTask(name or str(getattr(fn, "__qualname__", "task")))

        def begin() -> None:
            if self.root is None:
                cross.settle(None, RuntimeError(f"the program on {self.host.describe()} has ended"))
                return
            try:
                cross.task = self.root.spawn(_settling, cross, fn, args, name=name)
                if cross.cancel_reason is not None:
                    cross.task.cancel(cross.cancel_reason)
            except BaseException as error:
                cross.settle(None, error)

        if get_ident() == self.host.thread_id:
            begin()
        else:
            self.host.call_threadsafe(begin)
        return cross


async def _settling(cross: CrossTask[T], fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
    try:
        value = await fn(*args)
    except BaseException as error:
        cross.settle(None, error)
        # An ``Exception`` belongs to whoever holds the handle. They may be about to look, on a thread of their own, so it would
        # be a race to fail this program when nobody has yet; a handle that is dropped unseen says so.
        if not isinstance(error, Exception):
            raise
    else:
        cross.settle(value, None)


class _CrossErrors(Policy):
    """The root scope's policy: what is more than an ``Exception`` in a cross-spawned task fails the program."""

    def child_ended(self, scope: Scope, task: Task[Any]) -> bool:
        from ..kernel.policy import AllMustSucceed

        return AllMustSucceed().child_ended(scope, task)


class CrossTask(Primitive, Generic[T]):
    """The handle of ``rt.spawn``: await it on any runtime, or call ``result()`` from a plain thread."""

    __slots__ = ("_error", "_site", "_value", "_waiters", "cancel_reason", "ended", "task", "watched")
    kind = "task of another runtime"

    def __init__(self, name: str) -> None:
        super().__init__(name=name, flavour="shared")
        # Its own runtime sets ``task``, then reads ``cancel_reason``; who cancels sets the reason, then reads the task. So one of
        # them sees the other's, and a cancellation that comes before the task is not lost.
        self.task: Task[Any] | None = None
        self.cancel_reason: str | None = None
        self.ended = False
        # Someone waits or has waited: its error goes there.
        self.watched = False
        self._site = user_site(sys._getframe(1))
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters = WaitQueue()

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Its end, told by its own runtime."""
        if isinstance(error, Cancelled):
            error = TaskCancelled(f"task {self.name!r} was cancelled: {error.record or error}", error.record)
        with self.mutex:
            self.ended = True
            self._value, self._error = value, error
            while (op := self._waiters.pop()) is not None:
                if error is not None:
                    op.fail(error)
                else:
                    op.fire(value)

    def cancel(self, reason: str = "task cancelled") -> None:
        """Cancel it, from any thread. Returns at once."""
        self.cancel_reason = reason
        task = self.task
        if task is not None:
            try:
                task.host.call_threadsafe(partial(_cancel, task, reason))
            except RuntimeError:
                return  # its program has ended, and so has it

    def __del__(self) -> None:
        error = getattr(self, "_error", None)
        if error is not None and not self.watched and not isinstance(error, TaskCancelled):
            report("unretrieved_error", f"{self.describe()} failed with {error!r} and nobody looked", self._site)

    def __await__(self) -> Generator[Any, Any, T]:
        return _WaitCross(self).__await__()

    def result(self, timeout: float | None = None) -> T:
        """Block this plain thread until it has ended, at most ``timeout`` seconds (then ``TimeoutError``)."""
        from _thread import allocate_lock

        from ..kernel.current import current_task_or_none

        if current_task_or_none() is not None:
            raise RuntimeError("result() would block this thread's own runtime; await the handle instead")
        self.watched = True
        done = allocate_lock()
        done.acquire()
        waiter = _ThreadWait(self, done)
        if not waiter.begin_plain() and not done.acquire(timeout=-1 if timeout is None else timeout) and waiter.abort():
            raise TimeoutError(f"task {self.name!r} did not end within {timeout:g} s")
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def waiters(self) -> Any:
        return self._waiters


class _WaitCross(Operation[T]):
    """Waiting for a task of another runtime."""

    __slots__ = ("cross",)

    def __init__(self, cross: CrossTask[T]) -> None:
        super().__init__(cross)
        self.cross = cross
        cross.watched = True

    def poll(self) -> bool:
        cross = self.cross
        if cross.ended:
            self.value, self.error = cross._value, cross._error
        return cross.ended

    def register(self) -> None:
        self.cross._waiters.add(self)

    def unregister(self) -> None:
        self.cross._waiters.discard(self)

    def describe(self) -> str:
        return f"await of {self.resource.describe()}"


class _ThreadWait(_WaitCross[Any]):
    """The same wait, made by a thread without a runtime."""

    __slots__ = ("done",)

    def __init__(self, cross: CrossTask[Any], done: Any) -> None:
        super().__init__(cross)
        self.done = done

    def begin_plain(self) -> bool:
        """True if it has ended already."""
        from ..kernel.operation import DONE, PARKED

        with self.resource.mutex:
            if self.poll():
                self.state = DONE
                return True
            self.state = PARKED
            self.register()
            return False

    def _fired(self) -> None:
        from ..kernel.operation import FIRED

        self.state = FIRED
        self.done.release()


def _cancel(task: Task[Any], reason: str) -> None:
    task.cancel(reason)


def _nothing() -> None:
    """There is no signal handler to restore."""
